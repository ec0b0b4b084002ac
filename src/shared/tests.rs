use std::time::Duration;
mod quota;
mod roll;

use std::time::Instant;

use redis::Value;

use crate::kit::walk;
use crate::shared::machine::Gate;
use crate::shared::machine::LEAST;
use crate::shared::machine::Outcome;
use crate::shared::machine::PROBES;
use crate::shared::machine::REST;
use crate::shared::machine::REST_MAX;
use crate::shared::machine::SOON;
use crate::shared::machine::STREAK;
use crate::shared::machine::Turn;
use crate::shared::machine::WORN;
use crate::shared::nodes::listed;

fn closed(now: Instant) -> Gate {
    let mut gate = Gate::new();
    let _ = gate.connected(now);
    for _ in 0..PROBES {
        let _ = gate.probed(Outcome::Answered, now);
    }
    assert!(!gate.is_open());
    gate
}

#[test]
fn it_begins_open_and_without_a_probe() {
    let gate = Gate::new();
    assert!(gate.is_open());
    assert_eq!(gate.probe_at(), None);
}

#[test]
fn connected_wants_a_probe_at_once() {
    let now = walk::start();
    let mut gate = Gate::new();
    assert_eq!(gate.connected(now), None);
    assert_eq!(gate.probe_at(), Some(now));
}

#[test]
fn a_new_connection_opens_what_was_closed() {
    let now = walk::start();
    let mut gate = closed(now);
    assert_eq!(gate.connected(now), Some(Turn::Opened));
    assert!(gate.is_open());
}

#[test]
fn answered_ends_the_streak() {
    let now = walk::start();
    let mut gate = closed(now);
    for _ in 0..10 {
        for _ in 1..STREAK {
            // More answers than failures, so that the share is not what opens it.
            let _ = gate.settle(Outcome::Answered, now);
            let _ = gate.settle(Outcome::Answered, now);
        }
        for _ in 1..STREAK {
            assert_eq!(gate.settle(Outcome::Late, now), None);
        }
        assert_eq!(gate.settle(Outcome::Answered, now), None);
    }
    assert!(!gate.is_open());
}

#[test]
fn a_streak_of_failures_opens() {
    for outcome in [Outcome::Late, Outcome::Broken] {
        let now = walk::start();
        let mut gate = closed(now);
        for _ in 1..STREAK {
            assert_eq!(gate.settle(outcome, now), None);
        }
        assert_eq!(gate.settle(outcome, now), Some(Turn::Opened));
        assert_eq!(gate.probe_at(), Some(now + REST));
    }
}

#[test]
fn half_of_enough_orders_opens_and_less_does_not() {
    let now = walk::start();
    let mut gate = closed(now);
    for at in 0..1000 {
        let outcome = if at % 3 == 0 {
            Outcome::Late
        } else {
            Outcome::Answered
        };
        assert_eq!(gate.settle(outcome, now), None, "a third is not half");
    }
    let mut gate = closed(now);
    for at in 1..LEAST {
        let outcome = if at % 2 == 0 {
            Outcome::Late
        } else {
            Outcome::Answered
        };
        assert_eq!(gate.settle(outcome, now), None, "not enough of them");
    }
    assert_eq!(gate.settle(Outcome::Late, now), Some(Turn::Opened));
}

#[test]
fn what_settles_while_open_says_nothing() {
    let now = walk::start();
    let mut gate = Gate::new();
    let _ = gate.connected(now);
    assert_eq!(gate.settle(Outcome::Answered, now), None);
    assert!(gate.is_open());
}

#[test]
fn answered_probes_close_and_all_is_forgotten() {
    let now = walk::start();
    let mut gate = closed(now);
    for _ in 0..STREAK {
        let _ = gate.settle(Outcome::Late, now);
    }
    for _ in 1..PROBES {
        assert_eq!(gate.probed(Outcome::Answered, now), None);
        assert_eq!(gate.probe_at(), Some(now + SOON));
    }
    assert_eq!(gate.probed(Outcome::Answered, now), Some(Turn::Closed));
    assert_eq!(gate.probe_at(), None);
    for _ in 1..STREAK {
        assert_eq!(gate.settle(Outcome::Late, now), None, "a fresh streak");
    }
}

#[test]
fn failed_probes_come_ever_more_seldom() {
    let now = walk::start();
    let mut gate = Gate::new();
    let _ = gate.connected(now);
    let mut last = Duration::ZERO;
    for _ in 0..20 {
        assert_eq!(gate.probed(Outcome::Late, now), None);
        let wait = gate.probe_at().expect("due") - now;
        assert!(wait >= last && wait <= REST_MAX, "{wait:?} after {last:?}");
        last = wait;
    }
    assert_eq!(last, REST_MAX);
}

#[test]
fn failures_in_a_row_wear_the_connection_out() {
    let now = walk::start();
    let mut gate = closed(now);
    for _ in 0..STREAK {
        let _ = gate.settle(Outcome::Broken, now);
    }
    for _ in STREAK..WORN {
        assert!(!gate.is_worn());
        let _ = gate.probed(Outcome::Late, now);
    }
    assert!(gate.is_worn());
    gate.not_connected();
    assert!(!gate.is_worn(), "the old one has its chance");
}

#[test]
fn walk() {
    walk::seeds(|draws| {
        let mut now = walk::start();
        let mut gate = Gate::new();
        let (mut was_open, mut in_a_row) = (true, 0);
        for _ in 0..200 {
            now += Duration::from_millis(draws.below(300));
            let outcome = draws.pick(&[Outcome::Answered, Outcome::Late, Outcome::Broken]);
            let (turn, is_order) = match draws.below(12) {
                0 => (gate.connected(now), false),
                1..5 => (gate.probed(outcome, now), false),
                _ => (gate.settle(outcome, now), true),
            };
            let open = gate.is_open();
            let told = match turn {
                Some(Turn::Opened) => !was_open && open,
                Some(Turn::Closed) => was_open && !open,
                None => was_open == open,
            };
            assert!(told, "{turn:?} from open {was_open} to {open}");
            if open {
                in_a_row = 0;
                let is_near = gate.probe_at().is_none_or(|at| at <= now + REST_MAX);
                assert!(is_near, "a probe is never far");
            } else {
                assert_eq!(gate.probe_at(), None, "closed: no probe");
                in_a_row = match (is_order, outcome) {
                    (false, _) => in_a_row,
                    (true, Outcome::Answered) => 0,
                    (true, _) => in_a_row + 1,
                };
                assert!(in_a_row < STREAK, "it should be open");
            }
            was_open = open;
        }
    });
}

fn text(text: &str) -> Value {
    Value::BulkString(text.as_bytes().to_vec())
}

fn node(host: &str, port: i64) -> Value {
    Value::Array(vec![text(host), Value::Int(port), text("id")])
}

#[test]
fn nodes_are_read_from_the_slots_each_once() {
    let range = |first, last, nodes: Vec<Value>| {
        let mut range = vec![Value::Int(first), Value::Int(last)];
        range.extend(nodes);
        Value::Array(range)
    };
    let slots = Value::Array(vec![
        range(0, 99, vec![node("10.0.0.2", 6379), node("10.0.0.4", 6379)]),
        range(100, 199, vec![node("10.0.0.1", 6379)]),
        range(200, 299, vec![node("10.0.0.2", 6379), node("", 6379)]),
        Value::Nil,
        range(300, 399, vec![Value::Array(vec![Value::Nil])]),
    ]);
    let nodes: Vec<_> = listed(&slots)
        .into_iter()
        .map(|node| (node.name.clone(), node.role()))
        .collect();
    let expected = [
        ("10.0.0.1:6379", "primary"),
        ("10.0.0.2:6379", "primary"),
        ("10.0.0.4:6379", "replica"),
    ];
    assert_eq!(nodes, expected.map(|(name, role)| (name.to_owned(), role)));
    assert!(listed(&Value::Okay).is_empty());
}
