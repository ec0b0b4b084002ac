//! What a request asks of a cache.

use super::Headers;
use super::Rules;
use super::directives::RequestDirectives;
use super::key;

/// What to do with a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Intake {
    /// A cache may answer it.
    Serve(Asked),
    /// It goes upstream, and a success of it invalidates what is stored (RFC 9111 section 4.4).
    Invalidates,
    /// It goes upstream and leaves no trace.
    Pass(Bypass),
}

/// Why a cache does not touch a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bypass {
    /// Safe, but nothing a cache stores: OPTIONS, TRACE.
    Method,
    /// A GET with content: its meaning is not in the key.
    Body,
    /// It names another method in a field, which the upstream may obey and the key does not show.
    Override,
    /// `If-Match`, `If-Unmodified-Since`: for the origin alone (RFC 9111 section 4.3.2).
    Precondition,
    /// It wants another protocol.
    Upgrade,
}

impl Bypass {
    /// The word of the log and the metric.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Bypass::Method => "method",
            Bypass::Body => "body",
            Bypass::Override => "override",
            Bypass::Precondition => "precondition",
            Bypass::Upgrade => "upgrade",
        }
    }
}

/// A request that a cache may answer.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one fact of one request"
)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Asked {
    /// HEAD, answered from a stored GET without its body.
    pub head: bool,
    /// Its `Cache-Control`, or `Pragma`.
    pub directives: RequestDirectives,
    /// It carries `If-None-Match` or `If-Modified-Since`.
    pub conditional: bool,
    /// It carries `Range`.
    pub range: bool,
    /// It carries `Authorization`, and the key does not.
    pub authorization: bool,
    /// It carries `Cookie`, and the key does not hold the one that matters.
    pub cookie: bool,
    /// It carries a field that an upstream may make a URL of; see [`key::FORWARDED`].
    pub forwarded: bool,
    /// The key holds a principal of it, so that nobody else is answered with what it gets.
    pub principal: bool,
}

impl Asked {
    /// Something in it says who asks that is not in the key. Then only its origin's word makes an answer common.
    #[must_use]
    pub const fn personal(&self, rules: &Rules) -> bool {
        self.authorization || (self.cookie && !rules.cookies)
    }
}

/// Fields by which frameworks let a request name another method.
pub const OVERRIDES: [&str; 3] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
];

/// Reads a request. `body`: it has content, or may have.
pub fn read<H: Headers>(method: &str, body: bool, headers: &H) -> Intake {
    let head = match method {
        "GET" => false,
        "HEAD" => true,
        "OPTIONS" | "TRACE" | "CONNECT" => return Intake::Pass(Bypass::Method),
        // RFC 9111 section 4.4: also a method whose safety is unknown.
        _ => return Intake::Invalidates,
    };
    if body {
        return Intake::Pass(Bypass::Body);
    }
    let mut asked = Asked {
        head,
        ..Asked::default()
    };
    let mut speaks = false;
    // Once over what is there, rather than once for each name that could be: most requests have few fields, and a hit is
    // otherwise not much work.
    for name in headers.names() {
        match name {
            "cache-control" | "pragma" => speaks = true,
            "if-none-match" | "if-modified-since" => asked.conditional = true,
            "range" => asked.range = true,
            "authorization" => asked.authorization = true,
            "cookie" => asked.cookie = true,
            "if-match" | "if-unmodified-since" => return Intake::Pass(Bypass::Precondition),
            "upgrade" => return Intake::Pass(Bypass::Upgrade),
            name if OVERRIDES.contains(&name) => return Intake::Pass(Bypass::Override),
            name => asked.forwarded |= key::is_forwarded(name),
        }
    }
    if speaks {
        asked.directives = RequestDirectives::read(headers);
    }
    Intake::Serve(asked)
}
