//! A peak-sensitive moving average of latency.
//!
//! The average jumps to a worse sample at once and comes back slowly: a balancer must leave a bad endpoint after one
//! call, not after ten, and return with care.

use std::time::Duration;
use std::time::Instant;

/// How fast old samples fade: after this long a sample counts 37 % (1/e). Ten seconds, as the peers that use this
/// estimate; about the time in which a pause for garbage collection should be forgotten.
pub const DECAY: Duration = Duration::from_secs(10);

/// What an endpoint is taken to take once it has failed and was never known to answer: as slow as a call inside a region
/// may reasonably be. A refusal within a microsecond must not make it the fastest of all.
pub const UNPROVED: Duration = Duration::from_millis(30);

/// Peak EWMA of one endpoint's latency.
#[derive(Debug, Clone)]
pub struct PeakEwma {
    decay: Duration,
    seconds: f64,
    at: Instant,
}

impl PeakEwma {
    /// Knows nothing yet, which reads as zero, and will forget with the time constant `decay`.
    #[must_use]
    pub fn new(decay: Duration, now: Instant) -> Self {
        Self {
            decay: decay.max(Duration::from_nanos(1)),
            seconds: 0.0,
            at: now,
        }
    }

    /// Takes in the latency of a call that was answered.
    pub fn observe(&mut self, latency: Duration, now: Instant) {
        // Zero means that nothing is known.
        let sample = latency.as_secs_f64().max(1e-9);
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
        let known = if self.seconds == 0.0 {
            UNPROVED.as_secs_f64()
        } else {
            self.seconds
        };
        self.seconds = known.max(latency.as_secs_f64());
        self.at = self.at.max(now);
    }

    /// The estimate at `now`, in seconds; exactly zero if nothing was observed. It fades while nothing is observed, so that an endpoint that was slow once is
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
