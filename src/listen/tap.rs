//! The stream of a client, with an ear on it.
//!
//! Three things the HTTP library does not tell are heard here: that a head has begun but not ended (its timer), that a
//! line ended in a bare LF (two parsers may read it differently), and that the library itself is about to answer a head
//! it could not parse. Its answer has no request ID and no reason word, so ours is sent in its place.

use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Instant;

use bytes::Buf;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;

use crate::clock;
use crate::http::Reason;
use crate::listen::Refusal;
use crate::listen::Refuse;

/// What was heard on one connection. Atomics only because an upgraded stream must be `Send`; it never leaves its worker.
#[derive(Debug)]
pub(super) struct Heard {
    calls: AtomicU32,
    quiet: AtomicBool,
    any_bytes: AtomicBool,
    bare_lf: AtomicBool,
    head_since: Mutex<Option<Instant>>,
    head_is_open: AtomicBool,
    refused: Mutex<Option<Refusal>>,
}

impl Heard {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            calls: AtomicU32::new(0),
            quiet: AtomicBool::new(true),
            any_bytes: AtomicBool::new(true),
            bare_lf: AtomicBool::new(false),
            head_since: Mutex::new(None),
            head_is_open: AtomicBool::new(false),
            refused: Mutex::new(None),
        })
    }

    /// A request is being handled until the guard is dropped with the end of its response.
    pub(super) fn call(self: &Arc<Self>) -> InCall {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.quiet.store(false, Ordering::Relaxed);
        if self.head_is_open.swap(false, Ordering::Relaxed) {
            *self.head_since.lock() = None;
        }
        InCall(Arc::clone(self))
    }

    pub(super) fn is_busy(&self) -> bool {
        self.calls.load(Ordering::Relaxed) > 0
    }

    /// Whether any byte came since this was last asked.
    pub(super) fn take_any_bytes(&self) -> bool {
        self.any_bytes.swap(false, Ordering::Relaxed)
    }

    /// Whether the current head had a line that ended in a bare LF.
    pub(super) fn bare_lf(&self) -> bool {
        self.bare_lf.load(Ordering::Relaxed)
    }

    /// When the head began that is still incomplete.
    pub(super) fn head_since(&self) -> Option<Instant> {
        if self.head_is_open.load(Ordering::Relaxed) {
            *self.head_since.lock()
        } else {
            None
        }
    }

    /// The answer that went out in place of the library's.
    pub(super) fn take_refused(&self) -> Option<Refusal> {
        self.refused.lock().take()
    }

    fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::Relaxed)
    }

    fn flushed(&self) {
        if !self.is_busy() {
            self.quiet.store(true, Ordering::Relaxed);
        }
    }
}

/// One request being handled.
#[derive(Debug)]
pub(super) struct InCall(Arc<Heard>);

impl Drop for InCall {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A client's stream: first the bytes already read for detection, then the rest.
pub(super) struct Tap<I> {
    inner: I,
    first: Bytes,
    heard: Arc<Heard>,
    lines: Option<Lines>,
    refuse: Refuse,
    ours: Option<Substitute>,
}

/// Our bytes in place of `replaces` bytes of the library's.
struct Substitute {
    bytes: Bytes,
    replaces: usize,
}

impl<I> Tap<I> {
    pub(super) fn new(inner: I, first: Bytes, heard: Arc<Heard>, refuse: Refuse) -> Self {
        Self {
            inner,
            first,
            heard,
            lines: Some(Lines::default()),
            refuse,
            ours: None,
        }
    }

    /// The same for a protocol without lines: only that bytes come is heard.
    pub(super) fn without_lines(self) -> Self {
        Self {
            lines: None,
            ..self
        }
    }

    pub(super) fn into_inner(self) -> I {
        self.inner
    }

    fn listen(&mut self, bytes: &[u8]) {
        self.heard.any_bytes.store(true, Ordering::Relaxed);
        let Some(lines) = &mut self.lines else { return };
        if !self.heard.is_quiet() {
            *lines = Lines::default();
            return;
        }
        if lines.is_at_start() {
            self.heard.bare_lf.store(false, Ordering::Relaxed);
        }
        let ended = lines.hear(bytes);
        if lines.has_bare_lf() {
            self.heard.bare_lf.store(true, Ordering::Relaxed);
        }
        if ended {
            *lines = Lines::default();
        } else if !self.heard.head_is_open.swap(true, Ordering::Relaxed) {
            *self.heard.head_since.lock() = Some(clock::now());
        }
    }

    /// The reason behind a head that only the library can have written: nobody was being served.
    fn library_refusal(&self, bytes: &[u8]) -> Option<Reason> {
        if self.lines.is_none() || !self.heard.is_quiet() || !bytes.starts_with(b"HTTP/1.1 4") {
            return None;
        }
        Some(match bytes.get(9..12) {
            Some(b"414") => Reason::UriTooLong,
            Some(b"431") => Reason::HeadTooLarge,
            _ => Reason::MalformedRequest,
        })
    }
}

/// Follows the lines of a head.
#[derive(Debug, Default)]
pub(super) struct Lines {
    last: u8,
    in_line: bool,
    any: bool,
    bare: bool,
}

impl Lines {
    fn is_at_start(&self) -> bool {
        !self.any && !self.in_line
    }

    /// Whether a line so far ended in LF alone.
    pub(super) fn has_bare_lf(&self) -> bool {
        self.bare
    }

    /// True once the empty line was heard that ends the head.
    pub(super) fn hear(&mut self, bytes: &[u8]) -> bool {
        let mut from = 0;
        for lf in memchr::memchr_iter(b'\n', bytes) {
            let before = if lf > from { bytes[lf - 1] } else { self.last };
            let has_text = self.in_line || bytes[from..lf].iter().any(|byte| *byte != b'\r');
            if before != b'\r' {
                self.bare = true;
            }
            if !has_text && self.any {
                return true;
            }
            self.any |= has_text;
            self.in_line = false;
            self.last = 0;
            from = lf + 1;
        }
        if let Some(last) = bytes[from..].last() {
            self.last = *last;
            self.in_line |= bytes[from..].iter().any(|byte| *byte != b'\r');
        }
        false
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Tap<I> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.first.has_remaining() {
            let part = this.first.split_to(this.first.len().min(buf.remaining()));
            this.listen(&part);
            buf.put_slice(&part);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.inner).poll_read(cx, buf);
        if buf.filled().len() > before {
            this.listen(&buf.filled()[before..]);
        }
        polled
    }
}

impl<I: AsyncWrite + Unpin> Tap<I> {
    /// Writes the rest of our own answer; ready with the length of what it replaces.
    fn poll_ours(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        while let Some(ours) = &mut self.ours {
            if ours.bytes.is_empty() {
                let replaces = ours.replaces;
                self.ours = None;
                return Poll::Ready(Ok(replaces));
            }
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &ours.bytes))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            ours.bytes.advance(written);
        }
        Poll::Ready(Ok(0))
    }

    fn replaced(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Option<Poll<io::Result<usize>>> {
        if self.ours.is_none() {
            let reason = self.library_refusal(bytes)?;
            let refusal = (self.refuse)(reason);
            self.ours = Some(Substitute {
                bytes: refusal.bytes.clone(),
                replaces: bytes.len(),
            });
            *self.heard.refused.lock() = Some(refusal);
        }
        Some(self.poll_ours(cx))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Tap<I> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match this.replaced(cx, bytes) {
            Some(polled) => polled,
            None => Pin::new(&mut this.inner).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let first = parts.iter().find(|part| !part.is_empty());
        match first.and_then(|first| this.replaced(cx, first)) {
            Some(polled) => polled,
            None => Pin::new(&mut this.inner).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.inner).poll_flush(cx);
        if flushed.is_ready() {
            this.heard.flushed();
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}
