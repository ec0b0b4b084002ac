//! One endpoint of five is gray: it answers ten times as slowly and fails one call in twenty, so that no failure rate ever
//! finds it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use outrider::balance::machine;
use outrider::clock;
use outrider::endpoint::Cluster;
use outrider::endpoint::Endpoint;
use outrider::http::Call;
use outrider::http::Outcome;
use outrider::http::Trail;
use outrider::policy::eject;
use outrider::policy::eject::EjectLayer;
use outrider::policy::eject::Ejector;
use outrider::rng;
use tower::ServiceBuilder;

use super::Door;
use super::Draws;
use super::address;
use super::answer;
use super::offer;
use super::simulate;
use super::takes;
use super::telemetry;

const ENDPOINTS: u8 = 5;
const GRAY: usize = 2;
const RATE: u32 = 200;
const WITHIN: Duration = Duration::from_secs(10);

#[derive(Clone, Copy)]
enum By {
    Ewma,
    RoundRobin,
}

/// The endpoints with everything of theirs but the sockets.
struct Model {
    cluster: Arc<Cluster>,
    by: By,
    draws: RefCell<Draws>,
    turn: RefCell<usize>,
    sent: RefCell<Vec<(Instant, usize)>>,
}

impl Model {
    fn choose(&self, endpoints: &[Arc<Endpoint>], trail: &Trail, now: Instant) -> usize {
        let serves = |at: usize| endpoints[at].serves(now) && !trail.was_tried(endpoints[at].id);
        match self.by {
            By::Ewma => {
                let cost = |at: usize| {
                    let endpoint: &Endpoint = &endpoints[at];
                    machine::cost(endpoint.latency_s(now), f64::from(endpoint.in_flight()))
                };
                let draws = (rng::bits(), rng::bits());
                machine::pick_among(endpoints.len(), serves, cost, draws).unwrap_or(0)
            }
            By::RoundRobin => loop {
                let mut turn = self.turn.borrow_mut();
                *turn = (*turn + 1) % endpoints.len();
                if serves(*turn) {
                    break *turn;
                }
            },
        }
    }

    async fn send(&self, call: Call) -> Outcome {
        let set = self.cluster.set().clone();
        let now = call.trail.now();
        let at = self.choose(&set.endpoints, &call.trail, now);
        let endpoint = &set.endpoints[at];
        call.trail.begin_try(endpoint.id, endpoint.address);
        self.sent.borrow_mut().push((now, at));
        let mut lease = endpoint.lease(now);
        let (time, fails) = {
            let mut draws = self.draws.borrow_mut();
            let mean = Duration::from_millis(if at == GRAY { 100 } else { 10 });
            (draws.service_time(mean), at == GRAY && draws.chance(0.05))
        };
        takes(time, &call.trail).await;
        let now = call.trail.now();
        if fails {
            lease.failed(None, now);
            return Ok(answer(503));
        }
        lease.answered(now);
        Ok(answer(200))
    }
}

/// What became of the gray endpoint.
#[derive(Debug)]
struct Fate {
    /// After so many seconds it was ejected.
    ejected_after: Option<f64>,
    /// Its share of the calls in the second ten seconds.
    share: f64,
    /// Healthy endpoints that were out at some time.
    wronged: usize,
}

async fn fate(by: By, slow: Option<f64>, draws: Draws) -> Fate {
    let start = clock::now();
    let addresses: Vec<_> = (0..ENDPOINTS).map(address).collect();
    let cluster = Cluster::fixed(&addresses, start);
    let settings = eject::Settings {
        slow,
        ..eject::Settings::default()
    };
    let metrics = eject::metrics::Metrics::new(&telemetry(), "u");
    let ejector = Ejector::new("u".to_owned(), settings, Arc::clone(&cluster), metrics);
    let model = Rc::new(Model {
        cluster: Arc::clone(&cluster),
        by,
        draws: RefCell::new(draws),
        turn: RefCell::new(0),
        sent: RefCell::default(),
    });
    let upstream = Rc::clone(&model);
    let outrider = Door::stack(
        ServiceBuilder::new()
            .layer(EjectLayer::new(Some(ejector)))
            .service(Door::of(move |call| {
                let upstream = Rc::clone(&upstream);
                async move { upstream.send(call).await }
            })),
    );
    let out = Rc::new(RefCell::new(vec![None; usize::from(ENDPOINTS)]));
    let noted = Rc::clone(&out);
    offer(&outrider, RATE, 2 * WITHIN, move |_, _| {
        let now = clock::now();
        for (at, endpoint) in cluster.set().endpoints.iter().enumerate() {
            if !endpoint.serves(now) {
                noted.borrow_mut()[at].get_or_insert((now - start).as_secs_f64());
            }
        }
    })
    .await;
    let late = |sent: &&(Instant, usize)| sent.0 - start >= WITHIN;
    let sent = model.sent.borrow();
    let to_gray = sent
        .iter()
        .filter(late)
        .filter(|(_, at)| *at == GRAY)
        .count();
    let mut out = out.take();
    let ejected_after = out.remove(GRAY);
    Fate {
        ejected_after,
        share: to_gray as f64 / sent.iter().filter(late).count() as f64,
        wronged: out.iter().flatten().count(),
    }
}

#[test]
fn a_gray_endpoint_is_out_of_the_rotation_within_ten_seconds() {
    let missed = simulate(|draws| fate(By::RoundRobin, None, draws));
    let slow = simulate(|draws| fate(By::RoundRobin, Some(3.0), draws));
    let ewma = simulate(|draws| fate(By::Ewma, None, draws));
    println!(
        "sim gray: one of five endpoints with 5 % errors and 10x latency: round robin {missed:.2?}, with eject slow 3x {slow:.2?}, ewma {ewma:.4?}"
    );
    for fate in missed {
        assert!(
            fate.ejected_after.is_none(),
            "failures alone find it: {fate:?}"
        );
        assert!(fate.share > 0.19, "{fate:?}");
    }
    for fate in slow {
        assert!(
            fate.ejected_after
                .is_some_and(|after| after < WITHIN.as_secs_f64()),
            "{fate:?}"
        );
        assert_eq!(fate.wronged, 0, "{fate:?}");
    }
    for fate in ewma {
        assert!(fate.share < 0.01, "starved, not ejected: {fate:?}");
        assert_eq!(fate.wronged, 0, "{fate:?}");
    }
}
