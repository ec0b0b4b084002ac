//! Settings of the inbound listener: which applications stand behind it, and who is let in without TLS.

use std::net::Ipv4Addr;
use std::net::SocketAddr;

/// The `inbound` block, without what has a room of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where the applications listen; never empty in a policy. A connection that was redirected goes to the one of its port,
    /// any other to the first.
    pub apps: Vec<App>,
    /// Whether plaintext is let in. Default: strict.
    pub mode: Mode,
    /// Paths that may be asked for in the clear, by GET and HEAD, without any other rule: what the kubelet probes. Compared
    /// as a whole, with the query. Default: none.
    pub probes: Vec<Box<str>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            apps: Vec::new(),
            mode: Mode::Strict,
            probes: Vec::new(),
        }
    }
}

impl Settings {
    /// The application that a connection is for. `redirected` is the port that it was made to.
    #[must_use]
    pub fn app(&self, redirected: Option<u16>) -> Option<&App> {
        match redirected {
            Some(port) => self.apps.iter().find(|app| app.address.port() == port),
            None => self.apps.first(),
        }
    }

    /// Whether this is asked for in the clear by whoever wants to know how the application is.
    #[must_use]
    pub fn is_probe(&self, method: &str, path_and_query: &str) -> bool {
        matches!(method, "GET" | "HEAD")
            && self.probes.iter().any(|probe| **probe == *path_and_query)
    }
}

/// `inbound.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Mutual TLS, or nothing but probes.
    Strict,
    /// Plaintext too, while callers are moved over.
    Permissive,
}

impl Mode {
    /// As in the file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Permissive => "permissive",
        }
    }
}

/// One application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct App {
    /// Where it listens: always a loopback address.
    pub address: SocketAddr,
    /// What it speaks. Default: auto.
    pub protocol: Protocol,
}

impl App {
    /// Reads a port, or an `address:port` on loopback.
    #[must_use]
    pub fn address(text: &str) -> Option<SocketAddr> {
        let address = match text.parse::<u16>() {
            Ok(port) => SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            Err(_) => text.parse().ok()?,
        };
        (address.ip().is_loopback() && address.port() != 0).then_some(address)
    }
}

/// What an application speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1; HTTP/2 for gRPC, and for what came as HTTP/2 in the clear, whose sender knows what stands here.
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 with prior knowledge, for all but upgrades.
    Http2,
    /// Bytes, which are not looked into.
    Tcp,
}

impl Protocol {
    /// As in the file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Tcp => "tcp",
        }
    }
}
