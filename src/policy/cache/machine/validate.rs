//! Validation (RFC 9111 section 4.3): of a client's copy against ours, and of ours against its upstream.

use super::Asked;
use super::Headers;
use super::Rules;
use super::Stored;
use super::Times;
use super::WhyNot;
use super::fresh;
use super::store;
use super::syntax::members;

/// Request fields that make it conditional on a copy: taken off a request that carries our own validators, or that fetches
/// the whole answer for all.
pub const CONDITIONS: [&str; 3] = ["if-none-match", "if-modified-since", "if-range"];

/// Whether a client's copy is still good, so that 304 answers it: `If-None-Match` if there is one, else
/// `If-Modified-Since` (RFC 9111 section 4.3.2, RFC 9110 section 13.2.2).
pub fn not_modified<H: Headers>(request: &H, stored: &Stored, now_unix: u64) -> bool {
    // RFC 9110 section 13.2.1: a condition counts only where the answer would else be a success.
    if !(200..=299).contains(&stored.status) {
        return false;
    }
    if request.has("if-none-match") {
        return members(request.values("if-none-match")).any(|tag| {
            tag == b"*"
                || stored
                    .etag
                    .as_deref()
                    .is_some_and(|ours| weakly_equal(tag, ours))
        });
    }
    let mut since = request.values("if-modified-since");
    // Not a list: of several nobody knows which one the client means.
    let (Some(value), None) = (since.next(), since.next()) else {
        return false;
    };
    let Some(since) = fresh::parse_date(value, now_unix) else {
        return false;
    };
    let changed = stored
        .last_modified
        .as_ref()
        .map_or(stored.date, |(_, at)| *at);
    changed <= since
}

/// Whether a field of the stored head goes into a 304 (RFC 9110 section 15.4.5): not what describes a body that is not sent.
#[must_use]
pub fn in_not_modified(name: &str) -> bool {
    match name {
        "content-location" | "content-security-policy" => true,
        name => !name.starts_with("content-") && name != "accept-ranges",
    }
}

/// Two tags name the same answer, or ones as good as each other (RFC 9110 section 8.8.3.2).
#[must_use]
pub fn weakly_equal(one: &[u8], other: &[u8]) -> bool {
    opaque(one) == opaque(other)
}

/// Two tags name the same bytes.
#[must_use]
pub fn strongly_equal(one: &[u8], other: &[u8]) -> bool {
    one == other && is_strong(one)
}

/// A tag without `W/` before it.
#[must_use]
pub fn is_strong(tag: &[u8]) -> bool {
    !tag.starts_with(b"W/")
}

fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// The fields that ask the upstream whether a stored answer is still good (section 4.3.1). Both none: it has no validator, and
/// has to be fetched again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Question<'a> {
    /// For `If-None-Match`.
    pub etag: Option<&'a [u8]>,
    /// For `If-Modified-Since`.
    pub last_modified: Option<&'a [u8]>,
}

impl Question<'_> {
    /// There is something to ask with.
    #[must_use]
    pub const fn asks(&self) -> bool {
        self.etag.is_some() || self.last_modified.is_some()
    }
}

impl Stored {
    /// What to ask its upstream with.
    #[must_use]
    pub fn question(&self) -> Question<'_> {
        Question {
            etag: self.etag.as_deref(),
            last_modified: self.last_modified.as_ref().map(|(text, _)| &**text),
        }
    }
}

/// Whether a 304 is about `stored` (section 4.3.4). `asked`: it is the one whose validators were sent. A 304 without any
/// validator is taken to be about that one.
pub fn freshens<H: Headers>(not_modified: &H, stored: &Stored, asked: bool) -> bool {
    let date = not_modified.first("last-modified");
    let ours = stored.last_modified.as_ref().map(|(text, _)| &**text);
    let Some(tag) = not_modified.first("etag") else {
        return asked && date.is_none_or(|date| ours.is_none_or(|ours| ours == date));
    };
    match stored.etag.as_deref() {
        Some(ours) if is_strong(tag) && ours == tag => true,
        // An origin that keeps its tag weak in one answer and strong in another means the same one: it was asked about no
        // other. nginx does so for what it compresses.
        Some(ours) => asked && weakly_equal(ours, tag),
        None => asked && date.is_some() && ours == date,
    }
}

/// Whether a field of a 304 replaces the stored one (section 3.2). `name` in lower case.
#[must_use]
pub fn replaces(name: &str) -> bool {
    // What says how the stored bytes are to be cut and decoded stays as it was when they came, and so does their name.
    let of_the_body = matches!(
        name,
        "content-length" | "content-encoding" | "content-range" | "etag"
    );
    !of_the_body && store::keeps(name)
}

/// A validated answer anew (section 4.3.4). `merged` is the stored head with what [`replaces`] allows of the 304 put in, and
/// with the 304's `Date` and `Age` alone. It keeps what selected it, and its validators.
pub fn freshened<Q: Headers, R: Headers>(
    stored: &Stored,
    asked: &Asked,
    request: &Q,
    merged: &R,
    times: Times,
    rules: &Rules,
) -> Result<Stored, WhyNot> {
    let asked = Asked {
        head: false,
        ..*asked
    };
    let anew = store::judge(&asked, request, stored.status, merged, times, rules)?;
    Ok(Stored {
        etag: stored.etag.clone(),
        ..anew
    })
}

/// What the answer to a HEAD says of the stored answer to a GET (section 4.3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadSays {
    /// Nothing: it is no success of the same kind.
    Nothing,
    /// Still the same: its fields replace the stored ones as those of a 304 do.
    Same,
    /// Not the same any more: to be validated before its next use.
    Changed,
}

/// Compares the answer to a HEAD with what is stored. `length`: of the stored body.
pub fn head<H: Headers>(status: u16, response: &H, stored: &Stored, length: u64) -> HeadSays {
    if status != stored.status || status != 200 {
        return HeadSays::Nothing;
    }
    let same_tag = response.first("etag").is_none_or(|tag| {
        stored
            .etag
            .as_deref()
            .is_some_and(|ours| strongly_equal(tag, ours) || tag == ours)
    });
    let same_date = response.first("last-modified").is_none_or(|value| {
        stored
            .last_modified
            .as_ref()
            .is_some_and(|(text, _)| **text == *value)
    });
    let same_length = response.first("content-length").is_none_or(|value| {
        std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse().ok())
            == Some(length)
    });
    if same_tag && same_date && same_length {
        HeadSays::Same
    } else {
        HeadSays::Changed
    }
}
