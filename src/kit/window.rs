//! A sliding window of counts, kept in buckets.
//!
//! Ten buckets: what leaves the window leaves in steps of a tenth, so it always covers between nine tenths and all of its
//! length. Exact windows keep a record for each call, and a moving average never forgets an outage fully; buckets cost a
//! fixed hundred bytes and are right to a tenth.

use std::time::Duration;
use std::time::Instant;

/// Buckets in every window.
pub const BUCKETS: usize = 10;

/// `N` counters summed over the last stretch of time.
///
/// Time may do what it likes: a step back by less than the window counts into the newest bucket (threads read the clock
/// before they take the lock), a longer one starts the window afresh rather than freezing the old counts until the clock
/// catches up, and an idle stretch of any length costs the same as a short one.
#[derive(Debug, Clone)]
pub struct Window<const N: usize> {
    over: Duration,
    step: Duration,
    buckets: [[u32; N]; BUCKETS],
    newest: usize,
    newest_began: Option<Instant>,
    sums: [u32; N],
}

impl<const N: usize> Window<N> {
    /// An empty window over `over`, which is taken as at least 10ns so that a bucket has a length.
    #[must_use]
    pub fn new(over: Duration) -> Self {
        let over = over.max(Duration::from_nanos(BUCKETS as u64));
        Self {
            over,
            step: over / BUCKETS as u32,
            buckets: [[0; N]; BUCKETS],
            newest: 0,
            newest_began: None,
            sums: [0; N],
        }
    }

    /// Adds to the counters at `now`. A counter that would pass `u32::MAX` stays there.
    pub fn add(&mut self, now: Instant, counts: [u32; N]) {
        self.advance(now);
        for (i, count) in counts.into_iter().enumerate() {
            let count = count.min(u32::MAX - self.sums[i]);
            self.buckets[self.newest][i] += count;
            self.sums[i] += count;
        }
    }

    /// The counters as they stand at `now`, after forgetting what is too old.
    pub fn totals(&mut self, now: Instant) -> [u32; N] {
        self.advance(now);
        self.sums
    }

    /// The same without forgetting, for a reader that holds no exclusive access.
    #[must_use]
    pub fn peek(&self, now: Instant) -> [u32; N] {
        self.clone().totals(now)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.buckets = [[0; N]; BUCKETS];
        self.sums = [0; N];
        self.newest_began = None;
    }

    fn advance(&mut self, now: Instant) {
        let Some(began) = self.newest_began else {
            self.newest_began = Some(now);
            return;
        };
        // Comparing is much cheaper than subtracting, and nearly every call comes here within a step of the last one.
        if now < began {
            if began.duration_since(now) >= self.over {
                self.clear();
                self.newest_began = Some(now);
            }
            return;
        }
        let age = now.duration_since(began);
        if age < self.step {
            return;
        }
        let steps = age.as_nanos() / self.step.as_nanos();
        if steps >= BUCKETS as u128 {
            self.clear();
            self.newest_began = Some(now);
            return;
        }
        for _ in 0..steps {
            self.newest = (self.newest + 1) % BUCKETS;
            for (sum, gone) in self.sums.iter_mut().zip(self.buckets[self.newest]) {
                *sum -= gone;
            }
            self.buckets[self.newest] = [0; N];
        }
        self.newest_began = Some(began + self.step * steps as u32);
    }

    #[cfg(test)]
    pub(crate) fn check_invariants(&self) {
        for i in 0..N {
            let sum: u64 = self.buckets.iter().map(|bucket| u64::from(bucket[i])).sum();
            assert_eq!(
                sum,
                u64::from(self.sums[i]),
                "the running sum {i} left its buckets"
            );
        }
        assert!(self.newest < BUCKETS);
    }
}
