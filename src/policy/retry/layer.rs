//! The skin of the retry room.

use std::borrow::Borrow;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use std::time::Instant;

use http::header;
use parking_lot::Mutex;
use tower::Layer;
use tower::Service;

use crate::clock;
use crate::http::Call;
use crate::http::Fault;
use crate::http::LocalFuture;
use crate::http::MethodClass;
use crate::http::Outcome;
use crate::http::Reason;
use crate::http::ResponseBody;
use crate::http::Sent;
use crate::http::grpc_status_of;
use crate::http::hops;
use crate::http::is_grpc;
use crate::http::note::Note;
use crate::kit::budget;
use crate::kit::mode::Mode;
use crate::policy::retry::Settings;
use crate::policy::retry::machine;
use crate::policy::retry::machine::Attempt;
use crate::policy::retry::machine::Decision;
use crate::policy::retry::machine::Verdictable;
use crate::policy::retry::machine::WhyNot;
use crate::policy::retry::metrics::Metrics;
use crate::rng;

/// Why a retry that was wanted was not made: the budget had nothing left.
const NO_BUDGET: &str = "retry_budget";
/// The bodies of all calls take up the memory for keeping them (`overload.replay`).
const NO_MEMORY: &str = "replay_memory";
/// The same word for a policy in `mode: shadow`.
const SHADOW: &str = "shadow";

/// The retry budget of one upstream, shared by its routes and all workers, carried over a reload that keeps its settings.
#[derive(Debug)]
pub struct Budget {
    settings: budget::BudgetSettings,
    budget: Mutex<budget::Budget>,
}

impl Budget {
    /// A budget that has not been drawn on.
    #[must_use]
    pub fn new(settings: budget::BudgetSettings) -> Arc<Self> {
        Arc::new(Self {
            budget: Mutex::new(budget::Budget::new(&settings)),
            settings,
        })
    }

    /// What it was built from.
    #[must_use]
    pub fn settings(&self) -> &budget::BudgetSettings {
        &self.settings
    }

    /// Retries that could be made now.
    #[must_use]
    pub fn left(&self) -> f64 {
        self.budget.lock().balance(clock::now())
    }

    /// The same at `now`, as precise as a note needs it.
    fn left_at(&self, now: Instant) -> f32 {
        self.budget.lock().balance(now) as f32
    }
}

/// What the retry room needs to know of its route.
#[derive(Debug)]
pub struct Policy {
    settings: Settings,
    budget: Arc<Budget>,
    metrics: Arc<Metrics>,
}

/// Repeats failed tries; without a policy only the resending that kept connections need.
#[derive(Clone, Debug)]
pub struct RetryLayer {
    policy: Option<Rc<Policy>>,
}

impl RetryLayer {
    /// Retries by `policy`; `None` is off.
    #[must_use]
    pub fn new(policy: Option<(Settings, Arc<Budget>, Arc<Metrics>)>) -> Self {
        Self {
            policy: policy.map(|(settings, budget, metrics)| {
                Rc::new(Policy {
                    settings,
                    budget,
                    metrics,
                })
            }),
        }
    }
}

impl<S> Layer<S> for RetryLayer {
    type Service = Retry<S>;

    fn layer(&self, inner: S) -> Retry<S> {
        Retry {
            inner,
            policy: self.policy.clone(),
        }
    }
}

/// See [`RetryLayer`].
#[derive(Clone, Debug)]
pub struct Retry<S> {
    inner: S,
    policy: Option<Rc<Policy>>,
}

impl<S> Service<Call> for Retry<S>
where
    S: Service<Call, Response = http::Response<ResponseBody>, Error = Fault> + Clone + 'static,
{
    type Response = S::Response;
    type Error = Fault;
    type Future = LocalFuture<Outcome>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let policy = self.policy.clone();
        Box::pin(run(self.inner.clone(), policy, call))
    }
}

/// A call that whoever stands outside keeps as well, so that it can be sent a second time beside this one.
impl<S> Service<Rc<Call>> for Retry<S>
where
    S: Service<Call, Response = http::Response<ResponseBody>, Error = Fault> + Clone + 'static,
{
    type Response = S::Response;
    type Error = Fault;
    type Future = LocalFuture<Outcome>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Rc<Call>) -> Self::Future {
        let policy = self.policy.clone();
        Box::pin(run(self.inner.clone(), policy, call))
    }
}

async fn run<S>(inner: S, policy: Option<Rc<Policy>>, call: impl Borrow<Call>) -> Outcome
where
    S: Service<Call, Response = http::Response<ResponseBody>, Error = Fault> + Clone,
{
    let call = call.borrow();
    if let Some(policy) = policy {
        return with_retries(inner, &policy, call).await;
    }
    call.trail.tries_left.set(1);
    one_try(inner, call, 0).await
}

async fn with_retries<S>(inner: S, policy: &Policy, call: &Call) -> Outcome
where
    S: Service<Call, Response = http::Response<ResponseBody>, Error = Fault> + Clone,
{
    let settings = &policy.settings;
    call.body.keep_up_to(settings.replay);
    if !call.trail.is_copy() {
        // A second copy of a call is no further call: it must not pay for retries.
        policy.budget.budget.lock().deposit(call.trail.now());
    }
    let mut previous = Duration::ZERO;
    let mut tries_made = 0;
    loop {
        // Time is only saved for later tries if a try that used up its share would be followed by one.
        let shares = if settings.when.try_timeout {
            settings.max + 1 - tries_made
        } else {
            1
        };
        call.trail.tries_left.set(shares);
        let mut outcome = one_try(inner.clone(), call, tries_made).await;
        tries_made += 1;
        let Some(judged) = judged(&mut outcome).await else {
            return outcome;
        };
        let attempt = attempt(call, &outcome, judged, tries_made, previous);
        let after = match policy.judge(call, &attempt) {
            Decision::Retry { after } => after,
            Decision::Stop(why) => {
                match why {
                    WhyNot::NotRetriable => {}
                    WhyNot::BodyTooLarge if call.body.is_crowded_out() => {
                        policy.skip(call, NO_MEMORY);
                    }
                    _ => policy.skip(call, why.word()),
                }
                let told = machine::told_upwards(why, tries_made);
                return policy.give_up(call, outcome, told);
            }
        };
        if settings.mode == Mode::Shadow {
            policy.skip(call, SHADOW);
            return outcome;
        }
        if !policy.budget.budget.lock().withdraw(call.trail.now()) {
            policy.skip(call, NO_BUDGET);
            return policy.give_up(call, outcome, Some(NO_BUDGET));
        }
        let why = word(&outcome);
        call.trail.note(Note::Retry {
            again_in: Some(after),
            why,
            budget: policy.budget.left_at(call.trail.now()),
        });
        policy.metrics.retried(why);
        drop(outcome);
        // Boxed: a call that is not retried, nearly every one, need not have room for a timer.
        Box::pin(tokio::time::sleep(after)).await;
        call.trail.stamp(clock::now());
        previous = after;
    }
}

impl Policy {
    /// The machine's judgement, with what the hops say where that is enforced.
    fn judge(&self, call: &Call, attempt: &Attempt<'_>) -> Decision {
        let draw = rng::draw();
        let decision = machine::judge(&self.settings, attempt, draw);
        if call.trail.terms.get().retry != Some(Mode::Shadow) {
            return decision;
        }
        if let Decision::Stop(why @ (WhyNot::Forbidden | WhyNot::HopRetries)) = decision {
            self.metrics.would_skip(why.word());
        }
        let deaf = Attempt {
            hop_retries: false,
            pushback: None,
            ..*attempt
        };
        machine::judge(&self.settings, &deaf, draw)
    }

    /// The outcome as it goes to the client, with what the hops before us are told.
    fn give_up(&self, call: &Call, mut outcome: Outcome, told: Option<&'static str>) -> Outcome {
        let Some(why) = told else { return outcome };
        if self.settings.mode.enforces() && call.trail.terms.get().retry_holds() {
            match &mut outcome {
                Ok(response) => hops::forbid_retry(response.headers_mut(), why, false),
                Err(fault) => fault.no_retry = Some(why),
            }
        }
        outcome
    }

    fn skip(&self, call: &Call, why: &'static str) {
        call.trail.retry_skipped.set(Some(why));
        call.trail.note(Note::Retry {
            again_in: None,
            why,
            budget: self.budget.left_at(call.trail.now()),
        });
        self.metrics.skipped(why);
    }
}

/// One try, number `retry` of the retries of this hop, sent once more when a kept connection turned out to be dead and repeating can do no harm.
async fn one_try<S>(mut inner: S, call: &Call, retry: u32) -> Outcome
where
    S: Service<Call, Response = http::Response<ResponseBody>, Error = Fault>,
{
    let is_idempotent =
        MethodClass::of(&call.head.method).is_idempotent() || call.trail.idempotent.get();
    let mut may_resend = call.body.replayable() && is_idempotent;
    loop {
        match inner.call(copy(call, retry)).await {
            Err(fault) if fault.stale && may_resend && call.body.replayable() => may_resend = false,
            outcome => return outcome,
        }
    }
}

/// The call for one more try. A retry says that it is one, and which over all hops.
fn copy(call: &Call, retry: u32) -> Call {
    let mut copy = call.fork();
    if retry > 0 && call.trail.terms.get().retry_holds() {
        let attempt = call.trail.attempt.get().saturating_add(retry);
        hops::send_attempt(&mut copy.head.headers, attempt);
    }
    copy
}

/// The outcome in the words of the machine; `None` for an answer that nobody would repeat.
async fn judged(outcome: &mut Outcome) -> Option<Verdictable> {
    match outcome {
        Ok(response) if is_grpc(response.headers()) => {
            let mut code = grpc_status_of(response.headers());
            if code.is_none() {
                // A failing unary call has trailers and nothing before them; a stream that has begun is not held up.
                match response.body_mut().peek().await {
                    Ok(()) => {
                        code = response.body().peeked_trailers().and_then(grpc_status_of);
                    }
                    Err(fault) => {
                        *outcome = Err(fault);
                        return Some(Verdictable::Reset);
                    }
                }
            }
            code.filter(|code| *code != 0).map(Verdictable::Grpc)
        }
        Ok(response) => {
            let status = response.status().as_u16();
            (status >= 400).then_some(Verdictable::Status(status))
        }
        Err(fault) => Some(match fault.reason {
            Reason::ConnectRefused
            | Reason::ConnectTimeout
            | Reason::ConnectFailed
            | Reason::TlsHandshake
            | Reason::TlsRefused
            | Reason::PeerCertificate
            | Reason::PeerIdentity => Verdictable::Connect,
            Reason::Refused => Verdictable::Refused,
            Reason::Reset => Verdictable::Reset,
            Reason::TryTimeout => Verdictable::TryTimeout,
            _ => Verdictable::Other,
        }),
    }
}

fn attempt<'a>(
    call: &'a Call,
    outcome: &Outcome,
    judged: Verdictable,
    tries_made: u32,
    previous: Duration,
) -> Attempt<'a> {
    let sent = match outcome {
        Err(fault) if fault.sent == Sent::No => machine::Sent::No,
        _ => machine::Sent::Maybe,
    };
    let remaining = call.trail.remaining(call.trail.now());
    let pushback = call.trail.terms.get().retry.and_then(|_| pushback(outcome));
    Attempt {
        method: call.head.method.as_str(),
        idempotent: call.trail.idempotent.get(),
        tries_made,
        outcome: judged,
        sent,
        replayable: call.body.replayable(),
        response_began: false,
        hop_retries: call.trail.attempt.get() > 0,
        pushback,
        retry_after: retry_after(outcome),
        remaining: remaining.unwrap_or(Duration::MAX),
        previous,
    }
}

/// What the answer says of retrying, in its head or, behind no message, in its trailers.
fn pushback(outcome: &Outcome) -> Option<machine::Pushback> {
    let response = outcome.as_ref().ok()?;
    let said = hops::pushback(response.headers())
        .or_else(|| hops::pushback(response.body().peeked_trailers()?))?;
    Some(match said {
        hops::Pushback::Never => machine::Pushback::Never,
        hops::Pushback::After(wait) => machine::Pushback::After(wait),
    })
}

fn retry_after(outcome: &Outcome) -> Option<Duration> {
    let value = outcome.as_ref().ok()?.headers().get(header::RETRY_AFTER)?;
    machine::parse_retry_after(value.to_str().ok()?, clock::unix().as_secs())
}

/// What a retry is counted under: the reason word, or the status of the answer.
fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Err(fault) => fault.reason.word(),
        Ok(response) if is_grpc(response.headers()) => "grpc",
        Ok(response) => match response.status().as_u16() {
            429 => "429",
            502 => "502",
            503 => "503",
            504 => "504",
            500..=599 => "5xx",
            _ => "status",
        },
    }
}
