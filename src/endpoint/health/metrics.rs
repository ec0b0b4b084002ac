//! What is counted about probes.

use crate::endpoint::health::Failure;
use crate::telemetry::Counter;
use crate::telemetry::Def;
use crate::telemetry::Gauge;
use crate::telemetry::Telemetry;

const PROBES: Def<Counter, 2> = Def::new(
    "outrider_health_probes_total",
    "Probes of endpoints, by result",
    ["upstream", "result"],
);
const UNHEALTHY: Def<Gauge, 1> = Def::new(
    "outrider_endpoints_unhealthy",
    "Endpoints whose probes fail; in mode shadow they keep serving",
    ["upstream"],
);

/// The handles of one upstream's probes.
#[derive(Debug)]
pub struct Metrics {
    ok: Counter,
    failed: Counter,
    timeout: Counter,
    /// Moved by events, since several destinations may share the name of their upstream.
    unhealthy: Gauge,
}

impl Metrics {
    /// Resolve the handles; `upstream` as in the policy.
    #[must_use]
    pub fn new(telemetry: &Telemetry, upstream: &str) -> Self {
        telemetry.admit(upstream);
        let probes = telemetry.family(&PROBES);
        Self {
            ok: probes.get([upstream, "ok"]),
            failed: probes.get([upstream, "failed"]),
            timeout: probes.get([upstream, "timeout"]),
            unhealthy: telemetry.family(&UNHEALTHY).get([upstream]),
        }
    }

    /// A probe came to its end.
    pub fn probed(&self, result: &Result<(), Failure>) {
        match result {
            Ok(()) => self.ok.inc(),
            Err(Failure::Timeout) => self.timeout.inc(),
            Err(_) => self.failed.inc(),
        };
    }

    /// One more endpoint is unhealthy.
    pub fn one_more(&self) {
        self.unhealthy.inc();
    }

    /// One endpoint that was unhealthy is not, or is gone.
    pub fn one_less(&self) {
        self.unhealthy.dec();
    }
}
