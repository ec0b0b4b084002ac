//! An answer that went through Redis is the same answer, and whatever is not one is nothing.

use std::time::Duration;
use std::time::Instant;

use proptest::prelude::*;

use crate::kit::check;
use crate::kit::walk;
use crate::policy::cache::machine::Source;
use crate::policy::cache::machine::Stored;
use crate::policy::cache::machine::vary::Selected;
use crate::policy::cache::machine::wire;
use crate::policy::cache::machine::wire::Content;
use crate::policy::cache::machine::wire::Label;
use crate::policy::cache::machine::wire::Read;
use crate::policy::cache::machine::wire::Written;

const LIFE: Duration = Duration::from_secs(600);

fn facts(now: Instant) -> Stored {
    Stored {
        status: 200,
        received: now,
        initial_age: Duration::from_secs(5),
        lifetime: Duration::from_secs(60),
        source: Source::MaxAge,
        date: 1_700_000_000,
        no_cache: false,
        revalidate: true,
        shared_age: false,
        immutable: true,
        stale_while_revalidate: Duration::from_secs(30),
        stale_if_error: Duration::from_secs(90),
        etag: Some(b"\"a\"".as_slice().into()),
        last_modified: Some((b"Tue, 14 Nov 2023 22:13:20 GMT".as_slice().into(), -7)),
        selected: Selected::default(),
        part: None,
        withheld: vec![b"x-own".as_slice().into()],
    }
}

fn label() -> Label {
    Label {
        digest: [7; 32],
        stamp: 3,
        era: 9,
        life: LIFE,
    }
}

fn written(facts: &Stored, fields: &[(Vec<u8>, Vec<u8>)], body: &[u8], now: Instant) -> Vec<u8> {
    let written = Written {
        label: label(),
        facts,
        fields: fields.iter().map(|(name, value)| (&name[..], &value[..])),
        tags: ["one", "two"].into_iter(),
        body,
    };
    wire::entry(written, now)
}

fn sample(now: Instant) -> Vec<u8> {
    let fields = vec![(b"content-type".to_vec(), b"text/plain".to_vec())];
    written(&facts(now), &fields, b"hello", now)
}

fn read(bytes: &[u8], left: Duration, now: Instant) -> Option<Read> {
    match wire::read(bytes, left, now) {
        Some(Content::Entry(read)) => Some(*read),
        _ => None,
    }
}

#[test]
fn its_age_goes_on_by_the_time_that_redis_counts() {
    let now = walk::start();
    let bytes = sample(now + Duration::from_secs(2));
    let left = LIFE - Duration::from_secs(20);
    // The clock of the pod that reads it stands wherever it likes.
    let later = now + Duration::from_secs(50_000);
    let read = read(&bytes, left, later).expect("it is whole");
    let age = read.facts.age(later);
    let least = Duration::from_secs(5 + 20);
    assert!(
        age >= least && age < least + Duration::from_secs(3),
        "{age:?}"
    );
}

#[test]
fn more_time_left_than_it_was_given_is_no_entry() {
    let now = walk::start();
    assert!(read(&sample(now), LIFE, now).is_some());
    assert!(read(&sample(now), LIFE + Duration::from_millis(1), now).is_none());
}

#[test]
fn a_note_is_read_as_it_is_written() {
    let names = ["accept", "accept-language"];
    let note = wire::varies(names.into_iter());
    let read = wire::read(&note, LIFE, walk::start());
    assert_eq!(read, Some(Content::Varies(names.map(Into::into).to_vec())));
}

#[test]
fn every_cut_and_every_flipped_bit_is_seen() {
    let now = walk::start();
    let good = sample(now);
    for end in 0..good.len() {
        assert!(
            wire::read(&good[..end], LIFE, now).is_none(),
            "cut at {end}"
        );
    }
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            assert!(wire::read(&bad, LIFE, now).is_none(), "bit {bit} of {at}");
        }
    }
    let mut longer = good;
    longer.push(0);
    assert!(wire::read(&longer, LIFE, now).is_none());
}

#[test]
fn another_version_is_nothing_even_if_it_is_whole() {
    let now = walk::start();
    let mut other = sample(now);
    other[2] += 1;
    let end = other.len() - 8;
    let sum = check::sum(&other[..end]).to_le_bytes();
    other[end..].copy_from_slice(&sum);
    assert!(wire::read(&other, LIFE, now).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn an_answer_is_read_as_it_is_written(
        fields in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 0..20), proptest::collection::vec(any::<u8>(), 0..40)),
            0..12,
        ),
        body in proptest::collection::vec(any::<u8>(), 0..3000),
        flags in any::<[bool; 6]>(),
        lifetime in 0_u64..10_000_000,
        source in 0_usize..7,
    ) {
        let now = walk::start();
        let sources = [
            Source::SharedMaxAge, Source::MaxAge, Source::Expires, Source::Policy, Source::Bounded,
            Source::Heuristic, Source::Nobody,
        ];
        let mut facts = facts(now);
        facts.no_cache = flags[0];
        facts.revalidate = flags[1];
        facts.shared_age = flags[2];
        facts.immutable = flags[3];
        facts.etag = facts.etag.filter(|_| flags[4]);
        facts.last_modified = facts.last_modified.filter(|_| flags[5]);
        facts.lifetime = Duration::from_millis(lifetime);
        facts.source = sources[source];
        let bytes = written(&facts, &fields, &body, now);
        let read = read(&bytes, LIFE, now).expect("it is whole");
        prop_assert_eq!(read.label, label());
        let got: Vec<_> = read
            .fields
            .iter()
            .map(|(name, value)| (bytes[name.clone()].to_vec(), bytes[value.clone()].to_vec()))
            .collect();
        prop_assert_eq!(got, fields);
        prop_assert_eq!(&bytes[read.body.clone()], &body[..]);
        prop_assert_eq!(read.tags.len(), 2);
        facts.initial_age = read.facts.initial_age;
        prop_assert_eq!(read.facts, facts);
    }

    #[test]
    fn noise_is_nothing(noise in proptest::collection::vec(any::<u8>(), 0..400)) {
        let now = walk::start();
        prop_assert!(wire::read(&noise, LIFE, now).is_none());
        // Even where it begins well and its check is right, nothing is read beyond its end.
        let mut whole = [b"OR\x01\x00".as_slice(), &noise].concat();
        let sum = check::sum(&whole).to_le_bytes();
        whole.extend_from_slice(&sum);
        let _ = wire::read(&whole, LIFE, now);
    }
}
