//! When the numbers open a circuit, and for how long.

use std::time::Duration;

use super::Cause;
use crate::kit::backoff::doubled;
use crate::policy::breaker::config::Settings;

pub(super) fn tripped(
    settings: &Settings,
    min_calls: u32,
    totals: [u32; 3],
    run: u32,
) -> Option<(Cause, u32, u32)> {
    let [calls, failures, slow] = totals;
    let enough = calls >= min_calls.max(1);
    if enough
        && settings
            .failures
            .is_some_and(|share| reaches(failures, calls, share))
    {
        return Some((Cause::FailureRate, failures, calls));
    }
    let limit = settings.slow.as_ref();
    if enough && limit.is_some_and(|limit| reaches(slow, calls, limit.share)) {
        return Some((Cause::SlowRate, slow, calls));
    }
    let consecutive = settings.consecutive.is_some_and(|n| run > 0 && run >= n);
    consecutive.then_some((Cause::Consecutive, run, run))
}

// A share of zero would open the circuit on a call that did nothing wrong.
pub(super) fn reaches(part: u32, whole: u32, share: f64) -> bool {
    part > 0 && f64::from(part) >= share * f64::from(whole) - 1e-9
}

/// How long the circuit is open after having been opened `before` times since it was last closed.
#[must_use]
pub fn open_time(settings: &Settings, before: u32, draw: f64) -> Duration {
    let nominal = doubled(settings.open, before, settings.open_max);
    let factor = 0.5
        + if draw.is_nan() {
            0.5
        } else {
            draw.clamp(0.0, 1.0)
        };
    // Never zero: a circuit that opens for no time would be half-open at once.
    nominal.mul_f64(factor).max(Duration::from_millis(1))
}
