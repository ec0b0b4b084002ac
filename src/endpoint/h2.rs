//! HTTP/2 to an endpoint: many calls on few connections.
//!
//! Here the connection must have a task of its own, since no single call may hold up the others.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use http::Request;
use http::Response;
use http::Uri;
use http::uri::Scheme;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;

use crate::clock;
use crate::connect::tls::Inside;
use crate::connect::tls::Secured;
use crate::endpoint::exchange::fault_of;
use crate::endpoint::exchange::receive;
use crate::endpoint::exchange::refused;
use crate::endpoint::idle::Silence;
use crate::endpoint::pool::Patience;
use crate::endpoint::pool::Pool;
use crate::endpoint::pool::retirement;
use crate::http::Call;
use crate::http::Fault;
use crate::http::Outcome;
use crate::http::Reason;
use crate::http::RequestBody;
use crate::http::ResponseBody;
use crate::http::Sent;
use crate::http::Trail;

/// Streams on one connection before another is opened; servers commonly allow 100 (RFC 9113 section 6.5.2).
const STREAMS: usize = 100;
/// Time between pings on a connection with calls in flight: finds a peer that died silently.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_WITHIN: Duration = Duration::from_secs(10);

/// An open HTTP/2 connection.
pub(super) struct H2 {
    sender: http2::SendRequest<RequestBody>,
    streams: Cell<usize>,
    resting_since: Cell<Instant>,
    retires_at: Instant,
    /// `None`: nobody asked for that.
    pub(super) secured: Option<Box<Secured>>,
}

impl H2 {
    fn has_room(&self, now: Instant) -> bool {
        !self.sender.is_closed() && self.retires_at > now && self.streams.get() < STREAMS
    }

    /// Whether the pool should keep it: not closed, and in use or not yet rested out. Calls in flight hold it anyway.
    pub(super) fn keep(&self, now: Instant, rest_at_most: Duration) -> bool {
        let rested = self.streams.get() == 0 && now - self.resting_since.get() > rest_at_most;
        !self.sender.is_closed() && self.retires_at > now && !rested
    }
}

/// Counts a stream in, for as long as it lives.
struct Stream(Rc<H2>);

impl Stream {
    fn on(h2: &Rc<H2>) -> Self {
        h2.streams.set(h2.streams.get() + 1);
        Self(Rc::clone(h2))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
        if self.0.streams.get() == 0 {
            self.0.resting_since.set(clock::now());
        }
    }
}

pub(super) async fn send(pool: Rc<Pool>, call: Call, patience: Patience) -> Outcome {
    let Call { head, body, trail } = call;
    let mut request = Request::from_parts(*head, body);
    loop {
        let (h2, reused) = obtain(&pool, patience, &trail).await?;
        trail.note_connection(reused);
        if let Some(secured) = &h2.secured {
            trail.secured(secured.how, secured.peer.as_ref());
            if secured.how == "tls" {
                in_https(request.uri_mut());
            }
        }
        let stream = Stream::on(&h2);
        let mut sender = h2.sender.clone();
        let answered = sender.try_send_request(request).await;
        trail.stamp(clock::now());
        match answered {
            Ok(response) => {
                let (mut head, incoming) = response.into_parts();
                receive(&mut head)?;
                let body = Plain::new(incoming, Silence::new(patience.idle), stream);
                return Ok(Response::from_parts(head, ResponseBody::driven(body)));
            }
            Err(mut error) => match error.take_message() {
                Some(unsent) if reused => request = unsent,
                _ => {
                    let secured = h2.secured.as_ref();
                    let broken = secured.and_then(|secured| secured.broken.get());
                    return Err(match broken {
                        Some(flaw) => refused(*flaw, &trail),
                        None => refusal(error.into_error(), &trail),
                    });
                }
            },
        }
    }
}

/// A server of the web that is told `http` over TLS takes the request for one that was meant for another port (RFC 9110,
/// section 7.4).
fn in_https(uri: &mut Uri) {
    if uri.scheme() == Some(&Scheme::HTTP) {
        let mut parts = std::mem::take(uri).into_parts();
        parts.scheme = Some(Scheme::HTTPS);
        *uri = Uri::from_parts(parts).expect("only the scheme is another");
    }
}

/// REFUSED_STREAM and a GOAWAY that names an older stream promise that nothing was processed (RFC 9113 section 8.7).
fn refusal(error: hyper::Error, trail: &Trail) -> Fault {
    let mut fault = fault_of(&error, trail);
    let text = error_chain(&error);
    let is_unprocessed = text.contains("refused stream")
        // GOAWAY without an error, told to a stream beyond the last one that was taken.
        || text.contains("connection error received: not a result of an error");
    // We ended the connection: what came was not HTTP/2, an HTTP/1.1 server's answer to our preface most likely.
    if text.contains("connection error detected") {
        fault.reason = Reason::ProtocolError;
    }
    if fault.reason == Reason::Reset && is_unprocessed {
        fault.reason = Reason::Refused;
        fault.sent = Sent::No;
    }
    fault
}

fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

async fn obtain(
    pool: &Rc<Pool>,
    patience: Patience,
    trail: &Trail,
) -> Result<(Rc<H2>, bool), Fault> {
    loop {
        let now = clock::now();
        let found = {
            let connections = pool.h2().borrow();
            connections
                .iter()
                .rev()
                .find(|h2| h2.has_room(now) && !pool.is_superseded(h2.secured.as_deref()))
                .cloned()
        };
        if let Some(h2) = found {
            return Ok((h2, true));
        }
        if !pool.is_full() {
            return Ok((open(pool, patience, trail).await?, false));
        }
        pool.freed(trail).await;
    }
}

async fn open(pool: &Rc<Pool>, patience: Patience, trail: &Trail) -> Result<Rc<H2>, Fault> {
    let slot = pool.slot();
    let (stream, secured) = pool.connect(patience.connect, Inside::Http2, trail).await?;
    let (sender, connection) = http2::Builder::new(LocalExec)
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_WITHIN)
        // A proxy cancels streams as a matter of course (timeouts, clients that leave); the library's default would
        // take that for an attack by the peer and end the connection.
        .max_local_error_reset_streams(None)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Fault::unsent(Reason::ConnectFailed).because(error))?;
    tokio::task::spawn_local(async move {
        // Its error reaches the calls in flight.
        let _ = connection.await;
        drop(slot);
    });
    let now = clock::now();
    let h2 = Rc::new(H2 {
        sender,
        streams: Cell::new(0),
        resting_since: Cell::new(now),
        retires_at: retirement(now, secured.as_deref()),
        secured,
    });
    let mut connections = pool.h2().borrow_mut();
    connections.retain(|h2| !h2.sender.is_closed());
    connections.push(Rc::clone(&h2));
    Ok(h2)
}

/// Runs futures on the worker they were made on.
#[derive(Clone, Copy)]
pub struct LocalExec;

impl<F> hyper::rt::Executor<F> for LocalExec
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// A response body whose connection drives itself; `hold` is let go at its end.
pub(super) struct Plain<H> {
    incoming: Incoming,
    silence: Silence,
    hold: Option<H>,
}

impl<H> Plain<H> {
    pub(super) fn new(incoming: Incoming, silence: Silence, hold: H) -> Self {
        Self {
            incoming,
            silence,
            hold: Some(hold),
        }
    }
}

impl<H: Unpin> Body for Plain<H> {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Pending => this.silence.poll_too_long(cx).map(|()| {
                this.hold = None;
                Some(Err(Fault::maybe_sent(Reason::IdleTimeout)))
            }),
            Poll::Ready(Some(Ok(frame))) => {
                this.silence.broken();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                this.hold = None;
                Poll::Ready(Some(Err(
                    Fault::maybe_sent(Reason::ResponseAborted).because(error)
                )))
            }
            Poll::Ready(None) => {
                this.hold = None;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
