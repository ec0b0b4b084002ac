//! The application of the demo: the same request at the same moment to both sides, at a fixed rate.
//!
//! Open loop: a request is sent when it is due, whether or not earlier ones have been answered, and its latency counts from
//! when it was due. A side that stalls therefore cannot slow its own load down.

use std::cell::Cell;
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use crate::cli::demo::origin::Stage;
use crate::cli::demo::policy::APP_TIMEOUT;
use crate::cli::demo::policy::HOST;
use crate::cli::demo::tally::End;
use crate::cli::demo::tally::Sample;
use crate::cli::demo::tally::Tally;
use crate::clock;

/// Requests a second to each side.
pub const RATE: u32 = 200;

/// Requests that one side may have under way. A request beyond it counts as timed out: the application has no room left.
const CONCURRENCY: usize = 1000;

/// One side: where it sends, and what came of it. Several targets are taken in turn.
pub struct Side {
    /// Addresses to send to.
    pub targets: Vec<SocketAddr>,
    /// Where the outcomes go.
    pub tally: Arc<Mutex<Tally>>,
}

/// Sends the whole load, waits for the last answer, and returns. Starts the play.
///
/// # Errors
/// When no runtime can be had.
pub fn send(stage: &Stage, sides: Vec<Side>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let sides: Vec<Rc<Lane>> = sides
        .into_iter()
        .map(|side| Rc::new(Lane::new(side)))
        .collect();
    LocalSet::new().block_on(&runtime, pace(stage, &sides));
    Ok(())
}

async fn pace(stage: &Stage, sides: &[Rc<Lane>]) {
    let began = stage.begin();
    let total = stage.script().total();
    for number in 0.. {
        let due = Duration::from_secs(1) * number / RATE;
        if due >= total {
            break;
        }
        tokio::time::sleep_until((began + due).into()).await;
        for side in sides {
            let side = Rc::clone(side);
            side.tally.lock().begin();
            // Counted here and not in the task: else the last ones would not have begun when the wait below looks.
            side.under_way.set(side.under_way.get() + 1);
            tokio::task::spawn_local(async move {
                let how = side.request(number).await;
                side.under_way.set(side.under_way.get() - 1);
                let end = clock::now().saturating_duration_since(began);
                side.tally.lock().add(Sample {
                    begin: due,
                    end,
                    how,
                });
            });
        }
    }
    while sides.iter().any(|side| side.under_way.get() > 0) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

type Connection = SendRequest<Empty<Bytes>>;

struct Lane {
    targets: Vec<Target>,
    tally: Arc<Mutex<Tally>>,
    under_way: Cell<usize>,
}

struct Target {
    address: SocketAddr,
    idle: RefCell<Vec<Connection>>,
}

impl Lane {
    fn new(side: Side) -> Lane {
        let target = |address| Target {
            address,
            idle: RefCell::default(),
        };
        Lane {
            targets: side.targets.into_iter().map(target).collect(),
            tally: side.tally,
            under_way: Cell::new(0),
        }
    }

    async fn request(&self, number: u32) -> End {
        if self.under_way.get() > CONCURRENCY {
            return End::TimedOut;
        }
        let target = &self.targets[number as usize % self.targets.len()];
        match tokio::time::timeout(APP_TIMEOUT, target.ask(number)).await {
            Ok(Ok(status)) if status < 500 => End::Ok,
            Ok(Ok(status)) => End::Status(status),
            Ok(Err(())) => End::Broken,
            Err(_) => End::TimedOut,
        }
    }
}

impl Target {
    /// One call, as a common HTTP client makes it: over a kept connection if there is one, over a new one if the kept one
    /// turns out to be closed before the request was sent. Nothing that was sent is sent again.
    async fn ask(&self, number: u32) -> Result<u16, ()> {
        let mut request = Request::get(format!("/charges/{number}"))
            .header(http::header::HOST, HOST)
            .body(Empty::new())
            .map_err(drop)?;
        while let Some(mut kept) = self.kept() {
            match kept.try_send_request(request).await {
                Ok(response) => return self.read(kept, response).await,
                Err(mut error) => request = error.take_message().ok_or(())?,
            }
        }
        let mut fresh = self.connect().await.map_err(drop)?;
        let response = fresh.send_request(request).await.map_err(drop)?;
        self.read(fresh, response).await
    }

    async fn read(
        &self,
        connection: Connection,
        response: http::Response<hyper::body::Incoming>,
    ) -> Result<u16, ()> {
        let status = response.status().as_u16();
        response.into_body().collect().await.map_err(drop)?;
        if !connection.is_closed() {
            self.idle.borrow_mut().push(connection);
        }
        Ok(status)
    }

    fn kept(&self) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|connection| !connection.is_closed());
        let free = idle.iter().rposition(SendRequest::is_ready)?;
        Some(idle.swap_remove(free))
    }

    async fn connect(&self) -> io::Result<Connection> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        tokio::task::spawn_local(async move {
            // How it ended shows in the request that rode on it.
            let _ = connection.await;
        });
        Ok(sender)
    }
}
