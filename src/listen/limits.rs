//! Where outrider listens, and what one client may ask of it.

use std::net::SocketAddr;
use std::time::Duration;

/// One entry of `listen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bind {
    /// A bare port: 127.0.0.1 and ::1.
    Loopback(u16),
    /// `address:port`, exactly that address.
    Address(SocketAddr),
}

/// `listen.limits`: bounds on what a client sends. Each one has a status and a reason word of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Bytes of a request head, request line included. Default 64KiB. Beyond: 431.
    pub head: u64,
    /// Header fields in a head. Default 100. Beyond: 431.
    pub headers: u32,
    /// Bytes of a request target. Default 8KiB. Beyond: 414.
    pub uri: u64,
    /// Bytes of a request body; `None` is no bound. Default off. Beyond: 413.
    pub body: Option<u64>,
    /// Client connections open at once, over all workers. Default 10000. Beyond: 503.
    pub connections: u32,
    /// Time to send a whole head. Default 10s. Beyond: 408.
    pub head_read: Duration,
    /// How long a kept-alive connection may rest between requests. Default 5m.
    pub idle: Duration,
    /// How long to wait for first bytes that tell the protocol; after it the connection is opaque. Default 1s.
    pub detect: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: 64 * 1024,
            headers: 100,
            uri: 8 * 1024,
            body: None,
            connections: 10_000,
            head_read: Duration::from_secs(10),
            idle: Duration::from_secs(300),
            detect: Duration::from_secs(1),
        }
    }
}
