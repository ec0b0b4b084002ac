//! Who this workload is, and whom it believes: X.509 identities of SPIFFE, for both sides of mutual TLS.
//!
//! A [`Source`] reads certificates (files, one PEM bundle, the Workload API) and puts them into [`Current`], whole or not at
//! all. Whoever opens or accepts connections asks [`tls`] for a configuration made of it; a renewed identity is a new
//! generation, and nothing of an old one (tickets, sessions) is used with it.

pub mod config;
pub mod current;
pub mod dev;
pub mod flaw;
pub mod id;
pub mod leaf;
pub mod metrics;
pub mod pem;
pub mod source;
pub mod tls;
pub mod trust;
pub mod verify;

#[cfg(test)]
pub(crate) mod tests;

pub use current::Current;
pub use current::Identity;
pub use current::Material;
pub use flaw::Flaw;
pub use id::Peer as PeerPattern;
pub use id::SpiffeId;
pub use id::TrustDomain;
pub use source::Source;
pub use source::Trouble;
pub use trust::Trust;
