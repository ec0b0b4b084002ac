//! The circuit breaker. Closed passes calls and counts them, Open rejects them, HalfOpen passes a few probes.
//!
//! | from | event | guard | to | effect |
//! |---|---|---|---|---|
//! | Closed | admit | | Closed | a ticket |
//! | Closed | success or failure | nothing reached | Closed | counted |
//! | Closed | success or failure | `min_calls` in the window, and the failed share reaches `failures` | Open | cause `failure_rate` |
//! | Closed | success or failure | the fleet is suspicious: fewer calls in the window, and a share reached | Open | the same causes |
//! | Closed | success or failure | `min_calls` in the window, and the slow share reaches `slow.share` | Open | cause `slow_rate` |
//! | Closed | failure | the run reaches `consecutive` | Open | cause `consecutive` |
//! | Closed | abandoned | | Closed | not counted |
//! | Open | admit | the open time has not passed | Open | refused, with the time left |
//! | Open | admit | the open time has passed | HalfOpen | cause `open_elapsed`; a ticket for the first probe |
//! | Open | admit | the open time has passed, but other pods probe, and that for less than `open_max` | Open | refused, until they may be done |
//! | HalfOpen | admit | passed and leased probes are fewer than `probes` | HalfOpen | a ticket for a probe, leased |
//! | HalfOpen | admit | no probe is free | HalfOpen | refused, until the first lease ends |
//! | HalfOpen | success | fewer than `probes` have passed | HalfOpen | the probe has passed |
//! | HalfOpen | success | `probes` have passed | Closed | cause `probes_passed`; window and open time start afresh |
//! | HalfOpen | success | `probes` have passed, but the slow share reaches `slow.share` | Open | cause `slow_rate`, open time doubled |
//! | HalfOpen | failure | | Open | cause `probe_failed`, open time doubled |
//! | HalfOpen | abandoned | | HalfOpen | the probe is free again, nothing is judged |
//! | HalfOpen | time | a lease has ended | HalfOpen | the probe is free again; its outcome still counts if it comes |
//! | any | forced open or closed | | Open, Closed | cause `by_hand`; nothing but a hand or the end of its time moves it |
//! | forced Open | admit | its time has not passed | Open | refused, with the time left, at most `open_max` |
//! | forced Closed | admit | its time has not passed | Closed | a ticket |
//! | forced Closed | success or failure | whatever is reached | Closed | counted |
//! | forced | admit | its time has passed | Closed | cause `force_ended`; a ticket; window and open time start afresh |
//! | forced | released | | Closed | cause `by_hand`; window and open time start afresh |
//! | not forced | released | | same | nothing happens |
//! | any | any outcome | the ticket is of an earlier era | same | dropped |
//!
//! Every move begins a new era, so an outcome of a call from before it (a straggler) judges nothing. All probes must
//! succeed to close: with a share of them, a half-broken upstream would get its whole traffic back.
//!
//! The n-th time open in a row lasts `open` doubled n-1 times, at most `open_max`, times a random factor between 0.5 and
//! 1.5. Tickets are leased since what holds one may vanish without a word; a lease lasts `open`, at least 1s and at most
//! 30s, so that a lost probe delays closing by no more than one short opening would.
//!
//! What other pods say ([`fleet`]) never moves it: it is [`Machine::advise`]d, for a time. A suspicious circuit is judged by a
//! quarter of `min_calls`, at least [`SUSPECT_CALLS`], and still by its own calls alone; and where it would probe, it leaves
//! that to the pods whose turn it is.

pub mod fleet;
#[cfg(test)]
mod invariants;
mod judge;

use std::time::Duration;
use std::time::Instant;

pub use judge::open_time;

use self::fleet::Advice;
use self::judge::reaches;
use self::judge::tripped;
use super::config::Settings;
use crate::kit::window::Window;

/// The shortest lease of a probe: a lower `open` must not free the probe of a call that is merely normal.
pub const LEASE_MIN: Duration = Duration::from_secs(1);

/// The least calls that a suspicious circuit is judged by, unless `min_calls` is less: below that, chance does it.
pub const SUSPECT_CALLS: u32 = 5;

/// The longest lease of a probe.
pub const LEASE_MAX: Duration = Duration::from_secs(30);

/// Where the circuit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Calls pass.
    Closed,
    /// Calls are rejected.
    Open,
    /// A few calls pass as probes.
    HalfOpen,
}

/// Why the circuit moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The failed share of the window reached `failures`.
    FailureRate,
    /// The slow share of the window, or of the probes, reached `slow.share`.
    SlowRate,
    /// A run of failures reached `consecutive`.
    Consecutive,
    /// A probe failed.
    ProbeFailed,
    /// All probes succeeded.
    ProbesPassed,
    /// The open time had passed when a call came.
    OpenElapsed,
    /// An operator forced or released it.
    ByHand,
    /// The time of a force had passed when a call came.
    ForceEnded,
}

/// One move of the circuit, for the skin to report after it has unlocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// The state that was left.
    pub from: State,
    /// The state that was entered.
    pub to: State,
    /// What made it move.
    pub cause: Cause,
    /// The calls that spoke for the move: slow ones for `slow_rate`, failed ones otherwise.
    pub failures: u32,
    /// The calls that were judged: those in the window, the probes that were settled, or the run for `consecutive` (which
    /// may be older than the window).
    pub calls: u32,
    /// How long it is open, jitter included, or forced so. Only on a move to Open.
    pub open_for: Option<Duration>,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The upstream did its work, whatever it answered.
    Success,
    /// The upstream failed.
    Failure,
    /// Nobody waited for the end: it says nothing about the upstream.
    Abandoned,
}

/// Leave to make one call. Hand it to [`Machine::settle`] with the outcome, or as abandoned.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a ticket that is not settled holds a probe until its lease ends"]
pub struct Ticket {
    era: u64,
    /// Which probe it is; `None` for a call through a closed circuit.
    pub(super) probe: Option<u64>,
}

/// A call that may not be made now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// When it is worth asking again.
    pub retry_after: Duration,
    /// An operator forced it open, its calls did not.
    pub by_hand: bool,
}

/// What an operator can hold a circuit at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Forced {
    /// Calls are rejected.
    Open,
    /// Calls pass and are counted, and nothing opens it.
    Closed,
}

/// The circuit of one upstream or route.
#[derive(Debug)]
pub struct Machine {
    settings: Settings,
    era: u64,
    phase: Phase,
    // Times open since it was last closed.
    opened: u32,
    // Until when other pods make it suspicious, and until when they probe in its place.
    suspicious: Option<Instant>,
    elsewhere: Option<Instant>,
}

#[derive(Debug)]
enum Phase {
    Closed {
        counts: Window<3>,
        run: u32,
    },
    Open {
        since: Instant,
        length: Duration,
    },
    HalfOpen {
        leases: Vec<Lease>,
        granted: u64,
        passed: u32,
        slow: u32,
    },
    Forced {
        to: Forced,
        since: Instant,
        length: Duration,
        counts: Window<3>,
    },
}

#[derive(Debug)]
struct Lease {
    probe: u64,
    since: Instant,
}

const CALLS: usize = 0;
const FAILURES: usize = 1;
const SLOW: usize = 2;

impl Machine {
    /// A closed circuit that has seen nothing.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let phase = closed(&settings);
        Self {
            settings,
            era: 0,
            phase,
            opened: 0,
            suspicious: None,
            elsewhere: None,
        }
    }

    /// Hears what the fleet says, which holds until `until`. A suspicion holds that long even where the next advice is without
    /// it; that others probe is over as soon as they do not.
    pub fn advise(&mut self, advice: Advice, until: Instant) {
        if advice.suspicious {
            self.suspicious = Some(until);
        }
        self.elsewhere = advice.probes_elsewhere.then_some(until);
    }

    /// What it was advised of, if that still holds.
    #[must_use]
    pub fn advised(&self, now: Instant) -> Advice {
        let holds = |until: Option<Instant>| until.is_some_and(|until| now < until);
        Advice {
            suspicious: holds(self.suspicious),
            probes_elsewhere: holds(self.elsewhere),
        }
    }

    /// Asks to make a call. `retry_after` of a refusal is never zero.
    pub fn admit(&mut self, now: Instant) -> (Result<Ticket, Refusal>, Option<Transition>) {
        match &mut self.phase {
            Phase::Closed { .. } => (Ok(self.ticket()), None),
            Phase::Open { since, length } => {
                if let Some(left) = left(since, *length, now) {
                    return (Err(refusal(left, false)), None);
                }
                if let Some(left) = self.waits_for_others(now) {
                    return (Err(refusal(left, false)), None);
                }
                let transition = self.half_open();
                (self.admit_probe(now), Some(transition))
            }
            Phase::HalfOpen { .. } => (self.admit_probe(now), None),
            Phase::Forced {
                to, since, length, ..
            } => match (left(since, *length, now), to) {
                // A hand may open it again at any time, so nobody is sent away for all of a long force.
                (Some(left), Forced::Open) => {
                    (Err(refusal(left.min(self.settings.open_max), true)), None)
                }
                (Some(_), Forced::Closed) => (Ok(self.ticket()), None),
                (None, _) => {
                    let transition = self.start_afresh(Cause::ForceEnded);
                    (Ok(self.ticket()), transition)
                }
            },
        }
    }

    /// Holds it at `to` for `length`, whatever its calls say. A later force replaces an earlier one.
    pub fn force(&mut self, to: Forced, length: Duration, now: Instant) -> Option<Transition> {
        let from = self.standing();
        self.era += 1;
        self.opened = 0;
        self.phase = Phase::Forced {
            to,
            since: now,
            length,
            counts: Window::new(self.settings.over),
        };
        let to = self.standing();
        (from != to).then_some(Transition {
            open_for: (to == State::Open).then_some(length),
            ..moved(from, to, Cause::ByHand)
        })
    }

    /// Ends a force before its time: closed, with an empty window.
    pub fn release(&mut self) -> Option<Transition> {
        match self.phase {
            Phase::Forced { .. } => self.start_afresh(Cause::ByHand),
            _ => None,
        }
    }

    /// How long it is still forced from `now` on; none unless it is.
    #[must_use]
    pub fn forced_left(&self, now: Instant) -> Option<Duration> {
        match &self.phase {
            Phase::Forced { since, length, .. } => left(&mut since.clone(), *length, now),
            _ => None,
        }
    }

    /// Takes back a ticket with what became of the call. `latency` is what the upstream took; `draw`, uniform in `[0, 1)`,
    /// varies the open time if this opens the circuit.
    pub fn settle(
        &mut self,
        ticket: Ticket,
        outcome: Outcome,
        latency: Duration,
        now: Instant,
        draw: f64,
    ) -> Option<Transition> {
        if ticket.era != self.era {
            return None;
        }
        let is_slow = self.is_slow(latency);
        match ticket.probe {
            None => self.settle_call(outcome, is_slow, now, draw),
            Some(probe) => self.settle_probe(probe, outcome, is_slow, now, draw),
        }
    }

    /// What a call would meet at `now`: a circuit whose open time has passed is half-open, although it only moves (and
    /// reports it) when a call comes.
    #[must_use]
    pub fn state(&self, now: Instant) -> State {
        match &self.phase {
            Phase::Open { .. }
                if self.open_left(now).is_none() && self.waits_for_others(now).is_none() =>
            {
                State::HalfOpen
            }
            Phase::Forced { .. } if self.forced_left(now).is_none() => State::Closed,
            _ => self.standing(),
        }
    }

    // The state of the last transition.
    fn standing(&self) -> State {
        match &self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::HalfOpen { .. } => State::HalfOpen,
            Phase::Forced { to, .. } => match to {
                Forced::Open => State::Open,
                Forced::Closed => State::Closed,
            },
        }
    }

    /// How long it stays open from `now` on; none unless it is open.
    #[must_use]
    pub fn open_left(&self, now: Instant) -> Option<Duration> {
        match &self.phase {
            Phase::Open { since, length } => left(&mut since.clone(), *length, now),
            Phase::Forced {
                to: Forced::Open, ..
            } => self.forced_left(now),
            _ => None,
        }
    }

    /// Calls, failures and slow calls in the window, for the admin page. Zero unless closed.
    #[must_use]
    pub fn counts(&self, now: Instant) -> (u32, u32, u32) {
        match &self.phase {
            Phase::Closed { counts, .. } | Phase::Forced { counts, .. } => {
                let totals = counts.peek(now);
                (totals[CALLS], totals[FAILURES], totals[SLOW])
            }
            Phase::Open { .. } | Phase::HalfOpen { .. } => (0, 0, 0),
        }
    }

    /// How long a probe is held for a call that never comes back.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.settings.open.clamp(LEASE_MIN, LEASE_MAX)
    }

    fn is_slow(&self, latency: Duration) -> bool {
        let slow = self.settings.slow.as_ref();
        slow.is_some_and(|slow| latency > slow.over)
    }

    // An open circuit whose time has passed leaves the probes to other pods, for a while: they may have no calls to probe with.
    fn waits_for_others(&self, now: Instant) -> Option<Duration> {
        let Phase::Open { since, length } = &self.phase else {
            return None;
        };
        let until = self.elsewhere.filter(|until| now < *until)?;
        let waited = now
            .saturating_duration_since(*since)
            .saturating_sub(*length);
        (waited < self.settings.open_max).then(|| until.saturating_duration_since(now))
    }

    fn admit_probe(&mut self, now: Instant) -> Result<Ticket, Refusal> {
        let length = self.lease();
        let probes = self.probes();
        let Phase::HalfOpen {
            leases,
            granted,
            passed,
            ..
        } = &mut self.phase
        else {
            unreachable!("probes are only admitted half-open")
        };
        for lease in leases.iter_mut() {
            lease.since = lease.since.min(now);
        }
        leases.retain(|lease| now.saturating_duration_since(lease.since) < length);
        if *passed as usize + leases.len() < probes as usize {
            *granted += 1;
            leases.push(Lease {
                probe: *granted,
                since: now,
            });
            return Ok(Ticket {
                era: self.era,
                probe: Some(*granted),
            });
        }
        let oldest = leases.iter().map(|lease| lease.since).min();
        let held = oldest.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        Err(refusal(length.saturating_sub(held), false))
    }

    fn ticket(&self) -> Ticket {
        Ticket {
            era: self.era,
            probe: None,
        }
    }

    fn settle_call(
        &mut self,
        outcome: Outcome,
        is_slow: bool,
        now: Instant,
        draw: f64,
    ) -> Option<Transition> {
        if outcome == Outcome::Abandoned {
            return None;
        }
        let failed = outcome == Outcome::Failure;
        let (counts, run) = match &mut self.phase {
            Phase::Closed { counts, run } => (counts, Some(run)),
            Phase::Forced { counts, .. } => (counts, None),
            Phase::Open { .. } | Phase::HalfOpen { .. } => return None,
        };
        counts.add(now, [1, u32::from(failed), u32::from(is_slow)]);
        // Forced: whatever is reached, nothing opens it.
        let run = run?;
        *run = if failed { run.saturating_add(1) } else { 0 };
        let totals = counts.totals(now);
        let run = *run;
        let least = if self.advised(now).suspicious {
            fleet::suspect_calls(self.settings.min_calls)
        } else {
            self.settings.min_calls
        };
        let (cause, failures, calls) = tripped(&self.settings, least, totals, run)?;
        Some(self.open(cause, (failures, calls), now, draw))
    }

    fn settle_probe(
        &mut self,
        probe: u64,
        outcome: Outcome,
        is_slow: bool,
        now: Instant,
        draw: f64,
    ) -> Option<Transition> {
        let probes = self.probes();
        let Phase::HalfOpen {
            leases,
            passed,
            slow,
            ..
        } = &mut self.phase
        else {
            return None;
        };
        // The lease may have ended: the outcome is as good as any, only its place may be taken.
        leases.retain(|lease| lease.probe != probe);
        match outcome {
            Outcome::Abandoned => None,
            Outcome::Failure => {
                let settled = *passed + 1;
                Some(self.open(Cause::ProbeFailed, (1, settled), now, draw))
            }
            Outcome::Success => {
                *passed += 1;
                *slow += u32::from(is_slow);
                let (passed, slow) = (*passed, *slow);
                if passed < probes {
                    return None;
                }
                let limit = self.settings.slow.as_ref();
                if limit.is_some_and(|limit| reaches(slow, passed, limit.share)) {
                    return Some(self.open(Cause::SlowRate, (slow, passed), now, draw));
                }
                let transition = self.start_afresh(Cause::ProbesPassed);
                transition.map(|closed| Transition {
                    calls: passed,
                    ..closed
                })
            }
        }
    }

    fn open(
        &mut self,
        cause: Cause,
        (failures, calls): (u32, u32),
        now: Instant,
        draw: f64,
    ) -> Transition {
        let from = self.standing();
        let length = open_time(&self.settings, self.opened, draw);
        self.opened = self.opened.saturating_add(1);
        self.era += 1;
        self.phase = Phase::Open { since: now, length };
        Transition {
            failures,
            calls,
            open_for: Some(length),
            ..moved(from, State::Open, cause)
        }
    }

    fn half_open(&mut self) -> Transition {
        self.era += 1;
        self.phase = Phase::HalfOpen {
            leases: Vec::new(),
            granted: 0,
            passed: 0,
            slow: 0,
        };
        moved(State::Open, State::HalfOpen, Cause::OpenElapsed)
    }

    fn start_afresh(&mut self, cause: Cause) -> Option<Transition> {
        let from = self.standing();
        self.era += 1;
        self.opened = 0;
        self.phase = closed(&self.settings);
        (from != State::Closed).then_some(moved(from, State::Closed, cause))
    }

    // With no probe at all it could never close.
    fn probes(&self) -> u32 {
        self.settings.probes.max(1)
    }
}

fn closed(settings: &Settings) -> Phase {
    Phase::Closed {
        counts: Window::new(settings.over),
        run: 0,
    }
}

// A clock that stepped back must not make it last longer than it was to.
fn left(since: &mut Instant, length: Duration, now: Instant) -> Option<Duration> {
    *since = (*since).min(now);
    let left = length.saturating_sub(now.saturating_duration_since(*since));
    (!left.is_zero()).then_some(left)
}

fn refusal(retry_after: Duration, by_hand: bool) -> Refusal {
    Refusal {
        retry_after,
        by_hand,
    }
}

fn moved(from: State, to: State, cause: Cause) -> Transition {
    Transition {
        from,
        to,
        cause,
        failures: 0,
        calls: 0,
        open_for: None,
    }
}
