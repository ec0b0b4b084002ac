//! The health of one endpoint as its probes show it, and when it is asked again.
//!
//! | from | event | guard | to | effect |
//! |---|---|---|---|---|
//! | Unknown | pass | | Healthy | it goes on serving, as it did unasked |
//! | Unknown | fail | run below `unhealthy` | Unknown | the run grows; it goes on serving |
//! | Unknown | fail | run reaches `unhealthy` | Unhealthy | it is out |
//! | Healthy | pass | | Healthy | a run of failures ends |
//! | Healthy | fail | run below `unhealthy` | Healthy | the run grows |
//! | Healthy | fail | run reaches `unhealthy` | Unhealthy | it is out |
//! | Unhealthy | pass | run below `healthy` | Unhealthy | the run grows |
//! | Unhealthy | pass | run reaches `healthy` | Healthy | it is back |
//! | Unhealthy | fail | | Unhealthy | a run of successes ends |
//! | any | unasked | | the same | nothing was heard: no run grows and none ends |
//!
//! A new endpoint serves until its probes say otherwise: whoever added it says that it is one, and a health path that is
//! misspelt must not take a whole upstream away at start. Only probes move this machine; what calls come to is the matter
//! of ejection, and neither ends the other's run.

use std::time::Duration;

use super::config::Settings;

/// How far a period strays to either side, as a share of it.
pub const STRAY: f64 = 0.15;

/// The longest wait before the first probe of a new endpoint, and between probes until it has a verdict.
pub const SOON: Duration = Duration::from_secs(1);

/// What is known of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum State {
    /// No verdict yet: it serves.
    #[default]
    Unknown,
    /// Its probes pass.
    Healthy,
    /// Its probes fail.
    Unhealthy,
}

impl State {
    /// The word of the log and of `/upstreams`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            State::Unknown => "unknown",
            State::Healthy => "healthy",
            State::Unhealthy => "unhealthy",
        }
    }
}

/// What a probe came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// The endpoint can serve.
    Pass,
    /// It cannot, or does not say.
    Fail,
    /// It was not asked, for want of something on our side, which must not take endpoints out.
    Unasked,
}

/// A change of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// Before.
    pub from: State,
    /// After.
    pub to: State,
    /// The results in a row that brought it about.
    pub run: u32,
}

/// The verdict on one endpoint.
#[derive(Debug, Clone)]
pub struct Machine {
    healthy: u32,
    unhealthy: u32,
    state: State,
    /// Results in a row that speak against the state.
    run: u32,
}

impl Machine {
    /// An endpoint of which `state` is known already, or [`State::Unknown`].
    #[must_use]
    pub fn new(settings: &Settings, state: State) -> Self {
        Self {
            healthy: settings.healthy.max(1),
            unhealthy: settings.unhealthy.max(1),
            state,
            run: 0,
        }
    }

    /// What is known of it.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Counts the result of one probe.
    pub fn record(&mut self, heard: Heard) -> Option<Transition> {
        let passed = match heard {
            Heard::Pass => true,
            Heard::Fail => false,
            Heard::Unasked => return None,
        };
        let (against, needed) = match self.state {
            State::Unknown if passed => (true, 1),
            State::Unknown | State::Healthy => (!passed, self.unhealthy),
            State::Unhealthy => (passed, self.healthy),
        };
        if !against {
            self.run = 0;
            return None;
        }
        if self.state == State::Unknown && passed {
            // What may stand there is a run of failures.
            self.run = 0;
        }
        self.run += 1;
        if self.run < needed {
            return None;
        }
        let to = if passed {
            State::Healthy
        } else {
            State::Unhealthy
        };
        let transition = Transition {
            from: self.state,
            to,
            run: self.run,
        };
        (self.state, self.run) = (to, 0);
        Some(transition)
    }

    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        let needed = match self.state {
            State::Unknown | State::Healthy => self.unhealthy,
            State::Unhealthy => self.healthy,
        };
        assert!(
            self.run < needed,
            "a run of {} in {:?}",
            self.run,
            self.state
        );
    }
}

/// The wait before the first probe: a random part of the period, so that pods that start together part at once. Soon
/// where nothing is known, since a new endpoint serves unasked. `draw` is in `[0, 1)`.
#[must_use]
pub fn first_in(every: Duration, state: State, draw: f64) -> Duration {
    period(every, state).mul_f64(draw.clamp(0.0, 1.0))
}

/// From the start of one probe to that of the next, which changed the state from the first to the second of `states`. The
/// same for an endpoint that is down: knocking harder helps nobody, and knocking less would leave out longer what is back.
#[must_use]
pub fn next_in(every: Duration, states: (State, State), draw: f64) -> Duration {
    let (before, state) = states;
    if before == State::Unknown && state != State::Unknown {
        // All pods asked within the first second; from here on they are spread over the whole period.
        return first_in(every, state, draw);
    }
    let stray = 1.0 - STRAY + 2.0 * STRAY * draw.clamp(0.0, 1.0);
    period(every, state).mul_f64(stray)
}

fn period(every: Duration, state: State) -> Duration {
    match state {
        State::Unknown => every.min(SOON),
        State::Healthy | State::Unhealthy => every,
    }
}
