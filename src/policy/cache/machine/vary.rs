//! Which of several answers to one URL a request selects (RFC 9111 section 4.1).

use std::cmp::Ordering;

use super::Headers;
use super::Stored;
use super::syntax::members;
use super::syntax::split;

/// More fields than this select nothing any more: every client would get an answer of its own.
pub const FIELDS_MAX: usize = 16;

/// The fields by which an answer was selected, and what the request said in each of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selected {
    /// Lower case, in order, each once.
    names: Box<[Box<str>]>,
    /// Normalised; none if the request did not have the field, which is not the same as an empty one.
    values: Box<[Option<Box<[u8]>>]>,
}

/// What a response's `Vary` makes of its request. None if nothing can select it: `*`, or too many fields.
pub fn select<R: Headers, Q: Headers>(response: &R, request: &Q) -> Option<Selected> {
    let mut names: Vec<Box<str>> = Vec::new();
    for member in members(response.values("vary")) {
        if member == b"*" {
            return None;
        }
        let name = std::str::from_utf8(member).ok()?;
        names.push(name.to_ascii_lowercase().into_boxed_str());
    }
    names.sort_unstable();
    names.dedup();
    if names.len() > FIELDS_MAX {
        return None;
    }
    let value = |name: &str| {
        let mut text = Vec::new();
        normalise(name, request, &mut text).then(|| text.into_boxed_slice())
    };
    let values = names.iter().map(|name| value(name)).collect();
    Some(Selected {
        names: names.into_boxed_slice(),
        values,
    })
}

impl Selected {
    /// Whether `request` selects it. `scratch` is room for one value, so that nothing need be allocated.
    pub fn by<Q: Headers>(&self, request: &Q, scratch: &mut Vec<u8>) -> bool {
        self.names.iter().zip(&self.values).all(|(name, value)| {
            let mut lines = request.values(name);
            match (lines.next(), lines.next(), value) {
                (None, _, value) => value.is_none(),
                (Some(_), _, None) => false,
                // One line that is already as it was kept: the usual case.
                (Some(line), None, Some(kept)) if *line == **kept => true,
                (Some(_), _, Some(kept)) => {
                    scratch.clear();
                    normalise(name, request, scratch) && **scratch == **kept
                }
            }
        })
    }

    /// The names, in lower case and in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| &**name)
    }

    /// It is selected by anything.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.names.is_empty()
    }
}

/// Of two answers that a request selects, the greater is used: the one of the more recent `Date` (section 4), and of two with
/// the same the one that came later.
#[must_use]
pub fn newer(one: &Stored, other: &Stored) -> Ordering {
    (one.date, one.received).cmp(&(other.date, other.received))
}

/// How much of a list's order may be changed without changing what it means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Ranks are all in the weights.
    Free,
    /// Some servers take the first of equal weight: sorted by weight alone.
    ByWeight,
}

/// Writes the value of a field in the form in which it is compared: lines joined, and for lists that negotiate, case, space,
/// weights and order made alike. False if the request does not have it.
pub fn normalise<Q: Headers>(name: &str, request: &Q, into: &mut Vec<u8>) -> bool {
    let order = match name {
        "accept-encoding" | "accept-charset" => Order::Free,
        "accept" | "accept-language" => Order::ByWeight,
        _ => return join(request.values(name), into),
    };
    if !request.has(name) {
        return false;
    }
    let mut list: Vec<(u16, Vec<u8>)> = members(request.values(name)).map(weighted).collect();
    match order {
        Order::Free => list.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1))),
        Order::ByWeight => list.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight)),
    }
    list.dedup();
    for (at, (weight, member)) in list.iter().enumerate() {
        if at > 0 {
            into.push(b',');
        }
        into.extend_from_slice(member);
        if *weight < 1000 {
            into.extend_from_slice(b";q=");
            into.extend([100, 10, 1].map(|unit| b'0' + (weight / unit % 10) as u8));
        }
    }
    true
}

/// One line of all, with nothing around the commas that stand in no quoted string: as if each field were a list. To one that
/// is none, such as `User-Agent`, this can only take away space that stood behind a comma.
fn join<'a>(lines: impl Iterator<Item = &'a [u8]>, into: &mut Vec<u8>) -> bool {
    let (mut any, start) = (false, into.len());
    for line in lines {
        any = true;
        for part in split(line, b',').filter(|part| !part.is_empty()) {
            if into.len() > start {
                into.push(b',');
            }
            into.extend_from_slice(part);
        }
    }
    any
}

/// A member's weight in thousandths, and the member without it, in lower case. A weight that is none stays where it is.
fn weighted(member: &[u8]) -> (u16, Vec<u8>) {
    let (mut weight, mut rest) = (1000, Vec::with_capacity(member.len()));
    for (at, part) in split(member, b';').enumerate() {
        if at > 0
            && let Some(q) = quality(part)
        {
            weight = q;
            continue;
        }
        if at > 0 {
            rest.push(b';');
        }
        rest.extend(part.iter().map(u8::to_ascii_lowercase));
    }
    (weight, rest)
}

/// `q=0.5` in thousandths (RFC 9110 section 12.4.2).
fn quality(part: &[u8]) -> Option<u16> {
    let [b'q' | b'Q', b'=', value @ ..] = part else {
        return None;
    };
    let (whole, digits) = match value {
        [whole] | [whole, b'.'] => (whole, &[][..]),
        [whole, b'.', digits @ ..] if digits.len() <= 3 => (whole, digits),
        _ => return None,
    };
    let mut thousandths = match whole {
        b'0' => 0,
        b'1' => 1000,
        _ => return None,
    };
    for (digit, unit) in digits.iter().zip([100, 10, 1]) {
        thousandths += u16::from(digit.is_ascii_digit().then(|| digit - b'0')?) * unit;
    }
    (thousandths <= 1000).then_some(thousandths)
}
