//! RFC 9211: `Cache-Status`.

use super::*;
use crate::policy::cache::machine::status::Forward;
use crate::policy::cache::machine::status::Told;
use crate::policy::cache::machine::status::number;

fn text(told: Told) -> String {
    let mut into = Vec::new();
    told.write(&mut into);
    String::from_utf8(into).expect("text")
}

#[test]
fn section_2_a_hit() {
    let hit = Told {
        hit: true,
        ttl: Some(30),
        ..Told::default()
    };
    assert_eq!(text(hit), "outrider; hit; ttl=30");
    let stale = Told {
        ttl: Some(-5),
        detail: Some("breaker_open"),
        ..hit
    };
    assert_eq!(text(stale), "outrider; hit; ttl=-5; detail=breaker_open");
}

#[test]
fn section_2_2_a_miss_says_why() {
    let miss = |forward| Told {
        forward: Some(forward),
        ..Told::default()
    };
    let stored = Told {
        stored: true,
        collapsed: true,
        ..miss(Forward::UriMiss)
    };
    assert_eq!(text(stored), "outrider; fwd=uri-miss; stored; collapsed");
    let validated = Told {
        forward_status: Some(304),
        ..miss(Forward::Stale)
    };
    assert_eq!(text(validated), "outrider; fwd=stale; fwd-status=304");
    for (forward, token) in [
        (Forward::Bypass, "bypass"),
        (Forward::Method, "method"),
        (Forward::VaryMiss, "vary-miss"),
        (Forward::Request, "request"),
        (Forward::Partial, "partial"),
    ] {
        assert_eq!(text(miss(forward)), format!("outrider; fwd={token}"));
    }
}

#[test]
fn section_2_hit_and_fwd_do_not_stand_together() {
    let both = Told {
        hit: true,
        forward: Some(Forward::Stale),
        ..Told::default()
    };
    assert_eq!(text(both), "outrider; hit");
}

#[test]
fn numbers_are_written_whole() {
    for n in [0, 7, -1, 1234, i64::MAX, i64::MIN] {
        let mut into = Vec::new();
        number(n, &mut into);
        assert_eq!(String::from_utf8(into).unwrap(), n.to_string());
    }
    assert_eq!(secs(1), Duration::from_secs(1));
}
