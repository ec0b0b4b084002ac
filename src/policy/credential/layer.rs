//! The skin of the credential room.

mod ask;
mod fetch;
mod file;
mod guard;
mod source;

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use http::StatusCode;
use pin_project_lite::pin_project;
use tower::Layer;
use tower::Service;

pub use guard::Guard;
pub use source::Ground;
pub use source::Source;
pub use source::Spec;

use self::guard::Keys;
use crate::clock;
use crate::http::Call;
use crate::http::Fault;
use crate::http::LocalFuture;
use crate::http::Outcome;
use crate::http::ResponseBody;
use crate::http::grpc_status_of;
use crate::http::is_grpc;
use crate::http::note::Note;
use crate::kit::mode::Mode;
use crate::policy::credential::machine;
use crate::policy::credential::machine::After;
use crate::policy::credential::machine::Decision;
use crate::policy::credential::machine::Holding;
use crate::policy::credential::metrics::Outcome as Second;

/// gRPC's own word for 401.
const UNAUTHENTICATED: u8 = 16;
/// The largest body that is kept for a second sending where no retry keeps one. Unit: bytes; as the default of `retry.replay`.
const REPLAY: u64 = 64 * 1024;

/// What a worker needs to know of a route's credential.
#[derive(Debug)]
pub struct Policy {
    guard: Arc<Guard>,
    /// Nobody else keeps bodies for another try.
    keeps: bool,
}

/// Puts a secret on each try; `None` leaves them as they are.
#[derive(Clone, Debug)]
pub struct CredentialLayer {
    policy: Option<Rc<Policy>>,
}

impl CredentialLayer {
    /// `retries`: the route repeats calls, and so keeps their bodies by its own bound.
    #[must_use]
    pub fn new(guard: Option<Arc<Guard>>, retries: bool) -> Self {
        let policy = guard.map(|guard| {
            let keeps = guard.has_next() && !retries;
            Rc::new(Policy { guard, keeps })
        });
        Self { policy }
    }
}

impl<S> Layer<S> for CredentialLayer {
    type Service = Vouched<S>;

    fn layer(&self, inner: S) -> Vouched<S> {
        Vouched {
            inner,
            policy: self.policy.clone(),
        }
    }
}

/// See [`CredentialLayer`].
#[derive(Clone, Debug)]
pub struct Vouched<S> {
    inner: S,
    policy: Option<Rc<Policy>>,
}

impl<S> Service<Call> for Vouched<S>
where
    S: Service<Call, Response = http::Response<ResponseBody>, Error = Fault> + Clone + 'static,
{
    type Response = S::Response;
    type Error = Fault;
    type Future = VouchedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        let Some(policy) = &self.policy else {
            return VouchedFuture::plain(self.inner.call(call));
        };
        let (guard, now) = (&policy.guard, call.trail.now());
        let settings = guard.settings();
        let own = call.head.headers.contains_key(&settings.header);
        let keys = guard.keys(now);
        let holding = keys.as_ref().err().copied().unwrap_or(Holding::Held);
        let decision = machine::judge(own, settings.overwrite, holding);
        if settings.mode == Mode::Shadow {
            guard.would(decision, &call);
            return VouchedFuture::plain(self.inner.call(call));
        }
        match (decision, keys) {
            (Decision::Set, Ok(Keys { lead, other: None })) => {
                guard.sign(&lead, &mut call);
                VouchedFuture::Sent {
                    inner: self.inner.call(call),
                    policy: Some(Rc::clone(policy)),
                }
            }
            (Decision::Set, Ok(keys)) => {
                let work = send(self.inner.clone(), Rc::clone(policy), call, keys);
                VouchedFuture::Working {
                    work: Box::pin(work),
                }
            }
            (Decision::Wait, _) => {
                let work = wait(self.inner.clone(), Rc::clone(policy), call);
                VouchedFuture::Working {
                    work: Box::pin(work),
                }
            }
            (Decision::Refuse | Decision::Set, _) => VouchedFuture::Refused {
                fault: Some(guard.refuse(&call)),
            },
            (Decision::Keep, _) => {
                guard.keep(&call);
                VouchedFuture::plain(self.inner.call(call))
            }
        }
    }
}

impl Guard {
    /// Tells what mode enforce would have done.
    fn would(&self, decision: Decision, call: &Call) {
        let did = match decision {
            Decision::Keep => return self.keep(call),
            Decision::Set | Decision::Wait => {
                self.metrics.would_use();
                "would set"
            }
            Decision::Refuse => {
                self.metrics.refused(Mode::Shadow.word());
                "would refuse"
            }
        };
        call.trail.note(Note::Credential { did });
    }

    /// The call goes with what the application set.
    fn keep(&self, call: &Call) {
        self.metrics.kept();
        call.trail.note(Note::Credential { did: "kept" });
    }

    /// The call does not go.
    fn refuse(&self, call: &Call) -> Fault {
        self.metrics.refused(Mode::Enforce.word());
        call.trail.note(Note::Credential { did: "refused" });
        self.fault(call.trail.now())
    }
}

pin_project! {
    /// A try that goes as it is, carries the secret, waits for it, or does not go.
    #[project = VouchedProj]
    pub enum VouchedFuture<F> {
        Sent { #[pin] inner: F, policy: Option<Rc<Policy>> },
        Working { work: LocalFuture<Outcome> },
        Refused { fault: Option<Fault> },
    }
}

impl<F> VouchedFuture<F> {
    fn plain(inner: F) -> Self {
        let policy = None;
        Self::Sent { inner, policy }
    }
}

impl<F: Future<Output = Outcome>> Future for VouchedFuture<F> {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        match self.project() {
            VouchedProj::Sent { inner, policy } => {
                let Poll::Ready(outcome) = inner.poll(cx) else {
                    return Poll::Pending;
                };
                if let Some(policy) = policy.take()
                    && machine::on_answer(is_refused(&outcome), false, false, || false)
                        == After::Renew
                {
                    policy.guard.source().nudge();
                }
                Poll::Ready(outcome)
            }
            VouchedProj::Working { work } => work.as_mut().poll(cx),
            VouchedProj::Refused { fault } => Poll::Ready(Err(fault
                .take()
                .expect("a future is not polled after it is ready"))),
        }
    }
}

/// Waits for the secret, no longer than the call may take, and then sends.
async fn wait<S>(inner: S, policy: Rc<Policy>, call: Call) -> Outcome
where
    S: Service<Call, Response = http::Response<ResponseBody>, Error = Fault>,
{
    let guard = &policy.guard;
    let settled = guard.source().settled();
    match call.trail.deadline.get() {
        // Whether it came in time is seen below.
        Some(deadline) => drop(tokio::time::timeout_at(deadline.into(), settled).await),
        None => settled.await,
    }
    let now = clock::now();
    call.trail.stamp(now);
    let Ok(keys) = guard.keys(now) else {
        return Err(guard.refuse(&call));
    };
    send(inner, Rc::clone(&policy), call, keys).await
}

/// Sends with one key and, where that is refused, once with the other.
async fn send<S>(mut inner: S, policy: Rc<Policy>, mut call: Call, keys: Keys) -> Outcome
where
    S: Service<Call, Response = http::Response<ResponseBody>, Error = Fault>,
{
    let guard = &policy.guard;
    let trail = Rc::clone(&call.trail);
    let Keys { lead, other } = keys;
    let spare = other.map(|other| {
        guard.deposit(trail.now());
        if policy.keeps {
            call.body.keep_up_to(REPLAY);
        }
        (other, call.fork())
    });
    guard.sign(&lead, &mut call);
    let outcome = inner.call(call).await;
    let refused = is_refused(&outcome);
    let (has_other, replayable) = match &spare {
        Some((_, spare)) => (true, spare.body.replayable()),
        None => (false, false),
    };
    let budget = || guard.withdraw(trail.now());
    let after = machine::on_answer(refused, has_other, replayable, budget);
    match (after, spare) {
        (After::Second, Some((other, mut again))) => {
            // Its connection may serve the second one.
            drop(outcome);
            guard.sign(&other, &mut again);
            let outcome = inner.call(again).await;
            guard.metrics.second(match &outcome {
                Err(_) => Second::Failed,
                Ok(_) if is_refused(&outcome) => Second::Refused,
                Ok(_) => {
                    guard.prefer(&other, &lead);
                    Second::Accepted
                }
            });
            return outcome;
        }
        (After::Renew, _) => guard.source().nudge(),
        (After::BodyGone, _) => guard.metrics.second(Second::BodyGone),
        (After::NoBudget, _) => guard.metrics.second(Second::Budget),
        (After::Pass | After::Second, _) => {}
    }
    outcome
}

/// Whether the upstream did not take the secret. A 407 is a proxy's, and a 403 says that it was taken and does not suffice.
fn is_refused(outcome: &Outcome) -> bool {
    let Ok(response) = outcome else { return false };
    let headers = response.headers();
    response.status() == StatusCode::UNAUTHORIZED
        || (is_grpc(headers) && grpc_status_of(headers) == Some(UNAUTHENTICATED))
}
