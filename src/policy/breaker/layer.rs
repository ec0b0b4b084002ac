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

use crate::clock;
use crate::http::Call;
use crate::http::Fault;
use crate::http::Health;
use crate::http::Outcome;
use crate::http::Reason;
use crate::http::ResponseBody;
use crate::http::Trail;
use crate::kit::mode::Mode;
use crate::policy::breaker::Settings;
use crate::policy::breaker::machine;
use crate::policy::breaker::machine::Machine;
use crate::policy::breaker::machine::State;
use crate::policy::breaker::machine::Ticket;
use crate::policy::breaker::machine::Transition;
use crate::policy::breaker::metrics::Metrics;
use crate::rng;

/// The breaker of one upstream or route, shared by all workers and carried over a reload that does not change its
/// settings.
#[derive(Debug)]
pub struct Breaker {
    name: String,
    settings: Settings,
    machine: Mutex<Machine>,
    metrics: Metrics,
}

impl Breaker {
    /// A closed breaker. `name` is how logs call it.
    #[must_use]
    pub fn new(name: String, settings: Settings, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            machine: Mutex::new(Machine::new(settings.clone())),
            name,
            settings,
            metrics,
        })
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

    /// Its state and the numbers it judges by, for a person.
    #[must_use]
    pub fn describe(&self, now: Instant) -> Value {
        let machine = self.machine.lock();
        let (calls, failures, slow) = machine.counts(now);
        let open_for = machine.open_left(now);
        json!({
            "state": machine.state(now).word(),
            "calls": calls,
            "failures": failures,
            "slow": slow,
            "open_for_ms": open_for.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
        })
    }

    /// Brings the gauge up to date: an open breaker whose time is up changes state only when it is asked.
    pub fn refresh(&self, now: Instant) {
        self.metrics.set_state(self.state(now));
    }

    fn admit(&self, now: Instant) -> Result<Ticket, Duration> {
        let (admitted, transition) = self.machine.lock().admit(now);
        self.tell(transition);
        admitted.map_err(|refusal| refusal.retry_after)
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
                    Ok(ticket) => Some(Held {
                        guard: Rc::clone(guard),
                        trail: Rc::clone(&call.trail),
                        ticket: Some(ticket),
                        began: now,
                    }),
                    Err(_) if *mode == Mode::Shadow => {
                        breaker.metrics.would_refuse();
                        None
                    }
                    Err(retry_after) => {
                        breaker.metrics.refused();
                        return BreakerFuture::Refused {
                            retry_after: Some(retry_after),
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
        Refused { retry_after: Option<Duration> },
        Admitted { #[pin] inner: F, held: Option<Held> },
    }
}

impl<F: Future<Output = Outcome>> Future for BreakerFuture<F> {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        match self.project() {
            BreakerProj::Refused { retry_after } => {
                let mut fault = Fault::unsent(Reason::BreakerOpen);
                fault.retry_after = retry_after.take();
                Poll::Ready(Err(fault))
            }
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
