//! A second copy of a slow call: where it goes, who wins, what becomes of the loser, and when there is none.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use crate::support::call::Call;
use crate::support::call::HOST;
use crate::support::h2client::H2;
use crate::support::h2origin::H2Origin;
use crate::support::h2origin::RawAct;
use crate::support::names::label;
use crate::support::names::log;
use crate::support::origin::Act;
use crate::support::origin::Answer;
use crate::support::origin::Gate;
use crate::support::origin::Origin;
use crate::support::origin::pattern;
use crate::support::proxy::Proxy;
use crate::support::setup::Setup;
use crate::support::until;

fn ok(body: &str) -> Act {
    Act::Answer(Answer::ok(body))
}

/// Two endpoints that act in this order, whichever is asked; the last act for ever.
struct Pair {
    origins: [Origin; 2],
}

impl Pair {
    async fn acting(acts: Vec<Act>) -> Self {
        let next = Arc::new(AtomicUsize::new(0));
        let acts = Arc::new(acts);
        let one = || {
            let (next, acts) = (Arc::clone(&next), Arc::clone(&acts));
            Origin::start(move |_| {
                let at = next.fetch_add(1, Ordering::SeqCst);
                acts[at.min(acts.len() - 1)].clone()
            })
        };
        Self {
            origins: [one().await, one().await],
        }
    }

    fn setup(&self, hedge: &str) -> Setup {
        let endpoints = self.origins.each_ref().map(|origin| origin.addr);
        let settings = format!("breaker: off\neject: off\ntimeout: 10s\n{hedge}");
        Setup::shop(&endpoints, &settings)
    }

    async fn start(&self, hedge: &str) -> Proxy {
        self.setup(hedge).start().await
    }

    fn requests(&self) -> usize {
        self.origins.iter().map(Origin::requests).sum()
    }

    fn open(&self) -> usize {
        self.origins.iter().map(Origin::open).sum()
    }

    async fn until_requests(&self, count: usize) {
        until("the origins have the requests", || async {
            (self.requests() == count).then_some(())
        })
        .await;
    }
}

/// Whatever the budget: the second copy after 20ms.
const AT_ONCE: &str = "hedge: { after: 20ms, budget: 100% }";

async fn hedges(proxy: &Proxy, result: &str) -> f64 {
    let labels = [(label::UPSTREAM, HOST), ("result", result)];
    proxy.sum("outrider_hedges_total", &labels).await
}

async fn skipped(proxy: &Proxy, why: &str) -> f64 {
    let labels = [(label::UPSTREAM, HOST), ("why", why)];
    proxy.sum("outrider_hedges_skipped_total", &labels).await
}

#[tokio::test]
async fn a_slow_call_is_answered_by_the_other_endpoint_and_the_loser_is_cut() {
    let pair = Pair::acting(vec![Act::Silence, ok("second")]).await;
    let proxy = pair.start(AT_ONCE).await;
    assert_eq!(proxy.get("/slow").await.is(200).text(), "second");
    assert_eq!(pair.origins.each_ref().map(Origin::requests), [1, 1]);
    until(
        "the loser's connection is closed, the winner's kept",
        || async { (pair.open() == 1).then_some(()) },
    )
    .await;
    let line = proxy.logged_path("/slow").await;
    assert_eq!(
        (line[log::HEDGED].as_str(), line[log::TRIES].as_u64()),
        (Some("won"), Some(2)),
        "{line}"
    );
    let slow = pair.origins.iter().find(|origin| origin.open() == 0);
    let slow = slow.expect("one was cut").addr.to_string();
    assert_ne!(line[log::ENDPOINT], slow, "the winner's endpoint");
    assert_eq!(hedges(&proxy, "won").await, 1.0);
    let tries = proxy.sum("outrider_tries_total", &[(label::UPSTREAM, HOST)]);
    assert_eq!(tries.await, 2.0);
    let spans: Vec<_> = pair.origins.iter().map(Origin::only).collect();
    let [trace, other] = [0, 1].map(|at: usize| spans[at].head.get("traceparent"));
    assert_ne!(trace, other, "each copy is a span of its own");
    let id = |at: usize| spans[at].head.get("x-request-id");
    assert!(id(0).is_some() && id(0) == id(1));
}

#[tokio::test]
async fn the_first_copy_may_still_win() {
    let gate = Gate::new();
    let first = Act::Hold(gate.clone(), Box::new(ok("first")));
    let pair = Pair::acting(vec![first, Act::Silence]).await;
    let proxy = pair.start(AT_ONCE).await;
    let call = Call::get("/slow");
    let (reply, ()) = tokio::join!(proxy.call(&call), async {
        pair.until_requests(2).await;
        gate.open();
    });
    assert_eq!(reply.is(200).text(), "first");
    assert_eq!(proxy.logged_path("/slow").await[log::HEDGED], "lost");
    assert_eq!(hedges(&proxy, "lost").await, 1.0);
    until("the loser is cut", || async {
        (pair.open() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_copy_that_fails_waits_for_the_other() {
    for (failing, good) in [(0, 1), (1, 0)] {
        let gates = [Gate::new(), Gate::new()];
        let mut acts = vec![ok("good"), ok("good")];
        acts[failing] = Act::Answer(Answer::status(503));
        let held = acts.into_iter().zip(&gates);
        let held = held.map(|(act, gate)| Act::Hold(gate.clone(), Box::new(act)));
        let pair = Pair::acting(held.collect()).await;
        let proxy = pair.start(&format!("retry: off\n{AT_ONCE}")).await;
        let call = Call::get("/slow");
        let (reply, ()) = tokio::join!(proxy.call(&call), async {
            pair.until_requests(2).await;
            gates[failing].open();
            // The failure is with the proxy by the time that a whole call has passed it.
            proxy.page("/live").await;
            gates[good].open();
        });
        assert_eq!(reply.is(200).text(), "good");
    }
}

#[tokio::test]
async fn when_both_copies_fail_the_upstreams_answer_stands() {
    let gate = Gate::new();
    let failing = Act::Answer(Answer::status(503).text("down"));
    let held = Act::Hold(gate.clone(), Box::new(failing));
    let pair = Pair::acting(vec![held]).await;
    let proxy = pair.start(&format!("retry: off\n{AT_ONCE}")).await;
    let call = Call::get("/down");
    let (reply, ()) = tokio::join!(proxy.call(&call), async {
        pair.until_requests(2).await;
        gate.open();
    });
    assert_eq!(reply.is(503).text(), "down");
    assert_eq!(proxy.logged_path("/down").await[log::HEDGED], "failed");
    assert_eq!(hedges(&proxy, "failed").await, 1.0);
}

#[tokio::test]
async fn over_http2_the_loser_is_reset_and_its_connection_serves_on() {
    let turn = Arc::new(AtomicUsize::new(0));
    let one = || {
        let turn = Arc::clone(&turn);
        H2Origin::raw(move |_, _| match turn.fetch_add(1, Ordering::SeqCst) {
            0 => RawAct::Silence,
            _ => RawAct::Ok,
        })
    };
    let origins = [one().await, one().await];
    let endpoints = origins.each_ref().map(|origin| origin.addr);
    let settings = format!("breaker: off\neject: off\n{AT_ONCE}");
    let setup = Setup::shop(&endpoints, &settings).args(&["--workers", "1"]);
    let proxy = setup.start().await;
    let client = H2::connect(proxy.outbound).await;
    assert_eq!(client.get("/slow").await.status, 200);
    let resets = || origins.iter().map(H2Origin::resets).sum::<usize>();
    until("RST_STREAM reaches the slow one", || async {
        (resets() == 1).then_some(())
    })
    .await;
    for _ in 0..20 {
        assert_eq!(client.get("/next").await.status, 200);
    }
    assert_eq!(origins.each_ref().map(H2Origin::connections), [1, 1]);
    assert_eq!(hedges(&proxy, "won").await, 1.0);
}

#[tokio::test]
async fn a_client_that_leaves_cuts_both_copies() {
    let pair = Pair::acting(vec![Act::Silence]).await;
    let proxy = pair.start(AT_ONCE).await;
    let mut raw = proxy.connect().await;
    raw.send(&Call::get("/slow").bytes()).await;
    pair.until_requests(2).await;
    drop(raw);
    until("both are cut", || async {
        (pair.open() == 0).then_some(())
    })
    .await;
    let line = proxy.logged_path("/slow").await;
    assert_eq!(
        (line[log::HEDGED].as_str(), line[log::REASON].as_str()),
        (Some("abandoned"), Some("client_closed")),
        "{line}"
    );
    assert_eq!(line[log::TRIES].as_u64(), Some(2));
    assert_eq!(hedges(&proxy, "abandoned").await, 1.0);
    let pending = proxy.sum("outrider_requests_in_flight", &[(label::UPSTREAM, HOST)]);
    assert_eq!(pending.await, 0.0);
}

/// An answer that takes longer than the 10ms of the policies below.
fn slowly() -> Act {
    Act::Drip(Answer::ok("slow"), 10)
}

#[tokio::test]
async fn the_budget_bounds_what_copies_add() {
    const CALLS: usize = 60;
    let pair = Pair::acting(vec![slowly()]).await;
    let proxy = pair.start("hedge: { after: 10ms, budget: 10% }").await;
    for reply in proxy.at_once(CALLS, &Call::get("/slow")).await {
        reply.is(200);
    }
    let copies = pair.requests() - CALLS;
    assert!((1..=CALLS / 10).contains(&copies), "{copies} copies");
    assert!(skipped(&proxy, "budget").await > 0.0);
    let left = proxy.sum("outrider_hedge_budget_left", &[(label::UPSTREAM, HOST)]);
    assert!((0.0..1.0).contains(&left.await), "all of it is used up");
}

#[tokio::test]
async fn an_unsafe_call_is_never_sent_twice_without_a_key() {
    let pair = Pair::acting(vec![slowly()]).await;
    let proxy = pair.start("hedge: { after: 10ms, budget: 100% }").await;
    for (n, method) in ["POST", "PATCH", "PUT", "DELETE"].into_iter().enumerate() {
        proxy.call(&Call::new(method, "/").body("x")).await.is(200);
        assert_eq!(pair.requests(), n + 1, "{method}");
    }
}

#[tokio::test]
async fn with_a_key_both_copies_carry_it_and_the_whole_body() {
    let pair = Pair::acting(vec![Act::Silence, ok("paid")]).await;
    let proxy = pair.start(&format!("idempotency: {{}}\n{AT_ONCE}")).await;
    let body = pattern(50_000);
    let reply = proxy.call(&Call::post("/pay", body.clone())).await;
    assert_eq!(reply.is(200).text(), "paid");
    let seen = pair.origins.each_ref().map(Origin::only);
    assert!(seen.iter().all(|seen| seen.body.content == body));
    let [key, other] = seen.each_ref().map(|seen| seen.head.get("idempotency-key"));
    assert!(key.is_some() && key == other, "{key:?} {other:?}");
}

#[tokio::test]
async fn a_body_that_is_not_kept_is_sent_once() {
    let pair = Pair::acting(vec![slowly()]).await;
    let settings = "retry: { max: 1, replay: 1KiB }\nidempotency: {}";
    let proxy = pair
        .start(&format!(
            "{settings}\nhedge: {{ after: 10ms, budget: 100% }}"
        ))
        .await;
    proxy.call(&Call::post("/pay", pattern(5000))).await.is(200);
    assert_eq!(pair.requests(), 1);
    assert_eq!(skipped(&proxy, "body_too_large").await, 1.0);
}

#[tokio::test]
async fn a_request_that_is_still_being_sent_is_not_slow() {
    let pair = Pair::acting(vec![ok("paid")]).await;
    let settings = "idempotency: {}\nhedge: { after: 1ms, budget: 100% }";
    let proxy = pair.start(settings).await;
    let mut raw = proxy.connect().await;
    let call = Call::post("/pay", pattern(2000)).bytes();
    let (most, last) = call.split_at(call.len() - 1);
    raw.send(most).await;
    pair.until_requests(1).await;
    // Other calls pass in the meantime, so the time is long over.
    for _ in 0..20 {
        proxy.call(&Call::new("PUT", "/").body("x")).await.is(200);
    }
    assert_eq!(pair.requests(), 21, "the POST is at one endpoint only");
    raw.send(last).await;
    raw.reply("POST").await.is(200);
}

#[tokio::test]
async fn with_one_endpoint_nothing_is_sent_twice() {
    let origin = Origin::start(|_| slowly()).await;
    let settings = "breaker: off\neject: off\nhedge: { after: 10ms, budget: 100% }";
    let proxy = Setup::shop(&[origin.addr], settings).start().await;
    proxy.get("/slow").await.is(200);
    assert_eq!(origin.requests(), 1);
    assert_eq!(skipped(&proxy, "no_other_endpoint").await, 1.0);
}

#[tokio::test]
async fn shadow_counts_and_sends_nothing() {
    let pair = Pair::acting(vec![slowly()]).await;
    let proxy = pair
        .start("hedge: { after: 10ms, budget: 100%, mode: shadow }")
        .await;
    proxy.get("/slow").await.is(200);
    assert_eq!(pair.requests(), 1);
    assert_eq!(hedges(&proxy, "would").await, 1.0);
    assert_eq!(proxy.logged_path("/slow").await[log::HEDGED], "would");
}

#[tokio::test]
async fn a_copy_is_retried_like_the_call() {
    let down = Act::Answer(Answer::status(503));
    let pair = Pair::acting(vec![Act::Silence, down, ok("third")]).await;
    let retry = "retry: { max: 1, backoff: { base: 1ms, max: 1ms, jitter: none } }";
    let proxy = pair.start(&format!("{retry}\n{AT_ONCE}")).await;
    assert_eq!(proxy.get("/slow").await.is(200).text(), "third");
    let line = proxy.logged_path("/slow").await;
    assert_eq!(
        (line[log::HEDGED].as_str(), line[log::TRIES].as_u64()),
        (Some("won"), Some(3)),
        "{line}"
    );
}

#[tokio::test]
async fn the_routes_own_percentile_says_when_and_a_reload_keeps_it() {
    let slow = Arc::new(AtomicUsize::new(0));
    let one = || {
        let slow = Arc::clone(&slow);
        Origin::start(move |asked| match asked.target {
            "/slow" if slow.fetch_add(1, Ordering::SeqCst) == 0 => Act::Silence,
            _ => ok("x"),
        })
    };
    let pair = Pair {
        origins: [one().await, one().await],
    };
    let hedge = "hedge: { after: p95, budget: { share: 100%, floor: 10/s } }";
    let proxy = pair.start(hedge).await;
    assert_eq!(skipped(&proxy, "warming").await, 0.0);
    let delay = [(label::UPSTREAM, HOST), (label::ROUTE, "*")];
    for reply in proxy.at_once(60, &Call::get("/fast")).await {
        reply.is(200);
    }
    until("the percentile is known", || async {
        proxy.get("/fast").await.is(200);
        let delay = proxy.sum("outrider_hedge_delay_seconds", &delay).await;
        (delay > 0.0).then_some(())
    })
    .await;
    assert!(skipped(&proxy, "warming").await >= 50.0);
    let text = proxy.setup.text();
    let changed = text.replace("timeout: 10s", "timeout: 9s");
    assert_ne!(text, changed);
    proxy.reload(&changed).await;
    assert_eq!(proxy.get("/slow").await.is(200).text(), "x");
    assert_eq!(proxy.logged_path("/slow").await[log::HEDGED], "won");
    let page = proxy.page("/upstreams").await.text();
    let page: serde_json::Value = serde_json::from_str(&page).expect("JSON");
    let hedge = page.to_string();
    assert!(
        hedge.contains("after_ms") && hedge.contains("samples"),
        "{page}"
    );
}
