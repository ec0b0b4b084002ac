//! The policy rooms, one resilience pattern each, outermost first.
//!
//! Every room has the same six files: `mod` (what it does and where it stands), `machine` (pure), `layer` (the tower
//! skin), `config` (settings), `metrics`, `tests`. Rooms never name each other; `crate::stack` puts them in order.

pub mod correlation;
pub mod credential;
pub mod fault;
pub mod overload;

pub mod authorise;

pub mod cache;

pub mod deadline;
pub mod limit;

pub mod bulkhead;

pub mod hedge;
pub mod idempotency;
pub mod retry;

pub mod breaker;
pub mod eject;
