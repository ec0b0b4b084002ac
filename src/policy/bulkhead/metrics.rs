//! What is counted about bulkheads.

use std::time::Duration;

use crate::telemetry::Counter;
use crate::telemetry::Def;
use crate::telemetry::Gauge;
use crate::telemetry::Hist;
use crate::telemetry::Telemetry;

const IN_FLIGHT: Def<Gauge, 2> = Def::new(
    "outrider_bulkhead_in_flight",
    "Calls that hold a permit of the bulkhead",
    ["upstream", "route"],
);
const LIMIT: Def<Gauge, 2> = Def::new(
    "outrider_bulkhead_limit",
    "Calls that may be in flight: max, or what an adaptive bulkhead has found",
    ["upstream", "route"],
);
const QUEUED: Def<Gauge, 2> = Def::new(
    "outrider_bulkhead_queued",
    "Calls that wait for a permit",
    ["upstream", "route"],
);
const REJECTED: Def<Counter, 3> = Def::new(
    "outrider_bulkhead_rejected_total",
    "Calls refused by the bulkhead, by why",
    ["upstream", "route", "why"],
);
const SHADOW_REJECTED: Def<Counter, 2> = Def::new(
    "outrider_bulkhead_shadow_rejected_total",
    "Calls let through that mode enforce would have refused",
    ["upstream", "route"],
);
const WAIT: Def<Hist, 2> = Def::new(
    "outrider_bulkhead_wait_seconds",
    "Time that calls waited for a permit, in vain or not; those that need not wait are not in it",
    ["upstream", "route"],
);

/// Why a call was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Why {
    /// The limit and the queue were used up.
    Full,
    /// It waited in vain.
    Timeout,
}

impl Why {
    const ALL: [Self; 2] = [Self::Full, Self::Timeout];

    /// The label value.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Timeout => "timeout",
        }
    }
}

/// The handles of one bulkhead.
#[derive(Debug)]
pub struct Metrics {
    in_flight: Gauge,
    limit: Gauge,
    queued: Gauge,
    rejected: [Counter; Why::ALL.len()],
    shadow: Counter,
    wait: Hist,
}

impl Metrics {
    /// Resolve the handles. A bulkhead that the routes of an upstream share has the route `*`.
    #[must_use]
    pub fn new(telemetry: &Telemetry, upstream: &str, route: &str) -> Self {
        telemetry.admit(upstream);
        let rejected = telemetry.family(&REJECTED);
        Self {
            in_flight: telemetry.family(&IN_FLIGHT).get([upstream, route]),
            limit: telemetry.family(&LIMIT).get([upstream, route]),
            queued: telemetry.family(&QUEUED).get([upstream, route]),
            rejected: Why::ALL.map(|why| rejected.get([upstream, route, why.word()])),
            shadow: telemetry.family(&SHADOW_REJECTED).get([upstream, route]),
            wait: telemetry.family(&WAIT).get([upstream, route]),
        }
    }

    /// A call was refused.
    pub fn rejected(&self, why: Why) {
        self.rejected[why as usize].inc();
    }

    /// A call was let through that mode enforce would have refused.
    pub fn would_reject(&self) {
        self.shadow.inc();
    }

    /// A call has waited.
    pub fn waited(&self, time: Duration) {
        self.wait.record_here(time);
    }

    /// How it stands now. The numbers change with every call, so they are read at a scrape rather than pushed.
    pub fn stand(&self, in_flight: u32, limit: u32, queued: usize) {
        self.in_flight.set(i64::from(in_flight));
        self.limit.set(i64::from(limit));
        self.queued.set(i64::try_from(queued).unwrap_or(i64::MAX));
    }
}
