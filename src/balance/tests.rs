//! One test for each row of the tables in `machine.rs`, and the random walks.

mod choice;
mod layer;
mod ring;

use super::machine::LATENCY_FLOOR_S;
use super::machine::cost;
use super::machine::pair;
use super::machine::pick_among;
use crate::kit::walk;

fn pick(costs: &[f64], draws: (u64, u64)) -> Option<usize> {
    pick_among(costs.len(), |_| true, |i| costs[i], draws)
}

#[test]
fn none_usable_none_chosen() {
    assert_eq!(pick(&[], (1, 2)), None);
    assert_eq!(pick_among(3, |_| false, |_| 1.0, (1, 2)), None);
}

#[test]
fn one_usable_that_one() {
    assert_eq!(pick(&[9.0], (u64::MAX, 0)), Some(0));
    assert_eq!(
        pick_among(5, |i| i == 3, |_| 1.0, (u64::MAX, u64::MAX)),
        Some(3)
    );
}

#[test]
fn two_usable_the_cheaper_whatever_the_draw() {
    for draws in [
        (0, 0),
        (u64::MAX, u64::MAX),
        (0, u64::MAX),
        (u64::MAX, 0),
        (1 << 63, 1 << 62),
    ] {
        assert_eq!(pick(&[2.0, 1.0], draws), Some(1));
        assert_eq!(pick(&[1.0, 2.0], draws), Some(0));
        assert_eq!(pick(&[f64::INFINITY, 2.0], draws), Some(1));
        assert_eq!(
            pick(&[f64::NAN, 2.0], draws),
            Some(1),
            "an estimate that broke loses"
        );
    }
}

#[test]
fn a_tie_goes_to_the_first_drawn() {
    assert_eq!(pick(&[1.0, 1.0], (0, 0)), Some(0));
    assert_eq!(pick(&[1.0, 1.0], (u64::MAX, 0)), Some(1));
}

#[test]
fn the_dearest_of_many_is_never_chosen() {
    walk::seeds(|draws| {
        let costs: Vec<f64> = (0..2 + draws.below(9)).map(|i| i as f64).collect();
        let chosen = pick(&costs, (draws.bits(), draws.bits()));
        assert_ne!(chosen, Some(costs.len() - 1));
    });
}

#[test]
fn cost_is_latency_for_each_request_under_way() {
    assert!((cost(0.010, 0.0) - 0.010).abs() < 1e-12);
    assert!((cost(0.010, 4.0) - 0.050).abs() < 1e-12);
    assert!(
        cost(0.0, 1.0) > cost(0.0, 0.0),
        "a faded estimate still counts what is under way"
    );
    assert!(cost(1e-300, 0.0) >= LATENCY_FLOOR_S);
    assert!(cost(f64::NAN, 3.0).is_finite());
}

#[test]
fn pairs_are_different_and_even() {
    assert_eq!(pair(0, (5, 5)), None);
    assert_eq!(pair(1, (5, 5)), Some((0, 0)));
    let mut draws = walk::Draws::new(1);
    let mut seen = [[0u32; 4]; 4];
    for _ in 0..12_000 {
        let (a, b) = pair(4, (draws.bits(), draws.bits())).expect("there are four");
        seen[a][b] += 1;
    }
    for (a, row) in seen.iter().enumerate() {
        for (b, count) in row.iter().enumerate() {
            // 1,000 expected, with a standard deviation of 30.
            let even = (850..1150).contains(count);
            assert!(if a == b { *count == 0 } else { even }, "{a} {b}: {count}");
        }
    }
}

#[test]
fn walk_chooses_a_usable_one_no_dearer_than_another() {
    walk::seeds(|draws| {
        for _ in 0..20 {
            let len = draws.below(9) as usize;
            let costs: Vec<f64> = (0..len).map(|_| draws.below(5) as f64).collect();
            let usable: Vec<bool> = (0..len).map(|_| draws.chance(0.7)).collect();
            let chosen = pick_among(
                len,
                |i| usable[i],
                |i| costs[i],
                (draws.bits(), draws.bits()),
            );
            let count = usable.iter().filter(|usable| **usable).count();
            assert_eq!(chosen.is_some(), count > 0);
            let Some(chosen) = chosen else { continue };
            assert!(usable[chosen], "chose what it must not");
            let beaten = (0..len).any(|i| i != chosen && usable[i] && costs[i] >= costs[chosen]);
            assert!(count == 1 || beaten, "chose the dearest of {costs:?}");
        }
    });
}

/// Endpoints that serve at different speeds: the load follows the speed, and nobody starves.
#[test]
fn walk_spreads_load_by_speed() {
    walk::seeds(|draws| {
        let speed = [1.0, 2.0, 8.0];
        let (mut inflight, mut chosen) = ([0u32; 3], [0u32; 3]);
        for _ in 0..300 {
            let pick = pick_among(
                3,
                |_| true,
                |i| cost(speed[i], f64::from(inflight[i])),
                (draws.bits(), draws.bits()),
            );
            let place = pick.expect("three are usable");
            inflight[place] += 1;
            chosen[place] += 1;
            for i in 0..3 {
                if inflight[i] > 0 && draws.chance(0.5 / speed[i]) {
                    inflight[i] -= 1;
                }
            }
        }
        assert!(chosen[0] > chosen[2], "{chosen:?}");
        assert!(chosen.iter().all(|count| *count > 0), "{chosen:?}");
    });
}
