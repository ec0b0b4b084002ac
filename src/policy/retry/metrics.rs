//! What is counted about retries.

use crate::telemetry::ByWord;
use crate::telemetry::Counter;
use crate::telemetry::Def;
use crate::telemetry::FloatGauge;
use crate::telemetry::Telemetry;

const RETRIES: Def<Counter, 3> = Def::new(
    "outrider_retries_total",
    "Tries after the first, by what ended the try before",
    ["upstream", "route", "reason"],
);
const SKIPPED: Def<Counter, 3> = Def::new(
    "outrider_retries_skipped_total",
    "Failed tries that were not repeated, by why not",
    ["upstream", "route", "why"],
);
const WOULD_SKIP: Def<Counter, 3> = Def::new(
    "outrider_retries_shadow_skipped_total",
    "Failed tries that were repeated although hops in mode enforce would not have, by why not",
    ["upstream", "route", "why"],
);
const BUDGET_LEFT: Def<FloatGauge, 2> = Def::new(
    "outrider_retry_budget_left",
    "Retries that the budget would allow now",
    ["upstream", "route"],
);

/// The handles of one route's retries.
#[derive(Debug)]
pub struct Metrics {
    retried: ByWord,
    skipped: ByWord,
    would_skip: ByWord,
    budget_left: FloatGauge,
}

impl Metrics {
    /// Resolve the handles; `upstream` and `route` as in the policy.
    #[must_use]
    pub fn new(telemetry: &Telemetry, upstream: &str, route: &str) -> Self {
        telemetry.admit(upstream);
        let by_word = |def| telemetry.by_word(def, upstream, route);
        Self {
            retried: by_word(&RETRIES),
            skipped: by_word(&SKIPPED),
            would_skip: by_word(&WOULD_SKIP),
            budget_left: telemetry.family(&BUDGET_LEFT).get([upstream, route]),
        }
    }

    /// A retry is sent; `outcome` is the word of what ended the try before it.
    pub fn retried(&self, outcome: &'static str) {
        self.retried.inc(outcome);
    }

    /// A failed try is not repeated.
    pub fn skipped(&self, why: &'static str) {
        self.skipped.inc(why);
    }

    /// A failed try is repeated that would not be if `hops` were enforced.
    pub fn would_skip(&self, why: &'static str) {
        self.would_skip.inc(why);
    }

    /// The balance of the budget. Set it when the room is built too: the gauge cannot know a full budget by itself.
    pub fn budget_left(&self, retries: f64) {
        self.budget_left.set(retries);
    }
}
