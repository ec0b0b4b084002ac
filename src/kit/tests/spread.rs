//! The fading statistics against the same computed from all values.

use std::time::Duration;

use super::super::spread::Spread;
use super::super::walk;

const DECAY: Duration = Duration::from_secs(5);

#[test]
fn spread_of_nothing_is_nothing() {
    let spread = Spread::new(DECAY).summary(walk::start());
    assert!(spread.count.abs() < 1e-12 && spread.variance.abs() < 1e-12);
}

#[test]
fn spread_is_what_all_values_give() {
    walk::seeds(|draws| {
        let mut now = walk::start();
        let mut spread = Spread::new(DECAY);
        let mut all = Vec::new();
        for _ in 0..50 {
            now += Duration::from_millis(draws.below(500));
            let value = 20.0 * draws.unit();
            spread.observe(value, now);
            all.push((value, now));
        }
        now += Duration::from_millis(draws.below(3000));
        let weigh = |at: std::time::Instant| (-(now - at).as_secs_f64() / 5.0).exp();
        let count: f64 = all.iter().map(|(_, at)| weigh(*at)).sum();
        let sum: f64 = all.iter().map(|(value, at)| value * weigh(*at)).sum();
        let mean = sum / count;
        let squares = all
            .iter()
            .map(|(value, at)| (value - mean).powi(2) * weigh(*at));
        let variance = squares.sum::<f64>() / count;
        let told = spread.summary(now);
        for (told, right) in [
            (told.count, count),
            (told.mean, mean),
            (told.variance, variance),
        ] {
            assert!((told - right).abs() < 1e-6, "{told} is not {right}");
        }
    });
}

#[test]
fn spread_follows_a_change_and_forgets_it() {
    let mut now = walk::start();
    let mut spread = Spread::new(DECAY);
    for value in [1.0, 9.0] {
        for _ in 0..1000 {
            now += Duration::from_millis(30);
            spread.observe(value, now);
        }
    }
    let told = spread.summary(now);
    assert!(told.mean > 8.9, "{told:?}");
    assert!(spread.summary(now + 10 * DECAY).count < 0.1);
    spread.clear();
    assert!(spread.summary(now).count.abs() < 1e-12);
}

#[test]
fn spread_stands_still_while_the_clock_steps_back() {
    let now = walk::start();
    let mut spread = Spread::new(DECAY);
    spread.observe(1.0, now);
    spread.observe(3.0, now - Duration::from_secs(3600));
    let told = spread.summary(now - Duration::from_secs(60));
    assert!((told.count - 2.0).abs() < 1e-12 && (told.mean - 2.0).abs() < 1e-12);
}
