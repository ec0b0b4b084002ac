//! How a connection came to us.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use http::uri::Authority;

use crate::http::Caller;
use crate::http::Reason;
use crate::http::hops::Peer;
use crate::http::strict::Door;

/// What is known of a connection before its first byte.
#[derive(Clone, Debug)]
pub struct Way {
    /// The listener.
    pub door: Door,
    /// Who made it.
    pub peer: Peer,
    /// Where the application meant to connect, of a redirected connection (`SO_ORIGINAL_DST`).
    pub original: Option<SocketAddr>,
    /// Who has proved to be the client, of an inbound connection.
    pub caller: Option<Rc<Caller>>,
    /// What the application asked to be connected to, inside a CONNECT.
    pub connect: Option<Authority>,
}

impl Way {
    /// Whether bytes that are not HTTP have somewhere to go.
    #[must_use]
    pub fn leads_somewhere(&self) -> bool {
        self.original.is_some() || self.connect.is_some()
    }

    /// The port meant when a Host names none.
    #[must_use]
    pub fn default_port(&self) -> u16 {
        const HTTP: u16 = 80;
        self.original
            .map(|address| address.port())
            .or_else(|| self.connect.as_ref().and_then(Authority::port_u16))
            .unwrap_or(HTTP)
    }
}

/// The answer to a request that could not even be read.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The reason it gives.
    pub reason: Reason,
    /// A whole HTTP/1.1 response that closes the connection.
    pub bytes: Bytes,
    /// The `x-request-id` in it.
    pub request_id: HeaderValue,
}

/// Makes such answers. Shared by all workers, so that a stream may carry it.
pub type Refuse = Arc<dyn Fn(Reason) -> Refusal + Send + Sync>;
