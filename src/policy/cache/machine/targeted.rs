//! Targeted `Cache-Control` (RFC 9213): a dictionary of structured fields (RFC 9651 section 3.2) that wins over
//! `Cache-Control` and `Expires`, or is no dictionary and says nothing.

use super::Headers;
use super::directives::Directives;
use super::syntax::Argument;
use super::syntax::MAX_SECONDS;

/// Our targets, the most specific first.
pub const TARGETS: [&str; 2] = ["outrider-cache-control", "cdn-cache-control"];

/// What a response says to us: the first target that speaks, else `Cache-Control`. True if a target spoke.
pub fn directives<H: Headers>(headers: &H) -> (Directives, bool) {
    for target in TARGETS {
        if let Some(read) = dictionary(headers, target) {
            return (read, true);
        }
    }
    (Directives::parse(headers.values("cache-control")), false)
}

/// A target's directives; none if it is absent, empty, or anywhere wrong.
fn dictionary<H: Headers>(headers: &H, name: &str) -> Option<Directives> {
    let mut whole = Vec::new();
    for line in headers.values(name) {
        if !whole.is_empty() {
            whole.push(b',');
        }
        whole.extend_from_slice(line);
    }
    let mut members: Vec<(&[u8], Value<'_>)> = Vec::new();
    let mut reader = Reader { rest: &whole };
    reader.spaces();
    while !reader.rest.is_empty() {
        let key = reader.key()?;
        let value = if reader.eat(b'=') {
            reader.item_or_list()?
        } else {
            Value::Boolean(true)
        };
        reader.parameters()?;
        // A key given twice: the last one counts (RFC 9651 section 4.2.2).
        members.retain(|(known, _)| *known != key);
        members.push((key, value));
        reader.blanks();
        if reader.rest.is_empty() {
            break;
        }
        if !reader.eat(b',') {
            return None;
        }
        reader.blanks();
        if reader.rest.is_empty() {
            return None; // a comma at the end
        }
    }
    if members.is_empty() {
        return None;
    }
    let mut read = Directives::default();
    for (key, value) in members {
        take(&mut read, key, value);
    }
    Some(read)
}

/// RFC 9213 section 2.1: flags are true, seconds are integers; a directive of another type says nothing, except that what
/// would have limited freshness limits it to none.
fn take(read: &mut Directives, key: &[u8], value: Value<'_>) {
    let seconds = matches!(
        key,
        b"max-age" | b"s-maxage" | b"stale-while-revalidate" | b"stale-if-error"
    );
    let names = matches!(key, b"no-cache" | b"private");
    let mut digits = [0_u8; 20];
    match value {
        Value::Boolean(true) if !seconds => read.take(key, Argument::None),
        Value::Integer(n) if seconds => {
            let text = decimal(n, &mut digits);
            read.take(key, text.map_or(Argument::Invalid, Argument::Text));
        }
        Value::Text(text) if names => read.take(key, Argument::Text(text)),
        Value::Boolean(false) => {}
        // A restriction in a form we do not know is still one.
        _ if seconds || names || key == b"no-store" => read.take(key, Argument::Invalid),
        _ => {}
    }
}

/// The digits of a number that is not negative.
fn decimal(n: i64, digits: &mut [u8; 20]) -> Option<&[u8]> {
    let mut left = u64::try_from(n).ok()?.min(MAX_SECONDS.into());
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            return Some(&digits[at..]);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Value<'a> {
    Boolean(bool),
    Integer(i64),
    /// A token, or a string without escapes.
    Text(&'a [u8]),
    /// Valid, and of no use to a directive.
    Other,
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn eat(&mut self, byte: u8) -> bool {
        let there = self.rest.first() == Some(&byte);
        if there {
            self.rest = &self.rest[1..];
        }
        there
    }

    fn spaces(&mut self) {
        while self.eat(b' ') {}
    }

    fn blanks(&mut self) {
        while self.eat(b' ') || self.eat(b'\t') {}
    }

    fn run(&mut self, keep: fn(u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|byte| !keep(*byte));
        let (run, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        run
    }

    fn key(&mut self) -> Option<&'a [u8]> {
        let first = *self.rest.first()?;
        let begins = first.is_ascii_lowercase() || first == b'*';
        begins.then(|| {
            self.run(|b| {
                b.is_ascii_lowercase()
                    || b.is_ascii_digit()
                    || matches!(b, b'_' | b'-' | b'.' | b'*')
            })
        })
    }

    fn parameters(&mut self) -> Option<()> {
        while self.eat(b';') {
            self.spaces();
            self.key()?;
            if self.eat(b'=') {
                self.item()?;
            }
        }
        Some(())
    }

    fn item_or_list(&mut self) -> Option<Value<'a>> {
        if !self.eat(b'(') {
            return self.item();
        }
        loop {
            self.spaces();
            if self.eat(b')') {
                return Some(Value::Other);
            }
            self.item()?;
            self.parameters()?;
            if !matches!(self.rest.first(), Some(b' ' | b')')) {
                return None;
            }
        }
    }

    fn item(&mut self) -> Option<Value<'a>> {
        match *self.rest.first()? {
            b'?' => {
                let value = match self.rest.get(1)? {
                    b'0' => false,
                    b'1' => true,
                    _ => return None,
                };
                self.rest = &self.rest[2..];
                Some(Value::Boolean(value))
            }
            b'"' => self.string(),
            b':' => {
                self.rest = &self.rest[1..];
                self.run(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='));
                self.eat(b':').then_some(Value::Other)
            }
            b'@' => {
                self.rest = &self.rest[1..];
                matches!(self.number()?, Value::Integer(_)).then_some(Value::Other)
            }
            b'-' | b'0'..=b'9' => self.number(),
            b'*' | b'a'..=b'z' | b'A'..=b'Z' => {
                Some(Value::Text(self.run(|b| {
                    super::syntax::is_token(b) || matches!(b, b':' | b'/')
                })))
            }
            _ => None,
        }
    }

    fn number(&mut self) -> Option<Value<'a>> {
        let negative = self.eat(b'-');
        let whole = self.run(|b| b.is_ascii_digit());
        if whole.is_empty() || whole.len() > 15 {
            return None;
        }
        if self.eat(b'.') {
            let part = self.run(|b| b.is_ascii_digit());
            let fits = (1..=3).contains(&part.len()) && whole.len() <= 12;
            return fits.then_some(Value::Other);
        }
        let magnitude: i64 = std::str::from_utf8(whole).ok()?.parse().ok()?;
        Some(Value::Integer(if negative {
            -magnitude
        } else {
            magnitude
        }))
    }

    fn string(&mut self) -> Option<Value<'a>> {
        let text = &self.rest[1..];
        let (mut at, mut plain) = (0, true);
        loop {
            match *text.get(at)? {
                b'"' => break,
                b'\\' => {
                    plain = false;
                    at += matches!(text.get(at + 1)?, b'"' | b'\\').then_some(2)?;
                }
                0x20..=0x7e => at += 1,
                _ => return None,
            }
        }
        self.rest = &text[at + 1..];
        Some(if plain {
            Value::Text(&text[..at])
        } else {
            Value::Other
        })
    }
}
