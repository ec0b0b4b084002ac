//! The one that decides.

use std::borrow::Cow;
use std::fmt;

use aws_lc_rs::hmac;
use serde_json::Value;

use super::Clean;
use super::config;
use super::config::Action;
use super::config::KeyError;
use super::config::Settings;
use super::find::Found;
use super::hints::Hints;
use super::hints::hints;
use super::names::Names;
use super::names::Verdict;
use super::number;
use super::token;

/// What stands in the place of a secret that is masked.
pub const MASK: &str = "***";

/// How often something may be percent-encoded over and over and still be found.
const DECODE_MAX: usize = 3;

/// Takes the secrets out of texts, as one policy wants it.
pub struct Redactor {
    /// `None`: nothing is kept back.
    detect: Option<Hints>,
    names: Names,
    action: Action,
    key: hmac::Key,
}

impl Default for Redactor {
    /// What holds before a policy is read: everything is found, and masked.
    fn default() -> Self {
        let settings = Settings::default();
        Self {
            detect: Some(settings.hints()),
            names: settings.names(),
            action: settings.action,
            key: config::random_key(),
        }
    }
}

impl Redactor {
    /// As the policy says; `None` keeps nothing back.
    ///
    /// # Errors
    /// If the key of the hash is not to be had.
    pub fn new(settings: Option<&Settings>) -> Result<Self, KeyError> {
        let Some(settings) = settings else {
            return Ok(Self {
                detect: None,
                ..Self::default()
            });
        };
        let key = match &settings.key {
            Some(path) => config::read_key(path)?,
            None => config::random_key(),
        };
        Ok(Self {
            detect: Some(settings.hints()),
            names: settings.names(),
            action: settings.action,
            key,
        })
    }

    /// Any text. Allocates only if there is something in it.
    #[must_use]
    pub fn text<'a>(&self, text: &'a [u8]) -> Clean<'a> {
        let mut found = Found::default();
        self.look(text, Hints::NONE, &mut found);
        self.without(text, found)
    }

    /// An identifier of a call, which the application may have made: secrets in it are found, but a bare number is an
    /// identifier, whatever its check digit says.
    #[must_use]
    pub fn id<'a>(&self, id: &'a [u8]) -> Clean<'a> {
        let mut found = Found::default();
        self.look(id, Hints::CARD | Hints::PHONE, &mut found);
        self.without(id, found)
    }

    /// The value of a header.
    #[must_use]
    pub fn header<'a>(&self, name: &str, value: &'a [u8]) -> Clean<'a> {
        self.named(self.names.header(name), value)
    }

    fn named<'a>(&self, verdict: Verdict, value: &'a [u8]) -> Clean<'a> {
        match verdict {
            _ if self.detect.is_none() => Clean(Cow::Borrowed(value)),
            Verdict::Allowed => Clean(Cow::Borrowed(value)),
            Verdict::Unknown => self.text(value),
            Verdict::Secret => Clean(self.stand_in(value).into_bytes().into()),
        }
    }

    /// A request target: its path by the look of it, the parameters of its query also by their names.
    #[must_use]
    pub fn target<'a>(&self, target: &'a [u8]) -> Clean<'a> {
        let mut found = Found::default();
        let path = memchr::memchr(b'?', target).unwrap_or(target.len());
        self.look(&target[..path], Hints::NONE, &mut found);
        let mut at = path + 1;
        while at < target.len() && self.detect.is_some() {
            let rest = &target[at..];
            let end = at + memchr::memchr3(b'&', b';', b'#', rest).unwrap_or(rest.len());
            let part = &target[at..end];
            let value = memchr::memchr(b'=', part).map_or(part.len(), |equals| equals + 1);
            let name = decode(part[..value].strip_suffix(b"=").unwrap_or(part));
            let verdict = self.names.query(&String::from_utf8_lossy(&name));
            // A name can be a secret too, and so can a value that has none.
            let looked = match verdict {
                Verdict::Allowed => &part[..0],
                Verdict::Unknown => part,
                Verdict::Secret => &part[..value],
            };
            found.base = at;
            self.look(looked, Hints::NONE, &mut found);
            found.base = 0;
            if verdict == Verdict::Secret && value < part.len() {
                found.add(at + value, end);
            }
            at = end + 1;
        }
        self.without(target, found)
    }

    /// JSON, in place: what stands under a name that means a secret, and every text by its look.
    pub fn json(&self, value: &mut Value) {
        if self.detect.is_none() {
            return;
        }
        match value {
            Value::Object(fields) => {
                let drops = self.action == Action::Drop;
                fields.retain(|key, below| match self.names.json(key) {
                    Verdict::Allowed => true,
                    Verdict::Unknown => {
                        self.json(below);
                        true
                    }
                    Verdict::Secret => {
                        self.hide(below);
                        !drops
                    }
                });
                let odd: Vec<String> = fields
                    .keys()
                    .filter(|key| matches!(self.text(key.as_bytes()).0, Cow::Owned(_)))
                    .cloned()
                    .collect();
                for key in odd {
                    let told = self.text(key.as_bytes()).to_text().into_owned();
                    if let Some(below) = fields.remove(&key) {
                        fields.insert(told, below);
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.json(item)),
            Value::String(text) => {
                let told = match self.text(text.as_bytes()).0 {
                    Cow::Borrowed(_) => return,
                    Cow::Owned(told) => told,
                };
                *text = String::from_utf8_lossy(&told).into_owned();
            }
            Value::Number(number) => {
                let text = number.to_string();
                if let Clean(Cow::Owned(told)) = self.text(text.as_bytes()) {
                    *value = String::from_utf8_lossy(&told).into_owned().into();
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// The shape stays, so that a reader still sees that something is set.
    fn hide(&self, value: &mut Value) {
        match value {
            Value::Object(fields) => fields.values_mut().for_each(|below| self.hide(below)),
            Value::Array(items) => items.iter_mut().for_each(|item| self.hide(item)),
            Value::Null => {}
            Value::String(text) => *value = self.stand_in(text.as_bytes()).into(),
            Value::Bool(_) | Value::Number(_) => {
                *value = self.stand_in(value.to_string().as_bytes()).into();
            }
        }
    }

    fn look(&self, text: &[u8], except: Hints, found: &mut Found) {
        let Some(detect) = self.detect else { return };
        let detect = detect.without(except);
        let seen = hints(text);
        if !(seen & detect).is_none() {
            self.find(text, seen & detect, found);
        }
        if seen.has(Hints::ENCODED) {
            self.look_behind(text, detect, found);
        }
    }

    fn find(&self, text: &[u8], wanted: Hints, found: &mut Found) {
        if wanted.has(Hints::PEM) {
            token::pems(text, found);
        }
        if wanted.has(Hints::USERINFO) {
            token::userinfo(text, found);
        }
        if wanted.has(Hints::EMAIL) {
            token::emails(text, found);
        }
        if wanted.has(Hints::JWT) {
            token::jwts(text, found);
        }
        if wanted.has(Hints::KEY) {
            token::keys(text, found);
        }
        if wanted.has(Hints::BEARER) {
            token::bearers(text, found);
        }
        if wanted.has(Hints::CARD) {
            number::cards(text, found);
        }
        if wanted.has(Hints::IBAN) {
            number::ibans(text, found);
        }
        if wanted.has(Hints::PHONE) {
            number::phones(text, found);
        }
        if wanted.has(Hints::PAIR) {
            token::pairs(text, &self.names, found);
        }
    }

    /// What is percent-encoded, a part at a time; a part that turns out to hold a secret goes as a whole, for nobody can say
    /// which of its bytes are it.
    fn look_behind(&self, text: &[u8], wanted: Hints, found: &mut Found) {
        let is_end = |byte: &u8| b"/?&;#, \t\"<>".contains(byte);
        let mut start = 0;
        while start < text.len() {
            let len = text[start..].iter().position(is_end);
            let end = len.map_or(text.len(), |len| start + len);
            if self.hides(&text[start..end], wanted) {
                found.add(start, end);
            }
            start = end + 1;
        }
    }

    fn hides(&self, part: &[u8], wanted: Hints) -> bool {
        let mut part = Cow::Borrowed(part);
        for _ in 0..DECODE_MAX {
            if !part.contains(&b'%') {
                return false;
            }
            part = Cow::Owned(decode(&part));
            let mut inner = Found::default();
            self.find(&part, hints(&part) & wanted, &mut inner);
            if !inner.is_empty() {
                return true;
            }
        }
        false
    }

    fn without<'a>(&self, text: &'a [u8], found: Found) -> Clean<'a> {
        if found.is_empty() {
            return Clean(Cow::Borrowed(text));
        }
        let mut told = Vec::with_capacity(text.len());
        let mut at = 0;
        for (start, end) in found.merged() {
            told.extend_from_slice(&text[at..start]);
            told.extend_from_slice(self.stand_in(&text[start..end]).as_bytes());
            at = end;
        }
        told.extend_from_slice(&text[at..]);
        Clean(Cow::Owned(told))
    }

    fn stand_in(&self, secret: &[u8]) -> String {
        match self.action {
            Action::Drop => String::new(),
            Action::Mask => MASK.to_owned(),
            Action::Hash => {
                let tag = hmac::sign(&self.key, secret);
                let mut text = "hash_".to_owned();
                for byte in &tag.as_ref()[..8] {
                    for digit in [byte >> 4, byte & 15] {
                        text.extend(char::from_digit(u32::from(digit), 16));
                    }
                }
                text
            }
        }
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor")
            .field("action", &self.action)
            .finish_non_exhaustive()
    }
}

/// RFC 3986 section 2.1; what is not an encoding stays as it is.
fn decode(text: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let pair = match text[at..] {
            [b'%', high, low, ..] => digit(high).zip(digit(low)),
            _ => None,
        };
        if let Some((high, low)) = pair {
            bytes.push((high * 16 + low) as u8);
            at += 3;
        } else {
            bytes.push(text[at]);
            at += 1;
        }
    }
    bytes
}
