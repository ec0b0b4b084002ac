//! The whole way of a request, on one page, in the order in which a request meets it.
//!
//! Each worker builds its own stacks, one for each route it has met; what a layer shares with other workers (a breaker, a
//! budget, an ejector) is handed in. A layer that a policy turns off is still there and lets pass, so the order below is
//! the order of every route.

pub mod inbound;

use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use tower::Service;
use tower::ServiceBuilder;

use crate::balance::Balance;
use crate::balance::Balancer;
use crate::endpoint::Cluster;
use crate::endpoint::pool::Patience;
use crate::endpoint::pool::Pools;
use crate::http::Call;
use crate::http::Fault;
use crate::http::Outcome;
use crate::http::Reason;
use crate::http::ResponseBody;
use crate::kit::mode::Mode;
use crate::policy::breaker;
use crate::policy::bulkhead;
use crate::policy::cache;
use crate::policy::correlation;
use crate::policy::credential;
use crate::policy::deadline;
use crate::policy::eject;
use crate::policy::fault;
use crate::policy::hedge;
use crate::policy::idempotency;
use crate::policy::limit;
use crate::policy::overload;
use crate::policy::retry;
use crate::telemetry::UpstreamMetrics;
use crate::telemetry::layer::Observe;
use crate::telemetry::layer::ObserveLayer;
use crate::telemetry::layer::Observer;

/// What one route on one worker is made of.
pub struct Parts {
    /// Counts and logs.
    pub observer: Observer,
    /// Counts where identities come from.
    pub correlation: correlation::metrics::Metrics,
    /// `overload` of the policy, with this worker's part in it; `None` is off.
    pub overload: Option<overload::Gate>,
    /// Faults made on purpose; `None` is off.
    pub fault: Option<Arc<fault::Injection>>,
    /// The cache, and how this route uses it; `None` is off.
    pub cache: Option<Arc<cache::Guard>>,
    /// `timeout` of the route.
    pub deadline: deadline::Settings,
    /// Counts what ran out of time.
    pub expiries: Arc<deadline::metrics::Metrics>,
    /// `idempotency` of the route; `None` is off.
    pub idempotency: Option<(idempotency::Settings, Arc<idempotency::metrics::Metrics>)>,
    /// What the route's hedges are judged by, and its mode; `None` is off.
    pub hedge: Option<(Arc<hedge::Hedger>, Mode)>,
    /// `limit` of the route; `None` is off.
    pub limit: Option<limit::Guard>,
    /// `retry` of the route, with the budget it draws on; `None` is off.
    pub retry: Option<(
        retry::Settings,
        Arc<retry::Budget>,
        Arc<retry::metrics::Metrics>,
    )>,
    /// `credential` of the route; `None` is off.
    pub credential: Option<Arc<credential::Guard>>,
    /// The breaker, and how this route obeys it; `None` is off.
    pub breaker: Option<(Arc<breaker::Breaker>, Mode)>,
    /// The bulkhead, and how this route obeys it; `None` is off.
    pub bulkhead: Option<(Arc<bulkhead::Bulkhead>, Mode)>,
    /// Ejection of the upstream; `None` is off.
    pub ejector: Option<Arc<eject::Ejector>>,
    /// How calls are spread over the endpoints.
    pub balancer: Arc<Balancer>,
    /// The endpoints.
    pub cluster: Arc<Cluster>,
    /// This worker's connections.
    pub pools: Rc<Pools>,
    /// Counts connections.
    pub upstream: Arc<UpstreamMetrics>,
}

/// A route's stack, outermost layer first.
pub type Stack = Observe<
    correlation::Correlation<
        overload::Admit<
            fault::Inject<
                cache::Cache<
                    deadline::Deadline<
                        limit::Limited<
                            bulkhead::Bounded<
                                idempotency::Idempotency<hedge::Hedge<retry::Retry<OneTry>>>,
                            >,
                        >,
                    >,
                >,
            >,
        >,
    >,
>;

/// The part of it that each try goes through.
type OneTry = credential::Vouched<
    correlation::TrySpan<breaker::Guarded<eject::Watched<deadline::TryTimeout<Balance>>>>,
>;

/// The way of a request, from the client's side to the upstream's.
#[must_use]
pub fn build(parts: Parts) -> Stack {
    let patience = Patience {
        connect: parts.deadline.connect,
        idle: parts.deadline.idle,
    };
    let retries = parts.retry.is_some();
    ServiceBuilder::new()
        // Sees what the client sees: also faults, which become answers here, and clients that leave.
        .layer(ObserveLayer::new(parts.observer))
        // Outside whatever may refuse, so that every answer carries a request ID.
        .layer(correlation_layer(parts.correlation))
        // Outside everything that waits or remembers: what is shed costs next to nothing.
        .layer(overload::OverloadLayer::new(parts.overload))
        // Outside whatever protects a call, so that none of it is blamed or fooled; inside correlation, to be found in the log.
        .layer(fault::FaultLayer::new(parts.fault))
        // Outside whatever may refuse or fail, so that a hit uses up nothing and a stale answer can stand in for an error.
        .layer(cache::CacheLayer::new(parts.cache))
        // Outside retry: the time of a call is that of all its tries and the waits between them. Reads what the hops before
        // us say of time and retries, so that all inside know it.
        .layer(deadline::DeadlineLayer::new(
            parts.deadline.clone(),
            Arc::clone(&parts.expiries),
        ))
        // Counts calls, not tries, and refuses before anything waits or is kept for another try.
        .layer(limit::LimitLayer::new(parts.limit))
        // Counts calls, not tries, and waits within the deadline. Outside retry, so that its refusal is not repeated.
        .layer(bulkhead::BulkheadLayer::new(parts.bulkhead))
        // Outside whatever sends a call more than once: all that is sent of it carries the same key.
        .layer(idempotency::IdempotencyLayer::new(parts.idempotency))
        // Outside retry: a slow call is sent again, tries and waits and all, and each copy is retried by itself.
        .layer(hedge::HedgeLayer::new(
            parts.hedge,
            Arc::clone(&parts.cluster),
        ))
        // Outside everything that judges a single try. A breaker's refusal comes through and is not repeated.
        .layer(retry::RetryLayer::new(parts.retry))
        // --- from here on once for each try ---
        // First in each try: whatever is sent carries the secret, and nothing outside ever sees it. What is sent again with
        // another key is a try of its own to all inside; without a secret nothing is sent and nobody inside is blamed.
        .layer(credential::CredentialLayer::new(parts.credential, retries))
        // Each try is a span of its own to the upstream.
        .layer(correlation::TryLayer::new())
        // Counts tries, not calls: an upstream that only answers the third try is failing.
        .layer(breaker::BreakerLayer::new(parts.breaker))
        // Inside the breaker, so that a refusal is no failure of an endpoint; outside the timeout, so that slowness is.
        .layer(eject::EjectLayer::new(parts.ejector))
        // Around choosing and connecting too: waiting for an endpoint or a connection uses up the try.
        .layer(deadline::TryLayer::new(parts.deadline, parts.expiries))
        // Chooses the endpoint; its pool connects, sends, and waits for the response head.
        .service(Balance::new(
            parts.balancer,
            parts.cluster,
            parts.pools,
            parts.upstream,
            patience,
        ))
}

/// The stack of requests that are refused before a route is found: told and correlated like any other.
pub type RefusingStack = Observe<correlation::Correlation<Refuse>>;

/// See [`RefusingStack`].
#[must_use]
pub fn refusing(observer: Observer, correlation: correlation::metrics::Metrics) -> RefusingStack {
    ServiceBuilder::new()
        .layer(ObserveLayer::new(observer))
        .layer(correlation_layer(correlation))
        .service(Refuse)
}

fn correlation_layer(metrics: correlation::metrics::Metrics) -> correlation::CorrelationLayer {
    correlation::CorrelationLayer::new(correlation::Settings::default(), metrics)
}

/// Gives back the fault on the trail; a call without one, a CONNECT that may pass, gets an empty 200.
#[derive(Clone, Copy, Debug)]
pub struct Refuse;

impl Service<Call> for Refuse {
    type Response = http::Response<ResponseBody>;
    type Error = Fault;
    type Future = std::future::Ready<Outcome>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let fault = call.trail.refusal.take();
        let is_connect = call.head.method == http::Method::CONNECT;
        std::future::ready(match fault {
            Some(fault) => Err(fault),
            None if is_connect => Ok(http::Response::new(ResponseBody::empty())),
            None => Err(Fault::unsent(Reason::NoEndpoint)),
        })
    }
}

#[cfg(test)]
mod tests;
