//! Keys of checkpoints: Ed25519 (RFC 8032), as PEM files that `openssl genpkey -algorithm ed25519` makes.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use aws_lc_rs::signature::ED25519;
use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::KeyPair as _;
use aws_lc_rs::signature::Signature;
use aws_lc_rs::signature::UnparsedPublicKey;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;

use super::chain;

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read {0}: {1}")]
    Read(String, io::Error),
    /// It is something else.
    #[error(
        "{0} holds no Ed25519 key in PEM; `openssl genpkey -algorithm ed25519 -out FILE` makes one"
    )]
    NotAKey(String),
}

/// Signs checkpoints.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl SigningKey {
    /// From a PEM file (PKCS #8).
    ///
    /// # Errors
    /// If there is no such key.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let name = path.display().to_string();
        let pem = fs::read(path).map_err(|error| KeyError::Read(name.clone(), error))?;
        Self::parse(&pem).ok_or(KeyError::NotAKey(name))
    }

    fn parse(pem: &[u8]) -> Option<Self> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).ok()?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).ok()?;
        let mut public = [0; 32];
        public.copy_from_slice(pair.public_key().as_ref());
        let public = PublicKey(public);
        Some(Self { pair, public })
    }

    /// The half that anybody may have.
    #[must_use]
    pub const fn public(&self) -> PublicKey {
        self.public
    }

    pub(super) fn sign(&self, bytes: &[u8]) -> Signature {
        self.pair.sign(bytes)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&self.public).finish()
    }
}

/// Knows a checkpoint of the key that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

/// What stands before the key in its DER form (RFC 8410 section 4).
const SPKI: &[u8] = &[
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

impl PublicKey {
    /// From a PEM file: the public key (`openssl pkey -pubout`), or the private one, which has it too.
    ///
    /// # Errors
    /// If there is no such key.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let name = path.display().to_string();
        let pem = fs::read(path).map_err(|error| KeyError::Read(name.clone(), error))?;
        let of_public = || {
            let der = SubjectPublicKeyInfoDer::from_pem_slice(&pem).ok()?;
            let key = der.as_ref().strip_prefix(SPKI)?;
            Some(Self(key.try_into().ok()?))
        };
        of_public()
            .or_else(|| Some(SigningKey::parse(&pem)?.public))
            .ok_or(KeyError::NotAKey(name))
    }

    /// Whether the signature over `bytes` is that of this key.
    #[must_use]
    pub fn knows(&self, bytes: &[u8], signature: &[u8; 64]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0)
            .verify(bytes, signature)
            .is_ok()
    }

    /// Sixteen hex digits by which checkpoints name it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        chain::hex(&chain::sha256(&self.0)[..8])
    }
}
