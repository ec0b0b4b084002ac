//! One kept answer: its head, its body, and what the engine knows of it.

use std::sync::Arc;

use bytes::Bytes;
use bytes::BytesMut;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::StatusCode;
use http::header;

use crate::kit;
use crate::policy::cache::Settings;
use crate::policy::cache::config::Cookies;
use crate::policy::cache::machine;
use crate::policy::cache::machine::Stored;

/// What a field takes in a header map beside its name's and value's bytes.
const FIELD_BYTES: usize = 128;
/// What an entry takes beside its fields and its body: the engine's facts and the pointers.
const ENTRY_BYTES: usize = 512;
/// An allocator that is asked for pieces of all sizes, and given them back in any order, leaves gaps between those it has:
/// one part in so many, found under traffic (`benches/hitratio`).
const GAPS: usize = 16;
/// Tags that are read of one answer, and the longest one.
const TAGS_MAX: usize = 128;
const TAG_MAX: usize = 256;

/// The fields of a head, as the engine reads them.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(pub &'a HeaderMap);

impl machine::Headers for Fields<'_> {
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.0.get_all(name).iter().map(HeaderValue::as_bytes)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(HeaderName::as_str)
    }

    fn bytes(&self) -> usize {
        let line =
            |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
        self.0.iter().map(line).sum()
    }

    fn first<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        self.0.get(name).map(HeaderValue::as_bytes)
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

/// The head of a kept answer.
#[derive(Debug)]
pub struct Head {
    /// Its status.
    pub status: StatusCode,
    /// Its fields, without those that are said anew with each answer.
    pub fields: HeaderMap,
    /// What the engine knows of it.
    pub facts: Stored,
    /// What it can be purged by.
    pub tags: Box<[Box<str>]>,
}

impl Head {
    /// What is kept of a head that came with `fields`.
    #[must_use]
    pub fn keep(
        facts: Stored,
        status: StatusCode,
        fields: &HeaderMap,
        settings: &Settings,
    ) -> Arc<Self> {
        let tags = settings.tags.as_ref().map(|name| tags(fields, name));
        let is_kept = |name: &HeaderName| {
            let text = name.as_str();
            let is_withheld = facts.withheld.iter().any(|held| **held == *text.as_bytes());
            let is_cookie = *name == header::SET_COOKIE && settings.cookies == Cookies::Ignore;
            let is_tags = settings.strip_tags && settings.tags.as_ref() == Some(name);
            machine::store::keeps(text) && !(is_withheld || is_cookie || is_tags)
        };
        let mut fields = compact(fields, is_kept);
        // RFC 9110 section 6.6.1: who keeps an answer without a date gives it the one of its coming.
        if !fields.contains_key(header::DATE)
            && let Ok(value) = HeaderValue::from_bytes(&kit::date::write(facts.date))
        {
            fields.insert(header::DATE, value);
        }
        Arc::new(Self {
            status,
            fields,
            facts,
            tags: tags.unwrap_or_default(),
        })
    }

    /// The same with these tags.
    #[must_use]
    pub fn tagged(&self, tags: &[Box<str>]) -> Arc<Self> {
        Arc::new(Self {
            status: self.status,
            fields: self.fields.clone(),
            facts: self.facts.clone(),
            tags: tags.into(),
        })
    }

    /// The same with other facts.
    #[must_use]
    pub fn but(&self, facts: Stored) -> Arc<Self> {
        Arc::new(Self {
            status: self.status,
            fields: self.fields.clone(),
            facts,
            tags: self.tags.clone(),
        })
    }
}

fn tags(fields: &HeaderMap, name: &HeaderName) -> Box<[Box<str>]> {
    let lines = fields.get_all(name).iter();
    let texts = lines.filter_map(|value| value.to_str().ok());
    texts
        .flat_map(|text| text.split([' ', ',', '\t']))
        .filter(|tag| !tag.is_empty() && tag.len() <= TAG_MAX)
        .take(TAGS_MAX)
        .map(Into::into)
        .collect()
}

/// A copy of the fields with memory of its own: a value that came from the network is a part of the buffer that the whole
/// head was read into, and would keep all of it.
fn compact(fields: &HeaderMap, is_kept: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    let kept = || fields.iter().filter(|(name, _)| is_kept(name));
    let mut text = BytesMut::with_capacity(kept().map(|(_, value)| value.len()).sum());
    kept().for_each(|(_, value)| text.extend_from_slice(value.as_bytes()));
    let text = text.freeze();
    let mut copy = HeaderMap::with_capacity(kept().count());
    let mut at = 0;
    for (name, value) in kept() {
        let own = text.slice(at..at + value.len());
        at += value.len();
        let mut own = HeaderValue::from_maybe_shared(own)
            .expect("the bytes are those of a value that was valid");
        own.set_sensitive(value.is_sensitive());
        copy.append(name.clone(), own);
    }
    copy
}

/// A kept answer. Never changed: a validation makes a new one, which shares the body.
#[derive(Debug)]
pub struct Entry {
    /// Its head.
    pub head: Arc<Head>,
    /// All of its body.
    pub body: Bytes,
}

impl Entry {
    /// Bytes of memory it takes, about.
    #[must_use]
    pub fn weight(&self) -> u64 {
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            name.as_str().len() + value.len() + FIELD_BYTES
        };
        let head: usize = self.head.fields.iter().map(line).sum();
        let tags: usize = self.head.tags.iter().map(|tag| tag.len() + 16).sum();
        let asked_for = head + tags + self.body.len() + ENTRY_BYTES;
        (asked_for + asked_for / GAPS) as u64
    }
}
