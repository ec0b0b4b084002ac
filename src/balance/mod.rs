//! Which endpoint a try goes to.
//!
//! Built in is the power of two choices over peak EWMA latency times calls in flight: two endpoints are drawn, the cheaper
//! one is taken. A policy may choose by load alone, by turns, or by a hash of the call with bounded load. Endpoints that do
//! not serve (ejected, or found ill by probes) or that this call has tried before are left out as long as others are left,
//! and endpoints in our own zone are preferred as long as they can carry it.
//!
//! `machine` decides, `layer` gathers what it needs to know and sends, `ring` is the hash ring, and `balancer` is what the
//! workers share.

mod balancer;
pub mod config;
mod key;
mod layer;
pub mod machine;
pub mod metrics;
mod ring;

#[cfg(test)]
mod tests;

pub use balancer::Balancer;
pub use config::Settings;
pub use key::Key;
pub use layer::Balance;
