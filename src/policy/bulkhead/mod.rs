//! bulkhead: a slow upstream takes no more than its share of us, and is not buried under calls that it cannot do.
//!
//! Stands outside `retry` and `hedge`, so that a call is one however many tries it makes, and its refusal is never retried;
//! inside `deadline`, so that nobody waits beyond it. A permit is held until the body of the response has ended.
//!
//! One bulkhead for the routes of an upstream; a route that writes a block of its own has its own.

pub mod config;
mod layer;
pub mod machine;
pub mod metrics;

#[cfg(test)]
mod tests;

pub use config::Settings;
pub use layer::Bounded;
pub use layer::Bulkhead;
pub use layer::BulkheadLayer;
