//! Three services, each behind an outrider of its own, and a leaf that is dead.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use http::HeaderMap;
use outrider::http::Reason;
use outrider::policy::breaker;
use outrider::policy::retry;

use super::Door;
use super::Rooms;
use super::answer;
use super::call;
use super::offer;
use super::simulate;
use super::takes;

const RATE: u32 = 200;
const MINUTE: Duration = Duration::from_secs(60);

/// An application that calls the next service and answers what came of it.
fn application(outbound: Door) -> Door {
    Door::of(move |from| {
        let outbound = outbound.clone();
        async move {
            takes(Duration::from_millis(1), &from.trail).await;
            let outcome = outbound.send(call(HeaderMap::new())).await;
            let response =
                outcome.unwrap_or_else(|fault| outrider::http::answer(&fault, None, false));
            takes(Duration::ZERO, &from.trail).await;
            Ok(response)
        }
    })
}

/// How many calls reach a dead leaf for each one offered to the first of three outriders.
fn load_on_a_dead_leaf(rooms: fn() -> Rooms, time: Duration) -> Vec<f64> {
    simulate(move |_| async move {
        let seen = Rc::new(Cell::new(0u32));
        let counted = Rc::clone(&seen);
        let leaf = Door::of(move |call| {
            counted.set(counted.get() + 1);
            async move {
                takes(Duration::from_millis(1), &call.trail).await;
                Ok(answer(503))
            }
        });
        let last = rooms().before(leaf);
        let second = rooms().before(application(last));
        let first = rooms().before(application(second));
        let offered = offer(&first, RATE, time, |outcome, _| {
            let failed = outcome.map_or(true, |response| response.status().is_server_error());
            assert!(failed, "a dead leaf answers nobody");
        })
        .await;
        f64::from(seen.get()) / f64::from(offered)
    })
}

fn retries() -> retry::Settings {
    retry::Settings {
        max: 3,
        ..retry::Settings::default()
    }
}

/// Budgets that never say no, as those who have none.
fn without_budget() -> retry::Settings {
    let mut settings = retries();
    settings.budget.share = 1.0;
    settings.budget.floor_per_s = 1e6;
    settings
}

#[test]
fn a_chain_with_a_dead_leaf_does_not_multiply_calls() {
    let naive = load_on_a_dead_leaf(
        || Rooms {
            retry: Some(without_budget()),
            ..Rooms::default()
        },
        Duration::from_secs(1),
    );
    let budgets = load_on_a_dead_leaf(
        || Rooms {
            retry: Some(retries()),
            ..Rooms::default()
        },
        MINUTE,
    );
    let built_in = load_on_a_dead_leaf(
        || Rooms {
            retry: Some(retries()),
            breaker: Some(Rooms::breaker(breaker::Settings::default())),
            ..Rooms::default()
        },
        MINUTE,
    );
    println!(
        "sim chain: 3 hops, dead leaf, load on it per call offered: naive {naive:.2?}, budgets alone {budgets:.2?}, budgets and breakers {built_in:.3?}"
    );
    for load in naive {
        assert!((load - 64.0).abs() < 1e-9, "4 x 4 x 4, not {load}");
    }
    for load in budgets {
        // Three shares of 20 %, and what the floors add at this rate, which `check --chain` computes as 36.4/s. A window
        // covers nine tenths of its length at least, so a floor comes round that much sooner.
        let bound = 1.728 + 36.4 / 0.9 / f64::from(RATE);
        assert!(load <= bound, "{load} above {bound}");
    }
    for load in built_in {
        assert!(load <= 1.25, "{load}");
    }
}

#[test]
fn a_refusal_by_a_breaker_comes_up_as_such() {
    let reasons = simulate(|_| async {
        let leaf = Door::of(|_| async { Ok(answer(503)) });
        let rooms = Rooms {
            breaker: Some(Rooms::breaker(breaker::Settings::default())),
            ..Rooms::default()
        };
        let outrider = rooms.before(leaf);
        for _ in 0..20 {
            outrider.send(call(HeaderMap::new())).await.expect("a 503");
        }
        let refused = outrider.send(call(HeaderMap::new())).await;
        refused.err().map(|fault| fault.reason)
    });
    assert!(
        reasons
            .iter()
            .all(|reason| *reason == Some(Reason::BreakerOpen))
    );
}
