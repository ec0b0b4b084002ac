//! What is counted about authorisation.

use crate::policy::authorise::machine::Denial;
use crate::telemetry::ByWord;
use crate::telemetry::Counter;
use crate::telemetry::Def;
use crate::telemetry::Telemetry;

const ALLOWED: Def<Counter, 1> = Def::new(
    "outrider_authorise_allowed_total",
    "Inbound calls that a rule allowed, by its number in the policy",
    ["rule"],
);
const DENIED: Def<Counter, 1> = Def::new(
    "outrider_authorise_denied_total",
    "Inbound calls that were denied, by what no rule allowed",
    ["why"],
);
const SHADOW: Def<Counter, 1> = Def::new(
    "outrider_authorise_shadow_denied_total",
    "Inbound calls that would be denied in mode enforce, by what no rule allows",
    ["why"],
);

/// The handles.
#[derive(Debug)]
pub struct Metrics {
    allowed: Vec<Counter>,
    denied: ByWord,
    shadow: ByWord,
}

impl Metrics {
    /// Resolves the handles for so many rules.
    #[must_use]
    pub fn new(telemetry: &Telemetry, rules: usize) -> Self {
        let allowed = telemetry.family(&ALLOWED);
        let by_why = |def| {
            let family = telemetry.family(def);
            ByWord::new(move |word| family.get([word]))
        };
        Self {
            allowed: (1..=rules)
                .map(|number| allowed.get([&number.to_string()]))
                .collect(),
            denied: by_why(&DENIED),
            shadow: by_why(&SHADOW),
        }
    }

    /// The rule at this place allowed a call.
    pub fn allowed(&self, place: usize) {
        if let Some(counter) = self.allowed.get(place) {
            counter.inc();
        }
    }

    /// A call was denied, or would be.
    pub fn denied(&self, why: Denial, shadow: bool) {
        let counters = if shadow { &self.shadow } else { &self.denied };
        counters.inc(why.word());
    }

    /// Calls allowed by each rule so far.
    #[must_use]
    pub fn by_rule(&self) -> Vec<u64> {
        self.allowed.iter().map(Counter::get).collect()
    }
}
