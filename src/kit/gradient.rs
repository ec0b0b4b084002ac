//! A concurrency limit found from latency.
//!
//! In the spirit of Netflix's Gradient2 and of TCP Vegas: while calls take about as long as they do on an unloaded
//! upstream the limit rises by half of its square root a round; when they take longer, they queue over there, and the limit falls by
//! the ratio. What those two get wrong is how they know the unloaded latency. A minimum is biased and goes stale; a long
//! average learns the queue as normal and drifts to the largest limit. So here the base is learnt only where there is no
//! queue to learn:
//!
//! | a round that | the base | the limit |
//! |---|---|---|
//! | never had half of the limit in flight | drifts to it | stays: the traffic was the limit, not this |
//! | ran at half of the limit that the base was last measured at, or at `min` | moves half-way to it | as below |
//! | is a dip | moves half-way to it | comes back |
//! | is any other | falls to it slowly if it was faster | `limit * clamp(TOLERANCE * base / latency)` plus half of its square root |
//! | had drops (timeouts, 503) in it | | falls by half of their share besides |
//!
//! A **dip** is one round at half of the limit, after [`DIP_EVERY`] busy rounds: an upstream that is kept at one and a half
//! times what it can do shows its true latency at half of that. It never goes to a fixed small number, as Envoy's minRTT
//! window does (three calls, for fifty samples: envoyproxy/envoy#38338, #46532), it costs about one hundredth of the capacity
//! of a saturated upstream, and nothing at all otherwise, for the first row then does its work.

use std::time::Duration;
use std::time::Instant;

/// A latency up to this much above the base is taken for noise, not for a queue.
pub const TOLERANCE: f64 = 1.5;

/// The limit at the start: enough for the traffic of a quiet service, and a quarter more with every round that shows no queue.
pub const START: u32 = 20;

/// What a round of nothing but drops leaves of the limit; one with fewer leaves more.
pub const CUT: f64 = 0.5;

/// Busy rounds between two dips.
pub const DIP_EVERY: u32 = 40;

/// Fewer calls than this are no round: their mean would be noise.
const ROUND_MIN: u32 = 10;

/// A dip that ends by time has measured something with so many answers.
const DIP_LEAST: u32 = 4;

/// How much of a proposed fall is carried out at once.
const SMOOTHING: f64 = 0.5;

/// The share of the limit that a dip leaves.
const DIP_TO: f64 = 0.5;

/// How much of its square root the limit may rise in a round. It is also the queue over there that is put up with: more,
/// and an upstream that does four calls at once would be held at sixteen.
const ROOM: f64 = 0.5;

/// How much of itself the limit rises in a round, until the first sign of a queue.
const STARTING: f64 = 0.25;

/// A round that takes longer than this is closed with what it has: with calls of seconds, ten of them are a long time.
const ROUND_LONGEST: Duration = Duration::from_secs(2);

/// A limit on concurrency that follows the latency of the calls under it.
#[derive(Debug, Clone)]
pub struct Gradient {
    min: f64,
    max: f64,
    limit: f64,
    /// The latency without a queue, in seconds.
    base: Option<f64>,
    /// The mean latency of the last round, in seconds.
    latest: Option<f64>,
    /// The limit at which `base` was last measured.
    anchor: f64,
    round: Round,
    busy_rounds: u32,
    dip: Dip,
    /// No round has shown a queue or a drop yet.
    is_starting: bool,
}

#[derive(Debug, Clone, Copy)]
struct Round {
    /// Calls admitted in it carry this number; others say nothing about it.
    mark: u32,
    sum: f64,
    answers: u32,
    drops: u32,
    peak: u32,
    began: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Dip {
    No,
    /// Waits for what is in flight above the dipped limit, which may be streams that stay for hours.
    Draining {
        until: Instant,
    },
    /// Waits for the answers of a round, which may never come.
    Measuring {
        until: Instant,
    },
}

impl Round {
    fn new(mark: u32) -> Self {
        Self {
            mark,
            sum: 0.0,
            answers: 0,
            drops: 0,
            peak: 0,
            began: None,
        }
    }
}

impl Gradient {
    /// Knows no latency yet. `min` is at least 1 and `max` at least `min`; other values are taken as the nearest.
    #[must_use]
    pub fn new(min: u32, max: u32) -> Self {
        let min = f64::from(min.max(1));
        let max = f64::from(max).max(min);
        let limit = f64::from(START).clamp(min, max);
        Self {
            min,
            max,
            limit,
            base: None,
            latest: None,
            anchor: limit,
            round: Round::new(0),
            busy_rounds: 0,
            dip: Dip::No,
            is_starting: true,
        }
    }

    /// Other bounds, from now on; what was learnt stays.
    pub fn set_bounds(&mut self, min: u32, max: u32) {
        self.min = f64::from(min.max(1));
        self.max = f64::from(max).max(self.min);
        self.limit = self.limit.clamp(self.min, self.max);
        self.anchor = self.anchor.clamp(self.min, self.max);
    }

    /// Calls that may be in flight now. Never zero.
    #[must_use]
    pub fn limit(&self) -> u32 {
        let limit = match self.dip {
            Dip::No => self.limit,
            Dip::Draining { .. } | Dip::Measuring { .. } => self.dipped(),
        };
        // Bounded by `max`, which came from a u32.
        limit as u32
    }

    /// The latency without a queue, as far as it is known.
    #[must_use]
    pub fn base(&self) -> Option<Duration> {
        self.base.map(Duration::from_secs_f64)
    }

    /// The number that a call admitted now is to carry until its end.
    #[must_use]
    pub fn mark(&self) -> u32 {
        self.round.mark
    }

    /// Time has passed, with `in_flight` calls under way. Call it before asking for the limit: a dip ends by time too.
    pub fn pass(&mut self, in_flight: u32, now: Instant) {
        match self.dip {
            Dip::Draining { until } if f64::from(in_flight) <= self.dipped() || now >= until => {
                let until = now + self.patience();
                self.dip = Dip::Measuring { until };
                self.next_round();
            }
            Dip::Measuring { until } if now >= until => {
                // A limit of two or three has not brought a whole round by then, and what it brought is news all the same.
                let round = self.round;
                if round.answers >= DIP_LEAST {
                    self.learn(round.sum / f64::from(round.answers), 0.5);
                }
                self.dip = Dip::No;
                self.busy_rounds = 0;
                self.next_round();
            }
            _ => {}
        }
    }

    /// A call was answered after `latency`, with `in_flight` calls under way, itself included.
    pub fn answered(&mut self, mark: u32, latency: Duration, in_flight: u32, now: Instant) {
        self.count(mark, Some(latency), in_flight, now);
    }

    /// A call was given up by whoever made it, after `age`. It says that an answer takes at least so long, which is news if
    /// that is longer than usual: a client that loses patience must not hide from us why.
    pub fn abandoned(&mut self, mark: u32, age: Duration, in_flight: u32, now: Instant) {
        let usual = self.base.unwrap_or(f64::INFINITY) * 2.0;
        if age.as_secs_f64() > usual {
            self.answered(mark, age, in_flight, now);
        } else {
            self.pass(in_flight, now);
        }
    }

    /// A call came to nothing in a way that tells of overload: out of time, or refused as too much.
    pub fn dropped(&mut self, mark: u32, in_flight: u32, now: Instant) {
        self.count(mark, None, in_flight, now);
    }

    fn count(&mut self, mark: u32, latency: Option<Duration>, in_flight: u32, now: Instant) {
        self.pass(in_flight, now);
        if mark != self.round.mark || matches!(self.dip, Dip::Draining { .. }) {
            return;
        }
        let enough = ROUND_MIN.max(self.limit());
        let round = &mut self.round;
        let began = *round.began.get_or_insert(now);
        round.peak = round.peak.max(in_flight);
        match latency {
            Some(latency) => {
                round.sum += latency.as_secs_f64().max(1e-6);
                round.answers += 1;
            }
            None => round.drops += 1,
        }
        let is_long = now.saturating_duration_since(began) >= ROUND_LONGEST;
        if round.answers + round.drops >= enough || is_long {
            self.close(now);
        }
    }

    fn dipped(&self) -> f64 {
        (self.limit * DIP_TO).clamp(self.min, self.max)
    }

    /// How long each half of a dip may last. By what answers take now: where the base is far too low, which is what a dip is to
    /// find out, a time made of the base would end before the first answer.
    fn patience(&self) -> Duration {
        let usual = self.latest.or(self.base).unwrap_or(0.1);
        Duration::from_secs_f64((4.0 * usual).clamp(0.02, 2.0))
    }

    fn next_round(&mut self) {
        self.round = Round::new(self.round.mark.wrapping_add(1));
    }

    fn close(&mut self, now: Instant) {
        let round = self.round;
        let is_dip = self.dip != Dip::No;
        self.dip = Dip::No;
        self.next_round();
        let share = f64::from(round.drops) / f64::from(round.answers + round.drops);
        self.limit = (self.limit * (1.0 - share * (1.0 - CUT))).clamp(self.min, self.max);
        if round.answers * 2 < ROUND_MIN && round.drops > 0 {
            return;
        }
        let latency = round.sum / f64::from(round.answers);
        let base = *self.base.get_or_insert(latency);
        self.latest = Some(latency);
        if is_dip {
            self.learn(latency, 0.5);
            return;
        }
        if f64::from(round.peak) * 2.0 < self.limit {
            self.learn(latency, 0.2);
            return;
        }
        if self.limit <= (self.anchor * DIP_TO).max(self.min) {
            self.learn(latency, 0.5);
        } else if latency < base {
            self.base = Some(base + 0.1 * (latency - base));
        }
        self.steer(latency, share);
        self.busy_rounds += 1;
        if self.busy_rounds >= DIP_EVERY && self.dipped() < self.limit {
            let until = now + self.patience();
            self.dip = Dip::Draining { until };
        }
    }

    fn learn(&mut self, latency: f64, weight: f64) {
        let base = self.base.unwrap_or(latency);
        self.base = Some(base + weight * (latency - base));
        self.anchor = self.limit;
        self.busy_rounds = 0;
    }

    fn steer(&mut self, latency: f64, drops: f64) {
        let base = self.base.unwrap_or(latency);
        let gradient = (TOLERANCE * base / latency).clamp(0.5, 1.0);
        self.is_starting &= gradient >= 1.0 && drops == 0.0;
        let room = if self.is_starting {
            self.limit * STARTING
        } else {
            (self.limit.sqrt() * ROOM).max(1.0) * (1.0 - drops)
        };
        let proposed = self.limit * gradient + room;
        let step = proposed - self.limit;
        let smoothed = if step < 0.0 { step * SMOOTHING } else { step };
        self.limit = (self.limit + smoothed).clamp(self.min, self.max);
    }

    #[cfg(test)]
    pub(crate) fn check_invariants(&self) {
        assert!(self.limit.is_finite(), "{self:?}");
        assert!(
            (self.min..=self.max).contains(&self.limit),
            "{} outside of {}..{}",
            self.limit,
            self.min,
            self.max
        );
        let limit = f64::from(self.limit());
        assert!(limit >= 1.0 && limit <= self.max, "{limit}");
        assert!(self.base.is_none_or(|base| base.is_finite() && base > 0.0));
    }
}
