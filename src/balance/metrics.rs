//! What is counted about the balance.

use crate::telemetry::Counter;
use crate::telemetry::Def;
use crate::telemetry::Telemetry;

const PANICS: Def<Counter, 1> = Def::new(
    "outrider_balance_panics_total",
    "Tries for which endpoints were considered that are known not to serve, because none or too few do",
    ["upstream"],
);
const SPILLOVER: Def<Counter, 1> = Def::new(
    "outrider_balance_spillover_total",
    "Tries sent to another zone although the own one has endpoints",
    ["upstream"],
);
const UNKEYED: Def<Counter, 1> = Def::new(
    "outrider_balance_unkeyed_total",
    "Tries without the key that is to be hashed, which went by another way",
    ["upstream"],
);
const PASSED_ON: Def<Counter, 1> = Def::new(
    "outrider_balance_passed_on_total",
    "Tries whose endpoint by hash was at its bound, so that the next one took them",
    ["upstream"],
);
const SHADOW: Def<Counter, 1> = Def::new(
    "outrider_shadow_balance_moved_total",
    "Tries that would have gone to another endpoint in mode enforce",
    ["upstream"],
);

/// The handles of one upstream's balance.
#[derive(Debug)]
pub struct Metrics {
    /// See the family's help.
    pub(super) panics: Counter,
    /// See the family's help.
    pub(super) spillover: Counter,
    /// See the family's help.
    pub(super) unkeyed: Counter,
    /// See the family's help.
    pub(super) passed_on: Counter,
    /// See the family's help.
    pub(super) shadow_moved: Counter,
}

impl Metrics {
    /// Resolve the handles; `upstream` as in the policy.
    #[must_use]
    pub fn new(telemetry: &Telemetry, upstream: &str) -> Self {
        telemetry.admit(upstream);
        let of = |def: &Def<Counter, 1>| telemetry.family(def).get([upstream]);
        Self {
            panics: of(&PANICS),
            spillover: of(&SPILLOVER),
            unkeyed: of(&UNKEYED),
            passed_on: of(&PASSED_ON),
            shadow_moved: of(&SHADOW),
        }
    }
}
