//! One question to one endpoint, on a connection of its own that is closed afterwards.
//!
//! Whatever answers is not trusted: each probe reads a bounded number of bytes within a bounded time, and what it says of
//! itself is cut and cleaned before it reaches a log.

mod grpc;
mod http;
mod postgres;
mod redis;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::config::Probe;
use super::machine::Heard;
use crate::connect;
use crate::connect::tls::Inside;
use crate::connect::tls::Wire;
use crate::endpoint::Endpoint;
use crate::http::Reason;

#[cfg(test)]
pub(super) use grpc::verdict as grpc_verdict;
#[cfg(test)]
pub(super) use postgres::verdict as postgres_verdict;
#[cfg(test)]
pub(super) use redis::verdict as redis_verdict;

/// Who asks, where that can be said.
const USER_AGENT: &str = concat!("outrider-health/", env!("CARGO_PKG_VERSION"));

/// The most that is kept of what an endpoint says about itself.
const WORDS: usize = 120;

/// Why a probe did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// No answer in time, or no connection.
    Timeout,
    /// It was not asked: this process has no descriptor or memory left. Says nothing about the endpoint.
    Unasked(String),
    /// No connection: a reason word.
    Connect(&'static str),
    /// The connection ended before there was an answer.
    Closed,
    /// A status that is not expected.
    Status(u16),
    /// It is there and says that it cannot serve.
    Says(String),
    /// What it says is not of the protocol that was asked for.
    Foreign(&'static str),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no answer in time"),
            Self::Unasked(words) => write!(f, "could not be asked: {words}"),
            Self::Connect(reason) => f.write_str(reason),
            Self::Closed => f.write_str("closed the connection before it answered"),
            Self::Status(status) => write!(f, "answered {status}"),
            Self::Says(words) => f.write_str(words),
            Self::Foreign(protocol) => write!(f, "what it answers is not {protocol}"),
        }
    }
}

impl Failure {
    /// What the endpoint says, cut to a bound and without characters that could move a terminal's cursor.
    fn says(words: &str) -> Self {
        let clean = |c: char| if c.is_control() { ' ' } else { c };
        Self::Says(words.chars().take(WORDS).map(clean).collect())
    }
}

/// Asks once. `host` is what HTTP puts into Host.
pub(super) async fn ask(
    probe: &Probe,
    host: &str,
    endpoint: &Endpoint,
    within: Duration,
) -> Result<(), Failure> {
    let asking = async {
        let stream = open(probe, endpoint, within).await?;
        match probe {
            Probe::Http { path, expect } => http::ask(stream, host, path, expect).await,
            Probe::Grpc { service } => grpc::ask(stream, host, service).await,
            Probe::Tcp => Ok(()),
            Probe::Redis => redis::ask(stream).await,
            Probe::Postgres => postgres::ask(stream).await,
        }
    };
    tokio::time::timeout(within, asking)
        .await
        .unwrap_or(Err(Failure::Timeout))
}

/// A connection as calls have it: a probe that spoke plaintext where they speak TLS would say nothing about them.
async fn open(probe: &Probe, endpoint: &Endpoint, within: Duration) -> Result<Wire, Failure> {
    let Some(dialer) = &endpoint.dialer else {
        let connected = TcpStream::connect(endpoint.address).await;
        return connected
            .map(Wire::Plain)
            .map_err(|error| of_connect(&error));
    };
    let inside = match probe {
        Probe::Http { .. } => Inside::Http1,
        Probe::Grpc { .. } => Inside::Http2,
        Probe::Tcp | Probe::Redis | Probe::Postgres => Inside::Opaque,
    };
    let opened = Arc::clone(dialer)
        .open(endpoint.address, within, inside)
        .await;
    opened
        .map(|(wire, _)| wire)
        .map_err(|fault| match (fault.reason, fault.tls) {
            (_, Some("timeout")) | (Reason::ConnectTimeout, _) => Failure::Timeout,
            // It says nothing about the endpoint that we have no certificate.
            (Reason::NoIdentity, _) => Failure::Unasked("no_identity".into()),
            (_, Some(flaw)) => Failure::Connect(flaw),
            (reason, None) => Failure::Connect(reason.word()),
        })
}

/// What the machine makes of a result.
pub(super) const fn heard(result: &Result<(), Failure>) -> Heard {
    match result {
        Ok(()) => Heard::Pass,
        Err(Failure::Unasked(_)) => Heard::Unasked,
        Err(_) => Heard::Fail,
    }
}

/// Whether an error, or one that it comes from, says so: the library tells these apart in words only.
fn says(error: &hyper::Error, words: &str) -> bool {
    let mut next: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = next {
        if error.to_string().contains(words) {
            return true;
        }
        next = error.source();
    }
    false
}

pub(super) fn of_connect(error: &io::Error) -> Failure {
    if connect::is_our_own(error) {
        return Failure::Unasked(error.to_string());
    }
    match connect::fault_of(error).reason {
        Reason::ConnectTimeout => Failure::Timeout,
        reason => Failure::Connect(reason.word()),
    }
}

/// Reads until `judge` has a verdict on what came so far, and gives what passed; `most` bytes without one are not of the protocol.
async fn read_until(
    stream: &mut Wire,
    protocol: &'static str,
    most: usize,
    judge: impl Fn(&[u8]) -> Option<Result<(), Failure>>,
) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::with_capacity(256);
    let mut piece = [0; 1024];
    loop {
        // A reset is an end like any other: it did not answer.
        let count = stream.read(&mut piece).await.unwrap_or(0);
        if count == 0 {
            return Err(Failure::Closed);
        }
        bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
        if let Some(verdict) = judge(&bytes) {
            return verdict.map(|()| bytes);
        }
        if bytes.len() >= most {
            return Err(Failure::Foreign(protocol));
        }
    }
}
