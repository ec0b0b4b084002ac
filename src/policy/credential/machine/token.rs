//! When a token is renewed, how long it is sent, and how soon a failed attempt is repeated.
//!
//! | event | next attempt | sent until |
//! |---|---|---|
//! | a token came that lives for L | after 70% to 85% of L by chance, at least a second | L less a tenth of it, at most 10s less |
//! | no token came, n times in a row | after 1s doubled n - 1 times, at most a minute, from half of it to all of it by chance | as before |
//! | the upstream refused it | at once, if the last attempt is 5s old; else as before | as before |

use std::time::Duration;

use crate::kit::backoff::between;
use crate::kit::backoff::doubled;

/// How long a token is taken to live where its server does not say: RFC 6749 section 5.1 only recommends that it does.
pub const LIFETIME: Duration = Duration::from_secs(300);
/// Longer lives are cut to this: a clock that is off by more is no clock.
const LIFETIME_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// The least time between two attempts that succeed.
const LEAST: Duration = Duration::from_secs(1);
/// The least time between two attempts that refusals of an upstream cause: it may refuse for reasons of its own.
const NUDGE: Duration = Duration::from_secs(5);
/// Back-off of failed attempts.
const BASE: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(60);

/// What becomes of a token that has just come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// When to ask for the next one.
    pub renew_in: Duration,
    /// How long this one may be sent: it has to arrive before it ends.
    pub usable_for: Duration,
}

/// Plans a token that lives for `lifetime`. Chance spreads the renewals of a fleet that was started at once.
#[must_use]
pub fn plan(lifetime: Duration, draw: f64) -> Plan {
    let lifetime = lifetime.min(LIFETIME_MAX);
    let renew_in = between(lifetime.mul_f64(0.70), lifetime.mul_f64(0.85), draw);
    let margin = (lifetime / 10).min(Duration::from_secs(10));
    Plan {
        renew_in: renew_in.max(LEAST),
        usable_for: lifetime.saturating_sub(margin),
    }
}

/// The wait after so many failures in a row, at least one.
#[must_use]
pub fn again_in(failures: u32, draw: f64) -> Duration {
    let step = doubled(BASE, failures.saturating_sub(1), MOST);
    between(step / 2, step, draw)
}

/// Whether a refusal is reason to ask for a token although the present one has not ended.
#[must_use]
pub fn may_nudge(since_last: Duration) -> bool {
    since_last >= NUDGE
}
