//! HTTP/2 frames and literal HPACK, by hand: what a library would refuse to send is what must be tried.

use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;

/// What a client sends first (RFC 9113 section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const CANCEL: u32 = 8;
pub const REFUSED_STREAM: u32 = 7;
pub const NO_ERROR: u32 = 0;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Frame {
            kind,
            flags,
            stream,
            payload: payload.into(),
        }
    }

    pub fn settings() -> Self {
        Self::new(SETTINGS, 0, 0, Vec::new())
    }

    /// A whole header block that ends the stream, or not.
    pub fn headers(stream: u32, fields: &[(&[u8], &[u8])], end: bool) -> Self {
        Self::new(
            HEADERS,
            END_HEADERS | if end { END_STREAM } else { 0 },
            stream,
            literal(fields),
        )
    }

    pub fn data(stream: u32, bytes: &[u8], end: bool) -> Self {
        Self::new(DATA, if end { END_STREAM } else { 0 }, stream, bytes)
    }

    pub fn reset(stream: u32, code: u32) -> Self {
        Self::new(RST_STREAM, 0, stream, code.to_be_bytes())
    }

    pub fn goaway(last: u32, code: u32) -> Self {
        Self::new(
            GOAWAY,
            0,
            0,
            [last.to_be_bytes(), code.to_be_bytes()].concat(),
        )
    }

    pub fn window(stream: u32, more: u32) -> Self {
        Self::new(WINDOW_UPDATE, 0, stream, more.to_be_bytes())
    }

    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len())
            .expect("frames of a test are short")
            .to_be_bytes();
        let mut out = vec![length[1], length[2], length[3], self.kind, self.flags];
        out.extend_from_slice(&self.stream.to_be_bytes());
        out.extend_from_slice(&self.payload);
        out
    }

    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The error code of RST_STREAM or GOAWAY.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        let four = self
            .payload
            .get(at..at + 4)
            .and_then(|four| four.try_into().ok());
        u32::from_be_bytes(four.unwrap_or_default())
    }

    /// `:status`, which is always the first field of a response.
    pub fn status(&self) -> Option<u16> {
        status_of(&self.payload)
    }
}

/// A header block of literals: never indexed, no Huffman code, so that every byte arrives as it is.
pub fn literal(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0x10);
        string(&mut out, name);
        string(&mut out, value);
    }
    out
}

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    // An integer with a 7-bit prefix (RFC 7541 section 5.1); the first bit says that there is no Huffman code.
    let mut length = bytes.len();
    if length < 0x7f {
        out.push(u8::try_from(length).expect("below 127"));
    } else {
        out.push(0x7f);
        length -= 0x7f;
        while length >= 0x80 {
            out.push(u8::try_from(length % 0x80).expect("below 128") | 0x80);
            length /= 0x80;
        }
        out.push(u8::try_from(length).expect("below 128"));
    }
    out.extend_from_slice(bytes);
}

/// Reads `:status` where it stands, at the start of the block: from the static table, or as three digits.
fn status_of(block: &[u8]) -> Option<u16> {
    const TABLE: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    let mut block = block;
    // Changes of the table size may come before the first field.
    while block.first().is_some_and(|byte| byte & 0xe0 == 0x20) {
        let long = block[0] & 0x1f == 0x1f;
        block = &block[1..];
        while long && block.first().is_some_and(|byte| byte & 0x80 != 0) {
            block = &block[1..];
        }
        block = if long { block.get(1..)? } else { block };
    }
    let first = *block.first()?;
    if first & 0x80 != 0 {
        return TABLE
            .get(usize::from(first & 0x7f).checked_sub(8)?)
            .copied();
    }
    let named = matches!(first, 0x48..=0x4e | 0x08..=0x0e);
    let length = *block.get(1)?;
    let text = block.get(2..2 + usize::from(length & 0x7f))?;
    if !named {
        return None;
    }
    let digits = if length & 0x80 == 0 {
        text.to_vec()
    } else {
        digits(text)
    };
    String::from_utf8(digits).ok()?.parse().ok()
}

/// Decimal digits out of their Huffman codes (RFC 7541 appendix B): 0 to 2 have five bits, 3 to 9 six.
fn digits(bytes: &[u8]) -> Vec<u8> {
    let mut bits = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1));
    let mut next = |code: u8| bits.next().map(|bit| code << 1 | bit);
    let mut out = Vec::new();
    loop {
        let mut code = Some(0);
        for _ in 0..5 {
            code = code.and_then(&mut next);
        }
        match code {
            Some(digit @ 0..=2) => out.push(b'0' + digit),
            Some(more) => match next(more) {
                Some(code @ 0x19..=0x1f) => out.push(b'3' + (code - 0x19)),
                _ => return out,
            },
            None => return out,
        }
    }
}

/// Reads one frame; `None` at the end of the stream, in order or not.
pub async fn read(io: &mut (impl AsyncRead + Unpin)) -> Option<Frame> {
    let mut head = [0; 9];
    io.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
    let mut payload = vec![0; usize::try_from(length).ok()?];
    io.read_exact(&mut payload).await.ok()?;
    Some(Frame {
        kind: head[3],
        flags: head[4],
        stream,
        payload,
    })
}

/// Writes one frame.
///
/// # Errors
/// When the peer has gone.
pub async fn write(io: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> std::io::Result<()> {
    io.write_all(&frame.bytes()).await
}

#[test]
fn a_status_is_read_in_every_form() {
    assert_eq!(status_of(&[0x88]), Some(200));
    assert_eq!(status_of(&[0x3f, 0xe1, 0x1f, 0x8c]), Some(400));
    assert_eq!(status_of(&[0x48, 0x03, b'5', b'0', b'3']), Some(503));
    // 503 is 011011 00000 011001, filled up with ones.
    assert_eq!(
        status_of(&[0x48, 0x83, 0b0110_1100, 0b0000_1100, 0b1111_1111]),
        Some(503)
    );
}
