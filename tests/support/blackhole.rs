//! An address that neither accepts nor refuses: its accept queue is full, so the kernel drops every further SYN.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::Domain;
use socket2::Socket;
use socket2::Type;

/// A listener that never accepts, and the connections that fill its queue.
pub struct Blackhole {
    pub addr: SocketAddr,
    _listener: Socket,
    _filling: Vec<Socket>,
}

impl Blackhole {
    /// Fills the queue until a connect no longer completes.
    ///
    /// # Panics
    /// When this kernel accepts without end (then `timeout.connect` cannot be shown here, and the test must fail).
    pub fn start() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        listener
            .bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
            .expect("bind on a free port");
        listener.listen(0).expect("listen");
        let addr = listener
            .local_addr()
            .expect("bound")
            .as_socket()
            .expect("an IP address");
        let mut filling = Vec::new();
        for _ in 0..64 {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            let done = socket
                .connect_timeout(&addr.into(), Duration::from_millis(50))
                .is_ok();
            filling.push(socket);
            if !done {
                return Blackhole {
                    addr,
                    _listener: listener,
                    _filling: filling,
                };
            }
        }
        panic!(
            "the kernel completed 64 connections to a queue of 0: no black hole can be made on this machine"
        );
    }
}
