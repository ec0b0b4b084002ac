//! Balance: who gets the calls, by hash, by load, in turns, by weight and by zone.

use std::net::SocketAddr;

use serde_json::Value;

use crate::support::call::Call;
use crate::support::call::HOST;
use crate::support::names::label;
use crate::support::origin::Act;
use crate::support::origin::Answer;
use crate::support::origin::Gate;
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::setup::Setup;
use crate::support::until;

const SPILLOVER: &str = "outrider_balance_spillover_total";
const UNKEYED: &str = "outrider_balance_unkeyed_total";
const PASSED_ON: &str = "outrider_balance_passed_on_total";
const SHADOW: &str = "outrider_shadow_balance_moved_total";

/// Neither the breaker nor ejection may change who gets the calls.
const PLAIN: &str = "breaker: off\neject: off\nretry: off";

/// Origins that answer with their number.
async fn origins(count: usize) -> Vec<Origin> {
    let mut all = Vec::new();
    for n in 0..count {
        all.push(Origin::always(Answer::ok(n.to_string())).await);
    }
    all
}

fn addresses(origins: &[Origin]) -> Vec<SocketAddr> {
    origins.iter().map(|origin| origin.addr).collect()
}

fn counts(origins: &[Origin]) -> Vec<usize> {
    origins.iter().map(Origin::requests).collect()
}

async fn shop(origins: &[Origin], settings: &str) -> Proxy {
    let settings = format!("{PLAIN}\n{settings}");
    Setup::shop(&addresses(origins), &settings).start().await
}

fn user(name: usize) -> Call {
    Call::get("/").field("x-user", &name.to_string())
}

async fn to(proxy: &Proxy, call: &Call) -> usize {
    let text = proxy.call(call).await.is(200).text();
    text.parse().expect("an origin answers with its number")
}

async fn owners(proxy: &Proxy, count: usize) -> Vec<usize> {
    let mut all = Vec::new();
    for name in 0..count {
        all.push(to(proxy, &user(name)).await);
    }
    all
}

#[tokio::test]
async fn a_key_has_an_endpoint_and_another_when_that_dies_and_the_other_keys_stay() {
    let mut origins = origins(3).await;
    let settings = "balance: { hash: header:x-user }\nretry: { max: 2, budget: 100% }\neject: { consecutive: 2, base: 60s }\nbreaker: off";
    let proxy = Setup::shop(&addresses(&origins), settings).start().await;
    let before = owners(&proxy, 30).await;
    assert_eq!(before, owners(&proxy, 30).await);
    assert!((0..3).all(|n| before.contains(&n)), "{before:?}");
    origins.remove(1);
    // Some calls meet the dead one first, and their retry goes to whom the key belongs to then.
    let after = owners(&proxy, 30).await;
    for (was, is) in before.iter().zip(&after) {
        assert!(*is != 1 && (*was == 1 || was == is), "{was} became {is}");
    }
    until("the dead one is ejected", || async {
        to(&proxy, &user(before.iter().position(|n| *n == 1)?)).await;
        (proxy.sum("outrider_ejections_total", &[]).await >= 1.0).then_some(())
    })
    .await;
    assert_eq!(after, owners(&proxy, 30).await);
    assert_eq!(proxy.sum(UNKEYED, &[(label::UPSTREAM, HOST)]).await, 0.0);
}

#[tokio::test]
async fn cookie_path_and_source_are_keys_too() {
    let origins = origins(4).await;
    let cookie = |sid: usize| Call::get("/").field("cookie", &format!("a=1; sid={sid}; b=2"));
    let path = |n: usize| Call::get(&format!("/{n}?x={n}"));
    let proxy = shop(&origins, "balance: { hash: cookie:sid }").await;
    let mut seen = std::collections::BTreeSet::new();
    for sid in 0..20 {
        let first = to(&proxy, &cookie(sid)).await;
        assert_eq!(to(&proxy, &cookie(sid)).await, first);
        seen.insert(first);
    }
    assert!(seen.len() > 1, "different cookies meet different endpoints");
    let proxy = shop(&origins, "balance: { hash: path }").await;
    for n in 0..10 {
        let first = to(&proxy, &path(n)).await;
        let other = Call::get(&format!("/{n}?y=other"));
        assert_eq!(to(&proxy, &other).await, first);
    }
    let proxy = shop(&origins, "balance: { hash: source }").await;
    let first = to(&proxy, &user(0)).await;
    for name in 1..10 {
        assert_eq!(to(&proxy, &user(name)).await, first, "one client, one key");
    }
    assert_eq!(proxy.sum(UNKEYED, &[]).await, 0.0);
}

#[tokio::test]
async fn calls_without_the_key_are_spread_and_counted() {
    let origins = origins(2).await;
    let proxy = shop(
        &origins,
        "balance: { by: round_robin, hash: header:x-user }",
    )
    .await;
    let mut raw = proxy.connect().await;
    for _ in 0..10 {
        raw.call(&Call::get("/")).await.is(200);
    }
    assert_eq!(counts(&origins), [5, 5]);
    assert_eq!(proxy.sum(UNKEYED, &[]).await, 10.0);
}

#[tokio::test]
async fn a_hot_key_does_not_overrun_its_endpoint() {
    let gate = Gate::new();
    let mut origins = Vec::new();
    for _ in 0..4 {
        let held = gate.clone();
        let answer = move || {
            let act = Act::Answer(Answer::ok("x"));
            Act::Hold(held.clone(), Box::new(act))
        };
        origins.push(Origin::start(move |_| answer()).await);
    }
    let proxy = shop(&origins, "balance: { hash: header:x-user }").await;
    let crowd = async {
        for reply in proxy.at_once(20, &user(7)).await {
            reply.is(200);
        }
    };
    let look = async {
        until("all are at an endpoint", || async {
            (counts(&origins).iter().sum::<usize>() == 20).then_some(())
        })
        .await;
        let most = counts(&origins).into_iter().max().unwrap_or_default();
        // 1.25 x 20 / 4, rounded up; and the workers do not see what others choose at the same time.
        let workers = proxy.sum("outrider_workers", &[]).await as usize;
        assert!(most < 7 + workers, "{:?}", counts(&origins));
        gate.open();
    };
    tokio::join!(crowd, look);
    assert!(proxy.sum(PASSED_ON, &[]).await > 0.0);
}

#[tokio::test]
async fn turns_are_even_on_one_connection() {
    let origins = origins(3).await;
    let proxy = shop(&origins, "balance: round_robin").await;
    let mut raw = proxy.connect().await;
    for round in 1..=5 {
        for _ in 0..3 {
            raw.call(&Call::get("/")).await.is(200);
        }
        assert_eq!(counts(&origins), [round; 3]);
    }
}

#[tokio::test]
async fn the_less_busy_gets_the_calls() {
    let gate = Gate::new();
    let mut origins = Vec::new();
    for _ in 0..2 {
        let held = gate.clone();
        let script = move |target: &str| {
            let act = Act::Answer(Answer::ok("x"));
            match target {
                "/held" => Act::Hold(held.clone(), Box::new(act)),
                _ => act,
            }
        };
        origins.push(Origin::start(move |asked| script(asked.target)).await);
    }
    let proxy = shop(&origins, "balance: least").await;
    let mut held = proxy.connect().await;
    held.send(&Call::get("/held").bytes()).await;
    let busy = until("one of them holds a call", || async {
        counts(&origins).iter().position(|count| *count == 1)
    })
    .await;
    for _ in 0..20 {
        proxy.get("/").await.is(200);
    }
    let mut expected = [20, 20];
    expected[busy] = 1;
    assert_eq!(counts(&origins), expected);
    gate.open();
    held.reply("GET").await.is(200);
}

/// To within the one turn by which turns may differ from their share at any time.
fn about(is: &[usize], expected: &[usize]) {
    let close = is.iter().zip(expected).all(|(a, b)| a.abs_diff(*b) <= 1);
    assert!(close, "{is:?}, expected {expected:?}");
}

#[tokio::test]
async fn weights_are_shares() {
    let origins = origins(3).await;
    let [a, b, c] = [0, 1, 2].map(|n: usize| origins[n].addr);
    let block = |by: &str| {
        format!(
            "upstream: {HOST}\nendpoints: [{a}, {{ address: {b}, weight: 3 }}, {c}]\nbalance: {by}\n{PLAIN}"
        )
    };
    let proxy = Setup::new().block(&block("round_robin")).start().await;
    let mut raw = proxy.connect().await;
    for _ in 0..50 {
        raw.call(&Call::get("/")).await.is(200);
    }
    about(&counts(&origins), &[10, 30, 10]);
    // Another weight by a reload, which keeps the connections.
    let opened = proxy.sum("outrider_pool_opened_total", &[]).await;
    let text = proxy.setup.text().replace("weight: 3", "weight: 8");
    proxy.reload(&text).await;
    let page = proxy.page("/upstreams").await.text();
    assert!(page.contains("\"weight\": 8"), "{page}");
    let before = counts(&origins);
    for _ in 0..50 {
        raw.call(&Call::get("/")).await.is(200);
    }
    let gained: Vec<_> = counts(&origins)
        .iter()
        .zip(&before)
        .map(|(now, then)| now - then)
        .collect();
    about(&gained, &[5, 40, 5]);
    assert_eq!(proxy.sum("outrider_pool_opened_total", &[]).await, opened);
}

fn zoned(origins: &[Origin]) -> String {
    let [a, b, c, d] = [0, 1, 2, 3].map(|n: usize| origins[n].addr);
    format!(
        "upstream: {HOST}\nendpoints: {{ zones: {{ eu-1a: [{a}, {b}], eu-1b: [{c}], eu-1c: [{d}] }} }}\n"
    )
}

#[tokio::test]
async fn the_own_zone_is_preferred_and_the_others_take_over() {
    let mut origins = origins(4).await;
    let settings = "breaker: off\nretry: { max: 3, budget: 100% }\neject: { consecutive: 1, base: 60s, max_share: 50% }";
    let proxy = Setup::new()
        .top("zone: eu-1a")
        .block(&(zoned(&origins) + settings))
        .start()
        .await;
    for _ in 0..20 {
        assert!(to(&proxy, &user(0)).await < 2);
    }
    assert_eq!(proxy.sum(SPILLOVER, &[]).await, 0.0);
    let far: Vec<_> = origins.split_off(2);
    // Both of the own zone die: a retry finds the others, and in the end nobody tries the dead.
    drop(origins);
    until("both are ejected", || async {
        assert!(to(&proxy, &user(0)).await >= 2);
        (proxy.sum("outrider_endpoints_ejected", &[]).await == 2.0).then_some(())
    })
    .await;
    let retries = proxy.sum("outrider_retries_total", &[]).await;
    let spilled = proxy.sum(SPILLOVER, &[(label::UPSTREAM, HOST)]).await;
    let before: usize = counts(&far).iter().sum();
    for _ in 0..20 {
        assert!(to(&proxy, &user(0)).await >= 2);
    }
    assert_eq!(counts(&far).iter().sum::<usize>(), before + 20);
    assert_eq!(proxy.sum("outrider_retries_total", &[]).await, retries);
    assert_eq!(proxy.sum(SPILLOVER, &[]).await, spilled + 20.0);
}

#[tokio::test]
async fn the_own_zone_may_come_from_outside_and_is_shown() {
    let origins = origins(4).await;
    let setup = Setup::new().block(&(zoned(&origins) + PLAIN));
    let mut proxy = Proxy::spawn(setup, crate::support::proxy::BINARY.as_ref(), |command| {
        command.env("OUTRIDER_ZONE", "eu-1c");
    });
    proxy.wait_ready().await;
    for _ in 0..10 {
        assert_eq!(to(&proxy, &user(0)).await, 3);
    }
    let page: Value =
        serde_json::from_str(&proxy.page("/upstreams").await.text()).expect("the page is JSON");
    let text = page.to_string();
    assert!(text.contains("\"zone\":\"eu-1c\""), "{text}");
    assert!(text.contains("\"by\":\"ewma\""), "{text}");
}

#[tokio::test]
async fn shadow_only_counts() {
    let origins = origins(3).await;
    let proxy = shop(&origins, "balance: { mode: shadow, hash: header:x-user }").await;
    until("it would have gone elsewhere", || async {
        proxy.at_once(6, &user(1)).await;
        (proxy.sum(SHADOW, &[]).await > 0.0).then_some(())
    })
    .await;
    let used = counts(&origins).iter().filter(|count| **count > 0).count();
    assert!(used > 1, "the key is not obeyed");
}
