//! A TCP proxy in between that can delay what comes back, or cut the two sides off.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// See the module.
pub struct Between {
    pub addr: SocketAddr,
    delay: Arc<AtomicU64>,
    open: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Drop for Between {
    fn drop(&mut self) {
        self.accepting.abort();
        self.open.send_replace(false);
    }
}

impl Between {
    /// In front of `to`, without delay.
    pub async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let delay = Arc::new(AtomicU64::new(0));
        let (open, is_open) = watch::channel(true);
        let lag = Arc::clone(&delay);
        let accepting = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, to, Arc::clone(&lag), is_open.clone()));
            }
        });
        Self {
            addr,
            delay,
            open,
            accepting,
        }
    }

    /// From now on what comes back takes so long.
    pub fn delay(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).expect("short");
        self.delay.store(millis, Ordering::Release);
    }

    /// Ends every connection, and those to come at once.
    pub fn cut(&self) {
        self.open.send_replace(false);
    }

    /// Lets through again.
    pub fn heal(&self) {
        self.open.send_replace(true);
    }
}

async fn carry(
    near: TcpStream,
    to: SocketAddr,
    delay: Arc<AtomicU64>,
    mut open: watch::Receiver<bool>,
) {
    if !*open.borrow() {
        return;
    }
    let Ok(far) = TcpStream::connect(to).await else {
        return;
    };
    let (_, _) = (near.set_nodelay(true), far.set_nodelay(true));
    let (mut near_in, mut near_out) = near.into_split();
    let (mut far_in, mut far_out) = far.into_split();
    let there = async {
        let _ = tokio::io::copy(&mut near_in, &mut far_out).await;
    };
    let back = async {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = match far_in.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(read) => read,
            };
            // What is slow is the server; no test waits for it.
            let lag = Duration::from_millis(delay.load(Ordering::Acquire));
            tokio::time::sleep(lag).await;
            if near_out.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = there => {}
        () = back => {}
        _ = open.wait_for(|open| !open) => {}
    }
}
