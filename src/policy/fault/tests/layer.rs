//! The layer around a scripted inside, under a stopped clock.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;
use http::Response;
use http_body::Frame;
use http_body_util::BodyExt as _;
use tower::Layer as _;
use tower::Service;

use super::*;
use crate::clock;
use crate::http::Call;
use crate::http::Fault;
use crate::http::LocalFuture;
use crate::http::Outcome;
use crate::http::Reason;
use crate::http::RequestBody;
use crate::http::ResponseBody;
use crate::http::Trail;
use crate::kit::mode::Mode;
use crate::policy::fault::FaultLayer;
use crate::policy::fault::Injection;
use crate::policy::fault::metrics::Metrics;
use crate::telemetry::BuildInfo;
use crate::telemetry::Telemetry;

/// What the layer stands around: counts calls and answers as told.
#[derive(Clone)]
struct Inner {
    calls: Rc<Cell<u32>>,
    status: u16,
    body: Bytes,
}

impl Inner {
    fn answering(status: u16) -> Self {
        Self {
            calls: Rc::default(),
            status,
            body: Bytes::new(),
        }
    }
}

impl Service<Call> for Inner {
    type Response = Response<ResponseBody>;
    type Error = Fault;
    type Future = LocalFuture<Outcome>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Call) -> Self::Future {
        self.calls.set(self.calls.get() + 1);
        let (status, body) = (self.status, self.body.clone());
        Box::pin(async move {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-end", HeaderValue::from_static("1"));
            let frames = [Frame::data(body.clone()), Frame::trailers(trailers)];
            let frames = frames.map(Ok);
            let mut response = Response::new(if body.is_empty() {
                ResponseBody::empty()
            } else {
                ResponseBody::driven(http_body_util::StreamBody::new(futures_util::stream::iter(
                    frames,
                )))
            });
            *response.status_mut() = http::StatusCode::from_u16(status).expect("a status");
            Ok(response)
        })
    }
}

fn telemetry() -> Arc<Telemetry> {
    let build = BuildInfo {
        version: "",
        commit: "",
    };
    Telemetry::new(build, 1)
}

fn injection(telemetry: &Telemetry, change: impl FnOnce(&mut Settings)) -> Arc<Injection> {
    let settings = with(|s| {
        (s.share, s.until) = (1.0, clock::unix() + HOUR);
        change(s);
    });
    let metrics = Metrics::new(telemetry, "u", "*");
    Injection::new("u", "*", settings, metrics)
}

fn call() -> Call {
    let request = http::Request::builder().body(()).expect("a request");
    Call {
        head: Box::new(request.into_parts().0),
        body: RequestBody::Empty,
        trail: Rc::new(Trail::new(clock::now())),
    }
}

async fn through(injection: &Arc<Injection>, inner: &Inner) -> (Outcome, Rc<Trail>) {
    let call = call();
    let trail = Rc::clone(&call.trail);
    let mut service = FaultLayer::new(Some(Arc::clone(injection))).layer(inner.clone());
    (service.call(call).await, trail)
}

fn counted(telemetry: &Telemetry, line: &str) -> bool {
    telemetry.encode().contains(&format!("{line}\n"))
}

#[tokio::test(start_paused = true)]
async fn a_delay_is_waited_and_then_the_call_is_made() {
    let telemetry = telemetry();
    let injection = injection(&telemetry, |s| s.delay = Some(Duration::from_millis(250)));
    let inner = Inner::answering(200);
    let began = clock::now();
    let (outcome, trail) = through(&injection, &inner).await;
    assert_eq!(clock::now() - began, Duration::from_millis(250));
    assert_eq!(
        outcome.map(|response| response.status().as_u16()).ok(),
        Some(200)
    );
    assert_eq!(trail.injected.get(), Some("delay"));
    assert_eq!(
        trail.now(),
        clock::now(),
        "the rooms inside see the time it is"
    );
    assert!(counted(
        &telemetry,
        r#"outrider_faults_injected_total{upstream="u",route="*",kind="delay"} 1"#
    ));
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_a_delay_at_once_and_what_would_follow() {
    let telemetry = telemetry();
    let injection = injection(&telemetry, |s| {
        (s.delay, s.abort) = (Some(HOUR), Some(UNAVAILABLE));
    });
    let inner = Inner::answering(200);
    let began = clock::now();
    let stop = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(injection.stop(), State::Running);
    };
    let ((outcome, _), ()) = tokio::join!(through(&injection, &inner), stop);
    assert_eq!(clock::now() - began, Duration::from_secs(1));
    assert!(outcome.is_ok(), "it is made, not answered");
    assert_eq!(inner.calls.get(), 1);
    assert_eq!(through(&injection, &inner).await.1.injected.get(), None);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_left_during_its_delay_is_never_made() {
    let injection = injection(&telemetry(), |s| s.delay = Some(HOUR));
    let inner = Inner::answering(200);
    let left = tokio::time::timeout(Duration::from_secs(1), through(&injection, &inner));
    assert!(left.await.is_err());
    tokio::time::sleep(2 * HOUR).await;
    assert_eq!(inner.calls.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn abort_and_reset_never_reach_the_inside() {
    let inner = Inner::answering(200);
    let aborting = injection(&telemetry(), |s| s.abort = Some(UNAVAILABLE));
    let (outcome, trail) = through(&aborting, &inner).await;
    let fault = outcome.err().expect("aborted");
    assert_eq!((fault.reason, fault.status()), (Reason::FaultInjected, 503));
    assert!(!trail.reset_client.get());
    let resetting = injection(&telemetry(), |s| s.reset = true);
    let (outcome, trail) = through(&resetting, &inner).await;
    assert_eq!(
        outcome.err().map(|fault| fault.reason),
        Some(Reason::FaultInjected)
    );
    assert!(trail.reset_client.get());
    assert_eq!(inner.calls.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn bandwidth_holds_the_body_back_and_passes_trailers() {
    let injection = injection(&telemetry(), |s| s.bandwidth = Some(1024));
    let inner = Inner {
        body: vec![7; 4096].into(),
        ..Inner::answering(200)
    };
    let (outcome, _) = through(&injection, &inner).await;
    let began = clock::now();
    let body = outcome.expect("made").into_body();
    let body = body.collect().await.expect("whole");
    let took = (clock::now() - began).as_secs_f64();
    assert!(
        (3.8..4.3).contains(&took),
        "4 KiB at 1 KiB a second: {took}"
    );
    assert!(body.trailers().is_some());
    assert_eq!(body.to_bytes().len(), 4096);
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_a_body_go() {
    let injection = injection(&telemetry(), |s| s.bandwidth = Some(1024));
    let inner = Inner {
        body: vec![7; 1 << 20].into(),
        ..Inner::answering(200)
    };
    let (outcome, _) = through(&injection, &inner).await;
    let mut body = outcome.expect("made").into_body();
    body.frame().await.expect("a frame").expect("whole");
    injection.stop();
    let began = clock::now();
    body.collect().await.expect("whole");
    assert!(clock::now() - began <= Duration::from_millis(101));
}

#[tokio::test(start_paused = true)]
async fn shadow_counts_and_does_nothing() {
    let telemetry = telemetry();
    let injection = injection(&telemetry, |s| {
        (s.mode, s.delay, s.abort) = (Mode::Shadow, Some(HOUR), Some(UNAVAILABLE));
    });
    let inner = Inner::answering(200);
    let began = clock::now();
    let (outcome, trail) = through(&injection, &inner).await;
    assert!(outcome.is_ok() && trail.injected.get().is_none());
    assert_eq!(clock::now(), began);
    for (family, count) in [("shadow_faults", 1), ("faults_injected", 0)] {
        let labels = r#"upstream="u",route="*",kind="abort""#;
        assert!(counted(
            &telemetry,
            &format!("outrider_{family}_total{{{labels}}} {count}")
        ));
    }
}

#[tokio::test(start_paused = true)]
async fn the_guard_judges_what_was_not_injected() {
    let telemetry = telemetry();
    let aborting = injection(&telemetry, |s| s.abort = Some(UNAVAILABLE));
    let inner = Inner::answering(500);
    for _ in 0..100 {
        let _ = through(&aborting, &inner).await;
    }
    assert_eq!(
        aborting.state(),
        State::Running,
        "its own failures are none"
    );
    let delaying = injection(&telemetry, |s| s.delay = Some(Duration::from_millis(1)));
    for _ in 0..19 {
        let _ = through(&delaying, &inner).await;
    }
    assert_eq!(delaying.state(), State::Running);
    let _ = through(&delaying, &inner).await;
    assert_eq!(delaying.state(), State::Stopped);
    let labels = r#"upstream="u",route="*",cause="guard""#;
    assert!(counted(
        &telemetry,
        &format!("outrider_faults_stopped_total{{{labels}}} 1")
    ));
}

#[tokio::test(start_paused = true)]
async fn off_is_not_there() {
    let inner = Inner::answering(200);
    let mut service = FaultLayer::new(None).layer(inner.clone());
    assert!(service.call(call()).await.is_ok());
    assert_eq!(inner.calls.get(), 1);
}
