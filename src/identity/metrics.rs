//! What is counted about the own identity.

use crate::identity::Identity;
use crate::identity::source::Trouble;
use crate::telemetry::Counter;
use crate::telemetry::Def;
use crate::telemetry::Family;
use crate::telemetry::Gauge;
use crate::telemetry::Telemetry;

const EXPIRY: Def<Gauge, 0> = Def::new(
    "outrider_identity_expiry_timestamp_seconds",
    "When the certificate in use ends, in seconds since 1970",
    [],
);
const GENERATION: Def<Gauge, 0> = Def::new(
    "outrider_identity_generation",
    "How many identities this process has had",
    [],
);
const RENEWALS: Def<Counter, 0> = Def::new(
    "outrider_identity_renewals_total",
    "Identities that took the place of another",
    [],
);
const ERRORS: Def<Counter, 1> = Def::new(
    "outrider_identity_errors_total",
    "Times that an identity could not be read; the one before stayed in force",
    ["error"],
);

/// The handles.
#[derive(Debug)]
pub struct Metrics {
    expiry: Gauge,
    generation: Gauge,
    renewals: Counter,
    errors: Family<Counter, 1>,
}

impl Metrics {
    /// Resolves them.
    #[must_use]
    pub fn new(telemetry: &Telemetry) -> Self {
        let errors = telemetry.family(&ERRORS);
        for word in Trouble::WORDS {
            // There from the start, so that an alert can tell none from unknown.
            let _ = errors.get([word]);
        }
        Self {
            expiry: telemetry.family(&EXPIRY).get([]),
            generation: telemetry.family(&GENERATION).get([]),
            renewals: telemetry.family(&RENEWALS).get([]),
            errors,
        }
    }

    /// An identity came into force.
    pub fn installed(&self, identity: &Identity) {
        self.expiry
            .set(i64::try_from(identity.not_after).unwrap_or(i64::MAX));
        self.generation
            .set(i64::try_from(identity.generation).unwrap_or(i64::MAX));
        if identity.generation > 1 {
            self.renewals.inc();
        }
    }

    /// None could be read.
    pub fn failed(&self, trouble: &Trouble) {
        self.errors.get([trouble.word()]).inc();
    }
}
