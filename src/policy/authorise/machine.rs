//! Whether a call is allowed.
//!
//! Each rule is asked by itself: does its `from` cover the caller, does its `to` cover the request, and could the request be
//! taken for another one by the application?
//!
//! | some rule covers the caller | and the request | and it could not be mistaken | decision |
//! |---|---|---|---|
//! | no | | | deny: caller |
//! | yes | no | | deny: request |
//! | yes | yes, by naming a path | no: the path is not clear, or a field asks for another | deny: ambiguous |
//! | yes | yes, by naming a method | no: a field asks for another | deny: ambiguous |
//! | yes | yes | yes, or the rule names neither | allow |
//!
//! A path is clear if every server finds the same resource by it: no empty, `.` or `..` segment, no `;`, no backslash, and
//! nothing percent-encoded that means something else decoded (RFC 3986 section 6.2.2: what is unreserved need not be
//! encoded; a slash, a `;`, a `%` or a control character would be another path to whoever decodes twice or too early).

use std::time::Duration;
use std::time::Instant;

use crate::kit::matcher::Matcher;
use crate::kit::units::Unfit;

/// Whom a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// `any`: whoever has proved an identity.
    Any,
    /// `anonymous`: whoever has not; only possible where plaintext is let in.
    Anonymous,
    /// `spiffe://td/ns/shop/sa/checkout`: this one.
    Exact(String),
    /// `spiffe://td/ns/shop/*`: every identity below, the text up to and with the last slash.
    Under(String),
}

impl Who {
    /// Reads one entry of `from`.
    ///
    /// # Errors
    /// If it is neither `any`, `anonymous`, nor a SPIFFE ID or a part of one that ends in `/*`.
    pub fn parse(text: &str) -> Result<Self, Unfit> {
        match text {
            "any" => return Ok(Self::Any),
            "anonymous" => return Ok(Self::Anonymous),
            _ => {}
        }
        let fault = || Unfit::new(format!("`{text}` is not a caller"));
        let Some(rest) = text.strip_prefix("spiffe://") else {
            return Err(fault().hint(match text {
                "*" | "all" | "everyone" | "authenticated" => {
                    "`any` is whoever has proved an identity"
                }
                _ => {
                    "write a SPIFFE ID such as `spiffe://shop.example/ns/shop/sa/checkout`, one that ends in `/*`, `any` or `anonymous`"
                }
            }));
        };
        let (domain, path) = rest.split_once('/').unwrap_or((rest, ""));
        // SPIFFE ID sections 2.1 and 2.2.
        let in_domain =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        if domain.is_empty() || !domain.bytes().all(in_domain) {
            return Err(fault().hint(
                "a trust domain is lower-case letters, digits, `.`, `-` and `_`, without a `*`",
            ));
        }
        let (path, under) = match path.strip_suffix('*') {
            Some(path) => (path, true),
            None => (path, false),
        };
        let fits = |segment: &str| {
            !segment.is_empty()
                && segment != "."
                && segment != ".."
                && segment
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        };
        let whole = if under {
            path.strip_suffix('/').unwrap_or(path)
        } else {
            path
        };
        if under && !path.is_empty() && !path.ends_with('/') {
            return Err(fault().hint("a `*` stands for all that is below a whole segment: `/*`"));
        }
        if rest.ends_with('/') || !(whole.is_empty() || whole.split('/').all(fits)) {
            return Err(fault().hint(
                "the segments of a path are letters, digits, `.`, `-` and `_`; only the last one may be `*`",
            ));
        }
        Ok(if under {
            Self::Under(format!("spiffe://{domain}/{path}"))
        } else {
            Self::Exact(text.to_owned())
        })
    }

    /// Whether it is about this caller; `None` is one without an identity.
    #[must_use]
    pub fn covers(&self, caller: Option<&str>) -> bool {
        match (self, caller) {
            (Self::Any, caller) => caller.is_some(),
            (Self::Anonymous, caller) => caller.is_none(),
            (Self::Exact(own), Some(caller)) => own == caller,
            (Self::Under(above), Some(caller)) => {
                caller.len() > above.len() && caller.starts_with(above.as_str())
            }
            (Self::Exact(_) | Self::Under(_), None) => false,
        }
    }
}

/// What is allowed to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Whom it is about: any of these.
    pub from: Vec<Who>,
    /// Which requests: any of these; none is all, and also connections that are not HTTP.
    pub to: Vec<Matcher>,
}

/// What is known of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The identity that the caller has proved.
    pub caller: Option<&'a str>,
    /// What it asks for; `None` for a connection that is not HTTP.
    pub request: Option<Request<'a>>,
}

/// An HTTP request, as far as rules look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// As it was sent.
    pub method: &'a str,
    /// As it was sent, without the query.
    pub path: &'a str,
    /// A field asks the application to take the method for another.
    pub overrides_method: bool,
    /// A field asks the application to take the path for another.
    pub overrides_path: bool,
}

/// Why a call is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Denial {
    /// No rule is about this caller.
    Caller,
    /// The rules about this caller do not allow the request.
    Request,
    /// They would, if it could not be taken for another.
    Ambiguous,
}

impl Denial {
    /// The label value, and `why` in the audit log.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Request => "request",
            Self::Ambiguous => "ambiguous",
        }
    }
}

/// Judges by the table above; gives the place of the first rule that allows.
///
/// # Errors
/// With why no rule does.
pub fn judge(rules: &[Rule], asked: &Asked<'_>) -> Result<usize, Denial> {
    let mut denial = Denial::Caller;
    for (place, rule) in rules.iter().enumerate() {
        if !rule.from.iter().any(|who| who.covers(asked.caller)) {
            continue;
        }
        if rule.to.is_empty() {
            return Ok(place);
        }
        let Some(request) = asked.request else {
            denial = denial.or(Denial::Request);
            continue;
        };
        for matcher in &rule.to {
            if !matcher.matches(request.method, request.path) {
                denial = denial.or(Denial::Request);
            } else if is_mistakable(matcher, &request) {
                denial = Denial::Ambiguous;
            } else {
                return Ok(place);
            }
        }
    }
    Err(denial)
}

impl Denial {
    // What came nearest to being allowed says most.
    fn or(self, other: Self) -> Self {
        if self == Self::Caller { other } else { self }
    }
}

fn is_mistakable(matcher: &Matcher, request: &Request<'_>) -> bool {
    let by_path = matcher.names_path() && (request.overrides_path || !is_clear(request.path));
    by_path || (matcher.method().is_some() && request.overrides_method)
}

/// Whether every server finds the same resource by this path.
#[must_use]
pub fn is_clear(path: &str) -> bool {
    let Some(inside) = path.strip_prefix('/') else {
        return false;
    };
    let mut segments = inside.split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        if (segment.is_empty() && !is_last) || matches!(segment, "." | "..") {
            return false;
        }
    }
    is_plainly_encoded(inside.as_bytes())
}

fn is_plainly_encoded(path: &[u8]) -> bool {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut rest = path;
    loop {
        rest = match rest {
            [] => return true,
            [b'%', high, low, rest @ ..] => {
                let Some((high, low)) = digit(*high).zip(digit(*low)) else {
                    return false;
                };
                let decoded = (high * 16 + low) as u8;
                let is_special = decoded.is_ascii_alphanumeric()
                    || decoded.is_ascii_control()
                    // 0xC0 and 0xC1 begin no UTF-8 (RFC 3629 section 3), only longer spellings of ASCII.
                    || matches!(decoded, b'-' | b'.' | b'_' | b'~' | b'/' | b'\\' | b';' | b'%' | b'?' | b'#' | 0xC0 | 0xC1);
                if is_special {
                    return false;
                }
                rest
            }
            [b'%' | b'\\' | b';' | b'?' | b'#', ..] => return false,
            [byte, rest @ ..] if byte.is_ascii_graphic() => rest,
            _ => return false,
        };
    }
}

/// Denials of one kind that are told apart in the audit log.
const KINDS_MAX: usize = 64;
/// Time before the same denial is told again.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Denials told in a second, of whatever kind: who has many identities must not flood the log by taking turns.
const TELL_MOST: u32 = 20;

/// Which denials are told: each kind at once, and then no more than one in a while, with the number of those in between.
#[derive(Debug, Default)]
pub struct Tellings {
    kinds: Vec<Kind>,
    second: Option<Instant>,
    told: u32,
    untold: u64,
}

#[derive(Debug)]
struct Kind {
    caller: Option<Box<str>>,
    denial: Denial,
    told: Instant,
    since: u64,
}

impl Tellings {
    /// One more denial. Gives how many were kept back since the last of its kind that was told, if this one is to be told.
    pub fn denied(&mut self, caller: Option<&str>, denial: Denial, now: Instant) -> Option<u64> {
        let known = self
            .kinds
            .iter()
            .position(|kind| kind.denial == denial && kind.caller.as_deref() == caller);
        let is_due =
            known.is_none_or(|at| now.saturating_duration_since(self.kinds[at].told) >= TELL_EVERY);
        if !is_due || !self.has_room(now) {
            match known {
                Some(at) => self.kinds[at].since += 1,
                None => self.untold += 1,
            }
            return None;
        }
        if let Some(at) = known {
            let kind = &mut self.kinds[at];
            kind.told = now;
            return Some(std::mem::take(&mut kind.since));
        }
        if self.kinds.len() >= KINDS_MAX {
            // What was kept back of the one that is forgotten is told with the next that is new.
            let oldest = (0..self.kinds.len()).min_by_key(|at| self.kinds[*at].told);
            if let Some(at) = oldest {
                self.untold += self.kinds.swap_remove(at).since;
            }
        }
        self.kinds.push(Kind {
            caller: caller.map(Into::into),
            denial,
            told: now,
            since: 0,
        });
        Some(std::mem::take(&mut self.untold))
    }

    fn has_room(&mut self, now: Instant) -> bool {
        let is_new = self
            .second
            .is_none_or(|second| now.saturating_duration_since(second) >= Duration::from_secs(1));
        if is_new {
            self.second = Some(now);
            self.told = 0;
        }
        self.told += 1;
        self.told <= TELL_MOST
    }
}
