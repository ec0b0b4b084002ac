//! Whether a fault is being injected, and what is done to a call that it meets.
//!
//! | from | event | guard | to | effect |
//! |---|---|---|---|---|
//! | Running | call | the draw is below `share` | Running | met |
//! | Running | call | it is not | Running | passes |
//! | Running | call | `until` is reached, by the wall clock or by the other one | Over | cause `until`; passes |
//! | Running | success or failure | nothing reached | Running | counted |
//! | Running | success or failure | `MIN_CALLS` within `OVER`, and the failed share exceeds `stop_when` | Stopped | cause `guard` |
//! | Running | stop | | Stopped | cause `by_hand` |
//! | Stopped | call, success, failure, stop | | Stopped | passes; not counted |
//! | Stopped | resume | `until` is not reached | Running | cause `resumed`; the window starts afresh |
//! | Stopped | resume | `until` is reached | Over | cause `until` |
//! | Over | anything | | Over | passes |
//!
//! The end is fixed by two clocks when the policy is loaded: a wall clock that is set back must not prolong a fault, and one
//! that is set forward ends it, for that may be the clock that was wrong when it was loaded.
//!
//! What is done to a call, in this order:
//!
//! | `delay` | `abort` | `reset` | `bandwidth` | the call |
//! |---|---|---|---|---|
//! | set | | | | waits first |
//! | | set | | | is answered, not made |
//! | | | set | | its connection is reset, it is not made |
//! | | | | set | is made, and the response body is held back |
//!
//! `abort` and `reset` exclude each other, and with either of them `bandwidth` has nothing to hold back.

use std::time::Duration;
use std::time::Instant;

use super::config::MIN_CALLS;
use super::config::OVER;
use super::config::Settings;
use crate::kit::window::Window;

/// Where the injection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Calls are met.
    Running,
    /// It was ended early, and may be resumed.
    Stopped,
    /// Its time has passed.
    Over,
}

/// Why it moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Its time has passed.
    Until,
    /// Too many calls failed that it did not fail itself.
    Guard,
    /// An operator stopped it.
    ByHand,
    /// An operator let it go on.
    Resumed,
}

/// One move, for the skin to report after it has unlocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// The state that was entered.
    pub to: State,
    /// What made it move.
    pub cause: Cause,
    /// Calls that failed by themselves, of those judged. Zero but for the guard.
    pub failures: u32,
    /// Calls that were judged.
    pub calls: u32,
}

/// The faults of one route.
#[derive(Debug)]
pub struct Machine {
    share: f64,
    stop_when: Option<f64>,
    until: Duration,
    ends: Instant,
    state: State,
    counts: Window<2>,
}

const CALLS: usize = 0;
const FAILURES: usize = 1;

impl Machine {
    /// Running, unless its time has passed already. `now` and `unix` (since 1970) are the same moment by two clocks.
    #[must_use]
    pub fn new(settings: &Settings, now: Instant, unix: Duration) -> Self {
        let left = settings.until.saturating_sub(unix);
        // As far as this clock reaches, if it does not reach there.
        let ends = now.checked_add(left).unwrap_or(now);
        Self {
            share: settings.share,
            stop_when: settings.stop_when,
            until: settings.until,
            ends,
            state: if left.is_zero() {
                State::Over
            } else {
                State::Running
            },
            counts: Window::new(OVER),
        }
    }

    /// Whether a call is met. `draw` is uniform in `[0, 1)`.
    pub fn admit(&mut self, now: Instant, unix: Duration, draw: f64) -> (bool, Option<Transition>) {
        if self.state != State::Running {
            return (false, None);
        }
        if self.is_over(now, unix) {
            return (false, Some(self.enter(State::Over, Cause::Until)));
        }
        (draw < self.share, None)
    }

    /// A call has ended that was not failed on purpose.
    pub fn settle(&mut self, failed: bool, now: Instant) -> Option<Transition> {
        let limit = self.stop_when?;
        if self.state != State::Running {
            return None;
        }
        self.counts.add(now, [1, u32::from(failed)]);
        let totals = self.counts.totals(now);
        let (calls, failures) = (totals[CALLS], totals[FAILURES]);
        if calls < MIN_CALLS || f64::from(failures) <= limit * f64::from(calls) {
            return None;
        }
        Some(Transition {
            failures,
            calls,
            ..self.enter(State::Stopped, Cause::Guard)
        })
    }

    /// Ends it early.
    pub fn stop(&mut self) -> Option<Transition> {
        (self.state == State::Running).then(|| self.enter(State::Stopped, Cause::ByHand))
    }

    /// Lets one that was stopped go on.
    pub fn resume(&mut self, now: Instant, unix: Duration) -> Option<Transition> {
        if self.state != State::Stopped {
            return None;
        }
        if self.is_over(now, unix) {
            return Some(self.enter(State::Over, Cause::Until));
        }
        self.counts = Window::new(OVER);
        Some(self.enter(State::Running, Cause::Resumed))
    }

    /// What a call would meet now: one whose time has passed only moves when a call comes.
    #[must_use]
    pub fn state(&self, now: Instant, unix: Duration) -> State {
        if self.is_over(now, unix) {
            State::Over
        } else {
            self.state
        }
    }

    /// Whether the outcome of a call matters.
    #[must_use]
    pub fn watches(&self) -> bool {
        self.stop_when.is_some() && self.state == State::Running
    }

    /// Calls and failures that the guard judges by.
    #[must_use]
    pub fn counts(&self, now: Instant) -> (u32, u32) {
        let totals = self.counts.peek(now);
        (totals[CALLS], totals[FAILURES])
    }

    fn is_over(&self, now: Instant, unix: Duration) -> bool {
        now >= self.ends || unix >= self.until
    }

    fn enter(&mut self, state: State, cause: Cause) -> Transition {
        self.state = state;
        Transition {
            to: state,
            cause,
            failures: 0,
            calls: 0,
        }
    }
}

/// How a call that is met goes on after the delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It is made.
    Call,
    /// It is answered.
    Abort,
    /// Its connection is reset.
    Reset,
}

/// What is done to each call that is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Wait this long first.
    pub delay: Option<Duration>,
    /// Then do this.
    pub end: End,
    /// And hold the response body back to so many bytes a second.
    pub bandwidth: Option<u64>,
}

/// One thing that is done to a call; the place in [`Kind::ALL`] is its bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It waited.
    Delay,
    /// It was answered.
    Abort,
    /// Its connection was reset.
    Reset,
    /// Its response was held back.
    Bandwidth,
}

impl Plan {
    /// What the settings say, where they agree with themselves; see the table.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        let end = match (settings.abort, settings.reset) {
            (Some(_), _) => End::Abort,
            (None, true) => End::Reset,
            (None, false) => End::Call,
        };
        Self {
            delay: settings.delay,
            end,
            bandwidth: settings.bandwidth.filter(|_| end == End::Call),
        }
    }

    /// What is done, in order.
    pub fn kinds(&self) -> impl Iterator<Item = Kind> {
        let end = match self.end {
            End::Call => None,
            End::Abort => Some(Kind::Abort),
            End::Reset => Some(Kind::Reset),
        };
        let delay = self.delay.map(|_| Kind::Delay);
        let bandwidth = self.bandwidth.map(|_| Kind::Bandwidth);
        [delay, end, bandwidth].into_iter().flatten()
    }

    /// The same in one word, for the log and the header of the answer.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match (self.delay.is_some(), self.end, self.bandwidth.is_some()) {
            (false, End::Abort, _) => "abort",
            (false, End::Reset, _) => "reset",
            (true, End::Abort, _) => "delay+abort",
            (true, End::Reset, _) => "delay+reset",
            (true, End::Call, true) => "delay+bandwidth",
            (true, End::Call, false) => "delay",
            (false, End::Call, true) => "bandwidth",
            (false, End::Call, false) => "nothing",
        }
    }
}

/// How long a body that may take `rate` bytes a second waits after sending `bytes`.
#[must_use]
pub fn pause(bytes: usize, rate: u64) -> Duration {
    const LONGEST: Duration = Duration::from_secs(3600);
    let pause = Duration::try_from_secs_f64(bytes as f64 / rate.max(1) as f64);
    pause.unwrap_or(LONGEST).min(LONGEST)
}

/// The largest part of a body sent at once: a tenth of a second's worth, so that a stream flows rather than jumps, at
/// least one byte.
#[must_use]
pub fn part(rate: u64) -> usize {
    usize::try_from(rate / 10).unwrap_or(usize::MAX).max(1)
}
