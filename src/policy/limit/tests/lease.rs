//! One test for each row of the table in `machine/lease.rs`, and fleets of pods around one bucket.

use std::time::Duration;

use crate::kit::gcra::Quota;
use crate::kit::gcra::Verdict;
use crate::kit::walk;
use crate::kit::walk::Draws;
use crate::policy::limit::machine::lease::Ask;
use crate::policy::limit::machine::lease::Away;
use crate::policy::limit::machine::lease::By;
use crate::policy::limit::machine::lease::Grant;
use crate::policy::limit::machine::lease::KEEP;
use crate::policy::limit::machine::lease::Lease;
use crate::policy::limit::machine::lease::PATIENCE;
use crate::policy::limit::machine::lease::Taken;
use crate::policy::limit::machine::lease::Terms;

const MS: u64 = 1_000_000;
const S: u64 = 1000 * MS;

fn terms(rps: u32, burst: u32, away: Away) -> Terms {
    Terms {
        quota: Quota::new(rps, Duration::from_secs(1), burst),
        away,
    }
}

fn passes(taken: &Taken) -> bool {
    matches!(taken.verdict, Verdict::Pass(_))
}

fn grant(calls: u64, pods: u64) -> Grant {
    Grant {
        calls,
        left: 5,
        pods,
        next: 0,
    }
}

/// A lease that was given so many calls at `now`.
fn holding(terms: &Terms, calls: u64, pods: u64, now: u64) -> Lease {
    let mut lease = Lease::new(now);
    lease.greet(now).expect("nothing is on its way");
    lease.granted(terms, grant(calls, pods), now, 0.5);
    lease
}

/// One whose bucket was found empty at `now`, with something again in 30 ms.
fn drained(terms: &Terms, now: u64) -> Lease {
    let mut lease = Lease::new(now);
    lease.greet(now).expect("nothing is on its way");
    let grant = Grant {
        calls: 0,
        left: 0,
        pods: 2,
        next: 30 * MS,
    };
    lease.granted(terms, grant, now, 0.5);
    lease
}

#[test]
fn what_it_holds_passes_and_it_asks_when_half_is_gone() {
    let terms = terms(100, 20, Away::Deny);
    let mut lease = holding(&terms, 2, 1, S);
    for _ in 0..2 {
        let taken = lease.take(&terms, S + MS);
        assert!(passes(&taken) && taken.by == By::Lease);
    }
    assert_eq!(lease.owed(), 0);
    let ask = lease.ask(&terms, S + 10 * MS).expect("it holds nothing");
    assert_eq!((ask.owed, ask.back), (0, 0));
    // Two calls in ten milliseconds are twenty in a tenth of a second.
    assert_eq!(ask.want, 20);
    assert_eq!(
        lease.ask(&terms, S + 11 * MS),
        None,
        "one ask at a time, for what is on its way may be enough"
    );
    lease.granted(&terms, grant(20, 1), S + 12 * MS, 0.5);
    let rings: Vec<bool> = (0..12)
        .map(|_| lease.take(&terms, S + 13 * MS).rings)
        .collect();
    assert_eq!(rings.iter().filter(|rings| **rings).count(), 1);
    assert!(rings[9], "ten of twenty are left");
}

#[test]
fn empty_it_owes_up_to_its_account_and_tells_so() {
    let terms = terms(100, 20, Away::Deny);
    let mut lease = holding(&terms, 0, 2, S);
    for owed in 1..=5 {
        assert!(passes(&lease.take(&terms, S)));
        assert_eq!(lease.owed(), owed);
    }
    let taken = lease.take(&terms, S);
    assert!(
        !passes(&taken) && taken.by == By::Lease,
        "a quarter of the burst is the account of one of two"
    );
    let ask = lease.ask(&terms, S).expect("it owes");
    assert_eq!(ask.owed, 5);
    lease.failed(S + MS);
    assert_eq!(lease.owed(), 5, "told until it was heard");
    let ask = lease.ask(&terms, S + 200 * MS).expect("it owes");
    assert_eq!(ask.owed, 5);
    lease.granted(&terms, grant(1, 2), S + 201 * MS, 0.5);
    assert_eq!((lease.owed(), lease.held()), (0, 1));
}

#[test]
fn an_empty_bucket_is_no_account() {
    let terms = terms(100, 20, Away::Deny);
    let mut lease = drained(&terms, S);
    let taken = lease.take(&terms, S + MS);
    assert!(!passes(&taken) && taken.by == By::Lease && taken.rings);
    assert!(!lease.take(&terms, S + MS).rings, "told once");
    assert!(lease.not_before() >= S + 30 * MS);
    let Verdict::Refuse(standing) = taken.verdict else {
        panic!("refused")
    };
    assert!(standing.more_in >= Duration::from_millis(29));
    // Long after it may owe again, for the bucket has filled meanwhile.
    let mut lease = drained(&terms, S);
    assert!(passes(&lease.take(&terms, S + 5 * S)));
}

#[test]
fn without_an_answer_the_rule_for_away_judges() {
    for (away, passed) in [(Away::Allow, 30), (Away::Deny, 0), (Away::Local, 5)] {
        let terms = terms(1, 20, away);
        let mut lease = drained(&terms, S);
        lease.take(&terms, S);
        let late = lease.not_before() + PATIENCE;
        assert_eq!(lease.take(&terms, late).by, By::Lease, "not yet late");
        let judged: Vec<Taken> = (0..30).map(|_| lease.take(&terms, late + MS)).collect();
        assert!(judged.iter().all(|one| one.by == By::Away));
        // Local: of two pods each has ten of the twenty.
        let passed = if away == Away::Local { 10 } else { passed };
        let count = judged.iter().filter(|one| passes(one)).count();
        assert_eq!(count, passed, "{away:?}");
    }
}

#[test]
fn after_a_failure_the_rule_judges_until_an_answer_comes() {
    let terms = terms(100, 20, Away::Allow);
    let mut lease = drained(&terms, S);
    lease.take(&terms, S + 50 * MS);
    lease.ask(&terms, S + 50 * MS).expect("a call was refused");
    lease.failed(S + 51 * MS);
    let taken = lease.take(&terms, S + 52 * MS);
    assert!(passes(&taken) && taken.by == By::Away && taken.rings);
    let mut rests = Vec::new();
    let mut now = S + 52 * MS;
    for _ in 0..7 {
        rests.push((lease.not_before() - now).div_ceil(MS));
        now = lease.not_before();
        lease.take(&terms, now);
        lease.ask(&terms, now).expect("it wants");
        lease.failed(now);
    }
    assert_eq!(rests, [99, 200, 400, 800, 1000, 1000, 1000]);
    now = lease.not_before();
    lease.take(&terms, now);
    lease.ask(&terms, now).expect("it wants");
    lease.granted(&terms, grant(1, 2), now, 0.5);
    assert_eq!(lease.take(&terms, now).by, By::Lease);
}

#[test]
fn an_outage_is_worth_no_burst_to_who_has_had_its_share() {
    let terms = terms(1, 20, Away::Local);
    let mut lease = holding(&terms, 10, 2, S);
    for _ in 0..10 {
        assert!(passes(&lease.take(&terms, S)));
    }
    lease.ask(&terms, S).expect("it holds nothing");
    lease.failed(S);
    let taken = lease.take(&terms, S);
    assert!(!passes(&taken) && taken.by == By::Away);
    // One of two pods, at one a second.
    assert!(!passes(&lease.take(&terms, S + S)));
    assert!(passes(&lease.take(&terms, S + 2 * S)));
}

#[test]
fn what_is_not_used_goes_back_once() {
    let terms = terms(100, 20, Away::Deny);
    let mut lease = holding(&terms, 7, 1, S);
    assert_eq!(lease.ask(&terms, S + KEEP / 2), None, "it may be used yet");
    let ask = lease.ask(&terms, S + KEEP).expect("it holds seven");
    assert_eq!((ask.want, ask.owed, ask.back), (0, 0, 7));
    lease.failed(S + KEEP);
    assert_eq!(lease.held(), 0, "who knows whether it was heard");
    assert_eq!(lease.ask(&terms, S + 3 * KEEP), None);
    assert!(lease.is_blank(S + 3 * KEEP));
}

#[test]
fn a_lease_that_knows_of_an_empty_bucket_is_not_forgotten() {
    let terms = terms(1, 1, Away::Deny);
    let mut lease = Lease::new(S);
    assert!(passes(&lease.take(&terms, S)));
    lease.ask(&terms, S).expect("it owes");
    let hour = Grant {
        calls: 0,
        left: 0,
        pods: 1,
        next: 3600 * S,
    };
    lease.granted(&terms, hour, S, 0.5);
    for minute in 1..60 {
        let now = S + minute * 60 * S;
        assert!(!lease.is_blank(now));
        assert!(!passes(&lease.take(&terms, now)), "{minute}");
    }
}

/// What the script in Redis does, in numbers of the same meaning.
struct Bucket {
    full: f64,
    heard: Vec<u64>,
}

impl Bucket {
    fn ask(&mut self, terms: &Terms, pod: usize, ask: Ask, now: u64) -> Grant {
        let step = terms.quota.step() as f64;
        let refill = step * terms.quota.burst() as f64;
        let time = now as f64;
        self.heard[pod] = now;
        let lately = self.heard.iter().filter(|at| **at + 2 * S > now).count();
        let full = self.full.max(time);
        let full = (full - ask.back as f64 * step).max(time) + ask.owed as f64 * step;
        let level = (refill - (full - time)) / step;
        let share = (2.0 * level / lately as f64).ceil().max(1.0);
        let calls = (ask.want as f64)
            .min((level + 1e-6).floor())
            .min(share)
            .max(0.0);
        self.full = full + calls * step;
        let level = level - calls;
        Grant {
            calls: calls as u64,
            left: level.max(0.0) as u64,
            pods: lately as u64,
            next: if level >= 1.0 {
                0
            } else {
                ((1.0 - level) * step) as u64
            },
        }
    }
}

/// One pod of a simulated fleet.
struct Pod {
    lease: Lease,
    /// When it asks.
    rung: Option<u64>,
    /// When its answer arrives, and what it is.
    answer: Option<(u64, Option<Grant>)>,
    passed: u64,
}

/// How the way to Redis is.
#[derive(Clone, Copy)]
struct Way {
    latency: u64,
    lost: f64,
}

struct Fleet {
    terms: Terms,
    bucket: Bucket,
    pods: Vec<Pod>,
    way: Way,
    asks: u64,
}

impl Fleet {
    fn new(terms: Terms, pods: usize, way: Way) -> Self {
        let pod = || Pod {
            lease: Lease::new(S),
            rung: None,
            answer: None,
            passed: 0,
        };
        Self {
            terms,
            bucket: Bucket {
                full: 0.0,
                heard: vec![0; pods],
            },
            pods: (0..pods).map(|_| pod()).collect(),
            way,
            asks: 0,
        }
    }

    fn step(&mut self, draws: &mut Draws, now: u64) {
        for at in 0..self.pods.len() {
            let due = self.pods[at].answer.filter(|(when, _)| *when <= now);
            if let Some((_, answer)) = due {
                let pod = &mut self.pods[at];
                pod.answer = None;
                match answer {
                    Some(grant) => pod.lease.granted(&self.terms, grant, now, draws.unit()),
                    None => pod.lease.failed(now),
                }
            }
            let is_due = self.pods[at].rung.is_some_and(|when| when <= now);
            if is_due || self.pods[at].lease.is_unused(now) {
                self.pods[at].rung = None;
                if let Some(ask) = self.pods[at].lease.ask(&self.terms, now) {
                    self.asked(draws, at, ask, now);
                }
            }
        }
    }

    fn asked(&mut self, draws: &mut Draws, at: usize, ask: Ask, now: u64) {
        self.asks += 1;
        // Lost on the way there, or on the way back.
        let answer = match (draws.chance(self.way.lost), draws.chance(self.way.lost)) {
            (true, _) => None,
            (false, lost) => {
                let grant = self.bucket.ask(&self.terms, at, ask, now);
                (!lost).then_some(grant)
            }
        };
        self.pods[at].answer = Some((now + self.way.latency, answer));
    }

    fn call(&mut self, at: usize, now: u64) -> Taken {
        let pod = &mut self.pods[at];
        let taken = pod.lease.take(&self.terms, now);
        if taken.rings {
            pod.rung = Some(pod.lease.not_before());
        }
        pod.passed += u64::from(passes(&taken));
        taken
    }

    fn passed(&self) -> Vec<u64> {
        self.pods.iter().map(|pod| pod.passed).collect()
    }
}

#[test]
fn walk_a_fleet_never_passes_more_than_is_promised() {
    walk::seeds(|draws| {
        let (rps, burst) = (1 + draws.below(300) as u32, 1 + draws.below(60) as u32);
        let terms = terms(rps, burst, Away::Deny);
        let count = 1 + draws.below(8);
        let way = Way {
            latency: draws.below(20) * MS,
            lost: draws.pick(&[0.0, 0.0, 0.1, 0.5]),
        };
        let mut fleet = Fleet::new(terms, count as usize, way);
        // As many as may pass at once, and not more than the rate after that.
        let promised = terms.quota.burst() + count * terms.batch(1);
        let per_second = Duration::from_secs(1);
        let promised = Quota::new(rps, per_second, u32::try_from(promised).expect("small"));
        let mut all = 0;
        let mut now = S;
        for _ in 0..800 {
            now += draws.pick(&[MS / 2, MS, 2 * MS]);
            if draws.chance(0.001) {
                now += draws.below(5) * S;
            }
            fleet.step(draws, now);
            let pod = draws.below(count) as usize;
            for _ in 0..draws.below(4) {
                if passes(&fleet.call(pod, now)) {
                    all = promised
                        .spend(all, now)
                        .expect("within burst, rate and what pods hold or owe");
                }
            }
        }
    });
}

/// So many seconds in which each pod has so many calls a second.
fn busy(seed: u64, terms: Terms, demand: &[u64], seconds: u64) -> Fleet {
    let mut draws = Draws::new(seed);
    let way = Way {
        latency: MS,
        lost: 0.0,
    };
    let mut fleet = Fleet::new(terms, demand.len(), way);
    for pod in &mut fleet.pods {
        pod.lease.greet(S);
        pod.answer = None;
    }
    for at in 0..demand.len() {
        let hello = Ask {
            want: 0,
            owed: 0,
            back: 0,
        };
        let grant = fleet.bucket.ask(&terms, at, hello, S);
        fleet.pods[at].answer = Some((S, Some(grant)));
    }
    for tick in 0..seconds * 1000 {
        let now = S + tick * MS;
        fleet.step(&mut draws, now);
        for (at, rate) in demand.iter().enumerate() {
            if draws.chance(*rate as f64 / 1000.0) {
                fleet.call(at, now);
            }
        }
    }
    fleet
}

#[test]
fn five_busy_pods_together_pass_what_one_bucket_would() {
    for seed in 0..50 {
        let fleet = busy(seed, terms(100, 20, Away::Local), &[60; 5], 10);
        let each = fleet.passed();
        let all: u64 = each.iter().sum();
        assert!(
            (950..=1050).contains(&all),
            "seed {seed}: {all} of {each:?}"
        );
        let (least, most) = (each.iter().min(), each.iter().max());
        assert!(
            least.is_some_and(|least| *least >= 160) && most.is_some_and(|most| *most <= 250),
            "seed {seed}: spread unfairly: {each:?}"
        );
        assert!(fleet.asks < 2000, "seed {seed}: {} asks", fleet.asks);
    }
}

#[test]
fn what_quiet_pods_leave_is_for_the_busy_ones() {
    for seed in 0..20 {
        let fleet = busy(seed, terms(100, 20, Away::Local), &[200, 5, 5, 5, 5], 10);
        let each = fleet.passed();
        let all: u64 = each.iter().sum();
        assert!(
            (930..=1050).contains(&all),
            "seed {seed}: {all} of {each:?}"
        );
        for quiet in &each[1..] {
            assert!(*quiet >= 15, "seed {seed}: {each:?}");
        }
    }
}

#[test]
fn below_the_limit_next_to_nothing_is_refused() {
    for seed in 0..20 {
        let fleet = busy(seed, terms(1000, 1000, Away::Deny), &[100; 5], 10);
        let all: u64 = fleet.passed().iter().sum();
        assert!((4700..=5300).contains(&all), "seed {seed}: {all}");
        // A lease is asked for at most every few hundredths of a second.
        assert!(fleet.asks < 2000, "seed {seed}: {} asks", fleet.asks);
    }
}
