//! What is counted about idempotency keys.

use crate::telemetry::ByWord;
use crate::telemetry::Counter;
use crate::telemetry::Def;
use crate::telemetry::Telemetry;

const KEYS: Def<Counter, 3> = Def::new(
    "outrider_idempotency_keys_total",
    "Calls that carry an idempotency key, by who made it",
    ["upstream", "route", "source"],
);
const SHADOW: Def<Counter, 3> = Def::new(
    "outrider_idempotency_shadow_keys_total",
    "Calls that would carry an idempotency key in mode enforce, by who would have made it",
    ["upstream", "route", "source"],
);

/// Who made a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// outrider.
    Injected,
    /// The application.
    Client,
}

impl Source {
    /// The label value.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Injected => "injected",
            Self::Client => "client",
        }
    }
}

/// The handles of one route's keys.
#[derive(Debug)]
pub struct Metrics {
    keys: ByWord,
    shadow: ByWord,
}

impl Metrics {
    /// Resolve the handles; `upstream` and `route` as in the policy.
    #[must_use]
    pub fn new(telemetry: &Telemetry, upstream: &str, route: &str) -> Self {
        telemetry.admit(upstream);
        let by_word = |def| telemetry.by_word(def, upstream, route);
        Self {
            keys: by_word(&KEYS),
            shadow: by_word(&SHADOW),
        }
    }

    /// A call carries a key, or would in mode enforce.
    pub fn key(&self, source: Source, shadow: bool) {
        if shadow {
            self.shadow.inc(source.word());
        } else {
            self.keys.inc(source.word());
        }
    }
}
