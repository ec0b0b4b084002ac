//! One client connection, from its first byte to its last.

use std::any::Any;
use std::error::Error;
use std::future::poll_fn;
use std::pin::Pin;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use http::Method;
use http::Request;
use http::Response;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::server::conn::http2;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use socket2::SockRef;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;

use crate::clock;
use crate::detect;
use crate::detect::First;
use crate::detect::machine::Verdict;
use crate::endpoint::LocalExec;
use crate::http::Cut;
use crate::http::Fault;
use crate::http::LocalFuture;
use crate::http::Reason;
use crate::listen::Drain;
use crate::listen::Limits;
use crate::listen::Refusal;
use crate::listen::Refuse;
use crate::listen::Way;
use crate::listen::tap::Heard;
use crate::listen::tap::InCall;
use crate::listen::tap::Tap;
use crate::telemetry::TunnelKind;

/// Decides what happens to requests and tunnels.
pub trait Handler: Clone + 'static {
    /// The body of its responses.
    type Body: Body<Data = Bytes, Error = Fault> + Unpin + 'static;

    /// Answers a request. `doubt` is a reason to refuse it that only the stream could hear.
    fn handle(
        &self,
        request: Request<Incoming>,
        way: &Rc<Way>,
        doubt: Option<Reason>,
    ) -> LocalFuture<Response<Self::Body>>;

    /// Whether policy says that what comes this way is not HTTP, so that nothing is read before the upstream is dialled.
    fn is_opaque(&self, way: &Way) -> bool;

    /// Carries a connection that is not HTTP.
    fn tunnel(&self, io: TunnelIo, way: &Rc<Way>) -> LocalFuture<()>;

    /// Takes note of a request that could not even be read.
    fn refused(&self, refusal: &Refusal, way: &Way);
}

/// A connection to be carried as it is.
pub struct TunnelIo {
    /// Its two directions.
    pub stream: Box<dyn Stream>,
    /// Bytes the client has sent already.
    pub first: Bytes,
    /// Why it is not looked into.
    pub kind: TunnelKind,
    /// The server name of a TLS ClientHello.
    pub sni: Option<String>,
}

/// Both directions of a byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// What every connection of a worker goes by.
pub struct Settings {
    /// `listen.limits` of the policy in force when the connection came.
    pub limits: Limits,
    /// Begun when the process drains.
    pub drain: Drain,
    /// Makes the answer to what cannot be read.
    pub refuse: Refuse,
}

/// Serves one connection to its end.
pub fn serve<I, H>(stream: I, handler: H, way: Rc<Way>, settings: Rc<Settings>) -> LocalFuture<()>
where
    I: Stream + 'static,
    H: Handler,
{
    // Boxed because a CONNECT holds another connection inside it.
    Box::pin(async move { run(stream, handler, way, settings).await })
}

async fn run<I, H>(mut stream: I, handler: H, way: Rc<Way>, settings: Rc<Settings>)
where
    I: Stream + 'static,
    H: Handler,
{
    if handler.is_opaque(&way) {
        let io = TunnelIo {
            stream: Box::new(stream),
            first: Bytes::new(),
            kind: TunnelKind::ServerFirst,
            sni: None,
        };
        return handler.tunnel(io, &way).await;
    }
    let patience = if way.leads_somewhere() {
        settings.limits.detect
    } else {
        // Nothing to tunnel to: silence can only be a kept connection that is not used yet.
        settings.limits.idle
    };
    let first = tokio::select! {
        first = detect::read_first(&mut stream, patience) => first,
        () = settings.drain.begun() => return,
    };
    // A connection that failed or closed before it said anything has nobody left to tell.
    let Ok(first) = first else { return };
    match first.verdict {
        Some(Verdict::Http1) => http1(stream, first.bytes, &handler, way, settings).await,
        Some(Verdict::Http2) => http2(stream, first.bytes, &handler, way, settings).await,
        verdict => not_http(stream, first, verdict, &handler, &way, &settings).await,
    }
}

async fn not_http<I, H>(
    mut stream: I,
    first: First,
    verdict: Option<Verdict>,
    handler: &H,
    way: &Rc<Way>,
    settings: &Settings,
) where
    I: Stream + 'static,
    H: Handler,
{
    if !way.leads_somewhere() {
        if verdict.is_some() {
            turn_away(
                &mut stream,
                Reason::MalformedRequest,
                handler,
                way,
                settings,
            )
            .await;
        }
        return;
    }
    let kind = match verdict {
        Some(Verdict::Tls) => TunnelKind::Tls,
        None => TunnelKind::ServerFirst,
        Some(_) => TunnelKind::Opaque,
    };
    let io = TunnelIo {
        stream: Box::new(stream),
        first: first.bytes,
        kind,
        sni: first.sni,
    };
    handler.tunnel(io, way).await;
}

/// Answers what is no request and closes. The client may be gone; it is told as a courtesy.
async fn turn_away<I, H>(
    stream: &mut I,
    reason: Reason,
    handler: &H,
    way: &Way,
    settings: &Settings,
) where
    I: Stream,
    H: Handler,
{
    let refusal = (settings.refuse)(reason);
    handler.refused(&refusal, way);
    let _ = stream.write_all(&refusal.bytes).await;
    let _ = stream.shutdown().await;
}

async fn http1<I, H>(stream: I, first: Bytes, handler: &H, way: Rc<Way>, settings: Rc<Settings>)
where
    I: Stream + 'static,
    H: Handler,
{
    let heard = Heard::new();
    let service = Requests::new(handler, &way, &settings, &heard);
    let tap = Tap::new(
        stream,
        first,
        Arc::clone(&heard),
        Arc::clone(&settings.refuse),
    );
    let mut builder = http1::Builder::new();
    builder
        // A client that closes its side has left, as nginx and Envoy take it: work for it is given up.
        .half_close(false)
        .max_header_size(usize::try_from(settings.limits.head).unwrap_or(usize::MAX))
        .max_buf_size(buffer_for(settings.limits.head))
        .header_read_timeout(None);
    if settings.limits.headers != DEFAULT_HEADERS {
        // Only the default number fits the parser's own stack; any other costs an allocation a head.
        builder.max_headers(settings.limits.headers as usize);
    }
    let mut connection = builder
        .serve_connection(TokioIo::new(tap), service)
        .with_upgrades();
    let mut watch = Watch::new(&heard, &settings);
    let mut cut = false;
    let ended = {
        let mut drained = pin!(settings.drain.watch());
        let mut draining = false;
        poll_fn(|cx| {
            if !draining && drained.as_mut().poll(cx).is_ready() {
                draining = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            if let Poll::Ready(result) = Pin::new(&mut connection).poll(cx) {
                cut = result.is_err_and(|error| is_cut(&error));
                return Poll::Ready(None);
            }
            watch.poll(cx).map(Some)
        })
        .await
    };
    if let Some(refusal) = heard.take_refused() {
        handler.refused(&refusal, &way);
    }
    if (cut || ended == Some(Expired::Head))
        && let Some(parts) = connection.into_parts()
    {
        let mut stream = parts.io.into_inner().into_inner();
        if cut {
            close_by_reset(&stream);
        } else {
            turn_away(&mut stream, Reason::HeadTimeout, handler, &way, &settings).await;
        }
    }
}

fn is_cut(error: &hyper::Error) -> bool {
    error.source().is_some_and(<dyn Error>::is::<Cut>)
}

/// Makes the kernel send RST rather than FIN when the stream is dropped. Inside a tunnel there is no such choice.
fn close_by_reset<I: Stream + 'static>(stream: &I) {
    if let Some(stream) = (stream as &dyn Any).downcast_ref::<tokio::net::TcpStream>() {
        // A socket that is gone needs no reset.
        let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
    }
}

async fn http2<I, H>(stream: I, first: Bytes, handler: &H, way: Rc<Way>, settings: Rc<Settings>)
where
    I: Stream + 'static,
    H: Handler,
{
    let heard = Heard::new();
    let service = Requests::new(handler, &way, &settings, &heard);
    let tap = Tap::new(
        stream,
        first,
        Arc::clone(&heard),
        Arc::clone(&settings.refuse),
    )
    .without_lines();
    let mut connection = pin!(
        http2::Builder::new(LocalExec)
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(u32::try_from(settings.limits.head).unwrap_or(u32::MAX))
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_WITHIN)
            .serve_connection(TokioIo::new(tap), service)
    );
    let mut watch = Watch::new(&heard, &settings);
    let mut drained = pin!(settings.drain.watch());
    let mut closing = false;
    poll_fn(|cx| {
        if !closing && drained.as_mut().poll(cx).is_ready() {
            closing = true;
            connection.as_mut().graceful_shutdown();
        }
        if connection.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if !closing && watch.poll(cx).is_ready() {
            closing = true;
            connection.as_mut().graceful_shutdown();
            return connection.as_mut().poll(cx).map(drop);
        }
        Poll::Pending
    })
    .await;
}

/// The number of fields the parser has room for without asking the allocator.
const DEFAULT_HEADERS: u32 = 100;
/// Streams that one client connection may have open at once.
const MAX_STREAMS: u32 = 256;
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_WITHIN: Duration = Duration::from_secs(15);

/// The read buffer must hold a whole head, and the library asks for 8 KiB at least.
fn buffer_for(head: u64) -> usize {
    const LEAST: u64 = 8 * 1024;
    usize::try_from(head.max(LEAST) + LEAST).unwrap_or(usize::MAX)
}

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expired {
    /// A head was begun and not finished in time.
    Head,
    /// Nothing happened for longer than `idle`.
    Idle,
}

/// The one timer of a connection. It is moved when a head stays incomplete, and otherwise looks only now and then whether
/// anything came: a request costs it nothing.
struct Watch {
    heard: Arc<Heard>,
    settings: Rc<Settings>,
    timer: Pin<Box<tokio::time::Sleep>>,
    head: Option<Instant>,
}

impl Watch {
    fn new(heard: &Arc<Heard>, settings: &Rc<Settings>) -> Self {
        Self {
            heard: Arc::clone(heard),
            settings: Rc::clone(settings),
            timer: Box::pin(tokio::time::sleep(settings.limits.idle)),
            head: None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Expired> {
        let limits = &self.settings.limits;
        let head = self.heard.head_since();
        if head != self.head {
            self.head = head;
            let until = head.map_or_else(
                || clock::now() + limits.idle,
                |since| since + limits.head_read,
            );
            self.timer.as_mut().reset(until.into());
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.head.is_some() {
                return Poll::Ready(Expired::Head);
            }
            if !self.heard.take_any_bytes() && !self.heard.is_busy() {
                return Poll::Ready(Expired::Idle);
            }
            self.timer
                .as_mut()
                .reset((clock::now() + limits.idle).into());
        }
        Poll::Pending
    }
}

/// Hands the requests of one connection to the handler.
struct Requests<H> {
    handler: H,
    way: Rc<Way>,
    settings: Rc<Settings>,
    heard: Arc<Heard>,
}

impl<H: Handler> Requests<H> {
    fn new(handler: &H, way: &Rc<Way>, settings: &Rc<Settings>, heard: &Arc<Heard>) -> Self {
        Self {
            handler: handler.clone(),
            way: Rc::clone(way),
            settings: Rc::clone(settings),
            heard: Arc::clone(heard),
        }
    }
}

impl<H: Handler> hyper::service::Service<Request<Incoming>> for Requests<H> {
    type Response = Response<Served<H::Body>>;
    type Error = Cut;
    type Future = ServedFuture<H::Body>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let doubt = self.heard.bare_lf().then_some(Reason::MalformedRequest);
        let in_call = self.heard.call();
        if request.method() == Method::CONNECT {
            let target = request.uri().authority().cloned();
            let upgrade = hyper::upgrade::on(&mut request);
            let response = self.handler.handle(request, &self.way, doubt);
            let inside = Rc::new(Way {
                connect: target,
                ..(*self.way).clone()
            });
            let handler = self.handler.clone();
            let settings = Rc::clone(&self.settings);
            return ServedFuture {
                inner: Box::pin(async move {
                    let response = response.await;
                    if response.status().is_success() {
                        tokio::task::spawn_local(async move {
                            if let Ok(stream) = upgrade.await {
                                serve(TokioIo::new(stream), handler, inside, settings).await;
                            }
                        });
                    }
                    response
                }),
                in_call: Some(in_call),
            };
        }
        ServedFuture {
            inner: self.handler.handle(request, &self.way, doubt),
            in_call: Some(in_call),
        }
    }
}

/// A request being answered.
pub struct ServedFuture<B> {
    inner: LocalFuture<Response<B>>,
    in_call: Option<InCall>,
}

impl<B> Future for ServedFuture<B> {
    type Output = Result<Response<Served<B>>, Cut>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.as_mut().poll(cx).map(|response| {
            if let Some(cut) = response.extensions().get::<Cut>() {
                // The only way to make the library end a connection or a stream without an answer.
                return Err(*cut);
            }
            let in_call = self.in_call.take();
            Ok(response.map(|inner| Served {
                inner,
                _in_call: in_call,
            }))
        })
    }
}

/// A response body that keeps its connection busy until it ends.
pub struct Served<B> {
    inner: B,
    _in_call: Option<InCall>,
}

impl<B: Body<Data = Bytes, Error = Fault> + Unpin> Body for Served<B> {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
