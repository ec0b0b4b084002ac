//! A token endpoint of our own (RFC 6749 section 4.4), over HTTP or TLS, which can be slow, refuse, or talk nonsense.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rcgen::CertifiedKey;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::origin::Act;
use super::origin::Answer;
use super::origin::Gate;
use super::origin::Origin;
use super::origin::Seen;

/// How the next requests are answered.
#[derive(Clone, Debug)]
pub enum Mood {
    /// A token, `token-1` and so on, with these words about its life, such as `"expires_in":3600`; empty says nothing.
    Grants(&'static str),
    /// This status and body.
    Says(u16, &'static str),
    /// Waits for the gate, then grants for an hour.
    Waits(Gate),
}

/// A running token endpoint.
pub struct OAuth {
    origin: Origin,
    mood: Arc<Mutex<Mood>>,
    tls: Option<(SocketAddr, JoinHandle<()>)>,
}

impl Drop for OAuth {
    fn drop(&mut self) {
        if let Some((_, task)) = &self.tls {
            task.abort();
        }
    }
}

impl OAuth {
    pub async fn start(mood: Mood) -> Self {
        let mood = Arc::new(Mutex::new(mood));
        let current = Arc::clone(&mood);
        let given = Mutex::new(0);
        let origin = Origin::start(move |_| {
            let token = || {
                *given.lock() += 1;
                format!("token-{}", given.lock())
            };
            match current.lock().clone() {
                Mood::Grants(life) => grant(&token(), life),
                Mood::Says(status, body) => Act::Answer(
                    Answer::status(status)
                        .field("content-type", "application/json")
                        .text(body),
                ),
                Mood::Waits(gate) => {
                    let then = grant(&token(), "\"expires_in\":3600");
                    Act::Hold(gate, Box::new(then))
                }
            }
        })
        .await;
        OAuth {
            origin,
            mood,
            tls: None,
        }
    }

    /// The same over TLS, for `localhost`; its certificate, which is its own anchor, is written to `ca`.
    pub async fn start_tls(mood: Mood, ca: &Path) -> Self {
        let mut oauth = Self::start(mood).await;
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        std::fs::write(ca, cert.pem()).expect("the folder can be written");
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .expect("they belong together");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let behind = oauth.origin.addr;
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut stream = acceptor.accept(stream).await.ok()?;
                    let mut behind = TcpStream::connect(behind).await.ok()?;
                    tokio::io::copy_bidirectional(&mut stream, &mut behind)
                        .await
                        .ok()
                });
            }
        });
        oauth.tls = Some((addr, task));
        oauth
    }

    pub fn set(&self, mood: Mood) {
        *self.mood.lock() = mood;
    }

    pub fn url(&self) -> String {
        match &self.tls {
            Some((addr, _)) => format!("https://localhost:{}/token", addr.port()),
            None => format!("http://{}/token", self.origin.addr),
        }
    }

    /// Requests for a token so far.
    pub fn requests(&self) -> usize {
        self.origin.requests()
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.origin.seen()
    }
}

fn grant(token: &str, life: &str) -> Act {
    let comma = if life.is_empty() { "" } else { "," };
    let body = format!("{{\"access_token\":\"{token}\",\"token_type\":\"Bearer\"{comma}{life}}}");
    Act::Answer(
        Answer::ok(body)
            .field("content-type", "application/json")
            .field("cache-control", "no-store"),
    )
}
