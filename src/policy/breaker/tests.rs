//! One test for each row of the table in `machine.rs`, named after it, and the random walks.

mod fleet;
mod forced;
mod walks;

use std::time::Duration;
use std::time::Instant;

use super::config::Settings;
use super::config::Slow;
use super::machine::Cause;
use super::machine::Forced;
use super::machine::LEASE_MAX;
use super::machine::LEASE_MIN;
use super::machine::Machine;
use super::machine::Outcome;
use super::machine::Outcome::Abandoned;
use super::machine::Outcome::Failure;
use super::machine::Outcome::Success;
use super::machine::State;
use super::machine::Ticket;
use super::machine::Transition;
use super::machine::open_time;
use crate::kit::walk;
use crate::kit::walk::Draws;

const FAST: Duration = Duration::from_millis(1);
const LIMIT: Duration = Duration::from_millis(100);
const SLOW: Duration = Duration::from_millis(101);
const NO_JITTER: f64 = 0.5;

fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// The built-in settings with a change.
fn with(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = Settings::default();
    change(&mut settings);
    settings
}

const SLOWNESS: Slow = Slow {
    over: LIMIT,
    share: 0.8,
};

/// From, to, cause, failures, calls.
fn told(transition: Option<Transition>) -> (State, State, Cause, u32, u32) {
    let t = transition.expect("it moved");
    (t.from, t.to, t.cause, t.failures, t.calls)
}

/// A machine, a clock, and a check of the invariants after each step.
struct Bench {
    machine: Machine,
    now: Instant,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        Self {
            machine: Machine::new(settings),
            now: walk::start(),
        }
    }

    /// Tripped, with its open time passed and its first probe taken.
    fn half_open(settings: Settings) -> (Self, Ticket) {
        let mut bench = Self::new(settings);
        bench.trip();
        let (ticket, transition) = bench.pass(secs(5)).admit();
        assert_eq!(transition.map(|t| t.to), Some(State::HalfOpen));
        (bench, ticket.expect("the first probe"))
    }

    fn pass(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self
    }

    fn admit(&mut self) -> (Option<Ticket>, Option<Transition>) {
        let (ticket, transition) = self.machine.admit(self.now);
        self.machine.check_invariants(self.now);
        (ticket.ok(), transition)
    }

    fn ticket(&mut self) -> Ticket {
        self.admit().0.expect("admitted")
    }

    fn refused_for(&mut self) -> Duration {
        let (answer, transition) = self.machine.admit(self.now);
        assert_eq!(transition, None);
        answer.expect_err("refused").retry_after
    }

    fn settle(&mut self, ticket: Ticket, outcome: Outcome) -> Option<Transition> {
        self.settle_in(FAST, ticket, outcome)
    }

    fn settle_in(&mut self, took: Duration, ticket: Ticket, how: Outcome) -> Option<Transition> {
        let machine = &mut self.machine;
        let transition = machine.settle(ticket, how, took, self.now, NO_JITTER);
        machine.check_invariants(self.now);
        transition
    }

    fn call(&mut self, outcome: Outcome) -> Option<Transition> {
        self.call_in(FAST, outcome)
    }

    fn call_in(&mut self, took: Duration, outcome: Outcome) -> Option<Transition> {
        let ticket = self.ticket();
        self.settle_in(took, ticket, outcome)
    }

    fn calls(&mut self, count: u32, outcome: Outcome) {
        for _ in 0..count {
            assert_eq!(self.call(outcome), None);
        }
    }

    fn trip(&mut self) -> Transition {
        let trip = (0..100).find_map(|_| self.call(Failure));
        trip.expect("a hundred failures left it closed")
    }

    fn state(&self) -> State {
        self.machine.state(self.now)
    }

    fn counts(&self) -> (u32, u32, u32) {
        self.machine.counts(self.now)
    }
}

#[test]
fn closed_admit_gives_a_ticket() {
    let mut bench = Bench::new(Settings::default());
    let (ticket, transition) = bench.admit();
    assert!(ticket.is_some());
    assert_eq!(transition, None);
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn closed_outcomes_below_every_limit_are_counted() {
    let mut bench = Bench::new(Settings::default());
    bench.calls(11, Success);
    bench.calls(9, Failure);
    assert_eq!(bench.counts(), (20, 9, 0));
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn closed_failure_rate_opens() {
    let mut bench = Bench::new(Settings::default());
    bench.calls(10, Success);
    bench.calls(9, Failure);
    let transition = bench.call(Failure);
    let expected = (State::Closed, State::Open, Cause::FailureRate, 10, 20);
    assert_eq!(told(transition), expected);
    assert_eq!(transition.and_then(|t| t.open_for), Some(secs(5)));
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn closed_failure_rate_waits_for_min_calls() {
    let mut bench = Bench::new(Settings::default());
    bench.calls(19, Failure);
    assert_eq!(bench.state(), State::Closed);
    // The call that completes the number trips it, although it is a good one.
    let expected = (State::Closed, State::Open, Cause::FailureRate, 19, 20);
    assert_eq!(told(bench.call(Success)), expected);
}

#[test]
fn closed_failures_leave_the_window() {
    let mut bench = Bench::new(Settings::default());
    bench.calls(19, Failure);
    bench.pass(millis(10_001)).calls(19, Failure);
    assert_eq!(bench.counts(), (19, 19, 0));
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn closed_slow_rate_opens_though_all_succeed() {
    let mut bench = Bench::new(with(|s| s.slow = Some(SLOWNESS)));
    bench.calls(4, Success);
    for _ in 0..15 {
        assert_eq!(bench.call_in(SLOW, Success), None);
    }
    let expected = (State::Closed, State::Open, Cause::SlowRate, 16, 20);
    assert_eq!(told(bench.call_in(SLOW, Success)), expected);
}

#[test]
fn closed_slow_rate_waits_for_min_calls() {
    let mut bench = Bench::new(with(|s| s.slow = Some(SLOWNESS)));
    for _ in 0..19 {
        assert_eq!(bench.call_in(SLOW, Success), None);
    }
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn closed_a_call_that_takes_exactly_the_limit_is_not_slow() {
    let mut bench = Bench::new(with(|s| s.slow = Some(SLOWNESS)));
    for _ in 0..40 {
        assert_eq!(bench.call_in(LIMIT, Success), None);
    }
    assert_eq!(bench.counts(), (40, 0, 0));
}

#[test]
fn closed_consecutive_failures_open() {
    let mut bench = Bench::new(with(|s| s.consecutive = Some(3)));
    bench.calls(2, Failure);
    bench.calls(1, Success);
    bench.calls(2, Failure);
    bench.calls(1, Abandoned);
    let expected = (State::Closed, State::Open, Cause::Consecutive, 3, 3);
    assert_eq!(told(bench.call(Failure)), expected);
}

#[test]
fn closed_consecutive_failures_need_no_window() {
    let mut bench = Bench::new(with(|s| s.consecutive = Some(3)));
    bench.calls(1, Failure);
    bench.pass(secs(3600)).calls(1, Failure);
    let transition = bench.pass(secs(3600)).call(Failure);
    assert_eq!(told(transition).2, Cause::Consecutive);
}

#[test]
fn closed_nothing_opens_when_every_limit_is_off() {
    let mut bench = Bench::new(with(|s| s.failures = None));
    bench.calls(1000, Failure);
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn closed_limits_of_zero_do_not_open_on_a_good_call() {
    let zero = |s: &mut Settings| (s.failures, s.consecutive) = (Some(0.0), Some(0));
    let mut bench = Bench::new(with(zero));
    bench.calls(100, Success);
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn closed_abandoned_is_not_counted() {
    let mut bench = Bench::new(Settings::default());
    bench.calls(19, Failure);
    bench.calls(50, Abandoned);
    assert_eq!(bench.counts(), (19, 19, 0));
    assert!(bench.call(Failure).is_some());
}

#[test]
fn open_admit_is_refused_with_the_time_left() {
    let mut bench = Bench::new(Settings::default());
    bench.trip();
    assert_eq!(bench.refused_for(), secs(5));
    assert_eq!(bench.pass(millis(4999)).refused_for(), millis(1));
    assert_eq!(bench.machine.open_left(bench.now), Some(millis(1)));
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn open_admit_after_the_open_time_is_the_first_probe() {
    let mut bench = Bench::new(Settings::default());
    bench.trip();
    bench.pass(secs(5));
    assert_eq!(bench.state(), State::HalfOpen, "as a call would find it");
    let (ticket, transition) = bench.admit();
    assert!(ticket.is_some());
    let expected = (State::Open, State::HalfOpen, Cause::OpenElapsed, 0, 0);
    assert_eq!(told(transition), expected);
    assert_eq!(transition.and_then(|t| t.open_for), None);
}

#[test]
fn open_is_not_prolonged_by_a_clock_that_steps_back() {
    let mut bench = Bench::new(Settings::default());
    bench.trip();
    bench.now -= secs(3600);
    assert_eq!(bench.refused_for(), secs(5));
    assert!(bench.pass(secs(5)).admit().0.is_some());
}

#[test]
fn half_open_admits_as_many_probes_as_set() {
    let (mut bench, _first) = Bench::half_open(Settings::default());
    let _others = (bench.ticket(), bench.ticket());
    assert_eq!(bench.refused_for(), secs(5), "until the leases end");
    assert_eq!(bench.state(), State::HalfOpen);
}

#[test]
fn half_open_passed_probes_are_not_admitted_again() {
    let (mut bench, first) = Bench::half_open(Settings::default());
    assert_eq!(bench.settle(first, Success), None);
    let _others = (bench.ticket(), bench.ticket());
    assert!(bench.admit().0.is_none(), "one passed, two under way");
}

#[test]
fn half_open_refusal_lasts_until_the_first_lease_ends() {
    let (mut bench, _first) = Bench::half_open(Settings::default());
    let _second = bench.pass(secs(2)).ticket();
    let _third = bench.ticket();
    assert_eq!(bench.pass(secs(1)).refused_for(), secs(2));
}

#[test]
fn half_open_closes_when_all_probes_passed() {
    let (mut bench, first) = Bench::half_open(Settings::default());
    let (second, third) = (bench.ticket(), bench.ticket());
    assert_eq!(bench.settle(first, Success), None);
    assert_eq!(bench.settle(second, Success), None);
    let expected = (State::HalfOpen, State::Closed, Cause::ProbesPassed, 0, 3);
    assert_eq!(told(bench.settle(third, Success)), expected);
    assert_eq!(bench.counts(), (0, 0, 0), "the window starts afresh");
}

#[test]
fn half_open_slow_probes_open_again() {
    let (mut bench, first) = Bench::half_open(with(|s| s.slow = Some(SLOWNESS)));
    assert_eq!(bench.settle_in(SLOW, first, Success), None);
    assert_eq!(bench.call_in(SLOW, Success), None);
    let transition = bench.call_in(SLOW, Success);
    let expected = (State::HalfOpen, State::Open, Cause::SlowRate, 3, 3);
    assert_eq!(told(transition), expected);
    assert_eq!(transition.and_then(|t| t.open_for), Some(secs(10)));
}

#[test]
fn half_open_one_slow_probe_of_three_closes() {
    let (mut bench, first) = Bench::half_open(with(|s| s.slow = Some(SLOWNESS)));
    bench.settle_in(SLOW, first, Success);
    bench.calls(1, Success);
    assert_eq!(told(bench.call(Success)).1, State::Closed);
}

#[test]
fn half_open_failure_opens_for_twice_as_long() {
    let (mut bench, first) = Bench::half_open(Settings::default());
    let _second = bench.ticket();
    let transition = bench.settle(first, Failure);
    let expected = (State::HalfOpen, State::Open, Cause::ProbeFailed, 1, 1);
    assert_eq!(told(transition), expected);
    assert_eq!(transition.and_then(|t| t.open_for), Some(secs(10)));
    assert_eq!(bench.pass(millis(9999)).refused_for(), millis(1));
}

#[test]
fn half_open_failure_after_passes_tells_how_many_were_judged() {
    let (mut bench, first) = Bench::half_open(Settings::default());
    let second = bench.ticket();
    bench.settle(first, Success);
    let expected = (State::HalfOpen, State::Open, Cause::ProbeFailed, 1, 2);
    assert_eq!(told(bench.settle(second, Failure)), expected);
}

#[test]
fn half_open_abandoned_frees_the_probe_and_judges_nothing() {
    let (mut bench, first) = Bench::half_open(Settings::default());
    let _others = (bench.ticket(), bench.ticket());
    assert!(bench.admit().0.is_none());
    assert_eq!(bench.settle(first, Abandoned), None);
    assert_eq!(bench.state(), State::HalfOpen);
    assert!(bench.admit().0.is_some(), "its place is free");
    assert!(bench.admit().0.is_none(), "but only one");
}

#[test]
fn half_open_a_lost_probe_is_free_when_its_lease_ends() {
    let (mut bench, first) = Bench::half_open(Settings::default());
    let _others = (bench.ticket(), bench.ticket());
    drop(first);
    assert!(bench.pass(millis(4999)).admit().0.is_none());
    assert!(bench.pass(millis(1)).admit().0.is_some());
}

#[test]
fn half_open_all_probes_lost_cannot_wedge_it() {
    let (mut bench, first) = Bench::half_open(Settings::default());
    drop((first, bench.ticket(), bench.ticket()));
    bench.pass(secs(5)).calls(2, Success);
    assert_eq!(told(bench.call(Success)).1, State::Closed);
}

#[test]
fn half_open_an_outcome_after_its_lease_still_counts() {
    let (mut bench, first) = Bench::half_open(with(|s| s.probes = 1));
    let second = bench.pass(secs(6)).ticket();
    let transition = bench.settle(first, Success);
    assert_eq!(told(transition).1, State::Closed, "slow, but it came");
    assert_eq!(bench.settle(second, Failure), None, "of an earlier era now");
}

#[test]
fn any_straggler_of_an_earlier_era_is_dropped() {
    let mut bench = Bench::new(Settings::default());
    let (early, late) = (bench.ticket(), bench.ticket());
    bench.trip();
    assert_eq!(bench.settle(early, Success), None);
    let probe = bench.pass(secs(5)).ticket();
    assert_eq!(bench.settle(late, Failure), None, "not the probe's");
    assert_eq!(bench.state(), State::HalfOpen);
    bench.settle(probe, Success);
    bench.calls(1, Success);
    assert_eq!(told(bench.call(Success)).1, State::Closed);
}

#[test]
fn any_straggling_probe_of_an_earlier_half_open_is_dropped() {
    let (mut bench, first) = Bench::half_open(Settings::default());
    let straggler = bench.ticket();
    bench.settle(first, Failure);
    let _probe = bench.pass(secs(10)).ticket();
    assert_eq!(bench.settle(straggler, Failure), None);
    assert_eq!(bench.state(), State::HalfOpen);
}

#[test]
fn open_time_doubles_up_to_its_end_and_starts_afresh_after_closing() {
    let mut bench = Bench::new(Settings::default());
    let mut open_for = bench.trip().open_for;
    for expected in [5, 10, 20, 40, 60, 60, 60] {
        assert_eq!(open_for, Some(secs(expected)));
        open_for = bench
            .pass(secs(expected))
            .call(Failure)
            .and_then(|t| t.open_for);
    }
    bench.pass(secs(60)).calls(2, Success);
    assert_eq!(told(bench.call(Success)).1, State::Closed);
    assert_eq!(bench.trip().open_for, Some(secs(5)));
}

#[test]
fn open_time_varies_by_half_either_way() {
    let settings = Settings::default();
    let at = |before, draw| open_time(&settings, before, draw);
    assert_eq!(at(0, 0.0), millis(2500));
    assert_eq!(at(0, 0.5), millis(5000));
    assert!(at(0, 0.999_999) > millis(7499));
    assert_eq!(at(30, 0.0), secs(30));
    assert_eq!(at(u32::MAX, 1.0), secs(90));
    assert_eq!(at(0, f64::NAN), millis(5000));
}

#[test]
fn lease_lasts_the_open_time_within_bounds() {
    let lease = |open| Machine::new(with(|s| s.open = open)).lease();
    assert_eq!(lease(millis(10)), LEASE_MIN);
    assert_eq!(lease(secs(5)), secs(5));
    assert_eq!(lease(secs(600)), LEASE_MAX);
}
