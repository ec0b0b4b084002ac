//! From a request as it came in to the application that it is for.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::Either;
use http::Method;
use http::Request;
use http::Response;
use http::Uri;
use http::Version;
use http::request::Parts;
use http::uri::Scheme;
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::io::copy_bidirectional;
use tower::Service;

use crate::app::door;
use crate::app::inbound::Inbound;
use crate::app::inbound::Site;
use crate::app::inbound::Transport;
use crate::app::refused::Refused;
use crate::app::refused::after_panic;
use crate::app::refused::refuse;
use crate::app::worker::Worker;
use crate::clock;
use crate::connect;
use crate::http::Call;
use crate::http::Fault;
use crate::http::LocalFuture;
use crate::http::Reason;
use crate::http::RequestBody;
use crate::http::Trail;
use crate::http::caller;
use crate::http::is_grpc;
use crate::http::strict::Target;
use crate::listen::Handler;
use crate::listen::Refusal;
use crate::listen::TunnelIo;
use crate::listen::Way;
use crate::listen::inbound::Mode;
use crate::listen::inbound::Protocol;
use crate::redact;
use crate::stack;
use crate::telemetry::Metered;
use crate::telemetry::access_log::Kind;
use crate::telemetry::access_log::Line;
use crate::telemetry::access_log::Place;
use crate::telemetry::layer::Observed;

/// A worker as one inbound connection sees it.
#[derive(Clone)]
pub struct Handle {
    worker: Rc<Worker>,
    /// Where the connection was made to, if it was redirected. Not in its way: only bytes that are not looked into lead
    /// there by themselves.
    original: Option<SocketAddr>,
}

impl Handle {
    /// For a connection to `original`.
    #[must_use]
    pub fn new(worker: &Rc<Worker>, original: Option<SocketAddr>) -> Self {
        Self {
            worker: Rc::clone(worker),
            original,
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
        let begin = AssertUnwindSafe(|| begin(&worker, self.original, request, way, doubt));
        let answering = door::shielded(catch_unwind(begin));
        Box::pin(async move {
            match answering.await {
                Some(Ok(response)) => response,
                Some(Err(never)) => match never {},
                None => Box::pin(after_panic(&worker, worker.refusing_in())).await,
            }
        })
    }

    fn is_opaque(&self, way: &Way) -> bool {
        let tree = self.worker.tree();
        let Some(inbound) = &tree.inbound else {
            return false;
        };
        let site = inbound.site(self.original);
        may_tunnel(inbound, way) && site.is_some_and(|site| site.app.protocol == Protocol::Tcp)
    }

    fn tunnel(&self, io: TunnelIo, way: &Rc<Way>) -> LocalFuture<()> {
        let (handle, way) = (self.clone(), Rc::clone(way));
        Box::pin(async move { handle.carry(io, &way).await })
    }

    fn refused(&self, refusal: &Refusal, way: &Way) {
        let tree = self.worker.tree();
        self.worker.shared.telemetry.process.refused(refusal.reason);
        if tree.policy.access_log {
            let place = Place::inbound(&tree.policy.service, "");
            self.worker.log.line(&Line {
                request_id: redact::id(refusal.request_id.as_bytes()),
                caller: redact::text(name(way)),
                status: refusal.reason.status(),
                reason: Some(refusal.reason),
                ..Line::new(Kind::Request, clock::unix(), &place)
            });
        }
    }
}

fn name(way: &Way) -> &[u8] {
    way.caller
        .as_ref()
        .map_or(b"", |caller| caller.id.as_bytes())
}

fn may_tunnel(inbound: &Inbound, way: &Way) -> bool {
    way.caller.is_some() || inbound.settings.mode == Mode::Permissive
}

impl Handle {
    /// Joins the caller with the application until either side ends, and tells of it.
    async fn carry(&self, io: TunnelIo, way: &Way) {
        let worker = &self.worker;
        let (began, started) = (clock::unix(), clock::now());
        let tree = worker.tree();
        let Some(inbound) = tree.inbound.clone() else {
            return;
        };
        let tunnel = worker.shared.telemetry.process.tunnel(io.kind);
        let mut client = Metered::new(io.stream, tunnel);
        let site = inbound.site(self.original);
        let opened = match site {
            Some(site) => open(&inbound, site, way).await,
            None => Err(Fault::unsent(Reason::NoEndpoint)),
        };
        let reason = match opened {
            Ok(mut app) => {
                inbound.upstream.tunnelled(io.kind);
                // Either side going away ends the tunnel; there is nobody left to tell.
                let _ = copy_bidirectional(&mut client, &mut app).await;
                None
            }
            Err(fault) => Some(fault.reason),
        };
        if tree.policy.access_log {
            let (bytes_in, bytes_out) = client.bytes();
            let port = site.map_or_else(String::new, |site| site.app.address.port().to_string());
            let place = Place::inbound(&tree.policy.service, &port);
            worker.log.line(&Line {
                caller: redact::text(name(way)),
                reason,
                endpoint: site.map(|site| site.app.address),
                duration: clock::now().saturating_duration_since(started),
                bytes_in,
                bytes_out,
                tunnel: Some(io.kind.word()),
                ..Line::new(Kind::Tunnel, began, &place)
            });
        }
    }
}

async fn open(inbound: &Inbound, site: &Site, way: &Way) -> Result<tokio::net::TcpStream, Fault> {
    if site.app.protocol != Protocol::Tcp || !may_tunnel(inbound, way) {
        return Err(Fault::unsent(Reason::MalformedRequest));
    }
    if let Some(authoriser) = &inbound.authoriser {
        authoriser.connection(way.caller.as_deref(), clock::now())?;
    }
    connect::tcp(site.app.address, CONNECT_WITHIN).await
}

/// Loopback answers at once or not at all.
const CONNECT_WITHIN: std::time::Duration = std::time::Duration::from_secs(1);

type Answered = <stack::inbound::Stack as Service<Call>>::Future;

fn begin(
    worker: &Rc<Worker>,
    original: Option<SocketAddr>,
    request: Request<Incoming>,
    way: &Way,
    doubt: Option<Reason>,
) -> Either<Answered, Refused> {
    let (head, incoming) = request.into_parts();
    let mut head = Box::new(head);
    let trail = Rc::new(Trail::new(clock::now()));
    trail.peer.set(Some(way.peer.address));
    trail.caller.borrow_mut().clone_from(&way.caller);
    let tree = worker.tree();
    let limits = worker.limits();
    let admitted = match (doubt, &tree.inbound) {
        (Some(reason), _) => Err(Fault::unsent(reason)),
        (None, None) => Err(Fault::unsent(Reason::NoEndpoint).because("no `inbound` any more")),
        (None, Some(inbound)) => door::check(&limits, &head, &incoming, way)
            .and_then(|target| Ok((target, inbound, admit(inbound, &head, original, way)?))),
    };
    let (target, inbound, (site, transport)) = match admitted {
        Ok(admitted) => admitted,
        Err(fault) => {
            *trail.refusal.borrow_mut() = Some(fault);
            return Either::Right(refuse(worker.refusing_in(), head, trail));
        }
    };
    prepare(
        &mut head,
        &target,
        (site.app.protocol, transport),
        way,
        !incoming.is_end_stream(),
    );
    let body = RequestBody::new(incoming, 0, limits.body, &trail);
    let stack = worker.way_in(inbound, site, transport);
    let answering = stack.borrow_mut().call(Call { head, body, trail });
    Either::Left(answering)
}

/// Which application, and how the call came; a fault where it should not have come.
fn admit<'a>(
    inbound: &'a Arc<Inbound>,
    head: &Parts,
    original: Option<SocketAddr>,
    way: &Way,
) -> Result<(&'a Site, Transport), Fault> {
    if head.method == Method::CONNECT {
        return Err(Fault::unsent(Reason::MethodUnsupported));
    }
    let site = inbound
        .site(original)
        .ok_or_else(|| Fault::unsent(Reason::NoEndpoint).because("not a port of `inbound.app`"))?;
    if site.app.protocol == Protocol::Tcp {
        // Only where bytes may not pass unseen, which is asked again here.
        return Err(Fault::unsent(Reason::MtlsRequired));
    }
    if way.caller.is_some() {
        return Ok((site, Transport::Mtls));
    }
    let target = head.uri.path_and_query().map_or("", |path| path.as_str());
    let has_body = head.headers.contains_key(http::header::CONTENT_LENGTH)
        || head.headers.contains_key(http::header::TRANSFER_ENCODING);
    if inbound.settings.is_probe(head.method.as_str(), target) && !has_body {
        return Ok((site, Transport::Probe));
    }
    match inbound.settings.mode {
        Mode::Permissive => Ok((site, Transport::Plain)),
        Mode::Strict => Err(Fault::unsent(Reason::MtlsRequired)),
    }
}

/// Makes the head fit for the application.
fn prepare(
    head: &mut Parts,
    target: &Target,
    (speaks, transport): (Protocol, Transport),
    way: &Way,
    has_body: bool,
) {
    let came_as = head.version;
    let is_h2 = match speaks {
        Protocol::Http1 | Protocol::Tcp => false,
        Protocol::Http2 => !target.upgrade,
        Protocol::Auto => {
            came_as == Version::HTTP_2 && (transport == Transport::Plain || is_grpc(&head.headers))
        }
    };
    let version = if is_h2 {
        Version::HTTP_2
    } else {
        Version::HTTP_11
    };
    door::prepare(head, target, version, has_body);
    if is_h2 && head.uri.scheme() == Some(&Scheme::HTTPS) {
        // TLS ended here.
        let mut parts = std::mem::take(&mut head.uri).into_parts();
        parts.scheme = Some(Scheme::HTTP);
        head.uri = Uri::from_parts(parts).expect("scheme, authority and path are all there");
    }
    caller::tell(&mut head.headers, way.caller.as_deref());
}
