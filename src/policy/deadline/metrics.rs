//! What is counted about deadlines.

use std::sync::OnceLock;

use crate::http::hops::Said;
use crate::kit::mode::Mode;
use crate::telemetry::ByWord;
use crate::telemetry::Counter;
use crate::telemetry::Def;
use crate::telemetry::Family;
use crate::telemetry::Telemetry;

const EXPIRED: Def<Counter, 3> = Def::new(
    "outrider_deadline_expired_total",
    "Times that ran out: of one try, or of the whole call",
    ["upstream", "route", "scope"],
);

const SHORTENED: Def<Counter, 3> = Def::new(
    "outrider_deadline_shortened_total",
    "Calls whose caller waits for less time than policy gives",
    ["upstream", "route", "mode"],
);
const REFUSED: Def<Counter, 3> = Def::new(
    "outrider_deadline_refused_total",
    "Calls or tries not begun because no time was left",
    ["upstream", "route", "mode"],
);
const IGNORED: Def<Counter, 3> = Def::new(
    "outrider_hops_ignored_total",
    "Deadlines and retry markers of requests that were not believed, by why not",
    ["upstream", "route", "why"],
);

/// Whose time ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Scope {
    /// One try; another may follow.
    Try,
    /// The whole call.
    Call,
}

impl Scope {
    const COUNT: usize = 2;

    /// The label value.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Try => "try",
            Self::Call => "call",
        }
    }
}

/// The handles of one route's deadlines.
#[derive(Debug)]
pub struct Metrics {
    upstream: Box<str>,
    route: Box<str>,
    family: Family<Counter, 3>,
    expired: [OnceLock<Counter>; Scope::COUNT],
    shortened: ByWord,
    refused: ByWord,
    ignored: ByWord,
}

impl Metrics {
    /// Resolve the handles; `upstream` and `route` as in the policy.
    #[must_use]
    pub fn new(telemetry: &Telemetry, upstream: &str, route: &str) -> Self {
        telemetry.admit(upstream);
        let by_word = |def| telemetry.by_word(def, upstream, route);
        Self {
            upstream: upstream.into(),
            route: route.into(),
            family: telemetry.family(&EXPIRED),
            expired: std::array::from_fn(|_| OnceLock::new()),
            shortened: by_word(&SHORTENED),
            refused: by_word(&REFUSED),
            ignored: by_word(&IGNORED),
        }
    }

    /// The caller left less time than policy gives. In shadow it got policy's all the same.
    pub fn shortened(&self, mode: Mode) {
        self.shortened.inc(mode.word());
    }

    /// Nothing was begun, for there was no time. In shadow it was begun all the same.
    pub fn refused(&self, mode: Mode) {
        self.refused.inc(mode.word());
    }

    /// What a request said of the hops before it was not believed.
    pub fn ignored(&self, said: &Said) {
        for _ in 0..said.untrusted {
            self.ignored.inc("untrusted");
        }
        for _ in 0..said.malformed {
            self.ignored.inc("malformed");
        }
    }

    /// A time ran out.
    pub fn expired(&self, scope: Scope) {
        let make = || self.family.get([&self.upstream, &self.route, scope.word()]);
        self.expired[scope as usize].get_or_init(make).inc();
    }
}
