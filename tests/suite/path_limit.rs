//! The limit: so many calls in a time, whoever asks and however many tries they take.
//!
//! Rates here are a few calls an hour, so that nothing comes back while a test runs and every count is exact.

use serde_json::Value;

use crate::support::call::Call;
use crate::support::call::Reply;
use crate::support::h2client;
use crate::support::h2client::H2;
use crate::support::h2origin::H2Act;
use crate::support::h2origin::H2Origin;
use crate::support::names::log;
use crate::support::origin::Act;
use crate::support::origin::Answer;
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::setup::Setup;
use crate::support::until;

const REFUSED: &str = "outrider_limit_refused_total";
const ALONE: &str = "retry: off\nbreaker: off\neject: off\n";

async fn shop(limit: &str) -> (Origin, Proxy) {
    let origin = Origin::always(Answer::ok("x").field("RateLimit", "\"theirs\";r=7;t=1")).await;
    let setup = Setup::shop(&[origin.addr], &format!("{ALONE}{limit}"));
    (origin, setup.start().await)
}

fn passed(replies: &[Reply]) -> usize {
    replies.iter().filter(|reply| reply.status == 200).count()
}

async fn as_user(proxy: &Proxy, user: &str) -> Reply {
    proxy.call(&Call::get("/").field("X-User", user)).await
}

async fn upstream_page(proxy: &Proxy) -> Value {
    let page = proxy.page("/upstreams").await.text();
    serde_json::from_str(&page).expect("the page is JSON")
}

#[tokio::test]
async fn of_many_at_once_exactly_the_burst_passes() {
    let (origin, proxy) = shop("limit: { rate: 4/h, burst: 7 }").await;
    let replies = proxy.at_once(40, &Call::get("/")).await;
    assert_eq!((passed(&replies), origin.requests()), (7, 7));
    for reply in replies.iter().filter(|reply| reply.status != 200) {
        reply.is_own(429, &["limit"]);
    }
    assert_eq!(proxy.sum(REFUSED, &[]).await, 33.0);
}

#[tokio::test]
async fn a_refusal_says_when_to_come_back_and_what_the_limit_is() {
    let (_origin, proxy) = shop("limit: { rate: 4/h, burst: 1 }").await;
    let reply = proxy.get("/").await;
    reply.is(200);
    assert_eq!(
        reply.get("ratelimit"),
        Some("\"theirs\";r=7;t=1"),
        "left as it was"
    );
    assert_eq!(reply.get("ratelimit-policy"), None);
    let reply = proxy.get("/refused").await;
    reply.is_own(429, &["limit"]);
    let wait = reply.get("retry-after").expect("it says when");
    let seconds: u64 = wait.parse().expect("whole seconds");
    assert!(
        (1..=900).contains(&seconds),
        "a quarter of an hour, less what has passed: {seconds}"
    );
    assert_eq!(
        reply.get("ratelimit-policy"),
        Some("\"shop.test\";q=4;w=3600")
    );
    let state = format!("\"shop.test\";r=0;t={wait}");
    assert_eq!(reply.get("ratelimit"), Some(state.as_str()));
    let line = proxy.logged_path("/refused").await;
    assert_eq!(
        (&line[log::REASON], &line[log::STATUS], &line[log::TRIES]),
        (&"limit".into(), &429.into(), &0.into()),
        "{line}"
    );
    let limit = &upstream_page(&proxy).await[0]["routes"][0]["limit"];
    assert_eq!(
        (&limit["remaining"], &limit["burst"]),
        (&0.into(), &1.into()),
        "{limit}"
    );
}

#[tokio::test]
async fn with_headers_all_every_answer_tells_of_it_behind_the_upstreams_own() {
    let (_origin, proxy) = shop("limit: { rate: 4/h, burst: 3, headers: all }").await;
    let reply = proxy.get("/").await;
    reply.is(200);
    let told: Vec<_> = reply.head.all("ratelimit");
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[0], "\"theirs\";r=7;t=1");
    assert!(told[1].starts_with("\"shop.test\";r=2;t="), "{told:?}");
    assert_eq!(
        reply.get("ratelimit-policy"),
        Some("\"shop.test\";q=4;w=3600")
    );
}

#[tokio::test]
async fn keys_have_quotas_apart() {
    let (origin, proxy) = shop("limit: { rate: 4/h, burst: 2, per: header:x-user }").await;
    for user in ["ann", "bob", "ann", "bob"] {
        as_user(&proxy, user).await.is(200);
    }
    for user in ["ann", "bob"] {
        as_user(&proxy, user).await.is_own(429, &["limit"]);
    }
    let long = "v".repeat(4000);
    as_user(&proxy, &long).await.is(200);
    // Who sends none shares one bucket with all others that do not.
    for _ in 0..2 {
        proxy.get("/").await.is(200);
    }
    proxy.get("/").await.is_own(429, &["limit"]);
    assert_eq!(origin.requests(), 7);
    assert_eq!(proxy.sum("outrider_limit_keys", &[]).await, 4.0);
}

#[tokio::test]
async fn more_keys_than_buckets_are_judged_by_estimate_and_the_first_keep_theirs() {
    let (_origin, proxy) =
        shop("limit: { rate: 4/h, burst: 3, per: header:x-user, keys: 8 }").await;
    for _ in 0..2 {
        as_user(&proxy, "ann").await.is(200);
    }
    let mut raw = proxy.connect().await;
    for made_up in 0..100 {
        let call = Call::get("/").field("X-User", &format!("made-up-{made_up}"));
        raw.call(&call).await;
    }
    as_user(&proxy, "ann").await.is(200);
    as_user(&proxy, "ann").await.is_own(429, &["limit"]);
    assert!(proxy.sum("outrider_limit_estimated_total", &[]).await >= 90.0);
    let keys = proxy.sum("outrider_limit_keys", &[]).await;
    assert!((1.0..=8.0).contains(&keys), "{keys}");
}

#[tokio::test]
async fn method_path_and_source_tell_apart_too() {
    let (_origin, proxy) = shop("limit: { rate: 4/h, burst: 1, per: [method, path] }").await;
    proxy.get("/a?x=1").await.is(200);
    proxy.get("/a?x=2").await.is_own(429, &["limit"]);
    proxy.get("/b").await.is(200);
    proxy.call(&Call::post("/a", "x")).await.is(200);
    let (_origin, proxy) = shop("limit: { rate: 4/h, burst: 1, per: source }").await;
    proxy.get("/a").await.is(200);
    proxy.get("/b").await.is_own(429, &["limit"]);
}

#[tokio::test]
async fn a_call_counts_once_however_many_tries_it_takes() {
    let origin = Origin::start(|_| Act::Answer(Answer::status(503))).await;
    let settings = "retry: { max: 2, backoff: { base: 1ms, max: 1ms } }\nbreaker: off\neject: off\nlimit: { rate: 4/h, burst: 3 }";
    let proxy = Setup::shop(&[origin.addr], settings).start().await;
    for _ in 0..3 {
        proxy.get("/").await.is(503);
    }
    assert_eq!(origin.requests(), 9);
    proxy.get("/").await.is_own(429, &["limit"]);
    assert_eq!(
        origin.requests(),
        9,
        "a refusal of our own is not tried again"
    );
}

#[tokio::test]
async fn shadow_counts_and_lets_everything_through() {
    let (origin, proxy) = shop("limit: { mode: shadow, rate: 4/h, burst: 2, headers: all }").await;
    for _ in 0..5 {
        let reply = proxy.get("/").await;
        reply.is(200);
        assert_eq!(reply.get("ratelimit-policy"), None);
    }
    assert_eq!(origin.requests(), 5);
    assert_eq!(
        proxy.sum("outrider_limit_shadow_refused_total", &[]).await,
        3.0
    );
    assert_eq!(proxy.sum(REFUSED, &[]).await, 0.0);
}

#[tokio::test]
async fn routes_share_the_limit_unless_they_have_their_own() {
    let routes = "limit: { rate: 4/h, burst: 2 }\nroutes:\n  - match: /own\n    limit: { burst: 1 }\n  - match: /shared\n    timeout: 3s\n  - match: /free\n    limit: off";
    let (_origin, proxy) = shop(routes).await;
    proxy.get("/shared").await.is(200);
    proxy.get("/own").await.is(200);
    proxy.get("/").await.is(200);
    for path in ["/shared", "/"] {
        proxy.get(path).await.is_own(429, &["limit"]);
    }
    let reply = proxy.get("/own").await;
    reply.is_own(429, &["limit"]);
    assert_eq!(
        reply.get("ratelimit-policy"),
        Some("\"shop.test /own\";q=4;w=3600")
    );
    proxy.get("/free").await.is(200);
    assert_eq!(proxy.sum(REFUSED, &[("route", "/own")]).await, 1.0);
}

#[tokio::test]
async fn grpc_is_told_in_its_own_words() {
    let origin = H2Origin::start(|_, _| H2Act::grpc(b"\0\0\0\0\0", 0)).await;
    let settings = format!("{ALONE}limit: {{ rate: 4/h, burst: 1 }}");
    let proxy = Setup::shop(&[origin.addr], &settings).start().await;
    let client = H2::connect(proxy.outbound).await;
    let call = || client.call(h2client::grpc("/a.B/C", b"\0\0\0\0\0"));
    assert_eq!(call().await.grpc_status(), Some("0"));
    let reply = call().await;
    assert_eq!(
        (reply.status, reply.grpc_status(), reply.reason()),
        (200, Some("8"), Some("limit")),
        "resource_exhausted"
    );
    assert!(reply.get("retry-after").is_some());
    assert_eq!(
        reply.get("ratelimit-policy"),
        Some("\"shop.test\";q=4;w=3600")
    );
}

#[tokio::test]
async fn a_reload_gives_nobody_a_fresh_burst() {
    let origin = Origin::always(Answer::ok("x")).await;
    let limit = "limit: { rate: 4/h, burst: 3 }";
    let setup = Setup::shop(&[origin.addr], &format!("{ALONE}{limit}"));
    let text = setup.text();
    let proxy = setup.start().await;
    for _ in 0..3 {
        proxy.get("/").await.is(200);
    }
    for change in [
        "limit: { rate: 4/h, burst: 3 }\n    timeout: 3s",
        "limit: { rate: 8/h, burst: 3 }",
        "limit: { mode: enforce, rate: 8/h, burst: 3, headers: off }",
    ] {
        proxy.reload(&text.replace(limit, change)).await;
        proxy.get("/").await.is_own(429, &["limit"]);
    }
    proxy
        .reload(&text.replace(limit, "limit: { rate: 4/h, burst: 5 }"))
        .await;
    // The larger burst is there, less what was used.
    until("the larger burst is in force", || async {
        (proxy.get("/").await.status == 200).then_some(())
    })
    .await;
    proxy.get("/").await.is(200);
    proxy.get("/").await.is_own(429, &["limit"]);
}
