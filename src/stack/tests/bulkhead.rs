//! The skin of the bulkhead, under a stopped clock.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::poll;
use http_body::Body;
use http_body::Frame;
use http_body_util::BodyExt;
use tower::Layer;
use tower::Service;

use super::telemetry;
use crate::clock;
use crate::http::Call;
use crate::http::Fault;
use crate::http::LocalFuture;
use crate::http::Reason;
use crate::http::RequestBody;
use crate::http::ResponseBody;
use crate::http::Trail;
use crate::kit::mode::Mode;
use crate::policy::bulkhead::Bounded;
use crate::policy::bulkhead::Bulkhead;
use crate::policy::bulkhead::BulkheadLayer;
use crate::policy::bulkhead::Settings;
use crate::policy::bulkhead::metrics::Metrics;
use crate::telemetry::Telemetry;

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn settings(max: u32, queue: u32, wait: u64) -> Settings {
    Settings {
        max,
        queue,
        wait: millis(wait),
        ..Settings::default()
    }
}

/// An upstream that answers with a head when told, and with a body that ends when told.
#[derive(Clone, Default)]
struct Upstream {
    answers: Rc<Cell<bool>>,
    ends: Rc<Cell<bool>>,
    asked: Rc<Cell<usize>>,
}

struct Streaming(Rc<Cell<bool>>);

impl Body for Streaming {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if self.0.get() {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    }
}

impl Service<Call> for Upstream {
    type Response = http::Response<ResponseBody>;
    type Error = Fault;
    type Future = LocalFuture<Result<Self::Response, Fault>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Call) -> Self::Future {
        let upstream = self.clone();
        upstream.asked.set(upstream.asked.get() + 1);
        Box::pin(async move {
            let answers = |_: &mut Context<'_>| {
                if upstream.answers.get() {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            };
            poll_fn(answers).await;
            let body = ResponseBody::driven(Streaming(upstream.ends));
            Ok(http::Response::new(body))
        })
    }
}

fn call(deadline: Option<Duration>) -> Call {
    let trail = Trail::new(clock::now());
    trail.deadline.set(deadline.map(|left| clock::now() + left));
    Call {
        head: Box::new(http::Request::new(()).into_parts().0),
        body: RequestBody::Empty,
        trail: Rc::new(trail),
    }
}

fn bulkhead(max: u32, queue: u32, wait: u64) -> (Arc<Bulkhead>, Arc<Telemetry>) {
    let telemetry = telemetry();
    let metrics = Metrics::new(&telemetry, "u", "*");
    (
        Bulkhead::new(settings(max, queue, wait), metrics),
        telemetry,
    )
}

type Begun = Pin<Box<<Bounded<Upstream> as Service<Call>>::Future>>;

/// Hands in a call; it goes no further than to the upstream or into the queue until it is polled.
fn begin(bulkhead: &Arc<Bulkhead>, upstream: &Upstream, call: Call) -> Begun {
    let layer = BulkheadLayer::new(Some((Arc::clone(bulkhead), Mode::Enforce)));
    Box::pin(layer.layer(upstream.clone()).call(call))
}

fn numbers(bulkhead: &Bulkhead) -> (u64, u64) {
    let shown = bulkhead.describe();
    let number = |key: &str| shown[key].as_u64().expect("a number");
    (number("in_flight"), number("queued"))
}

#[tokio::test(start_paused = true)]
async fn a_permit_is_held_until_the_body_has_ended() {
    let (bulkhead, _telemetry) = bulkhead(1, 1, 100);
    let upstream = Upstream::default();
    upstream.answers.set(true);
    let layer = BulkheadLayer::new(Some((Arc::clone(&bulkhead), Mode::Enforce)));
    let response = layer.layer(upstream.clone()).call(call(None)).await;
    let response = response.expect("an answer");
    let mut second = begin(&bulkhead, &upstream, call(None));
    assert_eq!(numbers(&bulkhead), (1, 1), "the head is not the end");
    upstream.ends.set(true);
    let collected = response.into_body().collect().await;
    assert!(collected.is_ok_and(|body| body.to_bytes().is_empty()));
    assert_eq!(numbers(&bulkhead), (1, 0), "handed over");
    let outcome = poll!(second.as_mut());
    assert!(matches!(outcome, Poll::Ready(Ok(_))));
    drop((outcome, second));
    assert_eq!(
        numbers(&bulkhead),
        (0, 0),
        "a body that is dropped ends too"
    );
}

#[tokio::test(start_paused = true)]
async fn a_waiter_dropped_after_it_was_chosen_hands_its_permit_on() {
    let (bulkhead, _telemetry) = bulkhead(1, 5, 100);
    let upstream = Upstream::default();
    let first = begin(&bulkhead, &upstream, call(None));
    let second = begin(&bulkhead, &upstream, call(None));
    let mut third = begin(&bulkhead, &upstream, call(None));
    assert_eq!((numbers(&bulkhead), upstream.asked.get()), ((1, 2), 1));
    drop(first);
    assert_eq!(numbers(&bulkhead), (1, 1), "the second was chosen");
    drop(second);
    assert_eq!(
        numbers(&bulkhead),
        (1, 0),
        "and goes without having been polled"
    );
    assert!(poll!(third.as_mut()).is_pending());
    assert_eq!(upstream.asked.get(), 2, "the third is on its way");
    drop(third);
    assert_eq!(numbers(&bulkhead), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_waiter_dropped_in_the_queue_leaves_it() {
    let (bulkhead, _telemetry) = bulkhead(1, 5, 100);
    let upstream = Upstream::default();
    let _first = begin(&bulkhead, &upstream, call(None));
    drop(begin(&bulkhead, &upstream, call(None)));
    assert_eq!(numbers(&bulkhead), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_full_bulkhead_refuses_at_once_and_says_when_to_come_back() {
    let (bulkhead, telemetry) = bulkhead(1, 0, 100);
    let upstream = Upstream::default();
    let _first = begin(&bulkhead, &upstream, call(None));
    let refused = begin(&bulkhead, &upstream, call(None));
    let fault = refused.await.err().expect("there is no room");
    assert_eq!(fault.reason, Reason::BulkheadFull);
    assert!(fault.retry_after.is_some());
    let shown = telemetry.encode();
    let counted = "outrider_bulkhead_rejected_total{upstream=\"u\",route=\"*\",why=\"full\"} 1";
    assert!(shown.contains(counted), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn a_wait_in_vain_ends_with_the_wait_or_the_deadline() {
    let (bulkhead, _telemetry) = bulkhead(1, 5, 100);
    let upstream = Upstream::default();
    let _first = begin(&bulkhead, &upstream, call(None));
    for (deadline, took) in [
        (None, 100),
        (Some(millis(30)), 30),
        (Some(millis(900)), 100),
    ] {
        let began = clock::now();
        let waiting = begin(&bulkhead, &upstream, call(deadline));
        let fault = waiting.await.err().expect("it waits in vain");
        assert_eq!(fault.reason, Reason::BulkheadTimeout);
        let waited = clock::now() - began;
        assert!(
            waited >= millis(took) && waited < millis(took + 5),
            "{waited:?} of {took}"
        );
    }
    assert_eq!(numbers(&bulkhead), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn shadow_lets_everyone_through_and_counts() {
    let (bulkhead, telemetry) = bulkhead(1, 1, 100);
    let upstream = Upstream::default();
    let mut service =
        BulkheadLayer::new(Some((Arc::clone(&bulkhead), Mode::Shadow))).layer(upstream.clone());
    let calls: Vec<_> = (0..4).map(|_| service.call(call(None))).collect();
    assert_eq!((upstream.asked.get(), numbers(&bulkhead)), (4, (4, 0)));
    drop(calls);
    assert_eq!(numbers(&bulkhead), (0, 0));
    let shown = telemetry.encode();
    let counted = "outrider_bulkhead_shadow_rejected_total{upstream=\"u\",route=\"*\"} 2";
    assert!(shown.contains(counted), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn a_reload_with_more_room_lets_waiters_in() {
    let (bulkhead, _telemetry) = bulkhead(1, 5, 100);
    let upstream = Upstream::default();
    let _first = begin(&bulkhead, &upstream, call(None));
    let mut second = begin(&bulkhead, &upstream, call(None));
    bulkhead.reconfigure(&settings(2, 5, 100));
    assert!(poll!(second.as_mut()).is_pending());
    assert_eq!((upstream.asked.get(), numbers(&bulkhead)), (2, (2, 0)));
}
