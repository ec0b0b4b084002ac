//! One test for each row of the table in `gradient.rs`, a random walk, and upstreams that are simulated call by call.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::time::Duration;
use std::time::Instant;

use super::super::gradient::DIP_EVERY;
use super::super::gradient::Gradient;
use super::super::gradient::START;
use super::super::walk;
use super::super::walk::Draws;
use super::millis;
use super::secs;

/// An upstream that does `capacity` calls at once, each in about `service`; the others wait over there, first come first
/// served, for as long as it takes: nobody tells it that the caller has gone.
struct Upstream {
    capacity: usize,
    service: Duration,
    busy: usize,
    waiting: VecDeque<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    Served(u64),
    Expired(u64),
}

/// What a call carries: when it was sent, and the mark it got then.
type Sent = (Instant, u32);

struct World {
    now: Instant,
    events: BinaryHeap<Reverse<(Instant, Event)>>,
    draws: Draws,
    upstream: Upstream,
    /// Turns away what is above its limit; `None` lets all through.
    gate: Option<Gradient>,
    sent: HashMap<u64, Sent>,
    calls: u64,
    /// Calls offered each second.
    offer: f64,
    timeout: Duration,
    good: u64,
}

impl World {
    /// An upstream that does 2000 calls a second, offered `load` times as much.
    fn new(seed: u64, gate: Option<Gradient>, load: f64) -> Self {
        let now = walk::start();
        Self {
            now,
            events: BinaryHeap::from([Reverse((now, Event::Arrival))]),
            draws: Draws::new(seed),
            upstream: Upstream {
                capacity: 20,
                service: millis(10),
                busy: 0,
                waiting: VecDeque::new(),
            },
            gate,
            sent: HashMap::new(),
            calls: 0,
            offer: 2000.0 * load,
            timeout: secs(1),
            good: 0,
        }
    }

    fn after(&mut self, wait: Duration, event: Event) {
        self.events.push(Reverse((self.now + wait, event)));
    }

    /// Half of it is fixed and half exponential, as the time of a call with some work and some chance is.
    fn begin(&mut self, call: u64) {
        let chance = -(1.0 - self.draws.unit()).ln();
        let service = self.upstream.service.mul_f64(0.5 + 0.5 * chance);
        self.upstream.busy += 1;
        self.after(service, Event::Served(call));
    }

    fn in_flight(&self) -> u32 {
        u32::try_from(self.sent.len()).unwrap_or(u32::MAX)
    }

    fn arrive(&mut self) {
        let gap = -(1.0 - self.draws.unit()).ln() / self.offer;
        self.after(Duration::from_secs_f64(gap), Event::Arrival);
        let call = self.calls;
        self.calls += 1;
        let in_flight = self.in_flight();
        let mark = match &mut self.gate {
            None => 0,
            Some(gate) => {
                gate.pass(in_flight, self.now);
                if in_flight >= gate.limit() {
                    return;
                }
                gate.mark()
            }
        };
        self.sent.insert(call, (self.now, mark));
        self.after(self.timeout, Event::Expired(call));
        if self.upstream.busy < self.upstream.capacity {
            self.begin(call);
        } else {
            self.upstream.waiting.push_back(call);
        }
    }

    fn served(&mut self, call: u64) {
        let (in_flight, now) = (self.in_flight(), self.now);
        if let Some((at, mark)) = self.sent.remove(&call) {
            self.good += 1;
            if let Some(gate) = &mut self.gate {
                gate.answered(mark, now - at, in_flight, now);
            }
        }
        self.upstream.busy -= 1;
        if let Some(next) = self.upstream.waiting.pop_front() {
            self.begin(next);
        }
    }

    fn expired(&mut self, call: u64) {
        let (in_flight, now) = (self.in_flight(), self.now);
        if let (Some((_, mark)), Some(gate)) = (self.sent.remove(&call), &mut self.gate) {
            gate.dropped(mark, in_flight, now);
        }
    }

    /// Runs on; gives the calls answered in time, as a share of what the upstream can do.
    fn run(&mut self, time: Duration) -> f64 {
        let (until, before) = (self.now + time, self.good);
        while let Some(Reverse((at, event))) = self.events.pop() {
            self.now = at;
            match event {
                Event::Arrival => self.arrive(),
                Event::Served(call) => self.served(call),
                Event::Expired(call) => self.expired(call),
            }
            if let Some(gate) = &self.gate {
                gate.check_invariants();
            }
            if at >= until {
                break;
            }
        }
        let can = self.upstream.capacity as f64 / self.upstream.service.as_secs_f64();
        (self.good - before) as f64 / (can * time.as_secs_f64())
    }

    fn limit(&self) -> u32 {
        self.gate.as_ref().map_or(0, Gradient::limit)
    }
}

fn gate() -> Gradient {
    Gradient::new(4, 1000)
}

#[test]
fn ten_times_the_load_goodput_stays_with_it_and_is_gone_without() {
    for seed in 0..4 {
        let mut with = World::new(seed, Some(gate()), 10.0);
        let first = with.run(secs(1));
        assert!(first >= 0.8, "seed {seed}: {first} while it starts");
        let later = with.run(secs(3));
        assert!(later >= 0.95, "seed {seed}: {later}");
        let mut without = World::new(seed, None, 10.0);
        without.run(secs(2));
        let gone = without.run(secs(2));
        assert!(gone < 0.05, "seed {seed}: {gone} without");
    }
}

#[test]
fn an_upstream_that_becomes_ten_times_slower_and_recovers_is_followed_both_ways() {
    for seed in 0..4 {
        let mut with = World::new(seed, Some(gate()), 0.9);
        let before = with.run(secs(2));
        assert!(before >= 0.75, "seed {seed}: {before} of an offer of 0.9");
        with.upstream.service = millis(100);
        with.run(secs(1));
        let slow = with.run(secs(10));
        assert!(slow >= 0.9, "seed {seed}: {slow} of what a slow one can do");
        let mut without = World::new(seed, None, 0.9);
        without.run(secs(2));
        without.upstream.service = millis(100);
        without.run(secs(2));
        let gone = without.run(secs(9));
        assert!(gone < 0.05, "seed {seed}: {gone} without");

        with.upstream.service = millis(10);
        with.run(secs(1));
        let after = with.run(secs(3));
        assert!(after >= 0.8, "seed {seed}: {after} after the recovery");
    }
}

#[test]
fn an_outage_takes_the_limit_down_and_its_end_brings_it_back() {
    let mut with = World::new(1, Some(gate()), 2.0);
    with.timeout = millis(200);
    with.run(secs(2));
    with.upstream.service = secs(3600);
    with.run(secs(20));
    assert!(with.limit() <= 5, "{} calls into an outage", with.limit());
    with.upstream.service = millis(10);
    // The new process knows nothing of what the old one had been sent.
    with.upstream.busy = 0;
    with.upstream.waiting.clear();
    with.events
        .retain(|Reverse((_, event))| !matches!(event, Event::Served(_)));
    with.run(secs(2));
    let after = with.run(secs(2));
    assert!(after >= 0.9, "{after} after the outage");
}

#[test]
fn a_base_that_drifts_is_followed() {
    let mut with = World::new(2, Some(gate()), 3.0);
    with.run(secs(2));
    for _ in 0..30 {
        with.upstream.service = with.upstream.service.mul_f64(1.05);
        let good = with.run(secs(1));
        assert!(good >= 0.85, "{good} at {:?}", with.upstream.service);
    }
    assert!(with.limit() <= 60, "{} for 20 at once", with.limit());
}

#[test]
fn whatever_the_capacity_the_limit_ends_up_near_it() {
    for (capacity, most) in [(1, 20), (5, 20), (50, 110), (200, 400)] {
        let mut with = World::new(3, Some(gate()), f64::from(capacity) / 20.0 * 2.0);
        with.upstream.capacity = capacity as usize;
        with.run(secs(8));
        let good = with.run(secs(2));
        assert!(good >= 0.9, "{good} of a capacity of {capacity}");
        assert!(with.limit() <= most, "{} for {capacity}", with.limit());
    }
}

/// One after the other through `gate`, all with this latency, always as many under way as there may be.
fn calls(gate: &mut Gradient, count: u32, latency: Duration, now: &mut Instant) {
    for _ in 0..count {
        *now += millis(1);
        let (mark, limit) = (gate.mark(), gate.limit());
        gate.answered(mark, latency, limit, *now);
    }
}

#[test]
fn a_round_that_never_had_half_in_flight_leaves_the_limit_and_moves_the_base() {
    let mut gate = Gradient::new(1, 1000);
    let mut now = walk::start();
    for latency in [10, 200] {
        for _ in 0..500 {
            now += millis(1);
            gate.answered(gate.mark(), millis(latency), 3, now);
        }
        assert_eq!(gate.limit(), START);
        let base = gate.base().expect("learnt").as_secs_f64() * 1e3;
        assert!(
            (base - latency as f64).abs() < 0.1 * latency as f64,
            "{base}"
        );
    }
}

#[test]
fn a_round_without_a_queue_raises_the_limit_up_to_max() {
    let mut gate = Gradient::new(1, 300);
    let mut now = walk::start();
    calls(&mut gate, 30, millis(10), &mut now);
    assert!(gate.limit() > START);
    calls(&mut gate, 50_000, millis(10), &mut now);
    assert!(
        gate.limit() == 300 || gate.limit() == 150,
        "{}",
        gate.limit()
    );
}

#[test]
fn a_round_that_queues_lowers_the_limit() {
    let mut gate = Gradient::new(1, 1000);
    let mut now = walk::start();
    calls(&mut gate, 500, millis(10), &mut now);
    let before = gate.limit();
    calls(&mut gate, 3 * before, millis(40), &mut now);
    assert!(gate.limit() < before, "{} of {before}", gate.limit());
}

#[test]
fn a_round_of_drops_halves_the_limit_and_one_drop_in_many_hardly_moves_it() {
    let now = walk::start();
    let mut gate = Gradient::new(1, 1000);
    let mark = gate.mark();
    for _ in 0..START {
        gate.dropped(mark, START, now);
    }
    assert_eq!(gate.limit(), START / 2);
    for _ in 0..100 {
        gate.dropped(mark, START, now);
    }
    assert_eq!(gate.limit(), START / 2, "they were all under way together");

    let mut gate = Gradient::new(100, 100);
    gate.set_bounds(1, 1000);
    let (mark, mut now) = (gate.mark(), now);
    gate.dropped(mark, 100, now);
    calls(&mut gate, 99, millis(10), &mut now);
    assert!(gate.limit() >= 99, "{}", gate.limit());
}

#[test]
fn at_min_the_latency_is_the_base_whatever_it_is() {
    let mut gate = Gradient::new(4, 1000);
    let mut now = walk::start();
    calls(&mut gate, 1000, millis(1), &mut now);
    calls(&mut gate, 1000, millis(500), &mut now);
    let base = gate.base().expect("learnt");
    assert!(base > millis(200), "{base:?}");
    let low = gate.limit();
    calls(&mut gate, 2000, millis(500), &mut now);
    assert!(gate.limit() > low, "stuck at {low}");
}

#[test]
fn a_dip_is_a_round_at_half_and_comes_back() {
    let mut gate = Gradient::new(1, 100);
    let mut now = walk::start();
    let mut seen = Vec::new();
    for _ in 0..(100 * (DIP_EVERY + 40)) {
        calls(&mut gate, 1, millis(10), &mut now);
        let limit = gate.limit();
        if seen.last() != Some(&limit) {
            seen.push(limit);
        }
    }
    assert!(seen.ends_with(&[100, 50, 100]), "{seen:?}");
    assert!(seen.iter().all(|limit| *limit >= START), "{seen:?}");
}

/// The base is known from a time at which answers took a tenth, so a dip that only lasted four times as long as it would be
/// over before the first of its own answers.
#[test]
fn a_dip_waits_for_answers_that_take_much_longer_than_the_base() {
    let mut gate = Gradient::new(1, 1000);
    let mut now = walk::start();
    calls(&mut gate, 1000, millis(10), &mut now);
    let mut learnt = Vec::new();
    // As many at once as are allowed, each of which takes 200ms, for long enough for several dips.
    let mut under_way = VecDeque::new();
    for _ in 0..60_000 {
        now += millis(1);
        while under_way.front().is_some_and(|(until, _)| *until <= now) {
            let count = u32::try_from(under_way.len()).expect("few");
            let (_, mark) = under_way.pop_front().expect("there is one");
            gate.answered(mark, millis(200), count, now);
        }
        let count = u32::try_from(under_way.len()).expect("few");
        gate.pass(count, now);
        if count < gate.limit() {
            under_way.push_back((now + millis(200), gate.mark()));
        }
        let base = gate.base();
        if learnt.last() != Some(&base) {
            learnt.push(base);
        }
    }
    let base = gate.base().expect("measured");
    assert!(base > millis(150), "{learnt:?}");
}

#[test]
fn a_dip_that_nobody_answers_ends_by_time() {
    let mut gate = Gradient::new(1, 100);
    let mut now = walk::start();
    while gate.limit() != 50 || now < walk::start() + millis(500) {
        calls(&mut gate, 1, millis(10), &mut now);
    }
    // Streams hold every permit, and go on for hours.
    gate.pass(100, now + secs(3));
    assert_eq!(gate.limit(), 50, "the second half of it");
    gate.pass(100, now + secs(6));
    assert_eq!(gate.limit(), 100);
}

#[test]
fn a_call_given_up_early_says_nothing_and_one_given_up_late_does() {
    let mut gate = Gradient::new(1, 1000);
    let mut now = walk::start();
    calls(&mut gate, 500, millis(10), &mut now);
    let before = gate.limit();
    for (age, moves) in [(1, false), (500, true)] {
        for _ in 0..2 * before {
            now += millis(1);
            gate.abandoned(gate.mark(), millis(age), before, now);
        }
        assert_eq!(gate.limit() < before, moves, "{} of {before}", gate.limit());
    }
}

#[test]
fn walk_the_limit_stays_within_its_bounds_and_recovers_from_anything() {
    walk::seeds(|draws| {
        let min = 1 + draws.below(10) as u32;
        let max = min + 20 + draws.below(500) as u32;
        let mut gate = Gradient::new(min, max);
        let mut now = walk::start();
        for _ in 0..400 {
            now += draws.pause() / 20;
            let mark = if draws.chance(0.8) {
                gate.mark()
            } else {
                draws.bits() as u32
            };
            let in_flight = draws.below(u64::from(gate.limit()) * 2) as u32;
            let latency = draws.pause();
            match draws.below(10) {
                0..7 => gate.answered(mark, latency, in_flight, now),
                7 => gate.dropped(mark, in_flight, now),
                8 => gate.abandoned(mark, latency, in_flight, now),
                _ => gate.pass(in_flight, now),
            }
            gate.check_invariants();
        }
        let latency = millis(1 + draws.below(100));
        let mut most = 0;
        for _ in 0..40 {
            calls(&mut gate, 500, latency, &mut now);
            most = most.max(gate.limit());
        }
        assert!(most >= min + 15, "stuck at {most} of {min}..{max}");
    });
}
