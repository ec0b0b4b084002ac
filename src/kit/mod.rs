//! Pure arithmetic that the machines share: no clock, no chance, no lock, no I/O.
//!
//! `now` and every random draw are arguments, so that a test can replay years in a millisecond and a failing seed
//! fails again. Nothing here knows a request or a policy room.

pub mod backoff;
pub mod budget;
pub mod check;
pub mod date;
pub mod ewma;
pub mod fields;
pub mod gcra;
pub mod gradient;
pub mod matcher;
pub mod mode;
pub mod net;
pub mod quantile;
pub mod spread;
pub mod units;
#[cfg(test)]
pub mod walk;
pub mod window;

#[cfg(test)]
mod tests;
