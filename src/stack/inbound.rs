//! The way of a call that comes in, from the caller's side to the application's: short, for the caller's own outrider has
//! done the waiting and repeating.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tower::ServiceBuilder;

use crate::balance::Balance;
use crate::balance::Balancer;
use crate::endpoint::Cluster;
use crate::endpoint::pool::Patience;
use crate::endpoint::pool::Pools;
use crate::policy::authorise;
use crate::policy::authorise::Authoriser;
use crate::policy::correlation;
use crate::policy::limit;
use crate::policy::retry;
use crate::telemetry::UpstreamMetrics;
use crate::telemetry::layer::Observe;
use crate::telemetry::layer::ObserveLayer;
use crate::telemetry::layer::Observer;

/// What the way to one application on one worker is made of.
pub struct Parts {
    /// Counts and logs.
    pub observer: Observer,
    /// Counts where identities come from.
    pub correlation: correlation::metrics::Metrics,
    /// Who may call; `None` is everybody that the listener lets in.
    pub authoriser: Option<Arc<Authoriser>>,
    /// How often; `None` is off.
    pub limit: Option<limit::Guard>,
    /// The one endpoint, on loopback.
    pub cluster: Arc<Cluster>,
    /// How it is chosen.
    pub balancer: Arc<Balancer>,
    /// This worker's connections.
    pub pools: Rc<Pools>,
    /// Counts connections.
    pub upstream: Arc<UpstreamMetrics>,
}

/// Outermost layer first.
pub type Stack = Observe<
    correlation::Correlation<
        authorise::Authorise<limit::Limited<retry::Retry<correlation::TrySpan<Balance>>>>,
    >,
>;

/// Loopback answers at once or not at all. How long a call may take is the caller's affair, and a stream may be silent for as
/// long as it likes: the application ends what it does not want.
const PATIENCE: Patience = Patience {
    connect: Duration::from_secs(1),
    idle: Duration::from_secs(24 * 3600),
};

/// The way of a call to the application.
#[must_use]
pub fn build(parts: Parts) -> Stack {
    ServiceBuilder::new()
        // Sees what the caller sees: also faults, which become answers here, and callers that leave.
        .layer(ObserveLayer::new(parts.observer))
        // Outside whatever may refuse, so that every answer carries a request ID.
        .layer(correlation::CorrelationLayer::new(
            correlation::Settings::default(),
            parts.correlation,
        ))
        // Outside the limit: who may not call uses nothing up.
        .layer(authorise::AuthoriseLayer::new(parts.authoriser))
        // Outside everything that sends.
        .layer(limit::LimitLayer::new(parts.limit))
        // Without a policy: it only sends again what a kept connection that had just died did not take.
        .layer(retry::RetryLayer::new(None))
        // What the application does is below a span of ours.
        .layer(correlation::TryLayer::new())
        // The one endpoint; its pool connects, sends, and waits for the response head.
        .service(Balance::new(
            parts.balancer,
            parts.cluster,
            parts.pools,
            parts.upstream,
            PATIENCE,
        ))
}
