//! Orders: the few requests that change something. Read here, obeyed by whoever runs the proxy.
//!
//! The admin port knows no users. Where the policy names a token, an order must carry it; else it is taken only from a
//! process on this machine that means it: the peer's address is a loopback one, `Host` is too (a page that has rebound its
//! own name to 127.0.0.1 sends that name), and none of the fields is there that every browser adds to a request of a page,
//! or every proxy to one that it forwards.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::time::Duration;

use http::HeaderMap;
use http::Method;
use http::StatusCode;
use http::Uri;
use http::header;
use http::uri::Authority;
use serde_json::Value;
use serde_json::json;

use super::TokenPlace;
use super::token;
use crate::kit::units;

/// How long a forced breaker stays so when nobody says.
const FORCE_DEFAULT: Duration = Duration::from_secs(600);
/// The longest that a breaker can be forced: what is forgotten must end by itself within a day.
const FORCE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Fields that say that the request is not from a program on this machine.
const FOREIGN: [&str; 10] = [
    "origin",
    "referer",
    "sec-fetch-site",
    "sec-fetch-mode",
    "sec-fetch-dest",
    "sec-fetch-user",
    "via",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
];

/// Every order and what it does, for the index.
pub(super) const ORDERS: [(&str, &str); 6] = [
    (
        "/breaker/open",
        "hold breakers open:   ?upstream=NAME [&route=ROUTE] [&for=10m]",
    ),
    (
        "/breaker/close",
        "hold breakers closed: ?upstream=NAME [&route=ROUTE] [&for=10m]",
    ),
    (
        "/breaker/auto",
        "let calls decide again: ?upstream=NAME [&route=ROUTE]",
    ),
    (
        "/faults/stop",
        "stop injecting faults at once: all, or ?upstream=NAME",
    ),
    (
        "/faults/resume",
        "let stopped ones go on until their end: all, or ?upstream=NAME",
    ),
    (
        "/cache/purge",
        "remove what is kept, or make it stale: ?url=URL, ?tag=TAG or ?all [&soft]",
    ),
];

/// The longest tag, and the longest URL, that is looked for.
const NAME_MAX: usize = 8 << 10;

/// Parameters that may stand by themselves.
const FLAGS: [&str; 3] = ["all", "soft", "failed"];

/// What an operator wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Hold the breakers of an upstream, or let them go.
    Breaker {
        /// What to do.
        action: Action,
        /// The upstream's name in the policy.
        upstream: String,
        /// One route's own breaker; `None`: all breakers of the upstream.
        route: Option<String>,
        /// How long; without meaning for [`Action::Auto`].
        lasting: Duration,
    },
    /// Stop the injection of faults, or let it go on.
    Faults {
        /// Whether those that were stopped go on.
        go_on: bool,
        /// The upstream's name in the policy; `None`: all.
        upstream: Option<String>,
    },
    /// Remove what the cache keeps.
    Purge {
        /// Of it, what.
        what: Purge,
        /// Leave it there as stale: the next call asks whether it still holds, and it can still stand in for an error.
        soft: bool,
    },
}

/// What to purge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purge {
    /// All that is kept for one URL, whatever it varies on and whoever it is for.
    Url(String),
    /// All whose upstream gave it this tag.
    Tag(String),
    /// Everything.
    All,
}

/// What to do with breakers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Hold them open.
    Open,
    /// Hold them closed.
    Close,
    /// Let their calls decide again.
    Auto,
}

impl Action {
    /// The word of the path, the command, the metric label and the audit line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Close => "close",
            Self::Auto => "auto",
        }
    }
}

/// Why an order is not obeyed: the parts of an RFC 9457 answer.
#[derive(Clone, Debug)]
pub struct Declined {
    /// The status to answer.
    pub status: StatusCode,
    /// What is wrong, for a person.
    pub detail: String,
    /// Extension members, an object.
    pub more: Value,
}

impl Declined {
    /// Without extension members.
    #[must_use]
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            more: json!({}),
        }
    }
}

/// What is known of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub method: &'a Method,
    pub uri: &'a Uri,
    pub headers: &'a HeaderMap,
    pub peer: SocketAddr,
}

/// Whether the path is that of an order.
pub(super) fn is_order(path: &str) -> bool {
    ORDERS.iter().any(|(known, _)| *known == path)
}

/// Whether whoever asks may give an order at all: with a token in the policy, who carries it, wherever from; without one, a
/// process on this machine.
pub(super) fn may_order(asked: &Asked<'_>, token: Option<&TokenPlace>) -> Result<(), Declined> {
    match token {
        Some(place) => token::check(place, asked.headers),
        None => refuse_foreign(asked),
    }
}

/// Reads an order.
pub(super) fn read(asked: &Asked<'_>) -> Result<Order, Declined> {
    let mut given = Given::parse(asked.uri.query().unwrap_or_default())?;
    if asked.uri.path() == "/cache/purge" {
        return purge(given);
    }
    let action = match asked.uri.path() {
        "/breaker/open" => Action::Open,
        "/breaker/close" => Action::Close,
        "/breaker/auto" => Action::Auto,
        path => {
            let go_on = path == "/faults/resume";
            let upstream = given.take("upstream");
            given.end(&["upstream"])?;
            return Ok(Order::Faults { go_on, upstream });
        }
    };
    let upstream = given
        .take("upstream")
        .ok_or_else(|| bad("`upstream` is missing"))?;
    let route = given.take("route");
    let lasting = match given.take("for") {
        Some(_) if action == Action::Auto => {
            return Err(bad("`for` has no meaning for `auto`, which has no end"));
        }
        Some(text) => lasting(&text)?,
        None => FORCE_DEFAULT,
    };
    given.end(&["upstream", "route", "for"])?;
    Ok(Order::Breaker {
        action,
        upstream,
        route,
        lasting,
    })
}

fn purge(mut given: Given) -> Result<Order, Declined> {
    let all = given.flag("all")?;
    let soft = given.flag("soft")?;
    let what = match (given.take("url"), given.take("tag"), all) {
        (Some(url), None, false) => Purge::Url(url_to_purge(url)?),
        (None, Some(tag), false) => Purge::Tag(tag_to_purge(tag)?),
        (None, None, true) => Purge::All,
        _ => {
            return Err(bad(
                "exactly one of `url`, `tag` and `all` says what to purge",
            ));
        }
    };
    given.end(&["url", "tag", "all", "soft"])?;
    Ok(Order::Purge { what, soft })
}

fn url_to_purge(text: String) -> Result<String, Declined> {
    let uri: Option<Uri> = text.parse().ok().filter(|_| text.len() <= NAME_MAX);
    let is_whole = uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri
                .authority()
                .is_some_and(|authority| !authority.as_str().contains('@'))
    });
    if is_whole {
        Ok(text)
    } else {
        Err(bad(
            "`url` must be a whole URL, as the application calls it: http://payments.shop/rates",
        ))
    }
}

fn tag_to_purge(text: String) -> Result<String, Declined> {
    if text.len() > NAME_MAX || text.contains([' ', ',']) {
        return Err(bad("`tag` is one tag, without spaces and commas"));
    }
    Ok(text)
}

fn lasting(text: &str) -> Result<Duration, Declined> {
    let lasting = units::parse_duration(text).map_err(|unfit| bad(format!("`for`: {unfit}")))?;
    if lasting.is_zero() || lasting > FORCE_MAX {
        let most = units::format_duration(FORCE_MAX);
        return Err(bad(format!(
            "`for` is {text}; it must be above 0s and at most {most}"
        )));
    }
    Ok(lasting)
}

fn refuse_foreign(asked: &Asked<'_>) -> Result<(), Declined> {
    let forbidden = |detail: &str| Err(Declined::new(StatusCode::FORBIDDEN, detail));
    if !asked.peer.ip().to_canonical().is_loopback() {
        return forbidden("Orders are taken from this machine only: connect over loopback.");
    }
    let mut hosts = asked.headers.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    let is_local = |text: &str| text.parse().is_ok_and(|host| is_loopback(&host));
    let target_is_local = asked.uri.authority().is_none_or(is_loopback);
    if !host.is_some_and(is_local) || hosts.next().is_some() || !target_is_local {
        return forbidden(
            "Host must be a loopback address (127.0.0.1, [::1] or localhost) for an order.",
        );
    }
    if let Some(field) = FOREIGN
        .iter()
        .find(|field| asked.headers.contains_key(**field))
    {
        return forbidden(&format!(
            "The request carries `{field}`: orders are not taken from browsers or through proxies."
        ));
    }
    Ok(())
}

// No name but `localhost`, which browsers and resolvers never look up elsewhere (RFC 6761 section 6.3).
fn is_loopback(authority: &Authority) -> bool {
    let host = authority.host().trim_matches(['[', ']']);
    !authority.as_str().contains('@')
        && (host.eq_ignore_ascii_case("localhost")
            || host
                .parse::<IpAddr>()
                .is_ok_and(|address| address.to_canonical().is_loopback()))
}

pub(super) fn bad(detail: impl Into<String>) -> Declined {
    Declined::new(StatusCode::BAD_REQUEST, detail)
}

/// The parameters of a query.
pub(super) struct Given(Vec<(String, String)>);

impl Given {
    pub(super) fn parse(query: &str) -> Result<Self, Declined> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let alone = if FLAGS.contains(&part) { "true" } else { "" };
            let (name, value) = part.split_once('=').unwrap_or((part, alone));
            let pair = decode(name).zip(decode(value));
            let (name, value) =
                pair.ok_or_else(|| bad(format!("`{part}` is not percent-encoded UTF-8")))?;
            if value.is_empty() {
                return Err(bad(format!("`{name}` has no value")));
            }
            if pairs.iter().any(|(known, _)| *known == name) {
                return Err(bad(format!("`{name}` is given twice")));
            }
            pairs.push((name, value));
        }
        Ok(Self(pairs))
    }

    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(at).1)
    }

    pub(super) fn flag(&mut self, name: &str) -> Result<bool, Declined> {
        match self.take(name).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(bad(format!("`{name}` is {other}; it is true or false"))),
        }
    }

    // What is left was misspelt: an order that is only half understood is not obeyed.
    pub(super) fn end(self, known: &[&str]) -> Result<(), Declined> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(bad(format!(
                "`{name}` is unknown; known are {}",
                known.join(", ")
            ))),
        }
    }
}

/// RFC 3986 section 2.1. A `+` is a plus: this is a query, not a form.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
        bytes.push((high * 16 + low) as u8);
    }
    let decoded = String::from_utf8(bytes).ok()?;
    // It is shown in logs and answers.
    (!decoded.contains(char::is_control)).then_some(decoded)
}
