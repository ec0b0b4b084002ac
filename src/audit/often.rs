//! Events that can come in floods: the first of its kind is told at once, what follows is counted and told at intervals. Pure.

use std::collections::HashMap;

use super::event::Event;

/// Most kinds that are told apart in an interval. A flood of ever new ones costs a number, not a disk.
pub const KINDS_MAX: usize = 256;

/// What came in one interval.
#[derive(Debug, Default)]
pub struct Often {
    kinds: HashMap<String, (Event, u64)>,
    others: HashMap<&'static str, u64>,
}

impl Often {
    /// Gives the event back if it is to be told now; else it is counted.
    pub fn admit(&mut self, event: Event) -> Option<Event> {
        let signature = event.signature();
        if let Some((_, more)) = self.kinds.get_mut(&signature) {
            *more += 1;
            return None;
        }
        if self.kinds.len() >= KINDS_MAX {
            *self.others.entry(event.what).or_default() += 1;
            return None;
        }
        self.kinds.insert(signature, (event.clone(), 0));
        Some(event)
    }

    /// The end of an interval: what was counted in it and not told. All are new again after it.
    pub fn sweep(&mut self) -> Vec<Event> {
        let kinds = self.kinds.drain();
        let mut told: Vec<Event> = kinds
            .filter(|(_, (_, more))| *more > 0)
            .map(|(_, (event, more))| event.with("more", more))
            .collect();
        told.sort_by_key(Event::signature);
        let mut others: Vec<_> = self.others.drain().collect();
        others.sort_unstable();
        let others = others
            .into_iter()
            .map(|(what, more)| Event::new(what).with("others", more));
        told.extend(others);
        told
    }
}
