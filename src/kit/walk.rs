//! Seeded random walks for the tests of the machines.
//!
//! A walk that fails prints its seed; `OUTRIDER_SEED=n` runs that seed alone.

use std::time::Duration;
use std::time::Instant;

/// Seeds of every walk.
pub const SEEDS: u64 = 1000;

/// SplitMix64: the whole generator is one line, and every seed gives a full-period stream.
#[derive(Debug, Clone)]
pub struct Draws(u64);

impl Draws {
    /// The stream of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 bits, all equally likely.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in `0..n`, for `n` above zero.
    pub fn below(&mut self, n: u64) -> u64 {
        self.bits() % n
    }

    /// True in `share` of the cases.
    pub fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    /// One of `from`, which is not empty.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// A step of time as traffic makes them: mostly short, sometimes a second, rarely an idle hour.
    pub fn pause(&mut self) -> Duration {
        match self.below(100) {
            0 => Duration::from_secs(self.below(7200)),
            1..10 => Duration::from_millis(self.below(15_000)),
            10..50 => Duration::from_millis(self.below(500)),
            _ => Duration::from_micros(self.below(20_000)),
        }
    }
}

/// Runs `walk` once for each seed, or for `OUTRIDER_SEED` alone.
pub fn seeds(mut walk: impl FnMut(&mut Draws)) {
    let only = std::env::var("OUTRIDER_SEED").ok().map(|text| {
        text.parse::<u64>()
            .expect("OUTRIDER_SEED is a whole number")
    });
    let range = only.map_or(0..SEEDS, |seed| seed..seed + 1);
    for seed in range {
        let told = TellSeed(seed);
        walk(&mut Draws::new(seed));
        std::mem::forget(told);
    }
}

/// A moment to count from. Tests move on from it by arithmetic only.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "no other way to have an Instant, and its value never matters"
)]
pub fn start() -> Instant {
    // Room before it, so that a test can step back without leaving the range of the platform's clock.
    Instant::now() + Duration::from_secs(100_000)
}

struct TellSeed(u64);

impl Drop for TellSeed {
    fn drop(&mut self) {
        eprintln!("the walk failed: run again with OUTRIDER_SEED={}", self.0);
    }
}
