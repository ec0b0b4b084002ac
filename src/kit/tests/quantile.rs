//! The sketch of latencies: how right it is, when it tells, and what it forgets.

use std::time::Duration;

use crate::kit::quantile::Sketch;
use crate::kit::walk;

const SPAN: Duration = Duration::from_secs(30);

fn micros(count: u64) -> Duration {
    Duration::from_micros(count)
}

#[test]
fn too_few_samples_tell_nothing() {
    let now = walk::start();
    let mut sketch = Sketch::new(SPAN);
    for n in 1..=250 {
        sketch.record(micros(1000), now);
        assert_eq!(sketch.quantile(0.5, now).is_some(), n >= 50, "{n}");
        assert_eq!(sketch.quantile(0.95, now).is_some(), n >= 50, "{n}");
        assert_eq!(sketch.quantile(0.99, now).is_some(), n >= 250, "{n}");
    }
}

#[test]
fn what_is_old_is_forgotten_after_one_to_two_spans() {
    let start = walk::start();
    let mut sketch = Sketch::new(SPAN);
    for _ in 0..100 {
        sketch.record(micros(1_000_000), start);
    }
    for _ in 0..100 {
        sketch.record(micros(1000), start + SPAN);
    }
    assert_eq!(sketch.samples(start + SPAN), 200);
    assert!(sketch.quantile(0.95, start + SPAN) > Some(micros(900_000)));
    assert_eq!(sketch.samples(start + SPAN * 2), 100, "the first half");
    assert!(sketch.quantile(0.95, start + SPAN * 2) < Some(micros(1100)));
    assert_eq!(sketch.samples(start + SPAN * 3), 0);
    assert_eq!(sketch.quantile(0.95, start + SPAN * 3), None);
}

#[test]
fn the_longest_latency_has_a_bucket() {
    let now = walk::start();
    let mut sketch = Sketch::new(SPAN);
    for _ in 0..50 {
        sketch.record(Duration::MAX, now);
    }
    assert!(sketch.quantile(0.95, now) > Some(Duration::from_secs(3600)));
}

/// Against a sorted list of the same samples, over eight decades.
#[test]
fn walk_a_quantile_is_right_to_a_tenth() {
    walk::seeds(|draws| {
        let now = walk::start();
        let mut sketch = Sketch::new(SPAN);
        let scale = 10_u64.pow(draws.below(8) as u32);
        let mut all: Vec<u64> = (0..50 + draws.below(300))
            .map(|_| draws.below(30 * scale + 1))
            .collect();
        for sample in &all {
            sketch.record(micros(*sample), now);
        }
        sketch.check_invariants();
        all.sort_unstable();
        for share in [0.01, 0.5, 0.9, 0.95, 0.99] {
            let Some(told) = sketch.quantile(share, now) else {
                continue;
            };
            let rank = (share * all.len() as f64).ceil() as usize;
            let exact = all[rank.max(1) - 1] as f64;
            let told = told.as_secs_f64() * 1e6;
            assert!(
                (told - exact).abs() <= exact * 0.1 + 0.5,
                "p{share}: {told} for {exact}"
            );
        }
    });
}

/// Whatever the clock does, what it counts is what was recorded within the last two spans, and all of the last one.
#[test]
fn walk_it_remembers_one_to_two_spans() {
    walk::seeds(|draws| {
        let span = Duration::from_millis(1 + draws.below(60_000));
        let mut sketch = Sketch::new(span);
        let mut now = walk::start();
        let mut at = Vec::new();
        for _ in 0..200 {
            now += draws.pause() / 4;
            sketch.record(micros(draws.below(1_000_000)), now);
            at.push(now);
            sketch.check_invariants();
            let within =
                |spans: u32| (at.len() - at.partition_point(|at| *at + span * spans <= now)) as u64;
            let kept = sketch.samples(now);
            assert!(
                (within(1)..=within(2)).contains(&kept),
                "{kept} of {} to {}",
                within(1),
                within(2)
            );
        }
    });
}
