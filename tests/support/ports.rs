//! Free ports, handed out below the range the kernel gives to outgoing connections, so that none is taken in between.

use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;

use socket2::Domain;
use socket2::Socket;
use socket2::Type;

const FIRST: u16 = 11_000;
const BLOCKS: u16 = 10;
/// More than one run of the suite asks for.
const BLOCK: u16 = 2000;

static OURS: OnceLock<(u16, UdpSocket)> = OnceLock::new();
static NEXT: AtomicU16 = AtomicU16::new(0);

/// The block of ports that is this process's own. Suites that run at once on one machine must not meet, so each holds
/// the UDP port of its block's beginning for as long as it lives.
fn block() -> u16 {
    let claim = || {
        for number in 0..BLOCKS {
            let first = FIRST + number * BLOCK;
            if let Ok(held) = UdpSocket::bind((Ipv4Addr::LOCALHOST, first)) {
                return (first, held);
            }
        }
        panic!("{BLOCKS} runs of the suite hold all ports from {FIRST} on");
    };
    OURS.get_or_init(claim).0
}

/// A port that is free on both loopback families, never given out twice in a row by this process.
///
/// # Panics
/// When the whole block is taken.
pub fn free() -> u16 {
    let first = block();
    for _ in 0..BLOCK {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % BLOCK;
        if is_free((Ipv4Addr::UNSPECIFIED, port).into())
            && is_free((Ipv6Addr::LOCALHOST, port).into())
        {
            return port;
        }
    }
    panic!("no free port from {first} to {}", first + BLOCK);
}

/// Binds without listening. A process that another test starts at this moment holds a copy of our socket until it has
/// become the other program; a copy that listens would keep the port from whom we give it to.
fn is_free(addr: SocketAddr) -> bool {
    let bind = || {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&addr.into())
    };
    bind().is_ok()
}

/// A loopback address where nothing listens: connecting to it is refused.
pub fn closed() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free()).into()
}
