//! Why a TLS connection did not come to be: a closed list of words, the same in logs and metrics of both sides.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::AlertDescription;
use rustls::CertificateError;
use rustls::Error;
use rustls::OtherError;
use rustls::PeerIncompatible;

use crate::http::Reason;

macro_rules! flaws {
    ($($(#[$doc:meta])* $variant:ident = $word:literal, $reason:ident;)*) => {
        /// What was wrong with the other side, or with what it thinks of us.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Flaw { $($(#[$doc])* $variant,)* }

        impl Flaw {
            /// Every flaw, in declaration order; `flaw as usize` is its place here.
            pub const ALL: &'static [Flaw] = &[$(Flaw::$variant,)*];

            /// The stable word.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Flaw::$variant => $word,)* }
            }

            /// The reason word that a call ends with because of it.
            #[must_use]
            pub const fn reason(self) -> Reason {
                match self { $(Flaw::$variant => Reason::$reason,)* }
            }
        }
    };
}

flaws! {
    /// This workload has no certificate (yet).
    NoIdentity = "no_identity", NoIdentity;
    /// The other side does not speak TLS.
    NotTls = "not_tls", TlsHandshake;
    /// It closed the connection instead of finishing the handshake.
    Closed = "closed", TlsHandshake;
    /// The handshake did not finish in time.
    Timeout = "timeout", TlsHandshake;
    /// No version of TLS in common.
    Version = "version", TlsHandshake;
    /// No cipher, group or signature scheme in common.
    Algorithms = "algorithms", TlsHandshake;
    /// No application protocol in common (ALPN, RFC 7301).
    Protocol = "protocol", TlsHandshake;
    /// It broke the rules of TLS, or one of the two signed with a key that does not belong to the certificate.
    Misbehaved = "misbehaved", TlsHandshake;
    /// It wants a certificate, and got none.
    WantsCertificate = "wants_certificate", TlsRefused;
    /// It found our certificate expired.
    FoundExpired = "found_expired", TlsRefused;
    /// It does not know the authority that issued our certificate.
    FoundUnknown = "found_unknown_issuer", TlsRefused;
    /// It did not accept our certificate for a reason that it does not say more of.
    FoundBad = "found_bad", TlsRefused;
    /// It ended the handshake with an alert of another kind.
    Alert = "alert", TlsRefused;
    /// It showed no certificate.
    NoCertificate = "no_certificate", PeerCertificate;
    /// Its certificate cannot be read.
    Malformed = "malformed", PeerCertificate;
    /// Its certificate is past its end.
    Expired = "expired", PeerCertificate;
    /// Its certificate is ahead of its beginning.
    NotYetValid = "not_yet_valid", PeerCertificate;
    /// No authority that we believe issued it.
    UnknownIssuer = "unknown_issuer", PeerCertificate;
    /// An authority issued it that we believed until a renewal took it out.
    RetiredIssuer = "retired_issuer", PeerCertificate;
    /// It issued its certificate itself.
    SelfSigned = "self_signed", PeerCertificate;
    /// It uses the certificate of an authority as its own (X.509-SVID, section 4.1 and 4.3).
    CaAsLeaf = "ca_as_leaf", PeerCertificate;
    /// Its key is too short: RSA below 2048 bits, a curve below 256.
    WeakKey = "weak_key", PeerCertificate;
    /// A signature in its chain is of a kind that is broken or unknown.
    WeakSignature = "weak_signature", PeerCertificate;
    /// A signature in its chain is wrong.
    BadSignature = "bad_signature", PeerCertificate;
    /// Its certificate is not meant for this side of a connection.
    WrongUse = "wrong_use", PeerCertificate;
    /// Its certificate was revoked.
    Revoked = "revoked", PeerCertificate;
    /// Its certificate breaks another rule of path validation (RFC 5280, section 6).
    BadChain = "bad_chain", PeerCertificate;
    /// Its certificate names no URI (X.509-SVID, section 2).
    NoUriSan = "no_uri_san", PeerIdentity;
    /// Its certificate names more than one URI (X.509-SVID, section 2).
    ManyUriSans = "many_uri_sans", PeerIdentity;
    /// The URI that it names is no SPIFFE ID.
    NotSpiffe = "not_spiffe", PeerIdentity;
    /// Nothing is known of its trust domain.
    WrongTrustDomain = "wrong_trust_domain", PeerIdentity;
    /// It is who it says, but not one of `peers`.
    WrongId = "wrong_id", PeerIdentity;
    /// Its certificate is for another name (RFC 9525).
    WrongName = "wrong_name", PeerIdentity;
}

impl Flaw {
    /// What an error of rustls means.
    #[must_use]
    pub fn of(error: &Error) -> Self {
        match error {
            Error::InvalidCertificate(error) => of_certificate(error),
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::AlertReceived(alert) => of_alert(*alert),
            Error::InvalidMessage(_) => Self::NotTls,
            Error::PeerIncompatible(why) => of_incompatible(why),
            Error::NoApplicationProtocol => Self::Protocol,
            _ => Self::Misbehaved,
        }
    }

    /// What an error of a handshake over a socket means.
    #[must_use]
    pub fn of_io(error: &io::Error) -> Self {
        match tls_error(error) {
            Some(error) => Self::of(error),
            None if error.kind() == io::ErrorKind::TimedOut => Self::Timeout,
            None => Self::Closed,
        }
    }

    /// As an error of a verifier. Chain errors keep their own kind there, so that the other side gets the alert that fits.
    #[must_use]
    pub fn into_tls(self) -> Error {
        Error::InvalidCertificate(match self {
            Self::Expired => CertificateError::Expired,
            Self::NotYetValid => CertificateError::NotValidYet,
            Self::UnknownIssuer => CertificateError::UnknownIssuer,
            Self::Revoked => CertificateError::Revoked,
            Self::BadSignature => CertificateError::BadSignature,
            Self::Malformed => CertificateError::BadEncoding,
            other => CertificateError::Other(OtherError(Arc::new(other))),
        })
    }
}

/// The error of rustls that a socket's error wraps, if it does.
#[must_use]
pub fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// The error of rustls that something a library says stands on, however deep.
#[must_use]
pub fn beneath<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<Error>() {
            return Some(found);
        }
        if let Some(found) = error.downcast_ref::<io::Error>().and_then(tls_error) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn of_certificate(error: &CertificateError) -> Flaw {
    use CertificateError as E;
    match error {
        E::Other(OtherError(inner)) => match inner.downcast_ref::<Flaw>() {
            Some(flaw) => *flaw,
            None if inner.to_string().contains("CaUsedAsEndEntity") => Flaw::CaAsLeaf,
            None => Flaw::BadChain,
        },
        E::Expired | E::ExpiredContext { .. } => Flaw::Expired,
        E::NotValidYet | E::NotValidYetContext { .. } => Flaw::NotYetValid,
        E::UnknownIssuer => Flaw::UnknownIssuer,
        E::Revoked => Flaw::Revoked,
        E::BadSignature => Flaw::BadSignature,
        E::UnsupportedSignatureAlgorithmContext { .. }
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => Flaw::WeakSignature,
        E::BadEncoding => Flaw::Malformed,
        E::NotValidForName | E::NotValidForNameContext { .. } => Flaw::WrongName,
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => Flaw::WrongUse,
        _ => Flaw::BadChain,
    }
}

fn of_alert(alert: AlertDescription) -> Flaw {
    match alert {
        AlertDescription::ProtocolVersion => Flaw::Version,
        AlertDescription::NoApplicationProtocol => Flaw::Protocol,
        AlertDescription::CertificateRequired => Flaw::WantsCertificate,
        AlertDescription::CertificateExpired => Flaw::FoundExpired,
        AlertDescription::UnknownCA => Flaw::FoundUnknown,
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateRevoked
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::AccessDenied
        | AlertDescription::DecryptError => Flaw::FoundBad,
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => {
            Flaw::Algorithms
        }
        _ => Flaw::Alert,
    }
}

fn of_incompatible(why: &PeerIncompatible) -> Flaw {
    use PeerIncompatible as P;
    match why {
        P::Tls12NotOffered
        | P::Tls12NotOfferedOrEnabled
        | P::Tls13RequiredForQuic
        | P::ServerDoesNotSupportTls12Or13
        | P::ServerTlsVersionIsDisabledByOurConfig
        | P::SupportedVersionsExtensionRequired => Flaw::Version,
        _ => Flaw::Algorithms,
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl std::error::Error for Flaw {}
