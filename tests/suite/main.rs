//! The whole proxy from outside: real sockets on loopback, an origin of our own, the binary as users run it.

#[path = "../support/mod.rs"]
mod support;

mod path_breaker;
mod path_eject;
mod path_forward;
mod path_grpc;
mod path_hostile;
mod path_hostile_body;
mod path_hostile_h2;
mod path_retry;
mod path_stream;
mod path_timeout;
mod path_tunnel;
mod support_works;
