//! Three services, each behind an outrider of its own, and a leaf that is dead.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use http::HeaderMap;
use http::Response;
use outrider::http::Fault;
use outrider::http::Reason;
use outrider::http::ResponseBody;
use outrider::http::hops;
use outrider::http::hops::Terms;
use outrider::kit::mode::Mode;
use outrider::policy::breaker;
use outrider::policy::retry;

use super::Door;
use super::Rooms;
use super::answer;
use super::call;
use super::offer;
use super::simulate;
use super::takes;

/// Enough that the floor of a budget, 10 retries a second, is little beside it.
const RATE: u32 = 400;
const MINUTE: Duration = Duration::from_secs(60);

/// An application that calls the next service and answers what came of it. One that `copies` hands on what hops tell each
/// other, as it does with trace context.
fn application(outbound: Door, copies: bool) -> Door {
    Door::of(move |from| {
        let outbound = outbound.clone();
        async move {
            takes(Duration::from_millis(1), &from.trail).await;
            let mut headers = HeaderMap::new();
            let attempt = from.head.headers.get(&hops::RETRY_ATTEMPT);
            if let Some(attempt) = attempt.filter(|_| copies) {
                headers.insert(&hops::RETRY_ATTEMPT, attempt.clone());
            }
            let outcome = outbound.send(call(headers)).await;
            let mut response = outcome.unwrap_or_else(|fault| answer_of(&fault));
            if !copies {
                response.headers_mut().remove(&hops::NO_RETRY);
            }
            takes(Duration::ZERO, &from.trail).await;
            Ok(response)
        }
    })
}

/// What an outrider makes of a fault on its way out.
fn answer_of(fault: &Fault) -> Response<ResponseBody> {
    let mut response = outrider::http::answer(fault, None, false);
    let own = fault.reason.forbids_retry().then(|| fault.reason.word());
    if let Some(why) = fault.no_retry.or(own) {
        hops::forbid_retry(response.headers_mut(), why, false);
    }
    response
}

/// How many calls reach a dead leaf for each one offered to the first of three outriders.
fn load_on_a_dead_leaf(rooms: fn() -> Rooms, copies: bool, time: Duration) -> Vec<f64> {
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
        let second = rooms().before(application(last, copies));
        let first = rooms().before(application(second, copies));
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

/// What hops tell each other, obeyed.
fn told() -> Terms {
    Terms {
        trusted: true,
        deadline: Some(Mode::Enforce),
        retry: Some(Mode::Enforce),
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
        false,
        Duration::from_secs(1),
    );
    let budgets = load_on_a_dead_leaf(
        || Rooms {
            retry: Some(retries()),
            ..Rooms::default()
        },
        false,
        MINUTE,
    );
    let built_in = load_on_a_dead_leaf(
        || Rooms {
            retry: Some(retries()),
            breaker: Some(Rooms::breaker(breaker::Settings::default())),
            ..Rooms::default()
        },
        false,
        MINUTE,
    );
    let told = load_on_a_dead_leaf(
        || Rooms {
            retry: Some(retries()),
            hops: told(),
            ..Rooms::default()
        },
        true,
        MINUTE,
    );
    println!(
        "sim chain: 3 hops, dead leaf, load on it per call offered: naive {naive:.2?}, budgets alone {budgets:.2?}, budgets and hops that tell each other {told:.3?}, budgets and breakers {built_in:.3?}"
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
    for load in told.into_iter().chain(built_in) {
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
