//! HTTP/2 origins: a well-behaved one (hyper) that answers by a script, and a raw one that refuses and says goodbye.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Request;
use http::Response;
use http_body_util::BodyExt;
use http_body_util::StreamBody;
use hyper::body::Frame as BodyFrame;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::h2client::Payload;
use super::h2client::empty;
use super::h2frame;
use super::h2frame::ACK;
use super::h2frame::DATA;
use super::h2frame::END_STREAM;
use super::h2frame::Frame;
use super::h2frame::HEADERS;
use super::h2frame::PING;
use super::h2frame::PREFACE;
use super::h2frame::RST_STREAM;
use super::h2frame::SETTINGS;
use super::origin::Gate;

/// What the origin does with one request.
#[derive(Clone, Debug)]
pub enum H2Act {
    /// Reads the request, then answers with these pieces and trailers.
    Answer {
        status: u16,
        fields: Vec<(&'static str, String)>,
        pieces: Vec<Bytes>,
        trailers: Vec<(&'static str, String)>,
    },
    /// Sends each piece of the request back as it comes, and its trailers.
    Echo,
    Hold(Gate, Box<H2Act>),
}

impl H2Act {
    pub fn ok(body: &str) -> Self {
        let pieces = vec![Bytes::copy_from_slice(body.as_bytes())];
        H2Act::Answer {
            status: 200,
            fields: Vec::new(),
            pieces,
            trailers: Vec::new(),
        }
    }

    /// A gRPC response: one message, and the status in the trailers.
    pub fn grpc(message: &'static [u8], status: u8) -> Self {
        H2Act::Answer {
            status: 200,
            fields: vec![("content-type", "application/grpc".to_owned())],
            pieces: if message.is_empty() {
                Vec::new()
            } else {
                vec![Bytes::from_static(message)]
            },
            trailers: vec![("grpc-status", status.to_string())],
        }
    }

    /// A gRPC response that is nothing but its status, in the header block.
    pub fn grpc_only(status: u8) -> Self {
        let fields = vec![
            ("content-type", "application/grpc".to_owned()),
            ("grpc-status", status.to_string()),
        ];
        H2Act::Answer {
            status: 200,
            fields,
            pieces: Vec::new(),
            trailers: Vec::new(),
        }
    }
}

/// One request as received.
#[derive(Clone, Debug)]
pub struct H2Seen {
    pub connection: usize,
    pub method: String,
    pub uri: String,
    pub headers: HeaderMap,
}

#[derive(Default)]
struct Counts {
    connections: AtomicUsize,
    requests: AtomicUsize,
    resets: AtomicUsize,
    seen: Mutex<Vec<H2Seen>>,
}

type Script = Arc<dyn Fn(usize, &Request<Incoming>) -> H2Act + Send + Sync>;
type RawScript = Arc<dyn Fn(usize, usize) -> RawAct + Send + Sync>;

/// A running HTTP/2 origin.
pub struct H2Origin {
    pub addr: SocketAddr,
    counts: Arc<Counts>,
    accepting: JoinHandle<()>,
}

impl Drop for H2Origin {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("bind an origin on a free port");
    let addr = listener.local_addr().expect("bound");
    (listener, addr)
}

impl H2Origin {
    /// `script` gets the number of the request, from 0, and its head.
    pub async fn start(
        script: impl Fn(usize, &Request<Incoming>) -> H2Act + Send + Sync + 'static,
    ) -> Self {
        let (listener, addr) = listen().await;
        let counts = Arc::new(Counts::default());
        let (script, shared): (Script, _) = (Arc::new(script), Arc::clone(&counts));
        let accepting = tokio::spawn(async move {
            let mut serving = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let connection = shared.connections.fetch_add(1, Ordering::SeqCst);
                serving.spawn(serve(
                    stream,
                    connection,
                    Arc::clone(&script),
                    Arc::clone(&shared),
                ));
            }
        });
        H2Origin {
            addr,
            counts,
            accepting,
        }
    }

    /// Answers by frames; `script` gets the number of the connection and of the stream on it, both from 0.
    pub async fn raw(script: impl Fn(usize, usize) -> RawAct + Send + Sync + 'static) -> Self {
        let (listener, addr) = listen().await;
        let counts = Arc::new(Counts::default());
        let (script, shared): (RawScript, _) = (Arc::new(script), Arc::clone(&counts));
        let accepting = tokio::spawn(async move {
            let mut serving = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let connection = shared.connections.fetch_add(1, Ordering::SeqCst);
                serving.spawn(serve_raw(
                    stream,
                    connection,
                    Arc::clone(&script),
                    Arc::clone(&shared),
                ));
            }
        });
        H2Origin {
            addr,
            counts,
            accepting,
        }
    }

    pub fn connections(&self) -> usize {
        self.counts.connections.load(Ordering::SeqCst)
    }

    pub fn requests(&self) -> usize {
        self.counts.requests.load(Ordering::SeqCst)
    }

    /// Streams that the peer has reset, as the raw origin saw.
    pub fn resets(&self) -> usize {
        self.counts.resets.load(Ordering::SeqCst)
    }

    pub fn seen(&self) -> Vec<H2Seen> {
        self.counts.seen.lock().clone()
    }
}

async fn serve(stream: TcpStream, connection: usize, script: Script, counts: Arc<Counts>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let n = counts.requests.fetch_add(1, Ordering::SeqCst);
        let seen = H2Seen {
            connection,
            method: request.method().to_string(),
            uri: request.uri().to_string(),
            headers: request.headers().clone(),
        };
        counts.seen.lock().push(seen);
        let act = script(n, &request);
        async move { Ok::<_, Infallible>(act_on(act, request).await) }
    });
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

async fn act_on(act: H2Act, request: Request<Incoming>) -> Response<Payload> {
    match act {
        H2Act::Hold(gate, then) => {
            gate.passed().await;
            Box::pin(act_on(*then, request)).await
        }
        H2Act::Echo => {
            // A body that fails simply ends here: the client of the echo is what the test looks at.
            let frames = request
                .into_body()
                .into_data_stream()
                .filter_map(|piece| async { piece.ok() });
            Response::new(BodyExt::boxed(StreamBody::new(
                frames.map(|piece| Ok(BodyFrame::data(piece))),
            )))
        }
        H2Act::Answer {
            status,
            fields,
            pieces,
            trailers,
        } => {
            let _ = request.into_body().collect().await;
            let mut response = Response::builder().status(status);
            for (name, value) in fields {
                response = response.header(name, value);
            }
            let body = if pieces.is_empty() && trailers.is_empty() {
                empty()
            } else {
                body(pieces, &trailers)
            };
            response.body(body).expect("a good response")
        }
    }
}

fn body(pieces: Vec<Bytes>, trailers: &[(&'static str, String)]) -> Payload {
    let mut frames: Vec<_> = pieces.into_iter().map(BodyFrame::data).map(Ok).collect();
    if !trailers.is_empty() {
        let field = |(name, value): &(&'static str, String)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_str(value).expect("a good value"),
            )
        };
        frames.push(Ok(BodyFrame::trailers(
            trailers.iter().map(field).collect(),
        )));
    }
    BodyExt::boxed(StreamBody::new(stream::iter(frames)))
}

/// What the raw origin does with one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawAct {
    /// 200 with the body `ok`.
    Ok,
    /// RST_STREAM with this code before anything else.
    Reset(u32),
    /// GOAWAY that says this stream was not processed, and then the end of the connection.
    GoAwayUnprocessed,
    /// Answers, and says GOAWAY behind it: the connection is to be left.
    OkThenGoAway,
    /// The header block of a response, and then RST_STREAM.
    HeadThenReset(u32),
    /// Nothing, ever.
    Silence,
}

async fn serve_raw(
    mut io: TcpStream,
    connection: usize,
    script: RawScript,
    counts: Arc<Counts>,
) -> Option<()> {
    let mut preface = [0; PREFACE.len()];
    io.read_exact(&mut preface).await.ok()?;
    h2frame::write(&mut io, &Frame::settings()).await.ok()?;
    let mut nth = 0;
    let mut decided = None;
    loop {
        let frame = h2frame::read(&mut io).await?;
        match frame.kind {
            SETTINGS | PING if !frame.has(ACK) => {
                let payload = if frame.kind == PING {
                    frame.payload
                } else {
                    Vec::new()
                };
                h2frame::write(&mut io, &Frame::new(frame.kind, ACK, 0, payload))
                    .await
                    .ok()?;
            }
            HEADERS | DATA => {
                let (stream, ends) = (frame.stream, frame.has(END_STREAM));
                if frame.kind == HEADERS && decided.is_none() {
                    counts.requests.fetch_add(1, Ordering::SeqCst);
                    decided = Some(script(connection, nth));
                    nth += 1;
                }
                let at_once = matches!(decided, Some(RawAct::Reset(_)));
                if let Some(act) = decided.filter(|_| ends || at_once) {
                    decided = None;
                    raw_act(&mut io, stream, act).await?;
                }
            }
            RST_STREAM => {
                counts.resets.fetch_add(1, Ordering::SeqCst);
            }
            _ => {}
        }
    }
}

async fn raw_act(io: &mut TcpStream, stream: u32, act: RawAct) -> Option<()> {
    let head: [(&[u8], &[u8]); 1] = [(b":status", b"200")];
    let frames = match act {
        RawAct::Ok => vec![
            Frame::headers(stream, &head, false),
            Frame::data(stream, b"ok", true),
        ],
        RawAct::Silence => Vec::new(),
        RawAct::Reset(code) => vec![Frame::reset(stream, code)],
        RawAct::GoAwayUnprocessed => {
            vec![Frame::goaway(stream.saturating_sub(2), h2frame::NO_ERROR)]
        }
        RawAct::OkThenGoAway => vec![
            Frame::headers(stream, &head, false),
            Frame::data(stream, b"ok", true),
            Frame::goaway(stream, h2frame::NO_ERROR),
        ],
        RawAct::HeadThenReset(code) => vec![
            Frame::headers(stream, &head, false),
            Frame::reset(stream, code),
        ],
    };
    for frame in &frames {
        h2frame::write(io, frame).await.ok()?;
    }
    // A goodbye that leaves the stream unprocessed also ends the connection, as a restarting server does.
    if act != RawAct::GoAwayUnprocessed {
        return Some(());
    }
    // Closed in order: a reset could overtake the goodbye.
    io.shutdown().await.ok()?;
    let mut waste = [0; 1024];
    while io.read(&mut waste).await.ok()? > 0 {}
    None
}
