//! The skins of the correlation room: clock, chance, and the trail.

use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use opentelemetry::trace::SpanId;
use opentelemetry::trace::TraceFlags;
use opentelemetry::trace::TraceId;
use pin_project_lite::pin_project;
use tower::Layer;
use tower::Service;

use crate::http::Call;
use crate::http::Fault;
use crate::http::Outcome;
use crate::http::ResponseBody;
use crate::http::TraceMark;
use crate::http::Trail;
use crate::http::note::End;
use crate::policy::correlation;
use crate::policy::correlation::Settings;
use crate::policy::correlation::machine::Origin;
use crate::policy::correlation::metrics;
use crate::policy::correlation::metrics::Metrics;
use crate::rng;

/// Gives a call its identity, and its response that identity back.
#[derive(Clone, Debug)]
pub struct CorrelationLayer {
    settings: Settings,
    metrics: Metrics,
}

impl CorrelationLayer {
    /// A layer that counts into `metrics`.
    #[must_use]
    pub fn new(settings: Settings, metrics: Metrics) -> Self {
        Self { settings, metrics }
    }
}

impl<S> Layer<S> for CorrelationLayer {
    type Service = Correlation<S>;

    fn layer(&self, inner: S) -> Correlation<S> {
        Correlation {
            inner,
            sample: self.settings.sample,
            metrics: Rc::new(self.metrics.clone()),
        }
    }
}

/// See [`CorrelationLayer`].
#[derive(Clone, Debug)]
pub struct Correlation<S> {
    inner: S,
    sample: f64,
    metrics: Rc<Metrics>,
}

impl<S> Service<Call> for Correlation<S>
where
    S: Service<Call, Response = http::Response<ResponseBody>, Error = Fault>,
{
    type Response = S::Response;
    type Error = Fault;
    type Future = CorrelationFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        // Milliseconds since 1970 fit in 64 bits for longer than there will be HTTP.
        let now = u64::try_from(call.trail.began.as_millis()).unwrap_or(u64::MAX);
        let draws = [rng::bits(), rng::bits(), rng::bits(), rng::bits()];
        let ids = correlation::apply(&mut call.head.headers, now, draws, self.sample);
        self.metrics.request_id(ids.request_id_kept);
        self.metrics.trace(match ids.origin {
            Origin::W3c => metrics::Origin::W3c,
            Origin::B3 => metrics::Origin::B3,
            Origin::Begun => metrics::Origin::Begun,
        });
        call.trail.trace.set(Some(TraceMark {
            trace_id: ids.trace_id.to_bytes(),
            span: number(ids.span),
            parent: ids.parent.map(number),
            flags: ids.flags.to_u8(),
        }));
        *call.trail.request_id.borrow_mut() = Some(ids.request_id);
        CorrelationFuture {
            trail: Rc::clone(&call.trail),
            inner: self.inner.call(call),
        }
    }
}

fn number(span: SpanId) -> u64 {
    u64::from_be_bytes(span.to_bytes())
}

pin_project! {
    /// A call on its way, and the trail that has the identifier for its response.
    pub struct CorrelationFuture<F> {
        #[pin]
        inner: F,
        trail: Rc<Trail>,
    }
}

impl<F: Future<Output = Outcome>> Future for CorrelationFuture<F> {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let this = self.project();
        let mut outcome = ready!(this.inner.poll(cx));
        if let (Ok(response), Some(id)) = (&mut outcome, &*this.trail.request_id.borrow()) {
            correlation::stamp_response(response.headers_mut(), id);
        }
        Poll::Ready(outcome)
    }
}

/// Makes each try a span of its own: the same trace, a new `traceparent`.
#[derive(Clone, Copy, Debug, Default)]
pub struct TryLayer;

impl TryLayer {
    /// The one there is.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

impl<S> Layer<S> for TryLayer {
    type Service = TrySpan<S>;

    fn layer(&self, inner: S) -> TrySpan<S> {
        TrySpan { inner }
    }
}

/// See [`TryLayer`].
#[derive(Clone, Debug)]
pub struct TrySpan<S> {
    inner: S,
}

impl<S> Service<Call> for TrySpan<S>
where
    S: Service<Call, Response = http::Response<ResponseBody>, Error = Fault>,
{
    type Response = S::Response;
    type Error = Fault;
    type Future = TryFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        let mut span = 0;
        if let Some(mark) = call.trail.trace.get() {
            let trace_id = TraceId::from_bytes(mark.trace_id);
            let flags = TraceFlags::new(mark.flags);
            let headers = &mut call.head.headers;
            span = number(correlation::stamp_try(
                headers,
                trace_id,
                flags,
                rng::bits(),
            ));
        }
        TryFuture {
            place: call.trail.note_try(span),
            trail: Rc::clone(&call.trail),
            inner: self.inner.call(call),
        }
    }
}

pin_project! {
    /// A try on its way, and the place of its note.
    pub struct TryFuture<F> {
        #[pin]
        inner: F,
        trail: Rc<Trail>,
        place: Option<usize>,
    }
}

impl<F: Future<Output = Outcome>> Future for TryFuture<F> {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let this = self.project();
        let outcome = ready!(this.inner.poll(cx));
        this.trail.end_try(*this.place, End::of(&outcome));
        Poll::Ready(outcome)
    }
}
