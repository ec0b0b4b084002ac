//! The skin of the overload room: the counter of the process, and the readings of others.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use pin_project_lite::pin_project;
use tower::Layer;
use tower::Service;

use crate::clock;
use crate::http::Call;
use crate::http::Fault;
use crate::http::Outcome;
use crate::http::Reason;
use crate::http::ResponseBody;
use crate::http::note::Fate;
use crate::http::note::Note;
use crate::policy::overload::Settings;
use crate::policy::overload::machine;
use crate::policy::overload::machine::Lag;
use crate::policy::overload::machine::Pressure;
use crate::policy::overload::machine::Priority;
use crate::policy::overload::machine::Reading;
use crate::policy::overload::metrics::Metrics;
use crate::rng;

/// Time between two looks of a worker at its own lag.
pub const TICK: Duration = Duration::from_millis(100);

/// When a caller that was shed may come back: half a second of ticks is forgotten by then.
const BACK_AFTER: Duration = Duration::from_secs(1);

/// What the process has to do, as all workers see it.
#[derive(Debug)]
pub struct Load {
    in_flight: AtomicU64,
    /// The share of the memory limit, as the bits of an `f64`.
    memory: AtomicU64,
    /// The lag of each worker in seconds, likewise.
    lags: Box<[AtomicU64]>,
    metrics: Metrics,
}

impl Load {
    /// Nothing to do yet, for so many workers.
    #[must_use]
    pub fn new(workers: usize, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            in_flight: AtomicU64::new(0),
            memory: AtomicU64::new(0),
            lags: (0..workers).map(|_| AtomicU64::new(0)).collect(),
            metrics,
        })
    }

    /// The share of the memory limit that is in use; zero where there is no limit.
    pub fn set_memory(&self, share: f64) {
        self.memory.store(share.to_bits(), Ordering::Relaxed);
    }

    /// Watches the event loop it runs on, for as long as the worker lives.
    pub async fn watch_lag(self: Arc<Self>, worker: usize) {
        let mut lag = Lag::default();
        loop {
            let due = clock::now() + TICK;
            tokio::time::sleep_until(due.into()).await;
            let shown = lag.tick(clock::now().saturating_duration_since(due));
            if let Some(cell) = self.lags.get(worker) {
                cell.store(shown.to_bits(), Ordering::Relaxed);
            }
        }
    }

    /// Brings the gauges up to date.
    pub fn refresh(&self, settings: &Settings) {
        let lags = || self.lags.iter().map(float);
        let reading = Reading {
            in_flight: self.in_flight.load(Ordering::Relaxed),
            lag_s: lags().fold(0.0, f64::max),
            memory: float(&self.memory),
        };
        let pressure = Pressure::of(settings, reading);
        self.metrics.stand(pressure, reading.in_flight, lags());
    }
}

fn float(cell: &AtomicU64) -> f64 {
    f64::from_bits(cell.load(Ordering::Relaxed))
}

/// What one worker asks of a call of one route.
#[derive(Debug)]
pub struct Gate {
    /// The load of the process.
    pub load: Arc<Load>,
    /// Whose lag counts.
    pub worker: usize,
    /// `overload` of the policy.
    pub settings: Settings,
    /// `priority` of the route.
    pub priority: Priority,
}

impl Gate {
    fn admits(&self, in_flight: u64, call: &Call) -> bool {
        let reading = Reading {
            in_flight,
            lag_s: self.load.lags.get(self.worker).map_or(0.0, float),
            memory: float(&self.load.memory),
        };
        let pressure = Pressure::of(&self.settings, reading).greatest();
        if machine::admits(self.priority, pressure, rng::draw) {
            return true;
        }
        let enforces = self.settings.mode.enforces();
        if enforces {
            call.trail.note(Note::Overload(Fate::Refused));
            self.load.metrics.shed(self.priority);
        } else {
            call.trail.note(Note::Overload(Fate::WouldRefuse));
            self.load.metrics.would_shed(self.priority);
        }
        !enforces
    }
}

/// Sheds what is too much; `None` sheds nothing.
#[derive(Clone, Debug)]
pub struct OverloadLayer {
    gate: Option<Rc<Gate>>,
}

impl OverloadLayer {
    /// Sheds by `gate`.
    #[must_use]
    pub fn new(gate: Option<Gate>) -> Self {
        Self {
            gate: gate.map(Rc::new),
        }
    }
}

impl<S> Layer<S> for OverloadLayer {
    type Service = Admit<S>;

    fn layer(&self, inner: S) -> Admit<S> {
        Admit {
            inner,
            gate: self.gate.clone(),
        }
    }
}

/// See [`OverloadLayer`].
#[derive(Clone, Debug)]
pub struct Admit<S> {
    inner: S,
    gate: Option<Rc<Gate>>,
}

impl<S> Service<Call> for Admit<S>
where
    S: Service<Call, Response = http::Response<ResponseBody>, Error = Fault>,
{
    type Response = S::Response;
    type Error = Fault;
    type Future = OverloadFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let held = match &self.gate {
            None => None,
            Some(gate) => {
                // Counted first and asked then: two workers that ask at once cannot both get the last place.
                let before = gate.load.in_flight.fetch_add(1, Ordering::Relaxed);
                let held = Held {
                    gate: Rc::clone(gate),
                };
                if !gate.admits(before, &call) {
                    return OverloadFuture::Shed;
                }
                Some(held)
            }
        };
        OverloadFuture::Running {
            inner: self.inner.call(call),
            held,
        }
    }
}

/// One call in flight, until it is dropped.
#[derive(Debug)]
struct Held {
    gate: Rc<Gate>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.gate.load.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

pin_project! {
    /// A call that was shed, or one that is counted on its way.
    #[project = OverloadProj]
    pub enum OverloadFuture<F> {
        Shed,
        Running { #[pin] inner: F, held: Option<Held> },
    }
}

impl<F: Future<Output = Outcome>> Future for OverloadFuture<F> {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        match self.project() {
            OverloadProj::Shed => {
                let fault = Fault::unsent(Reason::Overloaded).after(BACK_AFTER);
                Poll::Ready(Err(fault))
            }
            OverloadProj::Running { inner, held } => {
                let Poll::Ready(mut outcome) = inner.poll(cx) else {
                    return Poll::Pending;
                };
                let held = held.take();
                // A body holds memory until it has ended.
                if let (Ok(response), Some(held)) = (&mut outcome, held)
                    && response.body().is_streaming()
                {
                    response.body_mut().on_end(move |_| drop(held));
                }
                Poll::Ready(outcome)
            }
        }
    }
}
