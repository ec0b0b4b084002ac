//! What one client may ask for has bounds, and each bound has its status and word.

use crate::path_forward::PLAIN;
use crate::support::STEP;
use crate::support::call::Call;
use crate::support::client::Raw;
use crate::support::names::log;
use crate::support::origin::Answer;
use crate::support::origin::Origin;
use crate::support::origin::chunk;
use crate::support::proxy::Proxy;
use crate::support::setup::Setup;
use crate::support::until;
use crate::support::within;

async fn shop(limits: &str) -> (Origin, Proxy) {
    let origin = Origin::always(Answer::ok("x")).await;
    let proxy = Setup::shop(&[origin.addr], PLAIN)
        .limits(limits)
        .start()
        .await;
    (origin, proxy)
}

#[tokio::test]
async fn a_head_that_is_too_large_gets_431() {
    let (origin, proxy) = shop("head: 8KiB").await;
    let fits = Call::get("/").field("X-Large", &"v".repeat(7000));
    proxy.call(&fits).await.is(200);
    for value in [9_000, 200_000] {
        let mut raw = proxy.connect().await;
        raw.offer(&Call::get("/").field("X-Large", &"v".repeat(value)).bytes())
            .await;
        raw.reply("GET").await.is_own(431, &["head_too_large"]);
    }
    assert_eq!(origin.requests(), 1);
    let refused = "outrider_connections_refused_total";
    let words = [("reason", "head_too_large")];
    proxy.until_sum(refused, &words, |count| count == 2.0).await;
    proxy
        .logged("a line of the refusal", |line| {
            line[log::REASON] == "head_too_large"
        })
        .await;
}

#[tokio::test]
async fn too_many_fields_get_431() {
    let (origin, proxy) = shop("headers: 20").await;
    let many = |count: usize| {
        (0..count).fold(Call::get("/"), |call, n| call.field(&format!("X-{n}"), "1"))
    };
    proxy.call(&many(15)).await.is(200);
    proxy.call(&many(21)).await.is_own(431, &["head_too_large"]);
    proxy
        .call(&many(500))
        .await
        .is_own(431, &["head_too_large"]);
    assert_eq!(origin.requests(), 1);
    // The default is 100.
    let (origin, proxy) = shop("").await;
    proxy.call(&many(95)).await.is(200);
    proxy
        .call(&many(101))
        .await
        .is_own(431, &["head_too_large"]);
    assert_eq!(origin.requests(), 1);
}

#[tokio::test]
async fn a_target_that_is_too_long_gets_414() {
    let (origin, proxy) = shop("uri: 1KiB").await;
    proxy.get(&format!("/{}", "a".repeat(900))).await.is(200);
    proxy
        .get(&format!("/{}", "a".repeat(1100)))
        .await
        .is_own(414, &["uri_too_long"]);
    proxy
        .get(&format!("/?{}", "a".repeat(10_000)))
        .await
        .is_own(414, &["uri_too_long"]);
    assert_eq!(origin.requests(), 1);
}

#[tokio::test]
async fn a_body_that_is_too_large_gets_413() {
    let (origin, proxy) = shop("body: 10KiB").await;
    proxy
        .call(&Call::post("/fits", vec![b'x'; 10_240]))
        .await
        .is(200);
    // Told by its length: refused before a byte of it is sent.
    let mut raw = proxy.connect().await;
    raw.send(
        format!(
            "{}Content-Length: 10241\r\n\r\n",
            Call::new("POST", "/told").head()
        )
        .as_bytes(),
    )
    .await;
    raw.reply("POST").await.is_own(413, &["body_too_large"]);
    assert_eq!(origin.requests(), 1);
    // Found out on the way: refused, and never whole at the origin.
    let mut raw = proxy.connect().await;
    raw.send(
        format!(
            "{}Transfer-Encoding: chunked\r\n\r\n",
            Call::new("POST", "/found").head()
        )
        .as_bytes(),
    )
    .await;
    for _ in 0..20 {
        raw.offer(&chunk(&[b'x'; 1024])).await;
    }
    raw.offer(b"0\r\n\r\n").await;
    raw.reply("POST").await.is_own(413, &["body_too_large"]);
    assert!(
        origin
            .seen()
            .iter()
            .all(|seen| seen.target == "/fits" || !seen.whole)
    );
    assert_eq!(
        proxy.logged_path("/found").await[log::REASON],
        "body_too_large"
    );
    proxy.get("/after").await.is(200);
}

#[tokio::test]
async fn a_head_that_takes_too_long_gets_408() {
    let (origin, proxy) = shop("head_read: 200ms").await;
    // Silence in the middle, and one byte now and then: both are bounded from the first byte on.
    let mut stops = proxy.connect().await;
    stops.send(b"GET / HTTP/1.1\r\nHost: shop").await;
    let mut drips = proxy.connect().await;
    let dripping = async {
        for byte in Call::get("/").field("X-Slow", &"v".repeat(10_000)).bytes() {
            if drips.wire.send(&[byte]).await.is_err() {
                return;
            }
            let read = tokio::time::timeout(STEP, drips.wire.more()).await;
            if read.is_ok() {
                return;
            }
        }
    };
    within("the dripping client is told", dripping).await;
    drips.reply("GET").await.is_own(408, &["head_timeout"]);
    stops.reply("GET").await.is_own(408, &["head_timeout"]);
    assert!(stops.end().await.1.is_empty());
    assert_eq!(origin.requests(), 0);
    // The bound starts anew with each request of a kept connection, and not before its first byte.
    let mut kept = proxy.connect().await;
    for _ in 0..2 {
        kept.call(&Call::get("/")).await.is(200);
        for _ in 0..30 {
            tokio::time::sleep(STEP).await;
        }
    }
    kept.send(b"GET").await;
    kept.reply("GET").await.is_own(408, &["head_timeout"]);
}

#[tokio::test]
async fn slow_clients_do_not_hold_up_others() {
    let (_origin, proxy) = shop("head_read: 30s").await;
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut raw = proxy.connect().await;
        raw.send(b"GET / HTTP/1.1\r\nHost: shop.test\r\nX-Slow: ")
            .await;
        slow.push(raw);
    }
    for _ in 0..20 {
        proxy.get("/").await.is(200);
    }
    // They were only slow: each may still finish.
    for raw in &mut slow {
        raw.send(b"1\r\n\r\n").await;
        raw.reply("GET").await.is(200);
    }
}

#[tokio::test]
async fn a_connection_at_rest_is_closed_in_silence() {
    let (_origin, proxy) = shop("idle: 1s").await;
    let mut kept = proxy.connect().await;
    kept.call(&Call::get("/")).await.is(200);
    let mut unused = proxy.connect().await;
    assert!(kept.end().await.1.is_empty());
    assert!(unused.end().await.1.is_empty());
}

#[tokio::test]
async fn the_number_of_connections_is_bounded() {
    let (origin, proxy) = shop("connections: 3").await;
    let mut kept = Vec::new();
    for _ in 0..3 {
        let mut raw = proxy.connect().await;
        raw.call(&Call::get("/")).await.is(200);
        kept.push(raw);
    }
    let mut more = Raw::connect(proxy.outbound).await;
    more.offer(&Call::get("/").bytes()).await;
    more.reply("GET").await.is_own(503, &["connection_limit"]);
    assert!(more.end().await.1.is_empty());
    assert_eq!(origin.requests(), 3);
    kept[0].call(&Call::get("/")).await.is(200);
    kept.pop();
    until("there is room again", || async {
        let mut raw = proxy.connect().await;
        raw.offer(&Call::get("/").bytes()).await;
        raw.try_reply("GET")
            .await
            .ok()
            .flatten()
            .filter(|reply| reply.status == 200)
    })
    .await;
    let refused = proxy
        .sum(
            "outrider_connections_refused_total",
            &[("reason", "connection_limit")],
        )
        .await;
    assert!(refused >= 1.0, "{refused}");
    // The admin side has no part in the bound.
    assert_eq!(proxy.page("/live").await.status, 200);
}
