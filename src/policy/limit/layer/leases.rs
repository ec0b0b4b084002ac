//! Leases of buckets that all pods share: locks, the heap of those that want something, and the bell for whoever asks.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use aws_lc_rs::digest::Context;
use aws_lc_rs::digest::SHA256;
use parking_lot::Mutex;
use serde_json::Value;
use serde_json::json;
use tokio::sync::Notify;

use super::SHARD_LEAST;
use super::SHARDS;
use super::shard_of;
use crate::http::Call;
use crate::policy::limit::config::Selector;
use crate::policy::limit::machine::AsItIs;
use crate::policy::limit::machine::Key;
use crate::policy::limit::machine::SWEEP_REST;
use crate::policy::limit::machine::lease::Ask;
use crate::policy::limit::machine::lease::Grant;
use crate::policy::limit::machine::lease::Lease;
use crate::policy::limit::machine::lease::Taken;
use crate::policy::limit::machine::lease::Terms;

/// The bucket of all calls, where policy tells none apart.
const ALL: Key = Key(0, 0);
/// The bucket of all keys for which there is no room.
const OTHERS: Key = Key(u64::MAX, u64::MAX);

/// How pods call the same bucket: half of a SHA-256 of the limit's name and of what tells the caller apart. Not under a
/// seed of the process, since others must find it.
pub type Name = [u8; 16];

/// Something to ask of a bucket.
#[derive(Debug, Clone, Copy)]
pub struct Asking {
    key: Key,
    /// The bucket.
    pub name: Name,
    /// What.
    pub ask: Ask,
}

#[derive(Debug)]
struct Entry {
    lease: Lease,
    name: Name,
}

#[derive(Debug, Default)]
struct Shelf {
    entries: HashMap<Key, Entry, BuildHasherDefault<AsItIs>>,
    rests_until: u64,
}

impl Shelf {
    /// Whether there is room for one more of `most`.
    fn has_room(&mut self, most: usize, now: u64) -> bool {
        if self.entries.len() >= most && now >= self.rests_until {
            self.entries.retain(|_, entry| !entry.lease.is_blank(now));
            self.rests_until = now.saturating_add(SWEEP_REST);
        }
        self.entries.len() < most
    }
}

/// The leases of one limit, shared by all workers.
#[derive(Debug)]
pub(super) struct Leases {
    pub(super) terms: Terms,
    shards: Box<[Mutex<Shelf>]>,
    most: usize,
    is_keyed: bool,
    // By when they may ask.
    wanting: Mutex<BinaryHeap<Reverse<(u64, Key)>>>,
    bell: Arc<Notify>,
}

impl Leases {
    pub(super) fn new(terms: Terms, is_keyed: bool, most: usize) -> Self {
        let count = if is_keyed {
            (most / SHARD_LEAST).clamp(1, SHARDS)
        } else {
            1
        };
        Self {
            terms,
            shards: (0..count).map(|_| Mutex::default()).collect(),
            most: (most / count).max(1),
            is_keyed,
            wanting: Mutex::default(),
            bell: Arc::default(),
        }
    }

    /// Judges a call of `key`, and says whether it was counted with others for want of room.
    pub(super) fn take(
        &self,
        key: impl FnOnce() -> Key,
        name: impl FnOnce(bool) -> Name,
        now: u64,
    ) -> (Taken, bool) {
        let key = if self.is_keyed { key() } else { ALL };
        let mut shard = self.shard(key).lock();
        if let Some(entry) = shard.entries.get_mut(&key) {
            let taken = entry.lease.take(&self.terms, now);
            let due = entry.lease.not_before();
            drop(shard);
            self.ring(&taken, key, due);
            return (taken, false);
        }
        let fits = shard.has_room(self.most, now);
        let key = if fits { key } else { OTHERS };
        if !fits {
            drop(shard);
            shard = self.shard(key).lock();
        }
        let entry = shard.entries.entry(key).or_insert_with(|| Entry {
            lease: Lease::new(now),
            name: name(fits),
        });
        let taken = entry.lease.take(&self.terms, now);
        let due = entry.lease.not_before();
        drop(shard);
        self.ring(&taken, key, due);
        (taken, !fits)
    }

    fn shard(&self, key: Key) -> &Mutex<Shelf> {
        &self.shards[shard_of(key, self.shards.len())]
    }

    fn ring(&self, taken: &Taken, key: Key, due: u64) {
        if taken.rings {
            self.wanting.lock().push(Reverse((due, key)));
            self.bell.notify_one();
        }
    }

    pub(super) fn bell(&self) -> Arc<Notify> {
        Arc::clone(&self.bell)
    }

    pub(super) fn greet(&self, name: Name, now: u64) -> Option<Asking> {
        if self.is_keyed {
            return None;
        }
        let mut shard = self.shard(ALL).lock();
        let entry = shard.entries.entry(ALL).or_insert_with(|| Entry {
            lease: Lease::new(now),
            name,
        });
        let ask = entry.lease.greet(now)?;
        Some(Asking {
            key: ALL,
            name,
            ask,
        })
    }

    pub(super) fn asks(&self, now: u64, most: usize) -> (Vec<Asking>, Option<u64>) {
        let mut asks = Vec::new();
        while asks.len() < most {
            let mut wanting = self.wanting.lock();
            let Some(Reverse((due, key))) = wanting.peek().copied() else {
                return (asks, None);
            };
            if due > now {
                return (asks, Some(due));
            }
            wanting.pop();
            drop(wanting);
            let mut shard = self.shard(key).lock();
            if let Some(entry) = shard.entries.get_mut(&key)
                && let Some(ask) = entry.lease.ask(&self.terms, now)
            {
                let name = entry.name;
                asks.push(Asking { key, name, ask });
            }
        }
        (asks, Some(now))
    }

    pub(super) fn answered(&self, asked: &Asking, grant: Option<Grant>, now: u64, draw: f64) {
        let mut shard = self.shard(asked.key).lock();
        let Some(entry) = shard.entries.get_mut(&asked.key) else {
            return;
        };
        match grant {
            Some(grant) => entry.lease.granted(&self.terms, grant, now, draw),
            None => entry.lease.failed(now),
        }
    }

    /// Lets go of leases that nobody uses: first what they hold goes back, then they are forgotten. The lease of all calls
    /// stays, and greets a bucket that was away, so that the first calls after an outage find it back.
    pub(super) fn tidy(&self, now: u64) -> Vec<Asking> {
        let mut asks = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock();
            for (key, entry) in &mut shard.entries {
                let lease = &mut entry.lease;
                if !lease.is_unused(now) {
                    continue;
                }
                let ask = if *key == ALL && lease.is_away(now) {
                    lease.greet(now)
                } else {
                    lease.ask(&self.terms, now)
                };
                if let Some(ask) = ask {
                    let (key, name) = (*key, entry.name);
                    asks.push(Asking { key, name, ask });
                }
            }
            let entries = &mut shard.entries;
            entries.retain(|key, entry| *key == ALL || !entry.lease.is_blank(now));
            if entries.len() < entries.capacity() / 4 {
                entries.shrink_to_fit();
            }
        }
        asks
    }

    pub(super) fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.lock().entries.len())
            .sum()
    }

    pub(super) fn describe(&self, now: u64) -> Value {
        let mut told = json!({ "scope": "global", "burst": self.terms.quota.burst() });
        if self.is_keyed {
            let mut away = 0;
            for shard in &self.shards {
                let shard = shard.lock();
                let entries = shard.entries.values();
                away += entries.filter(|entry| entry.lease.is_away(now)).count();
            }
            told["keys"] = self.len().into();
            told["keys_max"] = (self.most * self.shards.len()).into();
            told["away"] = (away > 0).into();
        } else if let Some(entry) = self.shard(ALL).lock().entries.get(&ALL) {
            let lease = &entry.lease;
            told["remaining"] = (lease.held() + lease.left()).into();
            told["held"] = lease.held().into();
            told["owed"] = lease.owed().into();
            told["pods"] = lease.pods().into();
            told["away"] = lease.is_away(now).into();
        }
        told
    }
}

fn source(call: &Call) -> String {
    let peer = call.trail.peer.get();
    peer.map_or_else(String::new, |peer| peer.to_string())
}

/// The name of the bucket that a call belongs to; without one, of the bucket of all others.
pub(super) fn name(limit: &str, per: &[Selector], call: Option<&Call>) -> Name {
    let mut digest = Context::new(&SHA256);
    // Each part behind its length, so that no two lists of parts read the same.
    let mut add = |part: &[u8]| {
        digest.update(&(part.len() as u64).to_be_bytes());
        digest.update(part);
    };
    add(limit.as_bytes());
    for selector in per {
        let Some(call) = call else {
            add(b"others");
            break;
        };
        match selector {
            Selector::Header(name) => {
                add(name.as_str().as_bytes());
                let values = call.head.headers.get_all(name);
                add(&(values.iter().count() as u64).to_be_bytes());
                values.iter().for_each(|value| add(value.as_bytes()));
            }
            Selector::Path => add(call.head.uri.path().as_bytes()),
            Selector::Method => add(call.head.method.as_str().as_bytes()),
            Selector::Source => add(source(call).as_bytes()),
            Selector::Peer => match call.trail.caller.borrow().as_deref() {
                Some(caller) => add(caller.id.as_bytes()),
                None => add(source(call).as_bytes()),
            },
        }
    }
    let whole = digest.finish();
    let mut half = Name::default();
    half.copy_from_slice(&whole.as_ref()[..16]);
    half
}
