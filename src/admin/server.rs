//! The admin server: sockets, limits, and the thread they live on.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::AdminState;
use super::orders::Asked;
use super::pages;

/// Connections open at once; more wait in the backlog.
const MAX_CONNECTIONS: usize = 64;
/// Time to send a request head, and to rest between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection is asked to end after this, so that readers that do not read cannot hold all places.
const LIFETIME: Duration = Duration::from_secs(60);
/// What an exchange still gets when its connection is asked to end.
const GRACE: Duration = Duration::from_secs(2);
/// A request line and its fields; hyper's least is 8 KiB.
const BUFFER_BYTES: usize = 8 * 1024;
const MAX_HEADERS: usize = 64;

/// The running admin side. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct AdminHandle {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl AdminHandle {
    /// Stop accepting, let running answers finish within two seconds, and end the thread.
    pub fn stop(mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

impl Drop for AdminHandle {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

/// Serve the admin pages on sockets that are bound already, on a thread of its own.
///
/// # Errors
/// When a socket cannot be made non-blocking, or the runtime or thread cannot be made.
pub fn start(binds: Vec<StdListener>, state: Arc<AdminState>) -> io::Result<AdminHandle> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let listeners = {
        let _entered = runtime.enter();
        binds
            .into_iter()
            .map(into_tokio)
            .collect::<io::Result<Vec<_>>>()?
    };
    let (stop, stopped) = watch::channel(false);
    let thread = std::thread::Builder::new()
        .name("admin".to_owned())
        .spawn(move || runtime.block_on(serve(listeners, state, stopped)))?;
    Ok(AdminHandle {
        stop,
        thread: Some(thread),
    })
}

fn into_tokio(listener: StdListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

async fn serve(
    listeners: Vec<TcpListener>,
    state: Arc<AdminState>,
    stopped: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut doors = JoinSet::new();
    for listener in listeners {
        doors.spawn(accept(
            listener,
            Arc::clone(&state),
            Arc::clone(&places),
            stopped.clone(),
        ));
    }
    while doors.join_next().await.is_some() {}
    // All places free again: every connection has ended. Each of them bounds itself.
    let all = u32::try_from(MAX_CONNECTIONS).expect("64 fits");
    let _ = places.acquire_many(all).await;
}

async fn accept(
    listener: TcpListener,
    state: Arc<AdminState>,
    places: Arc<Semaphore>,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        // A place first, so that a full house leaves callers in the kernel's backlog and holds no descriptor for them.
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place.expect("the semaphore is never closed"),
            () = stop_asked(&mut stopped) => return,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop_asked(&mut stopped) => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (state, stopped) = (Arc::clone(&state), stopped.clone());
                tokio::spawn(async move {
                    converse(stream, peer, state, stopped).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the admin side cannot accept a connection");
                // Out of descriptors, most likely; asking again at once would spin.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn stop_asked(stopped: &mut watch::Receiver<bool>) {
    // An error means that the handle is gone, which is an order to stop too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn converse(
    stream: TcpStream,
    peer: SocketAddr,
    state: Arc<AdminState>,
    mut stopped: watch::Receiver<bool>,
) {
    let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
        let page = pages::answer(
            &state,
            &Asked {
                method: request.method(),
                uri: request.uri(),
                headers: request.headers(),
                peer,
            },
        );
        async move { Ok::<_, Infallible>(page) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // How a peer ends its connection is its own affair; there is nobody to tell.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = tokio::time::sleep(LIFETIME) => {}
        () = stop_asked(&mut stopped) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(GRACE, connection).await;
}
