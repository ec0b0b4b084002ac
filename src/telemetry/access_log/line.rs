//! One line of the access log, and how it is written.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::time::Duration;

use super::json::Object;
use super::json::key;
use crate::http::Reason;
use crate::redact;
use crate::redact::Clean;

/// What a line tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A request that outrider could read.
    Request,
    /// A connection passed through unread.
    Tunnel,
    /// A connection that ended before anything could be asked on it.
    Connection,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Tunnel => "tunnel",
            Self::Connection => "connection",
        }
    }
}

/// What is known when a request or tunnel has ended. Fields that are empty, zero or `None` where so documented are left
/// out of the line.
#[derive(Clone, Debug)]
pub struct Line<'a> {
    /// `kind`.
    pub kind: Kind,
    /// `time`: when it began, since 1970-01-01T00:00:00Z.
    pub began: Duration,
    /// `request_id`; left out when empty.
    pub request_id: Clean<'a>,
    /// `trace_id`, 32 hex digits; left out when empty.
    pub trace_id: Clean<'a>,
    /// `client`, `upstream` and `route`.
    pub place: &'a Place,
    /// `caller`: the identity that the client of an inbound connection has proved; left out when empty.
    pub caller: Clean<'a>,
    /// `source`: where a connection that ended before anything was asked came from.
    pub source: Option<IpAddr>,
    /// `host`: what the application asked for; left out when empty.
    pub host: Clean<'a>,
    /// `method`; left out when empty.
    pub method: Clean<'a>,
    /// `path`; left out when empty. [`path_of`] makes it: a query is never written, since it may carry secrets.
    pub path: Clean<'a>,
    /// `protocol` of the application's side, such as `HTTP/1.1`; left out when empty.
    pub protocol: &'static str,
    /// `status` sent to the application; left out when 0.
    pub status: u16,
    /// `reason`: the word when outrider answered or ended it; left out when the upstream did.
    pub reason: Option<Reason>,
    /// `cause`: what was wrong with a TLS handshake, more exactly than the reason.
    pub cause: Option<&'static str>,
    /// `tries` sent towards endpoints; written for requests.
    pub tries: u32,
    /// `retry_skipped`: why a retry that might have helped was not made.
    pub retry_skipped: Option<&'static str>,
    /// `hedged`: what became of a second copy of the call.
    pub hedged: Option<&'static str>,
    /// `injected`: what the policy's `fault` block did to the call.
    pub injected: Option<&'static str>,
    /// `cache`: what the cache did with the call.
    pub cache: Option<&'static str>,
    /// `cache_why`: why the answer was not kept, or what a stale one stands in for.
    pub cache_why: Option<&'static str>,
    /// `tls`: how the last try's connection was secured, or why it could not be.
    pub tls: Option<&'static str>,
    /// `peer`: who was at its other end.
    pub peer: Option<Clean<'a>>,
    /// `endpoint` of the last try; of a call with several copies, of the one that was answered.
    pub endpoint: Option<SocketAddr>,
    /// `duration_ms`: until the last byte.
    pub duration: Duration,
    /// `head_ms`: until the response head was sent on.
    pub head: Option<Duration>,
    /// `bytes_in`: body bytes from the application.
    pub bytes_in: u64,
    /// `bytes_out`: body bytes to the application.
    pub bytes_out: u64,
    /// `sni`: the server name in a tunnelled TLS handshake.
    pub sni: Option<Clean<'a>>,
    /// `tunnel`: its kind, `TunnelKind::word`.
    pub tunnel: Option<&'static str>,
}

/// The part of a line that is the same for all requests of a route, written once.
#[derive(Clone, Debug)]
pub struct Place(Box<[u8]>);

impl Place {
    /// `client` is the policy's `service`, `upstream` the name in the policy, `route` the match text; `client` and `route`
    /// are left out when empty.
    #[must_use]
    pub fn new(client: &str, upstream: &str, route: &str) -> Self {
        let mut out = Vec::new();
        let mut object = Object::resume(&mut out);
        // Names that the policy gives, and nobody else.
        object.text_if(key!("client"), &Clean::vetted(client.as_bytes()));
        object.text(key!("upstream"), &Clean::vetted(upstream.as_bytes()));
        object.text_if(key!("route"), &Clean::vetted(route.as_bytes()));
        Self(out.into_boxed_slice())
    }

    /// Of calls that come in: `direction` is `inbound`, `server` is the policy's `service`, and `app` where it listens.
    #[must_use]
    pub fn inbound(server: &str, app: &str) -> Self {
        let mut out = Vec::new();
        let mut object = Object::resume(&mut out);
        object.word(key!("direction"), "inbound");
        // Names that the policy gives, and nobody else.
        object.text_if(key!("server"), &Clean::vetted(server.as_bytes()));
        object.text_if(key!("app"), &Clean::vetted(app.as_bytes()));
        Self(out.into_boxed_slice())
    }
}

/// The path of a request target as a line tells it. The fragment goes as the query does: it has no business in a request
/// target, and what has no business may hold anything.
#[must_use]
pub fn path_of(target: &[u8]) -> Clean<'_> {
    let end = memchr::memchr2(b'?', b'#', target).unwrap_or(target.len());
    redact::text(&target[..end])
}

impl<'a> Line<'a> {
    /// A line that says nothing yet, to be filled by struct update.
    #[must_use]
    pub const fn new(kind: Kind, began: Duration, place: &'a Place) -> Self {
        Self {
            kind,
            began,
            request_id: Clean::EMPTY,
            trace_id: Clean::EMPTY,
            place,
            caller: Clean::EMPTY,
            source: None,
            host: Clean::EMPTY,
            method: Clean::EMPTY,
            path: Clean::EMPTY,
            protocol: "",
            status: 0,
            reason: None,
            cause: None,
            tries: 0,
            retry_skipped: None,
            hedged: None,
            injected: None,
            cache: None,
            cache_why: None,
            tls: None,
            peer: None,
            endpoint: None,
            duration: Duration::ZERO,
            head: None,
            bytes_in: 0,
            bytes_out: 0,
            sni: None,
            tunnel: None,
        }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, stamp: &mut Stamp) {
        let mut object = Object::open(out);
        object.plain(key!("time"), stamp.format(self.began));
        object.word(key!("kind"), self.kind.word());
        object.text_if(key!("request_id"), &self.request_id);
        object.text_if(key!("trace_id"), &self.trace_id);
        object.ready(&self.place.0);
        object.text_if(key!("caller"), &self.caller);
        if let Some(source) = self.source {
            object.text(key!("source"), &redact::text(source.to_string().as_bytes()));
        }
        object.text_if(key!("host"), &self.host);
        object.text_if(key!("method"), &self.method);
        object.text_if(key!("path"), &self.path);
        if !self.protocol.is_empty() {
            object.word(key!("protocol"), self.protocol);
        }
        if self.status != 0 {
            object.number(key!("status"), self.status);
        }
        if let Some(reason) = self.reason {
            object.word(key!("reason"), reason.word());
        }
        if let Some(cause) = self.cause {
            object.word(key!("cause"), cause);
        }
        if self.kind == Kind::Request {
            object.number(key!("tries"), self.tries);
        }
        if let Some(why) = self.retry_skipped {
            object.word(key!("retry_skipped"), why);
        }
        if let Some(fate) = self.hedged {
            object.word(key!("hedged"), fate);
        }
        if let Some(what) = self.injected {
            object.word(key!("injected"), what);
        }
        if let Some(served) = self.cache {
            object.word(key!("cache"), served);
        }
        if let Some(why) = self.cache_why {
            object.word(key!("cache_why"), why);
        }
        if let Some(endpoint) = self.endpoint {
            object.address(key!("endpoint"), endpoint);
        }
        if let Some(how) = self.tls {
            object.word(key!("tls"), how);
        }
        if let Some(peer) = &self.peer {
            object.text(key!("peer"), peer);
        }
        object.millis(key!("duration_ms"), micros(self.duration));
        if let Some(head) = self.head {
            object.millis(key!("head_ms"), micros(head));
        }
        object.number(key!("bytes_in"), self.bytes_in);
        object.number(key!("bytes_out"), self.bytes_out);
        if let Some(sni) = &self.sni {
            object.text(key!("sni"), sni);
        }
        if let Some(kind) = self.tunnel {
            object.word(key!("tunnel"), kind);
        }
        object.close();
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// RFC 3339 in UTC with milliseconds. The calendar is worked out once a second; in between only the last digits change.
#[derive(Debug)]
pub(super) struct Stamp {
    second: Option<u64>,
    text: String,
}

impl Stamp {
    const MILLIS_AT: usize = "2026-01-31T23:59:59.".len();

    pub(super) const fn new() -> Self {
        Self {
            second: None,
            text: String::new(),
        }
    }

    pub(super) fn format(&mut self, since: Duration) -> &str {
        if self.second != Some(since.as_secs()) {
            self.second = Some(since.as_secs());
            self.text = i64::try_from(since.as_secs())
                .ok()
                .and_then(|second| jiff::Timestamp::from_second(second).ok())
                .unwrap_or(jiff::Timestamp::MAX)
                .strftime("%Y-%m-%dT%H:%M:%S.")
                .to_string();
        }
        self.text.truncate(Self::MILLIS_AT);
        let millis = since.subsec_millis();
        for digit in [millis / 100, millis / 10 % 10, millis % 10] {
            self.text.push(char::from_digit(digit, 10).unwrap_or('0'));
        }
        self.text.push('Z');
        &self.text
    }
}
