//! Counters of one family told apart by a word of a closed list.

use std::fmt;

use parking_lot::RwLock;
use prometheus_client::metrics::counter::Counter;

type Make = Box<dyn Fn(&'static str) -> Counter + Send + Sync>;

/// A counter for each word, made when the word first occurs so that zeros do not fill the page.
///
/// Words are `&'static str`: only the program can coin one, never the wire.
pub struct ByWord {
    make: Make,
    // A handful of words: scanning beats hashing, and the lock is held for the scan only.
    slots: RwLock<Vec<(&'static str, Counter)>>,
}

impl ByWord {
    /// `make` resolves the series of a word; it runs once a word.
    pub fn new(make: impl Fn(&'static str) -> Counter + Send + Sync + 'static) -> Self {
        Self {
            make: Box::new(make),
            slots: RwLock::default(),
        }
    }

    /// One more of `word`.
    pub fn inc(&self, word: &'static str) {
        if let Some((_, counter)) = self.slots.read().iter().find(|(known, _)| *known == word) {
            counter.inc();
            return;
        }
        let counter = (self.make)(word);
        counter.inc();
        // Two threads may both get here; both hold the same series, so a doubled slot does no harm.
        self.slots.write().push((word, counter));
    }
}

impl fmt::Debug for ByWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(
                self.slots
                    .read()
                    .iter()
                    .map(|(word, counter)| (word, counter.get())),
            )
            .finish()
    }
}
