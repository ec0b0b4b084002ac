//! outrider: a sidecar resilience proxy for one service's outbound traffic.
//!
//! The modules below are listed in the order in which they may import one another, lowest first; a request meets them
//! the other way round. `stack` is the whole way of a request on one page. `tests/architecture.rs` holds the order.

#![cfg_attr(
    test,
    expect(
        clippy::unchecked_time_subtraction,
        reason = "a test that subtracts too much should fail loudly"
    )
)]

pub mod kit;

pub mod clock;
pub mod rng;

pub mod redact;

pub mod http;
pub mod telemetry;

pub mod audit;
pub mod identity;

pub mod connect;
pub mod endpoint;
pub mod shared;

pub mod balance;
pub mod policy;
pub mod route;

pub mod detect;
pub mod listen;

pub mod config;
pub mod stack;

pub mod admin;
pub mod app;
pub mod cli;
