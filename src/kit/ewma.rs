//! A peak-sensitive moving average of latency.
//!
//! The average jumps to a worse sample at once and comes back slowly: a balancer must leave a bad endpoint after one
//! call, not after ten, and return with care.

use std::time::Duration;
use std::time::Instant;

/// How fast old samples fade: after this long a sample counts 37 % (1/e). Ten seconds, as the peers that use this
/// estimate; about the time in which a pause for garbage collection should be forgotten.
pub const DECAY: Duration = Duration::from_secs(10);

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

    /// Takes in a call that failed after `latency`, where `typical` is what answers take elsewhere, in seconds. It can only
    /// raise the estimate, and to `typical` at least: an endpoint that refuses within a microsecond would otherwise look like
    /// the fastest and draw all the traffic into the hole. With nothing to compare to, an endpoint of which nothing is known
    /// stays so.
    pub fn observe_failure(&mut self, latency: Duration, typical: Option<f64>, now: Instant) {
        if self.seconds == 0.0 && typical.is_none() {
            return;
        }
        let least = latency.as_secs_f64().max(typical.unwrap_or_default());
        self.seconds = self.seconds.max(least);
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
