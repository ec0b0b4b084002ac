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
use crate::http::ResponseBody;
use crate::http::Trail;
use crate::http::hops;
use crate::http::hops::Said;
use crate::http::note::Note;
use crate::kit::mode::Mode;
use crate::policy::deadline::Settings;
use crate::policy::deadline::machine;
use crate::policy::deadline::metrics::Metrics;
use crate::policy::deadline::metrics::Scope;

/// Fixes the deadline of a call.
#[derive(Clone, Debug)]
pub struct DeadlineLayer {
    settings: Settings,
    metrics: Arc<Metrics>,
}

impl DeadlineLayer {
    /// Ends calls after `settings.total`, or sooner where a trusted caller waits for less.
    #[must_use]
    pub fn new(settings: Settings, metrics: Arc<Metrics>) -> Self {
        Self { settings, metrics }
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadline<S>;

    fn layer(&self, inner: S) -> Deadline<S> {
        Deadline {
            inner,
            policy: Rc::new(self.clone()),
        }
    }
}

/// See [`DeadlineLayer`].
#[derive(Clone, Debug)]
pub struct Deadline<S> {
    inner: S,
    policy: Rc<DeadlineLayer>,
}

impl<S> Service<Call> for Deadline<S>
where
    S: Service<Call, Response = http::Response<ResponseBody>, Error = Fault>,
{
    type Response = S::Response;
    type Error = Fault;
    type Future = BegunFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        let policy = &*self.policy;
        let trail = Rc::clone(&call.trail);
        let left = policy.ask_caller(&mut call);
        let total = machine::total(&policy.settings, left);
        trail.deadline.set(Some(trail.started + total));
        let from_caller = total < policy.settings.total;
        trail.note(Note::Deadline { total, from_caller });
        // Waiting in the rooms outside counts.
        let remaining = trail.remaining(trail.now()).unwrap_or(total);
        if machine::is_hopeless(remaining) {
            policy.metrics.refused(Mode::Enforce);
            return BegunFuture::Refused;
        }
        BegunFuture::Begun {
            inner: self.inner.call(call),
        }
    }
}

impl DeadlineLayer {
    /// How long the caller still waits, where that counts. Notes on the trail what other rooms want to know of it.
    fn ask_caller(&self, call: &mut Call) -> Option<Duration> {
        let trail = &call.trail;
        let terms = trail.terms.get();
        let said = hops::read(&mut call.head.headers, terms, trail.began);
        if said == Said::default() {
            return None;
        }
        self.metrics.ignored(&said);
        trail.attempt.set(said.attempt);
        let mode = terms.deadline?;
        if said.left.is_some_and(|left| left < self.settings.total) {
            self.metrics.shortened(mode);
        }
        if !mode.enforces() {
            if said.left.is_some_and(machine::is_hopeless) {
                self.metrics.refused(mode);
            }
            return None;
        }
        let ends = said.grpc_left.map(|left| trail.started.checked_add(left));
        trail.grpc_ends.set(ends.flatten());
        said.left
    }
}

pin_project! {
    /// A call that was refused for want of time, or is on its way.
    #[project = BegunProj]
    pub enum BegunFuture<F> {
        Refused,
        Begun { #[pin] inner: F },
    }
}

impl<F: Future<Output = Outcome>> Future for BegunFuture<F> {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        match self.project() {
            BegunProj::Refused => Poll::Ready(Err(Fault::unsent(Reason::Deadline))),
            BegunProj::Begun { inner } => inner.poll(cx),
        }
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
    S: Service<Call, Response = http::Response<ResponseBody>, Error = Fault>,
{
    type Response = S::Response;
    type Error = Fault;
    type Future = BegunFuture<TryFuture<S::Future>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        let settings = &self.policy.settings;
        let trail = &call.trail;
        let (now, tries_left) = (trail.now(), trail.tries_left.get());
        let remaining = trail.remaining(now).unwrap_or(settings.total);
        if machine::is_hopeless(remaining) {
            self.policy.metrics.refused(Mode::Enforce);
            return BegunFuture::Refused;
        }
        let limit = machine::try_limit(settings, remaining, tries_left);
        let own = (trail.started + settings.total).saturating_duration_since(now);
        let is_hurried = machine::is_hurried(settings, limit, own, tries_left);
        if trail.terms.get().deadline_holds() {
            let ends = trail.grpc_ends.get();
            let grpc_left = ends.map(|ends| ends.saturating_duration_since(now));
            hops::send_deadline(&mut call.head.headers, limit, grpc_left);
        }
        let upload = match &call.body {
            RequestBody::Empty => None,
            streamed @ RequestBody::Stream(_) => Some(streamed.rewind()),
        };
        let trying = TryFuture {
            trail: Rc::clone(&call.trail),
            upload,
            policy: Rc::clone(&self.policy),
            limit,
            is_last_word: limit >= remaining,
            is_hurried,
            timer: tokio::time::sleep_until((now + limit).into()),
            inner: self.inner.call(call),
        };
        BegunFuture::Begun { inner: trying }
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
        is_hurried: bool,
    }
}

impl<F: Future<Output = Outcome>> Future for TryFuture<F> {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let mut this = self.project();
        if let Poll::Ready(mut outcome) = this.inner.poll(cx) {
            // It was told how little time it has, and may have answered that this was too little.
            if *this.is_hurried
                && let Ok(response) = &mut outcome
            {
                response.body_mut().hurry();
            }
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
                    let mut fault = Fault::maybe_sent(reason);
                    fault.hurried = *this.is_hurried;
                    return Poll::Ready(Err(fault));
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
