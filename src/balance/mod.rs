//! Which endpoint a try goes to.
//!
//! Power of two choices over peak EWMA latency times calls in flight: two endpoints are drawn, the cheaper one is taken.
//! Endpoints that rest (ejected) or that this call has tried before are left out as long as others are left.

mod layer;
pub mod machine;

#[cfg(test)]
mod tests;

pub use layer::Balance;
