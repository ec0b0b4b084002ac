//! Which keys of the store are of one URL, kept true while entries are pushed out.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use quick_cache::Lifecycle;

use crate::policy::cache::layer::store::Key;
use crate::policy::cache::layer::store::Passing;
use crate::policy::cache::layer::store::Resource;

/// Keys that are more than a URL, by their URL's digest: whoever invalidates a URL invalidates it for all. Beside each key
/// stands what is kept under it, by its address: what is pushed out late must not take along what came in its place.
pub type Index = Mutex<HashMap<u64, Vec<(Key, usize)>, Passing>>;

/// Notes what is kept under a key.
pub fn remember(index: &Index, key: &Key, resource: &Arc<Resource>) {
    let address = Arc::as_ptr(resource).addr();
    let mut index = index.lock();
    let keys = index.entry(key.url).or_default();
    match keys.iter_mut().find(|(known, _)| known == key) {
        Some((_, known)) => *known = address,
        None => keys.push((key.clone(), address)),
    }
}

/// Forgets it, unless something else is kept there by now.
pub fn forget(index: &Index, key: &Key, resource: &Arc<Resource>) {
    let address = Arc::as_ptr(resource).addr();
    let mut index = index.lock();
    if let Some(keys) = index.get_mut(&key.url) {
        keys.retain(|(known, at)| *at != address || known != key);
        if keys.is_empty() {
            index.remove(&key.url);
        }
    }
}

/// Counts what had to make room, and forgets its keys.
#[derive(Clone)]
pub struct Evictions {
    count: Arc<AtomicU64>,
    index: Arc<Index>,
}

/// What an insertion pushed out, or took the place of; let go when the lock of the shard is free again.
#[derive(Default)]
pub struct Pushed {
    out: Vec<(Key, Arc<Resource>)>,
    owner: Option<Evictions>,
    /// The digest of what is inserted: what it takes the place of did not have to make room.
    inserted: Option<u64>,
}

impl Evictions {
    /// Into these.
    #[must_use]
    pub fn new(count: &Arc<AtomicU64>, index: &Arc<Index>) -> Self {
        Self {
            count: Arc::clone(count),
            index: Arc::clone(index),
        }
    }
}

impl Pushed {
    /// By the insertion of this key.
    #[must_use]
    pub fn by(key: &Key) -> Self {
        Self {
            out: Vec::new(),
            owner: None,
            inserted: Some(key.hash()),
        }
    }
}

impl Lifecycle<Key, Arc<Resource>> for Evictions {
    type RequestState = Pushed;

    fn on_evict(&self, pushed: &mut Pushed, key: Key, resource: Arc<Resource>) {
        pushed.owner.get_or_insert_with(|| self.clone());
        pushed.out.push((key, resource));
    }
}

impl Drop for Pushed {
    fn drop(&mut self) {
        let Some(owner) = &self.owner else { return };
        for (key, resource) in &self.out {
            if self.inserted != Some(key.hash()) {
                let count = resource.variants.len() as u64;
                owner.count.fetch_add(count, Ordering::Relaxed);
            }
            if key.is_special() {
                forget(&owner.index, key, resource);
            }
        }
    }
}
