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
const AWAY: Def<Counter, 2> = Def::new(
    "outrider_limit_away_total",
    "Calls judged by the rule for when the shared Redis cannot be asked",
    ["upstream", "route"],
);
const ASKS: Def<Counter, 3> = Def::new(
    "outrider_limit_asks_total",
    "Asks for calls of a global limit, by result",
    ["upstream", "route", "result"],
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
    away: Counter,
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
            away: telemetry.family(&AWAY).get(labels),
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

    /// A call was judged without the bucket that pods share.
    pub fn away(&self) {
        self.away.inc();
    }
}

/// What is counted about the asks of one global limit.
#[derive(Debug)]
pub struct Asks {
    granted: Counter,
    short: Counter,
    failed: Counter,
}

impl Asks {
    /// Resolve the handles; `route` as for [`keys`].
    #[must_use]
    pub fn new(telemetry: &Telemetry, upstream: &str, route: &str) -> Self {
        telemetry.admit(upstream);
        let asks = telemetry.family(&ASKS);
        let of = |result| asks.get([upstream, route, result]);
        Self {
            granted: of("granted"),
            short: of("short"),
            failed: of("failed"),
        }
    }

    /// An ask for `want` calls was answered with so many; `None`: not at all.
    pub fn answered(&self, want: u64, granted: Option<u64>) {
        let counter = match granted {
            None => &self.failed,
            Some(granted) if granted < want => &self.short,
            Some(_) => &self.granted,
        };
        counter.inc();
    }
}

/// The gauge of one limit, for the route that it is written for (`*`: shared by the routes of the upstream).
#[must_use]
pub fn keys(telemetry: &Telemetry, upstream: &str, route: &str) -> Gauge {
    telemetry.admit(upstream);
    telemetry.family(&KEYS).get([upstream, route])
}
