//! What is counted about the process itself: connections in, tunnels, the policy, mishaps.

use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::RwLock;
use prometheus_client::encoding::EncodeMetric;
use prometheus_client::encoding::MetricEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::cells::Held;
use super::cells::Level;
use super::cells::Tally;
use super::registry::Def;
use super::registry::Family;
use super::registry::FloatGauge;
use super::registry::Metric;
use super::registry::Registry;
use crate::http::Reason;

const BUILD: Def<Facts, 0> = Def::new("outrider_build_info", "The running build", []);
const POLICY: Def<Facts, 0> = Def::new("outrider_policy_info", "The policy in force", []);
const RELOAD_SUCCESS: Def<Gauge, 0> = Def::new(
    "outrider_policy_reload_success",
    "1 when the last attempt to load the policy succeeded, 0 when not",
    [],
);
const RELOADS: Def<Counter, 1> = Def::new(
    "outrider_policy_reloads_total",
    "Attempts to load the policy after the start, by result",
    ["result"],
);
const LOADED: Def<FloatGauge, 0> = Def::new(
    "outrider_policy_loaded_timestamp_seconds",
    "When the policy in force was loaded, as Unix time",
    [],
);
const WORKERS: Def<Gauge, 0> = Def::new("outrider_workers", "Worker threads of the data path", []);
const ACCEPTED: Def<Tally, 1> = Def::new(
    "outrider_connections_accepted_total",
    "Connections accepted, by the listener they came to",
    ["listener"],
);
const ACTIVE: Def<Level, 1> = Def::new(
    "outrider_connections_active",
    "Accepted connections that are open",
    ["listener"],
);
const REFUSED: Def<Counter, 1> = Def::new(
    "outrider_connections_refused_total",
    "Connections closed before any request, by reason word",
    ["reason"],
);
const TUNNELS: Def<Counter, 1> = Def::new(
    "outrider_tunnels_total",
    "Connections passed through without a look at requests, by kind",
    ["kind"],
);
const TUNNELS_ACTIVE: Def<Level, 1> =
    Def::new("outrider_tunnels_active", "Tunnels that are open", ["kind"]);
const TUNNEL_BYTES: Def<Tally, 2> = Def::new(
    "outrider_tunnel_bytes_total",
    "Bytes through tunnels; `out` goes to the upstream, `in` comes back",
    ["kind", "direction"],
);
const PANICS: Def<Counter, 0> = Def::new(
    "outrider_panics_total",
    "Bugs caught while handling a request",
    [],
);
const LOG_DROPPED: Def<Counter, 0> = Def::new(
    "outrider_access_log_dropped_total",
    "Access-log lines lost because whoever reads stdout did not keep up",
    [],
);

/// The build, as shown by `outrider_build_info` and `outrider version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuildInfo {
    /// The package version.
    pub version: &'static str,
    /// The commit built, or `unknown`.
    pub commit: &'static str,
}

/// Facts shown as labels of a constant 1. Empty facts are not shown.
#[derive(Clone, Debug, Default)]
struct Facts(Arc<RwLock<Vec<(&'static str, String)>>>);

impl Facts {
    fn set(&self, facts: Vec<(&'static str, String)>) {
        *self.0.write() = facts;
    }
}

impl TypedMetric for Facts {
    const TYPE: MetricType = MetricType::Info;
}

impl EncodeMetric for Facts {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> std::fmt::Result {
        encoder.encode_info(&*self.0.read())
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }

    fn is_empty(&self) -> bool {
        self.0.read().is_empty()
    }
}

impl Metric for Facts {
    fn make(_: usize) -> Self {
        Self::default()
    }
}

/// The door a connection came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Listener {
    /// `listen.outbound`: redirected connections and plain requests.
    Outbound,
    /// `listen.explicit`: the `HTTP_PROXY` port.
    Explicit,
    /// `listen.inbound`: callers of the application.
    Inbound,
}

impl Listener {
    const ALL: [Self; 3] = [Self::Outbound, Self::Explicit, Self::Inbound];

    /// The label value.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Outbound => "outbound",
            Self::Explicit => "explicit",
            Self::Inbound => "inbound",
        }
    }
}

/// What a tunnel carries. Its server name is in the access log only: as a label it would be unbounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TunnelKind {
    /// TLS that the application began itself.
    Tls,
    /// Bytes that are neither HTTP nor TLS.
    Opaque,
    /// The application waited for the server to speak first, or the policy says so.
    ServerFirst,
    /// An accepted `Upgrade`, such as WebSocket.
    Upgrade,
}

impl TunnelKind {
    const ALL: [Self; 4] = [Self::Tls, Self::Opaque, Self::ServerFirst, Self::Upgrade];

    /// The label value, and `tunnel` in the access log.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Opaque => "opaque",
            Self::ServerFirst => "server_first",
            Self::Upgrade => "upgrade",
        }
    }
}

/// How an attempt to load a changed policy ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reload {
    /// The new policy is in force.
    Applied,
    /// The text is that of the policy in force.
    Unchanged,
    /// The new text has faults; the old policy stays in force.
    Refused,
}

impl Reload {
    const ALL: [Self; 3] = [Self::Applied, Self::Unchanged, Self::Refused];

    /// The label value.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
        }
    }
}

#[derive(Debug)]
struct TunnelHandles {
    opened: Counter,
    active: Level,
    out: Tally,
    back: Tally,
}

/// An open tunnel; it counts as open until dropped.
#[derive(Debug)]
pub struct Tunnel {
    _open: Held,
    out: Tally,
    back: Tally,
}

impl Tunnel {
    /// Bytes went to the upstream (`out`) and came back (`back`) since the last call. Call it now and then on a long
    /// tunnel, and once at its end.
    pub fn bytes(&self, out: u64, back: u64) {
        self.out.add(out);
        self.back.add(back);
    }
}

/// The handles of the process.
#[derive(Debug)]
pub struct ProcessMetrics {
    /// Access-log lines lost; give it to `AccessLog::start`.
    pub log_dropped: Counter,
    accepted: [Tally; Listener::ALL.len()],
    active: [Level; Listener::ALL.len()],
    refused_by: Family<Counter, 1>,
    refused: [OnceLock<Counter>; Reason::ALL.len()],
    tunnels: [TunnelHandles; TunnelKind::ALL.len()],
    panics: Counter,
    policy: Facts,
    loaded: FloatGauge,
    reload_success: Gauge,
    reloads: [Counter; Reload::ALL.len()],
}

impl ProcessMetrics {
    pub(super) fn new(registry: &Registry, build: &BuildInfo, workers: usize) -> Self {
        registry.family(&BUILD).get([]).set(vec![
            ("version", build.version.to_owned()),
            ("commit", build.commit.to_owned()),
        ]);
        registry
            .family(&WORKERS)
            .get([])
            .set(i64::try_from(workers).unwrap_or(i64::MAX));
        let accepted = registry.family(&ACCEPTED);
        let active = registry.family(&ACTIVE);
        let tunnels = registry.family(&TUNNELS);
        let tunnels_active = registry.family(&TUNNELS_ACTIVE);
        let tunnel_bytes = registry.family(&TUNNEL_BYTES);
        let reloads = registry.family(&RELOADS);
        Self {
            log_dropped: registry.family(&LOG_DROPPED).get([]),
            accepted: Listener::ALL.map(|listener| accepted.get([listener.word()])),
            active: Listener::ALL.map(|listener| active.get([listener.word()])),
            refused_by: registry.family(&REFUSED),
            refused: std::array::from_fn(|_| OnceLock::new()),
            tunnels: TunnelKind::ALL.map(|kind| TunnelHandles {
                opened: tunnels.get([kind.word()]),
                active: tunnels_active.get([kind.word()]),
                out: tunnel_bytes.get([kind.word(), "out"]),
                back: tunnel_bytes.get([kind.word(), "in"]),
            }),
            panics: registry.family(&PANICS).get([]),
            policy: registry.family(&POLICY).get([]),
            loaded: registry.family(&LOADED).get([]),
            reload_success: registry.family(&RELOAD_SUCCESS).get([]),
            reloads: Reload::ALL.map(|result| reloads.get([result.word()])),
        }
    }

    /// A connection came in; it is active until the guard is dropped.
    #[must_use = "the connection counts as closed when the guard is dropped"]
    pub fn accepted(&self, listener: Listener) -> Held {
        self.accepted[listener as usize].inc();
        self.active[listener as usize].hold()
    }

    /// A connection was closed before any request: a limit, a loop, a drain.
    pub fn refused(&self, reason: Reason) {
        self.refused[reason as usize]
            .get_or_init(|| self.refused_by.get([reason.word()]))
            .inc();
    }

    /// A tunnel has begun.
    #[must_use = "the tunnel counts as closed when the guard is dropped"]
    pub fn tunnel(&self, kind: TunnelKind) -> Tunnel {
        let handles = &self.tunnels[kind as usize];
        handles.opened.inc();
        Tunnel {
            _open: handles.active.hold(),
            out: handles.out.clone(),
            back: handles.back.clone(),
        }
    }

    /// A panic was caught.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// A policy came into force, at the start or by a reload, at `unix` since 1970.
    pub fn set_policy(&self, revision: &str, unix: Duration) {
        self.policy.set(vec![("revision", revision.to_owned())]);
        self.loaded.set(unix.as_secs_f64());
        self.reload_success.set(1);
    }

    /// An attempt to load a changed policy has ended. `Applied` wants `set_policy` too.
    pub fn reloaded(&self, result: Reload) {
        self.reloads[result as usize].inc();
        self.reload_success
            .set(i64::from(result != Reload::Refused));
    }
}
