//! An agent of the SPIFFE Workload API on a socket of its own: one stream for each client, a message for each identity.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use http::Response;
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::pki::Issued;

/// An agent; dropping it closes its socket and every stream.
pub struct Agent {
    says: watch::Sender<Bytes>,
    streams: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Agent {
    /// Issues this identity to whoever asks, until it is told to issue another.
    pub fn start(socket: &Path, id: &str, issued: &Issued, authorities: &str) -> Self {
        let (says, told) = watch::channel(message(id, issued, authorities));
        let listener = UnixListener::bind(socket).expect("a socket");
        let streams = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&streams);
        let task = tokio::spawn(async move {
            // Ends with the agent, and takes its connections with it.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (told, count) = (told.clone(), Arc::clone(&count));
                connections.spawn(async move {
                    let service = service_fn(move |_: http::Request<Incoming>| {
                        count.fetch_add(1, Ordering::SeqCst);
                        let identities = said(told.clone());
                        async move {
                            let body = StreamBody::new(identities);
                            let response = Response::builder()
                                .header("content-type", "application/grpc")
                                .body(body);
                            Ok::<_, Infallible>(response.expect("a response"))
                        }
                    });
                    // Its end is the test's affair.
                    let _ = http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self {
            says,
            streams,
            task,
        }
    }

    /// Issues another.
    pub fn renew(&self, id: &str, issued: &Issued, authorities: &str) {
        self.says.send_replace(message(id, issued, authorities));
    }

    /// How many streams were asked for.
    pub fn streams(&self) -> usize {
        self.streams.load(Ordering::SeqCst)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is said now, and what is said next, for ever.
fn said(told: watch::Receiver<Bytes>) -> BoxStream<'static, Result<Frame<Bytes>, Infallible>> {
    let first = (told, true);
    futures_util::stream::unfold(first, |(mut told, is_first)| async move {
        if !is_first {
            told.changed().await.ok()?;
        }
        let now = told.borrow_and_update().clone();
        Some((Ok(Frame::data(now)), (told, false)))
    })
    .boxed()
}

/// `X509SVIDResponse` with one `X509SVID`, in its gRPC frame (SPIFFE Workload API, section 5).
fn message(id: &str, issued: &Issued, authorities: &str) -> Bytes {
    let der = |text: &str| -> Vec<u8> {
        let all = CertificateDer::pem_slice_iter(text.as_bytes());
        all.flat_map(|one| one.expect("PEM").to_vec()).collect()
    };
    let key = PrivatePkcs8KeyDer::from_pem_slice(issued.key.as_bytes()).expect("a key");
    let svid = [
        field(1, id.as_bytes()),
        field(2, &der(&issued.cert)),
        field(3, key.secret_pkcs8_der()),
        field(4, &der(authorities)),
    ]
    .concat();
    let response = field(1, &svid);
    let mut frame = vec![0];
    frame.extend((response.len() as u32).to_be_bytes());
    frame.extend(response);
    frame.into()
}

/// A field of bytes in Protocol Buffers.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend(bytes);
    out
}
