//! What hops tell each other: how much time is left, and whether somebody is retrying already (docs/hops.md).
//!
//! Requests carry a deadline and a retry marker onwards; answers carry "do not retry" back. A request's word counts only
//! where it comes from a peer that policy trusts: it takes time or tries away. An answer's word can only make us do less,
//! which whoever gave the answer could have had by any other answer, so it needs no trust.

use std::net::IpAddr;
use std::time::Duration;

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;

use crate::kit::fields::Fields;
use crate::kit::mode::Mode;
use crate::kit::net::Net;
use crate::kit::units;

/// How long the caller waits for the whole RPC (gRPC over HTTP/2, `Timeout`).
pub static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// How long the caller waits for the response head: a duration with its unit, or an RFC 3339 instant.
pub static REQUEST_DEADLINE: HeaderName = HeaderName::from_static("x-request-deadline");
/// Which retry of a call this request is, from 1; not there on a first try.
pub static RETRY_ATTEMPT: HeaderName = HeaderName::from_static("retry-attempt");
/// On an answer: sending the call again is of no use or does harm. The value is the word for why.
pub static NO_RETRY: HeaderName = HeaderName::from_static("outrider-no-retry");
/// On an answer: when to retry, in milliseconds; below zero never (gRFC A6).
pub static GRPC_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// Of a header field that has two values, or is longer than any that makes sense, none is believed.
const LONGEST: usize = 40;

/// The `hops` block, with every value filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Shadow reads and counts, and changes no request and no answer. Default: enforce.
    pub mode: Mode,
    /// Whose requests may shorten a deadline or stop retries. Default: `local`, the application itself.
    pub trust: Vec<Trust>,
    /// Whether deadlines come in and go out. Default: true.
    pub deadline: bool,
    /// Whether retry markers and "do not retry" come in and go out. Default: true.
    pub retry: bool,
}

/// One entry of `hops.trust`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Whoever connects from this pod or host: see [`Peer::is_local`].
    Local,
    /// Whoever connects from one of these addresses.
    Net(Net),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Enforce,
            trust: vec![Trust::Local],
            deadline: true,
            retry: true,
        }
    }
}

impl Settings {
    /// The settings of a merged `hops` block that is not off.
    pub fn lift<F: Fields>(block: &F) -> Self {
        Self {
            mode: match block.word("mode") {
                Some("shadow") => Mode::Shadow,
                _ => Mode::Enforce,
            },
            // Texts that are neither were refused when the block was read.
            trust: block.list("trust").map_or_else(Vec::new, |list| {
                list.into_iter().filter_map(Trust::parse).collect()
            }),
            deadline: block.word("deadline") == Some("honour"),
            retry: block.word("retry") == Some("honour"),
        }
    }

    /// What holds for the requests of `peer`.
    #[must_use]
    pub fn terms(&self, peer: Peer) -> Terms {
        Terms {
            trusted: self.trust.iter().any(|trust| match trust {
                Trust::Local => peer.is_local,
                Trust::Net(net) => net.contains(peer.address),
            }),
            deadline: self.deadline.then_some(self.mode),
            retry: self.retry.then_some(self.mode),
        }
    }
}

impl Trust {
    /// Reads one entry of the list.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "local" {
            return Some(Self::Local);
        }
        Net::parse(text).ok().map(Self::Net)
    }
}

/// Who made a connection, as far as trust is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The client's address; one of IPv4 never in its IPv6 form.
    pub address: IpAddr,
    /// Whether it came from this pod or host.
    pub is_local: bool,
}

impl Peer {
    /// The peer of a connection between these two addresses.
    ///
    /// It is local if either end is loopback: no packet with such an address comes in from a network, and a redirected
    /// connection of the application arrives at loopback although it left with the pod's own address. It is local too if
    /// both ends are the same address.
    #[must_use]
    pub fn of(own: Option<IpAddr>, theirs: IpAddr) -> Self {
        let (own, theirs) = (own.map(|own| own.to_canonical()), theirs.to_canonical());
        Self {
            address: theirs,
            is_local: theirs.is_loopback()
                || own.is_some_and(|own| own.is_loopback() || own == theirs),
        }
    }
}

/// What holds between this call and the hops beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Whether the request's own headers may take time or tries away.
    pub trusted: bool,
    /// `hops.deadline`; `None` is off.
    pub deadline: Option<Mode>,
    /// `hops.retry`; `None` is off.
    pub retry: Option<Mode>,
}

impl Terms {
    /// Whether deadlines are obeyed and sent.
    #[must_use]
    pub fn deadline_holds(self) -> bool {
        self.deadline == Some(Mode::Enforce)
    }

    /// Whether retry markers are obeyed and sent.
    #[must_use]
    pub fn retry_holds(self) -> bool {
        self.retry == Some(Mode::Enforce)
    }
}

/// What a request says of the hops before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// How long the caller still waits, by whichever field leaves less.
    pub left: Option<Duration>,
    /// How long it waits for the whole RPC, by `grpc-timeout`.
    pub grpc_left: Option<Duration>,
    /// Which retry of the hop before us this is; 0 for a first try.
    pub attempt: u32,
    /// Fields that were not believed because the peer is not trusted.
    pub untrusted: u32,
    /// Fields that said nothing that can be understood.
    pub malformed: u32,
}

const GRPC_TIMEOUT_BIT: u8 = 1;
const REQUEST_DEADLINE_BIT: u8 = 1 << 1;
const RETRY_ATTEMPT_BIT: u8 = 1 << 2;

/// Which of the fields are there. Reading the names once is cheaper than three look-ups that find nothing.
fn present(headers: &HeaderMap) -> u8 {
    let mut bits = 0;
    for name in headers.keys() {
        let name = name.as_str();
        bits |= match name.len() {
            12 if name == "grpc-timeout" => GRPC_TIMEOUT_BIT,
            13 if name == "retry-attempt" => RETRY_ATTEMPT_BIT,
            18 if name == "x-request-deadline" => REQUEST_DEADLINE_BIT,
            _ => 0,
        };
    }
    bits
}

/// Reads what a request says, and takes out what must not be passed on: every field of a peer that is not trusted, and
/// whatever cannot be understood, for the next hop may understand it in another way. A malformed `grpc-timeout` stays, for
/// the server to answer as its protocol says. `began` is the wall clock at the request's arrival.
pub fn read(headers: &mut HeaderMap, terms: Terms, began: Duration) -> Said {
    let mut said = Said::default();
    let bits = present(headers);
    if bits == 0 {
        return said;
    }
    for (bit, name, mode) in [
        (GRPC_TIMEOUT_BIT, &GRPC_TIMEOUT, terms.deadline),
        (REQUEST_DEADLINE_BIT, &REQUEST_DEADLINE, terms.deadline),
        (RETRY_ATTEMPT_BIT, &RETRY_ATTEMPT, terms.retry),
    ] {
        let Some(mode) = mode.filter(|_| bits & bit != 0) else {
            continue;
        };
        if !terms.trusted {
            said.untrusted += 1;
        } else if understand(headers, bit, began, &mut said) {
            continue;
        } else {
            said.malformed += 1;
            if bit == GRPC_TIMEOUT_BIT {
                continue;
            }
        }
        if mode.enforces() {
            headers.remove(name);
        }
    }
    said
}

/// Whether the field makes sense.
fn understand(headers: &HeaderMap, bit: u8, began: Duration, said: &mut Said) -> bool {
    let left = match bit {
        GRPC_TIMEOUT_BIT => {
            said.grpc_left = only(headers, &GRPC_TIMEOUT).and_then(parse_grpc_timeout);
            said.grpc_left
        }
        REQUEST_DEADLINE_BIT => {
            only(headers, &REQUEST_DEADLINE).and_then(|text| parse_deadline(text, began))
        }
        _ => {
            let attempt = only(headers, &RETRY_ATTEMPT).and_then(parse_attempt);
            said.attempt = attempt.unwrap_or_default();
            return attempt.is_some();
        }
    };
    said.left = [said.left, left].into_iter().flatten().min();
    left.is_some()
}

/// The value of a field that is there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() || value.len() > LONGEST {
        return None;
    }
    value.to_str().ok()
}

/// Reads `grpc-timeout`: up to eight digits and a unit, H M S m u n.
#[must_use]
pub fn parse_grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 {
        return None;
    }
    let count = parse_digits(digits)?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// Reads `x-request-deadline`: `1500ms`, or an RFC 3339 instant, which is compared with the wall clock `now` and so is only as
/// good as two clocks agree. An instant that has passed leaves nothing.
#[must_use]
pub fn parse_deadline(text: &str, now: Duration) -> Option<Duration> {
    // The `T` between date and time is in every instant and in no duration.
    if text.contains(['T', 't']) {
        let at: jiff::Timestamp = text.parse().ok()?;
        let at = u128::try_from(at.as_nanosecond()).unwrap_or(0);
        let left = at.saturating_sub(now.as_nanos());
        return Some(Duration::from_nanos(
            u64::try_from(left).unwrap_or(u64::MAX),
        ));
    }
    units::parse_duration(text).ok()
}

fn parse_attempt(text: &str) -> Option<u32> {
    u32::try_from(parse_digits(text)?).ok()
}

/// Digits and nothing else, as the grammars of all these fields want them.
fn parse_digits(text: &str) -> Option<u64> {
    let all = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| text.parse().ok()).flatten()
}

/// Tells the next hop how long its answer is waited for. `left` is this try's time to the response head; `grpc_left` is what
/// remains of the caller's own `grpc-timeout`, if it sent one.
///
/// A `grpc-timeout` is never made up: it bounds the whole RPC, a stream's end included, where our own time ends with the
/// response head. Both values are rounded down, so that no hop waits longer than the one before it.
pub fn send_deadline(headers: &mut HeaderMap, left: Duration, grpc_left: Option<Duration>) {
    let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
    headers.insert(&REQUEST_DEADLINE, number(millis, "ms"));
    if let Some(left) = grpc_left {
        headers.insert(&GRPC_TIMEOUT, grpc_timeout(left));
    }
}

fn grpc_timeout(left: Duration) -> HeaderValue {
    const FITS: u128 = 100_000_000;
    let micros = left.as_micros();
    let (count, unit) = if micros < FITS {
        (micros, "u")
    } else if micros / 1000 < FITS {
        (micros / 1000, "m")
    } else {
        (u128::from(left.as_secs()).min(FITS - 1), "S")
    };
    number(u64::try_from(count).unwrap_or_default(), unit)
}

fn number(count: u64, unit: &str) -> HeaderValue {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(count);
    let mut text = [0; 24];
    let length = digits.len() + unit.len();
    text[..digits.len()].copy_from_slice(digits.as_bytes());
    text[digits.len()..length].copy_from_slice(unit.as_bytes());
    HeaderValue::from_bytes(&text[..length]).expect("digits and letters are visible ASCII")
}

/// Marks a request as retry number `attempt`, counted over all hops before it.
pub fn send_attempt(headers: &mut HeaderMap, attempt: u32) {
    headers.insert(&RETRY_ATTEMPT, HeaderValue::from(attempt));
}

/// What an answer says about sending the call again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushback {
    /// Do not.
    Never,
    /// Not before this has passed.
    After(Duration),
}

/// What the head of an answer, or its trailers, say about sending the call again.
#[must_use]
pub fn pushback(headers: &HeaderMap) -> Option<Pushback> {
    if headers.contains_key(&NO_RETRY) {
        return Some(Pushback::Never);
    }
    if !headers.contains_key(&GRPC_PUSHBACK) {
        return None;
    }
    // gRFC A6: a value that cannot be read as a number from zero on means "do not retry".
    let millis = only(headers, &GRPC_PUSHBACK)
        .and_then(parse_digits)
        .filter(|millis| i32::try_from(*millis).is_ok());
    Some(millis.map_or(Pushback::Never, |millis| {
        Pushback::After(Duration::from_millis(millis))
    }))
}

/// Says on an answer that the call is not to be sent again, and why, unless a hop further on has said so already. gRPC
/// clients that retry by themselves understand their own field, so an answer that is ours gets it too.
pub fn forbid_retry(headers: &mut HeaderMap, why: &'static str, is_own_grpc: bool) {
    headers
        .entry(&NO_RETRY)
        .or_insert(HeaderValue::from_static(why));
    if is_own_grpc {
        headers.insert(&GRPC_PUSHBACK, HeaderValue::from_static("-1"));
    }
}
