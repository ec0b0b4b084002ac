//! The whole proxy from outside: real sockets on loopback, an origin of our own, the binary as users run it.

#![expect(clippy::panic, reason = "a test fails by panicking")]
#![expect(
    clippy::float_cmp,
    reason = "counters are whole numbers, which an f64 holds exactly"
)]

#[path = "../support/mod.rs"]
mod support;

mod charts;
mod cli;
mod path_admin;
mod path_audit;
mod path_authorise;
mod path_balance;
mod path_breaker;
mod path_bulkhead;
mod path_cache;
mod path_cache_asked;
mod path_cache_conform;
mod path_cache_down;
mod path_cache_orders;
mod path_cache_safe;
mod path_captured;
mod path_credential;
mod path_credential_token;
mod path_differential;
mod path_dns;
mod path_drain;
mod path_eject;
mod path_explain;
mod path_fault;
mod path_forward;
mod path_grpc;
mod path_health;
mod path_hedge;
mod path_hops;
mod path_hostile;
mod path_hostile_body;
mod path_hostile_h2;
mod path_idempotency;
mod path_identity;
mod path_inbound;
mod path_inbound_mtls;
mod path_limit;
mod path_limits;
mod path_mtls;
mod path_mtls_foreign;
mod path_originate;
mod path_overload;
mod path_override;
mod path_redact;
mod path_reload;
mod path_retry;
mod path_seen;
mod path_stream;
mod path_timeout;
mod path_tunnel;
mod shared;
mod sim;
mod support_works;
