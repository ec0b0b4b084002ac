//! breaker: stop sending to an upstream that fails, look carefully whether it has come back.
//!
//! Stands inside `retry`, so each try is counted and a refusal ends the call at once (it is not retried), and outside the
//! balancer, so it speaks for the upstream or route as a whole. Single endpoints are the business of `eject`.

pub mod config;
mod layer;
pub mod machine;
pub mod metrics;

#[cfg(test)]
mod tests;

pub use config::Settings;
pub use layer::Breaker;
pub use layer::BreakerLayer;
pub use layer::Force;
pub use layer::Guarded;
