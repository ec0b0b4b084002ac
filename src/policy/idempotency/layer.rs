//! The skin of the idempotency room.

use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use http::HeaderValue;
use http::Method;
use tower::Layer;
use tower::Service;

use crate::http::Call;
use crate::http::MethodClass;
use crate::http::note::Note;
use crate::kit::mode::Mode;
use crate::policy::idempotency::Settings;
use crate::policy::idempotency::machine;
use crate::policy::idempotency::machine::Decision;
use crate::policy::idempotency::metrics::Metrics;
use crate::policy::idempotency::metrics::Source;
use crate::rng;

/// Sees to it that calls carry a key; `None` leaves them as they are.
#[derive(Clone, Debug)]
pub struct IdempotencyLayer {
    policy: Option<Rc<(Settings, Arc<Metrics>)>>,
}

impl IdempotencyLayer {
    /// Sets keys as `policy` says.
    #[must_use]
    pub fn new(policy: Option<(Settings, Arc<Metrics>)>) -> Self {
        Self {
            policy: policy.map(Rc::new),
        }
    }
}

impl<S> Layer<S> for IdempotencyLayer {
    type Service = Idempotency<S>;

    fn layer(&self, inner: S) -> Idempotency<S> {
        Idempotency {
            inner,
            policy: self.policy.clone(),
        }
    }
}

/// See [`IdempotencyLayer`].
#[derive(Clone, Debug)]
pub struct Idempotency<S> {
    inner: S,
    policy: Option<Rc<(Settings, Arc<Metrics>)>>,
}

impl<S: Service<Call>> Service<Call> for Idempotency<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut call: Call) -> S::Future {
        if let Some(policy) = &self.policy {
            let (settings, metrics) = &**policy;
            apply(settings, metrics, &mut call);
        }
        self.inner.call(call)
    }
}

fn apply(settings: &Settings, metrics: &Metrics, call: &mut Call) {
    let method = &call.head.method;
    let needs_key = !MethodClass::of(method).is_idempotent() && method != Method::CONNECT;
    let headers = &mut call.head.headers;
    let values = headers.get_all(&settings.header).iter();
    let decision = machine::judge(needs_key, values.map(HeaderValue::as_bytes));
    let source = match decision {
        Decision::Leave => return,
        Decision::Inject => Source::Injected,
        Decision::Keep => Source::Client,
    };
    let shadow = settings.mode == Mode::Shadow;
    metrics.key(source, shadow);
    if shadow {
        return;
    }
    if decision == Decision::Inject {
        let key = HeaderValue::from_bytes(&machine::key(rng::bits(), rng::bits()))
            .expect("hexadecimal digits and hyphens are a header value");
        headers.insert(settings.header.clone(), key);
    }
    call.trail.idempotent.set(true);
    let made = decision == Decision::Inject;
    call.trail.note(Note::Idempotency { made });
}
