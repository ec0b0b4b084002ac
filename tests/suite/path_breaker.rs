//! The breaker: opens on failing, answers at once while open, closes after recovery, and never wedges.

use std::sync::Arc;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;

use crate::support::call::Call;
use crate::support::call::HOST;
use crate::support::names::label;
use crate::support::names::log;
use crate::support::names::state;
use crate::support::origin::Act;
use crate::support::origin::Answer;
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::setup::Setup;
use crate::support::until;

const STATE: &str = "outrider_breaker_state";
const TRANSITIONS: &str = "outrider_breaker_transitions_total";

/// An origin whose status can be changed while it runs.
struct Mood {
    origin: Origin,
    status: Arc<AtomicU16>,
}

impl Mood {
    async fn start(status: u16) -> Self {
        let status = Arc::new(AtomicU16::new(status));
        let now = Arc::clone(&status);
        let origin = Origin::start(move |asked| match asked.target {
            "/silence" => Act::Silence,
            _ => Act::Answer(Answer::status(now.load(Ordering::SeqCst))),
        })
        .await;
        Mood { origin, status }
    }

    fn set(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }
}

fn shop(mood: &Mood, breaker: &str) -> Setup {
    Setup::shop(
        &[mood.origin.addr],
        &format!("retry: off\neject: off\nbreaker: {{ {breaker} }}"),
    )
}

async fn calls(proxy: &Proxy, count: usize, status: u16) {
    let mut raw = proxy.connect().await;
    for _ in 0..count {
        raw.call(&Call::get("/")).await.is(status);
    }
}

async fn until_open(proxy: &Proxy) {
    proxy
        .until_sum(STATE, &[(label::UPSTREAM, HOST)], |value| {
            value == state::OPEN
        })
        .await;
}

async fn until_closed(proxy: &Proxy) {
    until("the breaker closes", || async {
        proxy.get("/").await;
        (proxy.sum(STATE, &[(label::UPSTREAM, HOST)]).await == state::CLOSED).then_some(())
    })
    .await;
}

#[tokio::test]
async fn it_opens_at_the_rate_and_answers_at_once() {
    let mood = Mood::start(200).await;
    let proxy = shop(&mood, "failures: 50%, over: 10s, min_calls: 10, open: 30s")
        .start()
        .await;
    calls(&proxy, 5, 200).await;
    mood.set(500);
    calls(&proxy, 5, 500).await;
    until_open(&proxy).await;
    let reply = proxy.get("/refused").await;
    reply.is_own(503, &["breaker_open"]);
    let wait: u64 = reply
        .get("retry-after")
        .and_then(|text| text.parse().ok())
        .expect("it says when to come back");
    assert!((1..=45).contains(&wait), "30s, plus or minus half: {wait}");
    assert_eq!(mood.origin.requests(), 10, "an open breaker sends nothing");
    let line = proxy.logged_path("/refused").await;
    assert_eq!(
        (line[log::REASON].as_str(), line[log::STATUS].as_u64()),
        (Some("breaker_open"), Some(503)),
        "{line}"
    );
    let metrics = proxy.metrics().await;
    assert_eq!(
        metrics.sum(TRANSITIONS, &[(label::FROM, "closed"), (label::TO, "open")]),
        1.0
    );
    assert_eq!(
        metrics.sum(
            "outrider_requests_total",
            &[(label::REASON, "breaker_open")]
        ),
        1.0
    );
    assert!(
        proxy.errors().iter().any(|line| line.contains("breaker")),
        "an opening is told on stderr too"
    );
}

#[tokio::test]
async fn fewer_calls_than_the_least_never_open_it() {
    let mood = Mood::start(500).await;
    let proxy = shop(&mood, "failures: 50%, min_calls: 20, open: 30s")
        .start()
        .await;
    calls(&proxy, 19, 500).await;
    assert_eq!(proxy.sum(STATE, &[]).await, state::CLOSED);
    calls(&proxy, 1, 500).await;
    until_open(&proxy).await;
}

#[tokio::test]
async fn client_errors_never_count() {
    let mood = Mood::start(404).await;
    let proxy = shop(
        &mood,
        "failures: 50%, min_calls: 5, consecutive: 3, open: 30s",
    )
    .start()
    .await;
    for status in [404, 400, 409, 429] {
        mood.set(status);
        calls(&proxy, 10, status).await;
    }
    assert_eq!(proxy.sum(STATE, &[]).await, state::CLOSED);
    assert_eq!(proxy.sum(TRANSITIONS, &[]).await, 0.0);
}

#[tokio::test]
async fn it_closes_again_after_recovery() {
    let mood = Mood::start(500).await;
    let proxy = shop(
        &mood,
        "failures: 50%, min_calls: 5, open: 50ms, open_max: 200ms, probes: 2",
    )
    .start()
    .await;
    calls(&proxy, 5, 500).await;
    // Probes that fail open it anew.
    until("a probe fails", || async {
        proxy.get("/").await;
        (proxy
            .sum(
                TRANSITIONS,
                &[(label::FROM, "half_open"), (label::TO, "open")],
            )
            .await
            >= 1.0)
            .then_some(())
    })
    .await;
    mood.set(200);
    until_closed(&proxy).await;
    calls(&proxy, 20, 200).await;
    let metrics = proxy.metrics().await;
    assert!(
        metrics.sum(
            TRANSITIONS,
            &[(label::FROM, "open"), (label::TO, "half_open")]
        ) >= 2.0
    );
    assert_eq!(
        metrics.sum(
            TRANSITIONS,
            &[(label::FROM, "half_open"), (label::TO, "closed")]
        ),
        1.0
    );
}

#[tokio::test]
async fn a_lost_probe_cannot_wedge_it() {
    let mood = Mood::start(500).await;
    let proxy = shop(
        &mood,
        "failures: 50%, min_calls: 5, open: 50ms, open_max: 100ms, probes: 1",
    )
    .start()
    .await;
    calls(&proxy, 5, 500).await;
    mood.set(200);
    // Clients take the probe and leave without waiting for its answer.
    let before = mood.origin.requests();
    until("a probe is taken and lost", || async {
        let mut raw = proxy.connect().await;
        raw.send(&Call::get("/silence").bytes()).await;
        let refused = tokio::time::timeout(crate::support::STEP, raw.try_reply("GET")).await;
        (refused.is_err() && mood.origin.requests() > before).then_some(())
    })
    .await;
    until_closed(&proxy).await;
    calls(&proxy, 5, 200).await;
}

#[tokio::test]
async fn failures_in_a_row_open_it() {
    let mood = Mood::start(200).await;
    let proxy = shop(&mood, "failures: off, consecutive: 3, open: 30s")
        .start()
        .await;
    for _ in 0..3 {
        mood.set(500);
        calls(&proxy, 2, 500).await;
        mood.set(200);
        calls(&proxy, 1, 200).await;
    }
    assert_eq!(proxy.sum(STATE, &[]).await, state::CLOSED);
    mood.set(503);
    calls(&proxy, 3, 503).await;
    until_open(&proxy).await;
    assert_eq!(
        proxy.sum(TRANSITIONS, &[("cause", "consecutive")]).await,
        1.0
    );
}

#[tokio::test]
async fn slowness_alone_opens_it() {
    // Some seventy bytes of head, eight at a time with a pause behind each.
    let origin = Origin::start(|_| Act::Drip(Answer::ok("slow"), 8)).await;
    let breaker = "failures: off, min_calls: 4, slow: { over: 20ms, share: 50% }, open: 30s";
    let proxy = Setup::shop(
        &[origin.addr],
        &format!("retry: off\neject: off\nbreaker: {{ {breaker} }}"),
    )
    .start()
    .await;
    calls(&proxy, 4, 200).await;
    until_open(&proxy).await;
    proxy.get("/").await.is_own(503, &["breaker_open"]);
}

#[tokio::test]
async fn unreachable_upstreams_open_it_too() {
    let addr = crate::support::ports::closed();
    let settings = "retry: off\neject: off\nbreaker: { failures: 50%, min_calls: 5, open: 30s }";
    let proxy = Setup::shop(&[addr], settings).start().await;
    for _ in 0..5 {
        proxy.get("/").await.is_own(502, &["connect_refused"]);
    }
    until_open(&proxy).await;
    proxy.get("/").await.is_own(503, &["breaker_open"]);
}

#[tokio::test]
async fn a_refusal_is_not_retried() {
    let mood = Mood::start(500).await;
    let settings = "eject: off\nretry: { max: 3, when: [503, 502] }\nbreaker: { failures: 50%, min_calls: 5, open: 30s }";
    let proxy = Setup::shop(&[mood.origin.addr], settings).start().await;
    calls(&proxy, 5, 500).await;
    until_open(&proxy).await;
    proxy.get("/").await.is_own(503, &["breaker_open"]);
    assert_eq!(proxy.sum("outrider_breaker_refusals_total", &[]).await, 1.0);
    assert_eq!(proxy.sum("outrider_retries_total", &[]).await, 0.0);
}

#[tokio::test]
async fn shadow_lets_pass_and_counts() {
    let mood = Mood::start(500).await;
    let proxy = shop(
        &mood,
        "mode: shadow, failures: 50%, min_calls: 5, open: 30s",
    )
    .start()
    .await;
    calls(&proxy, 20, 500).await;
    assert_eq!(mood.origin.requests(), 20);
    until_open(&proxy).await;
    let metrics = proxy.metrics().await;
    assert_eq!(
        metrics.sum("outrider_breaker_shadow_refusals_total", &[]),
        15.0
    );
    assert_eq!(metrics.sum("outrider_breaker_refusals_total", &[]), 0.0);
}

#[tokio::test]
async fn its_scope_is_the_upstream_or_the_route() {
    for (scope, other) in [("upstream", 503), ("route", 200)] {
        let origin = Origin::start(|asked| {
            Act::Answer(Answer::status(if asked.target.starts_with("/bad") {
                500
            } else {
                200
            }))
        })
        .await;
        let settings = format!(
            "retry: off\neject: off\nbreaker: {{ failures: 50%, min_calls: 5, open: 30s, scope: {scope} }}\n\
             routes:\n  - match: /bad/**\n    timeout: 4s"
        );
        let proxy = Setup::shop(&[origin.addr], &settings).start().await;
        for _ in 0..5 {
            proxy.get("/bad/one").await.is(500);
        }
        proxy.until_sum(STATE, &[], |sum| sum == state::OPEN).await;
        proxy.get("/bad/one").await.is_own(503, &["breaker_open"]);
        assert_eq!(proxy.get("/good").await.status, other, "{scope}");
    }
}

#[tokio::test]
async fn off_is_off() {
    let mood = Mood::start(500).await;
    let settings = "retry: off\neject: off\nbreaker: off";
    let proxy = Setup::shop(&[mood.origin.addr], settings).start().await;
    calls(&proxy, 50, 500).await;
    assert_eq!(mood.origin.requests(), 50);
}
