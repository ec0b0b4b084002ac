//! Configurations of rustls, made of an identity.
//!
//! One crypto provider: aws-lc-rs, X25519MLKEM768 first. Each configuration has a session store of its own, and each
//! generation of the identity a configuration of its own, so no session outlives the identity and the trust that it was
//! made with.

use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::Error;
use rustls::ServerConfig;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::UnixTime;
use rustls::sign::CertifiedKey;
use rustls::sign::SingleCertAndKey;
use rustls::time_provider::TimeProvider;
use rustls::version::TLS12;
use rustls::version::TLS13;

use crate::clock;
use crate::identity::Current;
use crate::identity::Flaw;
use crate::identity::Identity;
use crate::identity::PeerPattern;
use crate::identity::verify::Verifier;

/// HTTP/2 in ALPN (RFC 9113, section 3.2).
pub const H2: &[u8] = b"h2";
/// HTTP/1.1 in ALPN (RFC 7301, section 6).
pub const HTTP1: &[u8] = b"http/1.1";

/// The one crypto provider of this process.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())))
}

/// Lets rustls read time where everybody reads it.
#[derive(Debug)]
struct Clock;

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(clock::unix()))
    }
}

fn protocols(alpn: &[&[u8]]) -> Vec<Vec<u8>> {
    alpn.iter().map(|protocol| protocol.to_vec()).collect()
}

/// The client's side of mutual TLS: shows `identity`, accepts `peers` (none: whomever it believes). TLS 1.3 only.
///
/// # Errors
/// When the provider lacks what TLS 1.3 needs.
pub fn client_config(
    identity: &Identity,
    peers: &Arc<[PeerPattern]>,
    alpn: &[&[u8]],
) -> Result<Arc<ClientConfig>, Error> {
    let verifier = Verifier::new(identity.trust.clone(), Arc::clone(peers));
    let mut config = ClientConfig::builder_with_details(provider(), Arc::new(Clock))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(shown(&identity.certified));
    config.alpn_protocols = protocols(alpn);
    Ok(Arc::new(config))
}

/// The server's side of mutual TLS: shows `identity`, wants a certificate of one of `peers` (none: of whomever it believes). TLS 1.3
/// only.
///
/// # Errors
/// When the provider lacks what TLS 1.3 needs.
pub fn server_config(
    identity: &Identity,
    peers: &Arc<[PeerPattern]>,
    alpn: &[&[u8]],
) -> Result<Arc<ServerConfig>, Error> {
    let verifier = Verifier::new(identity.trust.clone(), Arc::clone(peers));
    let mut config = ServerConfig::builder_with_details(provider(), Arc::new(Clock))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(shown(&identity.certified));
    config.alpn_protocols = protocols(alpn);
    Ok(Arc::new(config))
}

/// TLS to a server that is judged by `verifier`, most likely one of host names. TLS 1.3, or 1.2 if it has no better.
///
/// # Errors
/// When the provider lacks what TLS needs.
pub fn plain_client_config(
    verifier: Arc<dyn ServerCertVerifier>,
    identity: Option<&Identity>,
    alpn: &[&[u8]],
) -> Result<Arc<ClientConfig>, Error> {
    let builder = ClientConfig::builder_with_details(provider(), Arc::new(Clock))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(shown(&identity.certified)),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols(alpn);
    Ok(Arc::new(config))
}

fn shown(certified: &Arc<CertifiedKey>) -> Arc<SingleCertAndKey> {
    Arc::new(SingleCertAndKey::from(CertifiedKey::clone(certified)))
}

/// How a configuration is made of an identity.
type Make<C> = Box<dyn Fn(&Identity) -> Result<Arc<C>, Error> + Send + Sync>;

/// A configuration that follows the identity in force. Shared by all threads; made anew once for each generation.
pub struct Following<C> {
    current: Arc<Current>,
    make: Make<C>,
    made: ArcSwapOption<Made<C>>,
    making: Mutex<()>,
}

struct Made<C> {
    generation: u64,
    config: Arc<C>,
}

impl<C> Following<C> {
    /// One that is made by `make`.
    #[must_use]
    pub fn new(
        current: Arc<Current>,
        make: impl Fn(&Identity) -> Result<Arc<C>, Error> + Send + Sync + 'static,
    ) -> Self {
        Self {
            current,
            make: Box::new(make),
            made: ArcSwapOption::empty(),
            making: Mutex::new(()),
        }
    }

    /// The configuration in force, and its generation.
    ///
    /// # Errors
    /// `no_identity` while there is none.
    pub fn get(&self) -> Result<(Arc<C>, u64), Flaw> {
        let generation = self.current.generation();
        let held = self.made.load();
        match held.as_ref().filter(|made| made.generation == generation) {
            Some(made) => Ok((Arc::clone(&made.config), generation)),
            None => self.remake(),
        }
    }

    fn remake(&self) -> Result<(Arc<C>, u64), Flaw> {
        let _one_at_a_time = self.making.lock();
        let identity = self.current.get().ok_or(Flaw::NoIdentity)?;
        let generation = identity.generation;
        let held = self.made.load_full();
        if let Some(made) = held.filter(|made| made.generation == generation) {
            return Ok((Arc::clone(&made.config), generation));
        }
        let config = (self.make)(&identity).map_err(|error| Flaw::of(&error))?;
        self.made.store(Some(Arc::new(Made {
            generation,
            config: Arc::clone(&config),
        })));
        Ok((config, generation))
    }

    /// The generation in force, whether a configuration was made of it or not.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.current.generation()
    }
}

impl<C> fmt::Debug for Following<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Following")
            .field("generation", &self.current.generation())
            .finish_non_exhaustive()
    }
}
