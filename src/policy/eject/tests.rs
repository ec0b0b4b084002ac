//! One test for each row of the table in `machine.rs`, named after it, and the random walk.

use std::time::Duration;
use std::time::Instant;

use super::config::Settings;
use super::machine::Cause;
use super::machine::LONGEST;
use super::machine::Machine;
use super::machine::Verdict;
use super::machine::may_eject;
use crate::kit::walk;

fn verdict(machine: &mut Machine, ok: bool, now: Instant) -> Option<(Duration, Cause)> {
    let verdict = machine.record(ok, now);
    machine.check_invariants(now);
    verdict.map(|Verdict::Eject { for_, cause }| (for_, cause))
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Fails until ejected, and carries it out.
fn eject(machine: &mut Machine, now: Instant) -> Duration {
    while verdict(machine, false, now).is_none() {}
    let length = machine.confirm(now);
    machine.check_invariants(now);
    length
}

#[test]
fn in_success_ends_the_run() {
    let (mut machine, now) = (Machine::new(only_runs()), walk::start());
    for _ in 0..10 {
        for _ in 0..4 {
            assert_eq!(verdict(&mut machine, false, now), None);
        }
        assert_eq!(verdict(&mut machine, true, now), None);
    }
}

fn only_runs() -> Settings {
    Settings {
        failures: None,
        ..Settings::default()
    }
}

fn only_rate() -> Settings {
    Settings {
        consecutive: None,
        ..Settings::default()
    }
}

#[test]
fn in_run_of_failures_ejects() {
    let (mut machine, now) = (Machine::new(only_runs()), walk::start());
    for _ in 0..4 {
        assert_eq!(verdict(&mut machine, false, now), None);
    }
    assert_eq!(
        verdict(&mut machine, false, now),
        Some((seconds(5), Cause::Consecutive))
    );
}

#[test]
fn in_failure_rate_ejects_from_ten_calls_on() {
    let (mut machine, now) = (Machine::new(only_rate()), walk::start());
    for _ in 0..9 {
        assert_eq!(verdict(&mut machine, false, now), None);
    }
    assert_eq!(
        verdict(&mut machine, false, now),
        Some((seconds(5), Cause::FailureRate))
    );
}

#[test]
fn in_failure_rate_ejects_what_fails_every_second_call() {
    let (mut machine, now) = (Machine::new(Settings::default()), walk::start());
    let verdicts: Vec<_> = (0..10)
        .map(|i| verdict(&mut machine, i % 2 == 0, now))
        .collect();
    assert_eq!(verdicts[9], Some((seconds(5), Cause::FailureRate)));
    assert!(verdicts[..9].iter().all(Option::is_none));
}

#[test]
fn in_failures_below_the_rate_stay_in() {
    let (mut machine, now) = (Machine::new(only_rate()), walk::start());
    for i in 0..100 {
        assert_eq!(verdict(&mut machine, i % 5 < 3, now), None);
    }
}

#[test]
fn in_failures_leave_the_window() {
    let (mut machine, mut now) = (Machine::new(only_rate()), walk::start());
    for _ in 0..20 {
        now += seconds(2);
        assert_eq!(
            verdict(&mut machine, false, now),
            None,
            "never ten in ten seconds"
        );
    }
}

#[test]
fn in_with_both_limits_off_stays_in() {
    let settings = Settings {
        consecutive: None,
        failures: None,
        ..Settings::default()
    };
    let (mut machine, now) = (Machine::new(settings), walk::start());
    for _ in 0..100 {
        assert_eq!(verdict(&mut machine, false, now), None);
    }
}

#[test]
fn in_unconfirmed_verdict_is_given_again() {
    let (mut machine, now) = (Machine::new(Settings::default()), walk::start());
    for _ in 0..4 {
        verdict(&mut machine, false, now);
    }
    assert!(verdict(&mut machine, false, now).is_some());
    assert!(!machine.is_out(now), "a proposal");
    assert_eq!(
        verdict(&mut machine, false, now),
        Some((seconds(5), Cause::Consecutive))
    );
}

#[test]
fn in_confirm_puts_it_out_and_forgets() {
    let (mut machine, now) = (Machine::new(Settings::default()), walk::start());
    assert_eq!(eject(&mut machine, now), seconds(5));
    assert_eq!(machine.out_for(now), Some(seconds(5)));
    assert_eq!(
        machine.confirm(now),
        seconds(5),
        "a second confirm changes nothing"
    );
    let back = now + seconds(5);
    for _ in 0..4 {
        assert_eq!(verdict(&mut machine, false, back), None, "a new run");
    }
}

#[test]
fn out_outcomes_are_dropped() {
    let (mut machine, now) = (Machine::new(Settings::default()), walk::start());
    eject(&mut machine, now);
    for _ in 0..50 {
        assert_eq!(verdict(&mut machine, false, now + seconds(4)), None);
    }
}

#[test]
fn out_time_brings_it_back() {
    let (mut machine, now) = (Machine::new(Settings::default()), walk::start());
    eject(&mut machine, now);
    assert!(machine.is_out(now + Duration::from_millis(4999)));
    assert!(!machine.is_out(now + seconds(5)));
}

#[test]
fn out_recall_brings_it_back_ahead_of_time_and_starts_afresh() {
    let (mut machine, mut now) = (Machine::new(Settings::default()), walk::start());
    eject(&mut machine, now);
    now += seconds(1);
    machine.recall(now);
    assert!(!machine.is_out(now));
    assert_eq!(verdict(&mut machine, false, now), None, "the run is new");
    assert_eq!(eject(&mut machine, now), seconds(10), "but not forgiven");
    machine.recall(now + seconds(3600));
    machine.recall(now + seconds(3600));
    assert!(!machine.is_out(now + seconds(3600)));
}

#[test]
fn out_is_not_prolonged_by_a_clock_that_steps_back() {
    let (mut machine, now) = (Machine::new(Settings::default()), walk::start());
    eject(&mut machine, now);
    let early = now - seconds(3600);
    verdict(&mut machine, false, early);
    assert_eq!(machine.out_for(early), Some(seconds(5)));
    assert!(!machine.is_out(early + seconds(5)));
}

#[test]
fn ejections_in_a_row_last_longer_each_up_to_300s() {
    let (mut machine, mut now) = (Machine::new(Settings::default()), walk::start());
    for n in 1..=70u64 {
        let length = eject(&mut machine, now);
        assert_eq!(length, seconds(5 * n).min(LONGEST));
        now += length;
    }
}

#[test]
fn ejections_are_forgiven_one_each_ten_seconds_in() {
    let (mut machine, mut now) = (Machine::new(Settings::default()), walk::start());
    for _ in 0..4 {
        now += eject(&mut machine, now);
    }
    // Four stand. Two are forgiven, so the next is the third in a row.
    now += Duration::from_millis(29_999);
    assert_eq!(eject(&mut machine, now), seconds(15));
    now += seconds(15 + 3600);
    assert_eq!(eject(&mut machine, now), seconds(5));
}

#[test]
fn the_verdict_tells_the_length_that_confirm_gives() {
    walk::seeds(|draws| {
        let mut machine = Machine::new(Settings::default());
        let mut now = walk::start();
        for _ in 0..20 {
            now += Duration::from_secs(draws.below(40));
            let Some((told, _)) = (0..5).find_map(|_| verdict(&mut machine, false, now)) else {
                continue;
            };
            assert_eq!(machine.confirm(now), told);
        }
    });
}

#[test]
fn never_the_last_and_never_more_than_the_share() {
    assert!(!may_eject(0, 0, 1.0));
    assert!(!may_eject(0, 1, 1.0), "the last one stays");
    assert!(!may_eject(1, 2, 1.0), "the last one stays");
    assert!(may_eject(0, 2, 0.5));
    assert!(may_eject(0, 3, 0.5));
    assert!(!may_eject(1, 3, 0.5), "two of three are more than half");
    assert!(may_eject(1, 4, 0.5));
    assert!(!may_eject(2, 4, 0.5));
    assert!(
        may_eject(28, 100, 0.29),
        "though 0.29 * 100 is below 29 in f64"
    );
    assert!(!may_eject(0, 100, 0.0));
    assert!(!may_eject(0, 3, 0.3));
}

#[test]
fn walk_holds_every_invariant() {
    let mut ejections = 0u32;
    walk::seeds(|draws| {
        let settings = Settings {
            consecutive: draws.chance(0.7).then_some(1 + draws.below(8) as u32),
            failures: draws.chance(0.7).then_some(0.1 + 0.9 * draws.unit()),
            base: Duration::from_millis(10 + draws.below(300_000)),
            ..Settings::default()
        };
        let mut fleet: Vec<Machine> = (0..=draws.below(5))
            .map(|_| Machine::new(settings.clone()))
            .collect();
        let share = draws.unit();
        let (mut now, mut failing) = (walk::start(), 0.2);
        for _ in 0..200 {
            if draws.chance(0.03) {
                failing = draws.pick(&[0.0, 0.2, 0.6, 1.0]);
            }
            now += draws.pause();
            let place = draws.below(fleet.len() as u64) as usize;
            let was_out = fleet[place].is_out(now);
            let ok = !draws.chance(failing);
            let told = fleet[place].record(ok, now);
            assert!(
                told.is_none() || (!ok && !was_out),
                "ejected for a success, or twice"
            );
            let out = fleet.iter().filter(|machine| machine.is_out(now)).count();
            if told.is_some() && may_eject(out, fleet.len(), share) {
                fleet[place].confirm(now);
                ejections += 1;
            }
            let out = fleet.iter().filter(|machine| machine.is_out(now)).count();
            assert!(out < fleet.len(), "the pool is empty");
            assert!(out as f64 <= share * fleet.len() as f64 + 1e-6);
            for machine in &fleet {
                machine.check_invariants(now);
            }
        }
    });
    assert!(
        std::env::var("OUTRIDER_SEED").is_ok() || ejections > 1000,
        "only {ejections}"
    );
}
