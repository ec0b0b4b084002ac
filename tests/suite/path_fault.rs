//! Faults on purpose: what they do to calls, whom they are not blamed on, and how they end.

use std::process::Stdio;

use serde_json::Value;

use crate::support::answer::pattern;
use crate::support::call::Call;
use crate::support::call::HOST;
use crate::support::client::End;
use crate::support::client::Raw;
use crate::support::h2client;
use crate::support::h2client::H2;
use crate::support::h2origin::H2Act;
use crate::support::h2origin::H2Origin;
use crate::support::names::label;
use crate::support::names::log;
use crate::support::names::state;
use crate::support::origin::Act;
use crate::support::origin::Answer;
use crate::support::origin::Origin;
use crate::support::proxy::BINARY;
use crate::support::proxy::Proxy;
use crate::support::setup::Setup;
use crate::support::until;

const INJECTED: &str = "outrider_faults_injected_total";
const ACTIVE: &str = "outrider_fault_active";
const STOPPED: &str = "outrider_faults_stopped_total";
const MARK: &str = "outrider-injected";
const END: &str = "until: 2099-01-01T00:00:00Z";

fn shop(origin: &Origin, fault: &str) -> Setup {
    let settings = format!(
        "retry: off\neject: {{ consecutive: 3 }}\nbreaker: {{ failures: 50%, min_calls: 5, open: 30s }}\nfault: {{ {fault}, {END} }}"
    );
    Setup::shop(&[origin.addr], &settings)
}

async fn command(proxy: &Proxy, args: &[&str]) -> (Option<i32>, String) {
    let mut args: Vec<String> = args.iter().map(ToString::to_string).collect();
    args.extend(["--admin".to_owned(), proxy.admin.to_string()]);
    let run = move || {
        std::process::Command::new(BINARY)
            .arg("fault")
            .args(args)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .output()
            .expect("start outrider")
    };
    let output = tokio::task::spawn_blocking(run).await.expect("it ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&output.stdout) + &text(&output.stderr);
    (output.status.code(), said)
}

async fn order(proxy: &Proxy, target: &str) -> Value {
    let call = Call::post(target, "").host("localhost");
    let reply = call.to(proxy.admin).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    serde_json::from_str(&reply.text()).expect("JSON")
}

#[tokio::test]
async fn abort_answers_and_nobody_is_blamed() {
    let origin = Origin::always(Answer::ok("x")).await;
    let proxy = shop(&origin, "abort: 502").start().await;
    for _ in 0..30 {
        let reply = proxy.get("/a").await;
        reply.is_own(502, &["fault_injected"]);
        assert_eq!(reply.get(MARK), Some("abort"));
    }
    assert_eq!(origin.requests(), 0);
    let metrics = proxy.metrics().await;
    let labels = [
        (label::UPSTREAM, HOST),
        (label::ROUTE, "*"),
        ("kind", "abort"),
    ];
    assert_eq!(metrics.sum(INJECTED, &labels), 30.0);
    assert_eq!(metrics.sum(ACTIVE, &[(label::UPSTREAM, HOST)]), 1.0);
    assert_eq!(metrics.sum("outrider_breaker_state", &[]), state::CLOSED);
    assert_eq!(metrics.sum("outrider_endpoints_ejected", &[]), 0.0);
    let reasons = [(label::REASON, "fault_injected"), (label::STATUS, "5xx")];
    assert_eq!(metrics.sum("outrider_requests_total", &reasons), 30.0);
    let line = proxy.logged_path("/a").await;
    assert_eq!(
        (&line[log::REASON], &line["injected"], &line[log::STATUS]),
        (&"fault_injected".into(), &"abort".into(), &502.into()),
        "{line}"
    );
    assert_eq!(line[log::TRIES], 0, "{line}");
}

#[tokio::test]
async fn abort_speaks_grpc_to_grpc() {
    let origin = Origin::always(Answer::ok("x")).await;
    for (abort, status, http) in [
        ("503", "14", 503),
        ("\"grpc:resource_exhausted\"", "8", 429),
    ] {
        let proxy = shop(&origin, &format!("abort: {abort}")).start().await;
        let client = H2::connect(proxy.outbound).await;
        let reply = client.call(h2client::grpc("/a.B/C", b"")).await;
        assert_eq!((reply.status, reply.grpc_status()), (200, Some(status)));
        proxy.get("/").await.is_own(http, &["fault_injected"]);
    }
    assert_eq!(origin.requests(), 0);
}

#[tokio::test]
async fn delay_waits_and_then_calls() {
    let origin = Origin::always(Answer::ok("late")).await;
    let proxy = shop(&origin, "delay: 40ms").start().await;
    let reply = proxy.get("/d").await;
    assert_eq!(reply.is(200).text(), "late");
    assert_eq!(reply.get(MARK), Some("delay"));
    let line = proxy.logged_path("/d").await;
    assert!(line[log::DURATION].as_f64() >= Some(40.0), "{line}");
    assert_eq!(line["injected"], "delay", "{line}");
    assert_eq!(
        line[log::REASON],
        Value::Null,
        "the answer is the upstream's"
    );
}

#[tokio::test]
async fn a_delay_is_spent_of_the_timeout() {
    let origin = Origin::always(Answer::ok("x")).await;
    let setup = shop(&origin, "delay: 40ms");
    let text = setup.text();
    let proxy = setup.start().await;
    let short = text.replace("retry: off", "retry: off\n    timeout: 20ms");
    proxy.reload(&short).await;
    let reply = proxy.get("/").await;
    reply.is_own(504, &["deadline"]);
    assert_eq!(
        reply.get(MARK),
        Some("delay"),
        "so nobody blames the upstream"
    );
}

#[tokio::test]
async fn reset_cuts_the_connection_of_http1() {
    let origin = Origin::always(Answer::ok("x")).await;
    let proxy = shop(&origin, "reset: true").start().await;
    let mut raw = Raw::connect(proxy.outbound).await;
    raw.send(&Call::get("/cut").bytes()).await;
    let (end, bytes) = raw.end().await;
    assert_eq!((end, bytes.as_slice()), (End::Reset, &b""[..]));
    let line = proxy.logged_path("/cut").await;
    assert_eq!(
        (&line[log::REASON], &line["injected"]),
        (&"fault_injected".into(), &"reset".into()),
        "{line}"
    );
    assert_eq!(origin.requests(), 0);
    let kinds = [("kind", "reset")];
    assert_eq!(proxy.sum(INJECTED, &kinds).await, 1.0);
}

#[tokio::test]
async fn reset_cuts_only_the_stream_of_http2() {
    let origin = H2Origin::start(|_, _| H2Act::grpc(b"whole", 0)).await;
    let settings =
        format!("retry: off\nroutes:\n  - match: GET /cut\n    fault: {{ reset: true, {END} }}");
    let proxy = Setup::shop(&[origin.addr], &settings).start().await;
    let client = H2::connect(proxy.outbound).await;
    let cut = h2client::request("GET", "/cut").body(h2client::empty());
    let failed = client.begin(cut.expect("a request")).await;
    assert!(failed.is_err(), "no answer");
    let reply = client.get("/whole").await;
    assert_eq!((reply.status, &reply.body[..]), (200, &b"whole"[..]));
    assert_eq!(origin.requests(), 1);
}

#[tokio::test]
async fn bandwidth_keeps_every_byte_and_a_stop_lets_it_go() {
    let body = pattern(256 * 1024);
    let answer = body.clone();
    let origin = Origin::start(move |asked| {
        let body = if asked.target == "/small" {
            answer[..4096].to_vec()
        } else {
            answer.clone()
        };
        Act::Answer(Answer::ok(body))
    })
    .await;
    let proxy = shop(&origin, "bandwidth: 64KiB").start().await;
    let reply = proxy.get("/small").await;
    assert_eq!(reply.get(MARK), Some("bandwidth"));
    assert_eq!(reply.is(200).body.content, body[..4096]);
    // Four seconds by itself; the stop comes after the first bytes.
    let mut raw = proxy.connect().await;
    raw.send(&Call::get("/large").bytes()).await;
    until("the body flows", || async {
        (origin.requests() == 2).then_some(())
    })
    .await;
    let stopped = order(&proxy, "/faults/stop").await;
    assert_eq!(stopped["faults"][0]["now"], "stopped", "{stopped}");
    assert_eq!(raw.reply("GET").await.body.content, body);
}

#[tokio::test]
async fn a_share_of_the_calls_is_met() {
    let origin = Origin::always(Answer::ok("x")).await;
    let proxy = shop(&origin, "abort: 503, share: 50%").start().await;
    let mut raw = proxy.connect().await;
    let mut met = 0;
    // All or none of 200 at 50 % happens once in 10^60.
    for _ in 0..200 {
        met += u32::from(raw.call(&Call::get("/")).await.status == 503);
    }
    assert!((1..200).contains(&met), "{met} of 200");
    assert_eq!(origin.requests() as u32, 200 - met);
    let kinds = [("kind", "abort")];
    assert_eq!(proxy.sum(INJECTED, &kinds).await, f64::from(met));
}

#[tokio::test]
async fn stop_holds_over_a_reload_until_resumed_or_changed() {
    let origin = Origin::always(Answer::ok("x")).await;
    let setup = shop(&origin, "abort: 503");
    let text = setup.text();
    let proxy = setup.start().await;
    proxy.get("/").await.is_own(503, &["fault_injected"]);
    let (code, said) = command(&proxy, &["list"]).await;
    assert_eq!(code, Some(0), "{said}");
    for word in [HOST, "running", "abort 503", "100%", "2099-01-01T00:00:00Z"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let (code, said) = command(&proxy, &["stop", HOST]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("stopped (was running)"), "{said}");
    proxy.get("/").await.is(200);
    assert_eq!(proxy.sum(ACTIVE, &[]).await, 0.0);
    assert_eq!(proxy.sum(STOPPED, &[("cause", "by_hand")]).await, 1.0);
    let unrelated = text.replace("retry: off", "retry: off\n    timeout: 3s");
    proxy.reload(&unrelated).await;
    proxy.get("/").await.is(200);
    let (_, said) = command(&proxy, &["stop"]).await;
    assert!(said.contains("stopped already"), "{said}");
    let (code, said) = command(&proxy, &["resume", HOST]).await;
    assert_eq!(code, Some(0), "{said}");
    proxy.get("/").await.is_own(503, &["fault_injected"]);
    command(&proxy, &["stop"]).await;
    proxy.get("/").await.is(200);
    proxy
        .reload(&unrelated.replace("abort: 503", "abort: 500"))
        .await;
    proxy.get("/").await.is_own(500, &["fault_injected"]);
    let audited = proxy.errors();
    let audited = audited.iter().filter(|line| line.contains("\"audit\""));
    assert_eq!(audited.count(), 4, "three stops and a resume");
    let without = unrelated.split("    fault:").next().unwrap_or_default();
    proxy.reload(without).await;
    proxy.get("/").await.is(200);
    assert_eq!(proxy.sum(ACTIVE, &[]).await, 0.0);
    let (code, said) = command(&proxy, &["stop", HOST]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no faults for"), "{said}");
    assert_eq!(command(&proxy, &["stop", "nobody"]).await.0, Some(1));
    let (code, said) = command(&proxy, &["list"]).await;
    assert_eq!((code, said.trim()), (Some(0), "no faults are injected"));
}

#[tokio::test]
async fn only_who_may_stops_them() {
    let origin = Origin::always(Answer::ok("x")).await;
    let proxy = shop(&origin, "abort: 503").start().await;
    let target = "/faults/stop";
    let browser = Call::post(target, "").host("localhost");
    let browser = browser.field("Sec-Fetch-Site", "cross-site");
    assert_eq!(browser.to(proxy.admin).await.status, 403);
    let rebound = Call::post(target, "").host("pages.example");
    assert_eq!(rebound.to(proxy.admin).await.status, 403);
    let link = Call::get(target).host("localhost");
    assert_eq!(link.to(proxy.admin).await.status, 405);
    proxy.get("/").await.is_own(503, &["fault_injected"]);
}

#[tokio::test]
async fn the_guard_stops_it_for_good() {
    let origin = Origin::always(Answer::status(500)).await;
    let settings = format!(
        "retry: off\neject: off\nbreaker: off\nfault: {{ delay: 1ms, stop_when: errors > 5%, {END} }}"
    );
    let proxy = Setup::shop(&[origin.addr], &settings).start().await;
    let mut raw = proxy.connect().await;
    for n in 0..25 {
        let reply = raw.call(&Call::get("/")).await;
        let marked = reply.is(500).get(MARK).is_some();
        assert_eq!(marked, n < 20, "call {n}");
    }
    assert_eq!(proxy.sum(STOPPED, &[("cause", "guard")]).await, 1.0);
    assert_eq!(proxy.sum(ACTIVE, &[]).await, 0.0);
    assert!(
        proxy
            .errors()
            .iter()
            .any(|line| line.contains("fault injection")),
        "it is told on stderr"
    );
}

#[tokio::test]
async fn its_own_failures_do_not_trip_the_guard() {
    let origin = Origin::always(Answer::ok("x")).await;
    let proxy = shop(&origin, "abort: 503, stop_when: errors > 5%")
        .start()
        .await;
    let mut raw = proxy.connect().await;
    for _ in 0..60 {
        let reply = raw.call(&Call::get("/")).await;
        reply.is_own(503, &["fault_injected"]);
    }
}

#[tokio::test]
async fn what_is_over_does_nothing_and_says_so() {
    let origin = Origin::always(Answer::ok("x")).await;
    let settings = "fault: { abort: 503, share: 10%, until: 2020-01-01T00:00:00Z }";
    let proxy = Setup::shop(&[origin.addr], settings).start().await;
    for _ in 0..20 {
        proxy.get("/").await.is(200);
    }
    assert_eq!(proxy.sum(ACTIVE, &[]).await, 0.0);
    assert!(
        proxy.errors().iter().any(|line| line.contains("OR052")),
        "a warning at the start"
    );
    let (_, said) = command(&proxy, &["list"]).await;
    assert!(said.contains("over"), "{said}");
}

#[tokio::test]
async fn shadow_only_counts() {
    let origin = Origin::always(Answer::ok("x")).await;
    let proxy = shop(&origin, "mode: shadow, delay: 1h, reset: true")
        .start()
        .await;
    let reply = proxy.get("/").await;
    assert_eq!(reply.is(200).get(MARK), None);
    let metrics = proxy.metrics().await;
    for kind in ["delay", "reset"] {
        let kinds = [("kind", kind)];
        assert_eq!(metrics.sum("outrider_shadow_faults_total", &kinds), 1.0);
    }
    assert_eq!(metrics.sum(INJECTED, &[]), 0.0);
}
