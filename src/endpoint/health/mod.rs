//! health: ask each endpoint how it is, with or without traffic.
//!
//! A room like those of `policy/`, but with no layer: no call passes through it. A checker probes the endpoints of one
//! upstream from the control runtime, once for all workers, and tells each [`Endpoint`](crate::endpoint::Endpoint) what it
//! found; the balancer leaves out those that do not serve. It stands beside `discover`, which tells the same cluster who
//! its endpoints are.
//!
//! Joined with ejection: an endpoint serves if it neither rests nor is found unhealthy. Probes may take out any number of
//! endpoints; when none is left the balancer uses all of them. Probes that had failed and pass again end a rest; probes
//! that never failed do not, for they do not see what ejected the endpoint. Probes are no calls: they count neither as
//! requests nor towards a breaker, an ejection or a latency.

mod checker;
pub mod config;
pub mod machine;
pub mod metrics;
mod probe;

#[cfg(test)]
mod tests;

pub use checker::Health;
pub use checker::Plan;
pub use checker::Told;
pub use config::Settings;
pub use probe::Failure;
