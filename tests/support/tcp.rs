//! Servers that do not speak HTTP: a banner first, an echo, a reset, a collector of bytes.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::origin::reset;

/// What the server does with a connection.
#[derive(Clone, Debug)]
pub enum Manner {
    /// Speaks first, then echoes, as SMTP or MySQL do.
    Banner(Vec<u8>),
    /// Sends back what it gets, and ends its side when the peer ends.
    Echo,
    /// Resets as soon as it has accepted.
    Reset,
}

/// A running TCP server.
pub struct Tcp {
    pub addr: SocketAddr,
    connections: Arc<AtomicUsize>,
    received: Arc<Mutex<Vec<u8>>>,
    accepting: JoinHandle<()>,
}

impl Drop for Tcp {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Tcp {
    pub async fn start(manner: Manner) -> Self {
        Self::at((Ipv4Addr::LOCALHOST, 0).into(), manner).await
    }

    pub async fn at(addr: SocketAddr, manner: Manner) -> Self {
        let listener = TcpListener::bind(addr)
            .await
            .expect("bind a server on a free port");
        let addr = listener
            .local_addr()
            .expect("a bound socket has an address");
        let (connections, received) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(Mutex::new(Vec::new())),
        );
        let (count, bytes) = (Arc::clone(&connections), Arc::clone(&received));
        let accepting = tokio::spawn(async move {
            let mut serving = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                serving.spawn(serve(stream, manner.clone(), Arc::clone(&bytes)));
            }
        });
        Tcp {
            addr,
            connections,
            received,
            accepting,
        }
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Everything received so far, over all connections.
    pub fn received(&self) -> Vec<u8> {
        self.received.lock().clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    manner: Manner,
    received: Arc<Mutex<Vec<u8>>>,
) -> std::io::Result<()> {
    match manner {
        Manner::Reset => {
            reset(&stream);
            return Ok(());
        }
        Manner::Banner(banner) => stream.write_all(&banner).await?,
        Manner::Echo => {}
    }
    let mut bytes = vec![0; 16 << 10];
    loop {
        let count = stream.read(&mut bytes).await?;
        if count == 0 {
            return stream.shutdown().await;
        }
        received.lock().extend_from_slice(&bytes[..count]);
        stream.write_all(&bytes[..count]).await?;
    }
}
