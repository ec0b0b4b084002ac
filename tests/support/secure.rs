//! Callers over mutual TLS: one of our own, and OpenSSL and curl as users have them.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::sync::Arc;

use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::call::Call;
use super::call::Reply;
use super::pki::Issued;
use super::wire::Wire;
use super::within;

/// One connection of a caller.
pub struct Secure {
    pub wire: Wire<TlsStream<TcpStream>>,
}

/// A configuration that believes `authorities` and shows `own`.
fn config(authorities: &str, own: Option<&Issued>, alpn: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
        let authority = authority.expect("PEM");
        roots.add(authority).expect("an authority");
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let chain: Result<Vec<_>, _> =
                CertificateDer::pem_slice_iter(own.cert.as_bytes()).collect();
            let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("a key");
            builder
                .with_client_auth_cert(chain.expect("PEM"), key)
                .expect("key and certificate belong together")
        }
    };
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    Arc::new(config)
}

/// Shakes hands. In TLS 1.3 the server's opinion of our certificate comes later, with the first bytes read.
///
/// # Errors
/// When the server ends the handshake.
pub async fn connect(
    addr: SocketAddr,
    authorities: &str,
    own: Option<&Issued>,
    alpn: &str,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = within("connect", TcpStream::connect(addr)).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    let connector = TlsConnector::from(config(authorities, own, alpn));
    within("the handshake", connector.connect(name, stream)).await
}

impl Secure {
    /// # Errors
    /// As [`connect`].
    pub async fn connect(
        addr: SocketAddr,
        authorities: &str,
        own: Option<&Issued>,
    ) -> io::Result<Self> {
        let stream = connect(addr, authorities, own, "http/1.1").await?;
        Ok(Self {
            wire: Wire::new(stream),
        })
    }

    /// The answer; `None` if the connection ended instead.
    pub async fn try_call(&mut self, call: &Call) -> Option<Reply> {
        within("send", self.wire.send(&call.bytes())).await.ok()?;
        let head = within("the head of an answer", self.wire.head())
            .await
            .ok()??;
        let framing = head.response_framing(&call.method).ok()?;
        let status = head.status().ok()?;
        let body = within("the body of an answer", self.wire.body(framing))
            .await
            .ok()?;
        Some(Reply {
            status,
            head,
            body,
            ..Reply::default()
        })
    }

    /// # Panics
    /// When there is no answer.
    pub async fn call(&mut self, call: &Call) -> Reply {
        self.try_call(call).await.expect("an answer")
    }
}

/// One call on a connection of its own; `None` if it was not let in.
pub async fn ask(
    addr: SocketAddr,
    authorities: &str,
    own: Option<&Issued>,
    call: &Call,
) -> Option<Reply> {
    let mut secure = Secure::connect(addr, authorities, own).await.ok()?;
    secure.try_call(call).await
}

/// An HTTP/2 connection over mutual TLS.
///
/// # Panics
/// When there is none.
pub async fn h2(addr: SocketAddr, authorities: &str, own: &Issued) -> super::h2client::H2 {
    let stream = connect(addr, authorities, Some(own), "h2")
        .await
        .expect("TLS");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let io = TokioIo::new(stream);
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
    let (sender, connection) = within("HTTP/2 handshake", handshake).await.expect("HTTP/2");
    super::h2client::H2::driven(sender, async move {
        let _ = connection.await;
    })
}

/// Runs a program to its end, with `input` on its standard input.
///
/// # Panics
/// When it cannot be started; tests/run installs it.
pub async fn run(program: &str, args: &[&str], input: &Path) -> Output {
    let mut command = Command::new(program);
    let input = std::fs::File::open(input).expect("the input");
    command.args(args).stdin(Stdio::from(input));
    let running = tokio::task::spawn_blocking(move || command.output());
    running.await.expect("it ends").expect("it starts")
}
