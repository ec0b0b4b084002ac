//! What can be seen from outside: metrics, the access log, diagnostics.
//!
//! Handles are resolved when a policy is loaded and kept by whoever counts; a request only indexes arrays and adds to
//! its own worker's cells. Label values come from the policy or from closed lists of words, never from the wire, so the
//! number of series is bounded by the policy.

mod cells;
mod hist;
mod metered;
mod process;
mod registry;
mod route;
mod upstream;
mod words;

pub mod access_log;
pub mod diagnostics;
pub mod layer;
pub mod story;

#[cfg(test)]
mod tests;

pub use cells::Held;
pub use cells::Level;
pub use cells::Tally;
pub use cells::enter_worker;
pub use hist::Hist;
use layer::hex;
pub use metered::Metered;
pub use process::BuildInfo;
pub use process::Listener;
pub use process::ProcessMetrics;
pub use process::Reload;
pub use process::Tunnel;
pub use process::TunnelKind;
pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::gauge::Gauge;
pub use registry::Def;
pub use registry::Family;
pub use registry::FloatGauge;
pub use registry::Metric;
pub use route::RouteMetrics;
pub use upstream::Closed;
pub use upstream::UpstreamMetrics;
pub use words::ByWord;

use std::collections::HashSet;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;

use parking_lot::RwLock;

/// The `upstream` label of traffic that no policy matches, or that was refused before it could be matched. No host can
/// be spelled so.
pub const UNMATCHED: &str = "(unmatched)";

/// The `upstream` label of the application behind an inbound listener.
pub const INBOUND: &str = "(inbound)";

/// The media type of [`Telemetry::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Brings gauges up to date that no event moves: what ends by the passing of time.
pub type Refresh = Box<dyn Fn() + Send + Sync>;

/// All metrics of the process.
pub struct Telemetry {
    /// What does not belong to an upstream.
    pub process: ProcessMetrics,
    registry: registry::Registry,
    refreshes: RwLock<Vec<Refresh>>,
    /// Calls worth asking about.
    pub stories: Arc<story::Stories>,
}

impl Telemetry {
    /// Metrics for `workers` worker threads (at least 1).
    #[must_use]
    pub fn new(build: BuildInfo, workers: usize) -> Arc<Self> {
        let registry = registry::Registry::new(workers);
        registry.admit(UNMATCHED);
        registry.admit(INBOUND);
        let process = ProcessMetrics::new(&registry, &build, workers);
        Arc::new(Self {
            process,
            registry,
            refreshes: RwLock::default(),
            stories: Arc::default(),
        })
    }

    /// All metrics in the `OpenMetrics` text format, ending in `# EOF`.
    #[must_use]
    pub fn encode(&self) -> String {
        self.refreshes.read().iter().for_each(|refresh| refresh());
        self.registry.encode()
    }

    /// Run `refresh` before each scrape, on the thread that answers it. It stays for the life of the process, so let it
    /// look up the policy in force rather than hold one.
    pub fn before_scrape(&self, refresh: Refresh) {
        self.refreshes.write().push(refresh);
    }

    /// The handles of a route, for a policy that is being loaded. Calls with the same names count into the same series.
    #[must_use]
    pub fn route(&self, upstream: &str, route: &str) -> Arc<RouteMetrics> {
        self.registry.admit(upstream);
        Arc::new(RouteMetrics::new(&self.registry, upstream, route))
    }

    /// The handles of calls that come in for the application at `app`, over `transport`: a closed list of words.
    #[must_use]
    pub fn inbound(&self, app: &str, transport: &'static str) -> Arc<RouteMetrics> {
        Arc::new(RouteMetrics::inbound(&self.registry, app, transport))
    }

    /// Counts the TLS handshakes of callers by what came of them: `ok`, or a word of a closed list.
    #[must_use]
    pub fn handshakes(&self) -> ByWord {
        route::handshakes(&self.registry)
    }

    /// The handles of an upstream, for a policy that is being loaded.
    #[must_use]
    pub fn upstream(&self, upstream: &str) -> Arc<UpstreamMetrics> {
        self.registry.admit(upstream);
        Arc::new(UpstreamMetrics::new(&self.registry, upstream))
    }

    /// The family of a room's own declaration, registered at its first call.
    #[must_use]
    pub fn family<M: Metric, const N: usize>(&self, def: &Def<M, N>) -> Family<M, N> {
        self.registry.family(def)
    }

    /// A room's counter of one route, told apart by a word of a closed list in its last label.
    #[must_use]
    pub fn by_word(&self, def: &Def<Counter, 3>, upstream: &str, route: &str) -> ByWord {
        let family = self.family(def);
        let (upstream, route) = (upstream.to_owned(), route.to_owned());
        ByWord::new(move |word| family.get([&upstream, &route, word]))
    }

    /// Let a room make series of this upstream; [`Self::route`] and [`Self::upstream`] do so themselves.
    pub fn admit(&self, upstream: &str) {
        self.registry.admit(upstream);
    }

    /// Forget the series of upstreams that are not in `upstreams`. Call it after a reload with the names of the policy in
    /// force: after a swap with the new names, after a failed load with the old ones.
    pub fn retain<S: BuildHasher>(&self, upstreams: &HashSet<String, S>) {
        self.registry.retain(|upstream| {
            matches!(upstream, UNMATCHED | INBOUND) || upstreams.contains(upstream)
        });
    }

    /// Names and label keys of the families registered so far.
    #[must_use]
    pub fn families(&self) -> Vec<(&'static str, Vec<&'static str>)> {
        self.registry.describe()
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry")
            .field("process", &self.process)
            .finish_non_exhaustive()
    }
}
