//! The skin of the hedge room: the timer, the copies under way, and what is told of them.

use std::future::poll_fn;
use std::pin::Pin;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use std::time::Instant;

use http::Method;
use http::header;
use parking_lot::Mutex;
use serde_json::Value;
use serde_json::json;
use tokio::time::Sleep;
use tower::Layer;
use tower::Service;

use crate::clock;
use crate::endpoint::Cluster;
use crate::http::Call;
use crate::http::Fault;
use crate::http::Health;
use crate::http::LocalFuture;
use crate::http::MethodClass;
use crate::http::Outcome;
use crate::http::Reason;
use crate::http::ResponseBody;
use crate::http::Trail;
use crate::http::note::Note;
use crate::kit::mode::Mode;
use crate::policy::hedge::Settings;
use crate::policy::hedge::machine;
use crate::policy::hedge::machine::Decision;
use crate::policy::hedge::machine::Ended;
use crate::policy::hedge::machine::Facts;
use crate::policy::hedge::machine::Machine;
use crate::policy::hedge::machine::Next;
use crate::policy::hedge::machine::Skip;
use crate::policy::hedge::machine::Upload;
use crate::policy::hedge::metrics::Fate;
use crate::policy::hedge::metrics::Metrics;

/// How much of a body is kept for a second copy where nobody else says how much: the built-in bound of retries.
const REPLAY: u64 = 64 * 1024;

/// The latency and the hedge budget of one route, shared by all workers and carried over a reload that does not change
/// its settings.
#[derive(Debug)]
pub struct Hedger {
    settings: Settings,
    machine: Mutex<Machine>,
    metrics: Metrics,
}

impl Hedger {
    /// Has measured nothing yet.
    #[must_use]
    pub fn new(settings: Settings, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            machine: Mutex::new(Machine::new(&settings)),
            settings,
            metrics,
        })
    }

    /// What it was built from.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Brings the gauges up to date: time alone moves them too.
    pub fn refresh(&self, now: Instant) {
        let (delay, left) = {
            let mut machine = self.machine.lock();
            (machine.delay(now), machine.budget_left(now))
        };
        self.metrics
            .set(delay.map_or(0.0, |delay| delay.as_secs_f64()), left);
    }

    /// The numbers it judges by, for a person.
    #[must_use]
    pub fn describe(&self, now: Instant) -> Value {
        let mut machine = self.machine.lock();
        let delay = machine.delay(now);
        json!({
            "after_ms": delay.map(|delay| delay.as_secs_f64() * 1e3),
            "samples": machine.samples(now),
            "budget_left": machine.budget_left(now),
        })
    }
}

/// What the layer needs to know of its route.
#[derive(Debug)]
struct Policy {
    hedger: Arc<Hedger>,
    mode: Mode,
    cluster: Arc<Cluster>,
}

impl Policy {
    /// A copy of `call` has been given `delay`; `None` if no other is to follow.
    fn judge(&self, call: &Call, delay: Duration, now: Instant) -> Decision {
        let upload = match call.body.progress() {
            None => Upload::None,
            Some(at) if call.body.finished() => Upload::Done { at },
            Some(_) => Upload::Running,
        };
        let facts = Facts {
            upload,
            replayable: call.body.replayable(),
            elsewhere: self.has_other(&call.trail, now),
            remaining: call.trail.remaining(now),
        };
        let decision = self.hedger.machine.lock().judge(&facts, delay, now);
        let after = delay;
        match decision {
            Decision::Skip(why) => {
                let fate = why.word();
                call.trail.note(Note::Hedge { fate, after });
                self.hedger.metrics.skipped(why);
            }
            Decision::Send if self.mode == Mode::Shadow => {
                let fate = Fate::Would.word();
                call.trail.note(Note::Hedge { fate, after });
                self.hedger.metrics.hedged(Fate::Would);
            }
            Decision::Send => {
                let fate = "sent";
                call.trail.note(Note::Hedge { fate, after });
            }
            Decision::Wait { .. } => {}
        }
        decision
    }

    fn has_other(&self, trail: &Trail, now: Instant) -> bool {
        let set = self.cluster.set();
        set.endpoints
            .iter()
            .any(|endpoint| endpoint.serves(now) && !trail.was_tried(endpoint.id))
    }

    /// No copy could go anywhere else, so there is nothing to wait for.
    fn is_alone(&self) -> bool {
        self.cluster.set().endpoints.len() < 2
    }
}

/// Sends slow calls a second time; `None` leaves them as they are.
#[derive(Clone, Debug)]
pub struct HedgeLayer {
    policy: Option<Rc<Policy>>,
}

impl HedgeLayer {
    /// `mode` is that of the route; `cluster` is where its calls go.
    #[must_use]
    pub fn new(hedger: Option<(Arc<Hedger>, Mode)>, cluster: Arc<Cluster>) -> Self {
        Self {
            policy: hedger.map(|(hedger, mode)| {
                Rc::new(Policy {
                    hedger,
                    mode,
                    cluster,
                })
            }),
        }
    }
}

impl<S> Layer<S> for HedgeLayer {
    type Service = Hedge<S>;

    fn layer(&self, inner: S) -> Hedge<S> {
        Hedge {
            inner,
            policy: self.policy.clone(),
        }
    }
}

/// See [`HedgeLayer`].
#[derive(Clone, Debug)]
pub struct Hedge<S> {
    inner: S,
    policy: Option<Rc<Policy>>,
}

/// What stands inside: it takes a call as it is, or one that is kept here as well, so that the head of a call that nobody
/// sends twice is not copied.
pub trait Sends:
    Service<
        Call,
        Response = http::Response<ResponseBody>,
        Error = Fault,
        Future = LocalFuture<Outcome>,
    > + Service<
        Rc<Call>,
        Response = http::Response<ResponseBody>,
        Error = Fault,
        Future = LocalFuture<Outcome>,
    > + Clone
    + 'static
{
}

impl<S> Sends for S where
    S: Service<
            Call,
            Response = http::Response<ResponseBody>,
            Error = Fault,
            Future = LocalFuture<Outcome>,
        > + Service<
            Rc<Call>,
            Response = http::Response<ResponseBody>,
            Error = Fault,
            Future = LocalFuture<Outcome>,
        > + Clone
        + 'static
{
}

impl<S: Sends> Service<Call> for Hedge<S> {
    type Response = http::Response<ResponseBody>;
    type Error = Fault;
    type Future = LocalFuture<Outcome>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        <S as Service<Call>>::poll_ready(&mut self.inner, cx)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        match &self.policy {
            Some(policy) if may_be_sent_twice(&call) => {
                Box::pin(run(self.inner.clone(), Rc::clone(policy), call))
            }
            _ => self.inner.call(call),
        }
    }
}

/// Idempotent by its method is not enough: of two PUTs under way at once the one cut may still arrive, after whatever the
/// client does next.
fn may_be_sent_twice(call: &Call) -> bool {
    let head = &call.head;
    let is_harmless =
        MethodClass::of(&head.method) == MethodClass::Safe || call.trail.idempotent.get();
    // Whoever asks for another protocol gets one connection, not the faster of two.
    is_harmless && head.method != Method::CONNECT && !head.headers.contains_key(header::UPGRADE)
}

async fn run<S: Sends>(mut inner: S, policy: Rc<Policy>, call: Call) -> Outcome {
    let began = call.trail.now();
    let delay = policy.hedger.machine.lock().begin(began);
    call.body.keep_up_to(REPLAY);
    let call = Rc::new(call);
    let mut watch = Watch::new(&policy, &call, began);
    let mut first = inner.call(Rc::clone(&call));
    let Some(delay) = delay else {
        policy.hedger.metrics.skipped(Skip::Warming);
        return watch.ended(first.await);
    };
    if policy.is_alone() {
        let outcome = first.await;
        if watch.took(call.trail.now()) >= delay {
            policy.hedger.metrics.skipped(Skip::NoOtherEndpoint);
        }
        return watch.ended(outcome);
    }
    let mut timer = pin!(tokio::time::sleep_until((began + delay).into()));
    loop {
        let early = poll_fn(|cx| match first.as_mut().poll(cx) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending => timer.as_mut().poll(cx).map(|()| None),
        });
        if let Some(outcome) = early.await {
            return watch.ended(outcome);
        }
        match policy.judge(&call, delay, clock::now()) {
            Decision::Wait { until } => timer.as_mut().reset(until.into()),
            Decision::Skip(_) => return watch.ended(first.await),
            Decision::Send if policy.mode == Mode::Shadow => {
                call.trail.hedged.set(Some(Fate::Would.word()));
                return watch.ended(first.await);
            }
            // Boxed: nearly no call comes here, and the others need not have room for it.
            Decision::Send => return Box::pin(race(inner, watch, first, delay, timer)).await,
        }
    }
}

/// Tells how long the first copy of a call took, however it ends.
struct Watch {
    policy: Rc<Policy>,
    call: Rc<Call>,
    began: Instant,
    told: bool,
}

impl Watch {
    fn new(policy: &Rc<Policy>, call: &Rc<Call>, began: Instant) -> Self {
        Self {
            policy: Rc::clone(policy),
            call: Rc::clone(call),
            began,
            told: false,
        }
    }

    /// The upstream's time: it begins when the request was sent in full.
    fn took(&self, now: Instant) -> Duration {
        let began = self.call.body.progress().unwrap_or(self.began);
        now.saturating_duration_since(began.max(self.began))
    }

    fn ended(&mut self, outcome: Outcome) -> Outcome {
        self.told = true;
        let now = self.call.trail.now();
        let took = self.took(now);
        let late = |fault: &Fault| matches!(fault.reason, Reason::TryTimeout | Reason::Deadline);
        match &outcome {
            Ok(_) if ended(&outcome) == Ended::Usable => {
                self.policy.hedger.machine.lock().observe(took, now);
            }
            Err(fault) if late(fault) => self.cut(now),
            // A failure tells nothing of how long answers take: a dead upstream would look like a fast one.
            _ => {}
        }
        outcome
    }

    fn cut(&mut self, now: Instant) {
        self.told = true;
        let waited = self.took(now);
        let mut machine = self.policy.hedger.machine.lock();
        machine.observe_at_least(waited, now);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.told {
            self.cut(clock::now());
        }
    }
}

fn ended(outcome: &Outcome) -> Ended {
    match outcome {
        Err(_) => Ended::Fault,
        Ok(response) if response.status() == http::StatusCode::TOO_MANY_REQUESTS => Ended::Failed,
        Ok(_) if Health::of(outcome) == Some(Health::Bad) => Ended::Failed,
        Ok(_) => Ended::Usable,
    }
}

/// One copy of a call.
struct Copy {
    future: LocalFuture<Outcome>,
    trail: Rc<Trail>,
}

/// The copies of a call that are under way. Dropping it cuts them.
struct Race {
    policy: Rc<Policy>,
    under_way: Vec<Copy>,
    /// Copies sent beside the first.
    sent: u32,
    settled: bool,
}

impl Race {
    fn send<S: Sends>(&mut self, inner: &mut S, call: &Call, now: Instant) {
        let copy = call.branch(now);
        let trail = Rc::clone(&copy.trail);
        self.under_way.push(Copy {
            future: inner.call(Rc::new(copy)),
            trail,
        });
        self.sent += 1;
    }

    /// The next copy that ends.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(Outcome, Rc<Trail>)> {
        let ready = self
            .under_way
            .iter_mut()
            .enumerate()
            .find_map(|(at, copy)| match copy.future.as_mut().poll(cx) {
                Poll::Ready(outcome) => Some((at, outcome)),
                Poll::Pending => None,
            });
        match ready {
            Some((at, outcome)) => Poll::Ready((outcome, self.under_way.remove(at).trail)),
            None => Poll::Pending,
        }
    }

    fn may_send(&self) -> bool {
        self.policy.hedger.machine.lock().allows(self.sent)
    }
}

impl Drop for Race {
    fn drop(&mut self) {
        let fate = if self.settled {
            Fate::Lost
        } else {
            Fate::Abandoned
        };
        let copies = self.under_way.iter().filter(|copy| copy.trail.is_copy());
        copies.for_each(|_| self.policy.hedger.metrics.hedged(fate));
    }
}

async fn race<S: Sends>(
    mut inner: S,
    mut watch: Watch,
    first: LocalFuture<Outcome>,
    delay: Duration,
    mut timer: Pin<&mut Sleep>,
) -> Outcome {
    let call = Rc::clone(&watch.call);
    let mut race = Race {
        policy: Rc::clone(&watch.policy),
        under_way: vec![Copy {
            future: first,
            trail: Rc::clone(&call.trail),
        }],
        sent: 0,
        settled: false,
    };
    let mut kept: Option<(Outcome, Rc<Trail>)> = None;
    call.trail.hedged.set(Some(Fate::Abandoned.word()));
    race.send(&mut inner, &call, clock::now());
    let mut may_send = race.may_send();
    timer.as_mut().reset((clock::now() + delay).into());
    loop {
        let next = poll_fn(|cx| match race.poll(cx) {
            Poll::Ready(copy) => Poll::Ready(Some(copy)),
            Poll::Pending if may_send => timer.as_mut().poll(cx).map(|()| None),
            Poll::Pending => Poll::Pending,
        });
        let Some((mut outcome, mut trail)) = next.await else {
            let now = clock::now();
            match race.policy.judge(&call, delay, now) {
                Decision::Wait { until } => timer.as_mut().reset(until.into()),
                Decision::Skip(_) => may_send = false,
                Decision::Send => {
                    race.send(&mut inner, &call, now);
                    may_send = race.may_send();
                    timer.as_mut().reset((now + delay).into());
                }
            }
            continue;
        };
        let end = ended(&outcome);
        if !trail.is_copy() {
            outcome = watch.ended(outcome);
        } else if end != Ended::Usable {
            race.policy.hedger.metrics.hedged(Fate::Failed);
        }
        let before = kept.as_ref().map(|(outcome, _)| ended(outcome));
        match machine::settle(end, race.under_way.len(), before) {
            Next::Keep => {
                kept = Some((outcome, trail));
                continue;
            }
            Next::Drop => continue,
            Next::Give => {}
            Next::GiveKept => (outcome, trail) = kept.take().unwrap_or((outcome, trail)),
        }
        race.settle(&call, &trail, end, &mut watch);
        return outcome;
    }
}

impl Race {
    /// The outcome of the copy with this `trail` is the call's.
    fn settle(&mut self, call: &Call, trail: &Rc<Trail>, end: Ended, watch: &mut Watch) {
        self.settled = true;
        self.under_way
            .iter()
            .for_each(|copy| copy.trail.cut.set(true));
        let won = end == Ended::Usable;
        call.trail.hedged.set(Some(match (won, trail.is_copy()) {
            (true, true) => Fate::Won.word(),
            (true, false) => Fate::Lost.word(),
            (false, _) => Fate::Failed.word(),
        }));
        if let Some(fate) = call.trail.hedged.get() {
            let after = watch.took(trail.now());
            call.trail.note(Note::Hedge { fate, after });
        }
        if !trail.is_copy() {
            return;
        }
        call.trail.adopt(trail);
        if won {
            self.policy.hedger.metrics.hedged(Fate::Won);
            if !watch.told {
                watch.cut(trail.now());
            }
        }
    }
}
