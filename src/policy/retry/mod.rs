//! retry: a failed try is repeated where that is safe, useful and affordable.
//!
//! Safe: bytes that may have been acted upon are only repeated for methods that allow it, and never once a response has
//! begun. Useful: only for the outcomes the policy names, after a jittered wait, inside the deadline. Affordable: within
//! a budget, a share of the requests, so that retries never become the storm.
//!
//! Stands outside everything that speaks of a single try. A breaker's refusal comes through here and is not repeated.

pub mod config;
mod layer;
pub mod machine;
pub mod metrics;

#[cfg(test)]
mod tests;

pub use config::Settings;
pub use layer::Budget;
pub use layer::Retry;
pub use layer::RetryLayer;
