//! Whether a failed try is made again, and when.
//!
//! The rows are asked from the top; the first that applies decides.
//!
//! | asked | applies if | decision |
//! |---|---|---|
//! | began? | the response has begun to flow to the caller | stop: `began` |
//! | retriable? | `when` does not name the outcome; or a 429 without `Retry-After` | stop: `not_retriable` |
//! | forbidden? | the answer says not to retry (`outrider-no-retry`, or a gRPC pushback below zero) | stop: `forbidden` |
//! | safe? | the request may have been sent, `methods` does not name the method, it carries no idempotency key, and the outcome is not a gRPC status | stop: `method` |
//! | ours? | the hop before us is retrying this call already, and the request may have been sent | stop: `hop_retries` |
//! | tries left? | `max` extra tries were made | stop: `exhausted` |
//! | replayable? | the body is gone or was larger than `replay` | stop: `body_too_large` |
//! | time left? | the wait (a gRPC pushback; else back-off, after `Retry-After` where it is honoured) would leave less than 1 ms of what remains | stop: `no_time` |
//! | | otherwise | retry after the wait |
//!
//! The budget is asked last, by the skin, for asking it spends it.

use std::time::Duration;

use super::config::Methods;
use super::config::Settings;
use crate::kit::backoff::LEAST_TRY;
use crate::kit::date;

/// How a try ended, as far as retrying is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdictable {
    /// A response with this status code.
    Status(u16),
    /// A gRPC response with this status, which came before any message.
    Grpc(u8),
    /// No connection could be made. Nothing was sent.
    Connect,
    /// The endpoint said that it did not process the request. As good as not sent.
    Refused,
    /// The connection ended before a response began.
    Reset,
    /// The try used up its time.
    TryTimeout,
    /// Anything else, such as an answer that is not HTTP. Never tried again.
    Other,
}

/// Whether the upstream may have seen the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sent {
    /// Not one byte left: repeating it is safe whatever the method.
    No,
    /// Some or all of it may have arrived, and may have been acted upon.
    Maybe,
}

/// What an answer says of sending the call again, besides `Retry-After`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pushback {
    /// Not to (`outrider-no-retry`, or a `grpc-retry-pushback-ms` below zero).
    Never,
    /// After exactly this long (gRFC A6).
    After(Duration),
}

/// One try that has ended without a good answer.
#[derive(Debug, Clone, Copy)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each one is a question of the table above"
)]
pub struct Attempt<'a> {
    /// The request method, as sent.
    pub method: &'a str,
    /// Whether it carries a key by which the upstream, as declared, knows it again: then every method may be repeated.
    pub idempotent: bool,
    /// Tries made so far, this one included: 1 after the first.
    pub tries_made: u32,
    /// How this one ended.
    pub outcome: Verdictable,
    /// Whether it may have reached the upstream.
    pub sent: Sent,
    /// Whether the request can be sent again from the first byte.
    pub replayable: bool,
    /// Whether any of the response has been passed on to the caller.
    pub response_began: bool,
    /// The hop before us marked the call as a retry of its own.
    pub hop_retries: bool,
    /// What the answer says of retrying.
    pub pushback: Option<Pushback>,
    /// The response's `Retry-After`, as by [`parse_retry_after`].
    pub retry_after: Option<Duration>,
    /// What is left of the deadline.
    pub remaining: Duration,
    /// The wait before this try; zero for the first.
    pub previous: Duration,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Try again.
    Retry {
        /// After waiting for this long. Always less than what remains.
        after: Duration,
    },
    /// Give the outcome to the caller.
    Stop(WhyNot),
}

/// Why a try is not made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WhyNot {
    /// The policy does not name the outcome.
    NotRetriable,
    /// The request may have been acted upon, and the method is not one that may be repeated.
    Method,
    /// The answer says not to: some hop further on has retried already, or must not be asked again.
    Forbidden,
    /// The hop before us retries this call already. Were each hop to do so, their tries would multiply.
    HopRetries,
    /// The tries are used up.
    Exhausted,
    /// The request cannot be sent again.
    BodyTooLarge,
    /// The deadline would pass before the next try.
    NoTime,
    /// The caller has part of a response already.
    Began,
}

impl WhyNot {
    /// Every reason.
    pub const ALL: [WhyNot; 8] = [
        WhyNot::NotRetriable,
        WhyNot::Forbidden,
        WhyNot::Method,
        WhyNot::HopRetries,
        WhyNot::Exhausted,
        WhyNot::BodyTooLarge,
        WhyNot::NoTime,
        WhyNot::Began,
    ];

    /// The word of the metric label and the log.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            WhyNot::NotRetriable => "not_retriable",
            WhyNot::Method => "method",
            WhyNot::Forbidden => "forbidden",
            WhyNot::HopRetries => "hop_retries",
            WhyNot::Exhausted => "exhausted",
            WhyNot::BodyTooLarge => "body_too_large",
            WhyNot::NoTime => "no_time",
            WhyNot::Began => "began",
        }
    }
}

/// What the hops before us are told when a try is not made again: the word, if they must not send the call either.
///
/// They are if this hop has retried in vain, or if its time is up. That a method, a body or an outcome is none to repeat they
/// judge by themselves; that they are retrying already, they know; and what forbids us is written on the answer.
#[must_use]
pub fn told_upwards(why: WhyNot, tries_made: u32) -> Option<&'static str> {
    match why {
        WhyNot::Exhausted => (tries_made > 1).then_some(why.word()),
        WhyNot::NoTime | WhyNot::Forbidden => Some(why.word()),
        WhyNot::NotRetriable
        | WhyNot::Method
        | WhyNot::HopRetries
        | WhyNot::BodyTooLarge
        | WhyNot::Began => None,
    }
}

/// Judges one try by the table above. `draw` is uniform in `[0, 1)`.
#[must_use]
pub fn judge(settings: &Settings, attempt: &Attempt<'_>, draw: f64) -> Decision {
    if attempt.response_began {
        return Decision::Stop(WhyNot::Began);
    }
    if !retriable(settings, attempt) {
        return Decision::Stop(WhyNot::NotRetriable);
    }
    if attempt.pushback == Some(Pushback::Never) {
        return Decision::Stop(WhyNot::Forbidden);
    }
    // Every gRPC call is a POST; who names a gRPC status in `when` has said that its calls may be repeated.
    let consents = matches!(attempt.outcome, Verdictable::Grpc(_));
    let may_repeat = attempt.idempotent || allows(&settings.methods, attempt.method);
    if !unsent(attempt) && !consents && !may_repeat {
        return Decision::Stop(WhyNot::Method);
    }
    if attempt.hop_retries && !unsent(attempt) {
        return Decision::Stop(WhyNot::HopRetries);
    }
    if attempt.tries_made > settings.max {
        return Decision::Stop(WhyNot::Exhausted);
    }
    if !attempt.replayable {
        return Decision::Stop(WhyNot::BodyTooLarge);
    }
    let after = wait(settings, attempt, draw);
    if after.saturating_add(LEAST_TRY) > attempt.remaining {
        return Decision::Stop(WhyNot::NoTime);
    }
    Decision::Retry { after }
}

fn retriable(settings: &Settings, attempt: &Attempt<'_>) -> bool {
    let when = &settings.when;
    match attempt.outcome {
        // Without a time to come back, "too many requests" is answered worst by one more.
        Verdictable::Status(429) => when.statuses.contains(&429) && attempt.retry_after.is_some(),
        Verdictable::Status(code) => when.statuses.contains(&code),
        Verdictable::Grpc(code) => when.grpc.contains(&code),
        Verdictable::Connect => when.connect,
        Verdictable::Refused => when.refused,
        Verdictable::Reset => when.reset,
        Verdictable::TryTimeout => when.try_timeout,
        Verdictable::Other => false,
    }
}

fn unsent(attempt: &Attempt<'_>) -> bool {
    matches!(attempt.outcome, Verdictable::Connect | Verdictable::Refused)
        || attempt.sent == Sent::No
}

fn wait(settings: &Settings, attempt: &Attempt<'_>, draw: f64) -> Duration {
    if let Some(Pushback::After(asked)) = attempt.pushback {
        // To the letter: the server that counts in milliseconds has spread them itself.
        return asked;
    }
    let backoff = settings
        .backoff
        .delay(attempt.tries_made, attempt.previous, draw);
    match attempt.retry_after {
        // On top of what was asked, for all who were told the same second would come back in it.
        Some(asked) if settings.retry_after => asked.saturating_add(backoff),
        _ => backoff,
    }
}

/// Whether a method may be sent twice under `methods`. Case counts (RFC 9110 section 9.1).
#[must_use]
pub fn allows(methods: &Methods, method: &str) -> bool {
    let safe = matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE");
    match methods {
        Methods::Safe => safe,
        Methods::Idempotent => safe || matches!(method, "PUT" | "DELETE"),
        Methods::All => true,
        Methods::List(list) => list.iter().any(|listed| listed == method),
    }
}

/// Parses `Retry-After` (RFC 9110 section 10.2.3): seconds, or a date in one of the three forms of section 5.6.7.
/// `now_unix` is the wall clock in seconds since 1970. A date that has passed is zero; a text in no known form is none.
#[must_use]
pub fn parse_retry_after(value: &str, now_unix: u64) -> Option<Duration> {
    let value = value.trim_matches([' ', '\t']);
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // Digits that overflow are a very long time, not a malformed one.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let at = date::parse(value, now_unix)?;
    let wait = at.saturating_sub(i64::try_from(now_unix).ok()?);
    Some(Duration::from_secs(u64::try_from(wait).unwrap_or(0)))
}
