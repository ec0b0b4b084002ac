//! What an operator's hand does to the machine.

use super::*;

const LONG: Duration = Duration::from_secs(600);

impl Bench {
    fn force(&mut self, to: Forced, length: Duration) -> Option<Transition> {
        let transition = self.machine.force(to, length, self.now);
        self.machine.check_invariants(self.now);
        transition
    }

    fn release(&mut self) -> Option<Transition> {
        let transition = self.machine.release();
        self.machine.check_invariants(self.now);
        transition
    }
}

#[test]
fn any_forced_open_from_each_state() {
    let by_hand = |from| (from, State::Open, Cause::ByHand, 0, 0);
    let mut closed = Bench::new(Settings::default());
    let moved = closed.force(Forced::Open, LONG);
    assert_eq!(told(moved), by_hand(State::Closed));
    assert_eq!(moved.and_then(|t| t.open_for), Some(LONG));
    assert_eq!(closed.state(), State::Open);
    let (mut probing, _probe) = Bench::half_open(Settings::default());
    let moved = probing.force(Forced::Open, LONG);
    assert_eq!(told(moved), by_hand(State::HalfOpen));
    let mut open = Bench::new(Settings::default());
    open.trip();
    assert_eq!(open.force(Forced::Open, LONG), None, "it is open already");
    assert_eq!(open.machine.forced_left(open.now), Some(LONG));
}

#[test]
fn any_forced_closed_from_each_state() {
    let mut closed = Bench::new(Settings::default());
    assert_eq!(closed.force(Forced::Closed, LONG), None);
    assert_eq!(closed.machine.forced_left(closed.now), Some(LONG));
    let mut open = Bench::new(Settings::default());
    open.trip();
    let moved = open.force(Forced::Closed, LONG);
    assert_eq!(
        told(moved),
        (State::Open, State::Closed, Cause::ByHand, 0, 0)
    );
    assert_eq!(moved.and_then(|t| t.open_for), None);
    let (mut probing, _probe) = Bench::half_open(Settings::default());
    let moved = probing.force(Forced::Closed, LONG);
    assert_eq!(told(moved).0, State::HalfOpen);
}

#[test]
fn forced_open_admit_is_refused_with_the_time_left_at_most_open_max() {
    let mut bench = Bench::new(Settings::default());
    bench.force(Forced::Open, secs(90));
    let (answer, _) = bench.machine.admit(bench.now);
    let refusal = answer.expect_err("refused");
    assert_eq!((refusal.retry_after, refusal.by_hand), (secs(60), true));
    assert_eq!(bench.pass(secs(80)).refused_for(), secs(10));
    assert_eq!(bench.machine.open_left(bench.now), Some(secs(10)));
}

#[test]
fn open_by_its_calls_is_not_by_hand() {
    let mut bench = Bench::new(Settings::default());
    bench.trip();
    let (answer, _) = bench.machine.admit(bench.now);
    assert!(!answer.expect_err("refused").by_hand);
}

#[test]
fn forced_closed_outcomes_are_counted_whatever_they_reach() {
    let mut bench = Bench::new(with(|s| s.consecutive = Some(3)));
    bench.force(Forced::Closed, LONG);
    bench.calls(50, Failure);
    bench.calls(5, Abandoned);
    assert_eq!(bench.counts(), (50, 50, 0));
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn forced_admit_after_its_time_starts_afresh() {
    let mut open = Bench::new(Settings::default());
    open.force(Forced::Open, LONG);
    assert!(open.pass(LONG - millis(1)).admit().0.is_none());
    open.pass(millis(1));
    assert_eq!(open.state(), State::Closed, "as a call would find it");
    let (ticket, moved) = open.admit();
    assert!(ticket.is_some(), "no probes: nothing was wrong");
    assert_eq!(
        told(moved),
        (State::Open, State::Closed, Cause::ForceEnded, 0, 0)
    );
    let mut closed = Bench::new(Settings::default());
    closed.force(Forced::Closed, LONG);
    closed.calls(50, Failure);
    let (ticket, moved) = closed.pass(LONG).admit();
    assert_eq!((ticket.is_some(), moved), (true, None));
    assert_eq!(closed.counts(), (0, 0, 0), "the window starts afresh");
    closed.calls(19, Failure);
    assert!(closed.call(Failure).is_some(), "its calls decide again");
}

#[test]
fn forced_released_starts_afresh() {
    let mut bench = Bench::new(Settings::default());
    bench.trip();
    bench.force(Forced::Open, LONG);
    let moved = bench.release();
    assert_eq!(
        told(moved),
        (State::Open, State::Closed, Cause::ByHand, 0, 0)
    );
    assert_eq!(bench.machine.forced_left(bench.now), None);
    assert_eq!(bench.counts(), (0, 0, 0));
    assert_eq!(bench.trip().open_for, Some(secs(5)), "as the first time");
}

#[test]
fn not_forced_released_nothing_happens() {
    let mut bench = Bench::new(Settings::default());
    bench.calls(7, Failure);
    assert_eq!(bench.release(), None);
    assert_eq!(bench.counts(), (7, 7, 0));
    bench.trip();
    assert_eq!(bench.release(), None);
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn forced_stragglers_from_before_and_after_judge_nothing() {
    let mut bench = Bench::new(Settings::default());
    let before = bench.ticket();
    bench.force(Forced::Closed, LONG);
    assert_eq!(bench.settle(before, Failure), None);
    assert_eq!(bench.counts(), (0, 0, 0));
    let during = bench.ticket();
    bench.release();
    assert_eq!(bench.settle(during, Failure), None);
    assert_eq!(bench.counts(), (0, 0, 0));
}

#[test]
fn forced_is_not_prolonged_by_a_clock_that_steps_back() {
    let mut bench = Bench::new(Settings::default());
    bench.force(Forced::Open, secs(30));
    bench.now -= secs(3600);
    assert_eq!(bench.refused_for(), secs(30));
    assert!(bench.pass(secs(30)).admit().0.is_some());
}

#[test]
fn forced_again_replaces_the_force() {
    let mut bench = Bench::new(Settings::default());
    bench.force(Forced::Open, LONG);
    let moved = bench.pass(secs(10)).force(Forced::Closed, secs(20));
    assert_eq!(told(moved).1, State::Closed);
    assert_eq!(bench.machine.forced_left(bench.now), Some(secs(20)));
}
