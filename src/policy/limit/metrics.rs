//! What is counted about limits.

use crate::telemetry::Counter;
use crate::telemetry::Def;
use crate::telemetry::Gauge;
use crate::telemetry::Telemetry;

const REFUSED: Def<Counter, 2> = Def::new(
    "outrider_limit_refused_total",
    "Calls refused because they came faster than the limit",
    ["upstream", "route"],
);
const SHADOW_REFUSED: Def<Counter, 2> = Def::new(
    "outrider_limit_shadow_refused_total",
    "Calls let through that would have been refused in mode enforce",
    ["upstream", "route"],
);
const ESTIMATED: Def<Counter, 2> = Def::new(
    "outrider_limit_estimated_total",
    "Calls judged by estimate, because there were more keys than buckets",
    ["upstream", "route"],
);
const KEYS: Def<Gauge, 2> = Def::new(
    "outrider_limit_keys",
    "Keys that hold a bucket which is not full",
    ["upstream", "route"],
);

/// The handles of one route.
#[derive(Debug)]
pub struct Metrics {
    refused: Counter,
    shadow_refused: Counter,
    estimated: Counter,
}

impl Metrics {
    /// Resolve the handles; `upstream` and `route` as in the policy. The series begin at zero, so that `increase()` sees
    /// the first refusal.
    #[must_use]
    pub fn new(telemetry: &Telemetry, upstream: &str, route: &str) -> Self {
        telemetry.admit(upstream);
        let labels = [upstream, route];
        Self {
            refused: telemetry.family(&REFUSED).get(labels),
            shadow_refused: telemetry.family(&SHADOW_REFUSED).get(labels),
            estimated: telemetry.family(&ESTIMATED).get(labels),
        }
    }

    /// A call was refused.
    pub fn refused(&self) {
        self.refused.inc();
    }

    /// A call was let through that mode enforce would have refused.
    pub fn would_refuse(&self) {
        self.shadow_refused.inc();
    }

    /// A call was judged by estimate.
    pub fn estimated(&self) {
        self.estimated.inc();
    }
}

/// The gauge of one limit, for the route that it is written for (`*`: shared by the routes of the upstream).
#[must_use]
pub fn keys(telemetry: &Telemetry, upstream: &str, route: &str) -> Gauge {
    telemetry.admit(upstream);
    telemetry.family(&KEYS).get([upstream, route])
}
