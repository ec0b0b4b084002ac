//! From a request as it came in to the stack that carries it.

use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use futures_util::FutureExt;
use http::Method;
use http::Request;
use http::Response;
use http::Version;
use http::header;
use http::request::Parts;
use http_body::Body as _;
use hyper::body::Incoming;
use tower::Service;

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
use crate::listen::Refusal;
use crate::listen::TunnelIo;
use crate::listen::Way;
use crate::telemetry::access_log::Kind;
use crate::telemetry::access_log::Line;
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
        let way = Rc::clone(way);
        Box::pin(async move {
            let answer = AssertUnwindSafe(answer(&worker, request, &way, doubt));
            match answer.catch_unwind().await {
                Ok(response) => response,
                Err(_panic) => after_panic(&worker).await,
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
            self.worker.log.line(&Line {
                request_id: refusal.request_id.as_bytes(),
                client: &tree.policy.service,
                upstream: crate::telemetry::UNMATCHED,
                status: refusal.reason.status(),
                reason: Some(refusal.reason),
                ..Line::new(Kind::Request, clock::unix())
            });
        }
    }
}

async fn answer(
    worker: &Rc<Worker>,
    request: Request<Incoming>,
    way: &Way,
    doubt: Option<Reason>,
) -> Response<Observed> {
    let (mut head, incoming) = request.into_parts();
    let trail = Rc::new(Trail::new(clock::now(), way.original));
    let tree = worker.tree();
    let limits = &tree.policy.listen.limits;
    let admitted = match doubt {
        Some(reason) => Err(Fault::unsent(reason)),
        None => admit(worker, &head, &incoming, way),
    };
    let (target, upstream) = match admitted {
        Ok(admitted) => admitted,
        Err(fault) => return refuse(worker, head, trail, fault).await,
    };
    if head.method == Method::CONNECT {
        return through_refusing(worker, head, trail).await;
    }
    prepare(&mut head, &target, !incoming.is_end_stream());
    let body = RequestBody::new(incoming, 0, limits.body, &trail);
    drop(tree);
    let future = {
        let stack = upstream.stack(head.method.as_str(), head.uri.path());
        stack.borrow_mut().call(Call { head, body, trail })
    };
    match future.await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

type Admitted = (Target, Rc<crate::app::worker::LocalUpstream>);

/// Checks the head and finds the upstream.
fn admit(
    worker: &Rc<Worker>,
    head: &Parts,
    incoming: &Incoming,
    way: &Way,
) -> Result<Admitted, Fault> {
    let tree = worker.tree();
    let limits = &tree.policy.listen.limits;
    let bounds = HeadLimits {
        headers: limits.headers as usize,
        uri: usize::try_from(limits.uri).unwrap_or(usize::MAX),
    };
    let target = strict::check(head, &bounds, way.door).map_err(Fault::unsent)?;
    let declared = incoming.size_hint().lower();
    if limits.body.is_some_and(|limit| declared > limit) {
        return Err(Fault::unsent(Reason::BodyTooLarge));
    }
    if head.method == Method::CONNECT && head.version == Version::HTTP_2 {
        return Err(Fault::unsent(Reason::MethodUnsupported));
    }
    let port = target.port.unwrap_or_else(|| way.default_port());
    let upstream = worker.upstream(target.host(), port, way.original)?;
    Ok((target, upstream))
}

/// Makes the head fit to be sent on.
fn prepare(head: &mut Parts, target: &Target, has_body: bool) {
    // The protocol is kept: who speaks HTTP/2 to us expects an upstream that speaks it, gRPC above all.
    let version = if head.version == Version::HTTP_2 {
        Version::HTTP_2
    } else {
        Version::HTTP_11
    };
    let via = strict::via(head.version);
    strict::strip_hop_by_hop(&mut head.headers, target.upgrade);
    // Answered here: the library sends 100 when the body is first asked for, which is when the upstream takes it.
    head.headers.remove(header::EXPECT);
    strict::readdress(head, target, version, has_body);
    head.headers.append(header::VIA, via);
}

async fn refuse(
    worker: &Worker,
    mut head: Parts,
    trail: Rc<Trail>,
    fault: Fault,
) -> Response<Observed> {
    *trail.refusal.borrow_mut() = Some(fault);
    // An upgrade that waits for its answer must not keep the connection.
    head.extensions.clear();
    through_refusing(worker, head, trail).await
}

async fn through_refusing(worker: &Worker, head: Parts, trail: Rc<Trail>) -> Response<Observed> {
    let call = Call {
        head,
        body: RequestBody::Empty,
        trail,
    };
    match worker.refusing().call(call).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

async fn after_panic(worker: &Worker) -> Response<Observed> {
    worker.shared.telemetry.process.panicked();
    let (head, ()) = Request::new(()).into_parts();
    let trail = Rc::new(Trail::new(clock::now(), None));
    refuse(worker, head, trail, Fault::maybe_sent(Reason::Panic)).await
}
