//! credential: a secret of this service added to its calls, so that no application holds it.
//!
//! Stands first in what each try goes through: whatever is sent of a call, retries and hedged copies too, carries the secret,
//! and nothing that stands outside (cache, log, record) ever sees it. A second sending with the other key is a try of its
//! own to all that stands inside.
//!
//! It goes only to what the policy names: never by a glob, never to an address that the application chose, and a redirect is
//! the application's to follow. Where the secret is missing, the call does not go (docs/credentials.md).

pub mod config;
mod layer;
pub mod machine;
pub mod metrics;

#[cfg(test)]
mod tests;

pub use config::Settings;
pub use layer::CredentialLayer;
pub use layer::Ground;
pub use layer::Guard;
pub use layer::Source;
pub use layer::Spec;
pub use layer::Vouched;
