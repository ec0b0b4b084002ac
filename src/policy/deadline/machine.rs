//! Deadline arithmetic: how much of a call's time is left, and how much of it the next try may have.
//!
//! | given | a try may take |
//! |---|---|
//! | nothing remains | nothing |
//! | `per_try` is set | `per_try`, at most what remains |
//! | the last try | all that remains |
//! | several tries left | an equal share of what remains, at least 100ms, at most what remains |
//!
//! The deadline runs from the arrival of the request head, so waiting for a connection or a back-off counts.
//!
//! A caller that says how long it still waits, and is trusted, can only shorten it:
//!
//! | the caller waits | the call has |
//! |---|---|
//! | it did not say | `total` |
//! | at least `total` | `total` |
//! | less | what the caller waits |
//!
//! | given | a call or try |
//! |---|---|
//! | less than [`LEAST_TRY`] remains | is not begun |
//! | the caller left it less than half of what policy gives | is begun, and being late is nobody's failure |
//! | otherwise | is begun, and being late is the upstream's failure |

use std::time::Duration;
use std::time::Instant;

use super::config::Settings;
use crate::kit::backoff::LEAST_TRY;

/// The least time that a computed share gives a try. Below this a try fails because it is short, not because the
/// upstream is slow, and every retry only adds load.
pub const TRY_FLOOR: Duration = Duration::from_millis(100);

/// How long the next try may take to its response head. `tries_left` counts the try about to start (so 1 is the last one).
/// Never more than `remaining`.
#[must_use]
pub fn try_limit(settings: &Settings, remaining: Duration, tries_left: u32) -> Duration {
    settings
        .per_try
        .unwrap_or_else(|| (remaining / tries_left.max(1)).max(TRY_FLOOR))
        .min(remaining)
}

/// How long a call may take, where its caller still waits for `caller`.
#[must_use]
pub fn total(settings: &Settings, caller: Option<Duration>) -> Duration {
    caller.map_or(settings.total, |left| left.min(settings.total))
}

/// Whether there is no time to begin anything.
#[must_use]
pub fn is_hopeless(remaining: Duration) -> bool {
    remaining < LEAST_TRY
}

/// Whether a try that ends after `limit` says nothing about the upstream, because its caller was in a hurry: policy alone
/// would have given it more than twice as long. `own` is what would remain by policy.
///
/// Not any shortening counts as a hurry: in a chain each hop's deadline is a little shorter than that of the hop before,
/// and a breaker behind such a caller would never see an upstream that hangs. And half is no lever for an attacker, who
/// would need an upstream that takes half of its timeout already.
#[must_use]
pub fn is_hurried(settings: &Settings, limit: Duration, own: Duration, tries_left: u32) -> bool {
    limit < try_limit(settings, own, tries_left) / 2
}

/// What is known of the request body when the timer of a try fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upload {
    /// There is none.
    None,
    /// The client sent the last of it at `at`.
    Done {
        /// When.
        at: Instant,
    },
    /// The client is still sending.
    Running {
        /// When the last part came.
        progress: Instant,
        /// True if the upstream waits for the client, false if the client waits for the upstream.
        starved: bool,
    },
}

/// What a fired timer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elapsed {
    /// Nothing yet: look again at `until`.
    Wait {
        /// When.
        until: Instant,
    },
    /// The client has been silent for longer than `idle`.
    ClientStalled,
    /// The upstream is late.
    Late,
}

/// Judges a try whose time, `limit`, seems to be up.
///
/// The time of a try counts from the moment the request was sent in full, as Envoy's does: a long upload is no fault of the
/// upstream. While the upstream waits for the client, the client has `idle` between two parts.
#[must_use]
pub fn on_elapsed(settings: &Settings, upload: Upload, limit: Duration, now: Instant) -> Elapsed {
    let (since, allowed, late) = match upload {
        Upload::None => return Elapsed::Late,
        Upload::Done { at } => (at, limit, Elapsed::Late),
        Upload::Running {
            progress,
            starved: false,
        } => (progress, limit, Elapsed::Late),
        Upload::Running {
            progress,
            starved: true,
        } => (progress, settings.idle, Elapsed::ClientStalled),
    };
    let left = allowed.saturating_sub(now.saturating_duration_since(since));
    if left.is_zero() {
        return late;
    }
    // Never asleep for longer than `limit`: the body may end at any moment, and the limit then counts from there.
    Elapsed::Wait {
        until: now + left.min(limit.max(TRY_FLOOR)),
    }
}
