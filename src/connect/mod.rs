//! From an address to a connection, plain or in TLS.

pub mod tls;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use socket2::TcpKeepalive;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::http::Fault;
use crate::http::Reason;

/// Idle time before the kernel probes an upstream connection whose peer may have vanished without a word.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Whether a connection could not even be tried: this process or host has no descriptor or memory left. It says nothing
/// about the peer.
#[must_use]
pub fn is_our_own(error: &io::Error) -> bool {
    // EMFILE and ENFILE have no kind of their own; their numbers are the same on every Unix.
    error.kind() == io::ErrorKind::OutOfMemory || matches!(error.raw_os_error(), Some(23 | 24))
}

/// Opens a TCP connection to `address`, within `within`.
///
/// # Errors
/// `connect_refused`, `connect_timeout` or `connect_failed`, all certainly unsent.
pub async fn tcp(address: SocketAddr, within: Duration) -> Result<TcpStream, Fault> {
    let stream = match timeout(within, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(fault_of(&error)),
        Err(_elapsed) => return Err(Fault::unsent(Reason::ConnectTimeout)),
    };
    // Small requests must not wait for Nagle's algorithm; keep-alive probes find peers that died silently.
    let settled = stream.set_nodelay(true).and_then(|()| {
        SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))
    });
    match settled {
        Ok(()) => Ok(stream),
        Err(error) => Err(Fault::unsent(Reason::ConnectFailed).because(error)),
    }
}

/// What the system says of a connection, as a fault.
#[must_use]
pub fn fault_of(error: &io::Error) -> Fault {
    let reason = match error.kind() {
        io::ErrorKind::ConnectionRefused => Reason::ConnectRefused,
        io::ErrorKind::TimedOut => Reason::ConnectTimeout,
        _ => Reason::ConnectFailed,
    };
    Fault::unsent(reason).because(error)
}
