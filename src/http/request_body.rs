//! The body of a request: streamed as it arrives, kept for a replay within a bound.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use hyper::body::Incoming;

use crate::clock;
use crate::http::Fault;
use crate::http::Reason;
use crate::http::Trail;
use crate::http::replay;
use crate::http::strict;

/// The request body of one try.
///
/// All tries of a call share one source. Frames already read from the client are kept, up to the replay bound, and
/// given again from the start to the next try. Past the bound nothing is kept and [`RequestBody::replayable`] turns
/// false: the call can then only be repeated if no byte of it was sent.
pub enum RequestBody {
    /// No body at all, the case of nearly every GET.
    Empty,
    /// A streamed body and this try's place in it.
    Stream(Reader),
}

/// One try's place in the shared body.
pub struct Reader {
    shared: Rc<RefCell<Source>>,
    next: usize,
}

struct Source {
    incoming: Option<Incoming>,
    kept: Vec<Bytes>,
    kept_bytes: u64,
    bound: u64,
    /// Why it is not kept; `None`: all of it is, so far.
    lost: Option<Lost>,
    /// Its part of the memory of all that is kept.
    share: replay::Share,
    received: u64,
    limit: Option<u64>,
    trailers: Option<HeaderMap>,
    finished: bool,
    progress: Instant,
    starved: bool,
    trail: Rc<Trail>,
}

/// Why a body cannot be given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    /// It is larger than the bound of the call.
    TooLarge,
    /// The bodies of other calls take up the memory for that.
    CrowdedOut,
}

impl RequestBody {
    /// Wraps what the client sends. `bound` is the replay bound in bytes (0 keeps nothing), `limit` the largest body.
    #[must_use]
    pub fn new(incoming: Incoming, bound: u64, limit: Option<u64>, trail: &Rc<Trail>) -> Self {
        if incoming.is_end_stream() {
            return Self::Empty;
        }
        Self::Stream(Reader {
            shared: Rc::new(RefCell::new(Source {
                incoming: Some(incoming),
                kept: Vec::new(),
                kept_bytes: 0,
                bound,
                lost: None,
                share: replay::Share::default(),
                received: 0,
                limit,
                trailers: None,
                finished: false,
                progress: trail.started,
                starved: false,
                trail: Rc::clone(trail),
            })),
            next: 0,
        })
    }

    /// The same body from its beginning.
    #[must_use]
    pub fn rewind(&self) -> Self {
        match self {
            Self::Empty => Self::Empty,
            Self::Stream(reader) => Self::Stream(Reader {
                shared: Rc::clone(&reader.shared),
                next: 0,
            }),
        }
    }

    /// Whether the whole body, as far as it was read, can be given again.
    #[must_use]
    pub fn replayable(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Stream(reader) => {
                let source = reader.shared.borrow();
                source.bound > 0 && source.lost.is_none() || source.received == 0
            }
        }
    }

    /// Whether it cannot be given again only because the bodies of other calls take up the memory for that.
    #[must_use]
    pub fn is_crowded_out(&self) -> bool {
        match self {
            Self::Empty => false,
            Self::Stream(reader) => reader.shared.borrow().lost == Some(Lost::CrowdedOut),
        }
    }

    /// Whether the client has sent all of it.
    #[must_use]
    pub fn finished(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Stream(reader) => reader.shared.borrow().finished,
        }
    }

    /// When the client last sent a part of it; `None` for an empty body.
    #[must_use]
    pub fn progress(&self) -> Option<Instant> {
        match self {
            Self::Empty => None,
            Self::Stream(reader) => Some(reader.shared.borrow().progress),
        }
    }

    /// Whether the upstream has asked for more than the client has sent so far: then it is the client who is slow.
    #[must_use]
    pub fn starved(&self) -> bool {
        match self {
            Self::Empty => false,
            Self::Stream(reader) => reader.shared.borrow().starved,
        }
    }

    /// Sets the replay bound, known only once the call is routed.
    pub fn keep_up_to(&self, bound: u64) {
        if let Self::Stream(reader) = self {
            reader.shared.borrow_mut().bound = bound;
        }
    }

    /// Bytes of body received from the client so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Stream(reader) => reader.shared.borrow().received,
        }
    }
}

impl Source {
    fn keep(&mut self, chunk: &Bytes) {
        if self.lost.is_some() {
            return;
        }
        self.kept_bytes += chunk.len() as u64;
        if self.bound == 0 || self.kept_bytes > self.bound {
            self.lost = Some(Lost::TooLarge);
        } else if !self.share.grow(chunk.len() as u64) {
            self.lost = Some(Lost::CrowdedOut);
        } else {
            self.kept.push(chunk.clone());
            return;
        }
        self.kept = Vec::new();
        self.share.give_back();
    }

    fn fail(&mut self, reason: Reason) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        self.trail.client_fault.set(Some(reason));
        self.incoming = None;
        Poll::Ready(Some(Err(Fault::maybe_sent(reason))))
    }

    fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let Some(incoming) = &mut self.incoming else {
            return Poll::Ready(None);
        };
        let frame = match Pin::new(incoming).poll_frame(cx) {
            Poll::Pending => {
                self.starved = true;
                return Poll::Pending;
            }
            Poll::Ready(None) => {
                self.finished = true;
                self.progress = clock::now();
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Err(_))) => return self.fail(Reason::InvalidBody),
            Poll::Ready(Some(Ok(frame))) => frame,
        };
        self.progress = clock::now();
        self.starved = false;
        match frame.into_data() {
            Ok(data) => {
                self.received += data.len() as u64;
                if self.limit.is_some_and(|limit| self.received > limit) {
                    return self.fail(Reason::BodyTooLarge);
                }
                self.keep(&data);
                self.finished = self.incoming.as_ref().is_some_and(Body::is_end_stream);
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => {
                    if strict::check_trailers(&trailers).is_err() {
                        return self.fail(Reason::InvalidBody);
                    }
                    self.trailers = Some(trailers.clone());
                    self.finished = true;
                    Poll::Ready(Some(Ok(Frame::trailers(trailers))))
                }
                Err(frame) => Poll::Ready(Some(Ok(frame))),
            },
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let Self::Stream(reader) = self.get_mut() else {
            return Poll::Ready(None);
        };
        let mut source = reader.shared.borrow_mut();
        if let Some(chunk) = source.kept.get(reader.next) {
            reader.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(chunk.clone()))));
        }
        if source.finished {
            // Trailers were already read for an earlier try; this try gets them once, at its own end.
            if reader.next != usize::MAX && source.trailers.is_some() {
                reader.next = usize::MAX;
                return Poll::Ready(source.trailers.clone().map(|t| Ok(Frame::trailers(t))));
            }
            return Poll::Ready(None);
        }
        let polled = source.poll_client(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) if frame.is_data() => reader.next += 1,
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => reader.next = usize::MAX,
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Stream(reader) => {
                let source = reader.shared.borrow();
                source.finished && reader.next >= source.kept.len() && source.trailers.is_none()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Stream(reader) => {
                let source = reader.shared.borrow();
                let waiting: u64 = source
                    .kept
                    .iter()
                    .skip(reader.next)
                    .map(|chunk| chunk.len() as u64)
                    .sum();
                let rest = source
                    .incoming
                    .as_ref()
                    .map(Body::size_hint)
                    .unwrap_or_default();
                match rest.exact() {
                    Some(exact) => SizeHint::with_exact(exact + waiting),
                    None => SizeHint::default(),
                }
            }
        }
    }
}
