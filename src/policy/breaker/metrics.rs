//! What is counted about breakers.

use crate::policy::breaker::machine::Cause;
use crate::policy::breaker::machine::State;
use crate::policy::breaker::machine::Transition;
use crate::telemetry::Counter;
use crate::telemetry::Def;
use crate::telemetry::Gauge;
use crate::telemetry::Telemetry;

const STATE: Def<Gauge, 2> = Def::new(
    "outrider_breaker_state",
    "State of the breaker: 0 closed, 1 half-open, 2 open",
    ["upstream", "route"],
);
const TRANSITIONS: Def<Counter, 5> = Def::new(
    "outrider_breaker_transitions_total",
    "Changes of the breaker's state, by cause",
    ["upstream", "route", "from", "to", "cause"],
);
const REFUSALS: Def<Counter, 2> = Def::new(
    "outrider_breaker_refusals_total",
    "Tries refused because the breaker is not closed",
    ["upstream", "route"],
);
const SHADOW_REFUSALS: Def<Counter, 2> = Def::new(
    "outrider_breaker_shadow_refusals_total",
    "Tries let through that would have been refused in mode enforce",
    ["upstream", "route"],
);

impl State {
    /// The word of the metric label, the log and the admin page.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            State::Closed => "closed",
            State::Open => "open",
            State::HalfOpen => "half_open",
        }
    }
}

impl Cause {
    /// The word of the metric label and the log.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Cause::FailureRate => "failure_rate",
            Cause::SlowRate => "slow_rate",
            Cause::Consecutive => "consecutive",
            Cause::ProbeFailed => "probe_failed",
            Cause::ProbesPassed => "probes_passed",
            Cause::OpenElapsed => "open_elapsed",
            Cause::ByHand => "by_hand",
            Cause::ForceEnded => "force_ended",
        }
    }
}

const FORCED: Def<Gauge, 2> = Def::new(
    "outrider_breaker_forced",
    "1 while an operator holds the breaker open or closed",
    ["upstream", "route"],
);
const SUSPICIOUS: Def<Gauge, 2> = Def::new(
    "outrider_breaker_suspicious",
    "1 while a quorum of other pods has this breaker open, so that fewer calls open it here",
    ["upstream", "route"],
);
const OVERRIDES: Def<Counter, 2> = Def::new(
    "outrider_breaker_overrides_total",
    "Orders of an operator to force or release breakers",
    ["upstream", "action"],
);

/// The orders there are, the `action` label.
pub const ACTIONS: [&str; 3] = ["open", "close", "auto"];

/// An operator has given one of [`ACTIONS`] for the breakers of `upstream`. Resolves the series, so not for the hot path.
pub fn overridden(telemetry: &Telemetry, upstream: &str, action: &'static str) {
    telemetry.family(&OVERRIDES).get([upstream, action]).inc();
}

/// The changes that the transition table knows. Their series begin at zero, so that `increase()` sees the first one.
const CHANGES: [(State, State, Cause); 12] = [
    (State::Closed, State::Open, Cause::FailureRate),
    (State::Closed, State::Open, Cause::SlowRate),
    (State::Closed, State::Open, Cause::Consecutive),
    (State::Open, State::HalfOpen, Cause::OpenElapsed),
    (State::HalfOpen, State::Closed, Cause::ProbesPassed),
    (State::HalfOpen, State::Open, Cause::ProbeFailed),
    (State::HalfOpen, State::Open, Cause::SlowRate),
    (State::Closed, State::Open, Cause::ByHand),
    (State::HalfOpen, State::Open, Cause::ByHand),
    (State::Open, State::Closed, Cause::ByHand),
    (State::HalfOpen, State::Closed, Cause::ByHand),
    (State::Open, State::Closed, Cause::ForceEnded),
];

/// The handles of one breaker.
#[derive(Debug)]
pub struct Metrics {
    state: Gauge,
    forced: Gauge,
    suspicious: Gauge,
    transitions: [Counter; CHANGES.len()],
    refusals: Counter,
    shadow_refusals: Counter,
}

impl Metrics {
    /// Resolve the handles. A breaker of scope `upstream` has the route `*`.
    #[must_use]
    pub fn new(telemetry: &Telemetry, upstream: &str, route: &str) -> Self {
        telemetry.admit(upstream);
        let transitions = telemetry.family(&TRANSITIONS);
        let overrides = telemetry.family(&OVERRIDES);
        for action in ACTIONS {
            // At zero from the start, so that `increase()` sees the first one.
            drop(overrides.get([upstream, action]));
        }
        Self {
            state: telemetry.family(&STATE).get([upstream, route]),
            forced: telemetry.family(&FORCED).get([upstream, route]),
            suspicious: telemetry.family(&SUSPICIOUS).get([upstream, route]),
            transitions: CHANGES.map(|(from, to, cause)| {
                transitions.get([upstream, route, from.word(), to.word(), cause.word()])
            }),
            refusals: telemetry.family(&REFUSALS).get([upstream, route]),
            shadow_refusals: telemetry.family(&SHADOW_REFUSALS).get([upstream, route]),
        }
    }

    /// The breaker has changed its state.
    pub fn observe(&self, transition: &Transition) {
        let change = (transition.from, transition.to, transition.cause);
        if let Some(at) = CHANGES.iter().position(|known| *known == change) {
            self.transitions[at].inc();
        }
        self.set_state(transition.to);
    }

    /// Show this state without a transition: a breaker that was carried over or built anew by a reload.
    pub fn set_state(&self, state: State) {
        self.state.set(match state {
            State::Closed => 0,
            State::HalfOpen => 1,
            State::Open => 2,
        });
    }

    /// Shows whether an operator holds it.
    pub fn set_forced(&self, forced: bool) {
        self.forced.set(i64::from(forced));
    }

    /// Shows whether the fleet makes it suspicious.
    pub fn set_suspicious(&self, suspicious: bool) {
        self.suspicious.set(i64::from(suspicious));
    }

    /// A try was refused.
    pub fn refused(&self) {
        self.refusals.inc();
    }

    /// A try was let through that mode enforce would have refused.
    pub fn would_refuse(&self) {
        self.shadow_refusals.inc();
    }
}
