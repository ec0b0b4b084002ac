//! Who calls, where that was proved: the identity of an inbound connection.

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;

/// The field in which the application is told who calls, in Envoy's format.
pub static FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// A caller that has proved who it is. Made once for each connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its SPIFFE ID.
    pub id: Box<str>,
    /// The value of `x-forwarded-client-cert` that says so.
    pub forwarded: HeaderValue,
}

impl Caller {
    /// A caller with the SPIFFE ID `id`, that has shown to `by` a certificate with this subject and this SHA-256.
    #[must_use]
    pub fn new(id: &str, by: &str, sha256: &[u8], subject: &str) -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = format!("By={by};Hash=");
        for byte in sha256 {
            text.push(char::from(HEX[usize::from(byte >> 4)]));
            text.push(char::from(HEX[usize::from(byte & 15)]));
        }
        text.push_str(";Subject=\"");
        // Whoever issued the certificate wrote it, so it must not be able to end the quotes or the line.
        for c in subject.chars() {
            match c {
                '"' | '\\' => text.extend(['\\', c]),
                ' '..='~' => text.push(c),
                _ => text.push('?'),
            }
        }
        text.push_str("\";URI=");
        text.push_str(id);
        Self {
            id: id.into(),
            forwarded: HeaderValue::try_from(text).expect(
                "SPIFFE IDs, hexadecimal digits and what was let pass above are visible ASCII",
            ),
        }
    }
}

/// Takes out every field that the application could take for what a proxy in front of it says of the caller, and writes what
/// is known. Gateways that map names to variables take `_` and others for `-`.
pub fn tell(headers: &mut HeaderMap, caller: Option<&Caller>) {
    let spoofed: Vec<HeaderName> = headers
        .keys()
        .filter(|name| plays(name.as_str()))
        .cloned()
        .collect();
    for name in spoofed {
        headers.remove(name);
    }
    if let Some(caller) = caller {
        headers.insert(&FORWARDED_CLIENT_CERT, caller.forwarded.clone());
    }
}

fn plays(name: &str) -> bool {
    const LETTERS: &[u8] = b"xforwardedclientcert";
    // The shortest and the longest that make sense; nearly every name ends here.
    name.len() >= LETTERS.len()
        && name
            .bytes()
            .filter(u8::is_ascii_alphanumeric)
            .eq(LETTERS.iter().copied())
}

/// Whether a field, or a trailer, may only be written by a proxy in front of the application.
#[must_use]
pub fn is_told_by_proxies(name: &str) -> bool {
    plays(name)
}
