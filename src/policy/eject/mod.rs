//! eject: take an endpoint that fails, or that is much slower than its peers, out of the rotation for a while.
//!
//! Stands inside the breaker and outside the balancer: it sees the result of each try and which endpoint it went to, and
//! tells the endpoint to rest. The balancer then leaves it alone. Never the last one, never more than `max_share`.

pub mod config;
mod layer;
pub mod machine;
pub mod metrics;

#[cfg(test)]
mod tests;

pub use config::Settings;
pub use layer::EjectLayer;
pub use layer::Ejector;
pub use layer::Watched;
