//! The service that the demo calls: three endpoints on free loopback ports that play the script.
//!
//! Each endpoint has two doors, one for each side of the comparison, with the same behaviour behind both at every moment.
//! So the requests of both sides can stay byte for byte the same, and each try is counted where it arrives.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use http::Request;
use http::Response;
use http::StatusCode;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::LocalSet;

use crate::cli::demo::script::Behaviour;
use crate::cli::demo::script::ENDPOINTS;
use crate::cli::demo::script::SLOW;
use crate::cli::demo::script::Script;
use crate::cli::demo::script::scramble;
use crate::clock;

/// Doors of each endpoint: straight, and through outrider.
pub const SIDES: usize = 2;

/// The script and the moment it began. Before [`Stage::begin`] everything is healthy.
pub struct Stage {
    script: Script,
    began: OnceLock<Instant>,
    seed: u64,
}

impl Stage {
    /// A stage with the curtain down.
    #[must_use]
    pub fn new(script: Script, seed: u64) -> Arc<Stage> {
        Arc::new(Stage {
            script,
            began: OnceLock::new(),
            seed,
        })
    }

    /// The script.
    #[must_use]
    pub fn script(&self) -> &Script {
        &self.script
    }

    /// Starts the play, once; gives the moment it began.
    pub fn begin(&self) -> Instant {
        *self.began.get_or_init(clock::now)
    }

    /// How far the play is; zero before it began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.began.get().map_or(Duration::ZERO, |began| {
            clock::now().saturating_duration_since(*began)
        })
    }
}

/// Tries that arrived at one side's doors: requests read, and connections reset before one could be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// In the whole play.
    pub all: u64,
    /// While every endpoint was down: what hits a service that tries to get up again.
    pub down: u64,
}

#[derive(Default)]
struct Tries {
    all: [AtomicU64; SIDES],
    down: [AtomicU64; SIDES],
}

/// The running origin. Dropping it stops it.
pub struct Origin {
    doors: [[SocketAddr; ENDPOINTS]; SIDES],
    tries: Arc<Tries>,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl Origin {
    /// Opens the doors, and serves them on a thread of its own.
    ///
    /// # Errors
    /// When no loopback port or no thread can be had.
    pub fn start(stage: &Arc<Stage>) -> io::Result<Origin> {
        let mut doors = [[SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); ENDPOINTS]; SIDES];
        let mut listeners = Vec::new();
        for (side, row) in doors.iter_mut().enumerate() {
            for (endpoint, door) in row.iter_mut().enumerate() {
                let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
                listener.set_nonblocking(true)?;
                *door = listener.local_addr()?;
                listeners.push((side, endpoint, listener));
            }
        }
        let tries: Arc<Tries> = Arc::default();
        let stop = Arc::new(Notify::new());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = std::thread::Builder::new()
            .name("demo-origin".into())
            .spawn({
                let (stage, tries, stop) =
                    (Arc::clone(stage), Arc::clone(&tries), Arc::clone(&stop));
                move || {
                    let doors = listeners.into_iter().map(|(side, endpoint, listener)| {
                        let door = Door {
                            side,
                            endpoint,
                            stage: Arc::clone(&stage),
                            tries: Arc::clone(&tries),
                        };
                        (door, listener)
                    });
                    let local = LocalSet::new();
                    for (door, listener) in doors {
                        local.spawn_local(door.open(listener));
                    }
                    runtime.block_on(local.run_until(stop.notified()));
                }
            })?;
        Ok(Origin {
            doors,
            tries,
            stop,
            thread: Some(thread),
        })
    }

    /// The addresses of one side's doors.
    #[must_use]
    pub fn doors(&self, side: usize) -> &[SocketAddr] {
        &self.doors[side]
    }

    /// Tries that arrived at one side's doors so far.
    #[must_use]
    pub fn tries(&self, side: usize) -> Arrived {
        Arrived {
            all: self.tries.all[side].load(Ordering::Relaxed),
            down: self.tries.down[side].load(Ordering::Relaxed),
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of the origin has been printed by its own thread; there is nothing to add here.
            let _ = thread.join();
        }
    }
}

struct Door {
    side: usize,
    endpoint: usize,
    stage: Arc<Stage>,
    tries: Arc<Tries>,
}

impl Door {
    async fn open(self, listener: std::net::TcpListener) {
        let Ok(listener) = TcpListener::from_std(listener) else {
            return;
        };
        let door = Rc::new(self);
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // Out of descriptors or the like: accepting again at once would only spin.
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            if door.behaviour() == Behaviour::Down {
                door.count(Behaviour::Down);
                reset(stream);
            } else {
                tokio::task::spawn_local(Rc::clone(&door).serve(stream));
            }
        }
    }

    async fn serve(self: Rc<Self>, stream: TcpStream) {
        // Answers are small and paced: without this each would wait for the peer's acknowledgement.
        let _ = stream.set_nodelay(true);
        let doomed = Rc::new(Notify::new());
        let service = service_fn(|_: Request<Incoming>| {
            let (door, doomed) = (Rc::clone(&self), Rc::clone(&doomed));
            async move { Ok::<_, Infallible>(door.play(&doomed).await) }
        });
        let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::select! {
            _ = &mut connection => {}
            () = doomed.notified() => reset(connection.into_parts().io.into_inner()),
        }
    }

    /// One request: what happens is decided by the moment it arrives.
    async fn play(&self, doomed: &Notify) -> Response<Full<Bytes>> {
        let behaviour = self.behaviour();
        self.count(behaviour);
        match behaviour {
            Behaviour::Answer => {
                tokio::time::sleep(self.work()).await;
                answer(StatusCode::OK)
            }
            Behaviour::Slow => {
                tokio::time::sleep(SLOW).await;
                answer(StatusCode::OK)
            }
            Behaviour::Fail => answer(StatusCode::SERVICE_UNAVAILABLE),
            Behaviour::Reset | Behaviour::Down => {
                doomed.notify_one();
                std::future::pending().await
            }
        }
    }

    /// A healthy endpoint takes 1 to 6 ms, in steps that the seed fixes.
    fn work(&self) -> Duration {
        thread_local!(static TURN: Cell<u64> = const { Cell::new(0) });
        let turn = TURN.replace(TURN.get().wrapping_add(1));
        Duration::from_millis(1 + scramble(self.stage.seed, turn) % 6)
    }

    fn behaviour(&self) -> Behaviour {
        self.stage
            .script
            .behaviour(self.endpoint, self.stage.elapsed())
    }

    fn count(&self, behaviour: Behaviour) {
        self.tries.all[self.side].fetch_add(1, Ordering::Relaxed);
        if behaviour == Behaviour::Down {
            self.tries.down[self.side].fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Closes with RST instead of FIN, as a crashed process or a dropped conntrack entry does.
fn reset(stream: TcpStream) {
    // If the option cannot be set the peer sees FIN instead, which is as broken an answer.
    let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
}

fn answer(status: StatusCode) -> Response<Full<Bytes>> {
    let body: &'static [u8] = if status.is_success() {
        b"{\"paid\":true}\n"
    } else {
        b"{\"paid\":false}\n"
    };
    let mut response = Response::new(Full::new(Bytes::from_static(body)));
    *response.status_mut() = status;
    response
}
