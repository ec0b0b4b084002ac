//! Breakers by hand: held open or closed through the admin port, for a time, by those who may.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;

use serde_json::Value;

use crate::support::call::Call;
use crate::support::call::HOST;
use crate::support::call::Reply;
use crate::support::names::label;
use crate::support::names::state;
use crate::support::origin::Act;
use crate::support::origin::Answer;
use crate::support::origin::Origin;
use crate::support::ports;
use crate::support::proxy::BINARY;
use crate::support::proxy::Proxy;
use crate::support::setup::Setup;
use crate::support::until;

const STATE: &str = "outrider_breaker_state";
const FORCED: &str = "outrider_breaker_forced";
const BREAKER: &str = "retry: off\neject: off\nbreaker: { failures: 50%, min_calls: 5, open: 30s }";

struct Done {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Done {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}{}", self.out, self.err))
    }
}

async fn order(admin: std::net::SocketAddr, args: &[&str]) -> Done {
    let mut args: Vec<String> = args.iter().map(ToString::to_string).collect();
    args.extend(["--admin".to_owned(), admin.to_string()]);
    let run = move || {
        std::process::Command::new(BINARY)
            .arg("breaker")
            .args(args)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .output()
            .expect("start outrider")
    };
    let output = tokio::task::spawn_blocking(run).await.expect("it ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Done {
        code: output.status.code(),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }
}

async fn ordered(proxy: &Proxy, args: &[&str]) -> Done {
    let done = order(proxy.admin, args).await;
    assert_eq!(done.code, Some(0), "{args:?}: {}{}", done.out, done.err);
    done
}

async fn post(proxy: &Proxy, target: &str, fields: &[(&str, &str)]) -> Reply {
    let mut call = Call::post(target, "").host("127.0.0.1");
    for (name, value) in fields {
        call = call.field(name, value);
    }
    call.to(proxy.admin).await
}

async fn start_origin(status: u16) -> (Origin, Arc<AtomicU16>) {
    let mood = Arc::new(AtomicU16::new(status));
    let now = Arc::clone(&mood);
    let origin = Origin::start(move |_| Act::Answer(Answer::status(now.load(Ordering::SeqCst))));
    (origin.await, mood)
}

async fn shown(proxy: &Proxy) -> Value {
    let page = proxy.page("/upstreams").await;
    let all: Value = serde_json::from_slice(&page.body.content).expect("JSON");
    all[0]["routes"][0]["breaker"].clone()
}

fn audit(proxy: &Proxy) -> Vec<Value> {
    let lines = proxy.errors();
    let parsed = lines
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    parsed.filter(|line| line["target"] == "audit").collect()
}

/// So many lines, which come by a pipe of their own and not with the answer.
async fn audited(proxy: &Proxy, count: usize) -> Vec<Value> {
    until("the audit log's lines", || async {
        Some(audit(proxy)).filter(|lines| lines.len() >= count)
    })
    .await
}

#[tokio::test]
async fn open_refuses_and_auto_lets_pass_again() {
    let (origin, _) = start_origin(200).await;
    let proxy = Setup::shop(&[origin.addr], BREAKER).start().await;
    let mut raw = proxy.connect().await;
    raw.call(&Call::get("/before")).await.is(200);
    let done = ordered(&proxy, &["open", HOST]).await;
    for word in [HOST, "held open until 20", "(10m)", "was closed"] {
        assert!(done.out.contains(word), "{word}: {}", done.out);
    }
    let reply = raw.call(&Call::get("/during")).await;
    reply.is_own(503, &["breaker_open"]);
    assert_eq!(
        reply.get("retry-after"),
        Some("60"),
        "at most `open_max`, since it may end sooner"
    );
    assert_eq!(origin.requests(), 1, "nothing was sent");
    let breaker = shown(&proxy).await;
    assert_eq!(breaker["state"], "open", "{breaker}");
    assert!(breaker["forced"]["until"].is_string(), "{breaker}");
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum(STATE, &[(label::UPSTREAM, HOST)]), state::OPEN);
    assert_eq!(metrics.sum(FORCED, &[(label::UPSTREAM, HOST)]), 1.0);
    let by_hand = [("cause", "by_hand"), (label::TO, "open")];
    let moves = metrics.sum("outrider_breaker_transitions_total", &by_hand);
    assert_eq!(moves, 1.0);

    let done = ordered(&proxy, &["auto", HOST]).await;
    assert!(done.out.contains("was open"), "{}", done.out);
    raw.call(&Call::get("/after")).await.is(200);
    let breaker = shown(&proxy).await;
    assert_eq!(
        (&breaker["state"], &breaker["forced"]),
        (&Value::from("closed"), &Value::Null)
    );
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum(FORCED, &[]), 0.0);
    for action in ["open", "auto"] {
        let orders = [(label::UPSTREAM, HOST), ("action", action)];
        assert_eq!(
            metrics.sum("outrider_breaker_overrides_total", &orders),
            1.0
        );
    }
    let told = audited(&proxy, 2).await;
    assert_eq!(told.len(), 2, "{told:?}");
    let who = told[0]["who"].as_str().unwrap_or_default();
    assert!(who.starts_with("127.0.0.1:"), "{told:?}");
    assert_eq!(
        (&told[0]["action"], &told[0]["upstream"], &told[0]["before"]),
        (&"open".into(), &HOST.into(), &"closed".into())
    );
    assert!(told[0]["until"].is_string(), "{told:?}");
    assert_eq!(told[1]["before"], "open");
}

#[tokio::test]
async fn a_force_ends_by_itself() {
    let (origin, _) = start_origin(200).await;
    let proxy = Setup::shop(&[origin.addr], BREAKER).start().await;
    ordered(&proxy, &["open", HOST, "--for", "50ms"]).await;
    until("calls pass again", || async {
        (proxy.get("/").await.status == 200).then_some(())
    })
    .await;
    let ended = [("cause", "force_ended")];
    assert_eq!(
        proxy
            .sum("outrider_breaker_transitions_total", &ended)
            .await,
        1.0
    );
    assert_eq!(proxy.sum(FORCED, &[]).await, 0.0);
}

#[tokio::test]
async fn close_counts_failures_and_opens_at_none() {
    let (origin, mood) = start_origin(500).await;
    let proxy = Setup::shop(&[origin.addr], BREAKER).start().await;
    for _ in 0..5 {
        proxy.get("/").await.is(500);
    }
    proxy.get("/").await.is_own(503, &["breaker_open"]);
    let done = ordered(&proxy, &["close", HOST, "--for", "1h", "--json"]).await;
    let answer = done.json();
    assert_eq!(answer["for_ms"], 3_600_000, "{answer}");
    assert_eq!(answer["breakers"][0]["before"], "open", "{answer}");
    for _ in 0..20 {
        proxy.get("/").await.is(500);
    }
    let breaker = shown(&proxy).await;
    assert_eq!(
        (&breaker["state"], &breaker["failures"]),
        (&"closed".into(), &20.into()),
        "{breaker}"
    );
    ordered(&proxy, &["auto", HOST]).await;
    assert_eq!(shown(&proxy).await["failures"], 0, "it begins afresh");
    for _ in 0..5 {
        proxy.get("/").await.is(500);
    }
    proxy.get("/").await.is_own(503, &["breaker_open"]);
    mood.store(200, Ordering::SeqCst);
}

#[tokio::test]
async fn what_a_browser_or_a_neighbour_could_send_is_refused() {
    let (origin, _) = start_origin(200).await;
    let proxy = Setup::shop(&[origin.addr], BREAKER).start().await;
    let target = format!("/breaker/open?upstream={HOST}");
    for field in [
        ("Origin", "http://127.0.0.1:4759"),
        ("Origin", "null"),
        ("Sec-Fetch-Site", "same-origin"),
        ("Via", "1.1 other"),
        ("X-Forwarded-For", "10.0.0.9"),
    ] {
        let reply = post(&proxy, &target, &[field]).await;
        assert_eq!(reply.status, 403, "{field:?}: {}", reply.text());
        let problem: Value = serde_json::from_str(&reply.text()).expect("a problem");
        assert_eq!(problem["status"], 403);
    }
    let rebound = Call::post(&target, "").host("pages.example:4759");
    assert_eq!(rebound.to(proxy.admin).await.status, 403);
    let link = Call::get(&target).host("127.0.0.1").to(proxy.admin).await;
    assert_eq!((link.status, link.get("allow")), (405, Some("POST")));
    // Not through ourselves either.
    let through = Call::post(&format!("http://{}{target}", proxy.admin), "")
        .host(&proxy.admin.to_string())
        .to(proxy.explicit)
        .await;
    through.is_own(508, &["loop_detected"]);
    proxy.get("/").await.is(200);
    assert_eq!(proxy.sum(FORCED, &[]).await, 0.0);
    let lines = audit(&proxy);
    let refused = |line: &Value| line["message"] == "an order was not taken";
    assert!(lines.iter().all(refused), "nothing was done: {lines:#?}");
    // The same order without any of it.
    assert_eq!(post(&proxy, &target, &[]).await.status, 200);
    proxy.get("/").await.is_own(503, &["breaker_open"]);
}

#[tokio::test]
async fn what_is_not_there_is_declined_with_what_is() {
    let (origin, _) = start_origin(200).await;
    let proxy = Setup::shop(&[origin.addr], BREAKER)
        .upstream("bare.test", &[origin.addr], "breaker: off")
        .start()
        .await;
    let done = order(proxy.admin, &["open", "nobody.test"]).await;
    assert_eq!(done.code, Some(1), "{}", done.out);
    for word in [
        "no upstream `nobody.test`",
        HOST,
        "bare.test",
        "(unmatched)",
    ] {
        assert!(done.err.contains(word), "{word}: {}", done.err);
    }
    let done = order(proxy.admin, &["open", "bare.test"]).await;
    assert_eq!(done.code, Some(1));
    assert!(
        done.err.contains("no breaker on `bare.test`"),
        "{}",
        done.err
    );
    let done = order(proxy.admin, &["open", HOST, "--route", "GET /x"]).await;
    assert_eq!(done.code, Some(1));
    assert!(done.err.contains("no route `GET /x`"), "{}", done.err);
    let done = order(proxy.admin, &["open", HOST, "--for", "2d"]).await;
    assert_eq!(done.code, Some(1));
    assert!(done.err.contains("at most 1d"), "{}", done.err);
    let done = order(ports::closed(), &["open", HOST]).await;
    assert_eq!(done.code, Some(2));
    assert!(done.err.contains("is outrider running"), "{}", done.err);
    let done = order(origin.addr, &["open", HOST]).await;
    assert_eq!(done.code, Some(2), "{}{}", done.out, done.err);
    assert_eq!(order(proxy.admin, &["ajar", HOST]).await.code, Some(2));
}

#[tokio::test]
async fn a_route_with_its_own_breaker_is_forced_alone() {
    let (origin, _) = start_origin(200).await;
    let settings = format!(
        "{BREAKER}\nroutes:\n  - match: POST /own/**\n    breaker: {{ min_calls: 7 }}\n  - match: GET /shared\n    timeout: 3s"
    );
    let proxy = Setup::shop(&[origin.addr], &settings).start().await;
    let done = ordered(&proxy, &["open", HOST, "--route", "POST /own/**"]).await;
    assert!(done.out.contains("route POST /own/**"), "{}", done.out);
    let own = Call::post("/own/a", "x");
    proxy.call(&own).await.is_own(503, &["breaker_open"]);
    proxy.get("/shared").await.is(200);
    proxy.get("/").await.is(200);
    let done = order(proxy.admin, &["open", HOST, "--route", "GET /shared"]).await;
    assert_eq!(done.code, Some(1));
    assert!(done.err.contains("shares the breaker"), "{}", done.err);
    // The shared one by its name, and the other let go.
    ordered(&proxy, &["auto", HOST]).await;
    ordered(&proxy, &["open", HOST, "--route", "*"]).await;
    proxy.get("/shared").await.is_own(503, &["breaker_open"]);
    proxy.call(&own).await.is(200);
}

#[tokio::test]
async fn a_glob_is_forced_for_those_that_are_called_later() {
    let (origin, _) = start_origin(200).await;
    let proxy = Setup::new()
        .block(&format!(
            "upstream: \"*.late.test\"\nendpoints: dns\n{BREAKER}"
        ))
        .upstream(HOST, &[origin.addr], BREAKER)
        .start()
        .await;
    let done = ordered(&proxy, &["open", "*.late.test"]).await;
    assert!(done.out.contains("not called yet"), "{}", done.out);
    let late = Call::get("/").host("one.late.test");
    proxy.call(&late).await.is_own(503, &["breaker_open"]);
    proxy.get("/").await.is(200);
    ordered(&proxy, &["auto", "*.late.test"]).await;
    let reply = proxy.call(&late).await;
    assert_ne!(reply.reason(), Some("breaker_open"));
    let other = Call::get("/").host("two.late.test");
    assert_ne!(proxy.call(&other).await.reason(), Some("breaker_open"));
}

#[tokio::test]
async fn a_reload_keeps_the_force_of_an_unchanged_breaker() {
    let (origin, _) = start_origin(200).await;
    let proxy = Setup::shop(&[origin.addr], BREAKER).start().await;
    ordered(&proxy, &["open", HOST]).await;
    let text = proxy.setup.text();
    let changed = text.replace("retry: off", "retry: off\n    timeout: 3s");
    proxy.reload(&changed).await;
    proxy.get("/").await.is_own(503, &["breaker_open"]);
    // New endpoints are new destinations, under the same order.
    let (second, _) = start_origin(200).await;
    let moved = changed.replace(&origin.addr.to_string(), &second.addr.to_string());
    proxy.reload(&moved).await;
    proxy.get("/").await.is_own(503, &["breaker_open"]);
    assert_eq!(proxy.sum(FORCED, &[]).await, 1.0);
    let other = moved.replace("min_calls: 5", "min_calls: 6");
    proxy.reload(&other).await;
    proxy.get("/").await.is(200);
    assert_eq!(proxy.sum(FORCED, &[]).await, 0.0);
    let lines = audited(&proxy, 2).await;
    assert_eq!(lines.len(), 2, "the order, and its end: {lines:?}");
    // Back to the old settings: what was dropped stays dropped.
    proxy.reload(&moved).await;
    proxy.get("/").await.is(200);
}

#[tokio::test]
async fn shadow_stays_shadow_and_says_so() {
    let (origin, _) = start_origin(200).await;
    let settings = "retry: off\nbreaker: { mode: shadow }";
    let proxy = Setup::shop(&[origin.addr], settings).start().await;
    let done = ordered(&proxy, &["open", HOST]).await;
    assert!(done.out.contains("mode: shadow"), "{}", done.out);
    proxy.get("/").await.is(200);
    let would = "outrider_breaker_shadow_refusals_total";
    assert_eq!(proxy.sum(would, &[]).await, 1.0);
}

#[tokio::test]
async fn orders_during_traffic_leave_every_call_with_an_answer() {
    let (origin, _) = start_origin(200).await;
    let proxy = Setup::shop(&[origin.addr], BREAKER).start().await;
    let calls = async {
        let mut seen = (0, 0);
        for _ in 0..20 {
            for reply in proxy.at_once(10, &Call::get("/")).await {
                if reply.status == 200 {
                    seen.0 += 1;
                } else {
                    reply.is_own(503, &["breaker_open"]);
                    seen.1 += 1;
                }
            }
        }
        seen
    };
    let orders = async {
        for action in ["open", "close", "open", "auto"] {
            let target = format!("/breaker/{action}?upstream={HOST}");
            assert_eq!(post(&proxy, &target, &[]).await.status, 200);
        }
    };
    let ((passed, refused), ()) = tokio::join!(calls, orders);
    assert_eq!(passed + refused, 200);
    assert_eq!(origin.requests(), passed, "refused ones are never sent");
    proxy.get("/").await.is(200);
}
