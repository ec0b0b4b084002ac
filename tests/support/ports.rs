//! Free ports, handed out below the range the kernel gives to outgoing connections, so that none is taken in between.

use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

static NEXT: AtomicU32 = AtomicU32::new(0);

const FIRST: u32 = 11_000;
const COUNT: u32 = 20_000;

/// A port that is free on both loopback families, never given out twice by this process.
///
/// # Panics
/// When the whole range is taken.
pub fn free() -> u16 {
    // Two suites at once on one machine start at different places.
    let start = std::process::id().wrapping_mul(97) % COUNT;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port =
            u16::try_from(FIRST + (start + step) % COUNT).expect("the range ends below 65536");
        let v4 = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port));
        let v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, port));
        if v4.is_ok() && v6.is_ok() {
            return port;
        }
    }
    panic!("no free port from {FIRST} to {}", FIRST + COUNT);
}

/// A loopback address where nothing listens: connecting to it is refused.
pub fn closed() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free()).into()
}
