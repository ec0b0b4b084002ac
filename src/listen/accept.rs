//! Accepting connections and dealing them to the workers.
//!
//! A sidecar has few, long-lived connections, and the kernel's hash may well put all of them on one worker. So they are
//! accepted in one place and each goes to the worker that has the fewest (docs/adr/0004).

use std::io;
use std::io::Write;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use socket2::Domain;
use socket2::SockRef;
use socket2::Socket;
use socket2::Type;
use tokio::sync::mpsc;

use crate::http::Reason;
use crate::http::hops::Peer;
use crate::listen::Bind;
use crate::listen::Door;
use crate::listen::Refuse;
use crate::telemetry::Held;
use crate::telemetry::Listener;
use crate::telemetry::Telemetry;

/// Connections the kernel may hold for us while we are busy.
const BACKLOG: i32 = 1024;
/// Rest after a failed accept. The usual cause is a full descriptor table, which asking again at once does not empty.
const AFTER_FAILURE: Duration = Duration::from_millis(50);

/// Opens the sockets of one `listen` entry.
///
/// # Errors
/// When an address cannot be bound; a host without IPv6 is no error.
pub fn bind(bind: Bind) -> io::Result<Vec<TcpListener>> {
    match bind {
        Bind::Address(address) => Ok(vec![open(address)?]),
        Bind::Loopback(port) => {
            let v4 = open((Ipv4Addr::LOCALHOST, port).into())?;
            // Port 0 means any free one, and both families should share it.
            let port = v4.local_addr()?.port();
            match open((Ipv6Addr::LOCALHOST, port).into()) {
                Ok(v6) => Ok(vec![v4, v6]),
                Err(error) if has_no_ipv6(&error) => Ok(vec![v4]),
                Err(error) => Err(error),
            }
        }
    }
}

fn has_no_ipv6(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported
    ) || error.raw_os_error() == Some(NO_FAMILY)
}

/// EAFNOSUPPORT on Linux, which has no error kind of its own.
const NO_FAMILY: i32 = 97;

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restarted sidecar must not wait for the connections of its predecessor to be forgotten.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A connection on its way to a worker.
#[derive(Debug)]
pub struct Accepted {
    /// Still outside any runtime: it joins that of its worker.
    pub stream: TcpStream,
    /// The listener it came by.
    pub door: Door,
    /// Who made it.
    pub peer: Peer,
    /// `SO_ORIGINAL_DST` of a redirected connection.
    pub original: Option<SocketAddr>,
    /// Counts it as open at its worker and in the metrics.
    pub open: Open,
}

/// An open connection, until dropped.
#[derive(Debug)]
pub struct Open {
    at_worker: Arc<AtomicUsize>,
    at_side: Arc<AtomicUsize>,
    _held: Held,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.at_worker.fetch_sub(1, Ordering::Relaxed);
        self.at_side.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Knows the workers and gives each connection to the least busy one.
pub struct Dealer {
    workers: Vec<(mpsc::Sender<Accepted>, Arc<AtomicUsize>)>,
    /// Open connections of the application, and of its callers: neither may take the places of the other.
    sides: [Arc<AtomicUsize>; 2],
    telemetry: Arc<Telemetry>,
    refuse: Refuse,
}

impl Dealer {
    /// `refuse` makes the answer to a connection that is one too many.
    #[must_use]
    pub fn new(
        workers: Vec<mpsc::Sender<Accepted>>,
        telemetry: Arc<Telemetry>,
        refuse: Refuse,
    ) -> Arc<Self> {
        let workers = workers
            .into_iter()
            .map(|sender| (sender, Arc::new(AtomicUsize::new(0))))
            .collect();
        Arc::new(Self {
            workers,
            sides: Default::default(),
            telemetry,
            refuse,
        })
    }

    /// Connections open at all workers.
    #[must_use]
    pub fn open(&self) -> usize {
        self.workers
            .iter()
            .map(|(_, open)| open.load(Ordering::Relaxed))
            .sum()
    }

    /// Accepts from `listener` for as long as the task lives. `limit` is asked anew for each connection.
    pub async fn accept(
        self: Arc<Self>,
        listener: tokio::net::TcpListener,
        door: Door,
        own: Vec<SocketAddr>,
        limit: impl Fn() -> u32,
    ) {
        loop {
            let (stream, from) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accept failed; are there too few file descriptors?");
                    tokio::time::sleep(AFTER_FAILURE).await;
                    continue;
                }
            };
            // A connection that cannot be taken out of the runtime is lost; its client sees a close.
            let Ok(stream) = stream.into_std() else {
                continue;
            };
            self.deal((stream, from.ip()), door, &own, limit() as usize);
        }
    }

    fn deal(
        &self,
        (stream, from): (TcpStream, IpAddr),
        door: Door,
        own: &[SocketAddr],
        limit: usize,
    ) {
        let side = &self.sides[usize::from(door == Door::Inbound)];
        if side.load(Ordering::Relaxed) >= limit {
            self.telemetry.process.refused(Reason::ConnectionLimit);
            if door != Door::Inbound {
                turn_away(&stream, &(self.refuse)(Reason::ConnectionLimit).bytes);
            }
            return;
        }
        let local = stream.local_addr().ok();
        let peer = Peer::of(local.map(|local| local.ip()), from);
        let original = local.and_then(|local| original_destination(&stream, local, own));
        let least = self
            .workers
            .iter()
            .min_by_key(|(_, open)| open.load(Ordering::Relaxed));
        let Some((sender, open)) = least else { return };
        open.fetch_add(1, Ordering::Relaxed);
        side.fetch_add(1, Ordering::Relaxed);
        let listener = match door {
            Door::Outbound => Listener::Outbound,
            Door::Explicit => Listener::Explicit,
            Door::Inbound => Listener::Inbound,
        };
        let accepted = Accepted {
            stream,
            door,
            peer,
            original,
            open: Open {
                at_worker: Arc::clone(open),
                at_side: Arc::clone(side),
                _held: self.telemetry.process.accepted(listener),
            },
        };
        // A worker that is gone has drained: the process is about to end. One whose queue is full is stuck; the
        // connection is closed with its guard, and counted out again.
        let _ = sender.try_send(accepted);
    }
}

/// Tells a client that there is no room. Best effort: the socket buffer of a fresh connection takes it at once.
fn turn_away(mut stream: &TcpStream, answer: &[u8]) {
    let _ = stream.write(answer);
    let _ = stream.shutdown(std::net::Shutdown::Write);
}

/// Where a redirected connection was going; `None` for one that was made to us.
fn original_destination(
    stream: &TcpStream,
    local: SocketAddr,
    own: &[SocketAddr],
) -> Option<SocketAddr> {
    let socket = SockRef::from(stream);
    let original = if local.is_ipv4() {
        socket.original_dst_v4()
    } else {
        socket.original_dst_v6()
    };
    let original = original.ok()?.as_socket()?;
    // The kernel answers for every tracked connection; one that was made to us goes nowhere else.
    (original != local && !own.contains(&original)).then_some(original)
}
