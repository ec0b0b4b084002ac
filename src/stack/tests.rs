//! The rooms together, around a scripted upstream and under a stopped clock.

mod bulkhead;
mod hedge;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use http::Method;
use http::Request;
use http::Response;
use tower::Layer;
use tower::Service;
use tower::ServiceBuilder;

use crate::clock;
use crate::http::Call;
use crate::http::Fault;
use crate::http::LocalFuture;
use crate::http::Outcome;
use crate::http::Reason;
use crate::http::RequestBody;
use crate::http::ResponseBody;
use crate::http::Sent;
use crate::http::Trail;
use crate::http::hops::Terms;
use crate::kit::mode::Mode;
use crate::policy::breaker;
use crate::policy::breaker::machine::State;
use crate::policy::deadline;
use crate::policy::retry;
use crate::telemetry::BuildInfo;
use crate::telemetry::Telemetry;

/// What the upstream does with one try.
#[derive(Clone)]
enum Step {
    Answer(u16),
    AnswerWith(u16, &'static str, &'static str),
    Fail(Fault),
    Hang,
    WaitForConnection,
}

#[derive(Clone, Default)]
struct Upstream {
    steps: Rc<RefCell<VecDeque<Step>>>,
    tries: Rc<RefCell<Vec<Duration>>>,
}

impl Upstream {
    /// Plays `steps`, the last one for ever.
    fn playing(steps: &[Step]) -> Self {
        Self {
            steps: Rc::new(RefCell::new(steps.iter().cloned().collect())),
            tries: Rc::default(),
        }
    }

    fn tries(&self) -> usize {
        self.tries.borrow().len()
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
        let since = clock::now() - call.trail.started;
        let trail = Rc::clone(&call.trail);
        self.tries.borrow_mut().push(since);
        let mut steps = self.steps.borrow_mut();
        let step = if steps.len() > 1 {
            steps.pop_front()
        } else {
            steps.front().cloned()
        };
        Box::pin(async move {
            match step.expect("a script has a step") {
                Step::Answer(status) => Ok(answer(status)),
                Step::AnswerWith(status, name, value) => {
                    let mut response = answer(status);
                    let value = http::HeaderValue::from_static(value);
                    response.headers_mut().insert(name, value);
                    Ok(response)
                }
                Step::Fail(fault) => Err(fault),
                Step::Hang => std::future::pending().await,
                Step::WaitForConnection => {
                    trail.waits_for_connection.set(true);
                    std::future::pending().await
                }
            }
        })
    }
}

fn answer(status: u16) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = http::StatusCode::from_u16(status).expect("a test's status is valid");
    response
}

fn telemetry() -> Arc<Telemetry> {
    let build = BuildInfo {
        version: "",
        commit: "",
    };
    Telemetry::new(build, 1)
}

fn call(method: Method) -> Call {
    let request = Request::builder()
        .method(method)
        .uri("http://payments.shop/charges")
        .body(())
        .expect("a test's request is valid");
    Call {
        head: Box::new(request.into_parts().0),
        body: RequestBody::Empty,
        trail: Rc::new(Trail::new(clock::now())),
    }
}

struct Rooms {
    deadline: deadline::Settings,
    retry: retry::Settings,
    budget: Arc<retry::Budget>,
    breaker: Option<(Arc<breaker::Breaker>, Mode)>,
    telemetry: Arc<Telemetry>,
}

impl Rooms {
    fn new(retry: retry::Settings) -> Self {
        Self {
            deadline: deadline::Settings::default(),
            budget: retry::Budget::new(retry.budget.clone()),
            retry,
            breaker: None,
            telemetry: telemetry(),
        }
    }

    fn with_breaker(mut self, settings: breaker::Settings) -> Self {
        let metrics = breaker::metrics::Metrics::new(&self.telemetry, "u", "*");
        let mode = settings.mode;
        self.breaker = Some((breaker::Breaker::new("u *".into(), settings, metrics), mode));
        self
    }

    fn breaker(&self) -> &breaker::Breaker {
        &self.breaker.as_ref().expect("the test has a breaker").0
    }

    /// The rooms in the order of the stack, around `upstream`.
    fn around(
        &self,
        upstream: Upstream,
    ) -> impl Service<Call, Response = Response<ResponseBody>, Error = Fault> + use<> {
        let retries = retry::metrics::Metrics::new(&self.telemetry, "u", "*");
        let expiries = Arc::new(deadline::metrics::Metrics::new(&self.telemetry, "u", "*"));
        let policy = (
            self.retry.clone(),
            Arc::clone(&self.budget),
            Arc::new(retries),
        );
        ServiceBuilder::new()
            .layer(deadline::DeadlineLayer::new(
                self.deadline.clone(),
                Arc::clone(&expiries),
            ))
            .layer(retry::RetryLayer::new(Some(policy)))
            .layer(breaker::BreakerLayer::new(self.breaker.clone()))
            .layer(deadline::TryLayer::new(self.deadline.clone(), expiries))
            .service(upstream)
    }

    async fn send(&self, method: Method, upstream: &Upstream) -> (Outcome, Rc<Trail>) {
        let call = call(method);
        let trail = Rc::clone(&call.trail);
        (self.around(upstream.clone()).call(call).await, trail)
    }
}

fn generous() -> retry::Settings {
    let mut settings = retry::Settings::default();
    settings.budget.floor_per_s = 1000.0;
    settings
}

fn status(outcome: &Outcome) -> u16 {
    outcome
        .as_ref()
        .map_or(0, |response| response.status().as_u16())
}

fn reason(outcome: &Outcome) -> Option<Reason> {
    outcome.as_ref().err().map(|fault| fault.reason)
}

#[tokio::test(start_paused = true)]
async fn a_503_is_tried_again_and_the_next_answer_wins() {
    let upstream = Upstream::playing(&[Step::Answer(503), Step::Answer(200)]);
    let (outcome, _) = Rooms::new(generous()).send(Method::GET, &upstream).await;
    assert_eq!((status(&outcome), upstream.tries()), (200, 2));
}

#[tokio::test(start_paused = true)]
async fn the_last_answer_is_given_when_the_tries_are_used_up() {
    let upstream = Upstream::playing(&[Step::Answer(503)]);
    let (outcome, trail) = Rooms::new(generous()).send(Method::GET, &upstream).await;
    assert_eq!((status(&outcome), upstream.tries()), (503, 3));
    assert_eq!(trail.retry_skipped.get(), Some("exhausted"));
}

#[tokio::test(start_paused = true)]
async fn a_post_that_may_have_arrived_is_not_sent_twice() {
    let upstream = Upstream::playing(&[Step::Fail(Fault::maybe_sent(Reason::Reset))]);
    let (outcome, trail) = Rooms::new(generous()).send(Method::POST, &upstream).await;
    assert_eq!(reason(&outcome), Some(Reason::Reset));
    assert_eq!(upstream.tries(), 1);
    assert_eq!(trail.retry_skipped.get(), Some("method"));
}

#[tokio::test(start_paused = true)]
async fn a_post_that_never_left_is_sent_again() {
    let refused = Step::Fail(Fault::unsent(Reason::ConnectRefused));
    let upstream = Upstream::playing(&[refused, Step::Answer(201)]);
    let (outcome, _) = Rooms::new(generous()).send(Method::POST, &upstream).await;
    assert_eq!((status(&outcome), upstream.tries()), (201, 2));
}

#[tokio::test(start_paused = true)]
async fn a_dead_kept_connection_costs_no_retry() {
    let mut stale = Fault::maybe_sent(Reason::Reset);
    stale.stale = true;
    let upstream = Upstream::playing(&[Step::Fail(stale), Step::Answer(200)]);
    let settings = retry::Settings {
        max: 0,
        ..generous()
    };
    let (outcome, _) = Rooms::new(settings).send(Method::GET, &upstream).await;
    assert_eq!((status(&outcome), upstream.tries()), (200, 2));
}

#[tokio::test(start_paused = true)]
async fn the_budget_ends_a_storm() {
    let mut settings = retry::Settings::default();
    settings.budget.share = 0.2;
    settings.budget.floor_per_s = 0.0;
    let rooms = Rooms::new(settings);
    let upstream = Upstream::playing(&[Step::Answer(503)]);
    for _ in 0..100 {
        let (_, trail) = rooms.send(Method::GET, &upstream).await;
        assert!(trail.retry_skipped.get().is_some());
    }
    assert!(upstream.tries() <= 120, "{} tries", upstream.tries());
}

#[tokio::test(start_paused = true)]
async fn tries_share_the_time_and_never_exceed_it() {
    let upstream = Upstream::playing(&[Step::Hang]);
    let mut settings = generous();
    settings.when.try_timeout = true;
    let mut rooms = Rooms::new(settings);
    rooms.deadline.total = Duration::from_secs(3);
    let started = clock::now();
    let (outcome, _) = rooms.send(Method::GET, &upstream).await;
    assert_eq!(reason(&outcome), Some(Reason::Deadline));
    assert_eq!(upstream.tries(), 3);
    let took = clock::now() - started;
    assert!(took <= Duration::from_millis(3005), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_full_pool_is_nobodys_failure() {
    let upstream = Upstream::playing(&[Step::WaitForConnection]);
    let rooms = Rooms::new(generous()).with_breaker(breaker::Settings::default());
    for _ in 0..30 {
        let (outcome, _) = rooms.send(Method::POST, &upstream).await;
        assert_eq!(reason(&outcome), Some(Reason::PoolTimeout));
    }
    assert_eq!(upstream.tries(), 30, "it is not retried");
    assert_eq!(rooms.breaker().state(clock::now()), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_waited_for_and_not_beyond_the_deadline() {
    let busy = Step::AnswerWith(503, "retry-after", "2");
    let upstream = Upstream::playing(&[busy, Step::Answer(200)]);
    let (outcome, _) = Rooms::new(generous()).send(Method::GET, &upstream).await;
    assert_eq!(status(&outcome), 200);
    assert!(upstream.tries.borrow()[1] >= Duration::from_secs(2));

    let busy = Step::AnswerWith(503, "retry-after", "60");
    let upstream = Upstream::playing(&[busy, Step::Answer(200)]);
    let (outcome, trail) = Rooms::new(generous()).send(Method::GET, &upstream).await;
    assert_eq!((status(&outcome), upstream.tries()), (503, 1));
    assert_eq!(trail.retry_skipped.get(), Some("no_time"));
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_refuses_once_and_says_when_to_come_back() {
    let rooms = Rooms::new(retry::Settings::default()).with_breaker(breaker::Settings::default());
    let upstream = Upstream::playing(&[Step::Answer(500)]);
    for _ in 0..20 {
        rooms.send(Method::GET, &upstream).await.0.ok();
    }
    let before = upstream.tries();
    let (outcome, _) = rooms.send(Method::GET, &upstream).await;
    assert_eq!(reason(&outcome), Some(Reason::BreakerOpen));
    assert!(outcome.is_err_and(|fault| fault.retry_after.is_some()));
    assert_eq!(
        upstream.tries(),
        before,
        "nothing is sent and nothing is retried"
    );
}

#[tokio::test(start_paused = true)]
async fn a_breaker_in_shadow_lets_pass() {
    let settings = breaker::Settings {
        mode: Mode::Shadow,
        ..breaker::Settings::default()
    };
    let rooms = Rooms::new(retry::Settings::default()).with_breaker(settings);
    let upstream = Upstream::playing(&[Step::Answer(500)]);
    for _ in 0..30 {
        let (outcome, _) = rooms.send(Method::GET, &upstream).await;
        assert_eq!(status(&outcome), 500);
    }
    assert_eq!(rooms.breaker().state(clock::now()), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_breaker_closes_again_after_good_probes() {
    let rooms = Rooms::new(retry::Settings::default()).with_breaker(breaker::Settings::default());
    let upstream = Upstream::playing(&[Step::Answer(500)]);
    for _ in 0..20 {
        rooms.send(Method::GET, &upstream).await.0.ok();
    }
    tokio::time::advance(Duration::from_secs(8)).await;
    let healed = Upstream::playing(&[Step::Answer(200)]);
    for _ in 0..3 {
        let (outcome, _) = rooms.send(Method::GET, &healed).await;
        assert_eq!(status(&outcome), 200);
    }
    assert_eq!(rooms.breaker().state(clock::now()), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_gives_its_probe_back() {
    let rooms = Rooms::new(retry::Settings::default()).with_breaker(breaker::Settings::default());
    let upstream = Upstream::playing(&[Step::Answer(500)]);
    for _ in 0..20 {
        rooms.send(Method::GET, &upstream).await.0.ok();
    }
    tokio::time::advance(Duration::from_secs(8)).await;
    let hanging = Upstream::playing(&[Step::Hang]);
    for _ in 0..10 {
        // Dropped while it waits, as when the client closes its connection.
        let left = rooms.send(Method::GET, &hanging);
        tokio::time::timeout(Duration::from_millis(1), left)
            .await
            .err()
            .expect("it hangs");
    }
    let healed = Upstream::playing(&[Step::Answer(200)]);
    let (outcome, _) = rooms.send(Method::GET, &healed).await;
    assert_eq!(status(&outcome), 200, "no probe is lost");
}

#[tokio::test(start_paused = true)]
async fn a_client_error_is_no_failure() {
    let rooms = Rooms::new(generous()).with_breaker(breaker::Settings::default());
    let upstream = Upstream::playing(&[Step::Answer(404)]);
    for _ in 0..50 {
        rooms.send(Method::GET, &upstream).await.0.ok();
    }
    assert_eq!(upstream.tries(), 50);
    assert_eq!(rooms.breaker().state(clock::now()), State::Closed);
}

/// A call of a trusted peer with these fields.
fn told(fields: &[(&'static str, &'static str)]) -> Call {
    let mut call = call(Method::GET);
    for (name, value) in fields {
        let value = http::HeaderValue::from_static(value);
        call.head.headers.insert(*name, value);
    }
    call.trail.terms.set(Terms {
        trusted: true,
        deadline: Some(Mode::Enforce),
        retry: Some(Mode::Enforce),
    });
    call
}

#[tokio::test(start_paused = true)]
async fn a_hurried_caller_opens_no_breaker() {
    let once = retry::Settings {
        max: 0,
        ..generous()
    };
    let judge = breaker::Settings {
        consecutive: Some(20),
        ..breaker::Settings::default()
    };
    let rooms = Rooms::new(once).with_breaker(judge);
    let hanging = Upstream::playing(&[Step::Hang]);
    let began = clock::now();
    for _ in 0..30 {
        let hurry = told(&[("x-request-deadline", "5ms")]);
        let outcome = rooms.around(hanging.clone()).call(hurry).await;
        assert_eq!(reason(&outcome), Some(Reason::Deadline));
    }
    assert!(clock::now() - began < Duration::from_millis(300));
    // Told so little time, a server may answer that it is up.
    let late = Upstream::playing(&[Step::Answer(504)]);
    for _ in 0..30 {
        let hurry = told(&[("x-request-deadline", "5ms")]);
        let outcome = rooms.around(late.clone()).call(hurry).await;
        assert_eq!(status(&outcome), 504);
    }
    assert_eq!(rooms.breaker().state(clock::now()), State::Closed);
    for _ in 0..20 {
        let patient = told(&[("x-request-deadline", "4s")]);
        rooms.around(hanging.clone()).call(patient).await.err();
    }
    assert_eq!(rooms.breaker().state(clock::now()), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_retry_for_which_no_time_is_left_is_not_begun() {
    let busy = Step::AnswerWith(503, "retry-after", "1");
    let upstream = Upstream::playing(&[busy]);
    let mut settings = generous();
    settings.backoff.jitter = retry::config::Jitter::None;
    settings.backoff.base = Duration::from_millis(1);
    // The wait is over half a millisecond before the deadline: the answer there is beats the one that cannot come.
    let call = told(&[("x-request-deadline", "1001.5ms")]);
    let trail = Rc::clone(&call.trail);
    let rooms = Rooms::new(settings);
    let outcome = rooms.around(upstream.clone()).call(call).await;
    assert_eq!((status(&outcome), upstream.tries()), (503, 1));
    assert_eq!(trail.retry_skipped.get(), Some("no_time"));
    let said = outcome.expect("the answer there is");
    assert_eq!(said.headers()["outrider-no-retry"], "no_time");
}

#[tokio::test(start_paused = true)]
async fn a_call_or_try_that_comes_too_late_is_not_begun() {
    let upstream = Upstream::playing(&[Step::Answer(200)]);
    let rooms = Rooms::new(generous());
    let late = |since_ms| {
        let call = told(&[]);
        // Held up so long by the rooms outside, or by the wait for a retry.
        let now = call.trail.started + Duration::from_millis(since_ms);
        call.trail.stamp(now);
        call
    };
    let outcome = rooms.around(upstream.clone()).call(late(5000)).await;
    assert_eq!(reason(&outcome), Some(Reason::Deadline));
    assert!(outcome.is_err_and(|fault| fault.sent == Sent::No));
    let call = late(5000);
    let deadline = call.trail.started + Duration::from_secs(5);
    call.trail.deadline.set(Some(deadline));
    let metrics = deadline::metrics::Metrics::new(&rooms.telemetry, "u", "*");
    let layer = deadline::TryLayer::new(rooms.deadline.clone(), Arc::new(metrics));
    let outcome = layer.layer(upstream.clone()).call(call).await;
    assert_eq!(reason(&outcome), Some(Reason::Deadline));
    assert_eq!(upstream.tries(), 0);
    let outcome = rooms.around(upstream.clone()).call(late(4999)).await;
    assert_eq!(status(&outcome), 200);
}

#[tokio::test(start_paused = true)]
async fn the_retry_of_another_hop_is_not_retried() {
    let upstream = Upstream::playing(&[Step::Answer(503)]);
    let call = told(&[("retry-attempt", "1")]);
    let trail = Rc::clone(&call.trail);
    let outcome = Rooms::new(generous())
        .around(upstream.clone())
        .call(call)
        .await;
    assert_eq!((status(&outcome), upstream.tries()), (503, 1));
    assert_eq!(trail.retry_skipped.get(), Some("hop_retries"));
    // Nothing of it was sent: nobody has seen it.
    let refused = Step::Fail(Fault::unsent(Reason::ConnectRefused));
    let upstream = Upstream::playing(&[refused, Step::Answer(200)]);
    let call = told(&[("retry-attempt", "1")]);
    let outcome = Rooms::new(generous())
        .around(upstream.clone())
        .call(call)
        .await;
    assert_eq!((status(&outcome), upstream.tries()), (200, 2));
}

#[tokio::test(start_paused = true)]
async fn the_refusing_stack_answers_what_the_trail_says() {
    let call = call(Method::GET);
    *call.trail.refusal.borrow_mut() = Some(Fault::unsent(Reason::Unmatched));
    let outcome = tower::layer::util::Identity::new()
        .layer(super::Refuse)
        .call(call)
        .await;
    assert_eq!(reason(&outcome), Some(Reason::Unmatched));
}
