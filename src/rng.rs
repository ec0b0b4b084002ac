//! The only source of chance.
//!
//! Machines take draws as arguments; this is where the draws come from.

use rand::Rng;
use rand::RngExt;

/// A uniform draw in `[0, 1)`.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that draws")]
pub fn draw() -> f64 {
    rand::rng().random()
}

/// 64 random bits.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that draws")]
pub fn bits() -> u64 {
    rand::rng().next_u64()
}
