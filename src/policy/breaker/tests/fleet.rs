//! What advice does to a circuit, one test for each row of either table, and a fleet around an upstream that is down.

use super::*;
use crate::policy::breaker::machine::fleet::Advice;
use crate::policy::breaker::machine::fleet::PROBERS;
use crate::policy::breaker::machine::fleet::TURN;
use crate::policy::breaker::machine::fleet::View;
use crate::policy::breaker::machine::fleet::advice;
use crate::policy::breaker::machine::fleet::quorum;
use crate::policy::breaker::machine::fleet::suspect_calls;

const SUSPICIOUS: Advice = Advice {
    suspicious: true,
    probes_elsewhere: false,
};
const ELSEWHERE: Advice = Advice {
    suspicious: true,
    probes_elsewhere: true,
};

fn view(state: State, pods: usize, troubled: &[u64]) -> View<'_> {
    View {
        me: 1,
        circuit: 77,
        state,
        pods,
        troubled,
        time: secs(1000),
    }
}

impl Bench {
    fn advise(&mut self, advice: Advice, holds: Duration) -> &mut Self {
        self.machine.advise(advice, self.now + holds);
        self
    }

    /// So many calls that all end alike; the first move, if there is one.
    fn run_of(&mut self, count: u32, outcome: Outcome) -> Option<Transition> {
        let mut moved = None;
        for _ in 0..count {
            let Some(ticket) = self.admit().0 else { break };
            moved = moved.or(self.settle(ticket, outcome));
        }
        moved
    }
}

#[test]
fn a_quorum_is_a_quarter_of_the_others_and_never_one() {
    let of = |pods| quorum(pods);
    assert_eq!([of(0), of(1), of(2), of(3), of(9)], [2; 5]);
    assert_eq!([of(10), of(13), of(14), of(101)], [3, 3, 4, 25]);
}

#[test]
fn fewer_than_a_quorum_are_not_believed() {
    for state in [State::Closed, State::Open, State::HalfOpen] {
        assert_eq!(advice(&view(state, 9, &[])), Advice::default());
        assert_eq!(advice(&view(state, 9, &[5])), Advice::default());
        // One pod, however often it says so, and this pod itself, are no quorum.
        assert_eq!(advice(&view(state, 9, &[5, 5, 5, 1, 1])), Advice::default());
        assert_eq!(advice(&view(state, 2, &[5])), Advice::default());
    }
}

#[test]
fn a_quorum_makes_it_suspicious_and_leaves_it_as_it_is() {
    assert_eq!(advice(&view(State::Closed, 9, &[5, 6])), SUSPICIOUS);
    assert_eq!(
        advice(&view(State::HalfOpen, 9, &[2, 3, 4, 5, 6])),
        SUSPICIOUS
    );
}

#[test]
fn of_all_open_pods_two_have_their_turn_and_all_have_it_in_time() {
    let all: Vec<u64> = (0..20).map(|pod| pod * 1_000_003).collect();
    let mut had = vec![0; all.len()];
    for turn in 0..200 {
        let mut probing = 0;
        for (at, me) in all.iter().enumerate() {
            let others: Vec<u64> = all.iter().copied().filter(|pod| pod != me).collect();
            let view = View {
                me: *me,
                time: TURN * turn,
                ..view(State::Open, all.len(), &others)
            };
            let advice = advice(&view);
            assert!(advice.suspicious);
            if !advice.probes_elsewhere {
                probing += 1;
                had[at] += 1;
            }
        }
        assert_eq!(probing, PROBERS, "in turn {turn}");
    }
    assert!(had.iter().all(|turns| *turns >= 5), "{had:?}");
}

#[test]
fn closed_suspicious_opens_by_a_quarter_of_the_calls() {
    assert_eq!(suspect_calls(20), 5);
    assert_eq!(suspect_calls(100), 25);
    assert_eq!((suspect_calls(8), suspect_calls(3)), (5, 3));
    let mut bench = Bench::new(Settings::default());
    assert_eq!(
        bench.run_of(10, Failure),
        None,
        "ten of twenty are nothing yet"
    );
    let mut bench = Bench::new(Settings::default());
    bench.advise(SUSPICIOUS, secs(5));
    assert_eq!(bench.run_of(4, Failure), None);
    let moved = told(bench.run_of(1, Failure));
    assert_eq!(
        moved,
        (State::Closed, State::Open, Cause::FailureRate, 5, 5)
    );
}

#[test]
fn closed_suspicious_whose_own_calls_go_well_stays_closed() {
    let mut bench = Bench::new(Settings::default());
    for _ in 0..200 {
        bench.advise(ELSEWHERE, secs(5));
        assert_eq!(bench.run_of(3, Success), None);
        assert_eq!(
            bench.run_of(1, Failure),
            None,
            "a quarter fails, half would open"
        );
        bench.pass(secs(1));
    }
    assert_eq!(bench.machine.state(bench.now), State::Closed);
}

#[test]
fn closed_is_not_suspicious_for_longer_than_it_was_advised() {
    let mut bench = Bench::new(Settings::default());
    bench.advise(SUSPICIOUS, secs(5)).pass(secs(4));
    // An advice without a suspicion does not end it, time does.
    bench.advise(Advice::default(), secs(5));
    assert!(bench.machine.advised(bench.now).suspicious);
    bench.pass(secs(1));
    assert!(!bench.machine.advised(bench.now).suspicious);
    assert_eq!(bench.run_of(19, Failure), None);
}

#[test]
fn open_whose_time_has_passed_waits_while_others_probe() {
    let mut bench = Bench::new(Settings::default());
    bench.trip();
    bench.pass(secs(5)).advise(ELSEWHERE, secs(3));
    assert_eq!(bench.machine.state(bench.now), State::Open);
    assert_eq!(bench.refused_for(), secs(3));
    // They are done.
    bench.advise(SUSPICIOUS, secs(3));
    let (ticket, moved) = bench.admit();
    assert!(ticket.is_some());
    assert_eq!(moved.map(|t| t.to), Some(State::HalfOpen));
}

#[test]
fn open_probes_by_itself_when_nobody_advises_any_more() {
    let mut bench = Bench::new(Settings::default());
    bench.trip();
    bench.pass(secs(5)).advise(ELSEWHERE, secs(3)).pass(secs(3));
    assert_eq!(bench.machine.state(bench.now), State::HalfOpen);
    assert!(bench.admit().0.is_some());
}

#[test]
fn open_waits_for_others_no_longer_than_open_max() {
    let mut bench = Bench::new(Settings::default());
    bench.trip();
    bench.pass(secs(5));
    for _ in 0..60 {
        bench.advise(ELSEWHERE, secs(3));
        assert!(bench.admit().0.is_none());
        bench.pass(secs(1));
    }
    bench.advise(ELSEWHERE, secs(3));
    assert!(bench.admit().0.is_some());
}

/// Probes that a fleet sends to an upstream that is down for a minute, and when its last pod is closed after that, in
/// seconds; with advice each second or without.
fn outage(seed: u64, pods: usize, advised: bool) -> (u32, u64) {
    let mut draws = Draws::new(seed);
    let names: Vec<u64> = (0..pods).map(|_| draws.bits()).collect();
    let machine = || Machine::new(Settings::default());
    let mut fleet: Vec<Machine> = (0..pods).map(|_| machine()).collect();
    let (start, mut probes) = (walk::start(), 0);
    for tick in 0..3000_u64 {
        let now = start + millis(tick * 100);
        let is_down = tick < 600;
        if advised && tick % 10 == 0 {
            let states: Vec<State> = fleet.iter().map(|one| one.state(now)).collect();
            for at in 0..pods {
                let others = (0..pods).filter(|other| *other != at);
                let troubled: Vec<u64> = others
                    .filter(|other| states[*other] != State::Closed)
                    .map(|other| names[other])
                    .collect();
                let heard = advice(&View {
                    me: names[at],
                    state: states[at],
                    time: millis(tick * 100),
                    ..view(State::Closed, pods, &troubled)
                });
                fleet[at].advise(heard, now + secs(3));
            }
        }
        for one in &mut fleet {
            let (ticket, _) = one.admit(now);
            let Ok(ticket) = ticket else { continue };
            let is_probe = one.state(now) == State::HalfOpen;
            probes += u32::from(is_probe && is_down);
            let outcome = if is_down { Failure } else { Success };
            one.settle(ticket, outcome, FAST, now, draws.unit());
        }
        let all_closed = fleet.iter().all(|one| one.state(now) == State::Closed);
        if !is_down && all_closed {
            return (probes, (tick - 600) / 10);
        }
    }
    (probes, u64::MAX)
}

#[test]
fn a_fleet_sends_a_few_probes_and_not_a_few_for_each_pod() {
    let (mut with, mut without, mut late, mut late_without) = (0, 0, 0, 0);
    for seed in 0..20 {
        let (probes, after) = outage(seed, 50, true);
        with += probes;
        late = late.max(after);
        let (probes, after) = outage(seed, 50, false);
        without += probes;
        late_without = late_without.max(after);
    }
    println!(
        "50 pods, a minute's outage: {} probes with the fleet's advice, {} without; all closed {late}s after it, {late_without}s without",
        with / 20,
        without / 20
    );
    assert!(with * 4 < without, "{with} against {without}");
    assert!(
        late <= late_without.max(60),
        "{late}s against {late_without}s"
    );
}
