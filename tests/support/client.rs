//! A raw HTTP/1.1 client: sends the bytes it is given and reads responses strictly.

use std::net::SocketAddr;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::call::Call;
use super::call::Reply;
use super::wire::Fault;
use super::wire::Framing;
use super::wire::Head;
use super::wire::Wire;
use super::wire::latin1;
use super::within;

/// How the peer ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Closed,
    Reset,
}

/// One connection.
#[derive(Debug)]
pub struct Raw {
    pub wire: Wire<TcpStream>,
}

impl Raw {
    /// # Panics
    /// When nothing listens there.
    pub async fn connect(addr: SocketAddr) -> Self {
        match Self::try_connect(addr).await {
            Ok(raw) => raw,
            Err(error) => panic!("connect to {addr}: {error}"),
        }
    }

    /// # Errors
    /// When nothing listens there.
    pub async fn try_connect(addr: SocketAddr) -> std::io::Result<Self> {
        let stream = within("connect", TcpStream::connect(addr)).await?;
        stream.set_nodelay(true)?;
        Ok(Raw {
            wire: Wire::new(stream),
        })
    }

    /// # Panics
    /// When the connection has failed.
    pub async fn send(&mut self, bytes: &[u8]) {
        if let Err(fault) = within("send", self.wire.send(bytes)).await {
            panic!("send {:?}: {fault}", latin1(&bytes[..bytes.len().min(120)]));
        }
    }

    /// Sends what may be refused half-way: the proxy may close while the rest is on its way.
    pub async fn offer(&mut self, bytes: &[u8]) {
        let _ = within("offer", self.wire.send(bytes)).await;
    }

    /// Ends our side; the other may go on.
    pub async fn finish(&mut self) {
        let _ = self.wire.io.shutdown().await;
    }

    /// # Panics
    /// When the response breaks a rule or does not come.
    pub async fn reply(&mut self, method: &str) -> Reply {
        match self.try_reply(method).await {
            Ok(Some(reply)) => reply,
            Ok(None) => panic!("the connection ended without a response"),
            Err(fault) => panic!("response: {fault}"),
        }
    }

    /// `None` when the connection ends in order before a response begins.
    ///
    /// # Errors
    /// When the response breaks a rule or is cut.
    pub async fn try_reply(&mut self, method: &str) -> Result<Option<Reply>, Fault> {
        let mut reply = Reply::default();
        let Some(head) = self.head_after(&mut reply.interim).await? else {
            return Ok(None);
        };
        let framing = head.response_framing(method)?;
        reply.status = head.status()?;
        reply.body = within("the body of a response", self.wire.body(framing)).await?;
        reply.head = head;
        Ok(Some(reply))
    }

    /// Reads only the head of a response, and how its body will end.
    ///
    /// # Panics
    /// When it breaks a rule or does not come.
    pub async fn head(&mut self, method: &str) -> (u16, Head, Framing) {
        let head = match self.head_after(&mut Vec::new()).await {
            Ok(Some(head)) => head,
            other => panic!("expected the head of a response, got {other:?}"),
        };
        let framing = head.response_framing(method).expect("one framing");
        (head.status().expect("a status line"), head, framing)
    }

    async fn head_after(&mut self, interim: &mut Vec<u16>) -> Result<Option<Head>, Fault> {
        loop {
            let Some(head) = within("the head of a response", self.wire.head()).await? else {
                return Ok(None);
            };
            match head.status()? {
                status @ (100 | 102..=199) => interim.push(status),
                _ => return Ok(Some(head)),
            }
        }
    }

    /// Sends the call and reads its response.
    ///
    /// # Panics
    /// When either fails.
    pub async fn call(&mut self, call: &Call) -> Reply {
        self.send(&call.bytes()).await;
        self.reply(&call.method).await
    }

    /// Reads exactly these bytes.
    ///
    /// # Panics
    /// When others come, or none.
    pub async fn expect(&mut self, bytes: &[u8]) {
        while self.wire.ahead.len() < bytes.len() {
            match within("bytes", self.wire.more()).await {
                Ok(true) => {}
                other => panic!(
                    "{other:?} before {:?}; got {:?}",
                    latin1(bytes),
                    latin1(&self.wire.ahead)
                ),
            }
        }
        let got: Vec<u8> = self.wire.ahead.drain(..bytes.len()).collect();
        assert!(
            got == bytes,
            "expected {:?}, got {:?}",
            latin1(bytes),
            latin1(&got)
        );
    }

    /// Waits until the peer ends the connection; bytes on the way are returned.
    pub async fn end(&mut self) -> (End, Vec<u8>) {
        let mut rest = std::mem::take(&mut self.wire.ahead);
        let end = match within(
            "the end of the connection",
            self.wire.io.read_to_end(&mut rest),
        )
        .await
        {
            Ok(_) => End::Closed,
            Err(_) => End::Reset,
        };
        (end, rest)
    }

    /// Reads the head of an interim response alone.
    ///
    /// # Panics
    /// When something else comes.
    pub async fn interim(&mut self) -> u16 {
        let head = within("an interim response", self.wire.head())
            .await
            .expect("a good head")
            .expect("a head");
        head.status().expect("a status line")
    }
}
