//! A well-behaved HTTP/2 client with prior knowledge, as gRPC libraries are.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::stream;
use http::HeaderMap;
use http::Request;
use http::Response;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::StreamBody;
use http_body_util::combinators::BoxBody;
use hyper::body::Frame;
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::call::HOST;
use super::names;
use super::within;

pub type Payload = BoxBody<Bytes, Infallible>;

/// One connection and the task that drives it.
pub struct H2 {
    pub sender: SendRequest<Payload>,
    driving: JoinHandle<()>,
}

impl Drop for H2 {
    fn drop(&mut self) {
        self.driving.abort();
    }
}

/// A response read to its end.
#[derive(Debug)]
pub struct H2Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: HeaderMap,
}

impl H2Reply {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// `grpc-status`, wherever it stands.
    pub fn grpc_status(&self) -> Option<&str> {
        let found = self
            .trailers
            .get("grpc-status")
            .or_else(|| self.headers.get("grpc-status"));
        found.and_then(|value| value.to_str().ok())
    }

    pub fn reason(&self) -> Option<&str> {
        self.get(names::PROXY_STATUS)?
            .strip_prefix("outrider; error=")
    }
}

/// A request to [`HOST`].
pub fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(format!("http://{HOST}{path}"))
}

/// A unary gRPC call.
pub fn grpc(path: &str, message: &'static [u8]) -> Request<Payload> {
    grpc_over("http", path, message)
}

/// The same with the scheme of a connection that is encrypted.
pub fn grpc_over(scheme: &str, path: &str, message: &'static [u8]) -> Request<Payload> {
    let request = Request::builder()
        .method("POST")
        .uri(format!("{scheme}://{HOST}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    request.body(full(message)).expect("a good request")
}

pub fn full(bytes: impl Into<Bytes>) -> Payload {
    Full::new(bytes.into()).boxed()
}

pub fn empty() -> Payload {
    full(Bytes::new())
}

/// A body of pieces with trailers behind.
pub fn with_trailers(pieces: Vec<Bytes>, trailers: HeaderMap) -> Payload {
    let frames = pieces
        .into_iter()
        .map(Frame::data)
        .chain([Frame::trailers(trailers)])
        .map(Ok);
    StreamBody::new(stream::iter(frames.collect::<Vec<_>>())).boxed()
}

impl H2 {
    /// One whose connection was opened by other means; `driving` is what keeps it going.
    pub fn driven(
        sender: SendRequest<Payload>,
        driving: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        H2 {
            sender,
            driving: tokio::spawn(driving),
        }
    }

    /// # Panics
    /// When there is no HTTP/2 server.
    pub async fn connect(addr: SocketAddr) -> Self {
        let stream = within("connect", TcpStream::connect(addr))
            .await
            .expect("connect");
        let handshake =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = within("HTTP/2 handshake", handshake).await.expect("HTTP/2");
        let driving = tokio::spawn(async move {
            let _ = connection.await;
        });
        H2 { sender, driving }
    }

    /// # Errors
    /// When the stream or the connection fails before a response.
    pub async fn begin(&self, request: Request<Payload>) -> hyper::Result<Response<Incoming>> {
        let mut sender = self.sender.clone();
        within("a response", sender.send_request(request)).await
    }

    /// Sends the request and reads the response to its end.
    ///
    /// # Panics
    /// When either fails.
    pub async fn call(&self, request: Request<Payload>) -> H2Reply {
        let response = self.begin(request).await.expect("a response");
        read(response).await.expect("a whole response")
    }

    pub async fn get(&self, path: &str) -> H2Reply {
        self.call(request("GET", path).body(empty()).expect("a good request"))
            .await
    }
}

/// Reads a response to its end.
///
/// # Errors
/// When the stream fails half-way.
pub async fn read(response: Response<Incoming>) -> hyper::Result<H2Reply> {
    let (head, body) = response.into_parts();
    let whole = within("the body", body.collect()).await?;
    let trailers = whole.trailers().cloned().unwrap_or_default();
    Ok(H2Reply {
        status: head.status.as_u16(),
        headers: head.headers,
        body: whole.to_bytes(),
        trailers,
    })
}
