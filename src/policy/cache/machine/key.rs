//! What an answer is kept under (RFC 9111 section 2), with everything in it that an upstream is known to answer by although
//! no `Vary` says so.

use super::Asked;
use super::Headers;
use super::syntax::split;
use super::vary;

/// Fields that frameworks read a URL's parts from. They are no part of a request's target, so a cache that leaves them out of
/// its key gives what one client provoked with them to all. In the key when present; most requests carry none.
pub const FORWARDED: [&str; 13] = [
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-scheme",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-server",
    "x-host",
    "x-original-url",
    "x-original-host",
    "x-rewrite-url",
    "x-http-host-override",
    "front-end-https",
    "x-url-scheme",
];

/// One of [`FORWARDED`], or `Forwarded` itself.
#[must_use]
pub fn is_forwarded(name: &str) -> bool {
    // Few names begin like this, so that most are done with at once.
    (name.starts_with("x-") || name.starts_with('f'))
        && (name == "forwarded" || FORWARDED.contains(&name))
}

/// A request's target as sent upstream.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// `http` or `https`, in lower case.
    pub scheme: &'a str,
    /// Host, and port if one is given.
    pub authority: &'a str,
    /// Path and query, byte for byte: what is decoded or folded here need not be so upstream.
    pub path: &'a str,
}

/// Writes the part of the key that all answers to one URL share: what a purge by URL and an invalidation look for.
pub fn url(target: Target<'_>, into: &mut Vec<u8>) {
    into.extend_from_slice(target.scheme.as_bytes());
    into.extend_from_slice(b"://");
    authority(target, into);
    into.extend_from_slice(target.path.as_bytes());
}

/// The authority in lower case, without the port that the scheme implies.
fn authority(target: Target<'_>, into: &mut Vec<u8>) {
    let port = match target.scheme {
        "https" => ":443",
        _ => ":80",
    };
    let text = target.authority;
    let text = text
        .strip_suffix(port)
        .or(text.strip_suffix(':'))
        .unwrap_or(text);
    into.extend(text.bytes().map(|byte| byte.to_ascii_lowercase()));
}

/// Writes a principal into the key: all values of a request field. What is kept under it is nobody else's, which `asked`
/// remembers.
pub fn principal_field<H: Headers>(name: &str, headers: &H, asked: &mut Asked, into: &mut Vec<u8>) {
    part(b'p', name, headers, into, false);
    if headers.has(name) {
        asked.principal = true;
        asked.authorization &= name != "authorization";
        asked.cookie &= name != "cookie";
    }
}

/// Writes a principal into the key: the value of one cookie (RFC 6265 section 5.4). Where a client sends it twice, both.
pub fn principal_cookie<H: Headers>(
    name: &str,
    headers: &H,
    asked: &mut Asked,
    into: &mut Vec<u8>,
) {
    into.extend_from_slice(b"\nc");
    into.extend_from_slice(name.as_bytes());
    let pairs = headers.values("cookie").flat_map(|line| split(line, b';'));
    let named = |pair: &'_ [u8]| {
        let rest = pair.strip_prefix(name.as_bytes())?;
        Some(pair.len() - rest.strip_prefix(b"=")?.len())
    };
    for (pair, at) in pairs.filter_map(|pair| Some((pair, named(pair)?))) {
        let value = &pair[at..];
        into.push(b'=');
        into.extend_from_slice(value);
        into.push(b'\n');
        asked.principal = true;
        asked.cookie = false;
    }
}

/// Writes what follows the URL and the principals in the key: the fields that the policy adds, and those of [`FORWARDED`] that
/// are there. A line feed stands before each part, and none can stand in a field.
pub fn rest<H: Headers>(
    asked: &Asked,
    headers: &H,
    extra: impl Iterator<Item = impl AsRef<str>>,
    into: &mut Vec<u8>,
) {
    for name in extra {
        part(b'v', name.as_ref(), headers, into, true);
    }
    if !asked.forwarded {
        return;
    }
    for name in FORWARDED {
        if headers.has(name) {
            part(b'f', name, headers, into, false);
        }
    }
    // `for=` alone says who asks, which no URL is made of.
    let names_host = |value: &[u8]| {
        let has = |word: &[u8]| {
            value
                .windows(word.len())
                .any(|w| w.eq_ignore_ascii_case(word))
        };
        has(b"host=") || has(b"proto=")
    };
    if headers.values("forwarded").any(names_host) {
        part(b'f', "forwarded", headers, into, false);
    }
}

fn part<H: Headers>(kind: u8, name: &str, headers: &H, into: &mut Vec<u8>, alike: bool) {
    into.extend_from_slice(&[b'\n', kind]);
    into.extend_from_slice(name.as_bytes());
    if alike {
        let at = into.len();
        into.push(b'=');
        if !vary::normalise(name, headers, into) {
            into.truncate(at); // absent is not empty
        }
        return;
    }
    for value in headers.values(name) {
        into.push(b'=');
        into.extend_from_slice(value);
        into.push(b'\n');
    }
}
