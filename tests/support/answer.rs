//! Responses to order, byte for byte.

use super::wire::Body;

/// What the connection does once the bytes of an act are out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Waits for the next request.
    Keep,
    /// Closes in order, though nothing in the answer said so.
    Close,
    /// Ends by RST, whatever is still in flight.
    Reset,
    /// Stops sending but goes on reading.
    HalfClose,
    /// Keeps the connection, sends nothing more, answers nothing more.
    Stall,
    /// Waits until the next request has begun to arrive and then ends by RST without reading it: the keep-alive race.
    Race,
}

/// A response to order.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Body,
    /// Sent in these pieces as chunks; otherwise with Content-Length.
    pub chunks: Option<Vec<Vec<u8>>>,
    /// Declares this length instead of the true one.
    pub length: Option<usize>,
    pub after: After,
}

impl Answer {
    pub fn status(status: u16) -> Self {
        Answer {
            status,
            fields: Vec::new(),
            body: Body::default(),
            chunks: None,
            length: None,
            after: After::Keep,
        }
    }

    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        let mut answer = Self::status(200);
        answer.body.content = body.into();
        answer
    }

    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn text(mut self, body: &str) -> Self {
        self.body.content = body.as_bytes().to_vec();
        self
    }

    pub fn chunked(mut self, pieces: &[&[u8]]) -> Self {
        self.chunks = Some(pieces.iter().map(|piece| piece.to_vec()).collect());
        self
    }

    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        self.body.trailers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn length(mut self, length: usize) -> Self {
        self.length = Some(length);
        self
    }

    pub fn then(mut self, after: After) -> Self {
        self.after = after;
        self
    }

    /// The bytes of the answer; `bare` leaves the body out, as for HEAD.
    pub fn bytes(&self, bare: bool) -> Vec<u8> {
        let mut out = format!("HTTP/1.1 {} Scripted\r\n", self.status).into_bytes();
        for (name, value) in &self.fields {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        let no_body = matches!(self.status, 100..=199 | 204);
        if self.chunks.is_some() {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        } else if !no_body {
            let length = self.length.unwrap_or(self.body.content.len());
            out.extend_from_slice(format!("content-length: {length}\r\n").as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        if bare || no_body || self.status == 304 {
            return out;
        }
        let Some(pieces) = &self.chunks else {
            out.extend_from_slice(&self.body.content);
            return out;
        };
        for piece in pieces {
            out.extend_from_slice(&chunk(piece));
        }
        out.extend_from_slice(b"0\r\n");
        for (name, value) in &self.body.trailers {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        out
    }
}

/// One chunk of the chunked coding.
pub fn chunk(piece: &[u8]) -> Vec<u8> {
    let mut out = format!("{:x}\r\n", piece.len()).into_bytes();
    out.extend_from_slice(piece);
    out.extend_from_slice(b"\r\n");
    out
}

/// A byte sequence in which every shift, loss and repetition shows.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| u8::try_from((at / 251 + at) % 256).expect("below 256"))
        .collect()
}
