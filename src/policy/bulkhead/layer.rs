//! The skin of the bulkhead room: lock, clock, timer, and the permit's way home.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use std::time::Instant;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use pin_project_lite::pin_project;
use serde_json::Value;
use serde_json::json;
use tower::Layer;
use tower::Service;

use crate::clock;
use crate::http::Call;
use crate::http::Fault;
use crate::http::LocalFuture;
use crate::http::Outcome;
use crate::http::Reason;
use crate::http::ResponseBody;
use crate::http::Trail;
use crate::http::grpc_status_of;
use crate::http::note::Fate;
use crate::http::note::Note;
use crate::kit::mode::Mode;
use crate::policy::bulkhead::Settings;
use crate::policy::bulkhead::machine;
use crate::policy::bulkhead::machine::Admission;
use crate::policy::bulkhead::machine::Machine;
use crate::policy::bulkhead::machine::Ticket;
use crate::policy::bulkhead::metrics::Metrics;
use crate::policy::bulkhead::metrics::Why;

/// The bulkhead of one upstream or route, shared by all workers and carried over every reload.
#[derive(Debug)]
pub struct Bulkhead {
    machine: Mutex<Machine<Arc<Slot>>>,
    metrics: Metrics,
}

/// Where a waiter sleeps. It may be woken by another worker.
#[derive(Debug, Default)]
struct Slot {
    is_chosen: AtomicBool,
    waker: AtomicWaker,
}

impl Slot {
    fn choose(&self) {
        self.is_chosen.store(true, Ordering::Release);
        self.waker.wake();
    }

    async fn chosen(&self) {
        std::future::poll_fn(|cx| {
            // Registered before the look, or a choice between the two would wake nobody.
            self.waker.register(cx.waker());
            if self.is_chosen.load(Ordering::Acquire) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

impl Bulkhead {
    /// An empty bulkhead.
    #[must_use]
    pub fn new(settings: Settings, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            machine: Mutex::new(Machine::new(settings)),
            metrics,
        })
    }

    /// Other settings from now on. Calls in flight stay counted, so a reload never admits more than the new limit besides
    /// them.
    pub fn reconfigure(&self, settings: &Settings) {
        {
            let mut machine = self.machine.lock();
            if machine.settings() == settings {
                return;
            }
            machine.reconfigure(settings.clone());
        }
        self.let_in(clock::now());
    }

    /// Brings the gauges up to date.
    pub fn refresh(&self) {
        let machine = self.machine.lock();
        let (in_flight, limit, queued) = (machine.in_flight(), machine.limit(), machine.queued());
        drop(machine);
        self.metrics.stand(in_flight, limit, queued);
    }

    /// How it stands, for a person.
    #[must_use]
    pub fn describe(&self) -> Value {
        let machine = self.machine.lock();
        json!({
            "limit": machine.limit(),
            "in_flight": machine.in_flight(),
            "queued": machine.queued(),
            "adaptive": machine.settings().adaptive.is_some(),
            "unloaded_ms": machine.base().map(|base| base.as_secs_f64() * 1e3),
        })
    }

    /// Lets waiters in as long as there is room. Each is woken after unlocking.
    fn let_in(&self, now: Instant) {
        loop {
            let next = self.machine.lock().next(now);
            match next {
                Some(slot) => slot.choose(),
                None => return,
            }
        }
    }

    fn release(&self, ticket: Ticket, outcome: Option<machine::Outcome>, now: Instant) {
        let next = {
            let mut machine = self.machine.lock();
            if let Some(outcome) = outcome {
                machine.observe(&ticket, outcome, now);
            }
            machine.release(ticket, now)
        };
        if let Some(slot) = next {
            slot.choose();
            self.let_in(now);
        }
    }

    fn observe(&self, ticket: &Ticket, outcome: machine::Outcome, now: Instant) {
        self.machine.lock().observe(ticket, outcome, now);
        self.let_in(now);
    }

    // A call that passes without a wait is not worth a second look at the numbers.
    fn note(&self, trail: &Trail, fate: Fate, waited: Duration) {
        let machine = self.machine.lock();
        let (in_flight, max) = (machine.in_flight(), machine.limit());
        drop(machine);
        trail.note(Note::Bulkhead {
            fate,
            in_flight,
            max,
            waited,
        });
    }

    fn full(&self) -> Fault {
        self.metrics.rejected(Why::Full);
        let wait = self.machine.lock().settings().wait;
        Fault::unsent(Reason::BulkheadFull).after(wait.max(BACK_AFTER))
    }
}

/// The least that a refused caller is asked to stay away; `Retry-After` has whole seconds.
const BACK_AFTER: Duration = Duration::from_secs(1);

/// Puts a bulkhead in front of a service; `None` leaves it as it is.
#[derive(Clone, Debug)]
pub struct BulkheadLayer {
    bulkhead: Option<(Arc<Bulkhead>, Mode)>,
}

impl BulkheadLayer {
    /// `mode` is that of the route, which may watch a bulkhead that others obey.
    #[must_use]
    pub fn new(bulkhead: Option<(Arc<Bulkhead>, Mode)>) -> Self {
        Self { bulkhead }
    }
}

impl<S> Layer<S> for BulkheadLayer {
    type Service = Bounded<S>;

    fn layer(&self, inner: S) -> Bounded<S> {
        Bounded {
            inner,
            bulkhead: self.bulkhead.clone().map(Rc::new),
        }
    }
}

/// See [`BulkheadLayer`].
#[derive(Clone, Debug)]
pub struct Bounded<S> {
    inner: S,
    bulkhead: Option<Rc<(Arc<Bulkhead>, Mode)>>,
}

impl<S> Service<Call> for Bounded<S>
where
    S: Service<Call, Response = http::Response<ResponseBody>, Error = Fault> + Clone + 'static,
{
    type Response = S::Response;
    type Error = Fault;
    type Future = BulkheadFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let Some(guard) = &self.bulkhead else {
            return BulkheadFuture::Running {
                inner: self.inner.call(call),
                held: None,
            };
        };
        let (bulkhead, mode) = &**guard;
        let now = call.trail.now();
        let ticket = if *mode == Mode::Shadow {
            let (ticket, would_reject) = bulkhead.machine.lock().admit_anyway(now);
            if would_reject {
                bulkhead.note(&call.trail, Fate::WouldRefuse, Duration::ZERO);
                bulkhead.metrics.would_reject();
            }
            ticket
        } else {
            let mut slot = None;
            let make = || Arc::clone(slot.insert(Arc::new(Slot::default())));
            let deadline = call.trail.deadline.get();
            let admission = bulkhead.machine.lock().admit(make, deadline, now);
            match (admission, slot) {
                (Admission::Pass(ticket), _) => ticket,
                (Admission::Wait { number, until }, Some(slot)) => {
                    let place = Place::new(bulkhead, number, slot, now);
                    let waiting = wait(place, until, Rc::clone(guard), self.inner.clone(), call);
                    return BulkheadFuture::Waiting {
                        waiting: Box::pin(waiting),
                    };
                }
                (Admission::Full | Admission::Wait { .. }, _) => {
                    bulkhead.note(&call.trail, Fate::Refused, Duration::ZERO);
                    let fault = Some(Box::new(bulkhead.full()));
                    return BulkheadFuture::Refused { fault };
                }
            }
        };
        let held = Held::new(guard, ticket, &call.trail);
        BulkheadFuture::Running {
            inner: self.inner.call(call),
            held: Some(held),
        }
    }
}

/// A place in the queue. Dropped, it is given up; if it was chosen meanwhile, its permit goes on to the next.
struct Place {
    bulkhead: Arc<Bulkhead>,
    number: u64,
    slot: Arc<Slot>,
    since: Instant,
    is_left: bool,
}

impl Place {
    fn new(bulkhead: &Arc<Bulkhead>, number: u64, slot: Arc<Slot>, since: Instant) -> Self {
        let place = Self {
            bulkhead: Arc::clone(bulkhead),
            number,
            slot,
            since,
            is_left: false,
        };
        // The look at the clock that admission takes may have ended a dip of an adaptive limit.
        bulkhead.let_in(since);
        place
    }

    /// Waits to be chosen, and gives up at `until`.
    async fn wait(mut self, until: Instant) -> Option<Ticket> {
        let chosen = Arc::clone(&self.slot);
        // Which of the two it was is for the queue to say: both may have happened.
        let _ = tokio::time::timeout_at(until.into(), chosen.chosen()).await;
        let now = clock::now();
        self.bulkhead
            .metrics
            .waited(now.saturating_duration_since(self.since));
        self.leave(now)
    }

    fn leave(&mut self, now: Instant) -> Option<Ticket> {
        self.is_left = true;
        let mut machine = self.bulkhead.machine.lock();
        (!machine.leave(self.number)).then(|| machine.chosen(now))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_left {
            return;
        }
        let now = clock::now();
        if let Some(ticket) = self.leave(now) {
            self.bulkhead.release(ticket, None, now);
        }
    }
}

async fn wait<S>(
    place: Place,
    until: Instant,
    guard: Rc<(Arc<Bulkhead>, Mode)>,
    mut inner: S,
    call: Call,
) -> Outcome
where
    S: Service<Call, Response = http::Response<ResponseBody>, Error = Fault>,
{
    let since = place.since;
    let ticket = place.wait(until).await;
    call.trail.stamp(clock::now());
    let waited = call.trail.now().saturating_duration_since(since);
    let fate = ticket.as_ref().map_or(Fate::Refused, |_| Fate::Passed);
    guard.0.note(&call.trail, fate, waited);
    let Some(ticket) = ticket else {
        guard.0.metrics.rejected(Why::Timeout);
        return Err(Fault::unsent(Reason::BulkheadTimeout).after(BACK_AFTER));
    };
    let held = Held::new(&guard, ticket, &call.trail);
    let mut outcome = inner.call(call).await;
    held.settle(&mut outcome);
    outcome
}

/// A permit on its way; dropped unsettled, it tells the machine that the call was abandoned.
struct Held {
    guard: Rc<(Arc<Bulkhead>, Mode)>,
    trail: Rc<Trail>,
    ticket: Option<Ticket>,
    is_observed: bool,
}

impl Held {
    fn new(guard: &Rc<(Arc<Bulkhead>, Mode)>, ticket: Ticket, trail: &Rc<Trail>) -> Self {
        Self {
            guard: Rc::clone(guard),
            trail: Rc::clone(trail),
            ticket: Some(ticket),
            is_observed: false,
        }
    }

    fn settle(mut self, outcome: &mut Outcome) {
        let news = news(outcome, &self.trail);
        self.is_observed = true;
        let (now, bulkhead) = (self.trail.now(), &self.guard.0);
        match outcome {
            Ok(response) if response.body().is_streaming() => {
                if let (Some(news), Some(ticket)) = (news, &self.ticket) {
                    bulkhead.observe(ticket, news, now);
                }
                response.body_mut().on_end(move |_| drop(self));
            }
            _ => {
                if let Some(ticket) = self.ticket.take() {
                    bulkhead.release(ticket, news, now);
                }
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let outcome = (!self.is_observed).then_some(machine::Outcome::Abandoned);
            self.guard.0.release(ticket, outcome, clock::now());
        }
    }
}

const DEADLINE_EXCEEDED: u8 = 4;

fn says_late(response: &http::Response<ResponseBody>) -> bool {
    response.status() == http::StatusCode::GATEWAY_TIMEOUT
        || grpc_status_of(response.headers()) == Some(DEADLINE_EXCEEDED)
}

/// What an outcome tells of the upstream's load; `None` for what tells nothing: a failure that came fast would pass for
/// speed, and a call of several tries took as long as their back-off. Where a caller gave less time than we would have, the
/// upstream is not to blame: it is as if the caller had left.
fn news(outcome: &Outcome, trail: &Trail) -> Option<machine::Outcome> {
    const RESOURCE_EXHAUSTED: u8 = 8;
    const UNAVAILABLE: u8 = 14;
    match outcome {
        Ok(response) if response.body().is_hurried() && says_late(response) => {
            Some(machine::Outcome::Abandoned)
        }
        Err(fault) if fault.hurried => Some(machine::Outcome::Abandoned),
        Ok(response) => match (response.status().as_u16(), response.headers()) {
            (429 | 503 | 504, _) => Some(machine::Outcome::Dropped),
            (500.., _) => None,
            (_, headers) => match grpc_status_of(headers) {
                Some(DEADLINE_EXCEEDED | RESOURCE_EXHAUSTED | UNAVAILABLE) => {
                    Some(machine::Outcome::Dropped)
                }
                _ => (trail.tries.get() <= 1).then_some(machine::Outcome::Answered),
            },
        },
        Err(fault) => match fault.reason {
            Reason::TryTimeout
            | Reason::Deadline
            | Reason::ConnectTimeout
            | Reason::PoolTimeout => Some(machine::Outcome::Dropped),
            _ => None,
        },
    }
}

pin_project! {
    /// A call that was refused, waits for its turn, or is on its way with a permit.
    #[project = BulkheadProj]
    pub enum BulkheadFuture<F> {
        Refused { fault: Option<Box<Fault>> },
        Waiting { waiting: LocalFuture<Outcome> },
        Running { #[pin] inner: F, held: Option<Held> },
    }
}

impl<F: Future<Output = Outcome>> Future for BulkheadFuture<F> {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        match self.project() {
            BulkheadProj::Refused { fault } => {
                let fault = fault
                    .take()
                    .expect("a future is not polled after it is ready");
                Poll::Ready(Err(*fault))
            }
            BulkheadProj::Waiting { waiting } => waiting.as_mut().poll(cx),
            BulkheadProj::Running { inner, held } => {
                let Poll::Ready(mut outcome) = inner.poll(cx) else {
                    return Poll::Pending;
                };
                if let Some(held) = held.take() {
                    held.settle(&mut outcome);
                }
                Poll::Ready(outcome)
            }
        }
    }
}
