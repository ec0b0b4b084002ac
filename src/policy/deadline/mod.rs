//! deadline: a call ends within its time, and every try gets a fair share of it.
//!
//! Stands twice in the stack. Outside `retry`, [`DeadlineLayer`] fixes when the whole call must end. Inside it,
//! [`TryLayer`] bounds one try, and never beyond the deadline. One timer serves both: everything that waits outside a
//! try (back-off) bounds itself by the deadline on the trail.
//!
//! A caller that is trusted may shorten the deadline by its headers, and every try tells its own time onwards; see
//! docs/hops.md. Work is not begun when no time is left for it.
//!
//! Time counts until the response head. A request that is still being uploaded is not late as long as the client makes
//! progress (docs/adr/0003).

pub mod config;
mod layer;
pub mod machine;
pub mod metrics;

#[cfg(test)]
mod tests;

pub use config::Settings;
pub use layer::Deadline;
pub use layer::DeadlineLayer;
pub use layer::TryLayer;
pub use layer::TryTimeout;
