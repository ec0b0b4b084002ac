//! When a second copy of a call is sent, and which copy's outcome is the call's.
//!
//! A copy has been given its time, `after`. The rows are asked from the top; the first that applies decides.
//!
//! | asked | applies if | decision |
//! |---|---|---|
//! | sent? | the client is still sending the body, or finished less than `after` ago | wait: look again |
//! | replayable? | the body was larger than what is kept of it | skip: `body_too_large` |
//! | elsewhere? | no endpoint serves that has not been tried by this call | skip: `no_other_endpoint` |
//! | in time? | less is left of the deadline than the half of the calls takes | skip: `no_time` |
//! | affordable? | the budget has nothing left | skip: `budget` |
//! | | otherwise | send a copy |
//!
//! While too few calls were measured for a percentile (`warming`), no call is given a time at all.
//!
//! A copy has ended:
//!
//! | how | others under way | decision |
//! |---|---|---|
//! | with a usable answer | any | it is the call's; the others are cut |
//! | with a failure | some | wait for them |
//! | with an answer that is a failure | none | it is the call's |
//! | with a fault | none | it is the call's, unless an answer came before: the upstream says more than we can |

use std::time::Duration;
use std::time::Instant;

use super::config::After;
use super::config::Settings;
use crate::kit::budget::Budget;
use crate::kit::quantile::Sketch;

/// How long a latency is remembered, at least; at most twice as long. Long enough for a percentile of a quiet route, short
/// enough to follow a deployment.
const REMEMBER: Duration = Duration::from_secs(30);
/// The percentile is worked out anew after so many samples or so much time, whichever comes first.
const REFRESH_SAMPLES: u32 = 256;
const REFRESH_EVERY: Duration = Duration::from_millis(100);
/// The least a percentile counts for: timers are no finer, and an upstream that answers within a millisecond has no tail
/// that a copy could cut.
const LEAST: Duration = Duration::from_millis(1);

/// What is known of the request body when a copy has been given its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upload {
    /// There is none.
    None,
    /// The client sent the last of it at `at`.
    Done {
        /// When.
        at: Instant,
    },
    /// The client is still sending: the call is not slow, it is not even asked yet.
    Running,
}

/// A call one of whose copies has been given its time.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// How far its body is.
    pub upload: Upload,
    /// Whether it can be sent again from the first byte.
    pub replayable: bool,
    /// Whether an endpoint serves that it has not been tried at.
    pub elsewhere: bool,
    /// What is left of its deadline; `None` if it has none.
    pub remaining: Option<Duration>,
}

/// What to do then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Look again.
    Wait {
        /// When.
        until: Instant,
    },
    /// Leave it at the copies there are.
    Skip(Skip),
    /// Send one more. The budget has paid for it.
    Send,
}

/// Why a slow call was not sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Skip {
    /// Too few calls were measured to tell which are slow.
    Warming,
    /// Its body is not kept.
    BodyTooLarge,
    /// A copy could only go where one is already.
    NoOtherEndpoint,
    /// The deadline would end the copy too.
    NoTime,
    /// The share is used up.
    Budget,
}

impl Skip {
    /// The label value.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Skip::Warming => "warming",
            Skip::BodyTooLarge => "body_too_large",
            Skip::NoOtherEndpoint => "no_other_endpoint",
            Skip::NoTime => "no_time",
            Skip::Budget => "budget",
        }
    }
}

/// The latency of one route, and what is left of its budget.
#[derive(Debug)]
pub struct Machine {
    after: After,
    max: u32,
    budget: Budget,
    latencies: Sketch,
    unseen: u32,
    refreshed: Option<Instant>,
    delay: Option<Duration>,
    typical: Option<Duration>,
}

impl Machine {
    /// Knows no latency and has seen no call.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self {
            after: settings.after,
            max: settings.max,
            budget: Budget::new(&settings.budget),
            latencies: Sketch::new(REMEMBER),
            unseen: 0,
            refreshed: None,
            delay: match settings.after {
                After::Fixed(time) => Some(time),
                After::Percentile(_) => None,
            },
            typical: None,
        }
    }

    /// A call that may be sent twice begins. How long its first copy is given; `None` while that is not known.
    pub fn begin(&mut self, now: Instant) -> Option<Duration> {
        self.budget.deposit(now);
        self.refresh_if_due(now);
        self.delay
    }

    /// Whether one more copy may follow the `sent` ones, the first not counted.
    #[must_use]
    pub fn allows(&self, sent: u32) -> bool {
        sent < self.max
    }

    /// A copy has been given `delay` and is not answered: the first table.
    pub fn judge(&mut self, facts: &Facts, delay: Duration, now: Instant) -> Decision {
        match facts.upload {
            Upload::Running => return Decision::Wait { until: now + delay },
            Upload::Done { at } if at + delay > now => {
                return Decision::Wait { until: at + delay };
            }
            Upload::Done { .. } | Upload::None => {}
        }
        if !facts.replayable {
            return Decision::Skip(Skip::BodyTooLarge);
        }
        if !facts.elsewhere {
            return Decision::Skip(Skip::NoOtherEndpoint);
        }
        let useful = self.typical.unwrap_or(LEAST);
        if facts.remaining.is_some_and(|left| left < useful) {
            return Decision::Skip(Skip::NoTime);
        }
        if !self.budget.withdraw(now) {
            return Decision::Skip(Skip::Budget);
        }
        Decision::Send
    }

    /// A first copy got a usable answer after `took`.
    pub fn observe(&mut self, took: Duration, now: Instant) {
        self.latencies.record(took, now);
        self.unseen += 1;
        self.refresh_if_due(now);
    }

    /// A first copy was given up on after `waited`: because another won, because its time was up, or because the client
    /// left. It would have taken longer, and how much longer matters not to a percentile below; one that was given up on
    /// early tells nothing.
    pub fn observe_at_least(&mut self, waited: Duration, now: Instant) {
        if self.delay.is_some_and(|delay| waited >= delay) {
            self.observe(waited, now);
        }
    }

    /// How long a first copy is given now; `None` while that is not known.
    pub fn delay(&mut self, now: Instant) -> Option<Duration> {
        self.refresh_if_due(now);
        self.delay
    }

    /// Latencies that are remembered.
    pub fn samples(&mut self, now: Instant) -> u64 {
        self.latencies.samples(now)
    }

    /// Copies that the budget would allow now.
    #[must_use]
    pub fn budget_left(&self, now: Instant) -> f64 {
        self.budget.balance(now)
    }

    fn refresh_if_due(&mut self, now: Instant) {
        let is_due = self.unseen >= REFRESH_SAMPLES
            || self
                .refreshed
                .is_none_or(|at| now.saturating_duration_since(at) >= REFRESH_EVERY);
        if !is_due {
            return;
        }
        self.unseen = 0;
        self.refreshed = Some(now);
        self.typical = self.latencies.quantile(0.5, now);
        if let After::Percentile(share) = self.after {
            let measured = self.latencies.quantile(share, now);
            self.delay = measured.map(|latency| latency.max(LEAST));
        }
    }

    #[cfg(test)]
    pub(super) fn check_invariants(&mut self, now: Instant) {
        self.latencies.check_invariants();
        self.budget.check_invariants(now);
        assert!(self.unseen <= REFRESH_SAMPLES);
        assert!(self.delay.is_none_or(|delay| delay >= LEAST));
    }
}

/// How a copy ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With an answer that serves.
    Usable,
    /// With an answer that is a failure.
    Failed,
    /// Without an answer.
    Fault,
}

/// What becomes of its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It is the call's.
    Give,
    /// The one kept before is the call's.
    GiveKept,
    /// It is kept, in place of what was kept before, while the others are under way.
    Keep,
    /// It is let go, while the others are under way.
    Drop,
}

/// What a copy's end means where so many others are `under_way` and one that ended so was `kept`: the second table.
#[must_use]
pub fn settle(ended: Ended, under_way: usize, kept: Option<Ended>) -> Next {
    let says_less = ended == Ended::Fault && kept == Some(Ended::Failed);
    match (ended, under_way) {
        (Ended::Usable, _) => Next::Give,
        (_, 0) if says_less => Next::GiveKept,
        (_, 0) => Next::Give,
        _ if says_less => Next::Drop,
        _ => Next::Keep,
    }
}
