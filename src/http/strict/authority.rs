//! Who a request is for: the grammar of `Host`, and the name and port read out of it.

use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use http::HeaderValue;
use http::uri::Authority;

use crate::http::Reason;

/// The longest name in DNS presentation form, without the trailing dot (RFC 1035 section 2.3.4).
const NAME_MAX: usize = 253;

/// The longest label (RFC 1035 section 2.3.4).
const LABEL_MAX: usize = 63;

/// The port of `http` when none is written (RFC 9110 section 4.2.1).
pub const DEFAULT_PORT: u16 = 80;

/// How the request target was written (RFC 9112 section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `/path?query`, or the pseudo fields of HTTP/2.
    Origin,
    /// `http://host/path`, as sent to a proxy.
    Absolute,
    /// `host:port` of a CONNECT.
    Authority,
    /// `*` of an OPTIONS.
    Asterisk,
}

/// How the end of the request body is found (RFC 9112 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No field says so: no body in HTTP/1, the stream's end in HTTP/2.
    Unsaid,
    /// `Content-Length`, in bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// Where the authority was read, kept as it came so that sending it on copies nothing.
#[derive(Clone, Debug)]
enum Written {
    Host(HeaderValue),
    Uri(Authority),
}

impl Written {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Host(value) => value.as_bytes(),
            Self::Uri(authority) => authority.as_str().as_bytes(),
        }
    }
}

/// The one authority of a request that passed [`super::check`], and what else the check learned.
#[derive(Clone, Debug)]
pub struct Target {
    /// The port as written; `None` stands for [`DEFAULT_PORT`]. Always there for a CONNECT.
    pub port: Option<u16>,
    /// How the target was written.
    pub form: Form,
    /// How the end of the body is found.
    pub framing: Framing,
    /// The client asks for a protocol change that may be passed on: HTTP/1.1, `Connection: upgrade`, and no protocol
    /// that would put HTTP itself out of our sight (`h2c`, `HTTP/`, `TLS/`).
    pub upgrade: bool,
    written: Written,
    name: Name,
}

impl Target {
    pub(super) fn of_host(value: &HeaderValue) -> Result<Self, Reason> {
        Self::read(Written::Host(value.clone())).ok_or(Reason::InvalidHost)
    }

    pub(super) fn of_uri(authority: &Authority) -> Result<Self, Reason> {
        Self::read(Written::Uri(authority.clone())).ok_or(Reason::InvalidTarget)
    }

    fn read(written: Written) -> Option<Self> {
        let (name, port) = split(written.bytes())?;
        Some(Self {
            port,
            form: Form::Origin,
            framing: Framing::Unsaid,
            upgrade: false,
            written,
            name,
        })
    }

    /// The host: lower case, no trailing dot, no port, no brackets around an IPv6 address.
    #[must_use]
    pub fn host(&self) -> &str {
        match &self.name {
            Name::Lowered(name) => name,
            Name::At(start, end) => ascii(&self.written.bytes()[*start..*end]),
        }
    }

    /// The port to dial.
    #[must_use]
    pub fn port_or_default(&self) -> u16 {
        self.port.unwrap_or(DEFAULT_PORT)
    }

    /// The authority as the client wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        ascii(self.written.bytes())
    }

    /// The value of `Host` to send in HTTP/1. Copies only what came as part of a URI.
    #[must_use]
    pub fn host_value(&self) -> HeaderValue {
        match &self.written {
            Written::Host(value) => value.clone(),
            Written::Uri(authority) => {
                HeaderValue::from_str(authority.as_str()).expect("an authority is visible ASCII")
            }
        }
    }

    /// The authority of the URI to send in HTTP/2. Copies only what came in a `Host` field.
    #[must_use]
    pub fn authority(&self) -> Authority {
        match &self.written {
            Written::Uri(authority) => authority.clone(),
            Written::Host(value) => Authority::try_from(value.as_bytes())
                .expect("our grammar of Host is narrower than that of an authority"),
        }
    }

    /// Whether both name the same place: host without case and trailing dot, port with its default filled in.
    pub(super) fn agrees_with(&self, other: &Self) -> bool {
        self.port_or_default() == other.port_or_default() && self.host() == other.host()
    }
}

/// The host inside the written authority; a copy only where letters had to be lowered.
#[derive(Clone, Debug)]
enum Name {
    At(usize, usize),
    Lowered(Box<str>),
}

fn ascii(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("the grammar lets only ASCII through")
}

/// `uri-host [ ":" port ]`, narrowed to what a name service or a socket can take: letters, digits, `-`, `.`, `_`; an
/// IPv4 address in four decimal parts; an IPv6 address in brackets, without a zone.
fn split(bytes: &[u8]) -> Option<(Name, Option<u16>)> {
    if bytes.first() == Some(&b'[') {
        let close = memchr::memchr(b']', bytes)?;
        let address = std::str::from_utf8(&bytes[1..close]).ok()?;
        address.parse::<Ipv6Addr>().ok()?;
        return Some((name_at(bytes, 1, close), port(&bytes[close + 1..]).ok()?));
    }
    let end = memchr::memchr(b':', bytes).unwrap_or(bytes.len());
    let port = port(&bytes[end..]).ok()?;
    let name = bytes[..end].strip_suffix(b".").unwrap_or(&bytes[..end]);
    is_name(name).then(|| (name_at(bytes, 0, name.len()), port))
}

fn name_at(bytes: &[u8], start: usize, end: usize) -> Name {
    let name = &bytes[start..end];
    if name.iter().any(u8::is_ascii_uppercase) {
        Name::Lowered(ascii(name).to_ascii_lowercase().into_boxed_str())
    } else {
        Name::At(start, end)
    }
}

fn is_name(name: &[u8]) -> bool {
    if name.is_empty() || name.len() > NAME_MAX {
        return false;
    }
    let mut label = 0;
    for &byte in name {
        match byte {
            b'.' if label == 0 => return false,
            b'.' => label = 0,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => label += 1,
            _ => return false,
        }
        if label > LABEL_MAX {
            return false;
        }
    }
    label > 0 && !is_odd_number(&name[name.len() - label..], name)
}

/// `127.1`, `2130706433` and `0x7f.1` are addresses to some resolvers and names to others. No top-level domain is
/// numeric (RFC 3696 section 2), so a name that ends in a number is an IPv4 address or nothing.
fn is_odd_number(last: &[u8], name: &[u8]) -> bool {
    if !last[0].is_ascii_digit() {
        return false;
    }
    let decimal = last.iter().all(u8::is_ascii_digit);
    let hex =
        matches!(last, [b'0', b'x' | b'X', rest @ ..] if rest.iter().all(u8::is_ascii_hexdigit));
    (decimal || hex) && ascii(name).parse::<Ipv4Addr>().is_err()
}

struct NotAPort;

/// Nothing, or a colon and 1 to 65535 without leading zeros.
fn port(bytes: &[u8]) -> Result<Option<u16>, NotAPort> {
    match bytes {
        [] => Ok(None),
        [b':', digits @ ..] if matches!(digits, [b'1'..=b'9', ..]) && digits.len() <= 5 => {
            let mut value = 0_u32;
            for &digit in digits {
                if !digit.is_ascii_digit() {
                    return Err(NotAPort);
                }
                value = value * 10 + u32::from(digit - b'0');
            }
            u16::try_from(value).map(Some).map_err(|_| NotAPort)
        }
        _ => Err(NotAPort),
    }
}
