//! Every wait has an end, and each end has its word.

use crate::support::blackhole::Blackhole;
use crate::support::call::Call;
use crate::support::call::HOST;
use crate::support::h2client;
use crate::support::h2client::H2;
use crate::support::h2origin::H2Act;
use crate::support::h2origin::H2Origin;
use crate::support::names::log;
use crate::support::origin::Act;
use crate::support::origin::After;
use crate::support::origin::Answer;
use crate::support::origin::Gate;
use crate::support::origin::Origin;
use crate::support::origin::pattern;
use crate::support::setup::Setup;
use crate::support::until;
use crate::support::wire::Fault;

const ALONE: &str = "retry: off\nbreaker: off\neject: off";

#[tokio::test]
async fn a_call_ends_with_its_deadline() {
    let origin = Origin::start(|_| Act::Silence).await;
    let proxy = Setup::shop(&[origin.addr], &format!("{ALONE}\ntimeout: 200ms"))
        .start()
        .await;
    proxy.get("/late").await.is_own(504, &["deadline"]);
    until("the origin's connection is given up", || async {
        (origin.open() == 0).then_some(())
    })
    .await;
    let line = proxy.logged_path("/late").await;
    assert_eq!(
        (line[log::REASON].as_str(), line[log::TRIES].as_u64()),
        (Some("deadline"), Some(1)),
        "{line}"
    );
    assert!(
        line[log::DURATION].as_f64().is_some_and(|ms| ms >= 200.0),
        "{line}"
    );
    // The client's connection goes on.
    let mut raw = proxy.connect().await;
    for _ in 0..2 {
        raw.call(&Call::get("/")).await.is_own(504, &["deadline"]);
    }
}

#[tokio::test]
async fn a_try_ends_before_the_call_and_may_be_repeated() {
    let origin = Origin::sequence(vec![
        Act::Silence,
        Act::Answer(Answer::ok("second")),
        Act::Silence,
    ])
    .await;
    let settings = "breaker: off\neject: off\ntimeout: { total: 10s, try: 150ms }\nretry: { max: 1, when: [try_timeout] }";
    let proxy = Setup::shop(&[origin.addr], settings).start().await;
    assert_eq!(proxy.get("/once").await.is(200).text(), "second");
    assert_eq!(proxy.logged_path("/once").await[log::TRIES], 2);
    proxy.get("/twice").await.is_own(504, &["try_timeout"]);
    assert_eq!(origin.requests(), 4);
    let line = proxy.logged_path("/twice").await;
    assert_eq!(
        (line[log::REASON].as_str(), line[log::TRIES].as_u64()),
        (Some("try_timeout"), Some(2)),
        "{line}"
    );
    assert_eq!(
        proxy
            .sum("outrider_deadline_expired_total", &[("scope", "try")])
            .await,
        3.0
    );
}

#[tokio::test]
async fn a_try_gets_its_share_of_what_remains() {
    // No `try`: three tries share 900 ms, so that a silent first endpoint leaves time for the others.
    let origin = Origin::sequence(vec![Act::Silence, Act::Answer(Answer::ok("second"))]).await;
    let settings =
        "breaker: off\neject: off\ntimeout: 900ms\nretry: { max: 2, when: [try_timeout] }";
    let proxy = Setup::shop(&[origin.addr], settings).start().await;
    assert_eq!(proxy.get("/").await.is(200).text(), "second");
}

#[tokio::test]
async fn connecting_has_its_own_bound() {
    let hole = Blackhole::start();
    let settings = format!("{ALONE}\ntimeout: {{ total: 10s, connect: 100ms }}");
    let proxy = Setup::shop(&[hole.addr], &settings).start().await;
    proxy.get("/").await.is_own(504, &["connect_timeout"]);
    // Nothing was sent, so even an unsafe request goes elsewhere.
    let origin = Origin::always(Answer::ok("x")).await;
    let settings = "breaker: off\neject: off\nretry: { max: 1, budget: 100% }\ntimeout: { total: 10s, connect: 100ms }";
    let proxy = Setup::shop(&[hole.addr, origin.addr], settings)
        .start()
        .await;
    for _ in 0..5 {
        proxy.call(&Call::post("/", "x")).await.is(200);
    }
}

#[tokio::test]
async fn a_response_that_stops_flowing_is_cut() {
    let answer = Answer::ok(pattern(1000));
    let origin = Origin::start(move |_| Act::Cut(answer.clone(), 500, After::Stall)).await;
    let proxy = Setup::shop(
        &[origin.addr],
        &format!("{ALONE}\ntimeout: {{ idle: 150ms }}"),
    )
    .start()
    .await;
    let mut raw = proxy.connect().await;
    raw.send(&Call::get("/stalls").bytes()).await;
    let fault = raw
        .try_reply("GET")
        .await
        .expect_err("half a body is not a response");
    assert!(matches!(fault, Fault::Short(_) | Fault::Io(_)), "{fault}");
    assert_eq!(
        proxy.logged_path("/stalls").await[log::REASON],
        "idle_timeout"
    );
    until("the origin's connection is given up", || async {
        (origin.open() == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_body_may_flow_for_longer_than_the_call_may_wait() {
    // The head comes at once; some 80 pieces with a pause behind each take longer than `total`.
    let answer = Answer::ok(pattern(10_000));
    let origin = Origin::start(move |_| Act::Drip(answer.clone(), 128)).await;
    let proxy = Setup::shop(&[origin.addr], &format!("{ALONE}\ntimeout: 500ms"))
        .start()
        .await;
    assert!(proxy.get("/flows").await.is(200).body.content == pattern(10_000));
}

#[tokio::test]
async fn a_client_that_stops_sending_its_body_is_told() {
    let origin = Origin::always(Answer::ok("x")).await;
    let settings = format!("{ALONE}\ntimeout: {{ total: 300ms, idle: 200ms }}");
    let proxy = Setup::shop(&[origin.addr], &settings).start().await;
    let mut raw = proxy.connect().await;
    raw.send(
        format!(
            "{}Content-Length: 10\r\n\r\nhalf",
            Call::new("POST", "/half").head()
        )
        .as_bytes(),
    )
    .await;
    raw.reply("POST").await.is_own(408, &["body_timeout"]);
    let line = proxy.logged_path("/half").await;
    assert_eq!(line[log::REASON], "body_timeout", "{line}");
    proxy.get("/").await.is(200);
}

#[tokio::test]
async fn a_long_upload_is_no_fault_of_the_upstream() {
    let origin = Origin::always(Answer::ok("taken")).await;
    let proxy = Setup::shop(
        &[origin.addr],
        &format!("{ALONE}\ntimeout: {{ total: 300ms, idle: 10s }}"),
    )
    .start()
    .await;
    let mut raw = proxy.connect().await;
    raw.send(
        format!(
            "{}Content-Length: 60\r\n\r\n",
            Call::new("POST", "/upload").head()
        )
        .as_bytes(),
    )
    .await;
    for _ in 0..60 {
        raw.send(b"x").await;
        tokio::time::sleep(crate::support::STEP).await;
    }
    assert_eq!(raw.reply("POST").await.is(200).text(), "taken");
}

#[tokio::test]
async fn routes_have_their_own_time() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin =
        Origin::start(move |_| Act::Hold(held.clone(), Box::new(Act::Answer(Answer::ok("x")))))
            .await;
    let settings =
        format!("{ALONE}\ntimeout: 100ms\nroutes:\n  - match: GET /reports/**\n    timeout: 30s");
    let proxy = Setup::shop(&[origin.addr], &settings).start().await;
    let mut slow = proxy.connect().await;
    slow.send(&Call::get("/reports/yearly/2025").bytes()).await;
    for _ in 0..3 {
        proxy.get("/report").await.is_own(504, &["deadline"]);
    }
    gate.open();
    slow.reply("GET").await.is(200);
}

#[tokio::test]
async fn grpc_has_a_status_for_it() {
    let origin =
        H2Origin::start(|_, _| H2Act::Hold(Gate::new(), Box::new(H2Act::ok("never")))).await;
    let proxy = Setup::shop(&[origin.addr], &format!("{ALONE}\ntimeout: 150ms"))
        .start()
        .await;
    let client = H2::connect(proxy.outbound).await;
    let reply = client.call(h2client::grpc("/a.B/C", b"\0\0\0\0\0")).await;
    assert_eq!(
        (reply.status, reply.grpc_status(), reply.reason()),
        (200, Some("4"), Some("deadline"))
    );
    assert_eq!(proxy.logged_path("/a.B/C").await[log::UPSTREAM], HOST);
}
