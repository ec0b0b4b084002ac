//! State that the pods of a service share, on a Redis Cluster or a single Redis.
//!
//! Nothing here may make a call slower or fail because Redis is: every command has a hard deadline, a breaker of its own stands
//! around the whole ([`machine`]), and whoever asks is told `Away` and goes on without. The connections live on the control
//! runtime, and workers hand commands to them; what redials, probes and watches secrets runs there too.

mod client;
pub mod config;
mod keeper;
mod ledger;
mod link;
pub mod machine;
pub mod metrics;
mod nodes;
mod place;
pub mod quota;
pub mod roll;
mod subscription;
mod sync;
mod tier;

#[cfg(test)]
mod tests;

pub use client::Away;
pub use client::Client;
pub use client::Owner;
pub use client::Script;
pub use client::State;
pub use config::Settings;
pub use ledger::machine::What;
pub use place::Place;
pub use redis::Cmd;
pub use redis::Pipeline;
pub use redis::Value;
pub use subscription::Event;
pub use subscription::Subscription;
pub use tier::LONGEST;
pub use tier::Lease;
pub use tier::Memory;
pub use tier::Tier;
pub use tier::Turn;
