//! A tunnelled stream whose bytes are counted as they flow: whatever ends a tunnel, a reset most often, what went through
//! before is known.

use std::io;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;

use crate::telemetry::Tunnel;

/// The client's side of a tunnel.
#[derive(Debug)]
pub struct Metered<S> {
    inner: S,
    tunnel: Tunnel,
    out: u64,
    back: u64,
}

impl<S> Metered<S> {
    /// Counts what is read from `inner` as going out and what is written to it as coming back.
    #[must_use]
    pub fn new(inner: S, tunnel: Tunnel) -> Self {
        Self {
            inner,
            tunnel,
            out: 0,
            back: 0,
        }
    }

    /// Bytes so far: to the upstream, and back.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        (self.out, self.back)
    }

    /// Counts bytes that were read before this stream was metered.
    pub fn sent_ahead(&mut self, bytes: u64) {
        self.out += bytes;
        self.tunnel.bytes(bytes, 0);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        this.sent_ahead((buf.filled().len() - before) as u64);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.inner).poll_write(cx, bytes))?;
        this.back += written as u64;
        this.tunnel.bytes(0, written as u64);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}
