//! What is counted about hedges.

use crate::policy::hedge::machine::Skip;
use crate::telemetry::ByWord;
use crate::telemetry::Counter;
use crate::telemetry::Def;
use crate::telemetry::FloatGauge;
use crate::telemetry::Telemetry;

const HEDGES: Def<Counter, 3> = Def::new(
    "outrider_hedges_total",
    "Second copies of slow calls, by what became of them",
    ["upstream", "route", "result"],
);
const SKIPPED: Def<Counter, 3> = Def::new(
    "outrider_hedges_skipped_total",
    "Slow calls of which no further copy was sent, by why not",
    ["upstream", "route", "why"],
);
const DELAY: Def<FloatGauge, 2> = Def::new(
    "outrider_hedge_delay_seconds",
    "How long a call is given before it is sent again; 0 while too few calls were measured",
    ["upstream", "route"],
);
const BUDGET_LEFT: Def<FloatGauge, 2> = Def::new(
    "outrider_hedge_budget_left",
    "Second copies that the budget would allow now",
    ["upstream", "route"],
);

/// What became of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its answer was the first usable one.
    Won,
    /// Another answered first, and it was cut.
    Lost,
    /// It failed.
    Failed,
    /// The client left, and it was cut.
    Abandoned,
    /// It would have been sent in mode enforce.
    Would,
}

impl Fate {
    /// The label value.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Won => "won",
            Self::Lost => "lost",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
            Self::Would => "would",
        }
    }
}

/// The handles of one route's hedges.
#[derive(Debug)]
pub struct Metrics {
    hedges: ByWord,
    skipped: ByWord,
    delay: FloatGauge,
    budget_left: FloatGauge,
}

impl Metrics {
    /// Resolve the handles; `upstream` and `route` as in the policy.
    #[must_use]
    pub fn new(telemetry: &Telemetry, upstream: &str, route: &str) -> Self {
        telemetry.admit(upstream);
        let by_word = |def| telemetry.by_word(def, upstream, route);
        Self {
            hedges: by_word(&HEDGES),
            skipped: by_word(&SKIPPED),
            delay: telemetry.family(&DELAY).get([upstream, route]),
            budget_left: telemetry.family(&BUDGET_LEFT).get([upstream, route]),
        }
    }

    /// A copy has ended, or would have been sent.
    pub fn hedged(&self, fate: Fate) {
        self.hedges.inc(fate.word());
    }

    /// A slow call was not sent again.
    pub fn skipped(&self, why: Skip) {
        self.skipped.inc(why.word());
    }

    /// What moves by the passing of time: set it before a scrape.
    pub fn set(&self, delay_s: f64, budget_left: f64) {
        self.delay.set(delay_s);
        self.budget_left.set(budget_left);
    }
}
