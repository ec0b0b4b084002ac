//! One test for each row of the tables in `machine.rs`, and the random walks. The layer is tested beside the stack.

use std::time::Duration;
use std::time::Instant;

use super::config::After;
use super::config::Settings;
use super::machine::Decision;
use super::machine::Ended;
use super::machine::Facts;
use super::machine::Machine;
use super::machine::Next;
use super::machine::Skip;
use super::machine::Upload;
use super::machine::settle;
use crate::kit::walk;

const DELAY: Duration = Duration::from_millis(30);

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Hedges after 30ms, whatever the budget would say.
fn generous() -> Settings {
    let mut settings = Settings {
        after: After::Fixed(DELAY),
        ..Settings::default()
    };
    settings.budget.floor_per_s = 1000.0;
    settings
}

/// A GET that could be sent again, with plenty of everything, and a change.
fn but(change: impl FnOnce(&mut Facts)) -> Facts {
    let mut facts = Facts {
        upload: Upload::None,
        replayable: true,
        elsewhere: true,
        remaining: Some(Duration::from_secs(5)),
    };
    change(&mut facts);
    facts
}

fn judged(facts: Facts) -> Decision {
    Machine::new(&generous()).judge(&facts, DELAY, walk::start())
}

/// So many calls that the machine has looked at all of them: it looks at the first, and at 256 more.
fn measure(machine: &mut Machine, took: Duration, now: Instant) {
    for _ in 0..257 {
        machine.observe(took, now);
    }
}

#[test]
fn sent_waits_while_the_client_is_sending() {
    let now = walk::start();
    let judge = |upload| Machine::new(&generous()).judge(&but(|f| f.upload = upload), DELAY, now);
    let until = now + DELAY;
    assert_eq!(judge(Upload::Running), Decision::Wait { until });
    let (done, due) = (now - millis(10), now + millis(20));
    assert_eq!(
        judge(Upload::Done { at: done }),
        Decision::Wait { until: due },
        "the upstream has had it for 10ms only"
    );
    assert_eq!(judge(Upload::Done { at: now - DELAY }), Decision::Send);
}

#[test]
fn replayable_skips_a_body_that_is_not_kept() {
    let skip = Decision::Skip(Skip::BodyTooLarge);
    assert_eq!(judged(but(|f| f.replayable = false)), skip);
}

#[test]
fn elsewhere_skips_a_call_that_has_been_everywhere() {
    let skip = Decision::Skip(Skip::NoOtherEndpoint);
    assert_eq!(judged(but(|f| f.elsewhere = false)), skip);
}

#[test]
fn in_time_skips_what_the_deadline_would_end_too() {
    let now = walk::start();
    let mut machine = Machine::new(&generous());
    measure(&mut machine, millis(100), now);
    let mut judge = |left| machine.judge(&but(|f| f.remaining = Some(left)), DELAY, now);
    assert_eq!(judge(millis(80)), Decision::Skip(Skip::NoTime));
    assert_eq!(judge(millis(120)), Decision::Send);
    let mut judge = |left| machine.judge(&but(|f| f.remaining = left), DELAY, now);
    assert_eq!(judge(None), Decision::Send, "no deadline at all");
    // Nothing is known of the upstream: only a call that is over is not worth a copy.
    assert_eq!(
        judged(but(|f| f.remaining = Some(Duration::ZERO))),
        Decision::Skip(Skip::NoTime)
    );
    assert_eq!(
        judged(but(|f| f.remaining = Some(millis(1)))),
        Decision::Send
    );
}

#[test]
fn affordable_allows_the_share_and_no_more() {
    let now = walk::start();
    let settings = Settings {
        after: After::Fixed(DELAY),
        ..Settings::default()
    };
    let mut machine = Machine::new(&settings);
    for _ in 0..19 {
        machine.begin(now);
    }
    let mut judge = |calls: u32| {
        for _ in 0..calls {
            machine.begin(now);
        }
        machine.judge(&but(|_| {}), DELAY, now)
    };
    assert_eq!(judge(0), Decision::Skip(Skip::Budget), "19 calls");
    assert_eq!(judge(1), Decision::Send, "one of twenty");
    assert_eq!(judge(0), Decision::Skip(Skip::Budget));
}

#[test]
fn a_skip_for_another_cause_costs_no_budget() {
    let now = walk::start();
    let mut machine = Machine::new(&generous());
    let before = machine.budget_left(now);
    for facts in [
        but(|f| f.replayable = false),
        but(|f| f.elsewhere = false),
        but(|f| f.remaining = Some(Duration::ZERO)),
        but(|f| f.upload = Upload::Running),
    ] {
        let decision = machine.judge(&facts, DELAY, now);
        assert_ne!(decision, Decision::Send);
    }
    assert!((machine.budget_left(now) - before).abs() < 1e-9);
}

#[test]
fn warming_gives_no_time_until_fifty_calls_were_measured() {
    let mut now = walk::start();
    let mut machine = Machine::new(&Settings::default());
    for n in 0..50 {
        assert_eq!(machine.begin(now), None, "{n} measured");
        machine.observe(millis(if n % 10 == 0 { 200 } else { 10 }), now);
        now += millis(100);
    }
    let delay = machine.begin(now).expect("50 were measured");
    assert!((millis(180)..millis(220)).contains(&delay), "{delay:?}");
    now += Duration::from_secs(60);
    assert_eq!(machine.begin(now), None, "all that is forgotten");
}

#[test]
fn a_percentile_follows_within_256_calls_or_a_tenth_of_a_second() {
    let now = walk::start();
    let mut machine = Machine::new(&Settings::default());
    measure(&mut machine, millis(10), now);
    let before = machine.begin(now).expect("known");
    for _ in 0..255 {
        machine.observe(millis(1000), now);
        assert_eq!(machine.begin(now), Some(before));
    }
    machine.observe(millis(1000), now);
    assert!(machine.begin(now) > Some(millis(900)));
    machine.observe(millis(3000), now);
    assert!(machine.begin(now + millis(100)).is_some());
}

#[test]
fn a_percentile_is_a_millisecond_at_least() {
    let now = walk::start();
    let mut machine = Machine::new(&Settings::default());
    measure(&mut machine, Duration::from_micros(20), now);
    assert_eq!(machine.begin(now), Some(millis(1)));
}

#[test]
fn a_fixed_time_needs_no_measurement() {
    let now = walk::start();
    let mut machine = Machine::new(&generous());
    assert_eq!(machine.begin(now), Some(DELAY));
    measure(&mut machine, millis(1000), now);
    assert_eq!(machine.begin(now), Some(DELAY));
}

/// One call in ten takes a second; copies cut each at twice the delay. The percentile must not follow them down.
#[test]
fn cut_copies_do_not_drag_their_own_percentile_down() {
    let mut now = walk::start();
    let mut machine = Machine::new(&Settings::default());
    for n in 0..5000 {
        now += millis(7);
        let delay = machine.begin(now);
        if n % 10 != 0 {
            machine.observe(millis(10), now);
        } else if let Some(delay) = delay {
            machine.observe_at_least(delay * 2, now);
        } else {
            machine.observe(millis(1000), now);
        }
    }
    let delay = machine.begin(now).expect("known");
    assert!(
        delay > millis(500),
        "{delay:?}: dragged down by its own cuts"
    );
}

#[test]
fn what_was_given_up_on_early_tells_nothing() {
    let now = walk::start();
    let mut machine = Machine::new(&generous());
    machine.observe_at_least(millis(29), now);
    assert_eq!(machine.samples(now), 0);
    machine.observe_at_least(millis(30), now);
    assert_eq!(machine.samples(now), 1);
    let mut warming = Machine::new(&Settings::default());
    warming.observe_at_least(Duration::from_secs(9), now);
    assert_eq!(warming.samples(now), 0);
}

#[test]
fn a_usable_answer_is_the_calls_whoever_is_under_way() {
    for under_way in 0..3 {
        for kept in [None, Some(Ended::Failed), Some(Ended::Fault)] {
            assert_eq!(settle(Ended::Usable, under_way, kept), Next::Give);
        }
    }
}

#[test]
fn a_failure_waits_while_others_are_under_way() {
    for ended in [Ended::Failed, Ended::Fault] {
        assert_eq!(settle(ended, 1, None), Next::Keep);
        assert_eq!(settle(ended, 2, Some(Ended::Fault)), Next::Keep);
    }
    assert_eq!(settle(Ended::Fault, 1, Some(Ended::Failed)), Next::Drop);
}

#[test]
fn an_answer_that_is_a_failure_stands_when_it_is_the_last() {
    for kept in [None, Some(Ended::Failed), Some(Ended::Fault)] {
        assert_eq!(settle(Ended::Failed, 0, kept), Next::Give);
    }
}

#[test]
fn a_fault_stands_when_it_is_the_last_unless_an_answer_came_before() {
    assert_eq!(settle(Ended::Fault, 0, None), Next::Give);
    assert_eq!(settle(Ended::Fault, 0, Some(Ended::Fault)), Next::Give);
    assert_eq!(settle(Ended::Fault, 0, Some(Ended::Failed)), Next::GiveKept);
}

/// Every call gets exactly one outcome: a usable one if there is one, else an answer if there is one.
#[test]
fn walk_a_call_gets_the_best_outcome_that_came_in_time() {
    walk::seeds(|draws| {
        let copies = 1 + draws.below(4) as usize;
        let all = [Ended::Usable, Ended::Failed, Ended::Fault];
        let mut kept = None;
        let mut seen = Vec::new();
        for left in (0..copies).rev() {
            let ended = draws.pick(&all);
            seen.push(ended);
            let given = match settle(ended, left, kept) {
                Next::Give => ended,
                Next::GiveKept => kept.expect("something was kept"),
                Next::Keep => {
                    kept = Some(ended);
                    assert!(left > 0);
                    continue;
                }
                Next::Drop => {
                    assert!(left > 0);
                    continue;
                }
            };
            assert_eq!(given == Ended::Usable, seen.contains(&Ended::Usable));
            assert!(given != Ended::Fault || !seen.contains(&Ended::Failed));
            assert!(given == Ended::Usable || left == 0, "given up too early");
            return;
        }
        panic!("no outcome of {seen:?}");
    });
}

/// Whatever the traffic: copies stay within the share and the floor of every window, no more than `max` a call.
#[test]
fn walk_copies_stay_within_their_share() {
    walk::seeds(|draws| {
        let mut settings = Settings {
            max: 1 + draws.below(3) as u32,
            ..Settings::default()
        };
        settings.budget.share = draws.unit() / 2.0;
        settings.budget.floor_per_s = draws.below(2) as f64;
        let floor = settings.budget.floor_per_s * settings.budget.over.as_secs_f64();
        let mut machine = Machine::new(&settings);
        let mut now = walk::start();
        let (mut calls, mut copies) = (Vec::new(), Vec::new());
        for _ in 0..300 {
            now += draws.pause() / 8;
            calls.push(now);
            if let Some(delay) = machine.begin(now) {
                let mut sent = 0;
                while draws.chance(0.5) && machine.allows(sent) {
                    let facts = but(|f| {
                        f.replayable = draws.chance(0.9);
                        f.elsewhere = draws.chance(0.9);
                    });
                    if machine.judge(&facts, delay, now) != Decision::Send {
                        break;
                    }
                    assert!(facts.replayable && facts.elsewhere);
                    sent += 1;
                    copies.push(now);
                    let within = |all: &[Instant], over: Duration| {
                        all.iter().filter(|at| now - **at < over).count() as f64
                    };
                    // A window covers nine tenths of its length at least.
                    let over = settings.budget.over;
                    let made = within(&copies, over * 9 / 10);
                    let paid = settings.budget.share * within(&calls, over) + floor;
                    assert!(made <= paid + 1e-6, "{made} copies, {paid} paid for");
                }
                assert!(sent <= settings.max);
            }
            let took = Duration::from_micros(draws.below(100_000));
            if draws.chance(0.8) {
                machine.observe(took, now);
            } else {
                machine.observe_at_least(took, now);
            }
            machine.check_invariants(now);
        }
    });
}
