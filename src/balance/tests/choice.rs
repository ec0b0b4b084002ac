//! Who may be picked, and the ways of picking one.

use std::time::Duration;

use crate::balance::machine::Among;
use crate::balance::machine::Found;
use crate::balance::machine::RAMP_FLOOR;
use crate::balance::machine::Seat;
use crate::balance::machine::among;
use crate::balance::machine::bounded;
use crate::balance::machine::cost;
use crate::balance::machine::ramp;
use crate::balance::machine::scatter;
use crate::balance::machine::side;
use crate::balance::machine::turn;
use crate::balance::machine::two;
use crate::kit::walk;

const SEAT: Seat = Seat {
    serves: true,
    tried: false,
    near: false,
    weight: 1,
    ramp: 1.0,
    in_flight: 0,
};

const OUT: Seat = Seat {
    serves: false,
    ..SEAT
};

const TRIED: Seat = Seat {
    tried: true,
    ..SEAT
};

const NEAR: Seat = Seat { near: true, ..SEAT };

const ANY: Among = Among {
    serving: true,
    untried: true,
    near: None,
};

fn weighing(weight: u32) -> Seat {
    Seat { weight, ..SEAT }
}

fn places(seats: &[Seat], among: Among) -> Vec<usize> {
    let has = |place: &usize| among.has(&seats[*place]);
    (0..seats.len()).filter(has).collect()
}

/// Who may be picked of `seats`, whatever the draw.
fn always(seats: &[Seat], panic: Option<f64>) -> (Vec<usize>, bool) {
    let of = |draw| among(seats, panic, draw);
    assert_eq!(of(0), of(u64::MAX), "the draw makes no difference");
    (places(seats, of(0)), of(0).panics())
}

#[test]
fn none_serving_all_untried_else_all() {
    assert_eq!(always(&[OUT, OUT], None), (vec![0, 1], true));
    let tried = Seat { tried: true, ..OUT };
    assert_eq!(always(&[OUT, tried], None), (vec![0], true));
    assert_eq!(always(&[tried, tried], None), (vec![0, 1], true));
    assert_eq!(always(&[], None), (vec![], true));
}

#[test]
fn less_than_the_panic_threshold_serving_all_are_used() {
    let seats = [SEAT, SEAT, OUT, OUT, OUT];
    assert_eq!(always(&seats, None), (vec![0, 1], false));
    assert_eq!(always(&seats, Some(0.4)), (vec![0, 1], false), "not less");
    let all = (vec![0, 1, 2, 3, 4], true);
    assert_eq!(always(&seats, Some(0.41)), all);
}

#[test]
fn enough_serving_the_serving_untried() {
    assert_eq!(always(&[SEAT, OUT, TRIED], None), (vec![0], false));
}

#[test]
fn all_serving_tried_any_serving() {
    assert_eq!(always(&[TRIED, OUT, TRIED], None), (vec![0, 2], false));
}

#[test]
fn a_zone_that_carries_all_keeps_all() {
    assert_eq!(always(&[NEAR, SEAT, NEAR], None), (vec![0, 2], false));
    // 3 of 4 times 1.4 is more than all of it.
    let out = Seat { near: true, ..OUT };
    assert_eq!(
        always(&[NEAR, NEAR, NEAR, out, SEAT], None),
        (vec![0, 1, 2], false)
    );
}

#[test]
fn a_zone_that_carries_a_part_keeps_that_part() {
    let out = Seat { near: true, ..OUT };
    let seats = [NEAR, out, SEAT, OUT];
    // 1 of 2 times 1.4 is 70 %.
    let draw = |share: f64| (share * u64::MAX as f64) as u64;
    assert_eq!(side(&seats, draw(0.69)), Some(true));
    assert_eq!(side(&seats, draw(0.71)), Some(false));
    assert_eq!(places(&seats, among(&seats, None, draw(0.69))), [0]);
    assert_eq!(places(&seats, among(&seats, None, draw(0.71))), [2]);
    // By weight: 3 of 4 carries all.
    let heavy = Seat { weight: 3, ..NEAR };
    assert_eq!(side(&[heavy, out, SEAT], draw(0.999)), Some(true));
}

#[test]
fn a_zone_of_which_none_serves_leaves_all_to_the_others() {
    let out = Seat { near: true, ..OUT };
    assert_eq!(always(&[out, SEAT, SEAT], None), (vec![1, 2], false));
}

#[test]
fn without_endpoints_elsewhere_or_in_the_zone_it_makes_no_difference() {
    assert_eq!(side(&[SEAT, SEAT], 0), None);
    assert_eq!(side(&[NEAR, NEAR], u64::MAX), None);
    let out = Seat { near: true, ..OUT };
    assert_eq!(side(&[NEAR, out, OUT], u64::MAX), None, "nowhere to spill");
}

#[test]
fn a_side_without_an_untried_one_leaves_it_to_the_other() {
    let tried = Seat {
        near: true,
        ..TRIED
    };
    assert_eq!(always(&[tried, tried, SEAT], None), (vec![2], false));
    assert_eq!(always(&[tried, tried, TRIED], None), (vec![0, 1], false));
}

fn random(draws: &mut walk::Draws) -> Vec<Seat> {
    let mut seat = |_| Seat {
        serves: draws.chance(0.6),
        tried: draws.chance(0.3),
        near: draws.chance(0.4),
        weight: 1 + draws.below(4) as u32,
        ramp: draws.pick(&[1.0, 1.0, 0.1, 0.55]),
        in_flight: draws.below(6) as u32,
    };
    (0..9).map(&mut seat).collect()
}

/// Whatever the way, one is picked that may be, and nobody who does not serve unless nobody does or policy asks for it.
#[test]
fn walk_never_picks_one_that_does_not_serve_unless_it_panics() {
    walk::seeds(|draws| {
        let mut credit = [0.0; 9];
        for _ in 0..20 {
            let seats = random(draws);
            let panic = draws.pick(&[None, None, Some(0.5)]);
            let who = among(&seats, panic, draws.bits());
            let serving = seats.iter().filter(|seat| seat.serves).count();
            assert_eq!(
                who.panics(),
                serving == 0 || panic.is_some_and(|panic| (serving as f64) < panic * 9.0)
            );
            let order = (0..9).map(|step| (step + 4) % 9);
            let bits = (draws.bits(), draws.bits());
            for chosen in [
                two(&seats, who, |place| seats[place].load(), bits),
                turn(&seats, who, &mut credit),
                bounded(&seats, who, Some(1.25), order).map(|found| found.place),
            ] {
                let chosen = chosen.expect("there are nine");
                assert!(who.has(&seats[chosen]), "{who:?} {chosen} {seats:?}");
                assert!(seats[chosen].serves || who.panics());
                let untried = seats.iter().any(|seat| seat.serves && !seat.tried);
                assert!(!untried || !seats[chosen].tried, "another was left");
            }
        }
    });
}

fn shares(counts: &[u32]) -> Vec<f64> {
    let total: u32 = counts.iter().sum();
    let share = |count: &u32| f64::from(*count) / f64::from(total);
    counts.iter().map(share).collect()
}

fn near(is: &[f64], expected: &[f64], by: f64) {
    let close = is.iter().zip(expected).all(|(a, b)| (a - b).abs() < by);
    assert!(close, "{is:?}, expected {expected:?} +-{by}");
}

/// 12,000 draws have a standard deviation of 0.5 %.
#[test]
fn two_of_other_weights_give_each_its_share_when_idle() {
    let seats = [weighing(3), weighing(1), weighing(2)];
    let mut draws = walk::Draws::new(1);
    let mut counts = [0; 3];
    for _ in 0..12_000 {
        let bits = (draws.bits(), draws.bits());
        let load = |place: usize| seats[place].load();
        counts[two(&seats, ANY, load, bits).expect("three serve")] += 1;
    }
    near(&shares(&counts), &[0.5, 1.0 / 6.0, 1.0 / 3.0], 0.025);
}

/// Each answers at its own speed; with 20 in flight the shares follow the weights, by load and by latency alike.
#[test]
fn two_of_other_weights_give_each_its_share_under_load() {
    for by_latency in [false, true] {
        let mut draws = walk::Draws::new(2);
        let mut seats = [weighing(4), weighing(1), weighing(1)];
        let (mut counts, mut queue) = ([0; 3], std::collections::VecDeque::new());
        for _ in 0..12_000 {
            let bits = (draws.bits(), draws.bits());
            let price = |place: usize| {
                if by_latency {
                    cost(0.01, seats[place].load())
                } else {
                    seats[place].load()
                }
            };
            let place = two(&seats, ANY, price, bits).expect("three serve");
            counts[place] += 1;
            seats[place].in_flight += 1;
            queue.push_back(place);
            if queue.len() > 20 {
                seats[queue.pop_front().expect("it is full")].in_flight -= 1;
            }
        }
        near(&shares(&counts), &[4.0 / 6.0, 1.0 / 6.0, 1.0 / 6.0], 0.03);
    }
}

#[test]
fn two_of_equal_weights_take_the_less_busy_whatever_the_draw() {
    let busy = Seat {
        in_flight: 3,
        ..SEAT
    };
    let seats = [busy, SEAT];
    walk::seeds(|draws| {
        let bits = (draws.bits(), draws.bits());
        let load = |place: usize| seats[place].load();
        assert_eq!(two(&seats, ANY, load, bits), Some(1));
    });
}

#[test]
fn turns_are_even() {
    let (seats, mut credit) = ([SEAT; 4], [0.0; 4]);
    let mut counts = [0u32; 4];
    for _ in 0..400 {
        counts[turn(&seats, ANY, &mut credit).expect("four serve")] += 1;
        let (most, least) = (counts.iter().max(), counts.iter().min());
        assert!(
            most.zip(least)
                .is_some_and(|(most, least)| most - least <= 1)
        );
    }
}

/// The example of nginx's own description of its algorithm.
#[test]
fn turns_by_weight_are_smooth() {
    let (seats, mut credit) = ([weighing(5), weighing(1), weighing(1)], [0.0; 3]);
    let mut next = || turn(&seats, ANY, &mut credit).expect("three serve");
    for _ in 0..3 {
        let round: Vec<_> = (0..7).map(|_| next()).collect();
        assert_eq!(round, [0, 0, 1, 0, 2, 0, 0]);
    }
}

#[test]
fn turns_go_past_who_may_not_be_picked_and_owe_nothing_for_it() {
    let (mut seats, mut credit) = ([SEAT; 3], [0.0; 3]);
    seats[1].serves = false;
    let mut next = |seats: &[Seat]| turn(seats, ANY, &mut credit).expect("two serve");
    let away: Vec<_> = (0..10).map(|_| next(&seats)).collect();
    assert_eq!(away.iter().filter(|place| **place == 0).count(), 5);
    seats[1].serves = true;
    let back: Vec<_> = (0..6).map(|_| next(&seats)).collect();
    assert_eq!(
        back.iter().filter(|place| **place == 1).count(),
        2,
        "{back:?}"
    );
}

#[test]
fn the_first_in_order_is_taken_while_it_has_room() {
    let found = |seats: &[Seat], bound| bounded(seats, ANY, bound, [1, 0, 1, 2].into_iter());
    let at = |place, passed_on| Some(Found { place, passed_on });
    assert_eq!(found(&[SEAT; 3], Some(1.25)), at(1, false));
    let mut seats = [SEAT; 3];
    // Of 2 in flight and this one, 1.25 / 3 is 1.25: up to 2.
    seats[1].in_flight = 1;
    seats[2].in_flight = 1;
    assert_eq!(found(&seats, Some(1.25)), at(1, false));
    seats[1].in_flight = 2;
    seats[2].in_flight = 0;
    assert_eq!(found(&seats, Some(1.25)), at(0, true));
    assert_eq!(found(&seats, None), at(1, false), "no bound");
    seats[1].weight = 2;
    assert_eq!(
        found(&seats, Some(1.25)),
        at(0, true),
        "2 of 3 x 2 / 4 x 1.25"
    );
    seats[1].weight = 3;
    assert_eq!(found(&seats, Some(1.25)), at(1, false), "and 3 / 5");
    seats[1].serves = false;
    assert_eq!(found(&seats, None), at(0, false), "who is out is no home");
    assert_eq!(bounded(&[], ANY, None, std::iter::empty()), None);
}

/// One key for half of the calls, answers in any order, endpoints that come and go: nobody is ever given a call beyond
/// its bound, and a call always finds somebody.
#[test]
fn walk_never_exceeds_the_bound() {
    walk::seeds(|draws| {
        let bound = draws.pick(&[1.01, 1.25, 2.0]);
        let mut seats: Vec<Seat> = (0..2 + draws.below(6))
            .map(|_| weighing(1 + draws.below(3) as u32))
            .collect();
        let count = seats.len();
        for _ in 0..200 {
            let start = if draws.chance(0.5) {
                0
            } else {
                draws.below(count as u64) as usize
            };
            let order = (0..count).map(|step| (start + step) % count);
            let who = among(&seats, None, 0);
            let found = bounded(&seats, who, Some(bound), order).expect("somebody is there");
            seats[found.place].in_flight += 1;
            let (in_flight, weight) = seats
                .iter()
                .filter(|seat| who.has(seat))
                .fold((0.0, 0.0), |(n, w), seat| {
                    (n + f64::from(seat.in_flight), w + seat.share())
                });
            let mine = &seats[found.place];
            let most = (bound * in_flight * mine.share() / weight).ceil();
            assert!(
                f64::from(mine.in_flight) <= most,
                "{found:?} {bound} {seats:?}"
            );
            for seat in &mut seats {
                if seat.in_flight > 0 && draws.chance(0.3) {
                    seat.in_flight -= 1;
                }
                if draws.chance(0.02) {
                    seat.serves = !seat.serves;
                }
            }
        }
    });
}

#[test]
fn a_newcomer_gets_its_weight_in_a_straight_line() {
    let over = Duration::from_secs(10);
    let at = |seconds| ramp(Some(Duration::from_secs(seconds)), over);
    near(&[at(0), at(5), at(9)], &[RAMP_FLOOR, 0.55, 0.91], 1e-9);
    near(&[at(10), at(11), ramp(None, over)], &[1.0; 3], 1e-9);
    let fresh = Seat {
        weight: 3,
        ramp: RAMP_FLOOR,
        ..SEAT
    };
    near(&[fresh.share()], &[0.3], 1e-9);
}

#[test]
fn a_newcomer_gets_a_tenth_by_turns_and_by_load() {
    let fresh = Seat {
        ramp: RAMP_FLOOR,
        ..SEAT
    };
    let (seats, mut credit) = ([SEAT, fresh], [0.0; 2]);
    let mut draws = walk::Draws::new(3);
    let mut counts = [[0; 2]; 2];
    for _ in 0..11_000 {
        let bits = (draws.bits(), draws.bits());
        let load = |place: usize| seats[place].load();
        counts[0][two(&seats, ANY, load, bits).expect("two serve")] += 1;
        counts[1][turn(&seats, ANY, &mut credit).expect("two serve")] += 1;
    }
    for counts in counts {
        near(&shares(&counts), &[10.0 / 11.0, 1.0 / 11.0], 0.02);
    }
}

#[test]
fn keys_are_scattered_evenly_and_always_alike() {
    assert_eq!(scatter(b"7"), scatter(b"7"));
    let mut counts = [0; 16];
    for key in 0..16_000 {
        let bits = scatter(format!("user-{key}").as_bytes());
        counts[(bits >> 60) as usize] += 1;
    }
    near(&shares(&counts), &[1.0 / 16.0; 16], 0.01);
}
