//! What is tried again, what never is, and why not.

use std::net::SocketAddr;

use crate::support::call::Call;
use crate::support::call::HOST;
use crate::support::h2client;
use crate::support::h2client::H2;
use crate::support::h2frame;
use crate::support::h2origin::H2Origin;
use crate::support::h2origin::RawAct;
use crate::support::names::label;
use crate::support::names::log;
use crate::support::origin::Act;
use crate::support::origin::After;
use crate::support::origin::Answer;
use crate::support::origin::Origin;
use crate::support::origin::chunk;
use crate::support::origin::pattern;
use crate::support::ports;
use crate::support::setup::Setup;
use crate::support::until;

fn answer(status: u16) -> Act {
    Act::Answer(Answer::status(status).text("scripted"))
}

fn shop(addr: SocketAddr, retry: &str) -> Setup {
    Setup::shop(
        &[addr],
        &format!("breaker: off\neject: off\nretry: {{ {retry} }}"),
    )
}

#[tokio::test]
async fn a_failure_is_tried_again_until_it_succeeds() {
    let origin = Origin::sequence(vec![answer(503), answer(502), answer(200)]).await;
    let proxy = shop(origin.addr, "max: 2").start().await;
    assert_eq!(proxy.get("/twice").await.is(200).text(), "scripted");
    assert_eq!(origin.requests(), 3);
    let line = proxy.logged_path("/twice").await;
    assert_eq!(
        (line[log::STATUS].as_u64(), line[log::TRIES].as_u64()),
        (Some(200), Some(3)),
        "{line}"
    );
    let metrics = proxy.metrics().await;
    let upstream = (label::UPSTREAM, HOST);
    assert_eq!(metrics.sum("outrider_tries_total", &[upstream]), 3.0);
    assert_eq!(
        metrics.sum(
            "outrider_retries_total",
            &[upstream, (label::REASON, "503")]
        ),
        1.0
    );
    assert_eq!(
        metrics.sum(
            "outrider_retries_total",
            &[upstream, (label::REASON, "502")]
        ),
        1.0
    );
    assert_eq!(metrics.sum("outrider_requests_total", &[upstream]), 1.0);
}

#[tokio::test]
async fn when_the_tries_are_used_up_the_last_answer_stands() {
    let origin = Origin::always(Answer::status(503).field("x-n", "1").text("down")).await;
    let proxy = shop(origin.addr, "max: 3").start().await;
    let reply = proxy.get("/down").await;
    assert_eq!(
        (reply.is(503).text().as_str(), reply.get("x-n")),
        ("down", Some("1"))
    );
    assert_eq!(origin.requests(), 4, "`max: 3` means up to 4 tries");
    let line = proxy.logged_path("/down").await;
    assert_eq!(
        (line[log::TRIES].as_u64(), line[log::RETRY_SKIPPED].as_str()),
        (Some(4), Some("exhausted")),
        "{line}"
    );
}

#[tokio::test]
async fn the_policy_says_which_outcomes_are_tried_again() {
    let origin =
        Origin::start(|asked| answer(asked.target[1..].parse().expect("the path is a status")))
            .await;
    let proxy = shop(origin.addr, "max: 1, when: [500, 408]").start().await;
    for (status, tries) in [(500, 2), (408, 2), (503, 1), (404, 1), (200, 1)] {
        let before = origin.requests();
        proxy.get(&format!("/{status}")).await.is(status);
        assert_eq!(origin.requests() - before, tries, "{status}");
    }
}

#[tokio::test]
async fn an_unsafe_request_that_was_sent_is_never_sent_again() {
    let acts = vec![
        answer(503),
        Act::Cut(Answer::ok(""), 0, After::Reset),
        answer(200),
    ];
    let origin = Origin::sequence(acts).await;
    let proxy = shop(origin.addr, "max: 2").start().await;
    proxy.call(&Call::post("/status", "pay")).await.is(503);
    proxy
        .call(&Call::post("/reset", "pay"))
        .await
        .is_own(502, &["reset"]);
    assert_eq!(origin.requests(), 2);
    for path in ["/status", "/reset"] {
        let line = proxy.logged_path(path).await;
        assert_eq!(
            (line[log::TRIES].as_u64(), line[log::RETRY_SKIPPED].as_str()),
            (Some(1), Some("method")),
            "{line}"
        );
    }
}

#[tokio::test]
async fn methods_can_be_widened() {
    for (methods, method, tries) in [
        ("idempotent", "PUT", 2),
        ("idempotent", "POST", 1),
        ("all", "POST", 2),
        ("[PATCH]", "PATCH", 2),
        ("[PATCH]", "GET", 1),
    ] {
        let origin = Origin::sequence(vec![answer(503), answer(200)]).await;
        let proxy = shop(origin.addr, &format!("max: 1, methods: {methods}"))
            .start()
            .await;
        let reply = proxy.call(&Call::new(method, "/").body("x")).await;
        assert_eq!(
            (reply.status, origin.requests()),
            (if tries == 2 { 200 } else { 503 }, tries),
            "{methods} {method}"
        );
    }
}

#[tokio::test]
async fn a_refused_connection_is_tried_elsewhere_whatever_the_method() {
    let origin = Origin::always(Answer::ok("x")).await;
    let endpoints = [ports::closed(), origin.addr];
    let proxy = Setup::shop(
        &endpoints,
        "breaker: off\neject: off\nretry: { max: 1, budget: 100% }",
    )
    .start()
    .await;
    for n in 0..20 {
        proxy.call(&Call::post("/", format!("{n}"))).await.is(200);
    }
    assert_eq!(origin.requests(), 20);
    let retries = proxy
        .sum(
            "outrider_retries_total",
            &[(label::REASON, "connect_refused")],
        )
        .await;
    assert!(retries > 0.0, "the closed endpoint was tried at least once");
}

#[tokio::test]
async fn the_body_is_sent_again_as_it_was() {
    let origin = Origin::sequence(vec![answer(503), answer(200), answer(503), answer(200)]).await;
    let proxy = shop(origin.addr, "max: 1, methods: all, replay: 64KiB")
        .start()
        .await;
    let body = pattern(60_000);
    proxy
        .call(&Call::post("/length", body.clone()))
        .await
        .is(200);
    let mut raw = proxy.connect().await;
    raw.send(
        format!(
            "{}Transfer-Encoding: chunked\r\n\r\n",
            Call::new("POST", "/chunks").head()
        )
        .as_bytes(),
    )
    .await;
    for piece in body.chunks(999) {
        raw.send(&chunk(piece)).await;
    }
    raw.send(b"0\r\n\r\n").await;
    raw.reply("POST").await.is(200);
    let seen = origin.seen();
    assert_eq!(seen.len(), 4);
    assert!(
        seen.iter()
            .all(|seen| seen.whole && seen.fault.is_none() && seen.body.content == body)
    );
    let id = |at: usize| seen[at].head.get("x-request-id").map(str::to_owned);
    assert!(
        id(0).is_some() && id(0) == id(1) && id(1) != id(2),
        "tries of one request share its ID"
    );
}

#[tokio::test]
async fn a_body_larger_than_the_replay_bound_is_not_sent_again() {
    let origin = Origin::sequence(vec![answer(503), answer(200)]).await;
    let proxy = shop(origin.addr, "max: 1, methods: all, replay: 1KiB")
        .start()
        .await;
    proxy
        .call(&Call::post("/large", pattern(10_000)))
        .await
        .is(503);
    assert!(
        origin.only().body.content == pattern(10_000),
        "it passes whole all the same"
    );
    let line = proxy.logged_path("/large").await;
    assert_eq!(line[log::RETRY_SKIPPED], "body_too_large", "{line}");
}

#[tokio::test]
async fn retry_after_is_honoured_within_the_deadline() {
    let wait =
        |status, value: &str| Act::Answer(Answer::status(status).field("retry-after", value));
    let acts = vec![
        wait(429, "0"),
        answer(200),
        // A date of the past means now.
        wait(503, "Sun, 06 Nov 1994 08:49:37 GMT"),
        answer(200),
        // Longer than the call may last: the answer goes to the client at once.
        wait(503, "3600"),
        // A 429 that does not say when to come back only says "not now".
        answer(429),
    ];
    let origin = Origin::sequence(acts).await;
    let proxy = shop(origin.addr, "max: 2").start().await;
    proxy.get("/zero").await.is(200);
    proxy.get("/date").await.is(200);
    let reply = proxy.get("/long").await;
    assert_eq!(reply.is(503).get("retry-after"), Some("3600"));
    proxy.get("/429").await.is(429);
    assert_eq!(origin.requests(), 6);
    assert_eq!(
        proxy.logged_path("/long").await[log::RETRY_SKIPPED],
        "no_time"
    );
}

#[tokio::test]
async fn retries_never_become_a_storm() {
    const CALLS: usize = 400;
    let origin = Origin::always(Answer::status(503)).await;
    let budget = "budget: { share: 20%, over: 10s, floor: 1/s }, backoff: { base: 1ms, max: 1ms, jitter: none }";
    let proxy = shop(origin.addr, &format!("max: 3, {budget}"))
        .start()
        .await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(proxy.connect().await);
    }
    let mut tasks = tokio::task::JoinSet::new();
    for mut raw in clients {
        tasks.spawn(async move {
            for n in 0..CALLS / 4 {
                raw.call(&Call::get(&format!("/{n}"))).await.is(503);
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("every call got the upstream's own answer");
    }
    let tries = origin.requests();
    // The share, the floor of one window, and the floor of as long as this test may take at all.
    let most = CALLS + CALLS / 5 + 10 + 15;
    assert!(
        tries > CALLS && tries <= most,
        "{tries} tries for {CALLS} calls, at most {most} allowed"
    );
    let skipped = proxy
        .sum("outrider_retries_skipped_total", &[("why", "retry_budget")])
        .await;
    assert!(skipped > 0.0);
    let left = proxy
        .sum("outrider_retry_budget_left", &[(label::UPSTREAM, HOST)])
        .await;
    assert!((0.0..25.0).contains(&left), "{left}");
}

#[tokio::test]
async fn the_keep_alive_race_is_lost_by_nobody() {
    // The origin closes each kept connection at the very moment the next request arrives on it.
    let origin = Origin::always(Answer::ok("x").then(After::Race)).await;
    for retry in ["retry: off", "retry: { max: 1, budget: 100% }"] {
        let settings = format!("breaker: off\neject: off\n{retry}");
        let proxy = Setup::shop(&[origin.addr], &settings)
            .args(&["--workers", "1"])
            .start()
            .await;
        for n in 0..20 {
            proxy.get(&format!("/{n}")).await.is(200);
        }
    }
    assert_eq!(origin.requests(), 40, "no request was answered twice");
}

#[tokio::test]
async fn a_request_that_may_have_been_sent_into_the_race_is_not_repeated_if_unsafe() {
    let acts = vec![Act::Answer(Answer::ok("x").then(After::Race)), answer(200)];
    let origin = Origin::sequence(acts).await;
    let proxy = shop(origin.addr, "max: 2")
        .args(&["--workers", "1"])
        .start()
        .await;
    proxy.get("/first").await.is(200);
    proxy
        .call(&Call::post("/pay", "once"))
        .await
        .is_own(502, &["reset"]);
    assert_eq!(origin.requests(), 1);
    proxy.call(&Call::post("/pay", "again")).await.is(200);
}

#[tokio::test]
async fn a_kept_connection_that_has_ended_is_not_used() {
    let origin = Origin::always(Answer::ok("x").then(After::Close)).await;
    let proxy = Setup::shop(&[origin.addr], "retry: off\nbreaker: off\neject: off")
        .args(&["--workers", "1"])
        .start()
        .await;
    for n in 1..=20 {
        proxy.call(&Call::post("/", "x")).await.is(200);
        until("the origin has closed", || async {
            (origin.open() == 0).then_some(())
        })
        .await;
        assert_eq!(origin.connections(), n);
    }
}

#[tokio::test]
async fn a_stream_that_was_refused_unprocessed_is_sent_again() {
    for refusal in [
        RawAct::Reset(h2frame::REFUSED_STREAM),
        RawAct::GoAwayUnprocessed,
    ] {
        // On the first connection the second stream is refused; every other one is answered.
        let origin = H2Origin::raw(move |connection, nth| {
            if (connection, nth) == (0, 1) {
                refusal
            } else {
                RawAct::Ok
            }
        })
        .await;
        let proxy = shop(origin.addr, "max: 2")
            .args(&["--workers", "1"])
            .start()
            .await;
        let client = H2::connect(proxy.outbound).await;
        assert_eq!(client.get("/first").await.status, 200);
        for _ in 0..3 {
            let post = h2client::request("POST", "/")
                .body(h2client::full("pay once"))
                .expect("a good request");
            assert_eq!(client.call(post).await.status, 200, "{refusal:?}");
        }
        assert_eq!(origin.requests(), 5, "{refusal:?}: one more than the calls");
    }
}

#[tokio::test]
async fn a_connection_that_said_goodbye_is_left() {
    let origin = H2Origin::raw(|_, _| RawAct::OkThenGoAway).await;
    let settings = "retry: off\nbreaker: off\neject: off";
    let proxy = Setup::shop(&[origin.addr], settings)
        .args(&["--workers", "1"])
        .start()
        .await;
    let client = H2::connect(proxy.outbound).await;
    for _ in 0..10 {
        let post = h2client::request("POST", "/")
            .body(h2client::full("x"))
            .expect("a good request");
        assert_eq!(client.call(post).await.status, 200);
    }
    assert_eq!(origin.requests(), 10);
}

#[tokio::test]
async fn a_response_that_began_is_never_tried_again() {
    let origin = H2Origin::raw(|_, _| RawAct::HeadThenReset(h2frame::REFUSED_STREAM)).await;
    let proxy = shop(origin.addr, "max: 2").start().await;
    let client = H2::connect(proxy.outbound).await;
    let get = h2client::request("GET", "/")
        .body(h2client::empty())
        .expect("a good request");
    if let Ok(response) = client.begin(get).await {
        assert!(
            h2client::read(response).await.is_err(),
            "a cut response must not look whole"
        );
    }
    assert_eq!(origin.requests(), 1);
}

#[tokio::test]
async fn routes_have_their_own_rules() {
    let origin = Origin::start(|asked| {
        if asked.n % 2 == 0 {
            answer(503)
        } else {
            answer(200)
        }
    })
    .await;
    let routes = "retry: off\nbreaker: off\neject: off\nroutes:\n  - match: POST /charges\n    retry: { max: 1, methods: all }";
    let proxy = Setup::shop(&[origin.addr], routes).start().await;
    proxy.call(&Call::post("/charges", "x")).await.is(200);
    proxy.get("/charges").await.is(503);
    let line = proxy
        .logged("the POST", |line| line[log::METHOD] == "POST")
        .await;
    assert_eq!(
        (line[log::ROUTE].as_str(), line[log::TRIES].as_u64()),
        (Some("POST /charges"), Some(2)),
        "{line}"
    );
}

#[tokio::test]
async fn shadow_counts_but_does_not_retry() {
    let origin = Origin::always(Answer::status(503)).await;
    let proxy = shop(origin.addr, "max: 2, mode: shadow").start().await;
    proxy.get("/shadow").await.is(503);
    assert_eq!(origin.requests(), 1);
    assert_eq!(
        proxy.logged_path("/shadow").await[log::RETRY_SKIPPED],
        "shadow"
    );
}
