//! From the names of a policy to addresses: what is known of each name, and who asks.
//!
//! `machine` decides when to ask and what an answer changes; `dns` asks. A watch tells its owner about every
//! lookup, so that endpoints come and go under load and the metrics count what happened.

mod client;
mod dns;
mod hosts;
pub mod machine;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;

pub use dns::Options;
pub use dns::Resolver;
pub use dns::WatchHandle;
pub use machine::Why;

/// What a watch tells. There is one update for each lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// A good answer that differs from the last: these are the endpoints now, sorted, without repetition.
    Endpoints(Vec<SocketAddr>),
    /// A good answer that changes nothing.
    Confirmed,
    /// No usable answer. Endpoints that were known stay.
    Failed(Failure),
    /// The name has not existed for longer than its grace: the endpoints that were kept are to go.
    Gone,
}

/// A lookup without a usable answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong.
    pub why: Why,
    /// How many endpoints of an earlier answer stay in use.
    pub kept: usize,
}
