//! Parts of a stored answer (RFC 9110 section 14): one range of bytes out of a stored 200.

use super::Headers;
use super::Stored;
use super::fresh;
use super::validate;

/// What of the body to answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it, with 200.
    Whole,
    /// These bytes, both ends included, with 206 and `Content-Range`.
    Bytes(u64, u64),
    /// None, with 416.
    Unsatisfiable,
}

/// Judges `Range` and `If-Range` for a GET of a stored body of `length` bytes. Several ranges, and what cannot be read, get
/// the whole: a range is a wish (section 14.2).
pub fn part<H: Headers>(request: &H, stored: &Stored, length: u64, now_unix: u64) -> Part {
    let mut lines = request.values("range");
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return Part::Whole;
    };
    if stored.status != 200 || !condition_holds(request, stored, now_unix) {
        return Part::Whole;
    }
    let Some(wish) = wish(line) else {
        return Part::Whole;
    };
    match wish {
        Wish::From(first, _) if first >= length => Part::Unsatisfiable,
        Wish::From(first, last) => {
            let end = length - 1;
            Part::Bytes(first, last.map_or(end, |last| last.min(end)))
        }
        Wish::Last(0) => Part::Unsatisfiable,
        Wish::Last(_) if length == 0 => Part::Unsatisfiable,
        Wish::Last(n) => Part::Bytes(length.saturating_sub(n), length - 1),
    }
}

/// One range as it is asked for.
#[derive(Clone, Copy)]
pub(super) enum Wish {
    /// From here to there, or to the end.
    From(u64, Option<u64>),
    /// So many at the end.
    Last(u64),
}

pub(super) fn wish(line: &[u8]) -> Option<Wish> {
    let text = std::str::from_utf8(line).ok()?.trim();
    let (unit, set) = text.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") || set.contains(',') {
        return None;
    }
    let (first, last) = set.trim_matches([' ', '\t']).split_once('-')?;
    if first.is_empty() {
        return number(last).map(Wish::Last);
    }
    let first = number(first)?;
    if last.is_empty() {
        return Some(Wish::From(first, None));
    }
    let last = number(last)?;
    (first <= last).then_some(Wish::From(first, Some(last)))
}

/// Digits alone; what does not fit is past every end.
pub(super) fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// `If-Range` (section 13.1.5): a strong tag that is ours, or our `Last-Modified` to the letter, old enough to be strong.
pub(super) fn condition_holds<H: Headers>(request: &H, stored: &Stored, now_unix: u64) -> bool {
    let mut lines = request.values("if-range");
    let value = match (lines.next(), lines.next()) {
        (None, _) => return true,
        (Some(value), None) => value,
        (Some(_), Some(_)) => return false,
    };
    if value.starts_with(b"\"") || value.starts_with(b"W/") {
        let ours = stored.etag.as_deref();
        return ours.is_some_and(|ours| validate::strongly_equal(value, ours));
    }
    // Section 8.8.2.2: a second change within the second of the first one would show the same date.
    stored
        .last_modified
        .as_ref()
        .is_some_and(|(_, at)| fresh::parse_date(value, now_unix) == Some(*at) && *at < stored.date)
}

/// `bytes 0-1/10`, or `bytes */10` where nothing could be given.
#[must_use]
pub fn content_range(part: Part, length: u64) -> Option<String> {
    match part {
        Part::Whole => None,
        Part::Bytes(first, last) => Some(format!("bytes {first}-{last}/{length}")),
        Part::Unsatisfiable => Some(format!("bytes */{length}")),
    }
}
