//! Where values lie and how widely, of the recent past: a count, a mean and a variance that fade.
//!
//! Each value weighs `e^(-age/decay)`. The state is four numbers however many values come, and a value costs one `exp`. A
//! window of buckets would need a sum of squares in each, and squares of anything overflow what a bucket can hold.

use std::time::Duration;
use std::time::Instant;

/// The fading statistics.
#[derive(Debug, Clone)]
pub struct Spread {
    decay: Duration,
    weight: f64,
    mean: f64,
    squares: f64,
    at: Option<Instant>,
}

/// What a [`Spread`] knows at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// How many values count, the faded ones in part.
    pub count: f64,
    /// Their mean; zero if there are none.
    pub mean: f64,
    /// The mean square of the distance from the mean.
    pub variance: f64,
}

impl Spread {
    /// Knows nothing, and will forget with the time constant `decay`.
    #[must_use]
    pub fn new(decay: Duration) -> Self {
        Self {
            decay: decay.max(Duration::from_nanos(1)),
            weight: 0.0,
            mean: 0.0,
            squares: 0.0,
            at: None,
        }
    }

    /// Takes in one value. A time before the last one counts as the last one.
    pub fn observe(&mut self, value: f64, now: Instant) {
        let kept = self.kept(now);
        // West's update: the difference to the old mean times that to the new one is what the squares grow by.
        self.weight = self.weight * kept + 1.0;
        self.squares *= kept;
        let off = value - self.mean;
        self.mean += off / self.weight;
        self.squares += off * (value - self.mean);
        self.at = Some(self.at.map_or(now, |at| at.max(now)));
    }

    /// What is known at `now`.
    #[must_use]
    pub fn summary(&self, now: Instant) -> Summary {
        let count = self.weight * self.kept(now);
        let variance = if self.weight > 0.0 {
            (self.squares / self.weight).max(0.0)
        } else {
            0.0
        };
        Summary {
            count,
            mean: self.mean,
            variance,
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::new(self.decay);
    }

    fn kept(&self, now: Instant) -> f64 {
        let age = self
            .at
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        if age.is_zero() {
            // Many values come at one time, and one needs no `exp`.
            return 1.0;
        }
        (-age.as_secs_f64() / self.decay.as_secs_f64()).exp()
    }
}
