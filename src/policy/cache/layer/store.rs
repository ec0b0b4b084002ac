//! What is kept, for the whole process: one budget of bytes, shared by all workers, kept over reloads.

use std::hash::BuildHasher;
use std::hash::BuildHasherDefault;
use std::hash::Hash;
use std::hash::Hasher;
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use quick_cache::Equivalent;
use quick_cache::OptionsBuilder;
use quick_cache::UnitWeighter;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use quick_cache::sync::DefaultLifecycle;

use crate::policy::cache::layer::entry::Entry;
use crate::policy::cache::layer::fill::Register;
use crate::policy::cache::layer::index::Evictions;
use crate::policy::cache::layer::index::Index;
use crate::policy::cache::layer::index::Pushed;
use crate::policy::cache::layer::index::forget;
use crate::policy::cache::layer::index::remember;
use crate::shared::Tier;

/// Shards of the memory. An entry larger than a shard's share is not taken, so they are few and large.
const SHARDS_MOST: u64 = 16;
/// Memory that a shard has at least, where there is so much.
const SHARD_LEAST: u64 = 16 << 20;
/// What an entry is thought to weigh when places are counted at the start.
const USUAL_WEIGHT: u64 = 8 << 10;
/// Counters of invalidations. Two keys on one cost a copy that is not kept, no more.
const STRIPES: usize = 1024;
/// Variants that one key may have: whoever varies on more has made every request its own.
pub const VARIANTS_MAX: usize = 32;
/// Keys that are remembered as not worth waiting for.
const MARKS_MAX: u64 = 8192;
/// How long they are.
pub const MARKED_FOR: Duration = Duration::from_secs(30);
/// Share of the memory that bodies may take which are still on their way.
const UNDER_WAY: u64 = 4;
/// Refreshes in the background at once; beyond, a stale answer is just served.
const REFRESHES_MAX: u64 = 64;

/// A key as text, with its digests under a seed of this process, so that nobody can make two that collide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    hash: u64,
    /// The digest of its URL alone.
    pub(super) url: u64,
    text: Arc<[u8]>,
}

impl Key {
    /// Its digest.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// All of it.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The URL in it.
    #[must_use]
    pub fn url(&self) -> &[u8] {
        url_of(&self.text)
    }

    /// It is more than a URL.
    pub(super) fn is_special(&self) -> bool {
        self.hash != self.url
    }

    /// To be looked up.
    #[must_use]
    pub fn as_lookup(&self) -> Lookup<'_> {
        Lookup {
            hash: self.hash,
            url: self.url,
            text: &self.text,
        }
    }
}

/// A line feed ends the URL in a key: none can stand in a URL.
fn url_of(text: &[u8]) -> &[u8] {
    let end = memchr::memchr(b'\n', text).unwrap_or(text.len());
    &text[..end]
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// A key that was looked up but need not be kept.
#[derive(Clone, Copy, Debug)]
pub struct Lookup<'a> {
    hash: u64,
    url: u64,
    text: &'a [u8],
}

impl Lookup<'_> {
    /// One that can be kept.
    #[must_use]
    pub fn to_key(self) -> Key {
        Key {
            hash: self.hash,
            url: self.url,
            text: self.text.into(),
        }
    }

    /// Its digest.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

impl Hash for Lookup<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Equivalent<Key> for Lookup<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.hash == key.hash && *self.text == *key.text
    }
}

/// Passes on a digest that was made before.
#[derive(Default)]
pub struct Made(u64);

impl Hasher for Made {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, digest: u64) {
        self.0 = digest;
    }
}

pub(super) type Passing = BuildHasherDefault<Made>;

/// The entries of one key, the latest first.
#[derive(Debug)]
pub struct Resource {
    /// One for each set of selecting fields.
    pub variants: Vec<Arc<Entry>>,
    weight: u64,
}

impl Resource {
    fn of(variants: Vec<Arc<Entry>>) -> Arc<Self> {
        let weight = variants.iter().map(|entry| entry.weight()).sum();
        Arc::new(Self { variants, weight })
    }
}

#[derive(Clone, Copy, Debug)]
struct ByBytes;

impl Weighter<Key, Arc<Resource>> for ByBytes {
    fn weight(&self, key: &Key, resource: &Arc<Resource>) -> u64 {
        resource.weight + key.text.len() as u64 + 256
    }
}

/// What the store was like for one key at one time. A copy of an answer that was asked for under another stamp is older
/// than some invalidation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    whole: u64,
    own: u64,
}

/// What to purge.
#[derive(Clone, Debug)]
pub enum Purge {
    /// Everything.
    All,
    /// All entries of one URL, whoever they are for, as [`crate::policy::cache::machine::key::url`] writes it.
    Url(Box<[u8]>),
    /// All entries with a tag.
    Tag(Box<str>),
}

type Marks = Cache<u64, Instant, UnitWeighter, Passing, DefaultLifecycle<u64, Instant>>;

/// See the module.
pub struct Store {
    entries: Cache<Key, Arc<Resource>, ByBytes, Passing, Evictions>,
    marks: Marks,
    seed: RandomState,
    whole: AtomicU64,
    stripes: Box<[(AtomicU64, Mutex<()>)]>,
    index: Arc<Index>,
    evicted: Arc<AtomicU64>,
    under_way: AtomicU64,
    refreshes: AtomicU64,
    pub(super) tier: ArcSwapOption<Tier>,
    /// Fetches that others may wait for.
    pub fills: Arc<Register>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    /// An empty one that takes `memory` bytes at most.
    #[must_use]
    pub fn new(memory: u64) -> Arc<Self> {
        let index = Arc::<Index>::default();
        let evicted = Arc::<AtomicU64>::default();
        let shards = (memory / SHARD_LEAST).clamp(1, SHARDS_MOST);
        let options = OptionsBuilder::new()
            .shards(1 << shards.ilog2())
            .weight_capacity(memory)
            .estimated_items_capacity((memory / USUAL_WEIGHT) as usize)
            .build()
            .expect("all that must be set is set");
        let lifecycle = Evictions::new(&evicted, &index);
        let entries = Cache::with_options(options, ByBytes, Passing::default(), lifecycle);
        Arc::new(Self {
            entries,
            marks: Marks::with_options(
                OptionsBuilder::new()
                    .weight_capacity(MARKS_MAX)
                    .estimated_items_capacity(MARKS_MAX as usize)
                    .shards(4)
                    .build()
                    .expect("all that must be set is set"),
                UnitWeighter,
                Passing::default(),
                DefaultLifecycle::default(),
            ),
            seed: RandomState::new(),
            whole: AtomicU64::new(0),
            stripes: (0..STRIPES).map(|_| <_>::default()).collect(),
            index,
            evicted,
            under_way: AtomicU64::new(0),
            refreshes: AtomicU64::new(0),
            tier: ArcSwapOption::empty(),
            fills: Arc::default(),
        })
    }

    /// Takes another budget; what does not fit any more goes.
    pub fn resize(&self, memory: u64) {
        if self.entries.capacity() != memory {
            self.entries.set_capacity(memory);
        }
    }

    /// The budget.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.entries.capacity()
    }

    /// The largest body that has a place: a shard takes no entry beyond its share of the budget.
    #[must_use]
    pub fn largest(&self) -> u64 {
        self.entries.shard_capacity() / 2
    }

    /// Bytes taken.
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.entries.weight()
    }

    /// Keys that have entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Entries that had to make room so far.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// The key `text`, ready to be looked up.
    #[must_use]
    pub fn lookup<'a>(&self, text: &'a [u8]) -> Lookup<'a> {
        let url = url_of(text);
        let of_url = self.seed.hash_one(url);
        Lookup {
            hash: if url.len() == text.len() {
                of_url
            } else {
                self.seed.hash_one(text)
            },
            url: of_url,
            text,
        }
    }

    /// A digest under the seed of this process.
    #[must_use]
    pub fn digest(&self, of: impl Hash) -> u64 {
        self.seed.hash_one(of)
    }

    /// What is kept under a key.
    #[must_use]
    pub fn get(&self, key: &Lookup<'_>) -> Option<Arc<Resource>> {
        self.entries.get(key)
    }

    fn stripe(&self, url: u64) -> &(AtomicU64, Mutex<()>) {
        &self.stripes[(url >> 32) as usize % STRIPES]
    }

    /// The stamp that a fetch which begins now stands under.
    #[must_use]
    pub fn stamp(&self, key: &Lookup<'_>) -> Stamp {
        Stamp {
            whole: self.whole.load(Ordering::Acquire),
            own: self.stripe(key.url).0.load(Ordering::Acquire),
        }
    }

    /// Changes what is kept under a key, unless it was invalidated since `stamp`; without one in any case. `change` is given the variants and gives
    /// back what is to be kept of them, the latest first; `None` leaves all as it is. Says whether it was changed.
    pub fn change(
        &self,
        key: &Key,
        stamp: Option<Stamp>,
        change: impl FnOnce(&[Arc<Entry>]) -> Option<Vec<Arc<Entry>>>,
    ) -> bool {
        let (_, lock) = self.stripe(key.url);
        // Two that change one key at once would each undo what the other did.
        let _changing = lock.lock();
        let lookup = key.as_lookup();
        if stamp.is_some_and(|stamp| self.stamp(&lookup) != stamp) {
            return false;
        }
        let old = self.entries.peek(&lookup);
        let old = old.as_ref().map_or(&[][..], |old| &old.variants);
        let Some(mut variants) = change(old) else {
            return false;
        };
        variants.truncate(VARIANTS_MAX);
        let room = self.largest() + self.largest() / 2;
        let mut taken = 0;
        // Old ones go before the key becomes too large to be taken at all.
        let fitting = variants.iter().take_while(|entry| {
            taken += entry.weight();
            taken <= room
        });
        let fitting = fitting.count().max(1);
        variants.truncate(fitting);
        if variants.is_empty() {
            self.drop_key(&lookup);
            return true;
        }
        let resource = Resource::of(variants);
        if key.is_special() {
            remember(&self.index, key, &resource);
        }
        let mut pushed = Pushed::by(key);
        self.entries
            .insert_with_lifecycle(key.clone(), resource, &mut pushed);
        true
    }

    fn drop_key(&self, key: &Lookup<'_>) -> u64 {
        let Some((key, resource)) = self.entries.remove(key) else {
            return 0;
        };
        if key.is_special() {
            forget(&self.index, &key, &resource);
        }
        resource.variants.len() as u64
    }

    /// Lets go what is kept under the URL of a key, whoever it is for, and what is being fetched of it. Gives back how many
    /// entries that were.
    pub fn invalidate(&self, key: &Lookup<'_>) -> u64 {
        let (count, lock) = self.stripe(key.url);
        let _changing = lock.lock();
        count.fetch_add(1, Ordering::AcqRel);
        let plain = Lookup {
            hash: key.url,
            url: key.url,
            text: url_of(key.text),
        };
        let special = self.index.lock().get(&key.url).cloned();
        let special = special.iter().flatten();
        self.drop_key(&plain)
            + special
                .map(|(key, _)| self.drop_key(&key.as_lookup()))
                .sum::<u64>()
    }

    /// Lets go whatever `what` names, or with `soft` makes it stale from `now` on. Gives back how many entries that were.
    pub fn purge(&self, what: &Purge, soft: bool, now: Instant) -> u64 {
        // What is being fetched may be of what is purged.
        self.whole.fetch_add(1, Ordering::AcqRel);
        // A change that was found in time just before that may not be done yet: it ends before its stripe can be locked.
        self.stripes.iter().for_each(|(_, lock)| drop(lock.lock()));
        // The walk holds a shard for one entry at a time, and only against those who change it: no hit ever waits for a purge,
        // however much is kept. A list of keys by tag would make a purge shorter and every answer that is kept longer.
        let named: Vec<Key> = self
            .entries
            .iter()
            .filter(|(key, resource)| {
                let mut entries = resource.variants.iter();
                entries.any(|entry| what.names(key, entry))
            })
            .map(|(key, _)| key)
            .collect();
        let mut count = 0;
        for key in named {
            self.change(&key, None, |old| {
                let mut kept = Vec::with_capacity(old.len());
                for entry in old {
                    if !what.names(&key, entry) {
                        kept.push(Arc::clone(entry));
                        continue;
                    }
                    count += 1;
                    if soft {
                        kept.push(Arc::new(Entry {
                            head: entry.head.but(entry.head.facts.expired(now)),
                            body: entry.body.clone(),
                        }));
                    }
                }
                Some(kept)
            });
        }
        count
    }

    /// Remembers that nobody need wait for an answer of this key: it will be the fetcher's own.
    pub fn mark(&self, hash: u64, now: Instant) {
        self.marks.insert(hash, now + MARKED_FOR);
    }

    /// Forgets that.
    pub fn unmark(&self, hash: u64) {
        if self.marks.contains_key(&hash) {
            self.marks.remove(&hash);
        }
    }

    /// Whether it is remembered.
    #[must_use]
    pub fn is_marked(&self, hash: u64, now: Instant) -> bool {
        self.marks.get(&hash).is_some_and(|until| now < until)
    }

    /// Room for a body on its way, given back when it is dropped.
    #[must_use]
    pub fn room(self: &Arc<Self>) -> Room {
        Room {
            store: Arc::clone(self),
            taken: 0,
        }
    }

    /// The right to refresh an entry in the background, given back when it is dropped.
    #[must_use]
    pub fn refresh(self: &Arc<Self>) -> Option<Refresh> {
        let before = self.refreshes.fetch_add(1, Ordering::AcqRel);
        let right = Refresh(Arc::clone(self));
        (before < REFRESHES_MAX).then_some(right)
    }
}

impl Purge {
    fn names(&self, key: &Key, entry: &Entry) -> bool {
        match self {
            Self::All => true,
            Self::Url(url) => *key.url() == **url,
            Self::Tag(tag) => entry.head.tags.iter().any(|own| own == tag),
        }
    }
}

/// See [`Store::room`].
#[derive(Debug)]
pub struct Room {
    store: Arc<Store>,
    taken: u64,
}

impl Room {
    /// Takes so many bytes more; false if there are not so many.
    #[must_use]
    pub fn take(&mut self, bytes: u64) -> bool {
        let all = self.store.under_way.fetch_add(bytes, Ordering::AcqRel) + bytes;
        self.taken += bytes;
        all <= self.store.capacity() / UNDER_WAY
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.store.under_way.fetch_sub(self.taken, Ordering::AcqRel);
    }
}

/// See [`Store::refresh`].
#[derive(Debug)]
pub struct Refresh(Arc<Store>);

impl Drop for Refresh {
    fn drop(&mut self) {
        self.0.refreshes.fetch_sub(1, Ordering::AcqRel);
    }
}
