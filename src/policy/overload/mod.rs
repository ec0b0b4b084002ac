//! overload: when outrider itself has too much to do, it leaves undone what matters least, at once and before everything is
//! late.
//!
//! Stands outside every room that waits or remembers, so that a call that is shed costs next to nothing; inside correlation,
//! so that even its answer carries an ID. Only calls are shed: the admin side has a thread of its own, and `/ready` stays 200,
//! for a pod taken out of service would push its load on to the others.
//!
//! Why these signals: docs/adr/0005.

pub mod config;
mod layer;
pub mod machine;
pub mod metrics;

#[cfg(test)]
mod tests;

pub use config::Settings;
pub use layer::Admit;
pub use layer::Gate;
pub use layer::Load;
pub use layer::OverloadLayer;
pub use layer::TICK;
pub use machine::Priority;
