//! Calls that may change what is kept.

use std::rc::Rc;

use crate::http::Call;
use crate::http::Outcome;
use crate::http::Trail;
use crate::policy::cache::layer::Policy;
use crate::policy::cache::layer::entry::Fields;
use crate::policy::cache::layer::keys::target;
use crate::policy::cache::layer::serve;
use crate::policy::cache::machine::invalidate;
use crate::policy::cache::machine::key;
use crate::policy::cache::machine::key::Target;
use crate::policy::cache::machine::status::Forward;
use crate::policy::cache::machine::status::Told;
use crate::policy::cache::metrics::Served;

/// A call with an unsafe method.
pub struct Invalidating {
    trail: Rc<Trail>,
    scheme: &'static str,
    authority: String,
    path: String,
}

impl Invalidating {
    /// What has to be remembered of `call` until it is answered.
    #[must_use]
    pub fn of(call: &Call) -> Self {
        let target = target(&call.head);
        Self {
            trail: Rc::clone(&call.trail),
            scheme: if target.scheme == "https" {
                "https"
            } else {
                "http"
            },
            authority: target.authority.to_owned(),
            path: target.path.to_owned(),
        }
    }

    /// Waits for the answer, and lets go what it makes untrue (RFC 9111 section 4.4).
    pub async fn run(self, policy: Rc<Policy>, call: impl Future<Output = Outcome>) -> Outcome {
        let mut outcome = call.await;
        let guard = &*policy.guard;
        if let Ok(response) = &outcome
            && invalidate::by(response.status().as_u16())
        {
            let target = Target {
                scheme: self.scheme,
                authority: &self.authority,
                path: &self.path,
            };
            let mut gone = policy.invalidate(target).await;
            for path in invalidate::also(target, &Fields(response.headers())) {
                let also = Target {
                    path: &path,
                    ..target
                };
                gone += policy.invalidate(also).await;
            }
            if gone > 0 {
                guard.metrics.invalidated();
            }
        }
        if !guard.enforces() {
            if !guard.only_invalidates {
                guard.metrics.would_serve(Served::Bypass);
            }
            return outcome;
        }
        policy.note(&self.trail, Served::Bypass, Some("method"));
        let told = Told {
            forward: Some(Forward::Method),
            ..Told::default()
        };
        serve::tell(&mut outcome, &told);
        outcome
    }
}

impl Policy {
    /// Before the client has its answer, so that what it asks next is not answered with what it knows to be untrue.
    async fn invalidate(&self, target: Target<'_>) -> u64 {
        let mut text = Vec::new();
        key::url(target, &mut text);
        let store = &self.guard.store;
        let gone = store.invalidate(&store.lookup(&text));
        if let Some(tier) = store.tier() {
            tier.invalidate(&text).await;
        }
        gone
    }
}
