//! Where an identity comes from.

mod files;
mod look;
mod workload;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use crate::identity::Current;
use crate::identity::Flaw;
use crate::identity::TrustDomain;

pub use files::Files;
pub use files::Own;
pub use look::Look;
pub use workload::Workload;

/// A place that identities come from.
pub trait Source: Send + Sync + 'static {
    /// What a person calls it, without anything secret.
    fn describe(&self) -> String;

    /// Reads it once, before anything is served, if that can be done without waiting.
    fn begin(&self, current: &Current);

    /// Keeps `current` as it should be, for as long as it is polled. It never ends, whatever fails.
    fn follow(self: Arc<Self>, current: Arc<Current>) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// Why no identity could be made. The one in force stays.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// A file cannot be read.
    #[error("{path}: {error}")]
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// Not PEM, or not what PEM says that it is.
    #[error("{0} cannot be read: {1}")]
    Malformed(&'static str, String),
    /// There is no certificate where one should be.
    #[error("{0} has no certificate")]
    NoCertificate(&'static str),
    /// There is no key where one should be.
    #[error("{0} has no private key")]
    NoKey(&'static str),
    /// The key belongs to another certificate: most likely one of two files is older than the other.
    #[error("key and certificate do not belong together")]
    KeyMismatch,
    /// A certificate cannot be an authority.
    #[error("the authorities of {0} cannot be used")]
    BadAuthority(TrustDomain),
    /// It is not the certificate of a workload, or not any more.
    #[error("the certificate cannot be used: {0}")]
    Flawed(Flaw),
    /// The Workload API is not there, or gives nothing.
    #[error("the Workload API gives no identity: {0}")]
    Workload(String),
}

impl Trouble {
    /// Every word there is.
    pub const WORDS: [&'static str; 8] = [
        "unreadable",
        "malformed",
        "no_certificate",
        "no_key",
        "key_mismatch",
        "bad_authority",
        "flawed",
        "workload_api",
    ];

    /// Its word in the metric.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "unreadable",
            Self::Malformed(..) => "malformed",
            Self::NoCertificate(_) => "no_certificate",
            Self::NoKey(_) => "no_key",
            Self::KeyMismatch => "key_mismatch",
            Self::BadAuthority(_) => "bad_authority",
            Self::Flawed(_) => "flawed",
            Self::Workload(_) => "workload_api",
        }
    }
}
