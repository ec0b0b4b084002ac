//! The memory that bodies kept for another try may take, over all calls of the process.
//!
//! Each call has its own bound (`retry.replay`), but ten thousand calls with their bodies kept are ten thousand times that.
//! What does not fit is not kept: such a call is carried as it is, and not retried.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

static KEPT: AtomicU64 = AtomicU64::new(0);
static MOST: AtomicU64 = AtomicU64::new(64 << 20);

/// Sets how many bytes there may be, from now on. What is kept already stays.
pub fn set_memory(bytes: u64) {
    MOST.store(bytes, Ordering::Relaxed);
}

/// A part of it, given back when dropped.
#[derive(Debug, Default)]
pub struct Share(u64);

impl Share {
    /// Takes `bytes` more. False if that would be too much, and nothing is taken then.
    #[must_use]
    pub fn grow(&mut self, bytes: u64) -> bool {
        let before = KEPT.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > MOST.load(Ordering::Relaxed) {
            KEPT.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.0 += bytes;
        true
    }

    /// Gives all of it back.
    pub fn give_back(&mut self) {
        KEPT.fetch_sub(std::mem::take(&mut self.0), Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_back();
    }
}
