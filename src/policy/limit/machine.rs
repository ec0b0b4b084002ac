//! The limit: which bucket judges a call, and what becomes of keys for which there is none.
//!
//! | the key | is judged | so it is |
//! |---|---|---|
//! | has a bucket | by it | exact |
//! | has none, and there is room | by a new one, in which what the estimate has seen of it is used up | exact, or early |
//! | has none, there is no room, the estimate finds it busy | by a new one from the reserve, in the same way | exact, or early |
//! | has none, and there is no room | by the estimate | early |
//!
//! Early: a refusal may come too early, never too late. Whatever the estimate adds up wrongly, in any time t no more
//! calls of a key pass than `burst` + `rate` x t. The reason: calls older than a whole refill (`burst` steps) cannot be
//! felt in a bucket, and the estimate holds every call that it passed for at least that long, so a bucket would never
//! be emptier than the estimate says.
//!
//! A full bucket knows nothing, so forgetting it is exact. Only full ones are forgotten, so nobody can push another's
//! bucket out by making up keys; and made-up keys come once each, so the estimate does not find them busy and they do not
//! reach the reserve.
//!
//! With `scope: global` the bucket is one that all pods share, and a call is judged by the pod's [`lease`] of it.

pub mod lease;

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::hash::Hash;
use std::hash::Hasher;
use std::time::Duration;

use crate::kit::gcra::Quota;
use crate::kit::gcra::Standing;
use crate::kit::gcra::Verdict;

/// The digest of what tells a caller apart. 128 bits under a seed of the process: values of any length take the same room,
/// none is kept, and nobody outside can find two that meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(pub u64, pub u64);

impl Hash for Key {
    // A half is as good as random, and enough to find a place by.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

/// Digests are as good as random already.
#[derive(Debug, Default)]
pub struct AsItIs(u64);

impl Hasher for AsItIs {
    // No `Key` comes this way.
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, digest: u64) {
        self.0 = digest;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The least time between two searches for full buckets, in nanoseconds: a flood of new keys must not pay for one each.
pub const SWEEP_REST: u64 = 10_000_000;

/// Some of the keys that have a bucket.
#[derive(Debug)]
pub struct Shard {
    buckets: HashMap<Key, u64, BuildHasherDefault<AsItIs>>,
    open: usize,
    all: usize,
    rests_until: u64,
}

impl Shard {
    /// Room for `most` keys, at least one. The last quarter is the reserve.
    #[must_use]
    pub fn new(most: usize) -> Self {
        let all = most.max(1);
        Self {
            buckets: HashMap::default(),
            open: all - all / 4,
            all,
            rests_until: 0,
        }
    }

    /// Judges a call by its bucket, if it has one.
    pub fn take(&mut self, quota: &Quota, key: Key, now: u64) -> Option<Verdict> {
        let full_at = self.buckets.get_mut(&key)?;
        Some(match quota.spend(*full_at, now) {
            Some(next) => {
                *full_at = next;
                Verdict::Pass(quota.standing(next, now))
            }
            None => Verdict::Refuse(quota.standing(*full_at, now)),
        })
    }

    /// Forgets buckets that are full again.
    pub fn sweep(&mut self, now: u64) {
        self.buckets.retain(|_, full_at| *full_at > now);
        if self.buckets.len() < self.buckets.capacity() / 4 {
            self.buckets.shrink_to_fit();
        }
    }

    /// Buckets kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buckets.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// All buckets, to carry them over.
    pub fn each(&self, mut f: impl FnMut(Key, u64)) {
        for (key, full_at) in &self.buckets {
            f(*key, *full_at);
        }
    }

    /// Takes a bucket over from another; gives it back if there is no room.
    pub fn adopt(&mut self, key: Key, full_at: u64) -> bool {
        let fits = self.buckets.len() < self.all;
        if fits {
            self.buckets.insert(key, full_at);
        }
        fits
    }

    fn has_room(&mut self, busy: bool, now: u64) -> bool {
        if self.buckets.len() >= self.open && now >= self.rests_until {
            self.rests_until = now.saturating_add(SWEEP_REST);
            self.sweep(now);
        }
        let most = if busy { self.all } else { self.open };
        self.buckets.len() < most
    }
}

/// Counts that may be too high and are never too low.
pub trait Counts {
    /// Counts of nothing, for about so many keys.
    fn sized(keys: usize) -> Self;
    /// Adds calls to those of a key.
    fn add(&self, key: Key, calls: u64);
    /// At least the calls of a key.
    fn of(&self, key: Key) -> u64;
    /// Forgets all.
    fn clear(&self);
    /// By how much the count of a key that made few calls may well be too high, when all keys together made so many.
    fn noise(&self, calls: u64) -> u64;
}

/// A window shorter than this would be cleared too often, in nanoseconds.
const WINDOW_LEAST: u64 = 100_000_000;

/// The calls that passed by estimate in this window and the one before. Each is at least as long as a refill; while
/// nothing is judged by estimate, there is nothing here.
#[derive(Debug)]
pub struct Light<C> {
    /// This one and the one before.
    windows: Option<[C; 2]>,
    /// The calls of all keys in them.
    calls: [u64; 2],
    keys: usize,
    window: u64,
    began: u64,
}

impl<C: Counts> Light<C> {
    /// For a quota, and about so many keys.
    #[must_use]
    pub fn new(quota: &Quota, keys: usize) -> Self {
        Self {
            windows: None,
            calls: [0; 2],
            keys,
            window: quota.refill().max(WINDOW_LEAST),
            began: 0,
        }
    }

    /// Whether anything was judged by estimate lately.
    pub fn is_used(&mut self, now: u64) -> bool {
        self.turn(now);
        self.windows.is_some()
    }

    /// At least the calls of a key that passed by estimate within a refill.
    pub fn estimate(&mut self, key: Key, now: u64) -> u64 {
        self.turn(now);
        self.windows
            .as_ref()
            .map_or(0, |windows| windows.iter().map(|one| one.of(key)).sum())
    }

    /// From how many calls in the estimate a key counts as busy: half of what it might have, and more than chance gives to
    /// a key that is not.
    fn busy(&self, quota: &Quota) -> u64 {
        let noise = self.windows.as_ref().map_or(0, |windows| {
            let both = windows.iter().zip(self.calls);
            both.map(|(one, calls)| one.noise(calls)).sum()
        });
        (quota.burst() / 2).max(1) + noise
    }

    /// Adds calls that passed.
    pub fn add(&mut self, key: Key, calls: u64, now: u64) {
        self.turn(now);
        let keys = self.keys;
        if self.windows.is_none() {
            self.began = now;
            self.calls = [0; 2];
        }
        self.calls[0] += calls;
        self.windows
            .get_or_insert_with(|| [C::sized(keys), C::sized(keys)])[0]
            .add(key, calls);
    }

    fn turn(&mut self, now: u64) {
        // A caller whose `now` is older than the window's beginning comes after it all the same.
        let age = now.saturating_sub(self.began);
        if age >= self.window.saturating_mul(2) {
            self.windows = None;
        } else if age >= self.window
            && let Some(windows) = &mut self.windows
        {
            windows.swap(0, 1);
            windows[0].clear();
            self.calls = [0, self.calls[0]];
            self.began = now;
        }
    }

    /// Until the estimate forgets something.
    fn turns_in(&self, now: u64) -> u64 {
        self.began.saturating_add(self.window).saturating_sub(now)
    }
}

/// A verdict, and whether it was the estimate's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    /// What becomes of the call.
    pub verdict: Verdict,
    /// Whether the key has no bucket.
    pub estimated: bool,
    /// Whether it was judged without the bucket that pods share, which could not be asked.
    pub away: bool,
}

/// Judges a call of a key that has no bucket in its shard.
pub fn newcomer<C: Counts>(
    shard: &mut Shard,
    light: &mut Light<C>,
    quota: &Quota,
    key: Key,
    now: u64,
) -> Judged {
    let seen = light.estimate(key, now);
    if shard.has_room(seen >= light.busy(quota), now) {
        let full_at = quota.used(seen, now);
        let next = quota.spend(full_at, now);
        shard.buckets.insert(key, next.unwrap_or(full_at));
        return Judged {
            verdict: match next {
                Some(next) => Verdict::Pass(quota.standing(next, now)),
                None => Verdict::Refuse(quota.standing(full_at, now)),
            },
            estimated: false,
            away: false,
        };
    }
    let verdict = if seen < quota.burst() {
        light.add(key, 1, now);
        Verdict::Pass(Standing {
            left: quota.burst() - seen - 1,
            more_in: Duration::from_nanos(quota.step()),
        })
    } else {
        let wait = light.turns_in(now).max(quota.step());
        Verdict::Refuse(Standing {
            left: 0,
            more_in: Duration::from_nanos(wait),
        })
    };
    Judged {
        verdict,
        estimated: true,
        away: false,
    }
}
