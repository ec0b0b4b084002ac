//! The body of a response on its way back to the client.

use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use hyper::body::Incoming;

use crate::http::Fault;
use crate::http::Reason;

/// The gRPC status of a call whose time was up.
pub(super) const GRPC_DEADLINE_EXCEEDED: u8 = 4;

/// How a response body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All of it was read. `grpc_status` is that of the trailers, where there were any.
    Complete {
        /// `grpc-status`, where trailers carried one.
        grpc_status: Option<u8>,
    },
    /// The upstream ended it part-way, or it fell silent.
    Failed(Reason),
    /// The server said that its time was up, and its caller had left it too little: see [`ResponseBody::hurry`].
    Hurried,
    /// The client went away first.
    Dropped,
}

type OnEnd = Box<dyn FnOnce(Ended)>;

/// A response body, with whatever must happen at its end.
pub struct ResponseBody {
    kind: Kind,
    // Boxed: rare, and a body is moved often on its way to the client.
    peeked: Option<Box<Frame<Bytes>>>,
    on_end: Vec<OnEnd>,
    grpc_status: Option<u8>,
    hurried: bool,
}

enum Kind {
    Empty,
    Full(Bytes),
    /// All bytes are here already.
    Here(Incoming),
    /// It ended part-way before anyone read it.
    Broken(Option<Fault>),
    /// A body that drives its connection and gives it back at the end.
    Driven(Pin<Box<dyn Body<Data = Bytes, Error = Fault>>>),
}

impl ResponseBody {
    fn of(kind: Kind) -> Self {
        Self {
            kind,
            peeked: None,
            on_end: Vec::new(),
            grpc_status: None,
            hurried: false,
        }
    }

    /// No body.
    #[must_use]
    pub fn empty() -> Self {
        Self::of(Kind::Empty)
    }

    /// A body made by outrider itself.
    #[must_use]
    pub fn full(bytes: Bytes) -> Self {
        Self::of(Kind::Full(bytes))
    }

    /// An upstream's body that has arrived in full and needs no connection any more. Its only chunk, as nearly always, is
    /// taken out at once.
    #[must_use]
    pub fn here(mut incoming: Incoming) -> Self {
        let mut cx = Context::from_waker(Waker::noop());
        match Pin::new(&mut incoming).poll_frame(&mut cx) {
            Poll::Ready(None) => Self::empty(),
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(bytes) if incoming.is_end_stream() => Self::full(bytes),
                Ok(bytes) => Self::ahead(Frame::data(bytes), incoming),
                Err(frame) => Self::ahead(frame, incoming),
            },
            Poll::Ready(Some(Err(error))) => Self::of(Kind::Broken(Some(
                Fault::maybe_sent(Reason::ResponseAborted).because(error),
            ))),
            Poll::Pending => Self::of(Kind::Here(incoming)),
        }
    }

    fn ahead(frame: Frame<Bytes>, incoming: Incoming) -> Self {
        let mut body = Self::of(Kind::Here(incoming));
        body.peeked = Some(Box::new(frame));
        body
    }

    /// Whether the upstream still has a part in it.
    #[must_use]
    pub fn is_streaming(&self) -> bool {
        matches!(self.kind, Kind::Driven(_))
    }

    /// An upstream's body that drives its own connection.
    #[must_use]
    pub fn driven(body: impl Body<Data = Bytes, Error = Fault> + 'static) -> Self {
        Self::of(Kind::Driven(Box::pin(body)))
    }

    /// Calls `f` once when the body ends, however it ends.
    pub fn on_end(&mut self, f: impl FnOnce(Ended) + 'static) {
        self.on_end.push(Box::new(f));
    }

    /// Notes that the caller had left the upstream much less time than policy gives: that it ran out says nothing then.
    pub fn hurry(&mut self) {
        self.hurried = true;
    }

    /// Whether [`ResponseBody::hurry`] was called.
    #[must_use]
    pub fn is_hurried(&self) -> bool {
        self.hurried
    }

    /// Reads one frame ahead. A trailers frame seen so is given back by [`ResponseBody::peeked_trailers`]; no frame is
    /// lost.
    ///
    /// # Errors
    /// The fault that ended the body before its first frame.
    pub async fn peek(&mut self) -> Result<(), Fault> {
        if self.peeked.is_none() {
            let frame = std::future::poll_fn(|cx| self.poll_inner(cx)).await;
            self.peeked = frame.transpose()?.map(Box::new);
        }
        Ok(())
    }

    /// Trailers that came with no data before them.
    #[must_use]
    pub fn peeked_trailers(&self) -> Option<&HeaderMap> {
        self.peeked.as_deref().and_then(Frame::trailers_ref)
    }

    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match &mut self.kind {
            Kind::Empty => Poll::Ready(None),
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.kind = Kind::Empty;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Kind::Here(incoming) => Pin::new(incoming).poll_frame(cx).map(|frame| {
                frame.map(|result| {
                    result
                        .map_err(|error| Fault::maybe_sent(Reason::ResponseAborted).because(error))
                })
            }),
            Kind::Broken(fault) => Poll::Ready(fault.take().map(Err)),
            Kind::Driven(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn end(&mut self, how: Ended) {
        let out_of_time = Ended::Complete {
            grpc_status: Some(GRPC_DEADLINE_EXCEEDED),
        };
        let how = if self.hurried && how == out_of_time {
            Ended::Hurried
        } else {
            how
        };
        for f in self.on_end.drain(..) {
            f(how);
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = self.get_mut();
        let polled = match this.peeked.take() {
            Some(frame) => Poll::Ready(Some(Ok(*frame))),
            None => this.poll_inner(cx),
        };
        match &polled {
            Poll::Pending => {}
            Poll::Ready(None) => {
                let grpc_status = this.grpc_status;
                this.end(Ended::Complete { grpc_status });
            }
            Poll::Ready(Some(Err(fault))) => this.end(Ended::Failed(fault.reason)),
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    this.grpc_status = crate::http::grpc_status_of(trailers);
                }
                if this.is_end_stream() {
                    let grpc_status = this.grpc_status;
                    this.end(Ended::Complete { grpc_status });
                }
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.peeked.is_none()
            && match &self.kind {
                Kind::Empty => true,
                Kind::Full(bytes) => bytes.is_empty(),
                Kind::Here(incoming) => incoming.is_end_stream(),
                Kind::Broken(fault) => fault.is_none(),
                Kind::Driven(body) => body.is_end_stream(),
            }
    }

    fn size_hint(&self) -> SizeHint {
        let rest = match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Here(incoming) => incoming.size_hint(),
            Kind::Broken(_) => SizeHint::default(),
            Kind::Driven(body) => body.size_hint(),
        };
        match (&self.peeked, rest.exact()) {
            (None, _) => rest,
            (Some(frame), Some(exact)) => {
                let ahead = frame.data_ref().map_or(0, Bytes::len) as u64;
                SizeHint::with_exact(exact + ahead)
            }
            (Some(_), None) => SizeHint::default(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // A body that was complete before anyone polled it (HEAD, 204) ended well; any other was abandoned.
        let how = if self.is_end_stream() {
            Ended::Complete {
                grpc_status: self.grpc_status,
            }
        } else {
            Ended::Dropped
        };
        self.end(how);
    }
}
