//! Fields that belong to one connection, and the rewriting of a head for the next one (RFC 9110 section 7.6).

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Uri;
use http::Version;
use http::header;
use http::request::Parts;
use http::uri::Scheme;

use super::Form;
use super::Framing;
use super::Target;
use super::tokens;

static HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

static TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
static UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");

const CONNECTION_BIT: u16 = 1;
const TE_BIT: u16 = 1 << 1;
const UPGRADE_BIT: u16 = 1 << 2;
const KEEP_ALIVE_BIT: u16 = 1 << 3;
const PROXY_CONNECTION_BIT: u16 = 1 << 4;
const HTTP2_SETTINGS_BIT: u16 = 1 << 5;
const TRANSFER_ENCODING_BIT: u16 = 1 << 6;
const PROXY_AUTHENTICATE_BIT: u16 = 1 << 7;
const PROXY_AUTHORIZATION_BIT: u16 = 1 << 8;

/// Which fields of one connection are there. Reading the names once is cheaper than ten look-ups that find nothing.
fn seen(headers: &HeaderMap) -> u16 {
    let mut bits = 0;
    for name in headers.keys() {
        let name = name.as_str();
        bits |= match (name.len(), name.as_bytes()[0]) {
            (2, b't') if name == "te" => TE_BIT,
            (7, b'u') if name == "upgrade" => UPGRADE_BIT,
            (10, b'c') if name == "connection" => CONNECTION_BIT,
            (10, b'k') if name == "keep-alive" => KEEP_ALIVE_BIT,
            (14, b'h') if name == "http2-settings" => HTTP2_SETTINGS_BIT,
            (16, b'p') if name == "proxy-connection" => PROXY_CONNECTION_BIT,
            (17, b't') if name == "transfer-encoding" => TRANSFER_ENCODING_BIT,
            (18, b'p') if name == "proxy-authenticate" => PROXY_AUTHENTICATE_BIT,
            (19, b'p') if name == "proxy-authorization" => PROXY_AUTHORIZATION_BIT,
            _ => 0,
        };
    }
    bits
}

/// Takes the fields of the client's connection out of a request.
///
/// Gone are `Connection` and what it names, `Keep-Alive`, `Proxy-Connection`, `Proxy-Authorization`, `HTTP2-Settings`,
/// and `Upgrade` unless `keep_upgrade` ([`Target::upgrade`]), which then also keeps `Connection: upgrade`. `TE` is cut
/// down to `trailers`, for gRPC servers refuse to answer without it. `Transfer-Encoding: chunked` stays: hyper's client
/// frames the body anew, and for a GET it would take the absence of the field for the absence of a body.
/// `Trailer` stays: it announces fields that we pass on.
///
/// `Connection` cannot name away a field that is meant for the receiver (RFC 9110 section 7.6.1 forbids it, and doing
/// it is a known way of hiding `X-Forwarded-For` or a credential from the next hop): see `is_end_to_end`.
pub fn strip_hop_by_hop(headers: &mut HeaderMap, keep_upgrade: bool) {
    strip(headers, seen(headers), keep_upgrade);
}

/// The same for a response: `Transfer-Encoding` goes, for the next connection frames the body itself, and so does
/// `Proxy-Authenticate`. `keep_upgrade` is for a 101 to a request whose upgrade was passed on.
pub fn strip_response(headers: &mut HeaderMap, keep_upgrade: bool) {
    let bits = seen(headers);
    if bits & TRANSFER_ENCODING_BIT != 0 {
        headers.remove(header::TRANSFER_ENCODING);
    }
    strip(headers, bits, keep_upgrade);
}

fn strip(headers: &mut HeaderMap, bits: u16, keep_upgrade: bool) {
    if bits & !TRANSFER_ENCODING_BIT == 0 {
        return;
    }
    if bits & CONNECTION_BIT != 0 {
        strip_named(headers);
        headers.remove(header::CONNECTION);
    }
    if bits & TE_BIT != 0 {
        keep_trailers_only(headers);
    }
    let named: [(u16, &HeaderName); 5] = [
        (KEEP_ALIVE_BIT, &KEEP_ALIVE),
        (PROXY_CONNECTION_BIT, &PROXY_CONNECTION),
        (HTTP2_SETTINGS_BIT, &HTTP2_SETTINGS),
        (PROXY_AUTHENTICATE_BIT, &header::PROXY_AUTHENTICATE),
        (PROXY_AUTHORIZATION_BIT, &header::PROXY_AUTHORIZATION),
    ];
    for (bit, name) in named {
        if bits & bit != 0 {
            headers.remove(name);
        }
    }
    if bits & UPGRADE_BIT != 0 {
        if keep_upgrade {
            headers.insert(header::CONNECTION, UPGRADE.clone());
        } else {
            headers.remove(header::UPGRADE);
        }
    }
}

/// Removes what `Connection` names beyond the fields that go in any case.
fn strip_named(headers: &mut HeaderMap) {
    // `keep-alive`, `close`, `upgrade` and `te` name nothing that is not dealt with by itself: the usual request ends
    // here, without having allocated.
    let is_extra = |token: &[u8]| {
        !(token.eq_ignore_ascii_case(b"keep-alive")
            || token.eq_ignore_ascii_case(b"close")
            || token.eq_ignore_ascii_case(b"upgrade")
            || token.eq_ignore_ascii_case(b"te"))
    };
    let extra: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| tokens(value.as_bytes()))
        .filter(|token| is_extra(token))
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .filter(|name| !is_end_to_end(name.as_str()))
        .collect();
    for name in extra {
        headers.remove(name);
    }
}

/// Fields that are meant for the receiver whatever `Connection` says: framing, routing, content, credentials, and what
/// says where a request came from.
fn is_end_to_end(name: &str) -> bool {
    matches!(
        name,
        "host"
            | "content-length"
            | "transfer-encoding"
            | "trailer"
            | "content-type"
            | "content-encoding"
            | "content-range"
            | "range"
            | "expect"
            | "date"
            | "location"
            | "vary"
            | "via"
            | "forwarded"
            | "authorization"
            | "cookie"
            | "set-cookie"
            | "cache-control"
            | "age"
            | "etag"
            | "x-request-id"
            | "x-correlation-id"
            | "traceparent"
            | "tracestate"
            | "baggage"
            | "b3"
            | "idempotency-key"
    ) || [
        "x-forwarded-",
        "x-real-",
        "x-b3-",
        "grpc-",
        "if-",
        "access-control-",
    ]
    .iter()
    .any(|prefix| name.starts_with(prefix))
}

/// `TE` says what the sender of this connection accepts; of it we pass on only trailers (RFC 9110 section 10.1.4).
fn keep_trailers_only(headers: &mut HeaderMap) {
    let mut values = headers.get_all(header::TE).iter();
    let first = values.next().map(HeaderValue::as_bytes);
    if first == Some(b"trailers") && values.next().is_none() {
        return;
    }
    let trailers = headers
        .get_all(header::TE)
        .iter()
        .flat_map(|value| tokens(value.as_bytes()))
        .any(|token| token.eq_ignore_ascii_case(b"trailers"));
    if trailers {
        headers.insert(header::TE, TRAILERS.clone());
    } else {
        headers.remove(header::TE);
    }
}

/// The `Via` entry for a message that we received in `version` (RFC 9110 section 7.6.3). The pseudonym is fixed: a
/// host name would tell the upstream about the inside of the cluster.
#[must_use]
pub fn via(version: Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        Version::HTTP_09 => "0.9 outrider",
        Version::HTTP_10 => "1.0 outrider",
        Version::HTTP_2 => "2.0 outrider",
        Version::HTTP_3 => "3.0 outrider",
        _ => "1.1 outrider",
    })
}

/// Writes the head for a connection of version `to`, so that it names its target in one way only.
///
/// HTTP/1.1: origin-form and one `Host`; a body whose length nobody said is announced as chunked, for hyper's client
/// would otherwise send a GET without it. HTTP/2: the pseudo fields and no `Host`, no `Transfer-Encoding`.
/// `has_body` is false when the body is known to have ended. CONNECT is not for this function: it is tunnelled.
pub fn readdress(head: &mut Parts, target: &Target, to: Version, has_body: bool) {
    let path = head.uri.path_and_query().cloned();
    if to == Version::HTTP_2 {
        head.headers.remove(header::HOST);
        if target.framing == Framing::Chunked {
            head.headers.remove(header::TRANSFER_ENCODING);
        }
        if head.version != Version::HTTP_2 || head.uri.authority().is_none() {
            let mut parts = http::uri::Parts::default();
            parts.scheme = Some(Scheme::HTTP);
            parts.authority = Some(target.authority());
            parts.path_and_query = path.or_else(|| Some(http::uri::PathAndQuery::from_static("/")));
            head.uri = Uri::from_parts(parts).expect("scheme, authority and path are all there");
        }
    } else {
        let from_uri = head.version == Version::HTTP_2 || target.form == Form::Absolute;
        if from_uri {
            head.headers.insert(header::HOST, target.host_value());
            head.uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
        }
        if head.version == Version::HTTP_2 {
            join_cookies(&mut head.headers);
            if target.framing == Framing::Unsaid && has_body {
                let chunked = HeaderValue::from_static("chunked");
                head.headers.insert(header::TRANSFER_ENCODING, chunked);
            }
        }
    }
    head.version = to;
}

/// HTTP/2 may send a cookie in crumbs; HTTP/1 has one line (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs = headers.get_all(header::COOKIE);
    if crumbs.iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = crumbs.iter().map(HeaderValue::as_bytes).collect();
    let joined = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
        .expect("valid values and a separator make a valid value");
    headers.insert(header::COOKIE, joined);
}
