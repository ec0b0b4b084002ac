//! The skin of the eject room.

use std::collections::HashMap;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use std::time::Instant;

use parking_lot::Mutex;
use pin_project_lite::pin_project;
use tower::Layer;
use tower::Service;

use crate::clock;
use crate::endpoint::Cluster;
use crate::endpoint::Endpoint;
use crate::http::Call;
use crate::http::Fault;
use crate::http::Health;
use crate::http::Outcome;
use crate::http::ResponseBody;
use crate::http::Trail;
use crate::kit::mode::Mode;
use crate::kit::spread::Summary;
use crate::policy::eject::Settings;
use crate::policy::eject::machine;
use crate::policy::eject::machine::Machine;
use crate::policy::eject::machine::Verdict;
use crate::policy::eject::metrics::Metrics;

/// The ejection state of one upstream's endpoints, shared by all workers.
#[derive(Debug)]
pub struct Ejector {
    name: String,
    settings: Settings,
    cluster: Arc<Cluster>,
    machines: Mutex<HashMap<u64, Machine>>,
    metrics: Metrics,
}

impl Ejector {
    /// Watches over `cluster`. `name` is how logs call the upstream.
    #[must_use]
    pub fn new(
        name: String,
        settings: Settings,
        cluster: Arc<Cluster>,
        metrics: Metrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            settings,
            cluster,
            machines: Mutex::new(HashMap::new()),
            metrics,
        })
    }

    /// What it was built from.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Brings the gauge up to date: an ejection ends by time alone.
    pub fn refresh(&self, now: Instant) {
        let set = self.cluster.set();
        let resting = |endpoint: &&Arc<Endpoint>| endpoint.resting_until(now).is_some();
        self.metrics
            .set_out(set.endpoints.iter().filter(resting).count());
    }

    /// Counts an answer and how long it took.
    fn answered(&self, endpoint: u64, took: Duration, now: Instant) {
        self.record(endpoint, true, now);
        self.took(endpoint, took, now);
    }

    /// Compares how long an endpoint took, or has taken so far, with its peers.
    fn took(&self, endpoint: u64, took: Duration, now: Instant) {
        if self.settings.slow.is_none() {
            return;
        }
        let verdict = {
            let mut machines = self.machines.lock();
            let machine = machines
                .entry(endpoint)
                .or_insert_with(|| Machine::new(self.settings.clone()));
            if !machine.answered(took, now) {
                return;
            }
            let mut peers = self.peers(&machines, endpoint, now);
            machines
                .get_mut(&endpoint)
                .and_then(|machine| machine.compare(&mut peers, now))
        };
        if let Some(Verdict::Eject { for_, cause }) = verdict {
            self.eject(endpoint, for_, cause, now);
        }
    }

    /// The latencies of the other endpoints that serve and have answered enough.
    fn peers(&self, machines: &HashMap<u64, Machine>, endpoint: u64, now: Instant) -> Vec<Summary> {
        let set = self.cluster.set();
        let others = set.endpoints.iter().filter(|other| other.id != endpoint);
        others
            .filter(|other| other.serves(now))
            .filter_map(|other| machines.get(&other.id)?.latency(now))
            .collect()
    }

    /// Counts one result of the endpoint with this id: a try's, or whether a tunnel's connection could be opened.
    pub fn record(&self, endpoint: u64, ok: bool, now: Instant) {
        let verdict = {
            let mut machines = self.machines.lock();
            let machine = machines
                .entry(endpoint)
                .or_insert_with(|| Machine::new(self.settings.clone()));
            if machine.is_out(now) && self.was_recalled(endpoint) {
                machine.recall(now);
            }
            machine.record(ok, now)
        };
        if let Some(Verdict::Eject { for_, cause }) = verdict {
            self.eject(endpoint, for_, cause, now);
        }
    }

    fn was_recalled(&self, id: u64) -> bool {
        let set = self.cluster.set();
        let endpoint = set.endpoints.iter().find(|endpoint| endpoint.id == id);
        endpoint.is_some_and(|endpoint| endpoint.take_recall())
    }

    fn eject(&self, id: u64, time: Duration, cause: machine::Cause, now: Instant) {
        let set = self.cluster.set();
        let Some(endpoint) = set.endpoints.iter().find(|endpoint| endpoint.id == id) else {
            return;
        };
        let resting = set
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.resting_until(now).is_some())
            .count();
        let total = set.endpoints.len();
        // The last that serves stays, also where the others are out because probes fail.
        let is_last = !set
            .endpoints
            .iter()
            .any(|other| other.id != id && other.serves(now));
        let is_allowed = !is_last && machine::may_eject(resting, total, self.settings.max_share);
        let shadow = self.settings.mode == Mode::Shadow;
        tracing::info!(
            upstream = %self.name,
            endpoint = %endpoint.address,
            ?cause,
            ?time,
            resting,
            total,
            kept = !is_allowed,
            shadow,
            "ejection"
        );
        if !is_allowed {
            self.metrics.kept();
            return;
        }
        self.metrics.ejected(cause, shadow);
        let time = {
            let mut machines = self.machines.lock();
            // Endpoints come and go; this is the place where forgetting the gone ones is cheap.
            machines.retain(|id, _| set.endpoints.iter().any(|endpoint| endpoint.id == *id));
            machines.get_mut(&id).map(|machine| machine.confirm(now))
        };
        if let (Some(time), false) = (time, shadow) {
            endpoint.rest(now + time);
        }
    }
}

/// Watches the tries that pass; `None` watches nothing.
#[derive(Clone, Debug)]
pub struct EjectLayer {
    ejector: Option<Arc<Ejector>>,
}

impl EjectLayer {
    /// Watches for `ejector`.
    #[must_use]
    pub fn new(ejector: Option<Arc<Ejector>>) -> Self {
        Self { ejector }
    }
}

impl<S> Layer<S> for EjectLayer {
    type Service = Watched<S>;

    fn layer(&self, inner: S) -> Watched<S> {
        Watched {
            inner,
            ejector: self.ejector.clone(),
        }
    }
}

/// See [`EjectLayer`].
#[derive(Clone, Debug)]
pub struct Watched<S> {
    inner: S,
    ejector: Option<Arc<Ejector>>,
}

impl<S> Service<Call> for Watched<S>
where
    S: Service<Call, Response = http::Response<ResponseBody>, Error = Fault>,
{
    type Response = S::Response;
    type Error = Fault;
    type Future = EjectFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        EjectFuture {
            ejector: self.ejector.clone(),
            began: call.trail.now(),
            trail: Rc::clone(&call.trail),
            inner: self.inner.call(call),
        }
    }
}

pin_project! {
    /// One try whose result will be recorded.
    pub struct EjectFuture<F> {
        #[pin]
        inner: F,
        ejector: Option<Arc<Ejector>>,
        trail: Rc<Trail>,
        began: Instant,
    }

    impl<F> PinnedDrop for EjectFuture<F> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            // Where slow tries are cut because another copy answers first, nothing else would tell of their slowness.
            if let Some(ejector) = this.ejector.take()
                && this.trail.cut.get()
            {
                let (endpoint, now) = (this.trail.tried.get()[0], clock::now());
                if endpoint != 0 {
                    ejector.took(endpoint, now.saturating_duration_since(*this.began), now);
                }
            }
        }
    }
}

impl<F: Future<Output = Outcome>> Future for EjectFuture<F> {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let this = self.project();
        let Poll::Ready(mut outcome) = this.inner.poll(cx) else {
            return Poll::Pending;
        };
        let endpoint = this.trail.tried.get()[0];
        if let Some(ejector) = this.ejector.take()
            && endpoint != 0
        {
            record(
                &ejector,
                endpoint,
                &mut outcome,
                *this.began,
                this.trail.now(),
            );
        }
        Poll::Ready(outcome)
    }
}

fn record(
    ejector: &Arc<Ejector>,
    endpoint: u64,
    outcome: &mut Outcome,
    began: Instant,
    now: Instant,
) {
    // To the head: how long a stream lasts is the stream's affair.
    let took = now.saturating_duration_since(began);
    match (Health::of(outcome), outcome) {
        (Some(Health::Good), _) => ejector.answered(endpoint, took, now),
        (Some(Health::Bad), _) => ejector.record(endpoint, false, now),
        (Some(Health::Neutral), _) | (None, Err(_)) => {}
        (None, Ok(response)) => {
            let ejector = Arc::clone(ejector);
            response
                .body_mut()
                .on_end(move |ended| match Health::of_end(ended) {
                    Health::Good => ejector.answered(endpoint, took, clock::now()),
                    Health::Bad => ejector.record(endpoint, false, clock::now()),
                    Health::Neutral => {}
                });
        }
    }
}
