//! The skins of the deadline room.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower::Layer;
use tower::Service;

use crate::clock;
use crate::http::Call;
use crate::http::Fault;
use crate::http::Outcome;
use crate::http::Reason;
use crate::http::RequestBody;
use crate::http::Trail;
use crate::policy::deadline::Settings;
use crate::policy::deadline::machine;
use crate::policy::deadline::metrics::Metrics;
use crate::policy::deadline::metrics::Scope;

/// Fixes the deadline of a call.
#[derive(Clone, Debug)]
pub struct DeadlineLayer {
    settings: Settings,
}

impl DeadlineLayer {
    /// Ends calls after `settings.total`.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadline<S>;

    fn layer(&self, inner: S) -> Deadline<S> {
        Deadline {
            inner,
            total: self.settings.total,
        }
    }
}

/// See [`DeadlineLayer`].
#[derive(Clone, Debug)]
pub struct Deadline<S> {
    inner: S,
    total: Duration,
}

impl<S: Service<Call>> Service<Call> for Deadline<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> S::Future {
        call.trail
            .deadline
            .set(Some(call.trail.started + self.total));
        self.inner.call(call)
    }
}

/// Bounds one try.
#[derive(Clone, Debug)]
pub struct TryLayer {
    settings: Settings,
    metrics: Arc<Metrics>,
}

impl TryLayer {
    /// Gives each try its share of the time.
    #[must_use]
    pub fn new(settings: Settings, metrics: Arc<Metrics>) -> Self {
        Self { settings, metrics }
    }
}

impl<S> Layer<S> for TryLayer {
    type Service = TryTimeout<S>;

    fn layer(&self, inner: S) -> TryTimeout<S> {
        TryTimeout {
            inner,
            policy: Rc::new(self.clone()),
        }
    }
}

/// See [`TryLayer`].
#[derive(Clone, Debug)]
pub struct TryTimeout<S> {
    inner: S,
    policy: Rc<TryLayer>,
}

impl<S> Service<Call> for TryTimeout<S>
where
    S: Service<Call, Response = http::Response<crate::http::ResponseBody>, Error = Fault>,
{
    type Response = S::Response;
    type Error = Fault;
    type Future = TryFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let now = call.trail.now();
        let remaining = call
            .trail
            .remaining(now)
            .unwrap_or(self.policy.settings.total);
        let limit = machine::try_limit(
            &self.policy.settings,
            remaining,
            call.trail.tries_left.get(),
        );
        let upload = match &call.body {
            RequestBody::Empty => None,
            streamed @ RequestBody::Stream(_) => Some(streamed.rewind()),
        };
        TryFuture {
            trail: Rc::clone(&call.trail),
            upload,
            policy: Rc::clone(&self.policy),
            limit,
            is_last_word: limit >= remaining,
            timer: tokio::time::sleep_until((now + limit).into()),
            inner: self.inner.call(call),
        }
    }
}

pin_project! {
    /// One try with a timer beside it.
    pub struct TryFuture<F> {
        #[pin]
        inner: F,
        #[pin]
        timer: Sleep,
        trail: Rc<Trail>,
        upload: Option<RequestBody>,
        policy: Rc<TryLayer>,
        limit: Duration,
        is_last_word: bool,
    }
}

impl<F: Future<Output = Outcome>> Future for TryFuture<F> {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let mut this = self.project();
        if let Poll::Ready(outcome) = this.inner.poll(cx) {
            return Poll::Ready(outcome);
        }
        loop {
            if this.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let upload = upload_state(this.upload.as_ref());
            match machine::on_elapsed(&this.policy.settings, upload, *this.limit, clock::now()) {
                machine::Elapsed::Wait { until } => this.timer.as_mut().reset(until.into()),
                machine::Elapsed::ClientStalled => {
                    this.trail.client_fault.set(Some(Reason::BodyTimeout));
                    return Poll::Ready(Err(Fault::maybe_sent(Reason::BodyTimeout)));
                }
                machine::Elapsed::Late => {
                    let (reason, scope) = if *this.is_last_word {
                        (Reason::Deadline, Scope::Call)
                    } else {
                        (Reason::TryTimeout, Scope::Try)
                    };
                    this.policy.metrics.expired(scope);
                    this.trail.stamp(clock::now());
                    if this.trail.waits_for_connection.take() {
                        // Our own bound, not the upstream's slowness: nothing was sent and nobody is to blame.
                        return Poll::Ready(Err(Fault::unsent(Reason::PoolTimeout)));
                    }
                    return Poll::Ready(Err(Fault::maybe_sent(reason)));
                }
            }
        }
    }
}

fn upload_state(upload: Option<&RequestBody>) -> machine::Upload {
    let Some((body, progress)) = upload.and_then(|body| Some((body, body.progress()?))) else {
        return machine::Upload::None;
    };
    if body.finished() {
        machine::Upload::Done { at: progress }
    } else {
        machine::Upload::Running {
            progress,
            starved: body.starved(),
        }
    }
}
