//! The random walks.

use super::*;
use crate::policy::breaker::machine::fleet::Advice;

fn drawn_settings(draws: &mut Draws) -> Settings {
    let slow = Slow {
        over: millis(1 + draws.below(300)),
        share: 0.1 + 0.9 * draws.unit(),
    };
    let open = millis(10 + draws.below(8000));
    Settings {
        failures: draws.chance(0.8).then_some(0.05 + 0.95 * draws.unit()),
        over: millis(1000 + draws.below(20_000)),
        min_calls: 1 + draws.below(30) as u32,
        slow: draws.chance(0.5).then_some(slow),
        consecutive: draws.chance(0.5).then_some(1 + draws.below(8) as u32),
        open,
        open_max: open * (1 + draws.below(20) as u32),
        probes: 1 + draws.below(6) as u32,
        ..Settings::default()
    }
}

fn drawn_outcome(draws: &mut Draws, failing: f64) -> Outcome {
    match draws.unit() {
        draw if draw < 0.05 => Abandoned,
        _ if draws.chance(failing) => Failure,
        _ => Success,
    }
}

const MOVES: [(State, State, Cause); 12] = [
    (State::Closed, State::Open, Cause::FailureRate),
    (State::Closed, State::Open, Cause::SlowRate),
    (State::Closed, State::Open, Cause::Consecutive),
    (State::Open, State::HalfOpen, Cause::OpenElapsed),
    (State::HalfOpen, State::Closed, Cause::ProbesPassed),
    (State::HalfOpen, State::Open, Cause::ProbeFailed),
    (State::HalfOpen, State::Open, Cause::SlowRate),
    (State::Closed, State::Open, Cause::ByHand),
    (State::HalfOpen, State::Open, Cause::ByHand),
    (State::Open, State::Closed, Cause::ByHand),
    (State::HalfOpen, State::Closed, Cause::ByHand),
    (State::Open, State::Closed, Cause::ForceEnded),
];

/// A transition must be one of the table, lead on from the state before it, and carry what the table says.
fn check_transition(t: &Transition, before: State) {
    assert_eq!(t.from, before, "{t:?}");
    assert!(MOVES.contains(&(t.from, t.to, t.cause)), "{t:?}");
    assert_eq!(t.open_for.is_some(), t.to == State::Open, "{t:?}");
    assert!(t.failures <= t.calls, "{t:?}");
}

#[test]
fn walk_holds_every_invariant() {
    let mut seen = [0u32; 3];
    walk::seeds(|draws| {
        let settings = drawn_settings(draws);
        let probes = settings.probes;
        let mut machine = Machine::new(settings);
        let (mut now, mut failing) = (walk::start(), 0.1);
        let mut state = State::Closed;
        let mut held: Vec<Ticket> = Vec::new();
        for _ in 0..300 {
            if draws.chance(0.02) {
                failing = draws.pick(&[0.0, 0.1, 0.5, 1.0]);
            }
            now += draws.pause();
            if draws.chance(0.01) {
                now -= millis(draws.below(5000));
            }
            let transition = if draws.chance(0.01) {
                let to = draws.pick(&[Forced::Open, Forced::Closed]);
                machine.force(to, millis(1 + draws.below(60_000)), now)
            } else if draws.chance(0.005) {
                machine.release()
            } else if draws.chance(0.02) {
                let advice = Advice {
                    suspicious: draws.chance(0.5),
                    probes_elsewhere: draws.chance(0.5),
                };
                machine.advise(advice, now + millis(draws.below(20_000)));
                None
            } else if held.is_empty() || draws.chance(0.55) {
                let expected = machine.state(now);
                let (answer, transition) = machine.admit(now);
                match answer {
                    Ok(ticket) => held.push(ticket),
                    Err(refusal) => {
                        assert_ne!(expected, State::Closed, "a closed circuit refused");
                        assert!(!refusal.retry_after.is_zero(), "worth asking at once");
                    }
                }
                transition
            } else {
                let ticket = held.swap_remove(draws.below(held.len() as u64) as usize);
                let outcome = drawn_outcome(draws, failing);
                let (latency, draw) = (millis(draws.below(400)), draws.unit());
                // Some tickets are lost on the way.
                let arrives = !draws.chance(0.03);
                let settle = || machine.settle(ticket, outcome, latency, now, draw);
                arrives.then(settle).flatten()
            };
            if let Some(transition) = transition {
                check_transition(&transition, state);
                state = transition.to;
                seen[state as usize] += 1;
            }
            machine.check_invariants(now);
        }
        // Whatever happened, patience and good answers close it again: nothing can wedge it.
        for _ in 0..3 * probes {
            now += secs(3600);
            if let (Ok(ticket), _) = machine.admit(now) {
                machine.settle(ticket, Success, Duration::ZERO, now, 0.5);
            }
        }
        assert_eq!(machine.state(now), State::Closed, "wedged");
    });
    let alone = std::env::var("OUTRIDER_SEED").is_ok();
    let moved = seen.iter().all(|moves| *moves > 100);
    assert!(alone || moved, "the walk hardly moves: {seen:?}");
}

#[test]
fn walk_never_has_more_live_probes_than_set() {
    walk::seeds(|draws| {
        let probes = 1 + draws.below(4) as u32;
        let (bench, _) = Bench::half_open(with(|s| s.probes = probes));
        let (mut machine, mut now) = (bench.machine, bench.now);
        let mut live = vec![now];
        for _ in 0..60 {
            now += millis(draws.below(700));
            live.retain(|since| now - *since < machine.lease());
            if machine.admit(now).0.is_ok() {
                live.push(now);
            }
            assert!(
                live.len() <= probes as usize,
                "{} probes at once",
                live.len()
            );
        }
    });
}
