//! TLS in front of an origin: rustls alone, with nothing of outrider in it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::pki::Issued;

/// A server of TLS that passes on what it decrypts.
pub struct Front {
    pub addr: SocketAddr,
    config: Arc<ArcSwap<ServerConfig>>,
    accepted: Arc<AtomicUsize>,
}

impl Front {
    /// Shows `issued` and wants a certificate of these authorities; none: wants none.
    pub async fn start(issued: &Issued, believes: Option<&str>, origin: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let config = Arc::new(ArcSwap::new(config(issued, believes)));
        let accepted = Arc::<AtomicUsize>::default();
        let (now, count) = (Arc::clone(&config), Arc::clone(&accepted));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = TlsAcceptor::from(now.load_full());
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    let Ok(mut inside) = acceptor.accept(stream).await else {
                        return;
                    };
                    count.fetch_add(1, Ordering::SeqCst);
                    if let Ok(mut origin) = TcpStream::connect(origin).await {
                        // Whichever side ends it: both do, in these tests.
                        let _ = tokio::io::copy_bidirectional(&mut inside, &mut origin).await;
                    }
                });
            }
        });
        Self {
            addr,
            config,
            accepted,
        }
    }

    /// Shows and believes something else from now on.
    pub fn renew(&self, issued: &Issued, believes: Option<&str>) {
        self.config.store(config(issued, believes));
    }

    /// Handshakes that succeeded.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

fn config(issued: &Issued, believes: Option<&str>) -> Arc<ServerConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions");
    let builder = match believes {
        None => builder.with_no_client_auth(),
        Some(authorities) => {
            let mut store = RootCertStore::empty();
            for authority in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
                store.add(authority.expect("PEM")).expect("an authority");
            }
            let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider);
            builder.with_client_cert_verifier(clients.build().expect("a verifier"))
        }
    };
    let chain = CertificateDer::pem_slice_iter(issued.cert.as_bytes());
    let chain = chain.collect::<Result<_, _>>().expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("a key");
    let mut config = builder.with_single_cert(chain, key).expect("they match");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}
