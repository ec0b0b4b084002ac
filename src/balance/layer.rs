//! The innermost service of the stack: choose an endpoint, send, wait for the head.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Instant;

use tower::Service;

use crate::balance::machine;
use crate::clock;
use crate::endpoint::Cluster;
use crate::endpoint::Endpoint;
use crate::endpoint::Lease;
use crate::endpoint::Set;
use crate::endpoint::pool::Patience;
use crate::endpoint::pool::Pool;
use crate::endpoint::pool::Pools;
use crate::http::Call;
use crate::http::Fault;
use crate::http::LocalFuture;
use crate::http::Outcome;
use crate::http::Reason;
use crate::http::ResponseBody;
use crate::http::Sent;
use crate::http::Trail;
use crate::rng;
use crate::telemetry::UpstreamMetrics;

/// Sends each call to an endpoint of one cluster.
#[derive(Clone)]
pub struct Balance {
    shared: Rc<Shared>,
}

struct Shared {
    cluster: Arc<Cluster>,
    pools: Rc<Pools>,
    metrics: Arc<UpstreamMetrics>,
    patience: Patience,
    view: RefCell<View>,
}

/// This worker's pools in the order of the set's endpoints, so that a choice needs no look-up.
#[derive(Default)]
struct View {
    generation: u64,
    set: Arc<Set>,
    pools: Vec<Rc<Pool>>,
}

impl Balance {
    /// Sends to `cluster` over this worker's `pools`.
    #[must_use]
    pub fn new(
        cluster: Arc<Cluster>,
        pools: Rc<Pools>,
        metrics: Arc<UpstreamMetrics>,
        patience: Patience,
    ) -> Self {
        Self {
            shared: Rc::new(Shared {
                cluster,
                pools,
                metrics,
                patience,
                view: RefCell::default(),
            }),
        }
    }
}

impl Shared {
    /// The endpoint for this try and its pool.
    fn choose(&self, trail: &Trail, now: Instant) -> Option<(Arc<Endpoint>, Rc<Pool>)> {
        let mut view = self.view.borrow_mut();
        let generation = self.cluster.generation();
        if generation != view.generation {
            self.look_again(&mut view, generation, now);
        }
        let endpoints = &view.set.endpoints;
        let place = match endpoints.len() {
            0 => return None,
            1 => 0,
            _ => pick(endpoints, trail, now),
        };
        Some((Arc::clone(&endpoints[place]), Rc::clone(&view.pools[place])))
    }

    fn look_again(&self, view: &mut View, generation: u64, now: Instant) {
        for pool in &view.pools {
            pool.sweep(now);
        }
        view.generation = generation;
        view.set = self.cluster.set().clone();
        view.pools = view
            .set
            .endpoints
            .iter()
            .map(|endpoint| self.pools.of(endpoint, &self.metrics))
            .collect();
    }
}

fn pick(endpoints: &[Arc<Endpoint>], trail: &Trail, now: Instant) -> usize {
    let cost = |place: usize| {
        let endpoint: &Endpoint = &endpoints[place];
        machine::cost(endpoint.latency_s(now), endpoint.in_flight())
    };
    let draws = (rng::bits(), rng::bits());
    let serves = |place: usize| endpoints[place].serves(now);
    let is_new = |place: usize| !trail.was_tried(endpoints[place].id);
    let among =
        |usable: &dyn Fn(usize) -> bool| machine::pick_among(endpoints.len(), usable, cost, draws);
    among(&|place| serves(place) && is_new(place))
        // A second try at a serving endpoint beats a first try at one that is known to fail.
        .or_else(|| among(&serves))
        .or_else(|| among(&|_| true))
        .unwrap_or(0)
}

impl Service<Call> for Balance {
    type Response = http::Response<ResponseBody>;
    type Error = Fault;
    type Future = LocalFuture<Outcome>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let shared = Rc::clone(&self.shared);
        match shared.choose(&call.trail, call.trail.now()) {
            Some((endpoint, pool)) => Box::pin(shared.send(endpoint, pool, call)),
            None => Box::pin(async move {
                shared.cluster.known().await;
                call.trail.stamp(clock::now());
                let (endpoint, pool) = shared
                    .choose(&call.trail, call.trail.now())
                    .ok_or_else(|| shared.nobody())?;
                shared.send(endpoint, pool, call).await
            }),
        }
    }
}

impl Shared {
    async fn send(self: Rc<Self>, endpoint: Arc<Endpoint>, pool: Rc<Pool>, call: Call) -> Outcome {
        let trail = Rc::clone(&call.trail);
        trail.begin_try(endpoint.id, endpoint.address);
        let lease = endpoint.lease(trail.now());
        let outcome = pool.send(call, self.patience).await;
        self.settle(lease, outcome, trail.now())
    }

    fn settle(&self, mut lease: Lease, mut outcome: Outcome, now: Instant) -> Outcome {
        match &mut outcome {
            Ok(response) => {
                if response.status().is_server_error() {
                    lease.failed(self.typical(lease.endpoint(), now), now);
                } else {
                    lease.answered(now);
                }
                if response.body().is_streaming() {
                    response.body_mut().on_end(move |_| drop(lease));
                }
            }
            Err(fault) => {
                if fault.sent == Sent::No {
                    self.cluster.suspect();
                }
                lease.failed(self.typical(lease.endpoint(), now), now);
            }
        }
        outcome
    }

    /// The mean latency, in seconds, of the endpoints beside `failing` that are known at all.
    fn typical(&self, failing: u64, now: Instant) -> Option<f64> {
        let set = self.cluster.set();
        let known = set
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.id != failing)
            .map(|endpoint| endpoint.latency_s(now))
            .filter(|latency| *latency > 0.0);
        let (count, sum) = known.fold((0.0, 0.0), |(n, sum), latency| (n + 1.0, sum + latency));
        (count > 0.0).then(|| sum / count)
    }

    fn nobody(&self) -> Fault {
        Fault::unsent(self.cluster.set().failed.unwrap_or(Reason::NoEndpoint))
    }
}
