//! The skin of the fault room: clock, draw, timer, and the body that is held back.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;
use std::time::Instant;

use bytes::Buf as _;
use bytes::Bytes;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use parking_lot::Mutex;
use pin_project_lite::pin_project;
use serde_json::Value;
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::Sleep;
use tower::Layer;
use tower::Service;

use crate::clock;
use crate::http::Call;
use crate::http::Fault;
use crate::http::Health;
use crate::http::LocalFuture;
use crate::http::Outcome;
use crate::http::Reason;
use crate::http::ResponseBody;
use crate::http::Trail;
use crate::http::note::Note;
use crate::kit::mode::Mode;
use crate::policy::fault::Settings;
use crate::policy::fault::machine;
use crate::policy::fault::machine::End;
use crate::policy::fault::machine::Machine;
use crate::policy::fault::machine::Plan;
use crate::policy::fault::machine::State;
use crate::policy::fault::machine::Transition;
use crate::policy::fault::metrics::Metrics;
use crate::rng;

/// The faults of one route, shared by all workers and carried over a reload that does not change their block.
#[derive(Debug)]
pub struct Injection {
    upstream: String,
    route: String,
    settings: Settings,
    plan: Plan,
    machine: Mutex<Machine>,
    // Says the same as the machine, for what waits and need not ask it.
    running: AtomicBool,
    stopped: Notify,
    metrics: Metrics,
}

impl Injection {
    /// Running, if its time has not passed. The names are those of the policy.
    #[must_use]
    pub fn new(upstream: &str, route: &str, settings: Settings, metrics: Metrics) -> Arc<Self> {
        let (now, unix) = (clock::now(), clock::unix());
        let machine = Machine::new(&settings, now, unix);
        let running = machine.state(now, unix) == State::Running;
        metrics.set_active(running);
        Arc::new(Self {
            upstream: upstream.to_owned(),
            route: route.to_owned(),
            plan: Plan::of(&settings),
            settings,
            machine: Mutex::new(machine),
            running: AtomicBool::new(running),
            stopped: Notify::new(),
            metrics,
        })
    }

    /// The upstream's name in the policy.
    #[must_use]
    pub fn upstream(&self) -> &str {
        &self.upstream
    }

    /// The route's name in the policy.
    #[must_use]
    pub fn route(&self) -> &str {
        &self.route
    }

    /// What it was built from.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.machine.lock().state(clock::now(), clock::unix())
    }

    /// Ends it at once, for calls that are waiting or being held back too. Gives the state before.
    pub fn stop(&self) -> State {
        let mut machine = self.machine.lock();
        let before = machine.state(clock::now(), clock::unix());
        let transition = machine.stop();
        drop(machine);
        self.tell(transition);
        before
    }

    /// Lets one that was stopped go on until its end. Gives the state before.
    pub fn resume(&self) -> State {
        let (now, unix) = (clock::now(), clock::unix());
        let mut machine = self.machine.lock();
        let before = machine.state(now, unix);
        let transition = machine.resume(now, unix);
        drop(machine);
        self.tell(transition);
        before
    }

    /// The policy has it no more: it ends at once, without being counted as stopped.
    pub fn retire(&self) {
        // A reload tells of itself.
        let _ = self.machine.lock().stop();
        self.running.store(false, Ordering::Release);
        self.stopped.notify_waiters();
        self.metrics.set_active(false);
    }

    /// Brings the gauge up to date: time passes without telling anybody.
    pub fn refresh(&self) {
        self.metrics.set_active(self.state() == State::Running);
    }

    /// What it does and where it stands, for a person.
    #[must_use]
    pub fn describe(&self) -> Value {
        let (now, unix) = (clock::now(), clock::unix());
        let machine = self.machine.lock();
        let (calls, failures) = machine.counts(now);
        let settings = &self.settings;
        let until = i64::try_from(settings.until.as_secs()).ok();
        let until = until.and_then(|second| jiff::Timestamp::from_second(second).ok());
        json!({
            "upstream": self.upstream,
            "route": self.route,
            "state": machine.state(now, unix).word(),
            "mode": settings.mode.word(),
            "does": self.plan.word(),
            "share": settings.share,
            "until": until.map(|until| until.to_string()),
            "delay_ms": settings.delay.map(|delay| delay.as_millis() as u64),
            "abort": settings.abort.map(|code| code.http),
            "reset": settings.reset,
            "bandwidth": settings.bandwidth,
            "stop_when_errors_above": settings.stop_when,
            "judged": calls,
            "errors": failures,
        })
    }

    fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire)
    }

    // Whether the call is met, and whether its outcome matters.
    fn admit(&self, trail: &Trail) -> (bool, bool) {
        let mut machine = self.machine.lock();
        let (met, transition) = machine.admit(trail.now(), trail.began, rng::draw());
        let watched = machine.watches();
        drop(machine);
        self.tell(transition);
        (met, watched)
    }

    fn settle(&self, failed: bool, now: Instant) {
        let transition = self.machine.lock().settle(failed, now);
        self.tell(transition);
    }

    fn tell(&self, transition: Option<Transition>) {
        let Some(transition) = transition else { return };
        let running = transition.to == State::Running;
        self.running.store(running, Ordering::Release);
        if !running {
            self.stopped.notify_waiters();
        }
        self.metrics.set_active(running);
        self.metrics.ended(transition.cause);
        tracing::warn!(
            upstream = %self.upstream,
            route = %self.route,
            to = transition.to.word(),
            cause = transition.cause.word(),
            errors = transition.failures,
            calls = transition.calls,
            "fault injection"
        );
    }

    // Waits for the delay, or until there is none any more.
    async fn delay(&self, delay: Duration) {
        let mut stopped = std::pin::pin!(self.stopped.notified());
        // From here on no stop is missed; one that came before is seen below.
        stopped.as_mut().enable();
        if self.is_running() {
            tokio::select! {
                () = stopped => {}
                () = tokio::time::sleep(delay) => {}
            }
        }
    }
}

/// Injects faults into a service; `None` leaves it as it is.
#[derive(Clone, Debug)]
pub struct FaultLayer {
    injection: Option<Arc<Injection>>,
}

impl FaultLayer {
    /// Does to calls what `injection` says.
    #[must_use]
    pub fn new(injection: Option<Arc<Injection>>) -> Self {
        Self { injection }
    }
}

impl<S> Layer<S> for FaultLayer {
    type Service = Inject<S>;

    fn layer(&self, inner: S) -> Inject<S> {
        Inject {
            inner,
            injection: self.injection.clone(),
        }
    }
}

/// See [`FaultLayer`].
#[derive(Clone, Debug)]
pub struct Inject<S> {
    inner: S,
    injection: Option<Arc<Injection>>,
}

impl<S> Service<Call> for Inject<S>
where
    S: Service<Call, Response = http::Response<ResponseBody>, Error = Fault> + Clone + 'static,
{
    type Response = S::Response;
    type Error = Fault;
    type Future = FaultFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let Some(injection) = &self.injection else {
            return FaultFuture::passed(self.inner.call(call), None);
        };
        let (met, watched) = injection.admit(&call.trail);
        let watched = watched.then(|| Arc::clone(injection));
        if !met {
            return FaultFuture::passed(self.inner.call(call), watched);
        }
        let is_shadow = injection.settings.mode == Mode::Shadow;
        injection.metrics.met(&injection.plan, is_shadow);
        if is_shadow {
            return FaultFuture::passed(self.inner.call(call), watched);
        }
        let what = injection.plan.word();
        call.trail.injected.set(Some(what));
        call.trail.note(Note::Fault { what });
        let injected = inject(self.inner.clone(), Arc::clone(injection), call);
        FaultFuture::Met {
            injected: Box::pin(injected),
        }
    }
}

async fn inject<S>(mut inner: S, injection: Arc<Injection>, call: Call) -> Outcome
where
    S: Service<Call, Response = http::Response<ResponseBody>, Error = Fault>,
{
    let plan = injection.plan;
    if let Some(delay) = plan.delay {
        injection.delay(delay).await;
        call.trail.stamp(clock::now());
    }
    let fault = || Fault::unsent(Reason::FaultInjected);
    match plan.end {
        // Stopped while it waited: the rest is not done to it any more.
        _ if !injection.is_running() => {}
        End::Call => {}
        End::Abort => {
            return Err(match injection.settings.abort {
                Some(code) => fault().coded(code),
                None => fault(),
            });
        }
        End::Reset => {
            call.trail.reset_client.set(true);
            return Err(fault());
        }
    }
    let mut outcome = inner.call(call).await;
    judge(&injection, &mut outcome);
    if let (Some(rate), Ok(response)) = (plan.bandwidth, &mut outcome)
        // A connection that changes its protocol has no body.
        && response.status() != http::StatusCode::SWITCHING_PROTOCOLS
        && !response.body().is_end_stream()
    {
        let body = std::mem::replace(response.body_mut(), ResponseBody::empty());
        *response.body_mut() = ResponseBody::driven(HeldBack::new(body, rate, injection));
    }
    outcome
}

/// Tells the guard of a call that was not failed on purpose. A failure is what the client sees as one: 5xx, a failing gRPC
/// status, or an answer of outrider's own with 5xx. What the client did itself, and calls it left, say nothing.
fn judge(injection: &Arc<Injection>, outcome: &mut Outcome) {
    let failed = match (Health::of(outcome), &*outcome) {
        (Some(Health::Good), _) => Some(false),
        (Some(Health::Bad), _) => Some(true),
        (Some(Health::Neutral), Err(fault)) => (fault.status() >= 500).then_some(true),
        (Some(Health::Neutral), Ok(_)) | (None, _) => None,
    };
    if let Some(failed) = failed {
        injection.settle(failed, clock::now());
    } else if let Ok(response) = outcome {
        // The verdict of a gRPC call comes with its trailers (docs/adr/0002).
        let injection = Arc::clone(injection);
        response
            .body_mut()
            .on_end(move |ended| match Health::of_end(ended) {
                Health::Good => injection.settle(false, clock::now()),
                Health::Bad => injection.settle(true, clock::now()),
                Health::Neutral => {}
            });
    }
}

pin_project! {
    /// A call that passes, perhaps looked at, or one that is met.
    #[project = FaultProj]
    pub enum FaultFuture<F> {
        /// It passes.
        Passed {
            #[pin]
            inner: F,
            watched: Option<Arc<Injection>>,
        },
        /// It is met.
        Met { injected: LocalFuture<Outcome> },
    }
}

impl<F> FaultFuture<F> {
    fn passed(inner: F, watched: Option<Arc<Injection>>) -> Self {
        Self::Passed { inner, watched }
    }
}

impl<F: Future<Output = Outcome>> Future for FaultFuture<F> {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        match self.project() {
            FaultProj::Passed { inner, watched } => {
                let mut outcome = ready!(inner.poll(cx));
                if let Some(injection) = watched.take() {
                    judge(&injection, &mut outcome);
                }
                Poll::Ready(outcome)
            }
            FaultProj::Met { injected } => injected.as_mut().poll(cx),
        }
    }
}

/// A response body that flows at a rate. Trailers pass at once, and all of it does when the fault is stopped.
struct HeldBack {
    body: ResponseBody,
    ahead: Bytes,
    rate: u64,
    // The next part may go then.
    free: Pin<Box<Sleep>>,
    injection: Arc<Injection>,
}

impl HeldBack {
    fn new(body: ResponseBody, rate: u64, injection: Arc<Injection>) -> Self {
        Self {
            body,
            ahead: Bytes::new(),
            rate,
            free: Box::pin(tokio::time::sleep(Duration::ZERO)),
            injection,
        }
    }
}

impl Body for HeldBack {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = self.get_mut();
        if !this.ahead.has_remaining() {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => this.ahead = bytes,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                other => return Poll::Ready(other),
            }
        }
        if !this.injection.is_running() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut this.ahead)))));
        }
        ready!(this.free.as_mut().poll(cx));
        let part = this.ahead.len().min(machine::part(this.rate));
        let part = this.ahead.split_to(part);
        let pause = machine::pause(part.len(), this.rate);
        this.free.as_mut().reset((clock::now() + pause).into());
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.body.size_hint();
        match rest.exact() {
            Some(exact) => SizeHint::with_exact(exact + self.ahead.len() as u64),
            None => SizeHint::default(),
        }
    }
}
