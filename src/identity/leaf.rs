//! What matters of the certificate that a workload shows.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;

use crate::identity::Flaw;
use crate::identity::SpiffeId;

/// Shortest RSA key, in bits (NIST SP 800-131A: 112 bits of strength).
const RSA_MIN: usize = 2048;
/// Shortest key on a curve, in bits.
const CURVE_MIN: usize = 256;

/// The end of a chain, read.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// Seconds since 1970 from which on it is valid.
    pub not_before: u64,
    /// Seconds since 1970 after which it is not valid any more.
    pub not_after: u64,
    /// Its subject, in the form of RFC 2253 as far as `x509-parser` goes.
    pub subject: String,
    /// Whether its issuer has its own name.
    pub is_self_issued: bool,
    /// Whether it may sign certificates.
    pub is_authority: bool,
    is_weak: bool,
    uris: Vec<String>,
}

impl Leaf {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// `malformed`, also for an extension that is there twice.
    pub fn read(der: &[u8]) -> Result<Self, Flaw> {
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_error| Flaw::Malformed)?;
        if !rest.is_empty() {
            return Err(Flaw::Malformed);
        }
        let validity = certificate.validity();
        let seconds = |at: i64| u64::try_from(at).unwrap_or(0);
        Ok(Self {
            not_before: seconds(validity.not_before.timestamp()),
            not_after: seconds(validity.not_after.timestamp()),
            subject: certificate.subject().to_string(),
            is_self_issued: certificate.subject().as_raw() == certificate.issuer().as_raw(),
            is_authority: may_sign(&certificate)?,
            is_weak: is_weak(&certificate)?,
            uris: uris(&certificate)?,
        })
    }

    /// The workload that it is for. What is asked of the certificate alone is asked here (X.509-SVID, sections 2 and 4).
    ///
    /// # Errors
    /// `ca_as_leaf`, `weak_key`, `no_uri_san`, `many_uri_sans`, `not_spiffe`.
    pub fn workload(&self) -> Result<SpiffeId, Flaw> {
        if self.is_authority {
            return Err(Flaw::CaAsLeaf);
        }
        if self.is_weak {
            return Err(Flaw::WeakKey);
        }
        match self.uris.as_slice() {
            [] => Err(Flaw::NoUriSan),
            [uri] => SpiffeId::parse(uri).ok_or(Flaw::NotSpiffe),
            _ => Err(Flaw::ManyUriSans),
        }
    }

    /// # Errors
    /// `weak_key`.
    pub fn check_key(&self) -> Result<(), Flaw> {
        if self.is_weak {
            Err(Flaw::WeakKey)
        } else {
            Ok(())
        }
    }
}

fn may_sign(certificate: &X509Certificate<'_>) -> Result<bool, Flaw> {
    let constraints = certificate
        .basic_constraints()
        .map_err(|_error| Flaw::Malformed)?;
    let usage = certificate.key_usage().map_err(|_error| Flaw::Malformed)?;
    let is_ca = constraints.is_some_and(|constraints| constraints.value.ca);
    let signs = usage.is_some_and(|usage| usage.value.key_cert_sign() || usage.value.crl_sign());
    Ok(is_ca || signs)
}

fn is_weak(certificate: &X509Certificate<'_>) -> Result<bool, Flaw> {
    let key = certificate
        .public_key()
        .parsed()
        .map_err(|_error| Flaw::Malformed)?;
    Ok(match key {
        PublicKey::RSA(key) => key.key_size() < RSA_MIN,
        PublicKey::EC(point) => point.key_size() < CURVE_MIN,
        PublicKey::DSA(_) | PublicKey::GostR3410(_) | PublicKey::GostR3410_2012(_) => true,
        // Ed25519 and what comes after it: rustls knows which of them it takes.
        PublicKey::Unknown(_) => false,
    })
}

fn uris(certificate: &X509Certificate<'_>) -> Result<Vec<String>, Flaw> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|_error| Flaw::Malformed)?;
    let uri = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    };
    let of = |names: &[GeneralName<'_>]| names.iter().filter_map(uri).collect();
    Ok(names.map_or_else(Vec::new, |names| of(&names.value.general_names)))
}
