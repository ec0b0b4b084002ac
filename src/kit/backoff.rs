//! How long to wait before trying again.

use std::fmt;
use std::time::Duration;

/// The least time that a try is begun with, or worth waiting for. Shorter than one turn of a timer, and than a round trip in
/// most networks: the caller would be gone before the answer.
pub const LEAST_TRY: Duration = Duration::from_millis(1);

/// The `backoff` block of a retry, with every value filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct BackoffSettings {
    /// The longest wait before the first retry; doubled for each one after it.
    /// Unit: duration. Range: 1ms to `max`. Default: 25ms, about the time that a refused connection needs to be worth
    /// another try elsewhere.
    pub base: Duration,
    /// The longest wait before any retry.
    /// Unit: duration. Range: `base` to 1m. Default: 250ms: a caller is waiting, so more would only eat its deadline.
    pub max: Duration,
    /// How chance spreads the wait. Default: full.
    pub jitter: Jitter,
}

impl Default for BackoffSettings {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(25),
            max: Duration::from_millis(250),
            jitter: Jitter::Full,
        }
    }
}

/// How chance spreads a wait, so that callers that failed together do not come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Jitter {
    /// Anywhere from nothing to the exponential step. The default: it spreads the most for the least waiting.
    #[default]
    Full,
    /// From half of the exponential step to all of it: never at once, for upstreams that need a pause.
    Equal,
    /// From `base` to three times the previous wait: grows by chance rather than by count.
    Decorrelated,
    /// Exactly the exponential step. For tests and for reading logs; in a fleet it makes the callers march in step.
    None,
}

impl Jitter {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Jitter; 4] = [
        Jitter::Full,
        Jitter::Equal,
        Jitter::Decorrelated,
        Jitter::None,
    ];

    /// The word of the policy file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Jitter::Full => "full",
            Jitter::Equal => "equal",
            Jitter::Decorrelated => "decorrelated",
            Jitter::None => "none",
        }
    }
}

impl fmt::Display for Jitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl BackoffSettings {
    /// The wait before retry number `retry` (1 is the first), after having waited `previous` before the last one (zero
    /// at first; only decorrelated jitter looks at it). `draw` is uniform in `[0, 1)`. Never longer than `max`.
    #[must_use]
    pub fn delay(&self, retry: u32, previous: Duration, draw: f64) -> Duration {
        let step = self.step(retry);
        match self.jitter {
            Jitter::None => step,
            Jitter::Full => between(Duration::ZERO, step, draw),
            Jitter::Equal => between(step / 2, step, draw),
            Jitter::Decorrelated => {
                let base = self.base.min(self.max);
                let top = previous.max(base).saturating_mul(3).min(self.max);
                between(base, top, draw)
            }
        }
    }

    /// The longest that the wait before retry number `retry` can be, whatever chance says. What `outrider check` adds up.
    #[must_use]
    pub fn worst(&self, retry: u32) -> Duration {
        match self.jitter {
            Jitter::Decorrelated => {
                let factor = 3u32.saturating_pow(retry.max(1));
                self.base.saturating_mul(factor).min(self.max)
            }
            Jitter::None | Jitter::Full | Jitter::Equal => self.step(retry),
        }
    }

    fn step(&self, retry: u32) -> Duration {
        doubled(self.base, retry.saturating_sub(1), self.max)
    }
}

/// `base` doubled `times` times, at most `max`.
#[must_use]
pub fn doubled(base: Duration, times: u32, max: Duration) -> Duration {
    // 2^31 times anything above a nanosecond is past every `max`, and a shift by 32 would not compile to a doubling.
    let factor = 1u32 << times.min(31);
    base.saturating_mul(factor).min(max)
}

/// The point at `draw` (in `[0, 1]`, other values are taken as the nearest end) between two durations.
#[must_use]
pub fn between(low: Duration, high: Duration, draw: f64) -> Duration {
    let draw = if draw.is_nan() {
        0.0
    } else {
        draw.clamp(0.0, 1.0)
    };
    let span = high.saturating_sub(low);
    // Nanoseconds in f64 are exact up to 104 days and, above that, wrong by less than a clock tick that anybody reads.
    let part = Duration::from_nanos((span.as_nanos() as f64 * draw) as u64);
    low.saturating_add(part).min(high.max(low))
}
