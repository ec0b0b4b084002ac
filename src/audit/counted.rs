//! What happens at every call and is worth telling at intervals: the use of a credential.

use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::Mutex;

use super::event::Event;

static ALL: Mutex<Vec<Weak<Inner>>> = Mutex::new(Vec::new());

struct Inner {
    event: Event,
    hits: AtomicU64,
    is_known: AtomicBool,
}

/// A handle that is made when a policy is loaded. Its first use is a record; after that each interval in which there was
/// any has one, with the count.
#[derive(Clone)]
pub struct Counted(Arc<Inner>);

impl Counted {
    pub(super) fn new(event: Event) -> Self {
        let inner = Arc::new(Inner {
            event,
            hits: AtomicU64::new(0),
            is_known: AtomicBool::new(false),
        });
        let mut all = ALL.lock();
        all.retain(|known| known.strong_count() > 0);
        all.push(Arc::downgrade(&inner));
        Self(inner)
    }

    /// It was used. Costs an addition.
    pub fn hit(&self) {
        if self.0.hits.fetch_add(1, Relaxed) == 0 && !self.0.is_known.swap(true, Relaxed) {
            super::record(self.0.event.clone().with("first", true));
        }
    }
}

impl std::fmt::Debug for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Counted").field(&self.0.event).finish()
    }
}

impl Inner {
    fn take(&self) -> Option<Event> {
        let hits = self.hits.swap(0, Relaxed);
        (hits > 0).then(|| self.event.clone().with("uses", hits))
    }
}

impl Drop for Inner {
    // A policy that goes takes its handles with it, not what they counted.
    fn drop(&mut self) {
        if let Some(event) = self.take() {
            super::record(event);
        }
    }
}

/// What was used since the last time.
pub(super) fn sweep() -> Vec<Event> {
    // The handles are let go after the lock: the last of them may be here, and tells when it goes.
    let all: Vec<Arc<Inner>> = ALL.lock().iter().filter_map(Weak::upgrade).collect();
    all.iter().filter_map(|inner| inner.take()).collect()
}
