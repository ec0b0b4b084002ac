//! idempotency: a call that may not be repeated by its method carries a key by which the upstream knows it again.
//!
//! Only where the policy declares that the upstream honours such a key. One key for one logical call, the same in every
//! try and every copy: set here unless the application has set its own. That unlocks retry and hedge for POST and PATCH.
//! The key lives as long as the call: a call that the application makes anew is a new one, unless it sends its own key.
//!
//! Stands outside hedge and retry, so that all that they send carries the same key.

pub mod config;
mod layer;
pub mod machine;
pub mod metrics;

#[cfg(test)]
mod tests;

pub use config::Settings;
pub use layer::Idempotency;
pub use layer::IdempotencyLayer;
