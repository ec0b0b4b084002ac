//! One test for each row of the table in `machine.rs`, the walks, and the skin around a mock.

mod layer;
mod lease;

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use super::layer::Sketch;
use super::machine::Counts;
use super::machine::Judged;
use super::machine::Key;
use super::machine::Light;
use super::machine::Shard;
use super::machine::newcomer;
use crate::kit::gcra::Bucket;
use crate::kit::gcra::Quota;
use crate::kit::gcra::Standing;
use crate::kit::gcra::Verdict;
use crate::kit::walk;
use crate::kit::walk::Draws;

const MS: u64 = 1_000_000;
const S: u64 = 1000 * MS;

fn quota(rps: u32, burst: u32) -> Quota {
    Quota::new(rps, Duration::from_secs(1), burst)
}

fn passed(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Pass(_))
}

fn standing(left: u64, more_in_ms: u64) -> Standing {
    Standing {
        left,
        more_in: Duration::from_millis(more_in_ms),
    }
}

fn any_quota(draws: &mut Draws) -> Quota {
    let minute = Duration::from_secs(60);
    let calls = 1 + draws.below(600) as u32;
    let (calls, per) = match draws.below(3) {
        0 => (calls, 60 * minute),
        1 => (calls, minute),
        _ => (calls, Duration::from_secs(1)),
    };
    Quota::new(calls, per, 1 + draws.below(20) as u32)
}

// --- keys ---

/// Counts that are right.
struct Exact(RefCell<HashMap<Key, u64>>);

impl Counts for Exact {
    fn sized(_: usize) -> Self {
        Self(RefCell::default())
    }
    fn add(&self, key: Key, calls: u64) {
        *self.0.borrow_mut().entry(key).or_default() += calls;
    }
    fn of(&self, key: Key) -> u64 {
        self.0.borrow().get(&key).copied().unwrap_or(0)
    }
    fn clear(&self) {
        self.0.borrow_mut().clear();
    }
    fn noise(&self, _: u64) -> u64 {
        0
    }
}

/// Counts in which keys meet often: three places for all of them.
struct Crowded([Cell<u64>; 3]);

impl Counts for Crowded {
    fn sized(_: usize) -> Self {
        Self(Default::default())
    }
    fn add(&self, key: Key, calls: u64) {
        let place = &self.0[(key.0 % 3) as usize];
        place.set(place.get() + calls);
    }
    fn of(&self, key: Key) -> u64 {
        self.0[(key.0 % 3) as usize].get()
    }
    fn clear(&self) {
        self.0.iter().for_each(|place| place.set(0));
    }
    fn noise(&self, calls: u64) -> u64 {
        calls / 3
    }
}

struct Keyed<C> {
    quota: Quota,
    shard: Shard,
    light: Light<C>,
}

impl<C: Counts> Keyed<C> {
    fn new(quota: Quota, keys: usize) -> Self {
        Self {
            quota,
            shard: Shard::new(keys),
            light: Light::new(&quota, keys),
        }
    }

    fn judge(&mut self, key: u64, now: u64) -> Judged {
        let key = Key(key, !key);
        match self.shard.take(&self.quota, key, now) {
            Some(verdict) => Judged {
                verdict,
                estimated: false,
                away: false,
            },
            None => newcomer(&mut self.shard, &mut self.light, &self.quota, key, now),
        }
    }

    fn pass(&mut self, key: u64, now: u64) -> bool {
        passed(self.judge(key, now).verdict)
    }

    /// Takes every place that is not in the reserve, each by one call.
    fn crowd(&mut self, keys: u64, now: u64) {
        for made_up in 0..keys {
            assert!(!self.judge(1000 + made_up, now).estimated);
        }
    }
}

#[test]
fn a_key_with_a_bucket_is_judged_by_it() {
    let mut keyed = Keyed::<Exact>::new(quota(10, 2), 8);
    for key in 0..5 {
        let judged = [0, 1, 2].map(|_| keyed.judge(key, S));
        assert_eq!(judged.map(|one| passed(one.verdict)), [true, true, false]);
        assert!(judged.iter().all(|one| !one.estimated));
    }
    assert_eq!(keyed.shard.len(), 5);
}

#[test]
fn a_key_without_one_gets_one_while_there_is_room() {
    let mut keyed = Keyed::<Exact>::new(quota(10, 8), 8);
    keyed.crowd(6, S);
    let judged = keyed.judge(1, S);
    assert!(
        judged.estimated && passed(judged.verdict),
        "the last quarter is kept back"
    );
    let later = S + 100 * MS;
    assert!(
        !keyed.judge(1, later).estimated,
        "six are full again, so they make room"
    );
    assert_eq!(keyed.shard.len(), 1);
}

#[test]
fn what_the_estimate_has_seen_is_used_up_in_a_new_bucket() {
    let mut keyed = Keyed::<Exact>::new(quota(10, 8), 8);
    keyed.crowd(6, S);
    let calls = [0, 1, 2].map(|_| keyed.judge(1, S));
    assert!(calls.iter().all(|one| one.estimated && passed(one.verdict)));
    let later = S + 110 * MS;
    assert_eq!(
        keyed.judge(1, later).verdict,
        Verdict::Pass(standing(4, 100)),
        "three by estimate and this one"
    );
}

#[test]
fn a_busy_key_gets_a_bucket_from_the_reserve() {
    let mut keyed = Keyed::<Exact>::new(quota(10, 8), 8);
    keyed.crowd(6, S);
    let judged = [(); 9].map(|()| keyed.judge(1, S).estimated);
    let by_estimate = judged.iter().take_while(|estimated| **estimated).count();
    assert_eq!(by_estimate, 4, "half of the burst");
    assert_eq!(keyed.shard.len(), 7);
    assert!(!keyed.pass(1, S), "eight have passed");
    assert!(keyed.judge(2, S).estimated, "who is not busy gets none");
}

#[test]
fn a_key_without_a_bucket_is_judged_by_the_estimate() {
    let mut keyed = Keyed::<Exact>::new(quota(1, 1), 4);
    keyed.crowd(3, S);
    assert!(keyed.judge(1, S).estimated);
    assert!(
        !keyed.judge(1, S).estimated,
        "one call is busy with a burst of one"
    );
    let judged = keyed.judge(2, S);
    assert!(judged.estimated && passed(judged.verdict));
    let judged = keyed.judge(2, S);
    assert!(judged.estimated, "the reserve is full too");
    let Verdict::Refuse(standing) = judged.verdict else {
        panic!("a burst of one is one call");
    };
    let wait = standing.more_in.as_nanos() as u64;
    assert!(wait >= S, "{wait}");
}

#[test]
fn made_up_keys_push_nobody_out() {
    let mut keyed = Keyed::<Exact>::new(quota(10, 20), 100);
    let mut now = S;
    let (mut passes, mut asked) = (0, 0);
    for made_up in 0..200_000 {
        now += MS / 10;
        keyed.judge(1_000_000 + made_up, now);
        if made_up % 1000 == 0 {
            asked += 1;
            let judged = keyed.judge(1, now);
            passes += u64::from(passed(judged.verdict));
            assert!(
                made_up < 15_000 || !judged.estimated,
                "at its rate it is busy, and stays"
            );
        }
    }
    assert_eq!(passes, asked, "an honest key at its rate is never refused");
    assert!(keyed.shard.len() <= 100);
}

#[test]
fn a_million_keys_take_no_more_room_than_the_policy_gives() {
    let mut keyed = Keyed::<Sketch>::new(Quota::new(5, Duration::from_secs(3600), 5), 10_000);
    let mut draws = Draws::new(7);
    (0..1_000_000).for_each(|_| {
        keyed.judge(draws.bits(), S);
    });
    let kept = keyed.shard.len();
    assert!(
        (7500..7600).contains(&kept),
        "{kept}: who comes once is not busy"
    );
}

#[test]
fn an_estimate_that_nobody_needs_is_let_go() {
    let mut keyed = Keyed::<Exact>::new(quota(10, 2), 4);
    keyed.crowd(3, S);
    keyed.judge(1, S);
    assert!(keyed.light.is_used(S));
    assert!(!keyed.light.is_used(3 * S));
}

/// Every call that passes would have passed a bucket of its own key that never forgets.
fn never_more<C: Counts>(draws: &mut Draws) {
    let (quota, keys) = (any_quota(draws), 1 + draws.below(40));
    let step = quota.step();
    let mut keyed = Keyed::<C>::new(quota, 1 + draws.below(12) as usize);
    let mut truth: HashMap<u64, Bucket> = HashMap::new();
    let mut now = draws.below(S);
    for _ in 0..250 {
        now += match draws.below(20) {
            0 => draws.below(quota.refill() * 3),
            1..6 => draws.below(step * 2),
            _ => draws.below(step / 8 + 1),
        };
        let among = if draws.chance(0.5) { keys } else { 3 };
        let key = draws.below(among);
        let exact = truth.entry(key).or_default();
        if keyed.pass(key, now) {
            assert!(
                passed(exact.take(&quota, now)),
                "{quota:?} admits too much of {key}"
            );
        }
        if draws.chance(0.02) {
            keyed.shard.sweep(now);
        }
    }
}

#[test]
fn walk_keys_together_never_pass_more_than_alone() {
    walk::seeds(never_more::<Exact>);
    walk::seeds(never_more::<Sketch>);
}

#[test]
fn walk_an_estimate_that_is_wrong_refuses_and_never_admits() {
    walk::seeds(never_more::<Crowded>);
}

#[test]
fn walk_with_room_for_all_every_key_is_exact() {
    walk::seeds(|draws| {
        let quota = any_quota(draws);
        let step = quota.step();
        let mut keyed = Keyed::<Crowded>::new(quota, 16);
        let mut truth: HashMap<u64, Bucket> = HashMap::new();
        let mut now = draws.below(S);
        for _ in 0..300 {
            now += draws.below(step);
            let key = draws.below(12);
            let exact = passed(truth.entry(key).or_default().take(&quota, now));
            assert_eq!(keyed.pass(key, now), exact);
            if draws.chance(0.05) {
                keyed.shard.sweep(now);
            }
        }
    });
}
