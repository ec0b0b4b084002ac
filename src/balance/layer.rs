//! The innermost service of the stack: choose an endpoint, send, wait for the head.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Instant;

use tower::Service;

use crate::balance::Balancer;
use crate::balance::Settings;
use crate::balance::config::By;
use crate::balance::machine;
use crate::balance::machine::Among;
use crate::balance::machine::Seat;
use crate::balance::ring::Ring;
use crate::clock;
use crate::endpoint::Cluster;
use crate::endpoint::Endpoint;
use crate::endpoint::Lease;
use crate::endpoint::Member;
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
    pub(super) shared: Rc<Shared>,
}

pub(super) struct Shared {
    balancer: Arc<Balancer>,
    cluster: Arc<Cluster>,
    pools: Rc<Pools>,
    metrics: Arc<UpstreamMetrics>,
    patience: Patience,
    view: RefCell<View>,
}

/// This worker's pools in the order of the set's endpoints, so that a choice needs no look-up, and what else is made once
/// for each set.
#[derive(Default)]
struct View {
    generation: u64,
    set: Arc<Set>,
    pools: Vec<Rc<Pool>>,
    /// Nothing but latency and load makes a difference: the shortest way.
    is_plain: bool,
    /// Some endpoints are in our zone.
    prefers: bool,
    /// What a choice knows of each endpoint; filled anew for each.
    seats: Vec<Seat>,
    /// Of turns; see [`machine::turn`].
    credit: Vec<f64>,
    ring: Option<Arc<Ring>>,
}

impl Balance {
    /// Sends to `cluster` over this worker's `pools`, spread by `balancer`.
    #[must_use]
    pub fn new(
        balancer: Arc<Balancer>,
        cluster: Arc<Cluster>,
        pools: Rc<Pools>,
        metrics: Arc<UpstreamMetrics>,
        patience: Patience,
    ) -> Self {
        Self {
            shared: Rc::new(Shared {
                balancer,
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
    pub(super) fn choose(&self, call: &Call) -> Option<(Arc<Endpoint>, Rc<Pool>)> {
        let now = call.trail.now();
        let mut view = self.view.borrow_mut();
        let generation = self.cluster.generation();
        if generation != view.generation {
            self.look_again(&mut view, generation, now);
        }
        let place = match view.set.endpoints.len() {
            0 => return None,
            1 => 0,
            _ if view.is_plain => self.pick(&view.set.endpoints, &call.trail, now),
            _ => self.weigh(&mut view, call, now),
        };
        let endpoint = Arc::clone(&view.set.endpoints[place]);
        Some((endpoint, Rc::clone(&view.pools[place])))
    }

    fn look_again(&self, view: &mut View, generation: u64, now: Instant) {
        for pool in &view.pools {
            pool.sweep(now);
        }
        let set = Arc::clone(&self.cluster.set());
        let seat = |(endpoint, member): (&Arc<Endpoint>, &Member)| Seat {
            serves: true,
            tried: false,
            near: self.balancer.is_near(member.zone.as_ref()),
            weight: member.weight,
            ramp: 1.0,
            in_flight: endpoint.in_flight(),
        };
        let seats: Vec<_> = set.endpoints.iter().zip(&set.members).map(seat).collect();
        let first = seats.first().map(|seat| seat.weight);
        let is_even = seats.iter().all(|seat| Some(seat.weight) == first);
        let prefers = seats.iter().any(|seat| seat.near);
        *view = View {
            generation,
            pools: set
                .endpoints
                .iter()
                .map(|endpoint| self.pools.of(endpoint, &self.metrics))
                .collect(),
            is_plain: is_even && !prefers && is_plain(&self.balancer.settings),
            prefers,
            // Somewhere in the first round, so that a fleet that starts as one does not call the same endpoint first.
            credit: seats
                .iter()
                .map(|seat| rng::draw() * seat.share())
                .collect(),
            seats,
            ring: self.balancer.ring(&set),
            set,
        };
    }

    /// The choice where endpoints differ only by latency and load.
    fn pick(&self, endpoints: &[Arc<Endpoint>], trail: &Trail, now: Instant) -> usize {
        let cost = |place: usize| {
            let endpoint: &Endpoint = &endpoints[place];
            machine::cost(endpoint.latency_s(now), f64::from(endpoint.in_flight()))
        };
        let draws = (rng::bits(), rng::bits());
        let serves = |place: usize| endpoints[place].serves(now);
        let is_new = |place: usize| !trail.was_tried(endpoints[place].id);
        let among = |usable: &dyn Fn(usize) -> bool| {
            machine::pick_among(endpoints.len(), usable, cost, draws)
        };
        among(&|place| serves(place) && is_new(place))
            // A second try at a serving endpoint beats a first try at one that is known to fail.
            .or_else(|| among(&serves))
            .or_else(|| {
                self.balancer.metrics.panics.inc();
                among(&is_new).or_else(|| among(&|_| true))
            })
            .unwrap_or(0)
    }

    /// The choice by everything that is said of the endpoints.
    fn weigh(&self, view: &mut View, call: &Call, now: Instant) -> usize {
        for (seat, endpoint) in view.seats.iter_mut().zip(&view.set.endpoints) {
            seat.serves = endpoint.serves(now);
            seat.tried = call.trail.was_tried(endpoint.id);
            seat.ramp = self.balancer.ramp(endpoint, now);
            seat.in_flight = endpoint.in_flight();
        }
        let metrics = &self.balancer.metrics;
        let settings = &self.balancer.settings;
        let chosen = choose(settings, view, call, now);
        if chosen.lacks_key {
            metrics.unkeyed.inc();
        }
        if chosen.passed_on {
            metrics.passed_on.inc();
        }
        let taken = if settings.mode.enforces() {
            chosen
        } else {
            for seat in &mut view.seats {
                seat.ramp = 1.0;
            }
            let taken = choose(&Settings::default(), view, call, now);
            if taken.place != chosen.place {
                metrics.shadow_moved.inc();
            }
            taken
        };
        if taken.panics {
            metrics.panics.inc();
        }
        if view.prefers && !view.seats[taken.place].near {
            metrics.spillover.inc();
        }
        taken.place
    }
}

/// A choice, and what there is to tell about it.
struct Choice {
    place: usize,
    panics: bool,
    lacks_key: bool,
    passed_on: bool,
}

fn choose(settings: &Settings, view: &mut View, call: &Call, now: Instant) -> Choice {
    let key = settings.hash.as_ref().and_then(|hash| hash.of(call));
    // A key stays on its side of the zone's border: by a draw of its own each time, it would have two endpoints.
    let draw = key.map_or_else(rng::bits, |key| key.with(machine::scatter));
    let among = machine::among(&view.seats, settings.panic, draw);
    let hashed = view.ring.as_ref().zip(key).and_then(|(ring, key)| {
        let order = key.with(|key| ring.from(key));
        machine::bounded(&view.seats, among, settings.bound, order)
    });
    let place = match hashed {
        Some(found) => found.place,
        None => by(settings.by, view, among, now).unwrap_or(0),
    };
    Choice {
        place,
        panics: among.panics(),
        lacks_key: settings.hash.is_some() && key.is_none(),
        passed_on: hashed.is_some_and(|found| found.passed_on),
    }
}

fn is_plain(settings: &Settings) -> bool {
    // Compared with all of the built-in values, so that a setting to come is not forgotten here.
    *settings
        == Settings {
            // Without a hash there is nothing to bound.
            bound: settings.bound,
            ..Settings::default()
        }
}

fn by(by: By, view: &mut View, among: Among, now: Instant) -> Option<usize> {
    let seats = &view.seats;
    let draws = || (rng::bits(), rng::bits());
    match by {
        By::Ewma => {
            let cost = |place: usize| {
                machine::cost(
                    view.set.endpoints[place].latency_s(now),
                    seats[place].load(),
                )
            };
            machine::two(seats, among, cost, draws())
        }
        By::Least => machine::two(seats, among, |place| seats[place].load(), draws()),
        By::RoundRobin => machine::turn(seats, among, &mut view.credit),
    }
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
        match shared.choose(&call) {
            Some((endpoint, pool)) => Box::pin(shared.send(endpoint, pool, call)),
            None => Box::pin(async move {
                shared.cluster.known().await;
                call.trail.stamp(clock::now());
                let (endpoint, pool) = shared.choose(&call).ok_or_else(|| shared.nobody())?;
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
