//! A raw HTTP/2 client with prior knowledge: sends the frames it is given.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::h2frame;
use super::h2frame::ACK;
use super::h2frame::DATA;
use super::h2frame::END_STREAM;
use super::h2frame::Frame;
use super::h2frame::GOAWAY;
use super::h2frame::HEADERS;
use super::h2frame::PING;
use super::h2frame::PREFACE;
use super::h2frame::RST_STREAM;
use super::h2frame::SETTINGS;
use super::within;

/// What the peer made of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// A response with this status and body.
    Answered(u16, Vec<u8>),
    /// RST_STREAM with this code.
    Reset(u32),
    /// GOAWAY with this code, or the end of the connection.
    ConnectionEnded(Option<u32>),
}

impl Fate {
    /// The request was refused in one of the ways that HTTP/2 has.
    pub fn is_refusal(&self, statuses: &[u16]) -> bool {
        match self {
            Fate::Answered(status, _) => statuses.contains(status),
            Fate::Reset(_) | Fate::ConnectionEnded(_) => true,
        }
    }
}

/// One connection.
pub struct H2Raw {
    io: TcpStream,
}

/// The pseudo fields of a plain GET.
pub fn get<'a>(path: &'a [u8], authority: &'a [u8]) -> Vec<(&'a [u8], &'a [u8])> {
    vec![
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", authority),
    ]
}

impl H2Raw {
    /// Connects and sends the preface and empty settings.
    pub async fn connect(addr: SocketAddr) -> Self {
        let mut io = within("connect", TcpStream::connect(addr))
            .await
            .expect("connect");
        io.set_nodelay(true).expect("a connected socket");
        io.write_all(PREFACE).await.expect("send the preface");
        h2frame::write(&mut io, &Frame::settings())
            .await
            .expect("send settings");
        H2Raw { io }
    }

    /// Sends what may be refused half-way.
    pub async fn offer(&mut self, frames: &[Frame]) {
        for frame in frames {
            if within("offer a frame", h2frame::write(&mut self.io, frame))
                .await
                .is_err()
            {
                return;
            }
        }
    }

    /// Reads until the fate of `stream` is known, answering settings and pings.
    pub async fn fate(&mut self, stream: u32) -> Fate {
        let (mut status, mut body) = (None, Vec::new());
        loop {
            let Some(frame) = within("a frame", h2frame::read(&mut self.io)).await else {
                return Fate::ConnectionEnded(None);
            };
            match frame.kind {
                SETTINGS | PING if !frame.has(ACK) => {
                    let payload = if frame.kind == PING {
                        frame.payload
                    } else {
                        Vec::new()
                    };
                    self.offer(&[Frame::new(frame.kind, ACK, 0, payload)]).await;
                }
                GOAWAY if frame.code() != h2frame::NO_ERROR => {
                    return Fate::ConnectionEnded(Some(frame.code()));
                }
                RST_STREAM if frame.stream == stream => return Fate::Reset(frame.code()),
                HEADERS | DATA if frame.stream == stream => {
                    if frame.kind == HEADERS && status.is_none() {
                        status = Some(frame.status().unwrap_or(0));
                    } else if frame.kind == DATA {
                        body.extend_from_slice(&frame.payload);
                    }
                    if frame.has(END_STREAM) {
                        return Fate::Answered(status.unwrap_or(0), body);
                    }
                }
                _ => {}
            }
        }
    }

    /// Sends one header block as stream 1, ended, and tells its fate.
    pub async fn ask(addr: SocketAddr, fields: &[(&[u8], &[u8])]) -> Fate {
        let mut h2 = Self::connect(addr).await;
        h2.offer(&[Frame::headers(1, fields, true)]).await;
        h2.fate(1).await
    }
}
