//! PEM files to certificates and keys.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::Error;
use rustls::pki_types::pem::PemObject as _;

use crate::identity::source::Trouble;

/// All certificates of a text, in its order.
///
/// # Errors
/// `malformed`, `no_certificate`.
pub fn certificates(
    what: &'static str,
    text: &[u8],
) -> Result<Vec<CertificateDer<'static>>, Trouble> {
    let all: Result<Vec<_>, Error> = CertificateDer::pem_slice_iter(text).collect();
    let all = all.map_err(|error| Trouble::Malformed(what, error.to_string()))?;
    if all.is_empty() {
        return Err(Trouble::NoCertificate(what));
    }
    Ok(all)
}

/// The private key of a text.
///
/// # Errors
/// `malformed`, `no_key`; a text with two keys is malformed, for nobody knows which one is meant.
pub fn key(what: &'static str, text: &[u8]) -> Result<PrivateKeyDer<'static>, Trouble> {
    // What the library says of a key that it cannot read might quote it.
    let malformed = |_error| Trouble::Malformed(what, "not a PEM file".into());
    let mut keys = PrivateKeyDer::pem_slice_iter(text);
    let key = keys
        .next()
        .ok_or(Trouble::NoKey(what))?
        .map_err(malformed)?;
    match keys.next() {
        None => Ok(key),
        Some(_) => Err(Trouble::Malformed(what, "more than one key".into())),
    }
}
