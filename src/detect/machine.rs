//! What a connection speaks, from its first bytes.
//!
//! | the bytes so far | verdict |
//! |---|---|
//! | none, or only empty lines | More |
//! | a part of the HTTP/2 preface | More |
//! | the whole preface (RFC 9113 section 3.4) | Http2 |
//! | 0x16 | More |
//! | 0x16 0x03: a TLS handshake record (RFC 8446 section 5.1), unless a later byte says otherwise | Tls |
//! | the beginning of a token | More |
//! | a known method and a space | Http1 |
//! | another token and a space, no line end yet | Http1 |
//! | another token and a space, the line names HTTP | Http1 |
//! | another token and a space, the line does not name HTTP: `EHLO a`, `get key`, `SSH-2.0-a b` | Opaque |
//! | anything else | Opaque |
//!
//! Nothing is consumed: the caller peeks, asks, and peeks again on More until it has waited long enough, which makes the
//! connection Opaque. A server-first protocol sends nothing and ends that way too.

/// What the first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// An HTTP/1 request line has begun.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// A TLS ClientHello.
    Tls,
    /// None of these: to be passed on untouched.
    Opaque,
    /// Too few bytes to tell.
    More,
}

/// The server name that a ClientHello asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sni {
    /// The host name, in lower case.
    Name(String),
    /// There is none, or the bytes are no well-formed ClientHello.
    None,
    /// The ClientHello is not complete.
    More,
}

/// The longest ClientHello that is looked into, record headers included: one full TLS record. Real ones are under 4 KiB
/// even with post-quantum key shares.
pub const HELLO_MAX: usize = 16 * 1024;

/// The longest method token. Registered ones end at 17 bytes (`UPDATEREDIRECTREF`).
pub const METHOD_MAX: usize = 32;

/// Empty lines before a request line that are skipped (RFC 9112 section 2.2 asks for one at least).
const EMPTY_LINES_MAX: usize = 4;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const METHODS: [&[u8]; 9] = [
    b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH",
];

/// Reads the first bytes of a connection by the table above.
#[must_use]
pub fn classify(bytes: &[u8]) -> Verdict {
    match bytes.first() {
        None => Verdict::More,
        Some(0x16) => classify_tls(bytes),
        Some(_) if bytes.starts_with(PREFACE) => Verdict::Http2,
        Some(_) if PREFACE.starts_with(bytes) => Verdict::More,
        Some(_) => classify_http1(bytes),
    }
}

fn classify_tls(bytes: &[u8]) -> Verdict {
    let fits = |i: usize, is: fn(u8) -> bool| bytes.get(i).is_none_or(|b| is(*b));
    // Major version 3, any minor up to TLS 1.3; then the length, then the handshake type: client_hello is 1.
    if !(fits(1, |b| b == 3) && fits(2, |b| b <= 4) && fits(5, |b| b == 1)) {
        return Verdict::Opaque;
    }
    if bytes.len() < 2 {
        Verdict::More
    } else {
        Verdict::Tls
    }
}

fn classify_http1(bytes: &[u8]) -> Verdict {
    let empty = bytes
        .iter()
        .take(2 * EMPTY_LINES_MAX)
        .take_while(|b| matches!(b, b'\r' | b'\n'))
        .count();
    let line = &bytes[empty..];
    let token = line
        .iter()
        .take(METHOD_MAX)
        .take_while(|b| is_tchar(**b))
        .count();
    match line.get(token) {
        None => Verdict::More,
        Some(b' ') if token > 0 => {
            let known = METHODS.contains(&&line[..token]);
            let end = line.iter().position(|b| *b == b'\n');
            let foreign = end.is_some_and(|end| !line[..end].windows(6).any(|w| w == b" HTTP/"));
            if foreign && !known {
                Verdict::Opaque
            } else {
                Verdict::Http1
            }
        }
        Some(_) => Verdict::Opaque,
    }
}

// RFC 9110 section 5.6.2.
fn is_tchar(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// Finds the server name in the first bytes of a TLS connection (RFC 8446 section 4.1.2, RFC 6066 section 3). Total: any
/// bytes give an answer. A ClientHello split over several records is put together, up to [`HELLO_MAX`].
#[must_use]
pub fn sni(bytes: &[u8]) -> Sni {
    match handshake(bytes) {
        Found::Hello(hello) => server_name(&hello).map_or(Sni::None, Sni::Name),
        Found::Short if bytes.len() < HELLO_MAX => Sni::More,
        Found::Short | Found::Foreign => Sni::None,
    }
}

enum Found {
    Hello(Vec<u8>),
    Short,
    Foreign,
}

// The body of the ClientHello, out of its records. What is there is checked before more is waited for.
fn handshake(bytes: &[u8]) -> Found {
    let mut message = Vec::new();
    let mut rest = bytes;
    while let Some(kind) = rest.first() {
        if *kind != 0x16 || rest.get(1).is_some_and(|major| *major != 3) {
            return Found::Foreign;
        }
        let [_, _, _, high, low, body @ ..] = rest else {
            return Found::Short;
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        // An empty handshake record is forbidden, and would let a peer feed us headers for ever.
        if length == 0 || length > HELLO_MAX {
            return Found::Foreign;
        }
        let part = &body[..length.min(body.len())];
        message.extend_from_slice(part);
        if let Some(found) = complete(&message) {
            return found;
        }
        rest = &body[part.len()..];
    }
    Found::Short
}

fn complete(message: &[u8]) -> Option<Found> {
    if message.first().is_some_and(|kind| *kind != 1) {
        return Some(Found::Foreign);
    }
    let [_, a, b, c, body @ ..] = message else {
        return None;
    };
    let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
    if length > HELLO_MAX {
        return Some(Found::Foreign);
    }
    body.get(..length).map(|body| Found::Hello(body.to_vec()))
}

fn server_name(hello: &[u8]) -> Option<String> {
    let mut hello = Reader(hello);
    hello.take(2 + 32)?; // legacy_version, random
    hello.vector8()?; // legacy_session_id
    hello.vector16()?; // cipher_suites
    hello.vector8()?; // legacy_compression_methods
    let mut extensions = Reader(hello.vector16()?);
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let data = extensions.vector16()?;
        if kind != 0 {
            continue;
        }
        let mut names = Reader(Reader(data).vector16()?);
        while !names.0.is_empty() {
            let kind = names.take(1)?;
            let name = names.vector16()?;
            if kind == [0] {
                return host_name(name);
            }
        }
    }
    None
}

// It goes into logs and labels, so nothing but a host name may pass. RFC 6066 forbids a trailing dot and addresses; both
// are seen, and harmless here.
fn host_name(name: &[u8]) -> Option<String> {
    let fits = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if name.is_empty() || name.len() > 253 || !name.iter().all(fits) {
        return None;
    }
    let name = String::from_utf8(name.to_ascii_lowercase()).ok()?;
    Some(name.trim_end_matches('.').to_owned()).filter(|name| !name.is_empty())
}

// What is left to read. Every step is checked: a length that lies gives none, never a panic.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn u16(&mut self) -> Option<u16> {
        let bytes = self.take(2)?;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = self.take(1)?[0];
        self.take(usize::from(length))
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }
}
