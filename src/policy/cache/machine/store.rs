//! Whether an answer may be kept (RFC 9111 section 3), and what is kept of its head (section 3.1).

use std::time::Duration;

use super::Asked;
use super::Headers;
use super::Rules;
use super::Stored;
use super::Times;
use super::directives::Delta;
use super::directives::Directives;
use super::fresh;
use super::fresh::Source;
use super::part;
use super::targeted;
use super::vary;

/// Why an answer is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyNot {
    /// It answers a HEAD: there is no body to keep (RFC 9110 section 9.3.2).
    Head,
    /// It is no final answer, or one to this caller at this moment: a demand for credentials, or for patience.
    Status,
    /// It answers a condition of the request, or a range in a way that cannot be used for others.
    Partial,
    /// The request forbade it (RFC 9111 section 5.2.1.5).
    RequestNoStore,
    /// The answer forbids it (section 5.2.2.5).
    NoStore,
    /// It is for one user (section 5.2.2.7).
    Private,
    /// The request carried credentials, and the answer does not say that others may have it (section 3.5).
    Authorization,
    /// It sets a cookie, and neither its origin nor the policy says that others may have that.
    SetCookie,
    /// `Vary: *`, or more fields than anybody selects by (section 4.1).
    Vary,
    /// `must-understand`, and we do not know its status (section 5.2.2.3).
    NotUnderstood,
    /// It blames the request's form, which is not in the key: who sends one too large would poison it for all.
    Rejection,
    /// Nobody says that it is ever fresh, it has no validator, and it may not be used stale.
    NoFreshness,
}

impl WhyNot {
    /// Every reason.
    pub const ALL: [WhyNot; 12] = [
        WhyNot::Head,
        WhyNot::Status,
        WhyNot::Partial,
        WhyNot::RequestNoStore,
        WhyNot::NoStore,
        WhyNot::Private,
        WhyNot::Authorization,
        WhyNot::SetCookie,
        WhyNot::Vary,
        WhyNot::NotUnderstood,
        WhyNot::Rejection,
        WhyNot::NoFreshness,
    ];

    /// The word of the log and the metric.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            WhyNot::Head => "head",
            WhyNot::Status => "status",
            WhyNot::Partial => "partial",
            WhyNot::RequestNoStore => "request_no_store",
            WhyNot::NoStore => "no_store",
            WhyNot::Private => "private",
            WhyNot::Authorization => "authorization",
            WhyNot::SetCookie => "set_cookie",
            WhyNot::Vary => "vary",
            WhyNot::NotUnderstood => "not_understood",
            WhyNot::Rejection => "rejection",
            WhyNot::NoFreshness => "no_freshness",
        }
    }

    /// The reason lies in what the upstream has there, and not in this one request: the next answer under the same key will
    /// likely be refused too, so that nobody should wait for it, and what is kept is of the past.
    #[must_use]
    pub const fn likely_again(self) -> bool {
        !matches!(
            self,
            WhyNot::Head
                | WhyNot::Partial
                | WhyNot::RequestNoStore
                | WhyNot::Authorization
                | WhyNot::Rejection
        )
    }
}

/// A larger request head may be why an origin answers 400; browsers and clients stay far below.
pub const PLAIN_HEAD_BYTES: usize = 2048;

/// Judges an answer. `request` is the head that was sent upstream, `response` the head that came.
pub fn judge<Q: Headers, R: Headers>(
    asked: &Asked,
    request: &Q,
    status: u16,
    response: &R,
    times: Times,
    rules: &Rules,
) -> Result<Stored, WhyNot> {
    let (said, targeted) = targeted::directives(response);
    if asked.head {
        return Err(WhyNot::Head);
    }
    let part = match status {
        206 => Some(part::came(asked, request, response).ok_or(WhyNot::Partial)?),
        status if is_partial(status) => return Err(WhyNot::Partial),
        _ => None,
    };
    if !(200..=599).contains(&status) || is_personal(status) {
        return Err(WhyNot::Status);
    }
    if asked.directives.no_store {
        return Err(WhyNot::RequestNoStore);
    }
    isolated(asked, &said, rules)?;
    allowed(&said, status)?;
    if rejection(status, request.bytes()) && !rules.negative.iter().any(|(s, _)| *s == status) {
        return Err(WhyNot::Rejection);
    }
    let mut withheld = said.withheld.clone();
    if response.has("set-cookie") && !said.public {
        // Even where cookies change nothing, one client's must not be given to another.
        if !rules.cookies {
            return Err(WhyNot::SetCookie);
        }
        withheld.push(b"set-cookie"[..].into());
    }
    let selected = vary::select(response, request).ok_or(WhyNot::Vary)?;
    let plain = !asked.personal(rules);
    let received = times.received_unix;
    let (lifetime, source) =
        fresh::lifetime(status, response, &said, targeted, plain, received, rules);
    let stored = Stored {
        status,
        received: times.received,
        initial_age: fresh::initial_age(response, times),
        lifetime,
        source,
        date: fresh::date_of(response, "date", received)
            .unwrap_or(i64::try_from(received).unwrap_or(i64::MAX)),
        no_cache: said.no_cache,
        revalidate: said.must_revalidate || said.proxy_revalidate,
        shared_age: said.s_maxage.given(),
        immutable: said.immutable,
        stale_while_revalidate: Duration::ZERO,
        stale_if_error: Duration::ZERO,
        etag: response
            .first("etag")
            .filter(|tag| !tag.is_empty())
            .map(Into::into),
        last_modified: response
            .first("last-modified")
            .and_then(|value| Some((value.into(), fresh::parse_date(value, received)?))),
        selected,
        part,
        withheld,
    };
    worth(grace(stored, &said, rules, plain), plain)
}

/// `no-store`, unless `must-understand` stands beside it and we do (section 5.2.2.3).
fn allowed(said: &Directives, status: u16) -> Result<(), WhyNot> {
    match (said.must_understand, said.no_store) {
        (true, _) if !understood(status) => Err(WhyNot::NotUnderstood),
        (false, true) => Err(WhyNot::NoStore),
        _ => Ok(()),
    }
}

/// Whose answer it is (sections 3 and 3.5). A key that holds the principal makes the cache that user's own.
fn isolated(asked: &Asked, said: &Directives, rules: &Rules) -> Result<(), WhyNot> {
    if said.private && (!asked.principal || asked.personal(rules)) {
        return Err(WhyNot::Private);
    }
    let common = said.public || said.must_revalidate || said.s_maxage.given();
    if asked.authorization && !(common && rules.credentialed) {
        return Err(WhyNot::Authorization);
    }
    Ok(())
}

/// Fills in how long it may be used stale, after all who forbid it were heard (section 4.2.4, RFC 5861).
fn grace(mut stored: Stored, said: &Directives, rules: &Rules, plain: bool) -> Stored {
    if stored.no_cache || stored.revalidate {
        return stored;
    }
    let span = |delta: Delta| delta.seconds().map(|n| Duration::from_secs(n.into()));
    // `s-maxage` forbids stale answers (section 5.2.2.10), unless its own origin goes on to allow them by name.
    let policy = plain && !stored.shared_age;
    let ours = |window: Duration| if policy { window } else { Duration::ZERO };
    stored.stale_while_revalidate =
        span(said.stale_while_revalidate).unwrap_or(ours(rules.stale_while_revalidate));
    stored.stale_if_error = span(said.stale_if_error)
        .unwrap_or(Duration::ZERO)
        .max(ours(rules.stale_if_error));
    stored
}

/// Section 3 asks that somebody allows to keep it; we ask besides that it can ever be of use.
fn worth(stored: Stored, plain: bool) -> Result<Stored, WhyNot> {
    let ok = stored.status < 400;
    let usable = stored.lifetime > stored.initial_age && !stored.no_cache;
    let told = stored.source != Source::Nobody
        || (ok && plain && fresh::heuristically_cacheable(stored.status));
    // A part is not asked for again: its time over, the next wish is for the upstream.
    let validates =
        ok && stored.part.is_none() && (stored.etag.is_some() || stored.last_modified.is_some());
    let grace = stored.stale_while_revalidate.max(stored.stale_if_error);
    let stands_in = ok
        && stored.part.is_none()
        && !grace.is_zero()
        && stored.initial_age < stored.lifetime + grace;
    if told && (usable || validates || stands_in) {
        Ok(stored)
    } else {
        Err(WhyNot::NoFreshness)
    }
}

/// Statuses that answer a range or a condition of one request. A 206 of one range is kept all the same.
#[must_use]
pub const fn is_partial(status: u16) -> bool {
    matches!(status, 206 | 304 | 412 | 416 | 417)
}

/// Statuses that answer one caller or one moment, whatever is said of their freshness: demands (401, 407, 426, 428), and pleas
/// for time or another connection (408, 421, 425, 429).
#[must_use]
pub const fn is_personal(status: u16) -> bool {
    matches!(status, 401 | 407 | 408 | 421 | 425 | 426 | 428 | 429)
}

/// Statuses whose caching we know all about (section 3): those of RFC 9110 that are not about parts.
const fn understood(status: u16) -> bool {
    matches!(
        status,
        200 | 203 | 204 | 300 | 301 | 302 | 303 | 307 | 308 | 404 | 405 | 410 | 414 | 501
    )
}

const fn rejection(status: u16, request_bytes: usize) -> bool {
    match status {
        413 | 431 => true,
        // That the URL is too long is so for all who ask for it; what else stood in the head is not.
        400 | 414 => request_bytes > PLAIN_HEAD_BYTES,
        _ => false,
    }
}

/// Whether a field is kept with an answer (section 3.1). `name` in lower case. What `Connection` names, and what
/// [`Stored::withheld`] names, is left out besides.
#[must_use]
pub fn keeps(name: &str) -> bool {
    !matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authentication-info"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            // Said anew with each answer.
            | "age"
            | "cache-status"
            | "proxy-status"
            | "x-request-id"
            | "ratelimit"
            | "ratelimit-policy"
    )
}
