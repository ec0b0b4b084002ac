//! What is counted about credentials.

use crate::policy::credential::machine::Trouble;
use crate::telemetry::ByWord;
use crate::telemetry::Counter;
use crate::telemetry::Def;
use crate::telemetry::Family;
use crate::telemetry::FloatGauge;
use crate::telemetry::Tally;
use crate::telemetry::Telemetry;

const USES: Def<Tally, 3> = Def::new(
    "outrider_credential_uses_total",
    "Requests that carried the secret, by its name",
    ["upstream", "route", "credential"],
);
const KEPT: Def<Counter, 2> = Def::new(
    "outrider_credential_kept_total",
    "Requests that went with the application's own header",
    ["upstream", "route"],
);
const REFUSED: Def<Counter, 3> = Def::new(
    "outrider_credential_refused_total",
    "Requests that did not go because the secret was not there",
    ["upstream", "route", "mode"],
);
const SHADOW: Def<Counter, 2> = Def::new(
    "outrider_credential_shadow_uses_total",
    "Requests that would have carried the secret in mode enforce",
    ["upstream", "route"],
);
const SECONDS: Def<Counter, 3> = Def::new(
    "outrider_credential_second_total",
    "Answers 401 to a secret beside which there is another, by what became of it",
    ["upstream", "route", "outcome"],
);
const RENEWALS: Def<Counter, 1> = Def::new(
    "outrider_credential_renewals_total",
    "Secrets taken into use, by name",
    ["credential"],
);
const ERRORS: Def<Counter, 2> = Def::new(
    "outrider_credential_errors_total",
    "Attempts to read or fetch a secret that failed, by name",
    ["credential", "error"],
);
const LOADED: Def<FloatGauge, 1> = Def::new(
    "outrider_credential_loaded_timestamp_seconds",
    "When the secret in use was taken into use; 0 is none",
    ["credential"],
);
const EXPIRES: Def<FloatGauge, 1> = Def::new(
    "outrider_credential_expires_timestamp_seconds",
    "When the token in use ends; 0 is none, or not known",
    ["credential"],
);

/// What became of an answer 401 where there is another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The other key was taken.
    Accepted,
    /// The other key was refused as well.
    Refused,
    /// There was no answer to the other key.
    Failed,
    /// The body could not be sent again.
    BodyGone,
    /// Too many calls were sent twice.
    Budget,
}

impl Outcome {
    /// The label value.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::BodyGone => "body_gone",
            Self::Budget => "budget",
        }
    }
}

/// The handles of one route.
#[derive(Debug)]
pub struct Metrics {
    first: Tally,
    other: Option<Tally>,
    kept: Counter,
    refused: ByWord,
    shadow: Counter,
    seconds: ByWord,
}

impl Metrics {
    /// Resolve the handles; `upstream` and `route` as in the policy, `first` and `other` the names of its secrets.
    #[must_use]
    pub fn new(
        telemetry: &Telemetry,
        upstream: &str,
        route: &str,
        first: &str,
        other: Option<&str>,
    ) -> Self {
        telemetry.admit(upstream);
        let uses = telemetry.family(&USES);
        let labels = [upstream, route];
        Self {
            first: uses.get([upstream, route, first]),
            other: other.map(|name| uses.get([upstream, route, name])),
            kept: telemetry.family(&KEPT).get(labels),
            refused: telemetry.by_word(&REFUSED, upstream, route),
            shadow: telemetry.family(&SHADOW).get(labels),
            seconds: telemetry.by_word(&SECONDS, upstream, route),
        }
    }

    /// A request carries a secret.
    pub fn used(&self, is_next: bool) {
        match &self.other {
            Some(other) if is_next => other.inc(),
            _ => self.first.inc(),
        }
    }

    /// A request goes with what the application set.
    pub fn kept(&self) {
        self.kept.inc();
    }

    /// A request did not go, or, in shadow, would not have gone.
    pub fn refused(&self, mode: &'static str) {
        self.refused.inc(mode);
    }

    /// A request would have carried a secret.
    pub fn would_use(&self) {
        self.shadow.inc();
    }

    /// An answer 401, where there is another key.
    pub fn second(&self, outcome: Outcome) {
        self.seconds.inc(outcome.word());
    }

    /// Uses so far, of both keys.
    #[must_use]
    pub fn uses(&self) -> u64 {
        self.first.get() + self.other.as_ref().map_or(0, Tally::get)
    }
}

/// The handles of one secret.
#[derive(Debug)]
pub struct SourceMetrics {
    name: Box<str>,
    renewals: Counter,
    errors: Family<Counter, 2>,
    loaded: FloatGauge,
    expires: FloatGauge,
}

impl SourceMetrics {
    /// Resolve the handles; `name` is the place of the secret.
    #[must_use]
    pub fn new(telemetry: &Telemetry, name: &str) -> Self {
        Self {
            name: name.into(),
            renewals: telemetry.family(&RENEWALS).get([name]),
            errors: telemetry.family(&ERRORS),
            loaded: telemetry.family(&LOADED).get([name]),
            expires: telemetry.family(&EXPIRES).get([name]),
        }
    }

    /// One was taken into use; seconds since 1970, `expires` zero where it has no end.
    pub fn renewed(&self, at: f64, expires: f64) {
        self.renewals.inc();
        self.dated(at, expires);
    }

    /// One could not be had.
    pub fn failed(&self, trouble: Trouble) {
        self.errors.get([&self.name, trouble.word()]).inc();
    }

    /// Brings the times up to date, which another source of the same name may have moved.
    pub fn dated(&self, at: f64, expires: f64) {
        self.loaded.set(at);
        self.expires.set(expires);
    }
}
