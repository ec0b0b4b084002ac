//! A key for what may not be repeated by its method: who gets one, that it stays, and what it unlocks.

use crate::support::call::Call;
use crate::support::call::HOST;
use crate::support::names::label;
use crate::support::names::log;
use crate::support::origin::Act;
use crate::support::origin::After;
use crate::support::origin::Answer;
use crate::support::origin::Origin;
use crate::support::origin::Seen;
use crate::support::origin::pattern;
use crate::support::setup::Setup;

const KEY: &str = "idempotency-key";

fn answer(status: u16) -> Act {
    Act::Answer(Answer::status(status).text("scripted"))
}

fn shop(origin: &Origin, settings: &str) -> Setup {
    Setup::shop(
        &[origin.addr],
        &format!("breaker: off\neject: off\nretry: {{ max: 2 }}\n{settings}"),
    )
}

fn keys(seen: &Seen) -> Vec<&str> {
    let fields = seen.head.fields.iter();
    fields
        .filter(|(name, _)| name.eq_ignore_ascii_case(KEY))
        .map(|(_, value)| value.as_str())
        .collect()
}

#[tokio::test]
async fn one_key_for_all_tries_and_another_for_the_next_call() {
    let acts = vec![answer(503), answer(503), answer(200), answer(200)];
    let origin = Origin::sequence(acts).await;
    let proxy = shop(&origin, "idempotency: {}").start().await;
    let body = pattern(20_000);
    for _ in 0..2 {
        let call = Call::post("/pay", body.clone());
        proxy.call(&call).await.is(200);
    }
    let seen = origin.seen();
    assert_eq!(seen.len(), 4);
    let sent: Vec<&str> = seen.iter().flat_map(keys).collect();
    assert_eq!(sent.len(), 4, "each try carries one: {sent:?}");
    assert_eq!((sent[0], sent[1]), (sent[1], sent[2]));
    assert_ne!(sent[2], sent[3]);
    assert!(
        sent.iter()
            .all(|key| key.len() == 36 && key.split('-').count() == 5),
        "a bare UUID: {sent:?}"
    );
    assert!(seen.iter().all(|seen| seen.body.content == body));
    let labels = [(label::UPSTREAM, HOST), ("source", "injected")];
    let counted = proxy.sum("outrider_idempotency_keys_total", &labels).await;
    assert_eq!(counted, 2.0, "calls, not tries");
}

#[tokio::test]
async fn a_post_is_tried_again_after_a_reset() {
    let acts = vec![Act::Cut(Answer::ok(""), 0, After::Reset), answer(200)];
    let origin = Origin::sequence(acts).await;
    let proxy = shop(&origin, "idempotency: {}").start().await;
    proxy.call(&Call::post("/pay", "once")).await.is(200);
    assert_eq!(origin.requests(), 2);
    let line = proxy.logged_path("/pay").await;
    assert_eq!(line[log::TRIES].as_u64(), Some(2), "{line}");
}

#[tokio::test]
async fn a_post_goes_past_a_kept_connection_that_died() {
    let origin = Origin::always(Answer::ok("x").then(After::Race)).await;
    let setup = Setup::shop(
        &[origin.addr],
        "breaker: off\neject: off\nretry: { max: 1, when: [connect] }\nidempotency: {}",
    );
    let proxy = setup.args(&["--workers", "1"]).start().await;
    for _ in 0..10 {
        proxy.call(&Call::post("/pay", "x")).await.is(200);
    }
    assert_eq!(origin.requests(), 10, "no request was answered twice");
}

#[tokio::test]
async fn the_key_of_the_application_is_kept() {
    let origin = Origin::sequence(vec![answer(503), answer(200)]).await;
    let proxy = shop(&origin, "idempotency: {}").start().await;
    let call = Call::post("/pay", "x").field("Idempotency-Key", "\"order-7\"");
    proxy.call(&call).await.is(200);
    let seen = origin.seen();
    assert_eq!(seen.len(), 2, "it unlocks a retry as well");
    assert!(seen.iter().all(|seen| keys(seen) == ["\"order-7\""]));
    let labels = [(label::UPSTREAM, HOST), ("source", "client")];
    assert_eq!(
        proxy.sum("outrider_idempotency_keys_total", &labels).await,
        1.0
    );
}

#[tokio::test]
async fn a_doubtful_key_is_passed_on_and_unlocks_nothing() {
    for values in [&["a", "b"][..], &[""]] {
        let origin = Origin::sequence(vec![answer(503), answer(200)]).await;
        let proxy = shop(&origin, "idempotency: {}").start().await;
        let call = values.iter().fold(Call::post("/pay", "x"), |call, value| {
            call.field("Idempotency-Key", value)
        });
        proxy.call(&call).await.is(503);
        assert_eq!(keys(&origin.only()), values);
        let line = proxy.logged_path("/pay").await;
        assert_eq!(line[log::RETRY_SKIPPED], "method", "{line}");
    }
}

#[tokio::test]
async fn nothing_is_set_where_nothing_is_declared() {
    for (settings, method) in [
        ("", "POST"),
        ("idempotency: { mode: shadow }", "POST"),
        ("idempotency: off", "POST"),
        ("idempotency: {}", "GET"),
        ("idempotency: {}", "PUT"),
    ] {
        let origin = Origin::sequence(vec![answer(500), answer(200)]).await;
        let proxy = shop(&origin, settings).start().await;
        proxy
            .call(&Call::new(method, "/pay").body("x"))
            .await
            .is(500);
        assert_eq!(keys(&origin.only()), [""; 0], "{settings} {method}");
    }
}

#[tokio::test]
async fn shadow_counts_and_unlocks_nothing() {
    let origin = Origin::sequence(vec![answer(503), answer(200)]).await;
    let proxy = shop(&origin, "idempotency: { mode: shadow }").start().await;
    proxy.call(&Call::post("/pay", "x")).await.is(503);
    assert_eq!(origin.requests(), 1);
    let labels = [(label::UPSTREAM, HOST), ("source", "injected")];
    let metrics = proxy.metrics().await;
    assert_eq!(
        metrics.sum("outrider_idempotency_shadow_keys_total", &labels),
        1.0
    );
    assert_eq!(metrics.sum("outrider_idempotency_keys_total", &labels), 0.0);
}

#[tokio::test]
async fn a_route_may_declare_it_alone_and_name_its_header() {
    let origin = Origin::start(|asked| answer(if asked.n % 2 == 0 { 503 } else { 200 })).await;
    let routes = "routes:\n  - match: POST /charges\n    idempotency: X-Request-Key";
    let proxy = shop(&origin, routes).start().await;
    proxy.call(&Call::post("/charges", "x")).await.is(200);
    proxy.call(&Call::post("/other", "x")).await.is(503);
    let seen = origin.seen();
    let has = |at: usize| seen[at].head.get("x-request-key").map(str::len);
    assert_eq!((has(0), has(1), has(2)), (Some(36), Some(36), None));
}
