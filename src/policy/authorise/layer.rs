//! The skin of the authorise room: reads the call, counts, and tells the audit log.

use std::future::Ready;
use std::future::ready;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Instant;

use futures_util::future::Either;
use http::HeaderMap;
use parking_lot::Mutex;
use serde_json::Value;
use serde_json::json;
use tower::Layer;
use tower::Service;

use crate::audit;
use crate::audit::Event;
use crate::http::Call;
use crate::http::Caller;
use crate::http::Fault;
use crate::http::Outcome;
use crate::http::Reason;
use crate::http::ResponseBody;
use crate::policy::authorise::Settings;
use crate::policy::authorise::machine;
use crate::policy::authorise::machine::Asked;
use crate::policy::authorise::machine::Denial;
use crate::policy::authorise::machine::Request;
use crate::policy::authorise::machine::Tellings;
use crate::policy::authorise::metrics::Metrics;

/// Fields by which some frameworks take a request for one of another method.
const OTHER_METHOD: [&str; 3] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
];
/// Fields by which some servers take a request for one of another path.
const OTHER_PATH: [&str; 3] = ["x-original-url", "x-rewrite-url", "x-original-uri"];

/// The rules of an inbound listener, shared by all workers.
#[derive(Debug)]
pub struct Authoriser {
    settings: Settings,
    metrics: Metrics,
    tellings: Mutex<Tellings>,
}

impl Authoriser {
    /// Judges by `settings`.
    #[must_use]
    pub fn new(settings: Settings, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            settings,
            metrics,
            tellings: Mutex::default(),
        })
    }

    /// What it was built from.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Its part of `/inbound`.
    #[must_use]
    pub fn describe(&self) -> Value {
        json!({
            "mode": self.settings.mode.word(),
            "rules": self.settings.rules.len(),
            "allowed_by_rule": self.metrics.by_rule(),
        })
    }

    /// Judges a connection that is not HTTP.
    ///
    /// # Errors
    /// `not_authorised`.
    pub fn connection(&self, caller: Option<&Caller>, now: Instant) -> Result<(), Fault> {
        self.settle(caller, None, now)
    }

    fn call(&self, call: &Call) -> Result<(), Fault> {
        let (method, path) = (call.head.method.as_str(), call.head.uri.path());
        let headers = &call.head.headers;
        let request = Request {
            method,
            path,
            overrides_method: has_any(headers, &OTHER_METHOD),
            overrides_path: has_any(headers, &OTHER_PATH),
        };
        let caller = call.trail.caller.borrow();
        self.settle(caller.as_deref(), Some(request), call.trail.now())
    }

    fn settle(
        &self,
        caller: Option<&Caller>,
        request: Option<Request<'_>>,
        now: Instant,
    ) -> Result<(), Fault> {
        let asked = Asked {
            caller: caller.map(|caller| &*caller.id),
            request,
        };
        match machine::judge(&self.settings.rules, &asked) {
            Ok(place) => {
                self.metrics.allowed(place);
                Ok(())
            }
            Err(denial) => {
                let enforces = self.settings.mode.enforces();
                self.metrics.denied(denial, !enforces);
                self.tell(&asked, denial, now);
                if enforces {
                    return Err(Fault::unsent(Reason::NotAuthorised).because(denial.word()));
                }
                Ok(())
            }
        }
    }

    fn tell(&self, asked: &Asked<'_>, denial: Denial, now: Instant) {
        if audit::is_on() {
            // Without the path, which need never be the same twice.
            let event = Event::new("authorisation_denied")
                .by(asked.caller.unwrap_or("anonymous"))
                .with("why", denial.word())
                .with("mode", self.settings.mode.word());
            audit::often(event);
        }
        let Some(untold) = self.tellings.lock().denied(asked.caller, denial, now) else {
            return;
        };
        tracing::info!(
            target: "audit",
            what = "authorise",
            caller = asked.caller.unwrap_or("anonymous"),
            method = asked.request.map_or("", |request| request.method),
            path = asked.request.map_or("", |request| request.path),
            why = denial.word(),
            mode = self.settings.mode.word(),
            untold,
            "a caller is not authorised"
        );
    }
}

fn has_any(headers: &HeaderMap, names: &[&str]) -> bool {
    names.iter().any(|name| headers.contains_key(*name))
}

/// Denies what no rule allows; `None` is off.
#[derive(Clone, Debug)]
pub struct AuthoriseLayer {
    authoriser: Option<Arc<Authoriser>>,
}

impl AuthoriseLayer {
    /// Judges by `authoriser`.
    #[must_use]
    pub fn new(authoriser: Option<Arc<Authoriser>>) -> Self {
        Self { authoriser }
    }
}

impl<S> Layer<S> for AuthoriseLayer {
    type Service = Authorise<S>;

    fn layer(&self, inner: S) -> Authorise<S> {
        Authorise {
            inner,
            authoriser: self.authoriser.clone(),
        }
    }
}

/// See [`AuthoriseLayer`].
#[derive(Clone, Debug)]
pub struct Authorise<S> {
    inner: S,
    authoriser: Option<Arc<Authoriser>>,
}

impl<S> Service<Call> for Authorise<S>
where
    S: Service<Call, Response = http::Response<ResponseBody>, Error = Fault>,
{
    type Response = S::Response;
    type Error = Fault;
    type Future = Either<Ready<Outcome>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let judged = self
            .authoriser
            .as_ref()
            .map_or(Ok(()), |authoriser| authoriser.call(&call));
        match judged {
            Ok(()) => Either::Right(self.inner.call(call)),
            Err(fault) => Either::Left(ready(Err(fault))),
        }
    }
}
