//! Keys, written from a request and what the policy says of them.

use std::net::SocketAddr;

use http::header;
use http::request::Parts;

use crate::policy::cache::config::Principal;
use crate::policy::cache::layer::Policy;
use crate::policy::cache::layer::entry::Fields;
use crate::policy::cache::machine::Asked;
use crate::policy::cache::machine::key;
use crate::policy::cache::machine::key::Target;

impl Policy {
    /// Writes the key of a request, and notes what of who asks it holds.
    pub(super) fn write_key(&self, head: &Parts, asked: &mut Asked, text: &mut Vec<u8>) {
        let (settings, fields) = (&self.guard.settings, Fields(&head.headers));
        key::url(target(head), text);
        if let Some(dialled) = self.guard.dialled {
            write_address(dialled, text);
        }
        for principal in &settings.per {
            match principal {
                Principal::Header(name) => {
                    key::principal_field(name.as_str(), &fields, asked, text);
                }
                Principal::Cookie(name) => key::principal_cookie(name, &fields, asked, text),
            }
        }
        let extra = settings.vary.iter().map(http::HeaderName::as_str);
        key::rest(asked, &fields, extra, text);
    }
}

/// What a request is for.
pub(super) fn target(head: &Parts) -> Target<'_> {
    let of_host = || head.headers.get(header::HOST)?.to_str().ok();
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    Target {
        scheme: head.uri.scheme_str().unwrap_or("http"),
        authority: authority.or_else(of_host).unwrap_or_default(),
        path: head
            .uri
            .path_and_query()
            .map_or("/", http::uri::PathAndQuery::as_str),
    }
}

fn write_address(address: SocketAddr, text: &mut Vec<u8>) {
    text.extend_from_slice(b"\nd");
    match address.ip() {
        std::net::IpAddr::V4(ip) => text.extend(ip.octets().map(hex).as_flattened()),
        std::net::IpAddr::V6(ip) => text.extend(ip.octets().map(hex).as_flattened()),
    }
    text.extend(address.port().to_be_bytes().map(hex).as_flattened());
}

/// A byte in digits: a line feed would end the part.
fn hex(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)])
}
