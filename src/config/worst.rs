//! The worst that can happen to one call of a route.

use std::time::Duration;

use super::Route;
use crate::policy::hedge::config as hedge;
use crate::policy::retry::config as retry;

/// Bounds that hold for every call of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorstCase {
    /// Tries at most, the first and those of further copies included.
    pub tries: u32,
    /// Time to the response head at most: the deadline, or what all tries and waits take if that is less.
    pub latency: Duration,
    /// What all tries and waits would take if the deadline did not cut them; `None` if a try has no time-out of its own, or
    /// it depends on measurement when a copy is sent.
    pub uncut: Option<Duration>,
}

/// Computes the bounds of a route.
#[must_use]
pub fn worst_case(route: &Route) -> WorstCase {
    // In shadow mode the first outcome is the answer.
    let retry = route.retry.as_ref().filter(|retry| retry.mode.enforces());
    let tries = retry.map_or(1, |retry| retry.max.saturating_add(1));
    let uncut = route.deadline.per_try.map(|per_try| {
        let waits = retry.map_or(Duration::ZERO, |retry| waits(&retry.backoff, retry.max));
        per_try.saturating_mul(tries).saturating_add(waits)
    });
    let total = route.deadline.total;
    // Each copy is retried by itself.
    let hedge = route.hedge.as_ref().filter(|hedge| hedge.mode.enforces());
    let uncut = match hedge.map(|hedge| (hedge.after, hedge.max)) {
        // The last copy may be the last to fail.
        Some((hedge::After::Fixed(after), max)) => {
            uncut.map(|uncut| uncut.saturating_add(after.saturating_mul(max)))
        }
        // When it is sent is not known before there are calls.
        Some((hedge::After::Percentile(_), _)) => None,
        None => uncut,
    };
    WorstCase {
        tries: tries.saturating_mul(copies(route)),
        latency: uncut.map_or(total, |uncut| uncut.min(total)),
        uncut,
    }
}

/// Copies of one call at most, the first included.
pub(super) fn copies(route: &Route) -> u32 {
    let hedge = route.hedge.as_ref().filter(|hedge| hedge.mode.enforces());
    hedge.map_or(1, |hedge| hedge.max.saturating_add(1))
}

/// The longest that so many waits can take together. `Retry-After` may ask for more and is capped by the deadline only.
pub(super) fn waits(backoff: &retry::BackoffSettings, retries: u32) -> Duration {
    let step = |nth: u32| match backoff.jitter {
        // Each wait may be three times the one before.
        retry::Jitter::Decorrelated => backoff.base.saturating_mul(3_u32.saturating_pow(nth + 1)),
        _ => backoff.base.saturating_mul(2_u32.saturating_pow(nth)),
    };
    (0..retries)
        .map(|nth| step(nth).min(backoff.max))
        .fold(Duration::ZERO, Duration::saturating_add)
}
