//! A body on its way into the store.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;

use crate::clock;
use crate::http::Fault;
use crate::http::Reason;
use crate::http::ResponseBody;
use crate::policy::cache::layer::Policy;
use crate::policy::cache::layer::entry::Entry;
use crate::policy::cache::layer::entry::Head;
use crate::policy::cache::layer::fetch::next;
use crate::policy::cache::layer::fill::Lead;
use crate::policy::cache::layer::fill::Part;
use crate::policy::cache::layer::fill::Reader;
use crate::policy::cache::layer::parts;
use crate::policy::cache::layer::store::Key;
use crate::policy::cache::layer::store::Room;
use crate::policy::cache::layer::tier::Pass;

/// What it takes to keep an answer whose head is here.
pub struct Pump {
    pub lead: Lead,
    pub policy: Rc<Policy>,
    pub key: Key,
    /// What it takes to tell other pods.
    pub pass: Option<Pass>,
    /// What the client sent, by which the answer is selected.
    pub request: HeaderMap,
    pub head: Arc<Head>,
    pub room: Room,
    /// The length of the body, where it is known.
    pub length: Option<u64>,
}

/// Where a body goes on that turned out too large to be kept.
type Rest = Rc<RefCell<Option<ResponseBody>>>;

/// Reads `body` into the store. Gives back the body for the client whose call fetched it, and whether the answer is kept,
/// or will be if it arrives whole: of one whose length nobody knows that cannot be said.
pub async fn start(pump: Pump, mut body: ResponseBody) -> (ResponseBody, bool) {
    let mut first = None;
    if !body.is_streaming() {
        // All of it is here, nearly always in one piece: no task is needed, and nobody has to wait.
        match next(&mut body).await {
            None => return (ResponseBody::empty(), pump.finish(Bytes::new(), None)),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if body.is_end_stream() => {
                    let own = Bytes::copy_from_slice(&data);
                    return (ResponseBody::full(data), pump.finish(own, None));
                }
                Ok(data) => first = Some(Ok(Frame::data(data))),
                Err(frame) => first = Some(Ok(frame)),
            },
            Some(Err(fault)) => first = Some(Err(fault)),
        }
    }
    let (fill, length) = (Arc::clone(&pump.lead.fill), pump.length);
    if length.is_some() {
        // Others may stream behind: that the body will be kept to its end is known.
        fill.begin(Arc::clone(&pump.head));
    }
    let rest = Rest::default();
    let reader = Reading {
        reader: Reader::new(fill, length),
        handed: Rc::clone(&rest),
        rest: None,
    };
    // A task of its own: a client that reads slowly or leaves holds up nobody else.
    tokio::task::spawn_local(pump.run(body, first, rest));
    (ResponseBody::driven(reader), length.is_some())
}

impl Pump {
    async fn run(
        mut self,
        mut body: ResponseBody,
        mut first: Option<Result<Frame<Bytes>, Fault>>,
        rest: Rest,
    ) {
        let guard = Rc::clone(&self.policy);
        let largest = guard.largest();
        let (mut bytes, mut trailers) = (0, None);
        loop {
            let frame = match first.take() {
                Some(frame) => Some(frame),
                None => next(&mut body).await,
            };
            let frame = match frame {
                None => break,
                Some(Ok(frame)) => frame,
                Some(Err(fault)) => {
                    return self.broken(fault.reason);
                }
            };
            match frame.into_data() {
                Ok(data) => {
                    bytes += data.len() as u64;
                    let fits = self.length.is_some() || self.room.take(data.len() as u64);
                    self.lead.fill.push(data);
                    if bytes > self.length.unwrap_or(largest) || !fits {
                        return self.overflow(body, &rest);
                    }
                }
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        if self.length.is_some_and(|length| length != bytes) {
            return self.broken(Reason::ResponseAborted);
        }
        let whole = self.lead.fill.collect();
        self.finish(whole, trailers);
    }

    /// Puts the answer into the store and lets those know who wait. Says whether it is kept.
    fn finish(mut self, body: Bytes, trailers: Option<HeaderMap>) -> bool {
        let head = Arc::clone(&self.head);
        let entry = Arc::new(Entry { head, body });
        let stamp = self.lead.fill.stamp;
        let is_kept = self.policy.put(&self.key, stamp, &entry, &self.request);
        if is_kept {
            self.policy.stored(&self.key);
            if let Some(pass) = self.pass.take() {
                pass.share(&entry, &self.request);
            }
        } else {
            let is_part = entry.head.facts.part.is_some();
            self.policy
                .not_stored(if is_part { "partial" } else { "invalidated" });
        }
        self.lead.fill.end(entry, trailers);
        self.lead.close();
        is_kept
    }

    /// It ended part-way. What came of it is kept as the part that it is (RFC 9111 section 3.3).
    fn broken(self, reason: Reason) {
        self.policy.not_stored("truncated");
        let came = self.length.map(|total| (self.lead.fill.collect(), total));
        let entry = came.and_then(|(came, total)| parts::beginning(&self.head, came, total));
        if let Some(entry) = entry {
            let stamp = self.lead.fill.stamp;
            self.policy
                .put_part(&self.key, stamp, &entry, &self.request);
        }
        self.lead.fill.break_off(reason);
    }

    /// It is too large after all. Whoever fetched it reads on by itself; nobody else has begun, for the length was unknown.
    fn overflow(mut self, body: ResponseBody, rest: &Rest) {
        self.policy.not_stored("too_large");
        self.policy.mark(&self.key, clock::now());
        if self.length.is_some() {
            // More came than was announced.
            self.lead.fill.break_off(Reason::ResponseAborted);
            return;
        }
        // Alone with it, the reader has left: dropping the body closes the exchange.
        if Rc::strong_count(rest) > 1 {
            *rest.borrow_mut() = Some(body);
        }
        self.lead.fill.release();
        self.lead.close();
    }
}

/// The body as its fetcher's client reads it.
struct Reading {
    reader: Reader,
    handed: Rest,
    rest: Option<ResponseBody>,
}

impl Body for Reading {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = self.get_mut();
        if this.rest.is_none() {
            match this.reader.poll_part(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Part::Elsewhere) => this.rest = this.handed.take(),
                Poll::Ready(part) => return Poll::Ready(part.into_frame()),
            }
        }
        match &mut this.rest {
            Some(rest) => Pin::new(rest).poll_frame(cx),
            None => Poll::Ready(Some(Err(Fault::maybe_sent(Reason::ResponseAborted)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.rest {
            Some(rest) => rest.is_end_stream(),
            None => self.reader.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.rest {
            Some(rest) => rest.size_hint(),
            None => self.reader.size_hint(),
        }
    }
}
