//! limit: no more calls than the upstream, or one of its callers, is to bear in a time.
//!
//! GCRA: a bucket of `burst` calls that fills again at `rate`. One for all calls, or one for each value of a header, path,
//! method or client address. It belongs to the pod and is shared by all workers. A call is counted once, whatever becomes
//! of it and however many tries it takes; a client that leaves gets nothing back.
//!
//! Without `per` the limit is exact. With it, a key that holds a bucket is judged exactly; there are `keys` buckets, and
//! what has none is judged by an estimate (a count-min sketch of `pingora-limits`) that may refuse too early and never
//! admits too much: the table in `machine.rs` says when and why.
//!
//! Stands outside everything that waits or repeats, so that a refusal costs nothing further in, and inside the deadline.

pub mod config;
mod layer;
pub mod machine;
pub mod metrics;

#[cfg(test)]
mod tests;

pub use config::Settings;
pub use layer::Asking;
pub use layer::Guard;
pub use layer::LimitLayer;
pub use layer::Limited;
pub use layer::Limiter;
