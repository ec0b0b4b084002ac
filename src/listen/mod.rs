//! Listening: accept, deal to workers, tell the protocol, speak HTTP, tunnel the rest.
//!
//! What to do with a request or a tunnel is decided by a [`Handler`]; this module knows nothing of policy.

mod accept;
mod connection;
mod drain;
pub mod inbound;
mod limits;
mod prefixed;
mod tap;
mod way;

#[cfg(test)]
mod tests;

pub use crate::http::strict::Door;
pub use accept::Accepted;
pub use accept::Dealer;
pub use accept::bind;
pub use connection::Handler;
pub use connection::Served;
pub use connection::Settings;
pub use connection::TunnelIo;
pub use connection::serve;
pub use drain::Drain;
pub use limits::Bind;
pub use limits::Limits;
pub use prefixed::Prefixed;
pub use way::Refusal;
pub use way::Refuse;
pub use way::Way;
