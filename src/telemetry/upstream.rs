//! What is counted about an upstream: its pool, its names, its endpoints.

use std::sync::OnceLock;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::cells::Level;
use super::cells::Tally;
use super::process::TunnelKind;
use super::registry::Def;
use super::registry::Family;
use super::registry::Registry;
use crate::http::Reason;

const OPEN: Def<Level, 1> = Def::new(
    "outrider_pool_connections",
    "Open connections to the endpoints of an upstream",
    ["upstream"],
);
const IDLE: Def<Level, 1> = Def::new(
    "outrider_pool_idle_connections",
    "Open connections that wait for a request",
    ["upstream"],
);
const PENDING: Def<Level, 1> = Def::new(
    "outrider_pool_pending_requests",
    "Requests that wait for a connection",
    ["upstream"],
);
const OPENED: Def<Tally, 1> = Def::new(
    "outrider_pool_opened_total",
    "Connections opened",
    ["upstream"],
);
const CLOSED: Def<Counter, 2> = Def::new(
    "outrider_pool_closed_total",
    "Connections closed, by why",
    ["upstream", "why"],
);
const CONNECT_FAILURES: Def<Counter, 2> = Def::new(
    "outrider_connect_failures_total",
    "Connections that could not be opened",
    ["upstream", "reason"],
);
const LOOKUPS: Def<Counter, 1> = Def::new(
    "outrider_dns_lookups_total",
    "Name lookups sent to a resolver",
    ["upstream"],
);
const LOOKUP_FAILURES: Def<Counter, 1> = Def::new(
    "outrider_dns_failures_total",
    "Name lookups that gave no usable answer",
    ["upstream"],
);
const STALE: Def<Gauge, 1> = Def::new(
    "outrider_dns_stale",
    "1 while the last good answer is used beyond its time because lookups fail",
    ["upstream"],
);
const ENDPOINTS: Def<Gauge, 1> = Def::new(
    "outrider_endpoints",
    "Endpoints known, the ejected ones included",
    ["upstream"],
);

/// Why a pooled connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Closed {
    /// Nobody used it for the idle time.
    Idle,
    /// It reached its greatest age.
    Age,
    /// The endpoint closed it, or announced so (`connection: close`, GOAWAY).
    Peer,
    /// It broke: reset, a framing error, or an exchange that was given up half-way.
    Error,
    /// Its endpoint is gone from the upstream.
    Endpoint,
    /// There was no room for it among the idle ones.
    Surplus,
    /// outrider is shutting down.
    Drain,
    /// It was made with an identity, or a trust, that is not in force any more.
    Identity,
}

impl Closed {
    const COUNT: usize = 8;

    /// The label value.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Age => "age",
            Self::Peer => "peer",
            Self::Error => "error",
            Self::Endpoint => "endpoint",
            Self::Surplus => "surplus",
            Self::Drain => "drain",
            Self::Identity => "identity",
        }
    }
}

const TUNNELS: Def<Counter, 2> = Def::new(
    "outrider_upstream_tunnels_total",
    "Connections passed through without a look at requests, by the upstream that their SNI, CONNECT target or address belongs to",
    ["upstream", "kind"],
);

/// The handles of one upstream, resolved when a policy is loaded.
#[derive(Debug)]
pub struct UpstreamMetrics {
    name: Box<str>,
    /// Connections that wait for a request: up when put back, down when taken or closed while waiting.
    pub idle: Level,
    /// Requests that wait for a connection; take `pending.hold()` for as long as one waits.
    pub pending: Level,
    open: Level,
    opened: Tally,
    closed_by: Family<Counter, 2>,
    closed: [OnceLock<Counter>; Closed::COUNT],
    failures_by: Family<Counter, 2>,
    tunnels: Family<Counter, 2>,
    failures: [OnceLock<Counter>; Reason::ALL.len()],
    lookups: Counter,
    lookup_failures: Counter,
    stale: Gauge,
    endpoints: Gauge,
}

impl UpstreamMetrics {
    pub(super) fn new(registry: &Registry, upstream: &str) -> Self {
        Self {
            name: upstream.into(),
            idle: registry.family(&IDLE).get([upstream]),
            pending: registry.family(&PENDING).get([upstream]),
            open: registry.family(&OPEN).get([upstream]),
            opened: registry.family(&OPENED).get([upstream]),
            closed_by: registry.family(&CLOSED),
            closed: std::array::from_fn(|_| OnceLock::new()),
            failures_by: registry.family(&CONNECT_FAILURES),
            tunnels: registry.family(&TUNNELS),
            failures: std::array::from_fn(|_| OnceLock::new()),
            lookups: registry.family(&LOOKUPS).get([upstream]),
            lookup_failures: registry.family(&LOOKUP_FAILURES).get([upstream]),
            stale: registry.family(&STALE).get([upstream]),
            endpoints: registry.family(&ENDPOINTS).get([upstream]),
        }
    }

    /// A connection to an endpoint stands.
    pub fn opened(&self) {
        self.opened.inc();
        self.open.up();
    }

    /// A connection that stood is gone.
    pub fn closed(&self, why: Closed) {
        self.open.down();
        self.closed[why as usize]
            .get_or_init(|| self.closed_by.get([&self.name, why.word()]))
            .inc();
    }

    /// A connection did not come to stand; `reason` is one of the `connect_*` words.
    pub fn connect_failed(&self, reason: Reason) {
        self.failures[reason as usize]
            .get_or_init(|| self.failures_by.get([&self.name, reason.word()]))
            .inc();
    }

    /// A tunnel was opened. Looked up anew each time: next to a connection that is opened this costs nothing.
    pub fn tunnelled(&self, kind: TunnelKind) {
        self.tunnels.get([&self.name, kind.word()]).inc();
    }

    /// A lookup was answered with usable addresses.
    pub fn resolved(&self) {
        self.lookups.inc();
        self.stale.set(0);
    }

    /// A lookup failed; `stale` says whether an earlier answer goes on being used.
    pub fn lookup_failed(&self, stale: bool) {
        self.lookups.inc();
        self.lookup_failures.inc();
        self.stale.set(i64::from(stale));
    }

    /// The number of endpoints after a change.
    pub fn set_endpoints(&self, count: usize) {
        self.endpoints.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
