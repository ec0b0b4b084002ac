//! Windows, budgets, averages and back-off against what they promise. Dates and units have tests of their own.

mod date;
mod gcra;
mod gradient;
mod net;
mod quantile;
mod spread;
mod units;

use std::collections::VecDeque;
use std::time::Duration;
use std::time::Instant;

use super::backoff::BackoffSettings;
use super::backoff::Jitter;
use super::backoff::between;
use super::backoff::doubled;
use super::budget::Budget;
use super::budget::BudgetSettings;
use super::ewma::PeakEwma;
use super::mode::Mode;
use super::walk;
use super::window::BUCKETS;
use super::window::Window;

const OVER: Duration = Duration::from_secs(10);

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn window_forgets_in_steps_of_a_tenth() {
    let start = walk::start();
    let mut window = Window::<1>::new(OVER);
    for second in 0..10 {
        window.add(start + secs(second), [1]);
    }
    assert_eq!(window.totals(start + millis(9999)), [10]);
    for second in 10..20 {
        let left = 19 - second as u32;
        assert_eq!(window.totals(start + secs(second)), [left], "at {second}s");
    }
}

#[test]
fn window_peek_reads_without_forgetting() {
    let start = walk::start();
    let mut window = Window::<2>::new(OVER);
    window.add(start, [3, 1]);
    assert_eq!(window.peek(start + secs(60)), [0, 0]);
    assert_eq!(window.peek(start + secs(9)), [3, 1]);
}

#[test]
fn window_survives_an_idle_age() {
    let start = walk::start();
    let mut window = Window::<1>::new(millis(1));
    window.add(start, [5]);
    let later = start + secs(30_000_000);
    assert_eq!(window.totals(later), [0]);
    window.add(later, [2]);
    assert_eq!(window.totals(later), [2]);
}

#[test]
fn window_counts_a_small_step_back_into_the_newest_bucket() {
    let start = walk::start();
    let mut window = Window::<1>::new(OVER);
    window.add(start, [1]);
    window.add(start - millis(9999), [1]);
    assert_eq!(window.totals(start), [2]);
}

#[test]
fn window_starts_afresh_after_a_long_step_back() {
    let start = walk::start();
    let mut window = Window::<1>::new(OVER);
    window.add(start, [7]);
    let early = start - secs(3600);
    assert_eq!(
        window.totals(early),
        [0],
        "frozen counts would count for an hour"
    );
    window.add(early, [1]);
    assert_eq!(window.totals(early + secs(9)), [1]);
    assert_eq!(window.totals(early + secs(11)), [0]);
}

#[test]
fn window_counters_stop_at_their_end() {
    let start = walk::start();
    let mut window = Window::<1>::new(OVER);
    window.add(start, [u32::MAX]);
    window.add(start + secs(1), [5]);
    assert_eq!(window.totals(start + secs(1)), [u32::MAX]);
    window.check_invariants();
    assert_eq!(window.totals(start + secs(10)), [0]);
}

#[test]
fn window_of_no_length_still_works() {
    let start = walk::start();
    let mut window = Window::<1>::new(Duration::ZERO);
    window.add(start, [1]);
    assert_eq!(window.totals(start), [1]);
    assert_eq!(window.totals(start + millis(1)), [0]);
}

/// Against a list of every call: all of the last nine tenths are there, and none older than the window.
#[test]
fn walk_window_lies_between_nine_tenths_and_all() {
    walk::seeds(|draws| {
        let over = millis(10 + draws.below(20_000));
        let step = over / BUCKETS as u32;
        let mut window = Window::<2>::new(over);
        let mut calls: VecDeque<(Instant, u32)> = VecDeque::new();
        let mut now = walk::start();
        for _ in 0..150 {
            now += draws.pause();
            if draws.chance(0.8) {
                let count = draws.below(5) as u32;
                window.add(now, [1, count]);
                calls.push_back((now, count));
            }
            let within = |span: Duration| {
                let kept = calls.iter().filter(|(at, _)| now - *at < span);
                kept.fold([0, 0], |sum, (_, count)| [sum[0] + 1, sum[1] + count])
            };
            let (least, most) = (within(over - step), within(over));
            let totals = window.totals(now);
            for i in 0..2 {
                assert!(
                    least[i] <= totals[i] && totals[i] <= most[i],
                    "{least:?} {totals:?} {most:?}"
                );
            }
            assert_eq!(window.peek(now), totals);
            window.check_invariants();
        }
    });
}

#[test]
fn walk_window_copes_with_any_clock() {
    walk::seeds(|draws| {
        let mut window = Window::<1>::new(millis(10 + draws.below(5000)));
        let mut now = walk::start();
        for _ in 0..100 {
            let jump = millis(draws.below(8000));
            now = if draws.chance(0.3) {
                now - jump
            } else {
                now + jump
            };
            window.add(now, [1]);
            assert!(window.totals(now)[0] >= 1, "what was just counted is gone");
            window.check_invariants();
        }
        assert_eq!(
            window.totals(now + secs(20)),
            [0],
            "something stays for ever"
        );
    });
}

#[test]
fn budget_starts_with_its_floor() {
    let now = walk::start();
    let mut budget = Budget::new(&BudgetSettings::default());
    assert!((budget.balance(now) - 100.0).abs() < 1e-6);
    assert_eq!((0..1000).filter(|_| budget.withdraw(now)).count(), 100);
    assert!(budget.balance(now) < 1.0);
    assert!(
        (budget.balance(now + OVER) - 100.0).abs() < 1e-6,
        "the retries have left the window"
    );
}

#[test]
fn budget_allows_its_share_of_the_requests() {
    let now = walk::start();
    let settings = BudgetSettings {
        floor_per_s: 0.0,
        ..BudgetSettings::default()
    };
    let mut budget = Budget::new(&settings);
    assert!(!budget.withdraw(now), "nothing was asked yet");
    for _ in 0..4 {
        budget.deposit(now);
    }
    assert!(!budget.withdraw(now));
    budget.deposit(now);
    assert!(budget.withdraw(now), "one of five");
    assert!(!budget.withdraw(now));
    assert!(
        !budget.withdraw(now + OVER),
        "the requests have left the window"
    );
}

#[test]
fn budget_of_nothing_allows_nothing() {
    let now = walk::start();
    let settings = BudgetSettings {
        share: 0.0,
        floor_per_s: 0.0,
        ..BudgetSettings::default()
    };
    let mut budget = Budget::new(&settings);
    for _ in 0..100 {
        budget.deposit(now);
        assert!(!budget.withdraw(now));
    }
}

#[test]
fn budget_is_not_fed_by_retries() {
    let now = walk::start();
    let settings = BudgetSettings {
        share: 1.0,
        floor_per_s: 0.0,
        ..BudgetSettings::default()
    };
    let mut budget = Budget::new(&settings);
    budget.deposit(now);
    assert!(budget.withdraw(now));
    assert!(!budget.withdraw(now), "a retry must not pay for the next");
}

/// Whatever the traffic, retries of any window stay within the share of its requests and the floor.
#[test]
fn walk_budget_holds_in_every_window() {
    walk::seeds(|draws| {
        let settings = BudgetSettings {
            share: draws.unit(),
            over: millis(1000 + draws.below(10_000)),
            floor_per_s: draws.below(20) as f64,
        };
        let floor = settings.floor_per_s * settings.over.as_secs_f64();
        let mut budget = Budget::new(&settings);
        let mut now = walk::start();
        let (mut requests, mut retries) = (VecDeque::new(), VecDeque::new());
        for _ in 0..300 {
            now += draws.pause() / 4;
            let old = |at: &Instant| now - *at >= settings.over;
            requests.retain(|at| !old(at));
            retries.retain(|at| !old(at));
            if draws.chance(0.5) {
                budget.deposit(now);
                requests.push_back(now);
            }
            let before = budget.balance(now);
            let allowed = budget.withdraw(now);
            assert_eq!(allowed, before >= 1.0, "balance {before}");
            if allowed {
                retries.push_back(now);
                // The window of the budget may have let go of a tenth more of the retries than of this exact one.
                let recent = retries
                    .iter()
                    .filter(|at| now - **at < settings.over.mul_f64(0.9))
                    .count();
                let most = settings.share * requests.len() as f64 + floor;
                assert!(
                    recent as f64 <= most + 1e-6,
                    "{recent} retries, {most} allowed"
                );
            }
            budget.check_invariants(now);
        }
    });
}

/// A storm takes whatever it can get at every moment, and no window, wherever it begins, has more than its share.
#[test]
fn walk_budget_a_storm_gets_no_more_than_the_share_of_any_window() {
    walk::seeds(|draws| {
        let settings = BudgetSettings {
            share: draws.unit(),
            over: millis(1000 + draws.below(10_000)),
            floor_per_s: draws.below(3) as f64,
        };
        let floor = settings.floor_per_s * settings.over.as_secs_f64();
        let mut budget = Budget::new(&settings);
        let mut now = walk::start();
        let (mut requests, mut retries) = (Vec::new(), Vec::new());
        for _ in 0..60 {
            now += draws.pause() / 4;
            for _ in 0..draws.below(20) {
                budget.deposit(now);
                requests.push(now);
            }
            while budget.withdraw(now) {
                retries.push(now);
                assert!(retries.len() < 100_000, "a budget without an end");
            }
        }
        // What the budget forgets it forgets in tenths, so it answers for nine of them.
        let answered = settings.over.mul_f64(0.9);
        for begin in &retries {
            let end = *begin + answered;
            // Both lists are in order, so a window is between two places.
            let after = retries.partition_point(|at| *at < end);
            let got = after - retries.partition_point(|at| at < begin);
            let last = retries[after - 1];
            let paid = requests.partition_point(|at| *at <= last)
                - requests.partition_point(|at| *at + settings.over <= last);
            let most = settings.share * paid as f64 + floor;
            assert!(got as f64 <= most + 1e-6, "{got} retries, {most} allowed");
        }
    });
}

#[test]
fn ewma_jumps_to_a_worse_sample_and_comes_back_slowly() {
    let now = walk::start();
    let mut latency = PeakEwma::new(OVER, now);
    latency.observe(millis(500), now);
    assert!((latency.seconds(now) - 0.5).abs() < 1e-9);
    latency.observe(millis(10), now + millis(100));
    let soon = latency.seconds(now + millis(100));
    assert!(soon > 0.49 && soon < 0.5, "{soon}");
    for tenths in 2..1000u64 {
        latency.observe(millis(10), now + millis(100 * tenths));
    }
    let late = latency.seconds(now + secs(100));
    assert!((late - 0.010).abs() < 1e-3, "{late}");
}

#[test]
fn ewma_knows_nothing_at_first_and_never_forgets_that_it_knew() {
    let now = walk::start();
    let mut latency = PeakEwma::new(OVER, now);
    assert!(latency.seconds(now) == 0.0);
    latency.observe(millis(0), now);
    assert!(latency.seconds(now) > 0.0, "an answer at once is an answer");
}

#[test]
fn ewma_fades_while_idle() {
    let now = walk::start();
    let mut latency = PeakEwma::new(OVER, now);
    latency.observe(millis(1000), now);
    assert!((latency.seconds(now + OVER) - 0.3679).abs() < 1e-3);
    assert!(
        latency.seconds(now - secs(5)) <= 1.0,
        "not more in the past"
    );
}

#[test]
fn ewma_a_failure_never_makes_it_better() {
    let now = walk::start();
    let mut latency = PeakEwma::new(OVER, now);
    latency.observe(millis(30), now);
    for i in 0..1000 {
        latency.observe_failure(millis(0), None, now + millis(i));
    }
    assert!(latency.seconds(now + secs(1)) > 0.029);
    latency.observe_failure(millis(900), None, now + secs(1));
    assert!((latency.seconds(now + secs(1)) - 0.9).abs() < 1e-9);
}

#[test]
fn ewma_a_failure_of_an_unknown_makes_it_typical_or_leaves_it_unknown() {
    let now = walk::start();
    let mut latency = PeakEwma::new(OVER, now);
    latency.observe_failure(millis(1), None, now);
    assert!(latency.seconds(now) == 0.0);
    latency.observe_failure(millis(1), Some(0.020), now);
    assert!((latency.seconds(now) - 0.020).abs() < 1e-9);
}

#[test]
fn walk_ewma_stays_within_its_samples() {
    walk::seeds(|draws| {
        let mut now = walk::start();
        let mut latency = PeakEwma::new(millis(1 + draws.below(20_000)), now);
        let mut peak: f64 = 0.030;
        for _ in 0..100 {
            now += draws.pause();
            let sample = millis(draws.below(3000));
            peak = peak.max(sample.as_secs_f64());
            if draws.chance(0.2) {
                latency.observe_failure(sample, Some(0.0), now);
            } else {
                latency.observe(sample, now);
            }
            let value = latency.seconds(now);
            assert!(
                value.is_finite() && value >= 0.0 && value <= peak,
                "{value} above {peak}"
            );
            assert!(
                value + 1e-12 >= sample.as_secs_f64() * 0.999,
                "{value} is better than {sample:?}"
            );
            assert!(latency.seconds(now + secs(1)) <= value);
        }
    });
}

fn backoff(jitter: Jitter) -> BackoffSettings {
    BackoffSettings {
        jitter,
        ..BackoffSettings::default()
    }
}

#[test]
fn backoff_without_jitter_doubles_up_to_its_end() {
    let settings = backoff(Jitter::None);
    let waits: Vec<u128> = (1..=6)
        .map(|n| settings.delay(n, Duration::ZERO, 0.7).as_millis())
        .collect();
    assert_eq!(waits, [25, 50, 100, 200, 250, 250]);
    assert_eq!(settings.delay(u32::MAX, Duration::ZERO, 0.7), millis(250));
    assert_eq!(settings.delay(0, Duration::ZERO, 0.7), millis(25));
}

#[test]
fn backoff_full_spreads_from_nothing_to_the_step() {
    let settings = backoff(Jitter::Full);
    assert_eq!(settings.delay(3, Duration::ZERO, 0.0), Duration::ZERO);
    assert_eq!(settings.delay(3, Duration::ZERO, 0.5), millis(50));
    assert!(settings.delay(3, Duration::ZERO, 0.999_999) < millis(100));
}

#[test]
fn backoff_equal_spreads_from_half_to_the_step() {
    let settings = backoff(Jitter::Equal);
    assert_eq!(settings.delay(3, Duration::ZERO, 0.0), millis(50));
    assert_eq!(settings.delay(3, Duration::ZERO, 0.5), millis(75));
}

#[test]
fn backoff_decorrelated_grows_from_the_previous_wait() {
    let settings = backoff(Jitter::Decorrelated);
    assert_eq!(settings.delay(1, Duration::ZERO, 0.0), millis(25));
    assert_eq!(settings.delay(1, Duration::ZERO, 1.0), millis(75));
    assert_eq!(settings.delay(2, millis(60), 1.0), millis(180));
    assert_eq!(settings.delay(2, millis(60), 0.0), millis(25));
    assert_eq!(settings.delay(9, secs(9), 1.0), millis(250));
    let worst: Vec<u128> = (1..=4).map(|n| settings.worst(n).as_millis()).collect();
    assert_eq!(worst, [75, 225, 250, 250]);
}

#[test]
fn walk_backoff_never_exceeds_what_check_adds_up() {
    walk::seeds(|draws| {
        let base = millis(1 + draws.below(500));
        let settings = BackoffSettings {
            base,
            max: millis(1 + draws.below(2000)),
            jitter: draws.pick(&Jitter::ALL),
        };
        let mut previous = Duration::ZERO;
        for retry in 1..12 {
            let wait = settings.delay(retry, previous, draws.unit());
            assert!(wait <= settings.max, "{wait:?} is above max");
            assert!(
                wait <= settings.worst(retry),
                "{wait:?} at {retry}: {settings:?}"
            );
            previous = wait;
        }
    });
}

#[test]
fn arithmetic_has_ends() {
    assert_eq!(doubled(secs(1), 31, Duration::MAX), secs(1 << 31));
    assert_eq!(doubled(secs(1), u32::MAX, secs(60)), secs(60));
    assert_eq!(doubled(Duration::MAX, 3, Duration::MAX), Duration::MAX);
    assert_eq!(
        between(secs(2), secs(1), 0.5),
        secs(2),
        "an empty range is its start"
    );
    assert_eq!(between(secs(1), secs(2), 7.0), secs(2));
    assert_eq!(between(secs(1), secs(2), -1.0), secs(1));
    assert_eq!(between(secs(1), secs(2), f64::NAN), secs(1));
    assert!(between(Duration::ZERO, Duration::MAX, 1.0) <= Duration::MAX);
}

#[test]
fn modes_and_jitters_have_the_words_of_the_file() {
    assert_eq!(
        [Mode::Enforce, Mode::Shadow].map(|mode| mode.to_string()),
        ["enforce", "shadow"]
    );
    assert!(Mode::default().enforces() && !Mode::Shadow.enforces());
    let words = Jitter::ALL.map(|jitter| jitter.to_string());
    assert_eq!(words, ["full", "equal", "decorrelated", "none"]);
}
