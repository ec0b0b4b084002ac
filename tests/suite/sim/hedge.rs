//! One call in a hundred is slow, wherever it goes: what a second copy of slow calls gains, and what it costs.

use std::cell::Cell;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use outrider::clock;
use outrider::endpoint::Cluster;
use outrider::http::Call;
use outrider::http::Outcome;
use outrider::kit::mode::Mode;
use outrider::policy::hedge;
use outrider::policy::hedge::HedgeLayer;
use outrider::policy::hedge::Hedger;
use outrider::policy::retry;
use tower::ServiceBuilder;

use super::Door;
use super::Draws;
use super::address;
use super::answer;
use super::offer;
use super::simulate;
use super::takes;
use super::telemetry;

const ENDPOINTS: u8 = 3;
const RATE: u32 = 200;
const TIME: Duration = Duration::from_secs(30);
const USUAL: Duration = Duration::from_millis(10);
const SLOW: Duration = Duration::from_secs(1);

struct Model {
    cluster: Arc<Cluster>,
    /// The share of slow calls.
    slow: f64,
    draws: RefCell<Draws>,
    sent: Cell<u32>,
}

impl Model {
    async fn send(&self, call: Call) -> Outcome {
        self.sent.set(self.sent.get() + 1);
        let time = {
            let set = self.cluster.set();
            let new = |at: &usize| !call.trail.was_tried(set.endpoints[*at].id);
            let open: Vec<usize> = (0..set.endpoints.len()).filter(new).collect();
            let mut draws = self.draws.borrow_mut();
            let at = open[(draws.unit() * open.len() as f64) as usize];
            let endpoint = &set.endpoints[at];
            call.trail.begin_try(endpoint.id, endpoint.address);
            if draws.chance(self.slow) {
                SLOW
            } else {
                draws.service_time(USUAL)
            }
        };
        takes(time, &call.trail).await;
        Ok(answer(200))
    }
}

#[derive(Debug)]
struct Figures {
    p50: Duration,
    p99: Duration,
    p999: Duration,
    /// Copies sent for each call.
    load: f64,
}

async fn figures(hedged: bool, slow: f64, draws: Draws) -> Figures {
    let addresses: Vec<_> = (0..ENDPOINTS).map(address).collect();
    let cluster = Cluster::fixed(&addresses, clock::now());
    let model = Rc::new(Model {
        cluster: Arc::clone(&cluster),
        slow,
        draws: RefCell::new(draws),
        sent: Cell::new(0),
    });
    let metrics = hedge::metrics::Metrics::new(&telemetry(), "u", "*");
    let hedger = Hedger::new(hedge::Settings::default(), metrics);
    let upstream = Rc::clone(&model);
    let outrider = Door::stack(
        ServiceBuilder::new()
            .layer(HedgeLayer::new(
                hedged.then_some((hedger, Mode::Enforce)),
                cluster,
            ))
            .layer(retry::RetryLayer::new(None))
            .service(Door::of(move |call| {
                let upstream = Rc::clone(&upstream);
                async move { upstream.send(call).await }
            })),
    );
    let took = Rc::new(RefCell::new(Vec::new()));
    let noted = Rc::clone(&took);
    let calls = offer(&outrider, RATE, TIME, move |outcome, time| {
        assert!(outcome.is_ok(), "every call is answered");
        noted.borrow_mut().push(time);
    })
    .await;
    let mut took = took.take();
    took.sort_unstable();
    let at = |share: f64| took[(share * took.len() as f64) as usize];
    Figures {
        p50: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
        load: f64::from(model.sent.get()) / f64::from(calls),
    }
}

#[test]
fn hedging_cuts_the_p99_by_half_for_a_twentieth_more_load() {
    let without = simulate(|draws| figures(false, 0.01, draws));
    let with = simulate(|draws| figures(true, 0.01, draws));
    println!("sim hedge: one call in a hundred takes 1s: without {without:.4?}, with {with:.4?}");
    for (without, with) in without.iter().zip(&with) {
        assert!(with.p99 * 2 <= without.p99, "{with:?} for {without:?}");
        assert!(with.p999 * 5 <= without.p999, "{with:?} for {without:?}");
        assert!(with.load > 1.0 && with.load <= 1.05, "{with:?}");
        assert!(with.p50 <= without.p50 * 2, "{with:?} for {without:?}");
    }
}

#[test]
fn an_upstream_that_turns_slow_as_a_whole_is_not_sent_twice_the_load() {
    let with = simulate(|draws| figures(true, 0.5, draws));
    println!("sim hedge: every second call takes 1s: {with:.4?}");
    for with in with {
        assert!(with.load <= 1.05, "{with:?}");
    }
}
