//! What of a call is hashed.

use std::net::IpAddr;

use http::HeaderMap;
use http::HeaderName;
use http::header;

use crate::http::Call;

/// `balance.hash`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// `header:NAME`: the first field of that name.
    Header(HeaderName),
    /// `cookie:NAME` (RFC 6265). Names differ by case.
    Cookie(Box<str>),
    /// `path`: the path without its query.
    Path,
    /// `source`: the client's address, without its port.
    Source,
}

/// The key of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found<'a> {
    /// Text of the request.
    Text(&'a [u8]),
    /// An address.
    Address(IpAddr),
}

impl Key {
    /// Reads `header:NAME`, `cookie:NAME`, `path` or `source`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            None if text == "path" => Some(Self::Path),
            None if text == "source" => Some(Self::Source),
            Some(("header", name)) => HeaderName::try_from(name).ok().map(Self::Header),
            // A cookie's name is a token, as a header's is (RFC 6265 section 4.1.1).
            Some(("cookie", name)) => HeaderName::try_from(name)
                .is_ok()
                .then(|| Self::Cookie(name.into())),
            _ => None,
        }
    }

    /// As a policy writes it.
    #[must_use]
    pub fn word(&self) -> String {
        match self {
            Self::Header(name) => format!("header:{name}"),
            Self::Cookie(name) => format!("cookie:{name}"),
            Self::Path => "path".to_owned(),
            Self::Source => "source".to_owned(),
        }
    }

    /// The key of `call`; `None` if it has none. What is empty is none: it would send all calls that have nothing in
    /// common to one endpoint.
    #[must_use]
    pub fn of<'a>(&self, call: &'a Call) -> Option<Found<'a>> {
        let text = match self {
            Self::Header(name) => call.head.headers.get(name).map(http::HeaderValue::as_bytes),
            Self::Cookie(name) => cookie(&call.head.headers, name.as_bytes()),
            Self::Path => Some(call.head.uri.path().as_bytes()),
            Self::Source => return call.trail.peer.get().map(Found::Address),
        };
        text.filter(|text| !text.is_empty()).map(Found::Text)
    }
}

impl Found<'_> {
    /// Hands the bytes to `f`.
    pub fn with<T>(self, f: impl FnOnce(&[u8]) -> T) -> T {
        match self {
            Self::Text(text) => f(text),
            Self::Address(IpAddr::V4(address)) => f(&address.octets()),
            Self::Address(IpAddr::V6(address)) => f(&address.octets()),
        }
    }
}

/// The value of the first cookie of that name (RFC 6265 section 4.2.1), in any of the fields that HTTP/2 may split them
/// into (RFC 9113 section 8.2.3). Quotes belong to the value, as they do to a browser (section 5.2).
fn cookie<'a>(headers: &'a HeaderMap, name: &[u8]) -> Option<&'a [u8]> {
    let mut pairs = headers
        .get_all(header::COOKIE)
        .into_iter()
        .flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
    pairs.find_map(|pair| {
        let at = memchr::memchr(b'=', pair)?;
        let (key, value) = pair.split_at(at);
        (key.trim_ascii() == name).then(|| value[1..].trim_ascii())
    })
}
