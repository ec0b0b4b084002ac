//! The only source of chance.
//!
//! Machines take draws as arguments; this is where the draws come from: a generator of each thread's own, ChaCha seeded by
//! the system, so that identifiers cannot be guessed from one another.

use std::cell::RefCell;

use rand::Rng;
use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;

thread_local! {
    static SOURCE: RefCell<StdRng> = RefCell::new(from_the_system());
}

#[expect(clippy::disallowed_methods, reason = "the one place that draws")]
fn from_the_system() -> StdRng {
    StdRng::from_rng(&mut rand::rng())
}

/// A uniform draw in `[0, 1)`.
#[must_use]
pub fn draw() -> f64 {
    SOURCE.with_borrow_mut(StdRng::random)
}

/// 64 random bits.
#[must_use]
pub fn bits() -> u64 {
    SOURCE.with_borrow_mut(StdRng::next_u64)
}

/// Makes all further draws of this thread follow from `seed`, so that a simulation which failed fails again. Never for a
/// thread that serves.
pub fn seed(seed: u64) {
    SOURCE.set(StdRng::seed_from_u64(seed));
}
