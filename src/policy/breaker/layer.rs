//! The skin of the breaker room: lock, clock, and the ticket's way home.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use std::time::Instant;

use parking_lot::Mutex;
use pin_project_lite::pin_project;
use serde_json::Value;
use serde_json::json;
use tower::Layer;
use tower::Service;

use crate::audit;
use crate::audit::Event;
use crate::clock;
use crate::http::Call;
use crate::http::Fault;
use crate::http::Health;
use crate::http::Outcome;
use crate::http::Reason;
use crate::http::ResponseBody;
use crate::http::Trail;
use crate::http::note::Fate;
use crate::http::note::Note;
use crate::kit::mode::Mode;
use crate::policy::breaker::Settings;
use crate::policy::breaker::machine;
use crate::policy::breaker::machine::Forced;
use crate::policy::breaker::machine::Machine;
use crate::policy::breaker::machine::Refusal;
use crate::policy::breaker::machine::State;
use crate::policy::breaker::machine::Ticket;
use crate::policy::breaker::machine::Transition;
use crate::policy::breaker::machine::fleet::Advice;
use crate::policy::breaker::metrics::Metrics;
use crate::rng;

/// The breaker of one upstream or route, shared by all workers and carried over a reload that does not change its
/// settings.
#[derive(Debug)]
pub struct Breaker {
    name: String,
    settings: Settings,
    machine: Mutex<Machine>,
    // Only looked at while it is forced.
    force: Mutex<Option<Arc<Force>>>,
    metrics: Metrics,
}

/// An operator's order to hold breakers at a state, in force until it ends, is released, or is replaced.
#[derive(Debug)]
pub struct Force {
    /// The state.
    pub to: Forced,
    /// When it ends.
    pub until: Instant,
    /// The same by the wall clock, for people: RFC 3339.
    pub until_text: String,
}

impl Breaker {
    /// A closed breaker. `name` is how logs call it.
    #[must_use]
    pub fn new(name: String, settings: Settings, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            machine: Mutex::new(Machine::new(settings.clone())),
            force: Mutex::new(None),
            name,
            settings,
            metrics,
        })
    }

    /// How logs call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it was built from.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The state at `now`.
    #[must_use]
    pub fn state(&self, now: Instant) -> State {
        self.machine.lock().state(now)
    }

    /// Obeys an operator until the force ends; gives the state before. Without effect on one that obeys this very force
    /// already, so that it can be said again after a reload.
    pub fn force(&self, force: &Arc<Force>, now: Instant) -> State {
        let length = force.until.saturating_duration_since(now);
        let mut current = self.force.lock();
        let is_known = current.as_ref().is_some_and(|old| Arc::ptr_eq(old, force));
        let mut machine = self.machine.lock();
        let before = machine.state(now);
        if is_known || length.is_zero() {
            return before;
        }
        let transition = machine.force(force.to, length, now);
        drop(machine);
        *current = Some(Arc::clone(force));
        drop(current);
        self.metrics.set_forced(true);
        self.tell(transition);
        before
    }

    /// Ends a force, if there is one; gives the state before. The machine begins closed, with an empty window.
    pub fn release(&self, now: Instant) -> State {
        let mut current = self.force.lock();
        let mut machine = self.machine.lock();
        let before = machine.state(now);
        let transition = machine.release();
        drop(machine);
        *current = None;
        drop(current);
        self.metrics.set_forced(false);
        self.tell(transition);
        before
    }

    /// Its state and the numbers it judges by, for a person.
    #[must_use]
    pub fn describe(&self, now: Instant) -> Value {
        let force = self.force.lock().clone();
        let machine = self.machine.lock();
        let (calls, failures, slow) = machine.counts(now);
        let open_for = machine.open_left(now);
        let advised = machine.advised(now);
        let forced = machine
            .forced_left(now)
            .zip(force)
            .map(|(left, force)| json!({ "until": force.until_text, "for_ms": millis(left) }));
        json!({
            "state": machine.state(now).word(),
            "calls": calls,
            "failures": failures,
            "slow": slow,
            "open_for_ms": open_for.map(millis),
            "forced": forced,
            "suspicious": advised.suspicious,
            "probes_elsewhere": advised.probes_elsewhere,
        })
    }

    /// Whether an operator holds it.
    #[must_use]
    pub fn is_forced(&self, now: Instant) -> bool {
        self.machine.lock().forced_left(now).is_some()
    }

    /// Hears what the fleet says of it, which holds until `until`.
    pub fn advise(&self, advice: Advice, until: Instant) {
        self.machine.lock().advise(advice, until);
    }

    /// Brings the gauge up to date: an open breaker whose time is up changes state only when it is asked.
    pub fn refresh(&self, now: Instant) {
        let machine = self.machine.lock();
        let (state, forced) = (machine.state(now), machine.forced_left(now));
        let advised = machine.advised(now);
        drop(machine);
        self.metrics.set_suspicious(advised.suspicious);
        self.metrics.set_state(state);
        self.metrics.set_forced(forced.is_some());
    }

    fn admit(&self, now: Instant) -> Result<Ticket, Refusal> {
        let (admitted, transition) = self.machine.lock().admit(now);
        self.tell(transition);
        admitted
    }

    fn note(&self, refusal: &Refusal, fate: Fate, now: Instant) -> Note {
        Note::Breaker {
            fate,
            state: self.state(now).word(),
            more_in: refusal.retry_after,
            by_hand: refusal.by_hand,
        }
    }

    // What the call's log says of it.
    fn fault(&self, refusal: &Refusal) -> Fault {
        let fault = Fault::unsent(Reason::BreakerOpen).after(refusal.retry_after);
        if !refusal.by_hand {
            return fault;
        }
        match &*self.force.lock() {
            Some(force) => fault.because(format_args!("by hand until {}", force.until_text)),
            None => fault,
        }
    }

    fn settle(&self, ticket: Ticket, health: Health, began: Instant, now: Instant) {
        let outcome = match health {
            Health::Good => machine::Outcome::Success,
            Health::Bad => machine::Outcome::Failure,
            Health::Neutral => machine::Outcome::Abandoned,
        };
        let latency = now.saturating_duration_since(began);
        let transition = self
            .machine
            .lock()
            .settle(ticket, outcome, latency, now, rng::draw());
        self.tell(transition);
    }

    fn tell(&self, transition: Option<Transition>) {
        let Some(transition) = transition else { return };
        self.metrics.observe(&transition);
        if audit::is_on() {
            audit::record(
                Event::new("breaker")
                    .with("breaker", self.name.as_str())
                    .with("from", transition.from.word())
                    .with("to", transition.to.word())
                    .with("cause", transition.cause.word())
                    .with("failures", transition.failures)
                    .with("calls", transition.calls),
            );
        }
        tracing::info!(
            breaker = %self.name,
            from = ?transition.from,
            to = ?transition.to,
            cause = ?transition.cause,
            failures = transition.failures,
            calls = transition.calls,
            open_for = ?transition.open_for,
            "breaker"
        );
    }
}

/// A call that passes a closed breaker is not worth a note.
const PROBE: Note = Note::Breaker {
    fate: Fate::Passed,
    state: State::HalfOpen.word(),
    more_in: Duration::ZERO,
    by_hand: false,
};

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Puts a breaker in front of a service; `None` leaves it as it is.
#[derive(Clone, Debug)]
pub struct BreakerLayer {
    breaker: Option<(Arc<Breaker>, Mode)>,
}

impl BreakerLayer {
    /// `mode` is that of the route, which may watch a breaker that others obey.
    #[must_use]
    pub fn new(breaker: Option<(Arc<Breaker>, Mode)>) -> Self {
        Self { breaker }
    }
}

impl<S> Layer<S> for BreakerLayer {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded {
            inner,
            breaker: self.breaker.clone().map(Rc::new),
        }
    }
}

/// See [`BreakerLayer`].
#[derive(Clone, Debug)]
pub struct Guarded<S> {
    inner: S,
    breaker: Option<Rc<(Arc<Breaker>, Mode)>>,
}

impl<S> Service<Call> for Guarded<S>
where
    S: Service<Call, Response = http::Response<ResponseBody>, Error = Fault>,
{
    type Response = S::Response;
    type Error = Fault;
    type Future = BreakerFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let held = match &self.breaker {
            None => None,
            Some(guard) => {
                let (breaker, mode) = &**guard;
                let now = call.trail.now();
                match breaker.admit(now) {
                    Ok(ticket) => {
                        if ticket.probe.is_some() {
                            call.trail.note(PROBE);
                        }
                        Some(Held {
                            guard: Rc::clone(guard),
                            trail: Rc::clone(&call.trail),
                            ticket: Some(ticket),
                            began: now,
                        })
                    }
                    Err(refusal) if *mode == Mode::Shadow => {
                        let note = breaker.note(&refusal, Fate::WouldRefuse, now);
                        call.trail.note(note);
                        breaker.metrics.would_refuse();
                        None
                    }
                    Err(refusal) => {
                        call.trail.note(breaker.note(&refusal, Fate::Refused, now));
                        breaker.metrics.refused();
                        return BreakerFuture::Refused {
                            fault: Some(breaker.fault(&refusal)),
                        };
                    }
                }
            }
        };
        BreakerFuture::Admitted {
            inner: self.inner.call(call),
            held,
        }
    }
}

/// A ticket on its way; dropped unsettled, it tells the machine that the call was abandoned.
struct Held {
    guard: Rc<(Arc<Breaker>, Mode)>,
    trail: Rc<Trail>,
    ticket: Option<Ticket>,
    began: Instant,
}

impl Held {
    fn settle(mut self, health: Health, now: Instant) {
        if let Some(ticket) = self.ticket.take() {
            self.guard.0.settle(ticket, health, self.began, now);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.guard
                .0
                .settle(ticket, Health::Neutral, self.began, clock::now());
        }
    }
}

pin_project! {
    /// A call that was refused, or is on its way with a ticket.
    #[project = BreakerProj]
    pub enum BreakerFuture<F> {
        Refused { fault: Option<Fault> },
        Admitted { #[pin] inner: F, held: Option<Held> },
    }
}

impl<F: Future<Output = Outcome>> Future for BreakerFuture<F> {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        match self.project() {
            BreakerProj::Refused { fault } => Poll::Ready(Err(fault
                .take()
                .expect("a future is not polled after it is ready"))),
            BreakerProj::Admitted { inner, held } => {
                let Poll::Ready(mut outcome) = inner.poll(cx) else {
                    return Poll::Pending;
                };
                if let Some(held) = held.take() {
                    settle(held, &mut outcome);
                }
                Poll::Ready(outcome)
            }
        }
    }
}

fn settle(held: Held, outcome: &mut Outcome) {
    match (Health::of(outcome), outcome) {
        (Some(health), _) => {
            let now = held.trail.now();
            held.settle(health, now);
        }
        // The verdict of a gRPC call comes with its trailers (docs/adr/0002).
        (None, Ok(response)) => response
            .body_mut()
            .on_end(move |ended| held.settle(Health::of_end(ended), clock::now())),
        (None, Err(_)) => {}
    }
}
