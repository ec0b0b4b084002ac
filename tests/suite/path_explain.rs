//! Every decision about a call can be asked for afterwards.

use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use serde_json::Value;

use crate::support::call::Call;
use crate::support::names;
use crate::support::origin::Act;
use crate::support::origin::Answer;
use crate::support::origin::Origin;
use crate::support::proxy::BINARY;
use crate::support::proxy::Proxy;
use crate::support::setup::Setup;
use crate::support::until;

/// The only call of this ID that is remembered.
async fn explained(proxy: &Proxy, id: &str) -> Value {
    until("the call to be told", || async {
        let page = proxy.page(&format!("/explain?id={id}")).await;
        let page: Value = serde_json::from_str(&page.text()).ok()?;
        page["calls"].as_array()?.first().cloned()
    })
    .await
}

fn steps<'a>(call: &'a Value, room: &str) -> Vec<&'a Value> {
    let steps = call["steps"].as_array().expect("steps");
    steps.iter().filter(|step| step["room"] == room).collect()
}

fn asking(id: &str) -> Call {
    Call::get("/charges?card=4111").field(names::REQUEST_ID, id)
}

#[tokio::test]
async fn a_retried_call_shows_each_try_and_the_judgement_between() {
    let flaky = Origin::sequence(vec![
        Act::Answer(Answer::status(503)),
        Act::Answer(Answer::ok("x")),
    ])
    .await;
    let proxy = Setup::shop(&[flaky.addr], "retry: { max: 2 }\ntimeout: 3s")
        .top("telemetry: { explain: { sample: 100% } }")
        .start()
        .await;
    proxy.call(&asking("retried-1")).await.is(200);
    let call = explained(&proxy, "retried-1").await;
    assert_eq!(call["kind"], "sampled");
    assert_eq!((&call["status"], &call["tries"]), (&200.into(), &2.into()));
    assert_eq!(call["path"], "/charges", "the query may carry secrets");
    let deadline = steps(&call, "deadline");
    assert_eq!(deadline[0]["total_ms"], 3000.0);
    let tries = steps(&call, "try");
    assert_eq!(tries.len(), 2, "{call:#}");
    assert_eq!(
        (&tries[0]["status"], &tries[0]["connection"]),
        (&503.into(), &"new".into())
    );
    assert_eq!(tries[1]["status"], 200);
    assert_eq!(tries[1]["endpoint"], flaky.addr.to_string());
    assert_ne!(tries[0]["span_id"], tries[1]["span_id"]);
    let seen = flaky.seen();
    for (seen, told) in seen.iter().zip(&tries) {
        let sent = seen.head.get("traceparent").expect("each try has its span");
        let span = told["span_id"].as_str().expect("a span");
        assert_eq!(&sent[36..52], span, "the span is the one that was sent");
    }
    let judged = steps(&call, "retry");
    assert_eq!((judged.len(), &judged[0]["why"]), (1, &"503".into()));
}

#[tokio::test]
async fn a_refusal_says_who_refused_and_by_which_numbers() {
    let failing = Origin::always(Answer::status(500)).await;
    let proxy = Setup::shop(
        &[failing.addr],
        "retry: off\nbreaker: { failures: 50%, min_calls: 2, open: 30s }\nlimit: { rps: 1, burst: 3 }",
    )
    .start()
    .await;
    for n in 0..2 {
        proxy.call(&asking(&format!("failed-{n}"))).await.is(500);
    }
    proxy
        .call(&asking("refused"))
        .await
        .is_own(503, &["breaker_open"]);
    proxy.call(&asking("limited")).await.is_own(429, &["limit"]);
    let failed = explained(&proxy, "failed-0").await;
    assert_eq!(
        (&failed["kind"], &failed["reason"]),
        (&"failed".into(), &Value::Null)
    );
    let refused = explained(&proxy, "refused").await;
    assert_eq!(refused["reason"], "breaker_open");
    let breaker = steps(&refused, "breaker");
    assert_eq!(
        (&breaker[0]["fate"], &breaker[0]["state"]),
        (&"refused".into(), &"open".into())
    );
    let left = breaker[0]["more_in_ms"].as_f64().expect("a time");
    assert!((0.0..=45_000.0).contains(&left), "{left}");
    let tries = steps(&refused, "try");
    assert_eq!(
        (&tries[0]["reason"], &tries[0]["endpoint"]),
        (&"breaker_open".into(), &Value::Null)
    );
    let limited = explained(&proxy, "limited").await;
    let limit = steps(&limited, "limit");
    assert_eq!(
        (&limit[0]["fate"], &limit[0]["left"]),
        (&"refused".into(), &0.into())
    );
    assert_eq!(steps(&limited, "try").len(), 0);
    let page = proxy.page("/explain?reason=limit").await.text();
    let page: Value = serde_json::from_str(&page).expect("JSON");
    assert_eq!(page["calls"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn copies_of_a_hedged_call_are_told_apart() {
    let asked = Arc::new(AtomicUsize::new(0));
    let first_is_silent = || {
        let asked = Arc::clone(&asked);
        Origin::start(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
            0 => Act::Silence,
            _ => Act::Answer(Answer::ok("x")),
        })
    };
    let (one, other) = (first_is_silent().await, first_is_silent().await);
    let proxy = Setup::shop(
        &[one.addr, other.addr],
        "retry: off\nhedge: { after: 20ms, budget: 100% }",
    )
    .top("telemetry: { explain: { sample: 100% } }")
    .start()
    .await;
    proxy.call(&asking("hedged")).await.is(200);
    let call = explained(&proxy, "hedged").await;
    let copies: Vec<_> = steps(&call, "try")
        .iter()
        .map(|step| step["copy"].clone())
        .collect();
    assert_eq!(copies, [Value::Null, 1.into()], "{call:#}");
    let hedge = steps(&call, "hedge");
    assert_eq!(
        (&hedge[0]["fate"], &hedge[1]["fate"]),
        (&"sent".into(), &"won".into())
    );
}

#[tokio::test]
async fn the_arithmetic_of_the_cache_is_told() {
    let origin = Origin::always(Answer::ok("x").field("Cache-Control", "max-age=60")).await;
    let proxy = Setup::shop(&[origin.addr], "cache: {}")
        .top("telemetry: { explain: { sample: 100% } }")
        .start()
        .await;
    proxy.call(&asking("fetched")).await.is(200);
    proxy.call(&asking("hit")).await.is(200);
    let fetched = explained(&proxy, "fetched").await;
    assert_eq!(steps(&fetched, "cache")[0]["cache"], "miss");
    assert_eq!(fetched["cached"]["stored"], true, "{fetched:#}");
    let hit = explained(&proxy, "hit").await;
    assert_eq!(steps(&hit, "cache")[0]["cache"], "fresh");
    assert_eq!(hit["cached"]["lifetime_s"], 60.0);
    assert_eq!(hit["cached"]["lifetime_from"], "max-age");
    assert_eq!(hit["cached"]["fresh"], true);
    assert_eq!(
        hit["cached"]["digest"], fetched["cached"]["digest"],
        "one key"
    );
    assert_eq!(steps(&hit, "try").len(), 0, "nobody was asked");
}

fn outrider(args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(BINARY);
    command.args(args).env("NO_COLOR", "1").stdin(Stdio::null());
    let output = command.output().expect("start outrider");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_prints_a_timeline() {
    let failing = Origin::always(Answer::status(500)).await;
    let proxy = Setup::shop(&[failing.addr], "retry: off").start().await;
    proxy.call(&asking("shown")).await.is(500);
    explained(&proxy, "shown").await;
    let admin = proxy.admin.to_string();
    let (code, out, err) = outrider(&["explain", "shown", "--admin", &admin]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with("GET shop.test/charges  500"), "{out}");
    assert!(out.contains("request shown"), "{out}");
    assert!(
        out.contains(&format!("{} (new connection): answered 500", failing.addr)),
        "{out}"
    );
    let (code, out, err) = outrider(&["explain", "nobody", "--admin", &admin]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("no call `nobody` is remembered"), "{err}");
    let (code, out, _) = outrider(&["explain", "--failed", "--json", "--admin", &admin]);
    assert_eq!(code, Some(0));
    let call: Value = serde_json::from_str(out.trim()).expect("one call a line");
    assert_eq!(call["request_id"], "shown");
    let bad = proxy.page("/explain?limit=many").await;
    assert_eq!(bad.status, 400);
    assert!(
        bad.text().contains("`limit` takes a whole number"),
        "{}",
        bad.text()
    );
}
