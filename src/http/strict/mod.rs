//! What a request must look like before anything else reads it.
//!
//! hyper, h2 and the types of the `http` crate refuse much by themselves: control characters in names and values,
//! obs-fold, spaces before a colon, bad chunk sizes, `Content-Length` that is not a number. [`check`] refuses the rest,
//! so that what we forward can be read in one way only. What the parser drops before a head is here to be checked (a
//! `Content-Length` beside `Transfer-Encoding`, chunk extensions, a fragment) is not sent on either: the head and the
//! framing of the body are written anew on the way out.

mod authority;
mod hop;

#[cfg(test)]
mod tests;

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Method;
use http::Version;
use http::header;
use http::request::Parts;
use http::uri::Scheme;

use crate::http::Reason;
use crate::http::caller;

pub use authority::DEFAULT_PORT;
pub use authority::Form;
pub use authority::Framing;
pub use authority::Target;
pub use hop::readdress;
pub use hop::strip_hop_by_hop;
pub use hop::strip_response;
pub use hop::via;

/// The part of `listen.limits` that is checked here; the parser counts the bytes of the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// The most field lines. Unit: count.
    pub headers: usize,
    /// The longest request target: scheme, authority, path and query. Unit: bytes.
    pub uri: usize,
}

/// The listener that the request came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The transparent port: an absolute-form target must agree with `Host`, for whoever captured the traffic may have
    /// judged it by either.
    Outbound,
    /// In front of the application: as the transparent port, and `https` is as good as `http`, for TLS ends here.
    Inbound,
    /// The explicit proxy: the absolute-form target wins and replaces `Host` (RFC 9112 section 3.2.2).
    Explicit,
}

/// Refuses what two parsers could read differently; else says who the request is for.
///
/// One pass over the fields; allocates nothing unless a host name has capital letters.
///
/// A missing `Host` is let pass in one case: HTTP/1.0 with an absolute-form or CONNECT target, which names the host by
/// itself (Python's `http.client` opens its tunnels so).
///
/// # Errors
/// The [`Reason`] to refuse the request with. In HTTP/2 the stream is then to be reset (RFC 9113 section 8.1.1).
pub fn check(parts: &Parts, limits: &HeadLimits, door: Door) -> Result<Target, Reason> {
    let http2 = match parts.version {
        Version::HTTP_10 | Version::HTTP_11 => false,
        Version::HTTP_2 => true,
        _ => return Err(Reason::MalformedRequest),
    };
    if parts.headers.len() > limits.headers {
        return Err(Reason::HeadTooLarge);
    }
    let fields = Fields::read(&parts.headers, http2)?;
    let framing = fields.framing(parts)?;
    if uri_length(&parts.uri) > limits.uri {
        return Err(Reason::UriTooLong);
    }
    let host = fields.host.map(Target::of_host).transpose()?;
    let mut target = if http2 {
        target_http2(parts, host, door)?
    } else {
        target_http1(parts, host, door)?
    };
    target.framing = framing;
    target.upgrade = fields.upgrade && asks_to_upgrade(parts);
    Ok(target)
}

/// The fields that decide framing and routing, and whether any other plays at being one of them.
#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a HeaderValue>,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
}

impl<'a> Fields<'a> {
    fn read(headers: &'a HeaderMap, http2: bool) -> Result<Self, Reason> {
        let mut fields = Self::default();
        for (name, value) in headers {
            if http2 {
                check_http2_value(value)?;
            }
            fields.take(name, value, http2)?;
        }
        Ok(fields)
    }

    fn take(
        &mut self,
        name: &HeaderName,
        value: &'a HeaderValue,
        http2: bool,
    ) -> Result<(), Reason> {
        let name = name.as_str();
        match (name.len(), name.as_bytes()[0]) {
            (4, b'h') if name == "host" => match self.host.replace(value) {
                Some(_) => Err(Reason::InvalidHost),
                None => Ok(()),
            },
            (14, b'c') if name == "content-length" => {
                let length = length(value.as_bytes()).ok_or(Reason::InvalidFraming)?;
                match self.length.replace(length) {
                    Some(_) => Err(Reason::InvalidFraming),
                    None => Ok(()),
                }
            }
            (17, b't') if name == "transfer-encoding" => {
                let chunked = value.as_bytes().eq_ignore_ascii_case(b"chunked");
                if http2 || self.chunked || !chunked {
                    return Err(Reason::InvalidFraming);
                }
                self.chunked = true;
                Ok(())
            }
            (7, b'u') if name == "upgrade" => {
                self.upgrade = true;
                refuse_if(http2)
            }
            (10, b'c') if name == "connection" => refuse_if(http2),
            (10, b'k') if name == "keep-alive" => refuse_if(http2),
            (16, b'p') if name == "proxy-connection" => refuse_if(http2),
            (2, b't') if name == "te" => refuse_if(http2 && value != "trailers"),
            _ => check_name(name),
        }
    }

    fn framing(&self, parts: &Parts) -> Result<Framing, Reason> {
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(Reason::InvalidFraming),
            (true, None) if parts.version == Version::HTTP_10 => Err(Reason::InvalidFraming),
            // What follows a CONNECT head belongs to the tunnel (RFC 9110 section 9.3.6): a body has no place there.
            (true, None) | (false, Some(1..)) if parts.method == Method::CONNECT => {
                Err(Reason::InvalidFraming)
            }
            (true, None) => Ok(Framing::Chunked),
            (false, Some(length)) => Ok(Framing::Length(length)),
            (false, None) => Ok(Framing::Unsaid),
        }
    }
}

fn refuse_if(wrong: bool) -> Result<(), Reason> {
    if wrong {
        Err(Reason::InvalidHeader)
    } else {
        Ok(())
    }
}

/// Digits only: no sign, no list, no space, no overflow (RFC 9110 section 8.6).
fn length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |sum, &byte| {
        if !byte.is_ascii_digit() {
            return None;
        }
        sum.checked_mul(10)?.checked_add(u64::from(byte - b'0'))
    })
}

/// RFC 9113 section 8.2.1. What may stand inside a value is held by the type.
fn check_http2_value(value: &HeaderValue) -> Result<(), Reason> {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let bytes = value.as_bytes();
    refuse_if(is_space(bytes.first()) || is_space(bytes.last()))
}

/// Every byte that is not a lower-case letter, a digit or `-`.
static IS_ODD: [bool; 256] = {
    let mut table = [true; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = !matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        byte += 1;
    }
    table
};

fn check_name(name: &str) -> Result<(), Reason> {
    // Without an early exit the loop is a few instructions a byte; odd names are rare.
    let odd = name
        .bytes()
        .fold(false, |odd, byte| odd | IS_ODD[usize::from(byte)]);
    if odd {
        check_odd_name(name.as_bytes())
    } else {
        Ok(())
    }
}

/// Gateways that map names to variables take `_`, `.` and others for `-`, or drop them: `Transfer_Encoding` then is
/// `Transfer-Encoding` to the one that decides where the request ends, and an unknown field to us.
#[cold]
fn check_odd_name(name: &[u8]) -> Result<(), Reason> {
    const SHADOWED: [&[u8]; 12] = [
        b"contentlength",
        b"transferencoding",
        b"host",
        b"connection",
        b"upgrade",
        b"te",
        b"trailer",
        b"expect",
        b"keepalive",
        b"proxyconnection",
        b"http2settings",
        b"contentencoding",
    ];
    // h2 lets it into names, though it is not a token character (RFC 9110 section 5.6.2).
    if name.contains(&b'"') {
        return Err(Reason::InvalidHeader);
    }
    let letters = || name.iter().copied().filter(u8::is_ascii_alphanumeric);
    let shadows = SHADOWED
        .iter()
        .any(|known| letters().eq(known.iter().copied()));
    refuse_if(shadows)
}

fn uri_length(uri: &http::Uri) -> usize {
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    let authority = uri
        .authority()
        .map_or(0, |authority| authority.as_str().len());
    let scheme = uri
        .scheme_str()
        .map_or(0, |scheme| scheme.len() + "://".len());
    scheme + authority + path
}

/// `https` to a plaintext port means that the client takes us for a TLS endpoint: it should CONNECT.
fn is_served(scheme: &Scheme, door: Door) -> bool {
    *scheme == Scheme::HTTP || (door == Door::Inbound && *scheme == Scheme::HTTPS)
}

fn target_http1(parts: &Parts, host: Option<Target>, door: Door) -> Result<Target, Reason> {
    let uri = &parts.uri;
    let (mut target, form) = match (uri.scheme(), uri.authority()) {
        (None, None) if parts.method != Method::CONNECT => {
            let form = path_form(parts)?;
            let mut target = host.ok_or(Reason::InvalidHost)?;
            target.form = form;
            return Ok(target);
        }
        (None, Some(authority)) if parts.method == Method::CONNECT => {
            let target = Target::of_uri(authority)?;
            if target.port.is_none() {
                return Err(Reason::InvalidTarget);
            }
            (target, Form::Authority)
        }
        (Some(scheme), Some(authority))
            if parts.method != Method::CONNECT && is_served(scheme, door) =>
        {
            path_form(parts)?;
            (Target::of_uri(authority)?, Form::Absolute)
        }
        _ => return Err(Reason::InvalidTarget),
    };
    target.form = form;
    match host {
        // A tunnel carries a request of its own, with its own Host: the outer one decides nothing.
        Some(host)
            if form == Form::Absolute && door != Door::Explicit && !host.agrees_with(&target) =>
        {
            Err(Reason::InvalidTarget)
        }
        None if parts.version != Version::HTTP_10 => Err(Reason::InvalidHost),
        _ => Ok(target),
    }
}

fn target_http2(parts: &Parts, host: Option<Target>, door: Door) -> Result<Target, Reason> {
    if parts.method == Method::CONNECT {
        return Err(Reason::MethodUnsupported);
    }
    let form = path_form(parts)?;
    let mut target = match parts.uri.authority() {
        Some(authority) => {
            if !parts
                .uri
                .scheme()
                .is_some_and(|scheme| is_served(scheme, door))
            {
                return Err(Reason::InvalidTarget);
            }
            let target = Target::of_uri(authority)?;
            // RFC 9113 section 8.3.1: a Host that names another place makes the request malformed.
            if host.is_some_and(|host| !host.agrees_with(&target)) {
                return Err(Reason::InvalidHost);
            }
            target
        }
        None => host.ok_or(Reason::InvalidHost)?,
    };
    target.form = form;
    Ok(target)
}

/// The path is absolute, or `*` for OPTIONS. The `http` crate lets `?query` pass, and an HTTP/2 path that was all
/// fragment, which would be sent as an empty request target.
fn path_form(parts: &Parts) -> Result<Form, Reason> {
    if parts.uri.path().is_empty() {
        return Err(Reason::InvalidTarget);
    }
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    // A URI is ASCII (RFC 3986 section 2); raw UTF-8 is read as text by some parsers and refused by others.
    if !path.is_ascii() {
        return Err(Reason::InvalidTarget);
    }
    match path.as_bytes() {
        [b'/', ..] => Ok(Form::Origin),
        // `http://host?query`: the empty path is `/` (RFC 9110 section 4.2.3), and is sent so.
        [b'?', ..] if parts.version != Version::HTTP_2 && parts.uri.scheme().is_some() => {
            Ok(Form::Origin)
        }
        b"*" if parts.method == Method::OPTIONS => Ok(Form::Asterisk),
        _ => Err(Reason::InvalidTarget),
    }
}

/// Only called when there is an `Upgrade` field.
fn asks_to_upgrade(parts: &Parts) -> bool {
    let lists = |name: HeaderName, wanted: fn(&[u8]) -> bool| {
        let mut values = parts.headers.get_all(name).iter();
        values.any(|value| tokens(value.as_bytes()).any(wanted))
    };
    // An upgrade to HTTP/2 or TLS between the client and the upstream would carry requests past us unseen.
    let hides_http = |protocol: &[u8]| {
        let begins = |prefix: &[u8]| {
            let head = protocol.get(..prefix.len());
            head.is_some_and(|head| head.eq_ignore_ascii_case(prefix))
        };
        begins(b"h2") || begins(b"http") || begins(b"tls")
    };
    parts.version == Version::HTTP_11
        && parts.method != Method::CONNECT
        && lists(header::CONNECTION, |token| {
            token.eq_ignore_ascii_case(b"upgrade")
        })
        && !lists(header::UPGRADE, hides_http)
}

/// The elements of a comma-separated list, without the white space around them (RFC 9110 section 5.6.1).
fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|&byte| byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty())
}

/// Refuses trailers that would change what the head said (RFC 9110 section 6.5.1).
///
/// # Errors
/// [`Reason::InvalidBody`] for a field of framing or routing, or a name that plays at being one.
pub fn check_trailers(trailers: &HeaderMap) -> Result<(), Reason> {
    for name in trailers.keys() {
        let name = name.as_str();
        let forbidden = matches!(
            name,
            "content-length"
                | "transfer-encoding"
                | "host"
                | "connection"
                | "upgrade"
                | "te"
                | "trailer"
                | "keep-alive"
                | "proxy-connection"
                | "content-encoding"
                | "content-type"
                | "content-range"
                | "authorization"
                | "expect"
        );
        if forbidden || caller::is_told_by_proxies(name) || check_name(name).is_err() {
            return Err(Reason::InvalidBody);
        }
    }
    Ok(())
}

/// Refuses a response whose end two parsers could see in different places; several equal lengths become one.
///
/// Call it before [`strip_response`], which takes the evidence away.
///
/// # Errors
/// [`Reason::ProtocolError`]: the connection that it came on is not to be used again.
pub fn check_response(headers: &mut HeaderMap) -> Result<(), Reason> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let coding = codings.next();
    // Any other coding would be handed on with the field that names it removed.
    let plain = coding.is_none_or(|value| value.as_bytes().eq_ignore_ascii_case(b"chunked"));
    if !plain || codings.next().is_some() {
        return Err(Reason::ProtocolError);
    }
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = values.next() else {
        return Ok(());
    };
    if coding.is_some() {
        return Err(Reason::ProtocolError);
    }
    if values.next().is_none() && length(first.as_bytes()).is_some() {
        return Ok(());
    }
    let mut lengths = headers
        .get_all(header::CONTENT_LENGTH)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .map(|value| length(value.trim_ascii()));
    let one = lengths.next().flatten().ok_or(Reason::ProtocolError)?;
    if lengths.any(|other| other != Some(one)) {
        return Err(Reason::ProtocolError);
    }
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(one));
    Ok(())
}
