//! What a cache knew when it answered or kept something: numbers and words, for whoever tells of it.

use std::time::Duration;

/// The arithmetic behind what the cache did with a call. Made without allocating, on every call that it touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// A digest of the key, the same for the same key as long as the process lives, and of no use to anybody outside it. The
    /// key itself is the URL, and what the policy adds to it.
    pub key: u64,
    /// How old the answer was: `current_age` of RFC 9111 section 4.2.3.
    pub age: Duration,
    /// How long it is fresh, counted in age.
    pub lifetime: Duration,
    /// Who says so: `s-maxage`, `max-age`, `expires`, `policy`, `bounds`, `heuristic` or `none`.
    pub source: &'static str,
    /// It is kept.
    pub stored: bool,
}

impl Kept {
    /// Whether it was fresh.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.lifetime > self.age
    }
}
