//! cache: answers kept and served again, and served stale when the upstream fails (RFC 9111, RFC 5861).
//!
//! It stands outside whatever can refuse or fail, so that a hit uses up nothing and a stale answer can stand in for an error.
//! What is kept belongs to the process: one [`Store`] for all workers, which outlives a reload. A route has its rules and its
//! handles, and its calls collapse: one fetches, the others read what it gets as it arrives.

pub mod config;
mod layer;
pub mod machine;
pub mod metrics;

#[cfg(test)]
mod tests;

pub use config::Settings;
pub use config::StoreSettings;
pub use layer::Cache;
pub use layer::CacheLayer;
pub use layer::Guard;
pub use layer::store::Purge;
pub use layer::store::Store;
