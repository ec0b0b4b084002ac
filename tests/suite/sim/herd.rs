//! Everybody comes back at the moment at which a breaker lets somebody try.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use http::HeaderMap;
use outrider::clock;
use outrider::policy::breaker;
use outrider::policy::breaker::machine::State;
use outrider::policy::retry;
use tokio::task::JoinSet;

use super::Door;
use super::Rooms;
use super::answer;
use super::call;
use super::simulate;
use super::takes;

const CALLERS: usize = 10_000;
const PROBES: u32 = 3;

/// What a herd met at a breaker that has just become half-open.
#[derive(Debug, PartialEq)]
struct Met {
    /// Reached the upstream while the breaker was half-open.
    passed: u32,
    /// Were refused meanwhile.
    refused: usize,
    /// After the probes.
    then: State,
    /// Of as many callers after that, those who reached the upstream.
    after: u32,
}

async fn herd(outrider: &Door) -> (usize, usize) {
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let outrider = outrider.clone();
        callers.spawn_local(async move { outrider.send(call(HeaderMap::new())).await.is_ok() });
    }
    let answered = callers.join_all().await;
    let passed = answered.iter().filter(|passed| **passed).count();
    (passed, CALLERS - passed)
}

async fn recovery(recovers: bool) -> Met {
    let (alive, seen) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0u32)));
    let (is_alive, counted) = (Rc::clone(&alive), Rc::clone(&seen));
    let upstream = Door::of(move |call| {
        counted.set(counted.get() + 1);
        let status = if is_alive.get() { 200 } else { 503 };
        async move {
            takes(Duration::from_millis(100), &call.trail).await;
            Ok(answer(status))
        }
    });
    let breaker = Rooms::breaker(breaker::Settings {
        probes: PROBES,
        ..breaker::Settings::default()
    });
    let rooms = Rooms {
        retry: Some(retry::Settings::default()),
        breaker: Some(breaker.clone()),
        ..Rooms::default()
    };
    let outrider = rooms.before(upstream);
    while breaker.state(clock::now()) != State::Open {
        drop(outrider.send(call(HeaderMap::new())).await);
    }
    while breaker.state(clock::now()) == State::Open {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    alive.set(recovers);
    seen.set(0);
    let (_, refused) = herd(&outrider).await;
    let passed = seen.replace(0);
    let then = breaker.state(clock::now());
    herd(&outrider).await;
    Met {
        passed,
        refused,
        then,
        after: seen.get(),
    }
}

#[test]
fn a_herd_at_a_half_open_breaker_gets_no_more_than_its_probes_through() {
    let back = simulate(|_| recovery(true));
    let still_dead = simulate(|_| recovery(false));
    println!(
        "sim herd: 10000 callers at a half-open breaker: upstream is back {:?}, is not {:?}",
        back[0], still_dead[0]
    );
    for met in back {
        assert_eq!(met.passed, PROBES);
        assert_eq!(met.refused, CALLERS - PROBES as usize);
        assert_eq!((met.then, met.after), (State::Closed, CALLERS as u32));
    }
    for met in still_dead {
        assert!(met.passed <= PROBES, "{met:?}");
        assert_eq!((met.then, met.after), (State::Open, 0));
    }
}
