//! One test for each row of the table in `machine.rs`, named after it, and random walks. What an adaptive limit does for an
//! upstream is told in `kit/tests/gradient.rs`, and what the skin does under a stopped clock in `stack/tests/bulkhead.rs`.

use std::time::Duration;
use std::time::Instant;

use super::config::Adaptive;
use super::config::Settings;
use super::machine::Admission;
use super::machine::Machine;
use super::machine::Outcome;
use super::machine::Ticket;
use crate::kit::walk;
use crate::kit::walk::Draws;

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn adaptive() -> Machine<u64> {
    Machine::new(Settings {
        adaptive: Some(Adaptive::default()),
        ..Settings::default()
    })
}

fn fixed(max: u32, queue: u32, wait: u64) -> Machine<u64> {
    Machine::new(Settings {
        max,
        queue,
        wait: millis(wait),
        ..Settings::default()
    })
}

fn pass(machine: &mut Machine<u64>, now: Instant) -> Ticket {
    match machine.admit(|| 0, None, now) {
        Admission::Pass(ticket) => ticket,
        other => panic!("{other:?}"),
    }
}

fn queue(machine: &mut Machine<u64>, who: u64, now: Instant) -> u64 {
    match machine.admit(|| who, None, now) {
        Admission::Wait { number, .. } => number,
        other => panic!("{other:?}"),
    }
}

#[test]
fn admit_below_the_limit_passes() {
    let now = walk::start();
    let mut machine = fixed(2, 1, 100);
    let tickets = [pass(&mut machine, now), pass(&mut machine, now)];
    assert_eq!((machine.in_flight(), machine.queued()), (2, 0));
    for ticket in tickets {
        assert_eq!(machine.release(ticket, now), None);
    }
    assert_eq!(machine.in_flight(), 0);
}

#[test]
fn admit_at_the_limit_joins_the_queue_as_long_as_it_has_room() {
    let now = walk::start();
    let mut machine = fixed(1, 1, 100);
    let _ticket = pass(&mut machine, now);
    let admission = machine.admit(|| 7, None, now);
    assert!(
        matches!(admission, Admission::Wait { until, .. } if until == now + millis(100)),
        "{admission:?}"
    );
    assert!(matches!(machine.admit(|| 8, None, now), Admission::Full));
}

#[test]
fn admit_waits_no_longer_than_the_deadline_and_not_at_all_past_it() {
    let now = walk::start();
    let mut machine = fixed(1, 5, 100);
    let _ticket = pass(&mut machine, now);
    let admission = machine.admit(|| 7, Some(now + millis(30)), now);
    assert!(
        matches!(admission, Admission::Wait { until, .. } if until == now + millis(30)),
        "{admission:?}"
    );
    let admission = machine.admit(|| 8, Some(now), now);
    assert!(matches!(admission, Admission::Full), "{admission:?}");
}

#[test]
fn admit_without_a_wait_is_refused_at_once() {
    let now = walk::start();
    for mut machine in [fixed(1, 5, 0), fixed(1, 0, 100)] {
        let _ticket = pass(&mut machine, now);
        assert!(matches!(machine.admit(|| 7, None, now), Admission::Full));
    }
}

#[test]
fn release_hands_the_permit_to_the_oldest_while_it_has_not_waited_long() {
    let now = walk::start();
    let mut machine = fixed(1, 5, 100);
    let ticket = pass(&mut machine, now);
    for who in 1..=3 {
        let _ = queue(&mut machine, who, now + millis(who));
    }
    assert_eq!(machine.release(ticket, now + millis(20)), Some(1));
    assert_eq!(machine.in_flight(), 1, "handed over, not given up");
    assert_eq!(machine.next(now + millis(20)), None);
}

#[test]
fn release_hands_the_permit_to_the_newest_once_the_oldest_has_waited_long() {
    let now = walk::start();
    let mut machine = fixed(1, 5, 100);
    let ticket = pass(&mut machine, now);
    for who in 1..=3 {
        let _ = queue(&mut machine, who, now + millis(10 * who));
    }
    assert_eq!(machine.release(ticket, now + millis(70)), Some(3));
}

#[test]
fn release_never_chooses_a_waiter_whose_time_is_up() {
    let now = walk::start();
    let mut machine = fixed(1, 5, 100);
    let ticket = pass(&mut machine, now);
    let first = queue(&mut machine, 1, now);
    assert_eq!(machine.release(ticket, now + millis(100)), None);
    assert_eq!(machine.in_flight(), 0);
    // Its timer has not fired yet, and it must not keep others out.
    let _ticket = pass(&mut machine, now + millis(100));
    assert!(machine.leave(first));
}

#[test]
fn leave_takes_a_waiter_out_once() {
    let now = walk::start();
    let mut machine = fixed(1, 5, 100);
    let ticket = pass(&mut machine, now);
    let numbers: Vec<u64> = (1..=3).map(|who| queue(&mut machine, who, now)).collect();
    assert!(machine.leave(numbers[1]));
    assert!(!machine.leave(numbers[1]));
    assert_eq!(machine.release(ticket, now), Some(1));
}

#[test]
fn leave_of_a_chosen_waiter_says_that_it_has_a_permit() {
    let now = walk::start();
    let mut machine = fixed(1, 5, 100);
    let ticket = pass(&mut machine, now);
    let (first, _) = (queue(&mut machine, 1, now), queue(&mut machine, 2, now));
    assert_eq!(machine.release(ticket, now), Some(1));
    assert!(!machine.leave(first));
    let ticket = machine.chosen(now);
    assert_eq!(
        machine.release(ticket, now),
        Some(2),
        "it goes on to the next"
    );
}

#[test]
fn reconfigure_keeps_permits_and_lets_nobody_in_beside_them() {
    let now = walk::start();
    let mut machine = fixed(3, 2, 100);
    let mut tickets: Vec<Ticket> = (0..3).map(|_| pass(&mut machine, now)).collect();
    machine.reconfigure(fixed(1, 2, 100).settings().clone());
    assert_eq!((machine.in_flight(), machine.limit()), (3, 1));
    let _ = queue(&mut machine, 7, now);
    for left in [2, 1] {
        let ticket = tickets.pop().expect("three");
        assert_eq!(machine.release(ticket, now), None, "{left} are left");
    }
    let ticket = tickets.pop().expect("the last");
    assert_eq!(machine.release(ticket, now), Some(7));
}

#[test]
fn reconfigure_to_more_lets_waiters_in() {
    let now = walk::start();
    let mut machine = fixed(1, 5, 100);
    let _ticket = pass(&mut machine, now);
    for who in 1..=3 {
        let _ = queue(&mut machine, who, now);
    }
    machine.reconfigure(fixed(3, 5, 100).settings().clone());
    assert_eq!((machine.next(now), machine.next(now)), (Some(1), Some(2)));
    assert_eq!(machine.next(now), None);
}

#[test]
fn reconfigure_from_fixed_to_adaptive_and_back_keeps_the_count() {
    let now = walk::start();
    let mut machine = fixed(50, 5, 100);
    let _tickets: Vec<Ticket> = (0..30).map(|_| pass(&mut machine, now)).collect();
    machine.reconfigure(adaptive().settings().clone());
    assert_eq!((machine.in_flight(), machine.limit()), (30, 20));
    machine.reconfigure(fixed(50, 5, 100).settings().clone());
    assert_eq!((machine.in_flight(), machine.limit()), (30, 50));
}

#[test]
fn admit_anyway_goes_past_the_limit_and_tells_when_it_would_have_been_refused() {
    let now = walk::start();
    let mut machine = fixed(1, 2, 100);
    let told: Vec<bool> = (0..5)
        .map(|_| {
            let (ticket, would_refuse) = machine.admit_anyway(now);
            drop(ticket);
            would_refuse
        })
        .collect();
    assert_eq!(told, [false, false, false, true, true]);
    assert_eq!(machine.in_flight(), 5);
}

/// What the skin holds: permits in use, waiters asleep, and waiters that were chosen and have not woken up yet.
struct Skin {
    machine: Machine<u64>,
    held: Vec<Ticket>,
    asleep: Vec<(u64, u64, Instant)>,
    chosen: Vec<u64>,
    calls: u64,
}

impl Skin {
    fn wake(&mut self, first: Option<u64>, now: Instant) {
        let mut next = first.or_else(|| self.machine.next(now));
        while let Some(who) = next {
            let place = self.asleep.iter().position(|(call, ..)| *call == who);
            let (_, number, until) = self.asleep.remove(place.expect("only sleepers are woken"));
            assert!(until > now, "woken too late to be of use");
            self.chosen.push(number);
            next = self.machine.next(now);
        }
    }

    fn arrive(&mut self, deadline: Option<Instant>, now: Instant) {
        let call = self.calls;
        self.calls += 1;
        match self.machine.admit(|| call, deadline, now) {
            Admission::Pass(ticket) => self.held.push(ticket),
            Admission::Wait { number, until } => self.asleep.push((call, number, until)),
            Admission::Full => {}
        }
        self.wake(None, now);
    }

    fn end(&mut self, at: usize, outcome: Option<Outcome>, now: Instant) {
        let ticket = self.held.swap_remove(at);
        if let Some(outcome) = outcome {
            self.machine.observe(&ticket, outcome, now);
        }
        let next = self.machine.release(ticket, now);
        self.wake(next, now);
    }

    /// A waiter that wakes up for whatever reason takes its permit, if it was chosen.
    fn get_up(&mut self, number: u64, goes_away: bool, now: Instant) {
        self.asleep.retain(|(_, asleep, _)| *asleep != number);
        self.chosen.retain(|chosen| *chosen != number);
        if self.machine.leave(number) {
            return;
        }
        let ticket = self.machine.chosen(now);
        if goes_away {
            let next = self.machine.release(ticket, now);
            self.wake(next, now);
        } else {
            self.held.push(ticket);
        }
    }

    fn check(&self, now: Instant) {
        self.machine.check_invariants();
        let permits = self.held.len() + self.chosen.len();
        assert_eq!(
            self.machine.in_flight() as usize,
            permits,
            "a permit is lost"
        );
        assert_eq!(self.machine.queued(), self.asleep.len(), "a waiter is lost");
        let could_go = self.asleep.iter().any(|(.., until)| *until > now);
        assert!(
            !could_go || self.machine.in_flight() >= self.machine.limit(),
            "somebody sleeps while there is room"
        );
    }
}

fn any_settings(draws: &mut Draws) -> Settings {
    Settings {
        max: 1 + draws.below(6) as u32,
        queue: draws.below(6) as u32,
        wait: millis(draws.below(300)),
        adaptive: draws.chance(0.3).then(|| Adaptive {
            min: 1 + draws.below(3) as u32,
            max: 3 + draws.below(30) as u32,
        }),
        ..Settings::default()
    }
}

#[test]
fn walk_no_cancellation_loses_a_permit_and_nobody_sleeps_while_there_is_room() {
    walk::seeds(|draws| {
        let mut now = walk::start();
        let mut skin = Skin {
            machine: Machine::new(any_settings(draws)),
            held: Vec::new(),
            asleep: Vec::new(),
            chosen: Vec::new(),
            calls: 0,
        };
        for _ in 0..300 {
            match draws.below(10) {
                0..4 => {
                    let deadline = draws.chance(0.3).then(|| now + millis(draws.below(100)));
                    skin.arrive(deadline, now);
                }
                4..7 if !skin.held.is_empty() => {
                    let at = draws.below(skin.held.len() as u64) as usize;
                    let outcomes = [Outcome::Answered, Outcome::Dropped, Outcome::Abandoned];
                    let outcome = draws.chance(0.9).then(|| draws.pick(&outcomes));
                    skin.end(at, outcome, now);
                }
                7 if !skin.chosen.is_empty() => {
                    let number = draws.pick(&skin.chosen);
                    skin.get_up(number, draws.chance(0.5), now);
                }
                8 if !skin.asleep.is_empty() => {
                    let at = draws.below(skin.asleep.len() as u64) as usize;
                    let (_, number, _) = skin.asleep[at];
                    skin.get_up(number, true, now);
                }
                9 if draws.chance(0.1) => {
                    skin.machine.reconfigure(any_settings(draws));
                    skin.wake(None, now);
                }
                _ => now += draws.pause() / 10,
            }
            skin.check(now);
        }
        while let Some(number) = skin.chosen.pop() {
            skin.get_up(number, true, now);
        }
        for (_, number, _) in skin.asleep.clone() {
            skin.get_up(number, true, now);
        }
        while !skin.held.is_empty() {
            skin.end(0, None, now);
        }
        while let Some(number) = skin.chosen.pop() {
            skin.get_up(number, true, now);
        }
        assert_eq!((skin.machine.in_flight(), skin.machine.queued()), (0, 0));
    });
}

#[test]
fn walk_admission_stays_within_the_limit() {
    walk::seeds(|draws| {
        let settings = Settings {
            adaptive: None,
            ..any_settings(draws)
        };
        let limit = settings.max;
        let mut machine = Machine::new(settings);
        let mut now = walk::start();
        let mut held = Vec::new();
        for call in 0..200 {
            now += draws.pause() / 10;
            if draws.chance(0.6) {
                if let Admission::Pass(ticket) = machine.admit(|| call, None, now) {
                    held.push(ticket);
                }
            } else if let Some(ticket) = held.pop()
                && machine.release(ticket, now).is_some()
            {
                held.push(machine.chosen(now));
            }
            assert!(machine.in_flight() <= limit);
            assert_eq!(machine.in_flight() as usize, held.len());
        }
    });
}
