//! The grammar of list fields (RFC 9110 section 5.6) and of directives (RFC 9111 section 5.2), read as strangers write it.

/// Optional whitespace at both ends cut off.
#[must_use]
pub fn trim(text: &[u8]) -> &[u8] {
    let blank = |byte: &&u8| !matches!(byte, b' ' | b'\t');
    let Some(first) = text.iter().position(|byte| blank(&byte)) else {
        return b"";
    };
    let last = text.iter().rposition(|byte| blank(&byte)).unwrap_or(first);
    &text[first..=last]
}

/// The members of a list field over all of its lines, trimmed, the empty ones left out (RFC 9110 section 5.6.1.2).
pub fn members<'a>(lines: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = &'a [u8]> {
    lines
        .flat_map(|line| split(line, b','))
        .filter(|m| !m.is_empty())
}

/// The parts of `text` between separators that stand in no quoted string, trimmed. A quote that is never closed quotes
/// nothing: it would hide a `no-store` behind it.
pub fn split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let whole = rest?;
        let mut at = 0;
        while at < whole.len() && whole[at] != separator {
            at = match whole[at] {
                b'"' => quoted_end(whole, at).unwrap_or(at + 1),
                _ => at + 1,
            };
        }
        rest = whole.get(at + 1..);
        Some(trim(&whole[..at]))
    })
}

/// Where the quoted string that begins at `start` ends, one past its closing quote.
fn quoted_end(text: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        match *text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The argument of a directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument<'a> {
    /// None was given.
    None,
    /// The text of a token, or between the quotes of a quoted string without escapes.
    Text(&'a [u8]),
    /// Something that is neither.
    Invalid,
}

/// A member as a name and its argument (RFC 9111 section 5.2 allows a token or a quoted string).
#[must_use]
pub fn directive(member: &[u8]) -> (&[u8], Argument<'_>) {
    let Some(at) = member.iter().position(|byte| *byte == b'=') else {
        return (member, Argument::None);
    };
    let (name, argument) = (&member[..at], &member[at + 1..]);
    // `max-age = 60` is no directive by the grammar, but what it meant to forbid or to limit is clear enough to stay safe.
    let argument = if name.last().is_some_and(|byte| !is_token(*byte)) {
        Argument::Invalid
    } else {
        value(argument)
    };
    (trim(name), argument)
}

fn value(text: &[u8]) -> Argument<'_> {
    match text {
        [b'"', inner @ .., b'"']
            if quoted_end(text, 0) == Some(text.len()) && !inner.contains(&b'\\') =>
        {
            Argument::Text(inner)
        }
        [] => Argument::Invalid,
        token if token.iter().all(|byte| is_token(*byte)) => Argument::Text(token),
        _ => Argument::Invalid,
    }
}

/// A character of a token (RFC 9110 section 5.6.2).
#[must_use]
pub const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// The largest number of seconds (RFC 9111 section 1.2.2): a greater one is taken as this.
pub const MAX_SECONDS: u32 = 1 << 31;

/// A whole number of seconds. None if it is anything else than digits.
#[must_use]
pub fn delta_seconds(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = std::str::from_utf8(text).ok()?;
    // Digits alone can only fail to parse by being too many.
    Some(digits.parse().unwrap_or(MAX_SECONDS).min(MAX_SECONDS))
}
