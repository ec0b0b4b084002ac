//! From a request as it came in to the stack that carries it.

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::rc::Rc;

use futures_util::FutureExt;
use futures_util::future::Either;
use http::HeaderMap;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::Response;
use http::Version;
use http::header;
use http::request::Parts;
use http_body::Body as _;
use hyper::body::Incoming;
use tower::Service;

use crate::app::refused::Refused;
use crate::app::refused::after_panic;
use crate::app::refused::refuse;
use crate::app::tunnel;
use crate::app::worker::Worker;
use crate::clock;
use crate::http::Call;
use crate::http::Fault;
use crate::http::LocalFuture;
use crate::http::Reason;
use crate::http::RequestBody;
use crate::http::Trail;
use crate::http::strict;
use crate::http::strict::HeadLimits;
use crate::http::strict::Target;
use crate::listen::Handler;
use crate::listen::Limits;
use crate::listen::Refusal;
use crate::listen::TunnelIo;
use crate::listen::Way;
use crate::redact;
use crate::stack::Stack;
use crate::telemetry::UNMATCHED;
use crate::telemetry::access_log::Kind;
use crate::telemetry::access_log::Line;
use crate::telemetry::access_log::Place;
use crate::telemetry::layer::Observed;

/// A worker as the listening side sees it.
#[derive(Clone)]
pub struct Handle {
    worker: Rc<Worker>,
}

impl Handle {
    #[must_use]
    pub fn new(worker: &Rc<Worker>) -> Self {
        Self {
            worker: Rc::clone(worker),
        }
    }
}

impl Handler for Handle {
    type Body = Observed;

    fn handle(
        &self,
        request: Request<Incoming>,
        way: &Rc<Way>,
        doubt: Option<Reason>,
    ) -> LocalFuture<Response<Observed>> {
        let worker = Rc::clone(&self.worker);
        let begin = AssertUnwindSafe(|| begin(&worker, request, way, doubt));
        let answering = shielded(catch_unwind(begin));
        Box::pin(async move {
            match answering.await {
                Some(Ok(response)) => response,
                Some(Err(never)) => match never {},
                // Boxed: what never happens must not make every request's future larger.
                None => Box::pin(after_panic(&worker, worker.refusing())).await,
            }
        })
    }

    fn is_opaque(&self, way: &Way) -> bool {
        tunnel::is_opaque(&self.worker, way)
    }

    fn tunnel(&self, io: TunnelIo, way: &Rc<Way>) -> LocalFuture<()> {
        let worker = Rc::clone(&self.worker);
        let way = Rc::clone(way);
        Box::pin(async move { tunnel::carry(&worker, io, &way).await })
    }

    fn refused(&self, refusal: &Refusal, _: &Way) {
        let tree = self.worker.tree();
        self.worker.shared.telemetry.process.refused(refusal.reason);
        if tree.policy.access_log {
            let place = Place::new(&tree.policy.service, UNMATCHED, "");
            self.worker.log.line(&Line {
                request_id: redact::id(refusal.request_id.as_bytes()),
                status: refusal.reason.status(),
                reason: Some(refusal.reason),
                ..Line::new(Kind::Request, clock::unix(), &place)
            });
        }
    }
}

/// Carries on with what was begun; `None` if that panicked, or if this does. A bug met by one request must not end the
/// connection of the others.
pub(super) async fn shielded<F: Future>(begun: std::thread::Result<F>) -> Option<F::Output> {
    AssertUnwindSafe(begun.ok()?).catch_unwind().await.ok()
}

type Routed = <Stack as Service<Call>>::Future;

/// Finds the stack for a request and sets it to work. Everything up to the first wait is done here, so that what has to
/// be kept while waiting is the stack's own future and nothing else.
fn begin(
    worker: &Rc<Worker>,
    request: Request<Incoming>,
    way: &Way,
    doubt: Option<Reason>,
) -> Either<Routed, Refused> {
    let (head, incoming) = request.into_parts();
    let mut head = Box::new(head);
    let trail = Rc::new(Trail::new(clock::now()));
    trail.peer.set(Some(way.peer.address));
    trail.terms.set(worker.terms(way.peer));
    let limits = worker.limits();
    let admitted = match doubt {
        Some(reason) => Err(Fault::unsent(reason)),
        None => admit(worker, &limits, &head, &incoming, way),
    };
    let (target, upstream) = match admitted {
        Ok(admitted) => admitted,
        Err(fault) => {
            *trail.refusal.borrow_mut() = Some(fault);
            return Either::Right(refuse(worker.refusing(), head, trail));
        }
    };
    if head.method == Method::CONNECT {
        return Either::Right(refuse(worker.refusing(), head, trail));
    }
    let version = kept(head.version);
    prepare(&mut head, &target, version, !incoming.is_end_stream());
    let body = RequestBody::new(incoming, 0, limits.body, &trail);
    let stack = upstream.stack(head.method.as_str(), head.uri.path());
    Either::Left(stack.borrow_mut().call(Call { head, body, trail }))
}

type Admitted = (Target, Rc<crate::app::worker::LocalUpstream>);

/// Checks the head and finds the upstream.
fn admit(
    worker: &Rc<Worker>,
    limits: &Limits,
    head: &Parts,
    incoming: &Incoming,
    way: &Way,
) -> Result<Admitted, Fault> {
    let target = check(limits, head, incoming, way)?;
    if head.method == Method::CONNECT && head.version == Version::HTTP_2 {
        return Err(Fault::unsent(Reason::MethodUnsupported));
    }
    let port = target.port.unwrap_or_else(|| way.default_port());
    let upstream = worker.upstream(target.host(), port, way.original)?;
    Ok((target, upstream))
}

/// Checks a head against everything that does not depend on where the request goes.
pub(super) fn check(
    limits: &Limits,
    head: &Parts,
    incoming: &Incoming,
    way: &Way,
) -> Result<Target, Fault> {
    let bounds = HeadLimits {
        headers: limits.headers as usize,
        uri: usize::try_from(limits.uri).unwrap_or(usize::MAX),
    };
    let target = strict::check(head, &bounds, way.door).map_err(Fault::unsent)?;
    let declared = incoming.size_hint().lower();
    if limits.body.is_some_and(|limit| declared > limit) {
        return Err(Fault::unsent(Reason::BodyTooLarge));
    }
    if hops(&head.headers) > HOPS_MAX {
        return Err(Fault::unsent(Reason::LoopDetected).because("too many entries in Via"));
    }
    Ok(target)
}

/// Proxies that a request may have come through. Two that send to each other would go on for ever; no honest way is so
/// long.
const HOPS_MAX: usize = 32;

/// The entries of `Via` (RFC 9110 section 7.6.3).
fn hops(headers: &HeaderMap) -> usize {
    let entries = |value: &HeaderValue| value.as_bytes().split(|byte| *byte == b',').count();
    headers.get_all(header::VIA).iter().map(entries).sum()
}

/// The protocol is kept: who speaks HTTP/2 to us expects an upstream that speaks it, gRPC above all.
fn kept(version: Version) -> Version {
    if version == Version::HTTP_2 {
        Version::HTTP_2
    } else {
        Version::HTTP_11
    }
}

/// Makes the head fit to be sent on in `version`.
pub(super) fn prepare(head: &mut Parts, target: &Target, version: Version, has_body: bool) {
    let via = strict::via(head.version);
    strict::strip_hop_by_hop(&mut head.headers, target.upgrade);
    // Answered here: the library sends 100 when the body is first asked for, which is when the upstream takes it.
    head.headers.remove(header::EXPECT);
    strict::readdress(head, target, version, has_body);
    head.headers.append(header::VIA, via);
}
