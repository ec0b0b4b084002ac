//! How a room reads its block of the policy without knowing the policy language.

use std::time::Duration;

/// One block after all layers are merged: every key has a value. `None` means `off` (or, for a key without a built-in
/// value, that nobody set it).
pub trait Fields {
    /// A span of time.
    fn duration(&self, key: &str) -> Option<Duration>;
    /// Bytes.
    fn size(&self, key: &str) -> Option<u64>;
    /// Between 0 and 1.
    fn share(&self, key: &str) -> Option<f64>;
    /// A number per second.
    fn rate(&self, key: &str) -> Option<f64>;
    /// A whole number.
    fn count(&self, key: &str) -> Option<u32>;
    /// Yes or no.
    fn flag(&self, key: &str) -> Option<bool>;
    /// One word of a closed list, or a text.
    fn word(&self, key: &str) -> Option<&str>;
    /// The texts of a list; `None` also if the value is a word.
    fn list(&self, key: &str) -> Option<Vec<&str>>;
    /// A block inside this one.
    fn block(&self, key: &str) -> Option<&Self>;
}
