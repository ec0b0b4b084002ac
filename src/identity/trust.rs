//! Whom we believe: the authorities of each trust domain.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::UnixTime;
use rustls::server::ParsedCertificate;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use crate::identity::Flaw;
use crate::identity::TrustDomain;
use crate::identity::source::Trouble;
use crate::identity::tls::provider;

/// Which end of a connection a certificate was shown by; certificates may be good for one of them only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It accepts connections.
    Server,
    /// It opens them.
    Client,
}

/// The authorities of each trust domain.
#[derive(Clone, Debug)]
pub struct Trust {
    domains: BTreeMap<TrustDomain, Arc<Anchors>>,
    /// Authorities that were believed once, in this process: only for the word that tells what happened.
    retired: Option<Arc<Anchors>>,
}

/// Certificates of authorities, by trust domain.
pub type Bundles = BTreeMap<TrustDomain, Vec<CertificateDer<'static>>>;

impl Trust {
    /// # Errors
    /// `bad_authority` where a certificate cannot be an anchor, or a domain has none.
    pub fn new(bundles: &Bundles, retired: &[CertificateDer<'static>]) -> Result<Self, Trouble> {
        let mut domains = BTreeMap::new();
        for (domain, authorities) in bundles {
            let anchors = Anchors::new(authorities.clone())
                .ok_or_else(|| Trouble::BadAuthority(domain.clone()))?;
            domains.insert(domain.clone(), Arc::new(anchors));
        }
        let retired = (!retired.is_empty()).then(|| Anchors::new(retired.to_vec()));
        Ok(Self {
            domains,
            retired: retired.flatten().map(Arc::new),
        })
    }

    /// The same, remembering authorities that were believed before.
    #[must_use]
    pub fn remembering(mut self, retired: &[CertificateDer<'static>]) -> Self {
        self.retired = Anchors::new(retired.to_vec()).map(Arc::new);
        self
    }

    /// The trust domains that are known.
    pub fn domains(&self) -> impl Iterator<Item = &TrustDomain> {
        self.domains.keys()
    }

    /// Every authority that is believed.
    pub fn authorities(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.domains.values().flat_map(|anchors| &anchors.der)
    }

    /// What a client may be told of whom we believe.
    #[must_use]
    pub fn hints(&self) -> Vec<rustls::DistinguishedName> {
        let stores = self
            .domains
            .values()
            .map(|anchors| anchors.store.subjects());
        stores.flatten().collect()
    }

    /// Whether a chain that `end` shows leads to an authority of `domain`.
    ///
    /// # Errors
    /// `wrong_trust_domain`, or what is wrong with the chain.
    pub fn check(&self, domain: &TrustDomain, shown: Shown<'_>, end: End) -> Result<(), Flaw> {
        let anchors = self.domains.get(domain).ok_or(Flaw::WrongTrustDomain)?;
        let flaw = match anchors.check(shown, end) {
            Ok(()) => return Ok(()),
            Err(error) => Flaw::of(&error),
        };
        let retired = self
            .retired
            .as_ref()
            .filter(|_| flaw == Flaw::UnknownIssuer);
        match retired.map(|retired| retired.check(shown, end)) {
            Some(Ok(())) => Err(Flaw::RetiredIssuer),
            _ => Err(flaw),
        }
    }
}

/// What the other side showed.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// Its own certificate.
    pub leaf: &'a CertificateDer<'a>,
    /// Those between it and an authority.
    pub between: &'a [CertificateDer<'a>],
    /// When that was.
    pub now: UnixTime,
}

#[derive(Debug)]
struct Anchors {
    der: Vec<CertificateDer<'static>>,
    store: Arc<RootCertStore>,
    clients: Arc<dyn ClientCertVerifier>,
    provider: Arc<CryptoProvider>,
}

impl Anchors {
    fn new(der: Vec<CertificateDer<'static>>) -> Option<Self> {
        let mut store = RootCertStore::empty();
        for authority in &der {
            store.add(authority.clone()).ok()?;
        }
        let (store, provider) = (Arc::new(store), provider());
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&store), Arc::clone(&provider));
        Some(Self {
            der,
            store,
            clients: clients.build().ok()?,
            provider,
        })
    }

    fn check(&self, shown: Shown<'_>, end: End) -> Result<(), rustls::Error> {
        let Shown { leaf, between, now } = shown;
        match end {
            End::Server => verify_server_cert_signed_by_trust_anchor(
                &ParsedCertificate::try_from(leaf)?,
                &self.store,
                between,
                now,
                self.provider.signature_verification_algorithms.all,
            ),
            End::Client => self
                .clients
                .verify_client_cert(leaf, between, now)
                .map(|_| ()),
        }
    }
}
