//! Whether a stored answer may be used for a request (RFC 9111 sections 4, 4.2.4 and 5.2.1).

use std::time::Duration;
use std::time::Instant;

use super::Asked;
use super::Rules;
use super::Stored;
use super::directives::Delta;

/// What becomes of a stored answer; the table is in the module above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Answer with it.
    Fresh,
    /// Answer with it although it is stale: the client accepts that.
    Stale,
    /// Answer with it, and refresh it behind the client's back.
    Revalidating,
    /// Ask the upstream first, with its validators if it has some.
    Validate(Why),
    /// Leave it alone and ask the upstream: it was kept on the policy's word, and this request is personal.
    Bypass,
    /// Answer 504: the client wants nothing from the upstream (`only-if-cached`).
    GatewayTimeout,
}

/// Why the upstream has to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The client wants it (`fwd=request` of RFC 9211).
    Request,
    /// The answer is stale, or never to be used unasked (`fwd=stale`).
    Stale,
}

/// Where nothing is stored for a request: `None` is to ask the upstream.
#[must_use]
pub fn missing(asked: &Asked) -> Option<Use> {
    asked
        .directives
        .only_if_cached
        .then_some(Use::GatewayTimeout)
}

/// Judges by the table of the module above.
#[must_use]
pub fn judge(asked: &Asked, stored: &Stored, rules: &Rules, now: Instant) -> Use {
    match unhurried(asked, stored, rules, now) {
        Use::Validate(_) | Use::Bypass if asked.directives.only_if_cached => Use::GatewayTimeout,
        other => other,
    }
}

fn unhurried(asked: &Asked, stored: &Stored, rules: &Rules, now: Instant) -> Use {
    if not_for(asked, stored, rules) {
        return Use::Bypass;
    }
    let wants = &asked.directives;
    if wants.no_cache {
        return Use::Validate(Why::Request);
    }
    if stored.no_cache {
        return Use::Validate(Why::Stale);
    }
    let age = stored.age(now);
    let fresh = stored.is_fresh(now);
    let limit = match wants.max_age {
        Delta::Absent => None,
        // RFC 8246 section 2: what will not change need not be asked for again while it is fresh.
        _ if fresh && stored.immutable => None,
        given => Some(seconds(given).unwrap_or(Duration::ZERO)),
    };
    if let Some(more) = seconds(wants.min_fresh) {
        // Section 5.2.1.3: fresh for at least so much longer.
        if stored.lifetime < age.saturating_add(more) {
            return Use::Validate(Why::Request);
        }
    }
    let over_limit = limit.is_some_and(|limit| age > limit);
    if fresh && !over_limit {
        return Use::Fresh;
    }
    if !fresh && stored.forbids_stale() {
        // What its origin allowed by name is left of the window; the client's wish is not asked.
        return within(stored, now, stored.stale_while_revalidate, over_limit);
    }
    // Section 5.2.1.2: so much past what the client would else have accepted, which is the shorter of both.
    let accepted = limit.map_or(stored.lifetime, |limit| limit.min(stored.lifetime));
    if seconds(wants.max_stale).is_some_and(|most| age <= accepted.saturating_add(most)) {
        return if fresh { Use::Fresh } else { Use::Stale };
    }
    if fresh {
        return Use::Validate(Why::Request);
    }
    within(stored, now, stored.stale_while_revalidate, over_limit)
}

/// Kept on nobody's word but the policy's, or with credentials that the policy wants left alone.
fn not_for(asked: &Asked, stored: &Stored, rules: &Rules) -> bool {
    let refused = asked.authorization && !rules.credentialed;
    refused || (asked.personal(rules) && !stored.source.of_origin())
}

fn within(stored: &Stored, now: Instant, window: Duration, over_limit: bool) -> Use {
    // A client that limits the age has said that it will wait for a younger one.
    if !over_limit && !window.is_zero() && stored.stale_by(now) <= window {
        Use::Revalidating
    } else {
        Use::Validate(Why::Stale)
    }
}

/// Whether a stored answer may stand in for an upstream that failed: could not be asked, or answered 500, 502, 503 or 504
/// (RFC 5861 section 4). `Some` is by how much it is stale.
#[must_use]
pub fn if_error(asked: &Asked, stored: &Stored, rules: &Rules, now: Instant) -> Option<Duration> {
    let wants = &asked.directives;
    if not_for(asked, stored, rules) || wants.no_cache || stored.no_cache || stored.revalidate {
        return None;
    }
    let stale_by = stored.stale_by(now);
    if stale_by.is_zero() {
        return Some(stale_by);
    }
    let client = seconds(wants.stale_if_error).filter(|_| !stored.forbids_stale());
    let window = stored.stale_if_error.max(client.unwrap_or(Duration::ZERO));
    (stale_by <= window).then_some(stale_by)
}

fn seconds(delta: Delta) -> Option<Duration> {
    delta.seconds().map(|n| Duration::from_secs(n.into()))
}

impl Stored {
    /// Its origin forbids stale answers (RFC 9111 section 4.2.4).
    #[must_use]
    pub const fn forbids_stale(&self) -> bool {
        self.no_cache || self.revalidate || self.shared_age
    }
}
