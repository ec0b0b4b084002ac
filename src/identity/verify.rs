//! Who is at the other end: chains are judged by the authorities of the trust domain that the certificate names, and by nothing
//! else; host names, common names and DNS names say nothing here (SPIFFE, X.509-SVID section 5).

use std::sync::Arc;

use rustls::DigitallySignedStruct;
use rustls::DistinguishedName;
use rustls::Error;
use rustls::SignatureScheme;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::crypto::verify_tls12_signature;
use rustls::crypto::verify_tls13_signature;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::UnixTime;
use rustls::server::danger::ClientCertVerified;
use rustls::server::danger::ClientCertVerifier;

use crate::identity::Flaw;
use crate::identity::PeerPattern;
use crate::identity::SpiffeId;
use crate::identity::Trust;
use crate::identity::leaf::Leaf;
use crate::identity::tls::provider;
use crate::identity::trust::End;
use crate::identity::trust::Shown;

/// Judges the other end of a connection.
#[derive(Debug)]
pub struct Verifier {
    trust: Trust,
    peers: Arc<[PeerPattern]>,
    hints: Vec<DistinguishedName>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    /// One that believes `trust` and accepts `peers`; no pattern at all accepts whomever it believes.
    #[must_use]
    pub fn new(trust: Trust, peers: Arc<[PeerPattern]>) -> Arc<Self> {
        Arc::new(Self {
            hints: trust.hints(),
            trust,
            peers,
            provider: provider(),
        })
    }

    /// Who it is.
    ///
    /// # Errors
    /// What is wrong with it. What can be said of the certificate alone comes first, then its chain, then its name.
    pub fn check(&self, shown: Shown<'_>, end: End) -> Result<SpiffeId, Flaw> {
        let leaf = Leaf::read(shown.leaf)?;
        let id = leaf.workload()?;
        self.trust
            .check(id.domain(), shown, end)
            .map_err(|flaw| match flaw {
                Flaw::UnknownIssuer if leaf.is_self_issued => Flaw::SelfSigned,
                flaw => flaw,
            })?;
        if is_accepted(&self.peers, &id) {
            Ok(id)
        } else {
            Err(Flaw::WrongId)
        }
    }

    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
        end: End,
    ) -> Result<(), Error> {
        let shown = Shown { leaf, between, now };
        match self.check(shown, end) {
            Ok(_id) => Ok(()),
            Err(flaw) => Err(flaw.into_tls()),
        }
    }
}

/// Whether `id` is one of `peers`; none at all are everybody.
#[must_use]
pub fn is_accepted(peers: &[PeerPattern], id: &SpiffeId) -> bool {
    peers.is_empty() || peers.iter().any(|peer| peer.accepts(id))
}

/// Who showed `chain` in a handshake that succeeded. A resumed session shows what was verified once, so the end of the certificate
/// is looked at again.
///
/// # Errors
/// `no_certificate`, `expired`, or what is wrong with the certificate.
pub fn peer_of(
    chain: Option<&[CertificateDer<'_>]>,
    now: std::time::Duration,
) -> Result<(SpiffeId, Leaf), Flaw> {
    let first = chain.and_then(<[_]>::first).ok_or(Flaw::NoCertificate)?;
    let leaf = Leaf::read(first)?;
    if leaf.not_after < now.as_secs() {
        return Err(Flaw::Expired);
    }
    Ok((leaf.workload()?, leaf))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge(end_entity, intermediates, now, End::Server)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge(end_entity, intermediates, now, End::Client)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls12_signature(self, message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls13_signature(self, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ServerCertVerifier::supported_verify_schemes(self)
    }
}
