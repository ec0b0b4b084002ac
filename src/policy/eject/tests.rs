//! One test for each row of the table in `machine.rs`, named after it, and the random walk.

use std::time::Duration;
use std::time::Instant;

use super::config::Settings;
use super::machine::Cause;
use super::machine::LONGEST;
use super::machine::MIN_PEERS;
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

fn only_slow() -> Settings {
    Settings {
        slow: Some(3.0),
        consecutive: None,
        failures: None,
        ..Settings::default()
    }
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Machines that have answered 100 times within a second, each in its own time.
fn fleet(settings: &Settings, took: &[Duration]) -> (Vec<Machine>, Instant) {
    let mut now = walk::start();
    let mut fleet: Vec<Machine> = took
        .iter()
        .map(|_| Machine::new(settings.clone()))
        .collect();
    for _ in 0..100 {
        now += millis(10);
        for (machine, took) in fleet.iter_mut().zip(took) {
            machine.answered(*took, now);
        }
    }
    (fleet, now)
}

/// What the first says of itself against the others.
fn compared(fleet: &mut [Machine], now: Instant) -> Option<(Duration, Cause)> {
    let mut peers: Vec<_> = fleet[1..]
        .iter()
        .filter_map(|machine| machine.latency(now))
        .collect();
    let verdict = fleet[0].compare(&mut peers, now);
    fleet[0].check_invariants(now);
    verdict.map(|Verdict::Eject { for_, cause }| (for_, cause))
}

fn slow_among(settings: &Settings, took: &[u64]) -> Option<(Duration, Cause)> {
    let took: Vec<_> = took.iter().copied().map(millis).collect();
    let (mut fleet, now) = fleet(settings, &took);
    compared(&mut fleet, now)
}

#[test]
fn in_answers_slower_than_the_peers_eject() {
    let told = Some((seconds(5), Cause::Latency));
    assert_eq!(slow_among(&only_slow(), &[100, 10, 10]), told);
    assert_eq!(slow_among(&only_slow(), &[31, 10, 10, 10]), told);
    assert_eq!(slow_among(&only_slow(), &[29, 10, 10, 10]), None, "not 3x");
    // Two of five are slow: the middle one still is not.
    assert_eq!(slow_among(&only_slow(), &[100, 100, 10, 10, 10]), told);
    assert_eq!(
        slow_among(&only_slow(), &[100, 100, 100, 10]),
        None,
        "most are"
    );
    assert_eq!(slow_among(&only_slow(), &[10, 100, 100, 100]), None);
}

#[test]
fn in_slow_answers_alone_say_nothing() {
    assert_eq!(slow_among(&only_slow(), &[100]), None);
    assert_eq!(slow_among(&only_slow(), &[100, 10]), None, "which is odd?");
    assert_eq!(
        slow_among(&Settings::default(), &[100, 10, 10]),
        None,
        "off"
    );
    assert_eq!(slow_among(&only_slow(), &[5, 1, 1]), None, "below 5ms more");
    assert_eq!(
        slow_among(&only_slow(), &[7, 1, 1]).map(|told| told.1),
        Some(Cause::Latency)
    );
}

#[test]
fn in_too_few_or_too_old_answers_say_nothing() {
    let settings = only_slow();
    let (mut all, now) = fleet(&settings, &[millis(100), millis(10), millis(10)]);
    let mut fresh = Machine::new(settings);
    for _ in 0..9 {
        fresh.answered(millis(100), now);
    }
    std::mem::swap(&mut all[0], &mut fresh);
    assert_eq!(compared(&mut all, now), None, "nine answers");
    std::mem::swap(&mut all[0], &mut fresh);
    assert!(compared(&mut all, now).is_some());
    assert_eq!(compared(&mut all, now + seconds(30)), None, "long ago");
}

#[test]
fn in_peers_are_looked_at_now_and_then() {
    let (mut machine, now) = (Machine::new(only_slow()), walk::start());
    assert!(machine.answered(millis(1), now));
    assert!(!machine.answered(millis(1), now + millis(249)));
    assert!(machine.answered(millis(1), now + millis(250)));
    assert!(
        machine.answered(millis(1), now - seconds(60)),
        "the clock stepped back"
    );
    let mut off = Machine::new(Settings::default());
    assert!(!off.answered(millis(1), now), "nobody asked");
}

#[test]
fn in_latency_is_forgotten_by_confirm() {
    let (mut all, now) = fleet(&only_slow(), &[millis(100), millis(10), millis(10)]);
    assert!(compared(&mut all, now).is_some());
    all[0].confirm(now);
    assert_eq!(all[0].latency(now), None, "it is out");
    assert!(!all[0].answered(millis(100), now), "dropped");
    assert_eq!(compared(&mut all, now + seconds(6)), None, "back, and new");
}

/// One in ten answers takes a thousand times as long, at every endpoint alike: none is the odd one.
#[test]
fn in_what_chance_does_to_mixed_routes_ejects_nobody() {
    let mut looks = 0u32;
    let mut wrong = 0u32;
    walk::seeds(|draws| {
        let mut fleet: Vec<Machine> = (0..4).map(|_| Machine::new(only_slow())).collect();
        let mut now = walk::start();
        for _ in 0..400 {
            now += millis(draws.below(20));
            let place = draws.below(4) as usize;
            let took = if draws.chance(0.1) { 1000 } else { 1 };
            if fleet[place].answered(millis(took), now) {
                fleet.swap(0, place);
                wrong += u32::from(compared(&mut fleet, now).is_some());
                looks += 1;
            }
        }
    });
    let alone = std::env::var("OUTRIDER_SEED").is_ok();
    assert!(alone || looks > 10_000, "{looks}");
    assert!(
        f64::from(wrong) <= f64::from(looks) * 1e-3,
        "{wrong} of {looks}"
    );
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
            slow: draws.chance(0.7).then_some(1.5 + 5.0 * draws.unit()),
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
            let failed = fleet[place].record(ok, now);
            assert!(
                failed.is_none() || (!ok && !was_out),
                "ejected for a success, or twice"
            );
            let took = millis(draws.below(100) * (place as u64 + 1));
            let slow = (ok && fleet[place].answered(took, now)).then(|| {
                let others = (0..fleet.len()).filter(|other| *other != place);
                let mut peers: Vec<_> = others.filter_map(|i| fleet[i].latency(now)).collect();
                let verdict = fleet[place].compare(&mut peers, now);
                assert!(
                    verdict.is_none() || (!was_out && peers.len() >= MIN_PEERS),
                    "ejected for slowness without peers, or twice"
                );
                verdict
            });
            let told = failed.or(slow.flatten());
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
