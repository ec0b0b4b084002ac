//! A connection to an endpoint: bytes in and out, plain or in TLS.

use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::task::Context;
use std::task::Poll;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::identity::Flaw;
use crate::identity::flaw::tls_error;

/// The plain one in place, since it is the usual one; the other is larger, and costs more than a box anyway.
#[derive(Debug)]
pub enum Wire {
    /// TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<Protected>),
}

/// TLS over TCP, and why it broke.
#[derive(Debug)]
pub struct Protected {
    pub(super) stream: TlsStream<TcpStream>,
    pub(super) broken: Broken,
}

/// Why TLS broke after the handshake, once it has: what stands above may tell of it in words of its own, or not at all.
pub type Broken = Arc<OnceLock<Flaw>>;

impl Protected {
    fn note(&self, error: &io::Error) {
        if let Some(error) = tls_error(error) {
            // The first is the cause of all that follow.
            let _ = self.broken.set(Flaw::of(error));
        }
    }
}

macro_rules! either {
    ($self:ident, $io:ident => $do:expr) => {
        match $self.get_mut() {
            Self::Plain(stream) => {
                let $io = Pin::new(stream);
                $do
            }
            Self::Tls(protected) => {
                let $io = Pin::new(&mut protected.stream);
                let polled = $do;
                if let Poll::Ready(Err(error)) = &polled {
                    protected.note(error);
                }
                polled
            }
        }
    };
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, io => io.poll_read(cx, into))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, io => io.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => io.poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, io => io.poll_write_vectored(cx, parts))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(protected) => protected.stream.is_write_vectored(),
        }
    }
}
