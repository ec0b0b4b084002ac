//! authorise: who may call the application behind an inbound listener, and what of it.
//!
//! Rules allow; what no rule allows is denied. A caller is named by the identity that its certificate proved, never by a
//! header. A path that two parsers could read in two ways, and a request that asks to be taken for another, meets only rules
//! that say nothing of what it could be mistaken in: the table in `machine.rs`.
//!
//! Stands inside correlation, so that a denial carries an identifier that the caller can quote, and outside the limit, so
//! that nobody uses up what is meant for those who may call.

pub mod config;
mod layer;
pub mod machine;
pub mod metrics;

#[cfg(test)]
mod tests;

pub use config::Settings;
pub use layer::Authorise;
pub use layer::AuthoriseLayer;
pub use layer::Authoriser;
