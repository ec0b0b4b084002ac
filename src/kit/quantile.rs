//! A sketch of latencies that answers percentiles and forgets.
//!
//! Eight buckets an octave: a percentile is right to 6.25 % (half a bucket), whatever the spread, in a fixed two kilobytes.
//! Two halves take turns: what was seen is forgotten between one and two spans later. A decaying average cannot tell a
//! percentile, and a sorted sample either costs a sort or loses the tail.

use std::time::Duration;
use std::time::Instant;

/// Microseconds up to this are counted exactly.
const EXACT: u64 = 8;
/// 2^32 microseconds, 71 minutes, is the end of the last bucket; what is longer counts there.
const BUCKETS: usize = 240;
/// Fewer samples than this tell no percentile.
const MIN_SAMPLES: u32 = 50;
/// So many samples must lie beyond a percentile, or it is the tale of one of them.
const BEYOND: f64 = 2.5;

#[derive(Debug, Clone)]
struct Half {
    counts: [u32; BUCKETS],
    total: u32,
}

impl Half {
    const EMPTY: Self = Self {
        counts: [0; BUCKETS],
        total: 0,
    };
}

/// Latencies of the last one to two spans.
#[derive(Debug, Clone)]
pub struct Sketch {
    span: Duration,
    halves: [Half; 2],
    newest: usize,
    newest_began: Option<Instant>,
}

impl Sketch {
    /// An empty sketch that keeps what it saw for one to two `span`s (taken as at least 1ns).
    #[must_use]
    pub fn new(span: Duration) -> Self {
        Self {
            span: span.max(Duration::from_nanos(1)),
            halves: [Half::EMPTY, Half::EMPTY],
            newest: 0,
            newest_began: None,
        }
    }

    /// Takes in one latency. A count that would pass `u32::MAX` stays there.
    pub fn record(&mut self, latency: Duration, now: Instant) {
        self.advance(now);
        let half = &mut self.halves[self.newest];
        if half.total < u32::MAX {
            half.counts[bucket(latency)] += 1;
            half.total += 1;
        }
    }

    /// Samples that are still remembered at `now`.
    pub fn samples(&mut self, now: Instant) -> u64 {
        self.advance(now);
        self.halves.iter().map(|half| u64::from(half.total)).sum()
    }

    /// The latency that a share of `quantile` (0 to 1) of the samples stays at or below; `None` while there are too few to
    /// tell: 50, or more for a percentile further out (250 for p99).
    pub fn quantile(&mut self, quantile: f64, now: Instant) -> Option<Duration> {
        let total = self.samples(now);
        // Samples are counted, so there are few enough of them for an f64.
        let count = total as f64;
        if total < u64::from(MIN_SAMPLES) || count * (1.0 - quantile) < BEYOND - 1e-9 {
            return None;
        }
        let rank = (quantile * count).ceil().max(1.0);
        let mut seen = 0_u64;
        for place in 0..BUCKETS {
            seen += self
                .halves
                .iter()
                .map(|half| u64::from(half.counts[place]))
                .sum::<u64>();
            if seen as f64 >= rank {
                return Some(middle(place));
            }
        }
        None
    }

    /// A step back of the clock counts into the newest half: threads read the clock before they take the lock.
    fn advance(&mut self, now: Instant) {
        let Some(began) = self.newest_began else {
            self.newest_began = Some(now);
            return;
        };
        let age = now.saturating_duration_since(began);
        if age < self.span {
            return;
        }
        if age >= self.span * 2 {
            self.halves = [Half::EMPTY, Half::EMPTY];
            self.newest_began = Some(now);
            return;
        }
        self.newest = 1 - self.newest;
        self.halves[self.newest] = Half::EMPTY;
        self.newest_began = Some(began + self.span);
    }

    #[cfg(test)]
    pub(crate) fn check_invariants(&self) {
        for half in &self.halves {
            let sum: u64 = half.counts.iter().map(|count| u64::from(*count)).sum();
            assert_eq!(sum, u64::from(half.total), "the total left its buckets");
        }
        assert!(self.newest < 2);
    }
}

fn bucket(latency: Duration) -> usize {
    let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
    let micros = micros.min((1 << 32) - 1);
    if micros < EXACT {
        return micros as usize;
    }
    let octave = micros.ilog2();
    let eighth = (micros >> (octave - 3)) & 7;
    (octave as usize - 2) * 8 + eighth as usize
}

fn middle(bucket: usize) -> Duration {
    let place = bucket as u64;
    if place < EXACT {
        return Duration::from_micros(place);
    }
    let shift = place / 8 - 1;
    let (low, width) = ((8 + place % 8) << shift, 1 << shift);
    Duration::from_nanos(low * 1000 + width * 500)
}
