//! Parts that are stored (RFC 9111 sections 3.3 and 3.4): what they hold, what of a wish that answers, and how two become one.

use super::Asked;
use super::Headers;
use super::Stored;
use super::range;
use super::range::Wish;
use super::validate;

/// Which bytes of a representation a stored part holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first one.
    pub first: u64,
    /// The last one, itself included.
    pub last: u64,
    /// How many the representation has; none if its origin did not say.
    pub total: Option<u64>,
    /// The `Range` that it answered, as sent: whoever sends the same gets the same. Empty once it is made of several.
    pub wish: Box<[u8]>,
}

/// What a 206 holds by its own word (RFC 9110 section 14.4). None where it answers no range of this request, or several.
pub fn came<Q: Headers, R: Headers>(asked: &Asked, request: &Q, response: &R) -> Option<Span> {
    let mut lines = request.values("range");
    let (Some(wish), None) = (lines.next(), lines.next()) else {
        return None;
    };
    let mut lines = response.values("content-range");
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return None;
    };
    let text = std::str::from_utf8(line).ok()?.trim();
    let (unit, rest) = text.split_once(' ')?;
    let (bounds, total) = rest.trim_start().split_once('/')?;
    let (first, last) = bounds.split_once('-')?;
    let (first, last) = (range::number(first)?, range::number(last)?);
    let total = match total {
        "*" => None,
        digits => Some(range::number(digits)?),
    };
    let is_sound = asked.range
        && !asked.head
        && unit.eq_ignore_ascii_case("bytes")
        && first <= last
        && total.is_none_or(|total| last < total);
    is_sound.then(|| Span {
        first,
        last,
        total,
        wish: wish.into(),
    })
}

impl Span {
    /// The beginning of a whole of `total` bytes, of which only so many came.
    #[must_use]
    pub fn beginning(came: u64, total: u64) -> Option<Self> {
        (0 < came && came < total).then(|| Self {
            first: 0,
            last: came - 1,
            total: Some(total),
            wish: Box::default(),
        })
    }

    /// The same, of which only `came` bytes arrived: an incomplete part holds what is there (RFC 9111 section 3.3). None if
    /// it came longer than it said: then nobody knows what these bytes are.
    #[must_use]
    pub fn fitted(&self, came: u64) -> Option<Self> {
        let said = self.last - self.first + 1;
        (0 < came && came <= said).then(|| Self {
            last: self.first + (came - 1),
            ..self.clone()
        })
    }

    /// It is all of it.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.first == 0 && self.total.is_some_and(|total| self.last + 1 == total)
    }

    /// Both together, where they overlap or touch, and agree on how long the whole is.
    #[must_use]
    pub fn with(&self, other: &Self) -> Option<Self> {
        let apart = |one: &Self, other: &Self| one.last.saturating_add(1) < other.first;
        let last = self.last.max(other.last);
        let total = match (self.total, other.total) {
            (Some(one), Some(other)) if one != other => return None,
            (one, other) => one.or(other),
        };
        let fits = total.is_none_or(|total| last < total);
        (fits && !apart(self, other) && !apart(other, self)).then(|| Self {
            first: self.first.min(other.first),
            last,
            total,
            wish: Box::default(),
        })
    }

    /// `Content-Range` of these bytes of it.
    #[must_use]
    pub fn content_range(&self, first: u64, last: u64) -> String {
        match self.total {
            Some(total) => format!("bytes {first}-{last}/{total}"),
            None => format!("bytes {first}-{last}/*"),
        }
    }
}

/// What of a stored part answers a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gives {
    /// All of it, as it came: it answered the same wish.
    Same,
    /// These bytes of the representation, both ends included.
    Bytes(u64, u64),
}

/// Judges `Range` and `If-Range` for a GET (RFC 9111 section 3.3: only a range that lies wholly in what is there). None: the
/// upstream has to be asked.
pub fn gives<H: Headers>(
    request: &H,
    stored: &Stored,
    span: &Span,
    now_unix: u64,
) -> Option<Gives> {
    let mut lines = request.values("range");
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return None;
    };
    if !range::condition_holds(request, stored, now_unix) {
        return None;
    }
    if *line == *span.wish {
        return Some(Gives::Same);
    }
    let end = span.total.map(|total| total - 1);
    let (first, last) = match range::wish(line)? {
        Wish::From(first, Some(last)) => (first, end.map_or(last, |end| last.min(end))),
        Wish::From(first, None) => (first, end?),
        Wish::Last(0) => return None,
        Wish::Last(n) => (span.total?.saturating_sub(n), end?),
    };
    (span.first <= first && first <= last && last <= span.last).then_some(Gives::Bytes(first, last))
}

/// Whether two stored answers are known to be of the same bytes, so that what one lacks the other may give (section 3.4).
#[must_use]
pub fn same_bytes(one: &Stored, other: &Stored) -> bool {
    match (&one.etag, &other.etag) {
        (Some(one), Some(other)) => validate::strongly_equal(one, other),
        _ => false,
    }
}

/// Whether neither says that the other is out of date: of both, or of neither, a strong tag is known.
#[must_use]
pub fn side_by_side(one: &Stored, other: &Stored) -> bool {
    same_bytes(one, other) || (one.etag.is_none() && other.etag.is_none())
}
