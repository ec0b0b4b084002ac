//! How old an answer is and how long it is fresh (RFC 9111 section 4.2).

use std::time::Duration;
use std::time::Instant;

use crate::kit::date;

use super::Headers;
use super::Rules;
use super::Stored;
use super::Times;
use super::directives::Delta;
use super::directives::Directives;
use super::syntax::MAX_SECONDS;
use super::syntax::delta_seconds;
use super::syntax::members;

/// Who gave an answer its lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `s-maxage`.
    SharedMaxAge,
    /// `max-age`.
    MaxAge,
    /// `Expires`.
    Expires,
    /// The policy, where the origin said nothing.
    Policy,
    /// The policy's bounds, over or under what the origin said.
    Bounded,
    /// A share of the time since `Last-Modified`.
    Heuristic,
    /// Nobody: it is stale from the start.
    Nobody,
}

impl Source {
    /// The word of the decision record.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Source::SharedMaxAge => "s-maxage",
            Source::MaxAge => "max-age",
            Source::Expires => "expires",
            Source::Policy => "policy",
            Source::Bounded => "bounds",
            Source::Heuristic => "heuristic",
            Source::Nobody => "none",
        }
    }

    /// The origin had a word in it.
    #[must_use]
    pub const fn of_origin(self) -> bool {
        matches!(
            self,
            Source::SharedMaxAge | Source::MaxAge | Source::Expires | Source::Bounded
        )
    }
}

/// The longest that a guess may reach: a page unchanged for ten years would be fresh for one.
pub const HEURISTIC_MAX: Duration = Duration::from_secs(86_400);

/// A date field in seconds since 1970; none if it is absent or no date.
pub fn date_of<H: Headers>(headers: &H, name: &str, now_unix: u64) -> Option<i64> {
    parse_date(headers.first(name)?, now_unix)
}

/// A date in any of its three forms.
pub fn parse_date(value: &[u8], now_unix: u64) -> Option<i64> {
    date::parse(std::str::from_utf8(value).ok()?.trim(), now_unix)
}

/// `corrected_initial_age` (RFC 9111 section 4.2.3).
pub fn initial_age<H: Headers>(headers: &H, times: Times) -> Duration {
    let received = i64::try_from(times.received_unix).unwrap_or(i64::MAX);
    let date = date_of(headers, "date", times.received_unix).unwrap_or(received);
    let apparent = Duration::from_secs(received.saturating_sub(date).max(0).unsigned_abs());
    // Section 5.1: the first of a list counts, and one that is no number is ignored.
    let said = members(headers.values("age"))
        .next()
        .and_then(delta_seconds);
    let delay = times.received.saturating_duration_since(times.requested);
    let corrected = Duration::from_secs(said.unwrap_or(0).into()).saturating_add(delay);
    apparent.max(corrected)
}

/// How long an answer is fresh, and who says so (RFC 9111 section 4.2.1). `plain`: nothing about the request or the answer is
/// personal, so that what its origin did not say may be added by the policy.
pub fn lifetime<H: Headers>(
    status: u16,
    headers: &H,
    said: &Directives,
    targeted: bool,
    plain: bool,
    received_unix: u64,
    rules: &Rules,
) -> (Duration, Source) {
    let (lifetime, source) = match explicit(headers, said, targeted, received_unix) {
        Some(explicit) => explicit,
        None if plain => implied(status, headers, said, received_unix, rules),
        None => (Duration::ZERO, Source::Nobody),
    };
    if !source.of_origin() {
        return (lifetime, source);
    }
    let mut bounded = lifetime;
    if let Some(most) = rules.ttl_max {
        bounded = bounded.min(most);
    }
    if let Some(least) = rules.ttl_min.filter(|_| plain && status < 400) {
        bounded = bounded.max(least);
    }
    if bounded == lifetime {
        (lifetime, source)
    } else {
        (bounded, Source::Bounded)
    }
}

fn explicit<H: Headers>(
    headers: &H,
    said: &Directives,
    targeted: bool,
    received_unix: u64,
) -> Option<(Duration, Source)> {
    // What cannot be read gives no freshness, rather than leaving the word to whoever comes next (section 4.2.1).
    let span = |delta: Delta| Duration::from_secs(delta.seconds().unwrap_or(0).into());
    if said.s_maxage.given() {
        return Some((span(said.s_maxage), Source::SharedMaxAge));
    }
    if said.max_age.given() {
        return Some((span(said.max_age), Source::MaxAge));
    }
    // RFC 9213 section 2.2: beside a targeted field, Expires is not read.
    if targeted || !headers.has("expires") {
        return None;
    }
    let received = i64::try_from(received_unix).unwrap_or(i64::MAX);
    let date = date_of(headers, "date", received_unix).unwrap_or(received);
    let until = date_of(headers, "expires", received_unix).unwrap_or(i64::MIN);
    let left = until.saturating_sub(date).clamp(0, MAX_SECONDS.into());
    Some((Duration::from_secs(left.unsigned_abs()), Source::Expires))
}

fn implied<H: Headers>(
    status: u16,
    headers: &H,
    said: &Directives,
    received_unix: u64,
    rules: &Rules,
) -> (Duration, Source) {
    if let Some((_, lifetime)) = rules.negative.iter().find(|(known, _)| *known == status) {
        return (*lifetime, Source::Policy);
    }
    if !(heuristically_cacheable(status) || said.public) {
        return (Duration::ZERO, Source::Nobody);
    }
    // What was written for HTTP/1.0 says it this way, and means it.
    if !headers.has("cache-control") && pragma_forbids(headers) {
        return (Duration::ZERO, Source::Nobody);
    }
    // What an operator says of answers is meant for those that are some; failures have a word of their own, `negative`.
    if let Some(lifetime) = rules.default_ttl.filter(|_| status < 400) {
        return (lifetime, Source::Policy);
    }
    let received = i64::try_from(received_unix).unwrap_or(i64::MAX);
    let date = date_of(headers, "date", received_unix).unwrap_or(received);
    let modified = date_of(headers, "last-modified", received_unix);
    match (rules.heuristic, modified) {
        (Some(share), Some(modified)) if modified < date => {
            let unchanged = Duration::from_secs(date.saturating_sub(modified).unsigned_abs());
            let guess = unchanged.as_secs_f64() * share.clamp(0.0, 1.0);
            let guess = Duration::from_secs(guess as u64).min(HEURISTIC_MAX);
            (guess, Source::Heuristic)
        }
        _ => (Duration::ZERO, Source::Nobody),
    }
}

fn pragma_forbids<H: Headers>(headers: &H) -> bool {
    members(headers.values("pragma")).any(|word| word.eq_ignore_ascii_case(b"no-cache"))
}

/// Statuses that may be kept without being told to (RFC 9110 section 15.1).
#[must_use]
pub const fn heuristically_cacheable(status: u16) -> bool {
    matches!(
        status,
        200 | 203 | 204 | 206 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    )
}

impl Stored {
    /// `current_age` (RFC 9111 section 4.2.3).
    #[must_use]
    pub fn age(&self, now: Instant) -> Duration {
        self.initial_age
            .saturating_add(now.saturating_duration_since(self.received))
    }

    /// Fresh at `now`: its lifetime is longer than its age (section 4.2).
    #[must_use]
    pub fn is_fresh(&self, now: Instant) -> bool {
        self.lifetime > self.age(now)
    }

    /// Whole seconds of freshness left; below zero once it is stale. `ttl` of RFC 9211 section 2.4.
    #[must_use]
    pub fn ttl(&self, now: Instant) -> i64 {
        // From whole seconds, as the client reads them in `Age`: both together are the lifetime.
        let whole = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        whole(self.lifetime).saturating_sub(whole(self.age(now)))
    }

    /// By how much it is past its lifetime; zero while it is fresh.
    #[must_use]
    pub fn stale_by(&self, now: Instant) -> Duration {
        self.age(now).saturating_sub(self.lifetime)
    }

    /// The same answer, stale from `now` on: what a soft purge makes of it.
    #[must_use]
    pub fn expired(&self, now: Instant) -> Self {
        let mut aged = self.clone();
        aged.lifetime = aged.lifetime.min(self.age(now));
        aged
    }

    /// When nothing can use it any more without asking its upstream, even if that fails. With a validator it is still worth
    /// keeping as long as there is room.
    #[must_use]
    pub fn useful_for(&self) -> Duration {
        let grace = self.stale_while_revalidate.max(self.stale_if_error);
        self.lifetime
            .saturating_add(grace)
            .saturating_sub(self.initial_age)
    }
}
