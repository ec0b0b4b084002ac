//! A peak-sensitive moving average of latency.
//!
//! The average jumps to a worse sample at once and comes back slowly: a balancer must leave a bad endpoint after one
//! call, not after ten, and return with care.

use std::time::Duration;
use std::time::Instant;

/// How fast old samples fade: after this long a sample counts 37 % (1/e). Ten seconds, as the peers that use this
/// estimate; about the time in which a pause for garbage collection should be forgotten.
pub const DECAY: Duration = Duration::from_secs(10);

/// What an endpoint is taken to cost before its first answer: as slow as a call inside a region may reasonably be, so
/// that a new endpoint is tried soon but does not take all the traffic until it has proved itself.
pub const INITIAL: Duration = Duration::from_millis(30);

/// Peak EWMA of one endpoint's latency.
#[derive(Debug, Clone)]
pub struct PeakEwma {
    decay: Duration,
    seconds: f64,
    at: Instant,
}

impl PeakEwma {
    /// Starts at `initial` and forgets with the time constant `decay`.
    #[must_use]
    pub fn new(initial: Duration, decay: Duration, now: Instant) -> Self {
        Self {
            decay: decay.max(Duration::from_nanos(1)),
            seconds: initial.as_secs_f64(),
            at: now,
        }
    }

    /// Takes in the latency of a call that was answered.
    pub fn observe(&mut self, latency: Duration, now: Instant) {
        let sample = latency.as_secs_f64();
        self.seconds = if sample >= self.seconds {
            sample
        } else {
            let weight = self.weight(now);
            self.seconds * weight + sample * (1.0 - weight)
        };
        self.at = self.at.max(now);
    }

    /// Takes in a call that failed. It can only raise the estimate: an endpoint that refuses within a microsecond would
    /// otherwise look like the fastest and draw all the traffic into the hole.
    pub fn observe_failure(&mut self, latency: Duration, now: Instant) {
        self.seconds = self.seconds.max(latency.as_secs_f64());
        self.at = self.at.max(now);
    }

    /// The estimate at `now`, in seconds. It fades while nothing is observed, so that an endpoint that was slow once is
    /// tried again.
    #[must_use]
    pub fn seconds(&self, now: Instant) -> f64 {
        self.seconds * self.weight(now)
    }

    fn weight(&self, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.at);
        (-age.as_secs_f64() / self.decay.as_secs_f64()).exp()
    }
}
