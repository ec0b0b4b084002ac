//! Reading the first bytes without losing them.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use bytes::BytesMut;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::detect::machine;
use crate::detect::machine::Sni;
use crate::detect::machine::Verdict;

/// What the first bytes said, and the bytes themselves, to be read again by whoever comes next.
#[derive(Debug)]
pub struct First {
    /// The protocol; `None` if the client sent nothing within the time, as one does that waits for the server to begin.
    pub verdict: Option<Verdict>,
    /// Everything read so far.
    pub bytes: Bytes,
    /// The server name of a TLS ClientHello.
    pub sni: Option<String>,
}

/// Reads until the protocol is known, for `patience` at most. Bytes that came but still told nothing are opaque.
///
/// # Errors
/// When the connection fails or ends before it said anything.
pub async fn read_first<I>(stream: &mut I, patience: Duration) -> io::Result<First>
where
    I: AsyncRead + Unpin,
{
    let mut bytes = BytesMut::with_capacity(8 * 1024);
    let verdict = match timeout(patience, until_known(stream, &mut bytes)).await {
        Ok(verdict) => Some(verdict?),
        Err(_elapsed) if bytes.is_empty() => None,
        Err(_elapsed) => Some(Verdict::Opaque),
    };
    let mut sni = None;
    if verdict == Some(Verdict::Tls) {
        // The name is worth no more waiting than the protocol was: without it the tunnel only loses its label.
        sni = timeout(patience, until_named(stream, &mut bytes))
            .await
            .unwrap_or(Ok(None))?;
    }
    Ok(First {
        verdict,
        bytes: bytes.freeze(),
        sni,
    })
}

async fn until_known<I>(stream: &mut I, bytes: &mut BytesMut) -> io::Result<Verdict>
where
    I: AsyncRead + Unpin,
{
    loop {
        if stream.read_buf(bytes).await? == 0 {
            // A client that half-closes after a few odd bytes still wants them delivered.
            return if bytes.is_empty() {
                Err(io::ErrorKind::UnexpectedEof.into())
            } else {
                Ok(Verdict::Opaque)
            };
        }
        match machine::classify(bytes) {
            Verdict::More => {}
            known => return Ok(known),
        }
    }
}

async fn until_named<I>(stream: &mut I, bytes: &mut BytesMut) -> io::Result<Option<String>>
where
    I: AsyncRead + Unpin,
{
    loop {
        match machine::sni(bytes) {
            Sni::Name(name) => return Ok(Some(name)),
            Sni::None => return Ok(None),
            Sni::More => {
                if stream.read_buf(bytes).await? == 0 {
                    return Ok(None);
                }
            }
        }
    }
}
