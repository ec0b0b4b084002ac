//! The hedge layer around an upstream that is slow to order.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use tower::Layer;
use tower::Service;
use tower::ServiceBuilder;

use crate::clock;
use crate::endpoint::Cluster;
use crate::http::Call;
use crate::http::Fault;
use crate::http::LocalFuture;
use crate::http::Outcome;
use crate::http::Reason;
use crate::http::RequestBody;
use crate::http::ResponseBody;
use crate::http::Trail;
use crate::kit::mode::Mode;
use crate::policy::eject;
use crate::policy::eject::EjectLayer;
use crate::policy::eject::Ejector;
use crate::policy::hedge::Hedge;
use crate::policy::hedge::HedgeLayer;
use crate::policy::hedge::Hedger;
use crate::policy::hedge::Settings;
use crate::policy::hedge::config::After;
use crate::policy::hedge::metrics::Metrics;
use crate::policy::retry::RetryLayer;
use crate::telemetry::BuildInfo;
use crate::telemetry::Telemetry;

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Hedges after 30ms, whatever the budget would say.
fn generous() -> Settings {
    let mut settings = Settings {
        after: After::Fixed(millis(30)),
        ..Settings::default()
    };
    settings.budget.floor_per_s = 1000.0;
    settings
}

/// How one copy ends, and after how long.
#[derive(Clone, Copy)]
enum Step {
    Answer(u64, u16),
    Fail(u64, Reason),
    Hang,
}

/// What the upstream saw: for each copy when it came, where it went, whether it was cut.
#[derive(Default)]
struct Seen {
    came: Vec<Duration>,
    went: Vec<u64>,
    heads: Vec<usize>,
    cut: usize,
}

#[derive(Clone)]
struct Upstream {
    steps: Rc<RefCell<VecDeque<Step>>>,
    seen: Rc<RefCell<Seen>>,
    cluster: Arc<Cluster>,
}

struct Cut(Rc<RefCell<Seen>>);

impl Drop for Cut {
    fn drop(&mut self) {
        self.0.borrow_mut().cut += 1;
    }
}

impl Upstream {
    fn send(&self, call: &Call) -> LocalFuture<Outcome> {
        let trail = Rc::clone(&call.trail);
        let set = self.cluster.set();
        let chosen = set
            .endpoints
            .iter()
            .find(|endpoint| !trail.was_tried(endpoint.id))
            .expect("no copy is sent twice to one endpoint");
        trail.begin_try(chosen.id, chosen.address);
        let mut seen = self.seen.borrow_mut();
        seen.came.push(clock::now() - trail.started);
        seen.went.push(chosen.id);
        seen.heads.push(std::ptr::from_ref(&*call.head).addr());
        let step = self.steps.borrow_mut().pop_front();
        let cut = Cut(Rc::clone(&self.seen));
        Box::pin(async move {
            let (after, outcome) = match step.expect("the script is long enough") {
                Step::Answer(after, status) => {
                    let mut response = Response::new(ResponseBody::empty());
                    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
                    (after, Ok(response))
                }
                Step::Fail(after, reason) => (after, Err(Fault::maybe_sent(reason))),
                Step::Hang => std::future::pending().await,
            };
            tokio::time::sleep(millis(after)).await;
            trail.stamp(clock::now());
            std::mem::forget(cut);
            outcome
        })
    }
}

impl Service<Call> for Upstream {
    type Response = Response<ResponseBody>;
    type Error = Fault;
    type Future = LocalFuture<Outcome>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        self.send(&call)
    }
}

impl Service<Rc<Call>> for Upstream {
    type Response = Response<ResponseBody>;
    type Error = Fault;
    type Future = LocalFuture<Outcome>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Rc<Call>) -> Self::Future {
        self.send(&call)
    }
}

struct Room {
    service: Hedge<Upstream>,
    upstream: Upstream,
    hedger: Arc<Hedger>,
    telemetry: Arc<Telemetry>,
}

impl Room {
    fn new(settings: Settings, endpoints: u16, steps: &[Step]) -> Self {
        let build = BuildInfo {
            version: "",
            commit: "",
        };
        let telemetry = Telemetry::new(build, 1);
        let addresses: Vec<SocketAddr> = (1..=endpoints)
            .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
            .collect();
        let cluster = Cluster::fixed(&addresses, clock::now());
        let upstream = Upstream {
            steps: Rc::new(RefCell::new(steps.iter().copied().collect())),
            seen: Rc::default(),
            cluster: Arc::clone(&cluster),
        };
        let mode = settings.mode;
        let hedger = Hedger::new(settings, Metrics::new(&telemetry, "pay", "*"));
        let layer = HedgeLayer::new(Some((Arc::clone(&hedger), mode)), cluster);
        Self {
            service: layer.layer(upstream.clone()),
            upstream,
            hedger,
            telemetry,
        }
    }

    async fn send(&mut self, call: Call) -> u16 {
        let outcome = self.service.call(call).await;
        outcome.map_or_else(
            |fault| fault.reason.status(),
            |response| response.status().as_u16(),
        )
    }

    fn count(&self, family: &str, word: &str) -> u64 {
        let page = self.telemetry.encode();
        let line = page
            .lines()
            .find(|line| line.starts_with(family) && line.contains(&format!("\"{word}\"")));
        line.and_then(|line| line.rsplit(' ').next())
            .map_or(0, |value| value.parse().expect("a count"))
    }

    fn hedges(&self, result: &str) -> u64 {
        self.count("outrider_hedges_total", result)
    }

    fn skipped(&self, why: &str) -> u64 {
        self.count("outrider_hedges_skipped_total", why)
    }

    fn came(&self) -> Vec<u128> {
        let seen = self.upstream.seen.borrow();
        seen.came.iter().map(Duration::as_millis).collect()
    }

    fn cut(&self) -> usize {
        self.upstream.seen.borrow().cut
    }
}

fn call(method: Method) -> Call {
    let request = Request::builder().method(method).uri("/report").body(());
    let trail = Trail::new(clock::now());
    trail.deadline.set(Some(clock::now() + millis(5000)));
    Call {
        head: Box::new(request.expect("a good request").into_parts().0),
        body: RequestBody::Empty,
        trail: Rc::new(trail),
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_answered_in_time_is_sent_once_and_its_head_is_not_copied() {
    let mut room = Room::new(generous(), 2, &[Step::Answer(29, 200)]);
    let call = call(Method::GET);
    let head = std::ptr::from_ref(&*call.head).addr();
    let trail = Rc::clone(&call.trail);
    assert_eq!(room.send(call).await, 200);
    assert_eq!(room.came(), [0]);
    assert_eq!(room.upstream.seen.borrow().heads, [head]);
    assert_eq!((trail.hedged.get(), trail.tries.get()), (None, 1));
    assert_eq!(room.hedger.describe(clock::now())["samples"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_slow_call_is_sent_elsewhere_and_the_first_answer_wins() {
    let steps = [Step::Answer(1000, 200), Step::Answer(10, 201)];
    let mut room = Room::new(generous(), 2, &steps);
    let call = call(Method::GET);
    let trail = Rc::clone(&call.trail);
    assert_eq!(room.send(call).await, 201);
    assert_eq!(room.came(), [0, 30]);
    assert_eq!(room.cut(), 1, "the loser is cut");
    assert_eq!(room.hedges("won"), 1);
    assert_eq!((trail.hedged.get(), trail.tries.get()), (Some("won"), 2));
    let at = trail.endpoint.get().expect("an endpoint");
    assert_eq!(at.port(), 2, "the winner's endpoint");
    assert_eq!(trail.now() - trail.started, millis(40));
    let seen = room.upstream.seen.borrow();
    assert_eq!(
        (trail.was_tried(seen.went[0]), trail.was_tried(seen.went[1])),
        (true, true)
    );
    assert_eq!(trail.tried.get()[0], seen.went[0], "still the first copy's");
}

#[tokio::test(start_paused = true)]
async fn the_first_copy_may_still_win() {
    let steps = [Step::Answer(50, 200), Step::Answer(1000, 201)];
    let mut room = Room::new(generous(), 2, &steps);
    let call = call(Method::GET);
    let trail = Rc::clone(&call.trail);
    assert_eq!(room.send(call).await, 200);
    assert_eq!((room.cut(), room.hedges("lost")), (1, 1));
    assert_eq!(trail.endpoint.get().expect("an endpoint").port(), 1);
    assert_eq!((trail.hedged.get(), trail.tries.get()), (Some("lost"), 2));
}

#[tokio::test(start_paused = true)]
async fn a_failure_waits_for_the_other_copy() {
    for steps in [
        [Step::Answer(40, 503), Step::Answer(50, 200)],
        [Step::Fail(40, Reason::Reset), Step::Answer(50, 200)],
        [Step::Answer(40, 429), Step::Answer(50, 200)],
        [Step::Answer(80, 200), Step::Answer(10, 500)],
        [Step::Answer(80, 200), Step::Fail(10, Reason::BreakerOpen)],
    ] {
        let mut room = Room::new(generous(), 2, &steps);
        assert_eq!(room.send(call(Method::GET)).await, 200);
        assert_eq!(room.cut(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn when_all_copies_fail_the_last_outcome_stands() {
    let steps = [Step::Answer(40, 503), Step::Answer(50, 500)];
    let mut room = Room::new(generous(), 2, &steps);
    let failing = call(Method::GET);
    let trail = Rc::clone(&failing.trail);
    assert_eq!(room.send(failing).await, 500);
    assert_eq!(trail.hedged.get(), Some("failed"));
    assert_eq!(trail.endpoint.get().expect("an endpoint").port(), 2);
    assert_eq!((room.hedges("failed"), room.hedges("lost")), (1, 0));

    let steps = [Step::Answer(40, 503), Step::Fail(50, Reason::BreakerOpen)];
    let mut room = Room::new(generous(), 2, &steps);
    let failing = call(Method::GET);
    let trail = Rc::clone(&failing.trail);
    assert_eq!(room.send(failing).await, 503);
    assert_eq!(
        trail.endpoint.get().expect("an endpoint").port(),
        1,
        "an answer of the upstream says more than our own refusal"
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_early_is_not_hedged() {
    let mut room = Room::new(generous(), 2, &[Step::Answer(20, 503)]);
    assert_eq!(room.send(call(Method::GET)).await, 503);
    assert_eq!(room.came(), [0]);
    assert_eq!(
        room.hedger.describe(clock::now())["samples"],
        0,
        "a failure is no latency"
    );
}

#[tokio::test(start_paused = true)]
async fn copies_go_out_one_after_the_other_up_to_max_each_elsewhere() {
    let settings = Settings {
        max: 3,
        ..generous()
    };
    let mut room = Room::new(settings, 9, &[Step::Hang; 4]);
    let slow = room.service.call(call(Method::GET));
    let waited = tokio::time::timeout(millis(1000), slow).await;
    assert!(waited.is_err(), "nobody answers");
    assert_eq!(room.came(), [0, 30, 60, 90]);
    assert_eq!(room.cut(), 4, "a client that leaves cuts every copy");
    assert_eq!(room.hedges("abandoned"), 3);
    let seen = room.upstream.seen.borrow();
    let places: std::collections::HashSet<_> = seen.went.iter().collect();
    assert_eq!(places.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn unsafe_calls_are_only_sent_twice_with_a_key() {
    for (method, idempotent, sent) in [
        (Method::POST, false, 1),
        (Method::PUT, false, 1),
        (Method::DELETE, false, 1),
        (Method::POST, true, 2),
        (Method::HEAD, false, 2),
    ] {
        let steps = [Step::Answer(100, 200), Step::Answer(10, 200)];
        let mut room = Room::new(generous(), 2, &steps);
        let call = call(method.clone());
        call.trail.idempotent.set(idempotent);
        assert_eq!(room.send(call).await, 200);
        assert_eq!(room.came().len(), sent, "{method} {idempotent}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_is_never_sent_twice() {
    let mut room = Room::new(generous(), 2, &[Step::Answer(100, 101)]);
    let mut call = call(Method::GET);
    let websocket = http::HeaderValue::from_static("websocket");
    call.head.headers.insert(http::header::UPGRADE, websocket);
    assert_eq!(room.send(call).await, 101);
    assert_eq!(room.came(), [0]);
}

#[tokio::test(start_paused = true)]
async fn with_one_endpoint_a_slow_call_is_counted_and_left_alone() {
    let steps = [Step::Answer(100, 200), Step::Answer(10, 200)];
    let mut room = Room::new(generous(), 1, &steps);
    assert_eq!(room.send(call(Method::GET)).await, 200);
    assert_eq!(
        (room.came().len(), room.skipped("no_other_endpoint")),
        (1, 1)
    );
    assert_eq!(room.send(call(Method::GET)).await, 200);
    assert_eq!(room.skipped("no_other_endpoint"), 1, "that one was fast");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_rests_is_no_other_endpoint() {
    let mut room = Room::new(generous(), 2, &[Step::Answer(100, 200)]);
    let resting = Arc::clone(&room.upstream.cluster.set().endpoints[1]);
    resting.rest(clock::now() + millis(10_000));
    assert_eq!(room.send(call(Method::GET)).await, 200);
    assert_eq!(
        (room.came().len(), room.skipped("no_other_endpoint")),
        (1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn the_budget_bounds_copies() {
    let mut settings = generous();
    settings.budget.floor_per_s = 0.0;
    let mut steps = Vec::new();
    steps.extend([Step::Answer(100, 200); 99]);
    let mut room = Room::new(settings, 2, &steps);
    for _ in 0..80 {
        assert_eq!(room.send(call(Method::GET)).await, 200);
    }
    assert_eq!(room.came().len(), 84, "5% of 80");
    assert_eq!(room.skipped("budget"), 76);
}

#[tokio::test(start_paused = true)]
async fn a_percentile_that_is_not_known_yet_hedges_nothing() {
    let mut room = Room::new(Settings::default(), 2, &[Step::Answer(1000, 200); 50]);
    for _ in 0..50 {
        assert_eq!(room.send(call(Method::GET)).await, 200);
    }
    assert_eq!((room.came().len(), room.skipped("warming")), (50, 50));
    let delay = room.hedger.describe(clock::now())["after_ms"].as_f64();
    assert!(
        delay.is_some_and(|ms| (900.0..1100.0).contains(&ms)),
        "{delay:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn shadow_counts_and_changes_nothing() {
    let settings = Settings {
        mode: Mode::Shadow,
        ..generous()
    };
    let mut room = Room::new(settings, 2, &[Step::Answer(1000, 200)]);
    let call = call(Method::GET);
    let trail = Rc::clone(&call.trail);
    assert_eq!(room.send(call).await, 200);
    assert_eq!(room.came(), [0]);
    assert_eq!(trail.now() - trail.started, millis(1000));
    assert_eq!(
        (room.hedges("would"), trail.hedged.get()),
        (1, Some("would"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_near_its_deadline_gets_no_copy() {
    let mut room = Room::new(generous(), 2, &[Step::Answer(100, 200)]);
    let call = call(Method::GET);
    call.trail.deadline.set(Some(clock::now() + millis(30)));
    assert_eq!(room.send(call).await, 200);
    assert_eq!((room.came().len(), room.skipped("no_time")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_first_copy_that_was_cut_counts_as_at_least_so_long() {
    let steps = [Step::Hang, Step::Answer(10, 200)];
    let mut room = Room::new(generous(), 2, &steps);
    assert_eq!(room.send(call(Method::GET)).await, 200);
    assert_eq!(room.hedger.describe(clock::now())["samples"], 1);
}

/// 1 % of the calls meet an endpoint that takes a second: at most 5 % more load, and the tail is gone.
#[tokio::test(start_paused = true)]
async fn copies_cut_the_tail_for_at_most_a_twentieth_more_load() {
    const CALLS: usize = 4000;
    let mut room = Room::new(Settings::default(), 3, &[]);
    let mut slow = Vec::new();
    for n in 0..CALLS {
        // An even spread below, so that p95 is near 19ms.
        let usual = 1 + (n as u64 * 7) % 19;
        let took = if n % 100 == 99 { 1000 } else { usual };
        let steps = [Step::Answer(took, 200), Step::Answer(10, 200)];
        room.upstream.steps.replace(steps.into());
        let call = call(Method::GET);
        let trail = Rc::clone(&call.trail);
        assert_eq!(room.send(call).await, 200);
        if n >= 100 {
            slow.push(trail.now() - trail.started);
        }
    }
    slow.sort_unstable();
    let tail = slow[slow.len() * 995 / 1000];
    assert!(tail < millis(100), "{tail:?}");
    let copies = room.came().len() - CALLS;
    assert!(copies > 30 && copies <= CALLS / 20, "{copies} copies");
}

/// One endpoint of four is slow; all its tries are cut by copies that answer first.
#[tokio::test(start_paused = true)]
async fn an_endpoint_whose_tries_are_always_cut_is_still_seen_to_be_slow() {
    let addresses: Vec<SocketAddr> = (1..=4)
        .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
        .collect();
    let cluster = Cluster::fixed(&addresses, clock::now());
    let telemetry = Telemetry::new(
        BuildInfo {
            version: "",
            commit: "",
        },
        1,
    );
    let settings = eject::Settings {
        slow: Some(3.0),
        ..eject::Settings::default()
    };
    let metrics = eject::metrics::Metrics::new(&telemetry, "pay");
    let ejector = Ejector::new("pay".into(), settings, Arc::clone(&cluster), metrics);
    let hedger = Hedger::new(generous(), Metrics::new(&telemetry, "pay", "*"));
    let turn = Rc::new(Cell::new(0_usize));
    let set = cluster.set().clone();
    let slow = Arc::clone(&set.endpoints[0]);
    let upstream = tower::service_fn(move |call: Call| {
        let (turn, set) = (Rc::clone(&turn), Arc::clone(&set));
        async move {
            let endpoint = loop {
                turn.set(turn.get() + 1);
                let next = &set.endpoints[turn.get() % 4];
                if next.serves(clock::now()) && !call.trail.was_tried(next.id) {
                    break next;
                }
            };
            call.trail.begin_try(endpoint.id, endpoint.address);
            let time = if endpoint.address.port() == 1 {
                9000
            } else {
                5
            };
            tokio::time::sleep(millis(time)).await;
            call.trail.stamp(clock::now());
            Ok(Response::new(ResponseBody::empty()))
        }
    });
    let mut service = ServiceBuilder::new()
        .layer(HedgeLayer::new(Some((hedger, Mode::Enforce)), cluster))
        .layer(RetryLayer::new(None))
        .layer(EjectLayer::new(Some(ejector)))
        .service(upstream);
    for _ in 0..400 {
        let outcome = service.call(call(Method::GET)).await;
        assert!(outcome.is_ok());
        if !slow.serves(clock::now()) {
            return;
        }
    }
    panic!("the slow endpoint was never ejected");
}
