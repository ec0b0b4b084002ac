//! The only reader of time.
//!
//! Everything else takes `now` as an argument or asks here, so that tests can stop the clock with `tokio::time::pause`.

use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

/// Monotonic time. Under a paused tokio clock it is the paused time.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Wall-clock time since 1970-01-01T00:00:00Z; zero if the system clock stands before it.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
pub fn unix() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

/// Blocks this thread for so long. For commands that have nothing else to do; never on a worker.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place, and no runtime is on the thread"
)]
pub fn block(time: Duration) {
    std::thread::sleep(time);
}
