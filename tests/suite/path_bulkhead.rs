//! The bulkhead: so many calls at an upstream and no more, over all workers, until their bodies have ended.

use crate::support::call::Call;
use crate::support::client::Raw;
use crate::support::names::label;
use crate::support::names::log;
use crate::support::origin::Act;
use crate::support::origin::After;
use crate::support::origin::Answer;
use crate::support::origin::Gate;
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::setup::Setup;
use crate::support::until;

const ALONE: &str = "retry: off\nbreaker: off\neject: off\ntimeout: 60s";
const IN_FLIGHT: &str = "outrider_bulkhead_in_flight";
const QUEUED: &str = "outrider_bulkhead_queued";
const REJECTED: &str = "outrider_bulkhead_rejected_total";

/// An origin that answers `/free` at once and everything else when the gate opens.
async fn held() -> (Origin, Gate) {
    let gate = Gate::new();
    let door = gate.clone();
    let origin = Origin::start(move |asked| match asked.target {
        "/free" => Act::Answer(Answer::ok("free")),
        _ => Act::Hold(door.clone(), Box::new(Act::Answer(Answer::ok("done")))),
    })
    .await;
    (origin, gate)
}

async fn with(origin: &Origin, bulkhead: &str) -> Proxy {
    let settings = format!("{ALONE}\nbulkhead: {bulkhead}");
    let setup = Setup::shop(&[origin.addr], &settings);
    setup.args(&["--workers", "2"]).start().await
}

/// Sends `count` calls, each on a connection of its own, and leaves them open.
async fn send(proxy: &Proxy, count: usize, target: &str) -> Vec<Raw> {
    let mut all = Vec::new();
    for _ in 0..count {
        let mut raw = proxy.connect().await;
        raw.send(&Call::get(target).bytes()).await;
        all.push(raw);
    }
    all
}

async fn stands(proxy: &Proxy, in_flight: f64, queued: f64) {
    until("in flight and queued as asked", || async {
        let metrics = proxy.metrics().await;
        let now = (metrics.sum(IN_FLIGHT, &[]), metrics.sum(QUEUED, &[]));
        (now == (in_flight, queued)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn so_many_are_in_flight_so_many_wait_and_the_rest_is_told() {
    let (origin, gate) = held().await;
    let proxy = with(&origin, "{ max: 3, queue: 2, wait: 30s }").await;
    let running = send(&proxy, 3, "/held").await;
    stands(&proxy, 3.0, 0.0).await;
    let waiting = send(&proxy, 2, "/held").await;
    stands(&proxy, 3.0, 2.0).await;
    for reply in proxy.at_once(4, &Call::get("/free")).await {
        reply.is_own(503, &["bulkhead_full"]);
        assert_eq!(reply.get("retry-after"), Some("30"));
    }
    assert_eq!(origin.requests(), 3, "over all workers");
    assert_eq!(proxy.sum(REJECTED, &[("why", "full")]).await, 4.0);
    let page = proxy.page("/upstreams").await.text();
    let page: serde_json::Value = serde_json::from_str(&page).expect("JSON");
    let shown = &page[0]["routes"][0]["bulkhead"];
    assert_eq!(
        (&shown["limit"], &shown["in_flight"], &shown["queued"]),
        (&3.into(), &3.into(), &2.into()),
        "{page:#}"
    );
    gate.open();
    for mut raw in running.into_iter().chain(waiting) {
        assert_eq!(raw.reply("GET").await.is(200).text(), "done");
    }
    stands(&proxy, 0.0, 0.0).await;
    assert_eq!(
        proxy.sum("outrider_bulkhead_wait_seconds_count", &[]).await,
        2.0
    );
    proxy.get("/free").await.is(200);
}

#[tokio::test]
async fn who_waits_in_vain_is_told() {
    let (origin, _gate) = held().await;
    let proxy = with(&origin, "{ max: 1, queue: 5, wait: 40ms }").await;
    let _running = send(&proxy, 1, "/held").await;
    stands(&proxy, 1.0, 0.0).await;
    let reply = proxy.get("/late").await;
    reply.is_own(503, &["bulkhead_timeout"]);
    assert!(reply.get("retry-after").is_some());
    let line = proxy.logged_path("/late").await;
    assert_eq!(
        (line[log::REASON].as_str(), line[log::TRIES].as_u64()),
        (Some("bulkhead_timeout"), Some(0)),
        "{line}"
    );
    assert_eq!(proxy.sum(REJECTED, &[("why", "timeout")]).await, 1.0);
    assert_eq!(origin.requests(), 1);
}

#[tokio::test]
async fn a_refusal_is_not_retried() {
    let (origin, _gate) = held().await;
    let settings = "breaker: off\neject: off\nretry: { max: 3, budget: 100% }\ntimeout: 60s\nbulkhead: { max: 1, queue: 0 }";
    let proxy = Setup::shop(&[origin.addr], settings).start().await;
    let _running = send(&proxy, 1, "/held").await;
    stands(&proxy, 1.0, 0.0).await;
    proxy.get("/free").await.is_own(503, &["bulkhead_full"]);
    assert_eq!(proxy.sum("outrider_retries_total", &[]).await, 0.0);
    assert_eq!(proxy.sum(REJECTED, &[]).await, 1.0);
}

#[tokio::test]
async fn a_permit_is_held_until_the_body_has_ended() {
    let answer = Answer::ok("x".repeat(1000));
    let origin = Origin::start(move |asked| match asked.target {
        "/free" => Act::Answer(Answer::ok("free")),
        _ => Act::Cut(answer.clone(), 500, After::Stall),
    })
    .await;
    let proxy = with(&origin, "{ max: 1, queue: 0 }").await;
    let running = send(&proxy, 1, "/streams").await;
    until("the origin has sent half of it", || async {
        (origin.requests() == 1).then_some(())
    })
    .await;
    stands(&proxy, 1.0, 0.0).await;
    proxy.get("/free").await.is_own(503, &["bulkhead_full"]);
    drop(running);
    stands(&proxy, 0.0, 0.0).await;
    proxy.get("/free").await.is(200);
}

#[tokio::test]
async fn a_client_that_leaves_the_queue_takes_nothing_with_it() {
    let (origin, gate) = held().await;
    let proxy = with(&origin, "{ max: 1, queue: 9, wait: 30s }").await;
    let mut running = send(&proxy, 1, "/held").await;
    stands(&proxy, 1.0, 0.0).await;
    let leaving = send(&proxy, 8, "/leaves").await;
    stands(&proxy, 1.0, 8.0).await;
    let mut patient = send(&proxy, 1, "/free").await;
    stands(&proxy, 1.0, 9.0).await;
    drop(leaving);
    stands(&proxy, 1.0, 1.0).await;
    gate.open();
    running[0].reply("GET").await.is(200);
    patient[0].reply("GET").await.is(200);
    stands(&proxy, 0.0, 0.0).await;
    assert_eq!(origin.requests(), 2, "nothing was sent for those who left");
}

#[tokio::test]
async fn a_client_that_leaves_gives_its_permit_back() {
    let (origin, _gate) = held().await;
    let proxy = with(&origin, "{ max: 2, queue: 2, wait: 30s }").await;
    let running = send(&proxy, 2, "/held").await;
    stands(&proxy, 2.0, 0.0).await;
    let mut waiting = send(&proxy, 1, "/free").await;
    stands(&proxy, 2.0, 1.0).await;
    drop(running);
    waiting[0].reply("GET").await.is(200);
    stands(&proxy, 0.0, 0.0).await;
}

#[tokio::test]
async fn routes_share_it_unless_one_writes_its_own() {
    let (origin, _gate) = held().await;
    let settings = format!(
        "{ALONE}\nbulkhead: {{ max: 1, queue: 0 }}\nroutes:\n  - match: GET /shared\n  - match: GET /own\n    bulkhead: {{ max: 2 }}\n  - match: GET /free\n    bulkhead: {{ mode: shadow }}"
    );
    let proxy = Setup::shop(&[origin.addr], &settings).start().await;
    let _running = send(&proxy, 1, "/shared").await;
    stands_at(&proxy, "*", 1.0).await;
    proxy.get("/other").await.is_own(503, &["bulkhead_full"]);
    let _own = send(&proxy, 2, "/own").await;
    stands_at(&proxy, "GET /own", 2.0).await;
    proxy.get("/own").await.is_own(503, &["bulkhead_full"]);
    // A route that only watches the shared one is let through, and counted there.
    proxy.get("/free").await.is(200);
    let shadow = "outrider_bulkhead_shadow_rejected_total";
    assert_eq!(proxy.sum(shadow, &[(label::ROUTE, "*")]).await, 1.0);
}

async fn stands_at(proxy: &Proxy, route: &str, in_flight: f64) {
    proxy
        .until_sum(IN_FLIGHT, &[(label::ROUTE, route)], |now| now == in_flight)
        .await;
}

#[tokio::test]
async fn shadow_refuses_nobody() {
    let (origin, gate) = held().await;
    let proxy = with(&origin, "{ mode: shadow, max: 1, queue: 1 }").await;
    let running = send(&proxy, 4, "/held").await;
    stands(&proxy, 4.0, 0.0).await;
    gate.open();
    for mut raw in running {
        raw.reply("GET").await.is(200);
    }
    let shadow = "outrider_bulkhead_shadow_rejected_total";
    assert_eq!(proxy.sum(shadow, &[]).await, 2.0);
    assert_eq!(proxy.sum(REJECTED, &[]).await, 0.0);
}

#[tokio::test]
async fn a_reload_keeps_who_is_in_and_admits_nobody_beside_them() {
    let (origin, gate) = held().await;
    let proxy = with(&origin, "{ max: 2, queue: 1, wait: 30s }").await;
    let text = proxy.setup.text();
    let running = send(&proxy, 2, "/held").await;
    stands(&proxy, 2.0, 0.0).await;

    proxy.reload(&text.replace("max: 2", "max: 1")).await;
    assert_eq!(proxy.sum("outrider_bulkhead_limit", &[]).await, 1.0);
    let waiting = send(&proxy, 1, "/held").await;
    stands(&proxy, 2.0, 1.0).await;
    proxy.get("/free").await.is_own(503, &["bulkhead_full"]);

    proxy.reload(&text.replace("max: 2", "max: 3")).await;
    stands(&proxy, 3.0, 0.0).await;
    gate.open();
    for mut raw in running.into_iter().chain(waiting) {
        raw.reply("GET").await.is(200);
    }
    stands(&proxy, 0.0, 0.0).await;
}

#[tokio::test]
async fn an_adaptive_one_rises_while_answers_come_at_once() {
    let origin = Origin::always(Answer::ok("x")).await;
    let proxy = with(
        &origin,
        "{ adaptive: { min: 2, max: 24 }, queue: 1000, wait: 10s }",
    )
    .await;
    until("the limit has moved", || async {
        for reply in proxy.at_once(40, &Call::get("/")).await {
            reply.is(200);
        }
        let limit = proxy.sum("outrider_bulkhead_limit", &[]).await;
        (limit > 20.0).then_some(())
    })
    .await;
    stands(&proxy, 0.0, 0.0).await;
    let page = proxy.page("/upstreams").await.text();
    assert!(page.contains("\"unloaded_ms\""), "{page}");
}
