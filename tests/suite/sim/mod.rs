//! Simulations: the rooms themselves around an upstream that is modelled, under a stopped clock and seeded chance. A minute of
//! traffic takes a moment, and a figure can be asserted because it comes out the same on every machine.
//!
//! Each scenario prints its figures; `tests/run sim -- --nocapture` shows them. One that fails prints its seed, and
//! `OUTRIDER_SEED=n` runs that alone.

mod chain;
mod fleet;
mod gray;
mod hedge;
mod herd;
mod slow;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use http::HeaderMap;
use http::Request;
use http::Response;
use http::StatusCode;
use outrider::clock;
use outrider::endpoint::Cluster;
use outrider::http::Call;
use outrider::http::Fault;
use outrider::http::LocalFuture;
use outrider::http::Outcome;
use outrider::http::RequestBody;
use outrider::http::ResponseBody;
use outrider::http::Trail;
use outrider::http::hops::Terms;
use outrider::kit::mode::Mode;
use outrider::policy::breaker;
use outrider::policy::breaker::Breaker;
use outrider::policy::bulkhead;
use outrider::policy::bulkhead::Bulkhead;
use outrider::policy::deadline;
use outrider::policy::hedge::HedgeLayer;
use outrider::policy::hedge::Hedger;
use outrider::policy::retry;
use outrider::rng;
use outrider::telemetry::BuildInfo;
use outrider::telemetry::Telemetry;
use tower::Service;
use tower::ServiceBuilder;

/// What every simulation is run with: enough to see that a figure is no luck.
const SEEDS: std::ops::Range<u64> = 0..2;

/// Runs a scenario for each seed, each time from the same moment, and gives the figures of each.
fn simulate<T, F: Future<Output = T> + 'static>(scenario: impl Fn(Draws) -> F) -> Vec<T> {
    struct Tell(u64);
    impl Drop for Tell {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!(
                    "the simulation failed: run again with OUTRIDER_SEED={}",
                    self.0
                );
            }
        }
    }
    let only = std::env::var("OUTRIDER_SEED").ok();
    let only = only.map(|text| text.parse::<u64>().expect("OUTRIDER_SEED is a number"));
    let seeds = only.map_or(SEEDS, |seed| seed..seed + 1);
    seeds
        .map(|seed| {
            let _tell = Tell(seed);
            rng::seed(seed);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build_local(tokio::runtime::LocalOptions::default())
                .expect("a runtime");
            runtime.block_on(scenario(Draws(seed)))
        })
        .collect()
}

/// The chance of the model: SplitMix64, apart from that of the rooms so that neither disturbs the other.
#[derive(Clone, Debug)]
struct Draws(u64);

impl Draws {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    /// Around `mean` as service times are: half of it for certain, the rest exponential.
    fn service_time(&mut self, mean: Duration) -> Duration {
        mean.mul_f64(0.5 - 0.5 * (1.0 - self.unit()).ln())
    }
}

/// A service that can be handed about: a stack of rooms, an application, the end of a chain.
#[derive(Clone)]
struct Door(Rc<dyn Fn(Call) -> LocalFuture<Outcome>>);

impl Door {
    fn of<F: Future<Output = Outcome> + 'static>(service: impl Fn(Call) -> F + 'static) -> Self {
        Self(Rc::new(move |call| Box::pin(service(call))))
    }

    fn stack<S>(stack: S) -> Self
    where
        S: Service<Call, Response = Response<ResponseBody>, Error = Fault> + Clone + 'static,
    {
        Self::of(move |call| {
            let mut stack = stack.clone();
            async move { stack.call(call).await }
        })
    }

    async fn send(&self, call: Call) -> Outcome {
        (self.0)(call).await
    }
}

impl Service<Call> for Door {
    type Response = Response<ResponseBody>;
    type Error = Fault;
    type Future = LocalFuture<Outcome>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        (self.0)(call)
    }
}

/// A GET, as the application sends it, with these fields.
fn call(headers: HeaderMap) -> Call {
    let request = Request::builder().uri("http://payments.shop/charges");
    let (mut head, ()) = request.body(()).expect("a valid request").into_parts();
    head.headers = headers;
    Call {
        head: Box::new(head),
        body: RequestBody::Empty,
        trail: Rc::new(Trail::new(clock::now())),
    }
}

fn answer(status: u16) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = StatusCode::from_u16(status).expect("a valid status");
    response
}

/// Waits as an upstream does that takes so long, and wakes the call up as a pool does.
async fn takes(time: Duration, trail: &Trail) {
    tokio::time::sleep(time).await;
    trail.stamp(clock::now());
}

fn telemetry() -> Arc<Telemetry> {
    let build = BuildInfo {
        version: "",
        commit: "",
    };
    Telemetry::new(build, 1)
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 80))
}

/// Sends `rate` calls a second for so long, evenly, whatever becomes of them; `done` sees each outcome and how long it took.
async fn offer(
    door: &Door,
    rate: u32,
    time: Duration,
    done: impl Fn(Outcome, Duration) + 'static,
) -> u32 {
    let done = Rc::new(done);
    let count = (f64::from(rate) * time.as_secs_f64()) as u32;
    let start = tokio::time::Instant::from_std(clock::now());
    let mut calls = tokio::task::JoinSet::new();
    for nth in 0..count {
        tokio::time::sleep_until(start + Duration::from_secs(1) * nth / rate).await;
        let (door, done) = (door.clone(), Rc::clone(&done));
        calls.spawn_local(async move {
            let began = clock::now();
            let outcome = door.send(call(HeaderMap::new())).await;
            done(outcome, clock::now() - began);
        });
    }
    while calls
        .join_next()
        .await
        .transpose()
        .expect("no call panics")
        .is_some()
    {}
    count
}

/// The rooms of one outrider that a scenario is about; the others are off.
#[derive(Clone, Default)]
struct Rooms {
    deadline: deadline::Settings,
    hops: Terms,
    bulkhead: Option<Arc<Bulkhead>>,
    hedge: Option<(Arc<Hedger>, Arc<Cluster>)>,
    retry: Option<retry::Settings>,
    breaker: Option<Arc<Breaker>>,
}

impl Rooms {
    fn breaker(settings: breaker::Settings) -> Arc<Breaker> {
        let metrics = breaker::metrics::Metrics::new(&telemetry(), "u", "*");
        Breaker::new("u *".to_owned(), settings, metrics)
    }

    fn bulkhead(settings: bulkhead::Settings) -> Arc<Bulkhead> {
        let metrics = bulkhead::metrics::Metrics::new(&telemetry(), "u", "*");
        Bulkhead::new(settings, metrics)
    }

    /// The rooms in the order of the stack, in front of `next`.
    fn before(&self, next: Door) -> Door {
        let telemetry = telemetry();
        let retry = self.retry.clone().map(|settings| {
            let budget = retry::Budget::new(settings.budget.clone());
            let metrics = retry::metrics::Metrics::new(&telemetry, "u", "*");
            (settings, budget, Arc::new(metrics))
        });
        let expiries = Arc::new(deadline::metrics::Metrics::new(&telemetry, "u", "*"));
        let breaker = self.breaker.clone().map(|breaker| {
            let mode = breaker.settings().mode;
            (breaker, mode)
        });
        let bulkhead = self.bulkhead.clone().map(|room| (room, Mode::Enforce));
        let (hedger, cluster) = match self.hedge.clone() {
            Some((hedger, cluster)) => (Some((hedger, Mode::Enforce)), cluster),
            None => (None, Cluster::fixed(&[], clock::now())),
        };
        let terms = self.hops;
        let stack = Door::stack(
            ServiceBuilder::new()
                .layer(deadline::DeadlineLayer::new(
                    self.deadline.clone(),
                    Arc::clone(&expiries),
                ))
                .layer(bulkhead::BulkheadLayer::new(bulkhead))
                .layer(HedgeLayer::new(hedger, cluster))
                .layer(retry::RetryLayer::new(retry))
                .layer(breaker::BreakerLayer::new(breaker))
                .layer(deadline::TryLayer::new(self.deadline.clone(), expiries))
                .service(next),
        );
        Door::of(move |call| {
            call.trail.terms.set(terms);
            let stack = stack.clone();
            async move { stack.send(call).await }
        })
    }
}
