//! What is counted about deadlines.

use std::sync::OnceLock;

use crate::telemetry::Counter;
use crate::telemetry::Def;
use crate::telemetry::Family;
use crate::telemetry::Telemetry;

const EXPIRED: Def<Counter, 3> = Def::new(
    "outrider_deadline_expired_total",
    "Times that ran out: of one try, or of the whole call",
    ["upstream", "route", "scope"],
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
}

impl Metrics {
    /// Resolve the handles; `upstream` and `route` as in the policy.
    #[must_use]
    pub fn new(telemetry: &Telemetry, upstream: &str, route: &str) -> Self {
        telemetry.admit(upstream);
        Self {
            upstream: upstream.into(),
            route: route.into(),
            family: telemetry.family(&EXPIRED),
            expired: std::array::from_fn(|_| OnceLock::new()),
        }
    }

    /// A time ran out.
    pub fn expired(&self, scope: Scope) {
        let make = || self.family.get([&self.upstream, &self.route, scope.word()]);
        self.expired[scope as usize].get_or_init(make).inc();
    }
}
