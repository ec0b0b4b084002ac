//! fault: do on purpose, to a share of a route's calls and for a time, what dependencies do by themselves.
//!
//! Stands outside everything that protects a call, so that it stands for the dependency and the network as the
//! application meets them: a breaker, an ejection or a retry never sees an injected failure, and no upstream is blamed for
//! one. Only what tells of calls is further out: whatever is injected is logged, counted and marked.

pub mod config;
mod layer;
pub mod machine;
pub mod metrics;

#[cfg(test)]
mod tests;

pub use config::Settings;
pub use layer::FaultLayer;
pub use layer::Inject;
pub use layer::Injection;
