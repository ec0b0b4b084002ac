//! Parts in the store: what they answer, and how one that comes is put beside those that are there.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;
use http::StatusCode;
use http::header;

use crate::http::Call;
use crate::policy::cache::layer::Policy;
use crate::policy::cache::layer::Step;
use crate::policy::cache::layer::entry::Entry;
use crate::policy::cache::layer::entry::Fields;
use crate::policy::cache::layer::entry::Head;
use crate::policy::cache::layer::known;
use crate::policy::cache::layer::serve;
use crate::policy::cache::layer::settle::merge;
use crate::policy::cache::layer::store::Key;
use crate::policy::cache::layer::store::Resource;
use crate::policy::cache::layer::store::Stamp;
use crate::policy::cache::layer::wish;
use crate::policy::cache::machine::Asked;
use crate::policy::cache::machine::Stored;
use crate::policy::cache::machine::Use;
use crate::policy::cache::machine::part;
use crate::policy::cache::machine::part::Span;
use crate::policy::cache::machine::reuse;
use crate::policy::cache::machine::status::Told;
use crate::policy::cache::metrics::Served;

impl Policy {
    /// The answer that one of the stored parts gives, where nothing whole is stored.
    pub(super) fn by_part(
        &self,
        found: &Resource,
        key: u64,
        asked: &Asked,
        call: &Call,
        scratch: &mut Vec<u8>,
    ) -> Option<Step> {
        let guard = &*self.guard;
        let (head, trail) = (&*call.head, &*call.trail);
        let (fields, now) = (Fields(&head.headers), trail.now());
        let wish = wish(asked, &head.headers, trail, now);
        let (entry, gives) = found.variants.iter().find_map(|entry| {
            let facts = &entry.head.facts;
            let span = facts.part.as_ref()?;
            let fits = facts.selected.by(&fields, scratch)
                && reuse::judge(asked, facts, &guard.rules, now) == Use::Fresh;
            let gives = part::gives(&fields, facts, span, wish.now_unix);
            Some((entry, gives.filter(|_| fits)?))
        })?;
        if !guard.settings.mode.enforces() {
            guard.metrics.would_serve(Served::Fresh);
            return Some(Step::Unseen);
        }
        self.note(trail, Served::Fresh, None);
        trail
            .kept
            .set(Some(known(&entry.head.facts, key, now, true)));
        let told = Told {
            hit: true,
            ttl: Some(entry.head.facts.ttl(now)),
            ..Told::default()
        };
        Some(Step::Answer(Ok(serve::of_part(entry, gives, &wish, &told))))
    }

    /// Puts a part into the store: joined with those that are known to be of the same bytes, beside those that may be, and in
    /// place of those that are not. False if it is of no use.
    pub(super) fn put_part(
        &self,
        key: &Key,
        stamp: Stamp,
        entry: &Entry,
        request: &HeaderMap,
    ) -> bool {
        let (fields, mut scratch) = (Fields(request), Vec::new());
        let Some(mut joined) = fitted(entry) else {
            return false;
        };
        let largest = self.largest();
        self.guard.store.change(key, Some(stamp), |old| {
            let mut others = Vec::with_capacity(old.len() + 1);
            for old in old {
                let facts = &old.head.facts;
                if !facts.selected.by(&fields, &mut scratch) {
                    others.push(Arc::clone(old));
                } else if facts.part.is_none() {
                    // What is whole says more, and may yet stand in for an error.
                    return None;
                } else if let Some(both) = join(old, &joined, largest) {
                    joined = both;
                } else if part::side_by_side(facts, &joined.head.facts) {
                    others.push(Arc::clone(old));
                }
            }
            others.insert(0, Arc::new(joined));
            Some(others)
        })
    }
}

/// The entry with the bytes that it really has.
fn fitted(entry: &Entry) -> Option<Entry> {
    let span = entry.head.facts.part.as_ref()?;
    let fitted = span.fitted(entry.body.len() as u64)?;
    if fitted.is_whole() {
        return Some(made(
            &entry.head,
            &entry.head.fields,
            fitted,
            entry.body.clone(),
        ));
    }
    let facts = Stored {
        part: Some(fitted),
        ..entry.head.facts.clone()
    };
    Some(Entry {
        head: entry.head.but(facts),
        body: entry.body.clone(),
    })
}

/// Both in one, where that is allowed and of use (RFC 9111 section 3.4): the later one's fields replace those of the earlier.
fn join(old: &Entry, new: &Entry, largest: u64) -> Option<Entry> {
    let (facts, told) = (&old.head.facts, &new.head.facts);
    let (kept, came) = (facts.part.as_ref()?, told.part.as_ref()?);
    let both = kept
        .with(came)
        .filter(|both| part::same_bytes(facts, told) && both.last - both.first < largest)?;
    let mut body = Vec::with_capacity((both.last - both.first + 1) as usize);
    // From the old what stands before the new one, the new, and from the old what stands behind it.
    let before = came.first.saturating_sub(kept.first) as usize;
    body.extend_from_slice(&old.body[..before.min(old.body.len())]);
    body.extend_from_slice(&new.body);
    if kept.last > came.last {
        body.extend_from_slice(&old.body[(came.last + 1).saturating_sub(kept.first) as usize..]);
    }
    let fields = merge(&old.head.fields, &new.head.fields);
    Some(made(&new.head, &fields, both, body.into()))
}

/// An entry of these bytes, which is a whole one if nothing is missing.
fn made(head: &Head, fields: &HeaderMap, span: Span, body: Bytes) -> Entry {
    let mut fields = fields.clone();
    fields.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    let is_whole = span.is_whole();
    let (status, range) = if is_whole {
        (StatusCode::OK, None)
    } else {
        let text = span.content_range(span.first, span.last);
        (
            StatusCode::PARTIAL_CONTENT,
            HeaderValue::try_from(text).ok(),
        )
    };
    match range {
        Some(range) => fields.insert(header::CONTENT_RANGE, range),
        None => fields.remove(header::CONTENT_RANGE),
    };
    let facts = Stored {
        status: status.as_u16(),
        part: (!is_whole).then_some(span),
        ..head.facts.clone()
    };
    Entry {
        head: Arc::new(Head {
            status,
            fields,
            facts,
            tags: head.tags.clone(),
        }),
        body,
    }
}

/// What came of a whole answer of `total` bytes before it broke off.
pub(super) fn beginning(head: &Head, body: Bytes, total: u64) -> Option<Entry> {
    let span = Span::beginning(body.len() as u64, total)?;
    (head.status == StatusCode::OK).then(|| made(head, &head.fields, span, body))
}
