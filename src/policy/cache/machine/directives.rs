//! `Cache-Control` (RFC 9111 section 5.2), of requests and of responses.

use super::Headers;
use super::syntax::Argument;
use super::syntax::delta_seconds;
use super::syntax::directive;
use super::syntax::is_token;
use super::syntax::members;
use super::syntax::split;

/// Seconds that a directive gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delta {
    /// The directive is not there.
    #[default]
    Absent,
    /// It is, with something that is no number of seconds. Where it would give freshness it gives none (RFC 9111
    /// section 4.2.1).
    Invalid,
    /// So many.
    Seconds(u32),
}

impl Delta {
    /// The number; none where there is none, or no valid one.
    #[must_use]
    pub const fn seconds(self) -> Option<u32> {
        match self {
            Delta::Seconds(n) => Some(n),
            Delta::Absent | Delta::Invalid => None,
        }
    }

    /// Whether the directive is there.
    #[must_use]
    pub const fn given(self) -> bool {
        !matches!(self, Delta::Absent)
    }

    /// One more occurrence of the same directive.
    fn met(&mut self, argument: Argument<'_>, both: fn(u32, u32) -> u32) {
        let read = match argument {
            Argument::Text(text) => delta_seconds(text).map_or(Delta::Invalid, Delta::Seconds),
            Argument::None | Argument::Invalid => Delta::Invalid,
        };
        *self = match (*self, read) {
            (Delta::Absent, read) => read,
            (Delta::Invalid, _) | (_, Delta::Invalid | Delta::Absent) => Delta::Invalid,
            (Delta::Seconds(one), Delta::Seconds(other)) => Delta::Seconds(both(one, other)),
        };
    }
}

/// What a response says. Of directives that are given twice the most restrictive counts (RFC 9111 section 4.2.1).
#[expect(clippy::struct_excessive_bools, reason = "each is one directive")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// `no-store`.
    pub no_store: bool,
    /// `no-cache` without field names.
    pub no_cache: bool,
    /// `private` without field names.
    pub private: bool,
    /// `public`.
    pub public: bool,
    /// `must-revalidate`.
    pub must_revalidate: bool,
    /// `proxy-revalidate`.
    pub proxy_revalidate: bool,
    /// `must-understand`.
    pub must_understand: bool,
    /// `immutable` (RFC 8246).
    pub immutable: bool,
    /// `max-age`.
    pub max_age: Delta,
    /// `s-maxage`.
    pub s_maxage: Delta,
    /// `stale-while-revalidate` (RFC 5861).
    pub stale_while_revalidate: Delta,
    /// `stale-if-error` (RFC 5861).
    pub stale_if_error: Delta,
    /// The fields that `private="..."` and `no-cache="..."` name, lower case.
    pub withheld: Vec<Box<[u8]>>,
}

impl Directives {
    /// Reads the members of all `Cache-Control` lines.
    pub fn parse<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut read = Self::default();
        for member in members(lines) {
            let (name, argument) = directive(member);
            read.take(name, argument);
        }
        read
    }

    /// One directive. Names are compared without case; unknown ones are left out (RFC 9111 section 5.2.3).
    pub fn take(&mut self, name: &[u8], argument: Argument<'_>) {
        let mut lower = [0_u8; 24];
        let Some(lower) = lower.get_mut(..name.len()) else {
            return;
        };
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        match &*lower {
            b"no-store" => self.no_store = true,
            b"public" => self.public = true,
            b"must-revalidate" => self.must_revalidate = true,
            b"proxy-revalidate" => self.proxy_revalidate = true,
            b"must-understand" => self.must_understand = true,
            b"immutable" => self.immutable = true,
            b"max-age" => self.max_age.met(argument, u32::min),
            b"s-maxage" => self.s_maxage.met(argument, u32::min),
            b"stale-while-revalidate" => self.stale_while_revalidate.met(argument, u32::min),
            b"stale-if-error" => self.stale_if_error.met(argument, u32::min),
            b"no-cache" => self.no_cache |= !self.withholds(argument),
            b"private" => self.private |= !self.withholds(argument),
            _ => {}
        }
    }

    /// Takes field names; false if there are none, or none that can be read: then the directive is about all of the answer.
    fn withholds(&mut self, argument: Argument<'_>) -> bool {
        let Argument::Text(text) = argument else {
            return false;
        };
        let names: Vec<&[u8]> = split(text, b',').filter(|name| !name.is_empty()).collect();
        if names.is_empty() || !names.iter().all(|name| name.iter().all(|b| is_token(*b))) {
            return false;
        }
        self.withheld.extend(
            names
                .iter()
                .map(|name| name.to_ascii_lowercase().into_boxed_slice()),
        );
        true
    }
}

/// What a request says (RFC 9111 section 5.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestDirectives {
    /// `no-cache`, or `Pragma: no-cache` without a `Cache-Control` beside it (section 5.4).
    pub no_cache: bool,
    /// `no-store`.
    pub no_store: bool,
    /// `only-if-cached`.
    pub only_if_cached: bool,
    /// `max-age`. Invalid: as zero, the most careful.
    pub max_age: Delta,
    /// `min-fresh`. Invalid: as absent.
    pub min_fresh: Delta,
    /// `max-stale`; without an argument: the most seconds there are. Invalid: as absent.
    pub max_stale: Delta,
    /// `stale-if-error` (RFC 5861 section 4).
    pub stale_if_error: Delta,
}

impl RequestDirectives {
    /// Reads `Cache-Control`, and `Pragma` where there is none.
    pub fn read<H: Headers>(headers: &H) -> Self {
        let mut read = Self::default();
        let mut any = false;
        for line in headers.values("cache-control") {
            any = true;
            for member in members(std::iter::once(line)) {
                let (name, argument) = directive(member);
                read.take(name, argument);
            }
        }
        if !any {
            read.no_cache = members(headers.values("pragma"))
                .any(|member| member.eq_ignore_ascii_case(b"no-cache"));
        }
        read
    }

    fn take(&mut self, name: &[u8], argument: Argument<'_>) {
        let is = |word: &[u8]| name.eq_ignore_ascii_case(word);
        if is(b"no-cache") {
            self.no_cache = true;
        } else if is(b"no-store") {
            self.no_store = true;
        } else if is(b"only-if-cached") {
            self.only_if_cached = true;
        } else if is(b"max-age") {
            self.max_age.met(argument, u32::min);
        } else if is(b"min-fresh") {
            self.min_fresh.met(argument, u32::max);
        } else if is(b"max-stale") {
            let argument = match argument {
                Argument::None => Argument::Text(b"2147483648"),
                given => given,
            };
            self.max_stale.met(argument, u32::min);
        } else if is(b"stale-if-error") {
            self.stale_if_error.met(argument, u32::min);
        }
    }
}
