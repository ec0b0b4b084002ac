//! One HTTP/1.1 request and its response.
//!
//! The connection has no task of its own. Whoever waits for the response polls the connection beside it, and the body
//! does so afterwards: no wake-up goes through a second task, and dropping the exchange closes the connection.

use std::future::poll_fn;
use std::pin::Pin;
use std::pin::pin;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use http::Request;
use http::Response;
use http::StatusCode;
use http::Version;
use http::header;
use http::response::Parts;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use crate::clock;
use crate::connect::tls::Inside;
use crate::connect::tls::Secured;
use crate::connect::tls::Wire;
use crate::endpoint::gate::Gate;
use crate::endpoint::idle::Silence;
use crate::endpoint::pool::Patience;
use crate::endpoint::pool::Pool;
use crate::endpoint::pool::Slot;
use crate::endpoint::pool::retirement;
use crate::http::Call;
use crate::http::Fault;
use crate::http::Outcome;
use crate::http::Reason;
use crate::http::RequestBody;
use crate::http::ResponseBody;
use crate::http::Trail;
use crate::http::strict;
use crate::identity::Flaw;
use crate::identity::flaw;

type Connection = http1::Connection<TokioIo<Wire>, RequestBody>;

/// An open HTTP/1.1 connection.
pub(super) struct H1 {
    sender: http1::SendRequest<RequestBody>,
    connection: Pin<Box<Connection>>,
    gate: Gate,
    ended: bool,
    pub(super) retires_at: Instant,
    pub(super) resting_since: Instant,
    /// `None`: nobody asked for that.
    pub(super) secured: Option<Box<Secured>>,
    pub(super) slot: Slot,
}

impl H1 {
    /// Lets the connection make progress. Whoever then goes to wait says so at the gate.
    fn drive(&mut self) {
        if !self.ended {
            let mut cx = self.gate.driving();
            self.ended = self.connection.as_mut().poll(&mut cx).is_ready();
        }
    }

    /// Whether a request can be sent on it now. Driven only if something happened to it while it rested: its waker knows.
    pub(super) fn is_usable(&mut self) -> bool {
        if self.gate.has_news() {
            self.drive();
        }
        self.is_done()
    }

    /// Whether it comes to rest once its last response was taken.
    fn settles(&mut self) -> bool {
        self.drive();
        self.is_done()
    }

    /// Whether the last response has been read in full and the connection may serve again.
    fn is_done(&self) -> bool {
        !self.ended && self.sender.is_ready()
    }
}

/// Opens HTTP/1.1 to the endpoint of `pool`, without sending anything yet.
pub(super) async fn handshake(
    pool: &Rc<Pool>,
    slot: Slot,
    connect: Duration,
    trail: &Trail,
) -> Result<Box<H1>, Fault> {
    let (stream, secured) = pool.connect(connect, Inside::Http1, trail).await?;
    let (sender, connection) = builder()
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Fault::unsent(Reason::ConnectFailed).because(error))?;
    let now = clock::now();
    Ok(Box::new(H1 {
        sender,
        connection: Box::pin(connection),
        gate: Gate::new(),
        ended: false,
        retires_at: retirement(now, secured.as_deref()),
        resting_since: now,
        secured,
        slot,
    }))
}

pub(super) fn builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    // Field names go out as they came in only up to case; HTTP says case carries no meaning, and keeping it would cost
    // a map per message.
    builder.max_buf_size(MAX_BUFFER);
    builder
}

/// Largest read buffer of a connection, so also the largest response head.
const MAX_BUFFER: usize = 256 * 1024;

pub(super) async fn send(pool: Rc<Pool>, call: Call, patience: Patience) -> Outcome {
    let trail = call.trail;
    let (mut head, mut body) = (call.head, call.body);
    loop {
        let (mut h1, reused) = obtain(&pool, patience, &trail).await?;
        trail.note_connection(reused);
        if let Some(secured) = &h1.secured {
            trail.secured(secured.how, secured.peer.as_ref());
        }
        let answered = {
            let request = Request::from_parts(*head, body);
            let mut answer = pin!(h1.sender.try_send_request(request));
            poll_fn(|cx| {
                h1.drive();
                // Only the line above can make it ready, so it need not remember whom to wake.
                match answer.as_mut().poll(&mut silent()) {
                    Poll::Pending if h1.ended => Poll::Ready(None),
                    Poll::Pending => {
                        h1.gate.wait(cx);
                        Poll::Pending
                    }
                    Poll::Ready(answer) => Poll::Ready(Some(answer)),
                }
            })
            .await
        };
        trail.stamp(clock::now());
        let mut fault = match answered {
            Some(Ok(response)) => return respond(&pool, h1, response, patience.idle, trail.now()),
            Some(Err(mut error)) => match error.take_message() {
                // Handed back by a kept connection that had just died: nobody saw it, so it simply goes elsewhere.
                Some(unsent) if reused => {
                    let (parts, unread) = unsent.into_parts();
                    (head, body) = (Box::new(parts), unread);
                    continue;
                }
                _ => fault_of(&error.into_error(), &trail),
            },
            None => blame(&trail, Fault::maybe_sent(Reason::Reset)),
        };
        fault.stale = reused && fault.reason == Reason::Reset;
        return Err(fault);
    }
}

/// The context of somebody who need not be woken.
fn silent() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

async fn obtain(
    pool: &Rc<Pool>,
    patience: Patience,
    trail: &Trail,
) -> Result<(Box<H1>, bool), Fault> {
    loop {
        if let Some(h1) = pool.take(trail.now()) {
            return Ok((h1, true));
        }
        if !pool.is_full() {
            let slot = pool.slot();
            // Boxed, as are other rare turns, so that the future of the usual turn stays small.
            let opened = Box::pin(handshake(pool, slot, patience.connect, trail)).await?;
            return Ok((opened, false));
        }
        pool.freed(trail).await;
        trail.stamp(clock::now());
    }
}

fn respond(
    pool: &Rc<Pool>,
    h1: Box<H1>,
    response: Response<Incoming>,
    idle: Duration,
    now: Instant,
) -> Outcome {
    let (mut head, incoming) = response.into_parts();
    receive(&mut head)?;
    let body = if h1.is_done() {
        let body = ResponseBody::here(incoming);
        // Taking the body out looks like news to the connection, and is none.
        h1.gate.forget_news();
        pool.give(h1, now);
        body
    } else if h1.ended {
        ResponseBody::here(incoming)
    } else {
        ResponseBody::driven(H1Body {
            incoming,
            h1: Some(h1),
            pool: Rc::clone(pool),
            silence: Silence::new(idle),
        })
    };
    Ok(Response::from_parts(head, body))
}

/// Makes the head of an upstream's response fit to be passed on: one framing, no field that was meant for us alone.
pub(super) fn receive(head: &mut Parts) -> Result<(), Fault> {
    strict::check_response(&mut head.headers).map_err(Fault::maybe_sent)?;
    let switches = head.status == StatusCode::SWITCHING_PROTOCOLS;
    strict::strip_response(&mut head.headers, switches);
    head.headers.append(header::VIA, strict::via(head.version));
    // What version the client is answered in is between it and our server, not the upstream's to say.
    head.version = Version::HTTP_11;
    Ok(())
}

/// A response body that drives its connection, and gives it back when all of it was read.
struct H1Body {
    incoming: Incoming,
    h1: Option<Box<H1>>,
    pool: Rc<Pool>,
    silence: Silence,
}

impl H1Body {
    fn release(&mut self) {
        if let Some(mut h1) = self.h1.take()
            && h1.settles()
        {
            self.pool.give(h1, clock::now());
        }
    }
}

impl Body for H1Body {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = self.get_mut();
        if let Some(h1) = &mut this.h1 {
            h1.drive();
        }
        // As above: frames come only from driving the connection.
        match Pin::new(&mut this.incoming).poll_frame(&mut silent()) {
            Poll::Pending => {
                if let Some(h1) = &this.h1 {
                    h1.gate.wait(cx);
                }
                this.silence.poll_too_long(cx).map(|()| {
                    this.h1 = None;
                    Some(Err(Fault::maybe_sent(Reason::IdleTimeout)))
                })
            }
            Poll::Ready(Some(Ok(frame))) => {
                this.silence.broken();
                if this.incoming.is_end_stream() {
                    this.release();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                this.h1 = None;
                Poll::Ready(Some(Err(
                    Fault::maybe_sent(Reason::ResponseAborted).because(error)
                )))
            }
            Poll::Ready(None) => {
                this.release();
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

/// The fault that an error of the connection stands for.
pub(super) fn fault_of(error: &hyper::Error, trail: &Trail) -> Fault {
    if let Some(error) = flaw::beneath(error) {
        return refused(Flaw::of(error), trail);
    }
    let reason = if error.is_parse() {
        Reason::ProtocolError
    } else if error.is_timeout() {
        Reason::TryTimeout
    } else {
        Reason::Reset
    };
    let fault = if error.is_canceled() {
        Fault::unsent(reason)
    } else {
        Fault::maybe_sent(reason)
    };
    blame(trail, fault.because(error))
}

/// In TLS 1.3 the other side judges our certificate after we have begun to speak, so its refusal comes in place of an answer. It
/// has not looked at the request then: no later alert is about certificates, for we let nobody ask for one again.
pub(super) fn refused(flaw: Flaw, trail: &Trail) -> Fault {
    let fault = match flaw.reason() {
        Reason::TlsRefused if flaw != Flaw::Alert => Fault::unsent(Reason::TlsRefused),
        Reason::TlsRefused => Fault::maybe_sent(Reason::TlsRefused),
        _ => Fault::maybe_sent(Reason::Reset),
    }
    .unsecured(flaw.word());
    trail.not_secured(flaw.word());
    blame(trail, fault)
}

/// A body that the client broke looks to the connection like any other failure; the trail knows better.
fn blame(trail: &Trail, fault: Fault) -> Fault {
    match trail.client_fault.get() {
        Some(reason) => Fault::maybe_sent(reason),
        None => fault,
    }
}
