//! GCRA, the generic cell rate algorithm (ITU-T I.371 Annex A, virtual scheduling): a bucket of calls that fills again at
//! a rate, kept as one number, the time at which it will be full again (the theoretical arrival time).
//!
//! | the bucket | a call | the bucket then |
//! |---|---|---|
//! | is full: its time has come | passes | is full one step from now |
//! | has room for one more | passes | is full one step later |
//! | has none | is refused, and told when it has | as it was |
//!
//! In any time t no more than `burst` + t / `step` calls pass. Times are nanoseconds since a beginning of the caller's own.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A quota in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// From one call to the next at exactly the rate. Rounded up, so that the rate is never exceeded.
    step: u64,
    /// Calls that an idle bucket takes at once.
    burst: u64,
}

/// How a bucket stands after a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Calls that would pass now.
    pub left: u64,
    /// Until one more would.
    pub more_in: Duration,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It passes.
    Pass(Standing),
    /// It does not.
    Refuse(Standing),
}

impl Quota {
    /// `calls` in each `per`, and at most `burst` at once; both counts are at least 1.
    #[must_use]
    pub fn new(calls: u32, per: Duration, burst: u32) -> Self {
        let nanos = u64::try_from(per.as_nanos()).unwrap_or(u64::MAX);
        Self {
            step: nanos.div_ceil(u64::from(calls.max(1))).max(1),
            burst: u64::from(burst.max(1)),
        }
    }

    /// The size of a bucket.
    #[must_use]
    pub fn burst(&self) -> u64 {
        self.burst
    }

    /// From one call to the next at exactly the rate, in nanoseconds.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.step
    }

    /// From empty to full, in nanoseconds.
    #[must_use]
    pub fn refill(&self) -> u64 {
        self.step.saturating_mul(self.burst)
    }

    /// The bucket after one more call; `None` if it has no room for it.
    #[must_use]
    pub fn spend(&self, full_at: u64, now: u64) -> Option<u64> {
        let next = full_at.max(now).saturating_add(self.step);
        (next - now <= self.refill()).then_some(next)
    }

    /// How a bucket stands.
    #[must_use]
    pub fn standing(&self, full_at: u64, now: u64) -> Standing {
        let used = full_at.saturating_sub(now);
        let left = self.refill().saturating_sub(used) / self.step;
        let at_next = (self.burst - left).saturating_sub(1) * self.step;
        Standing {
            left,
            more_in: Duration::from_nanos(used.saturating_sub(at_next)),
        }
    }

    /// One of `parts` equal parts of it: as many times slower, and a bucket as many times smaller, but never without room for
    /// one call.
    #[must_use]
    pub fn part(&self, parts: u64) -> Self {
        let parts = parts.max(1);
        Self {
            step: self.step.saturating_mul(parts),
            burst: (self.burst / parts).max(1),
        }
    }

    /// A bucket of which `calls` have just been used.
    #[must_use]
    pub fn used(&self, calls: u64, now: u64) -> u64 {
        now.saturating_add(self.step.saturating_mul(calls.min(self.burst)))
    }

    /// A bucket of `old` under these settings: what was used stays used, in calls, so that no reload is worth a fresh burst.
    #[must_use]
    pub fn carry(&self, old: &Self, full_at: u64, now: u64) -> u64 {
        let used = u128::from(full_at.saturating_sub(now)) * u128::from(self.step);
        let used = used.div_ceil(u128::from(old.step));
        let used = u64::try_from(used).unwrap_or(u64::MAX).min(self.refill());
        now.saturating_add(used)
    }
}

/// One bucket, shared by all workers.
#[derive(Debug, Default)]
pub struct Bucket(AtomicU64);

impl Bucket {
    /// A bucket that is full again at `full_at`; 0 is full.
    #[must_use]
    pub fn new(full_at: u64) -> Self {
        Self(AtomicU64::new(full_at))
    }

    /// When it is full again.
    #[must_use]
    pub fn full_at(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Judges a call. Nothing else is guarded by the number, so its order among other memory does not matter; and as it
    /// only grows, a caller whose `now` is a little old is judged a little more strictly.
    pub fn take(&self, quota: &Quota, now: u64) -> Verdict {
        let mut full_at = self.full_at();
        loop {
            let Some(next) = quota.spend(full_at, now) else {
                return Verdict::Refuse(quota.standing(full_at, now));
            };
            let swapped =
                self.0
                    .compare_exchange_weak(full_at, next, Ordering::Relaxed, Ordering::Relaxed);
            match swapped {
                Ok(_) => return Verdict::Pass(quota.standing(next, now)),
                Err(seen) => full_at = seen,
            }
        }
    }
}
