//! An answer as it stands in Redis: compact, with a version and a check, and with what it takes to know that it is the one
//! that was looked for.
//!
//! Whatever cannot be read to its last byte is nothing: another version's, another program's, half of one.

use std::ops::Range;
use std::time::Duration;
use std::time::Instant;

use super::Source;
use super::Stored;
use super::vary::Selected;
use crate::kit::check;

/// The layout below. A change of it is a new number, and what has another one is not read.
const VERSION: u8 = 1;
const ENTRY: u8 = 0;
const VARIES: u8 = 1;
/// Bytes of an entry beside its texts, about.
pub const OVERHEAD: usize = 256;

/// What an entry is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// The digest of its whole key.
    pub digest: [u8; 32],
    /// The purge that its pod had come to when its fetch began.
    pub stamp: u64,
    /// The era of its URL at that time.
    pub era: u64,
    /// How long it was given to live when it was written. What is left of that is its age since, by the clock of Redis: that
    /// of another pod is never asked.
    pub life: Duration,
}

/// What is written of an answer.
#[derive(Debug)]
pub struct Written<'a, F, T> {
    /// What it is known by.
    pub label: Label,
    /// What the engine knows of it.
    pub facts: &'a Stored,
    /// Its fields, names in lower case.
    pub fields: F,
    /// Its tags.
    pub tags: T,
    /// Its body.
    pub body: &'a [u8],
}

/// What was read. Texts are places in what was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    /// What it is known by.
    pub label: Label,
    /// What the engine knew of it, as of now. By what it is selected is not in it.
    pub facts: Stored,
    /// Its fields: names and values.
    pub fields: Vec<(Range<usize>, Range<usize>)>,
    /// Its tags.
    pub tags: Vec<Box<str>>,
    /// Its body.
    pub body: Range<usize>,
}

/// What stands in a place.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// An answer.
    Entry(Box<Read>),
    /// A note: the answers stand beside it, by these fields of the request.
    Varies(Vec<Box<str>>),
}

/// Writes an answer.
pub fn entry<'f, F, T>(written: Written<'_, F, T>, now: Instant) -> Vec<u8>
where
    F: Iterator<Item = (&'f [u8], &'f [u8])>,
    T: Iterator<Item = &'f str>,
{
    let (facts, label) = (written.facts, written.label);
    let mut out = Vec::with_capacity(written.body.len() + 1024);
    out.extend_from_slice(&[b'O', b'R', VERSION, ENTRY]);
    out.extend_from_slice(&label.digest);
    number(&mut out, label.stamp);
    number(&mut out, label.era);
    number(&mut out, millis(label.life));
    // Rather too old by a moment than too young.
    number(&mut out, millis(facts.age(now)) + 1);
    number(&mut out, millis(facts.lifetime));
    number(&mut out, millis(facts.stale_while_revalidate));
    number(&mut out, millis(facts.stale_if_error));
    number(&mut out, facts.date.cast_unsigned());
    out.extend_from_slice(&facts.status.to_le_bytes());
    out.push(source(facts.source));
    let bits = [
        facts.no_cache,
        facts.revalidate,
        facts.shared_age,
        facts.immutable,
        facts.etag.is_some(),
        facts.last_modified.is_some(),
    ];
    let bits = bits.iter().rev();
    out.push(bits.fold(0, |all, bit| all << 1 | u8::from(*bit)));
    if let Some(etag) = &facts.etag {
        text(&mut out, etag);
    }
    if let Some((as_sent, seconds)) = &facts.last_modified {
        text(&mut out, as_sent);
        number(&mut out, seconds.cast_unsigned());
    }
    let held = facts.withheld.iter().map(|name| &**name);
    texts(&mut out, held);
    texts(&mut out, written.tags.map(str::as_bytes));
    texts(
        &mut out,
        written.fields.flat_map(|(name, value)| [name, value]),
    );
    text(&mut out, written.body);
    checked(out)
}

/// Writes a note that answers stand beside this place.
pub fn varies<'n>(names: impl Iterator<Item = &'n str>) -> Vec<u8> {
    let mut out = vec![b'O', b'R', VERSION, VARIES];
    texts(&mut out, names.map(str::as_bytes));
    checked(out)
}

/// Reads what stands in a place that has `left` to live.
#[must_use]
pub fn read(bytes: &[u8], left: Duration, now: Instant) -> Option<Content> {
    let end = bytes.len().checked_sub(8)?;
    let (text, sum) = bytes.split_at(end);
    if sum != check::sum(text).to_le_bytes() {
        return None;
    }
    let mut from = Reader { text, at: 0 };
    let content = match from.array()? {
        [b'O', b'R', VERSION, ENTRY] => Content::Entry(Box::new(from.entry(left, now)?)),
        [b'O', b'R', VERSION, VARIES] => Content::Varies(from.words()?),
        _ => return None,
    };
    (from.at == text.len()).then_some(content)
}

fn checked(mut out: Vec<u8>) -> Vec<u8> {
    let sum = check::sum(&out);
    number(&mut out, sum);
    out
}

fn number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text);
}

fn texts<'t>(out: &mut Vec<u8>, all: impl Iterator<Item = &'t [u8]>) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    let mut count: u32 = 0;
    for one in all {
        text(out, one);
        count += 1;
    }
    out[at..at + 4].copy_from_slice(&count.to_le_bytes());
}

fn millis(span: Duration) -> u64 {
    // Room to add to it: no span of a policy is a thousandth of this.
    u64::try_from(span.as_millis())
        .unwrap_or(u64::MAX)
        .min(u64::MAX >> 8)
}

const SOURCES: [Source; 7] = [
    Source::SharedMaxAge,
    Source::MaxAge,
    Source::Expires,
    Source::Policy,
    Source::Bounded,
    Source::Heuristic,
    Source::Nobody,
];

fn source(source: Source) -> u8 {
    let at = SOURCES.iter().position(|known| *known == source);
    at.unwrap_or(SOURCES.len()) as u8
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let end = self.at.checked_add(N)?;
        let bytes = self.text.get(self.at..end)?.try_into().ok()?;
        self.at = end;
        Some(bytes)
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn span(&mut self) -> Option<Duration> {
        self.number().map(Duration::from_millis)
    }

    fn range(&mut self) -> Option<Range<usize>> {
        let length = u32::from_le_bytes(self.array()?) as usize;
        let end = self.at.checked_add(length)?;
        self.text.get(self.at..end)?;
        let range = self.at..end;
        self.at = end;
        Some(range)
    }

    fn bytes(&mut self) -> Option<Box<[u8]>> {
        let range = self.range()?;
        Some(self.text[range].into())
    }

    fn ranges(&mut self) -> Option<Vec<Range<usize>>> {
        let count = u32::from_le_bytes(self.array()?);
        // No memory for what a count promises and the text cannot hold.
        (0..count).map(|_| self.range()).collect()
    }

    fn words(&mut self) -> Option<Vec<Box<str>>> {
        let ranges = self.ranges()?;
        let word = |range| std::str::from_utf8(&self.text[range]).ok().map(Into::into);
        ranges.into_iter().map(word).collect()
    }

    fn entry(&mut self, left: Duration, now: Instant) -> Option<Read> {
        let label = Label {
            digest: self.array()?,
            stamp: self.number()?,
            era: self.number()?,
            life: self.span()?,
        };
        let since = label.life.checked_sub(left)?;
        let (age, lifetime) = (self.span()?, self.span()?);
        let (stale_while_revalidate, stale_if_error) = (self.span()?, self.span()?);
        let date = self.number()?.cast_signed();
        let status = u16::from_le_bytes(self.array()?);
        let [source, bits] = self.array()?;
        let bit = |at: u8| bits >> at & 1 == 1;
        let etag = if bit(4) { Some(self.bytes()?) } else { None };
        let last_modified = if bit(5) {
            Some((self.bytes()?, self.number()?.cast_signed()))
        } else {
            None
        };
        let withheld = self.ranges()?;
        let withheld = withheld.into_iter().map(|held| self.text[held].into());
        let facts = Stored {
            status,
            received: now,
            initial_age: age.checked_add(since)?,
            lifetime,
            source: *SOURCES.get(usize::from(source))?,
            date,
            no_cache: bit(0),
            revalidate: bit(1),
            shared_age: bit(2),
            immutable: bit(3),
            stale_while_revalidate,
            stale_if_error,
            etag,
            last_modified,
            selected: Selected::default(),
            // Parts stay in the memory of their pod.
            part: None,
            withheld: withheld.collect(),
        };
        let tags = self.words()?;
        let fields = self.ranges()?;
        let pairs = fields.chunks_exact(2);
        if !pairs.remainder().is_empty() {
            return None;
        }
        let fields = pairs
            .map(|pair| (pair[0].clone(), pair[1].clone()))
            .collect();
        Some(Read {
            label,
            facts,
            fields,
            tags,
            body: self.range()?,
        })
    }
}
