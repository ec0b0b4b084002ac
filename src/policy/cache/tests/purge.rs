//! Purges against fetches that are under way on other threads.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::HeaderMap;
use http::StatusCode;

use super::*;
use crate::policy::cache::Purge;
use crate::policy::cache::Settings;
use crate::policy::cache::Store;
use crate::policy::cache::layer::entry::Entry;
use crate::policy::cache::layer::entry::Head;

const KEYS: [&str; 4] = [
    "http://shop/a",
    "http://shop/b",
    "http://shop/c\np=x",
    "http://shop/c",
];
const PURGES: u64 = 300;

fn entry(version: u64) -> Arc<Entry> {
    let (facts, _) = kept("cache-control: max-age=60");
    let settings = Settings {
        tags: Some(http::HeaderName::from_static("tag")),
        ..Settings::default()
    };
    let mut fields = HeaderMap::new();
    fields.insert("tag", http::HeaderValue::from_static("all"));
    let head = Head::keep(facts, StatusCode::OK, &fields, &settings);
    let body = Bytes::from(version.to_be_bytes().to_vec());
    Arc::new(Entry { head, body })
}

fn version(entry: &Entry) -> u64 {
    u64::from_be_bytes((*entry.body).try_into().expect("eight bytes"))
}

/// Ends the others also where the test fails: a scope waits for all of its threads.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// What an origin has is changed, and purged after that: nothing that was fetched before is found afterwards, whatever was on
/// its way and however far.
#[test]
fn what_was_fetched_before_a_purge_is_never_found_after_it() {
    let store = Store::new(16 << 20);
    let (origin, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let all = || KEYS.iter().map(|key| store.lookup(key.as_bytes()));
    let found = || {
        all()
            .filter_map(|key| store.get(&key))
            .flat_map(|found| found.variants.clone())
            .collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        for at in 0..3 {
            let (store, origin, over) = (&store, &origin, &over);
            scope.spawn(move || {
                let mut at = at;
                while !over.load(Ordering::Acquire) {
                    at += 1;
                    let key = store.lookup(KEYS[at % KEYS.len()].as_bytes()).to_key();
                    let stamp = store.stamp(&key.as_lookup());
                    let entry = entry(origin.load(Ordering::Acquire));
                    store.change(&key, Some(stamp), |_| Some(vec![entry]));
                }
            });
        }
        let _over = Over(&over);
        let now = walk::start();
        for round in 1..=PURGES {
            while found().is_empty() {
                std::thread::yield_now();
            }
            origin.store(round, Ordering::Release);
            let gone = match round % 3 {
                0 => store.purge(&Purge::All, false, now),
                1 => store.purge(&Purge::Tag("all".into()), false, now),
                // As an unsafe method does it, URL by URL.
                _ => all().map(|key| store.invalidate(&key)).sum(),
            };
            assert!(gone > 0, "{round}");
            for entry in found() {
                assert!(version(&entry) >= round, "{} in {round}", version(&entry));
            }
        }
    });
}

#[test]
fn a_soft_purge_leaves_nothing_fresh_that_was_fetched_before_it() {
    let store = Store::new(16 << 20);
    let key = store.lookup(KEYS[0].as_bytes()).to_key();
    let before = store.stamp(&key.as_lookup());
    assert!(store.change(&key, Some(before), |_| Some(vec![entry(1)])));
    let now = walk::start();
    assert_eq!(store.purge(&Purge::All, true, now), 1);
    // What was under way then is not kept in its place.
    assert!(!store.change(&key, Some(before), |_| Some(vec![entry(2)])));
    let found = store.get(&key.as_lookup()).expect("it may still stand in");
    let facts = &found.variants[0].head.facts;
    assert!(!facts.is_fresh(now) && version(&found.variants[0]) == 1);
}

#[test]
fn what_took_the_place_of_another_is_still_found_by_its_url_and_nothing_was_pushed_out() {
    let store = Store::new(16 << 20);
    let key = store.lookup(KEYS[2].as_bytes()).to_key();
    for version in 0..3 {
        assert!(store.change(&key, None, |_| Some(vec![entry(version)])));
    }
    assert_eq!(store.evicted(), 0);
    assert_eq!(store.invalidate(&store.lookup(KEYS[3].as_bytes())), 1);
    assert!(store.is_empty());
}
