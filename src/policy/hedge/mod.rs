//! hedge: a slow call is sent a second time, to another endpoint, and the first usable answer wins.
//!
//! A long tail is often one endpoint's bad moment: a pause, a full queue, a lost packet. A second copy after the time
//! within which nearly all calls are answered costs a few per cent of load and cuts the tail (Dean and Barroso, "The Tail
//! at Scale", 2013). Bounded three ways: only calls that may be carried out twice, only to an endpoint that is not tried
//! yet, only within a share of the calls, so that an upstream that is slow as a whole is not sent twice the traffic.
//!
//! Stands outside retry, so that each copy is retried by itself, and inside idempotency, which says which other methods
//! may be sent twice.

pub mod config;
mod layer;
pub mod machine;
pub mod metrics;

#[cfg(test)]
mod tests;

pub use config::Settings;
pub use layer::Hedge;
pub use layer::HedgeLayer;
pub use layer::Hedger;
