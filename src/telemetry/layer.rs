//! The outermost layer: sees what the client sees, and tells of it once, when it is over.

use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use http::HeaderValue;
use http::Method;
use http::Response;
use http::Version;
use http::header;
use http::uri::PathAndQuery;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use pin_project_lite::pin_project;
use tokio::sync::Notify;
use tower::Layer;
use tower::Service;

use crate::clock;
use crate::http::Call;
use crate::http::Cut;
use crate::http::Fault;
use crate::http::MethodClass;
use crate::http::Outcome;
use crate::http::Reason;
use crate::http::RequestBody;
use crate::http::ResponseBody;
use crate::http::Trail;
use crate::http::answer;
use crate::http::hops;
use crate::http::is_grpc;
use crate::redact;
use crate::redact::Clean;
use crate::rng;
use crate::telemetry::RouteMetrics;
use crate::telemetry::access_log;
use crate::telemetry::access_log::Line;
use crate::telemetry::access_log::LogBuffer;
use crate::telemetry::access_log::Place;
use crate::telemetry::access_log::path_of;
use crate::telemetry::story;
use crate::telemetry::story::Kind;
use crate::telemetry::story::Names;
use crate::telemetry::story::Stories;
use crate::telemetry::story::Story;

/// How long a line may wait before it is handed to the writer.
pub const LOG_TICK: Duration = Duration::from_millis(100);

/// One worker's end of the access log.
pub struct WorkerLog {
    buffer: RefCell<LogBuffer>,
    has_lines: Notify,
}

impl WorkerLog {
    /// Collects lines in `buffer`.
    #[must_use]
    pub fn new(buffer: LogBuffer) -> Rc<Self> {
        Rc::new(Self {
            buffer: RefCell::new(buffer),
            has_lines: Notify::new(),
        })
    }

    /// Adds a line.
    pub fn line(&self, line: &Line<'_>) {
        let mut buffer = self.buffer.borrow_mut();
        if !buffer.needs_flush() {
            self.has_lines.notify_one();
        }
        buffer.line(line);
    }

    /// Hands lines over a tick after the first one came; sleeps while there are none. Runs as long as the worker.
    pub async fn flush_at_ticks(self: Rc<Self>) {
        loop {
            self.has_lines.notified().await;
            tokio::time::sleep(LOG_TICK).await;
            self.buffer.borrow_mut().flush();
        }
    }

    /// Hands over what there is.
    pub fn flush(&self) {
        self.buffer.borrow_mut().flush();
    }
}

/// What the layer needs to know of its route.
pub struct Observer {
    /// The handles of the route.
    pub metrics: Arc<RouteMetrics>,
    /// This worker's index.
    pub worker: usize,
    /// `None` when the policy turns the access log off.
    pub log: Option<Rc<WorkerLog>>,
    /// What every line of the route says.
    pub place: Place,
    /// What calls are remembered by, and the names that their stories go under.
    pub memory: Memory,
}

/// Where the stories of one route's calls are kept.
pub struct Memory {
    /// Which are.
    pub settings: story::Settings,
    /// All that are, of every route.
    pub stories: Arc<Stories>,
    /// What was matched.
    pub names: Names,
}

/// Counts and logs every call; turns a fault into the answer that says it.
#[derive(Clone)]
pub struct ObserveLayer {
    observer: Rc<Observer>,
}

impl ObserveLayer {
    /// Tells of calls to `observer`'s handles.
    #[must_use]
    pub fn new(observer: Observer) -> Self {
        Self {
            observer: Rc::new(observer),
        }
    }
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Observe<S> {
        Observe {
            inner,
            observer: Rc::clone(&self.observer),
        }
    }
}

/// See [`ObserveLayer`].
#[derive(Clone)]
pub struct Observe<S> {
    inner: S,
    observer: Rc<Observer>,
}

impl<S> Service<Call> for Observe<S>
where
    S: Service<Call, Response = Response<ResponseBody>, Error = Fault>,
{
    type Response = Response<Observed>;
    type Error = Infallible;
    type Future = ObserveFuture<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let record = Record::begin(&self.observer, &call);
        ObserveFuture {
            grpc: is_grpc(&call.head.headers),
            record: Some(record),
            inner: self.inner.call(call),
        }
    }
}

pin_project! {
    /// A call whose end will be told.
    pub struct ObserveFuture<F> {
        #[pin]
        inner: F,
        record: Option<Box<Record>>,
        grpc: bool,
    }
}

impl<F: Future<Output = Outcome>> Future for ObserveFuture<F> {
    type Output = Result<Response<Observed>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Poll::Ready(outcome) = this.inner.poll(cx) else {
            return Poll::Pending;
        };
        let mut record = this
            .record
            .take()
            .expect("a future is not polled after it is ready");
        let mut response = match outcome {
            Ok(response) => response,
            Err(fault) => {
                record.reason = Some(fault.reason);
                if let Some(detail) = &fault.detail {
                    tracing::debug!(reason = fault.reason.word(), %detail, "fault");
                }
                let request_id = record.trail.request_id.borrow();
                let mut response = answer(&fault, request_id.as_ref(), *this.grpc);
                let own = fault.reason.forbids_retry().then(|| fault.reason.word());
                if let Some(why) = fault.no_retry.or(own)
                    && record.trail.terms.get().retry_holds()
                {
                    hops::forbid_retry(response.headers_mut(), why, *this.grpc);
                }
                response
            }
        };
        if let Some(what) = record.trail.injected.get() {
            // Nobody should look for the cause in the upstream.
            let what = HeaderValue::from_static(what);
            response.headers_mut().insert("outrider-injected", what);
        }
        if record.trail.reset_client.get() {
            response.extensions_mut().insert(Cut);
        }
        record.status = response.status().as_u16();
        let head_after = record
            .trail
            .now()
            .saturating_duration_since(record.trail.started);
        record.trail.head_after.set(Some(head_after));
        // A body that is all here ends with its head, for all that the clock can tell.
        record.awaited = response.body().is_streaming();
        Poll::Ready(Ok(response.map(|inner| Observed { inner, record })))
    }
}

/// The body as the client gets it; tells of the call when it ends or is dropped.
pub struct Observed {
    inner: ResponseBody,
    // Boxed: a body is moved several times before it is read.
    record: Box<Record>,
}

impl Body for Observed {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_frame(cx);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(frame))) => {
                this.record.bytes_out += frame.data_ref().map_or(0, Bytes::len) as u64;
            }
            Poll::Ready(Some(Err(fault))) => {
                this.record.reason = Some(fault.reason);
                this.record.complete = true;
            }
            Poll::Ready(None) => this.record.complete = true,
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        self.record.complete |= self.inner.is_end_stream();
    }
}

impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observed").finish_non_exhaustive()
    }
}

/// What will be told of one call. Dropping it tells it, so that no end is missed: not a panic, not a client that left.
struct Record {
    observer: Rc<Observer>,
    trail: Rc<Trail>,
    method: Method,
    path: Option<PathAndQuery>,
    host: Option<HeaderValue>,
    version: Version,
    upload: RequestBody,
    status: u16,
    reason: Option<Reason>,
    bytes_out: u64,
    complete: bool,
    awaited: bool,
}

impl Record {
    fn begin(observer: &Rc<Observer>, call: &Call) -> Box<Self> {
        observer.metrics.began();
        Box::new(Self {
            observer: Rc::clone(observer),
            trail: Rc::clone(&call.trail),
            method: call.head.method.clone(),
            path: call.head.uri.path_and_query().cloned(),
            host: call.head.headers.get(header::HOST).cloned().or_else(|| {
                let authority = call.head.uri.authority()?;
                HeaderValue::from_str(authority.as_str()).ok()
            }),
            version: call.head.version,
            upload: call.body.rewind(),
            status: 0,
            reason: None,
            bytes_out: 0,
            complete: false,
            awaited: true,
        })
    }

    fn tell(&mut self, now: Instant) {
        if !self.complete && self.reason.is_none() {
            self.reason = Some(Reason::ClientClosed);
        }
        if self.status == 0 {
            self.status = self.reason.map_or(0, Reason::status);
        }
        let duration = now.saturating_duration_since(self.trail.started);
        let observer = &self.observer;
        observer.metrics.request(
            observer.worker,
            MethodClass::of(&self.method),
            self.status,
            self.reason,
            duration,
        );
        observer.metrics.ended(self.trail.tries.get());
        if let Some(log) = &observer.log {
            self.write(log, duration);
        }
        let memory = &observer.memory;
        let settings = &memory.settings;
        let kind = Kind::of(settings, self.status, self.reason, duration, rng::draw);
        if let Some(kind) = kind {
            let story = self.story(memory, kind, duration);
            memory.stories.keep(story, settings.keep);
        }
    }

    fn story(&self, memory: &Memory, kind: Kind, took: Duration) -> Story {
        let trail = &self.trail;
        let (notes, lost) = trail.notes(|notes| (notes.all().into(), notes.lost()));
        Story {
            number: 0,
            kind,
            names: memory.names.clone(),
            request_id: trail.request_id.borrow().as_ref().and_then(own),
            trace: trail.trace.get(),
            began: trail.began,
            peer: trail.peer.get(),
            method: self.method.clone(),
            host: self.host.as_ref().and_then(own),
            path: self.path.as_ref().map_or("", PathAndQuery::path).into(),
            protocol: protocol(self.version),
            status: self.status,
            reason: self.reason,
            took,
            head: trail.head_after.get(),
            bytes_in: self.upload.received(),
            bytes_out: self.bytes_out,
            tries: trail.tries.get(),
            endpoint: trail.endpoint.get(),
            kept: trail.kept.get(),
            notes,
            lost,
        }
    }

    fn write(&self, log: &WorkerLog, duration: Duration) {
        let observer = &self.observer;
        let request_id = self.trail.request_id.borrow();
        let peer = self.trail.tls_peer.borrow();
        let trace_id = self.trail.trace.get().map(|mark| hex(mark.trace_id));
        let caller = self.trail.caller.borrow();
        log.line(&Line {
            caller: redact::text(caller.as_ref().map_or(b"", |caller| caller.id.as_bytes())),
            request_id: redact::id(request_id.as_ref().map_or(b"", HeaderValue::as_bytes)),
            trace_id: Clean::vetted(trace_id.as_ref().map_or(&b""[..], |id| &id[..])),
            host: redact::text(self.host.as_ref().map_or(b"", HeaderValue::as_bytes)),
            method: redact::text(self.method.as_str().as_bytes()),
            path: path_of(
                self.path
                    .as_ref()
                    .map_or(b"", |path| path.path().as_bytes()),
            ),
            protocol: protocol(self.version),
            status: self.status,
            reason: self.reason,
            tries: self.trail.tries.get(),
            retry_skipped: self.trail.retry_skipped.get(),
            hedged: self.trail.hedged.get(),
            injected: self.trail.injected.get(),
            cache: self.trail.cache.get(),
            cache_why: self.trail.cache_why.get(),
            tls: self.trail.tls.get(),
            peer: peer.as_deref().map(|peer| redact::text(peer.as_bytes())),
            endpoint: self.trail.endpoint.get(),
            duration,
            head: self.trail.head_after.get(),
            bytes_in: self.upload.received(),
            bytes_out: self.bytes_out,
            ..Line::new(access_log::Kind::Request, self.trail.began, &observer.place)
        });
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let now = if self.awaited {
            clock::now()
        } else {
            self.trail.now()
        };
        self.tell(now);
    }
}

/// A copy with memory of its own: the value is a piece of a whole read buffer, which a story would hold on to.
fn own(value: &HeaderValue) -> Option<HeaderValue> {
    HeaderValue::from_bytes(value.as_bytes()).ok()
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2",
        _ => "",
    }
}

pub(super) fn hex(bytes: [u8; 16]) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 32];
    for (i, byte) in bytes.iter().enumerate() {
        text[2 * i] = DIGITS[usize::from(byte >> 4)];
        text[2 * i + 1] = DIGITS[usize::from(byte & 15)];
    }
    text
}
