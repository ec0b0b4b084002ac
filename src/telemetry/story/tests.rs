//! What is remembered, for how long, and what is told of it.

use std::net::SocketAddr;
use std::time::Duration;

use http::HeaderValue;
use http::Method;

use super::Ask;
use super::Kind;
use super::Names;
use super::Settings;
use super::Stories;
use super::Story;
use crate::http::Reason;
use crate::http::Sent;
use crate::http::TraceMark;
use crate::http::note::End;
use crate::http::note::Fate;
use crate::http::note::Note;
use crate::http::note::Noted;
use crate::http::note::Try;

fn story(kind: Kind, upstream: &str, id: &str) -> Story {
    Story {
        number: 0,
        kind,
        names: Names {
            upstream: upstream.into(),
            route: "*".into(),
            revision: "0123".into(),
        },
        request_id: HeaderValue::from_str(id).ok(),
        trace: Some(TraceMark {
            trace_id: [0xab; 16],
            span: 1,
            parent: None,
            flags: 1,
        }),
        began: Duration::from_millis(1_790_000_000_123),
        peer: None,
        method: Method::GET,
        host: Some(HeaderValue::from_static("a.shop")),
        path: "/x".into(),
        protocol: "HTTP/1.1",
        status: 503,
        reason: (kind == Kind::Failed).then_some(Reason::BreakerOpen),
        took: Duration::from_micros(1234),
        head: None,
        bytes_in: 0,
        bytes_out: 7,
        tries: 1,
        endpoint: None,
        kept: None,
        notes: Box::new([]),
        lost: 0,
    }
}

#[test]
fn a_failure_is_always_remembered_and_the_rest_by_time_and_draw() {
    let settings = Settings::default();
    let of = |status, reason, ms, draw| {
        Kind::of(&settings, status, reason, Duration::from_millis(ms), || {
            draw
        })
    };
    assert_eq!(of(200, None, 5, 0.5), None);
    assert_eq!(of(200, None, 5, 0.009), Some(Kind::Sampled));
    assert_eq!(of(404, None, 5, 0.5), None, "the upstream's own business");
    assert_eq!(of(200, None, 1000, 0.5), Some(Kind::Slow));
    assert_eq!(of(500, None, 5, 0.5), Some(Kind::Failed));
    assert_eq!(of(429, Some(Reason::Limit), 0, 0.5), Some(Kind::Failed));
}

#[test]
fn a_storm_of_failures_does_not_drive_out_what_is_slow() {
    let stories = Stories::default();
    stories.keep(story(Kind::Slow, "a", "slow"), 10);
    for n in 0..100 {
        stories.keep(story(Kind::Failed, "a", &format!("f{n}")), 10);
    }
    let (all, last) = stories.find(&Ask::default());
    assert_eq!((all.len(), last), (11, 101));
    assert!(all[0].has_id("slow"));
    assert!(all[1].has_id("f90"), "the newest ten are kept");
}

#[test]
fn stories_are_found_by_id_upstream_reason_and_since_the_last_look() {
    let stories = Stories::default();
    stories.keep(story(Kind::Failed, "a", "one"), 10);
    stories.keep(story(Kind::Sampled, "b", "two"), 10);
    stories.keep(story(Kind::Failed, "b", "three"), 10);
    let find = |ask: Ask| {
        stories
            .find(&ask)
            .0
            .iter()
            .map(|s| s.number)
            .collect::<Vec<_>>()
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        find(Ask {
            id: some("two"),
            ..Ask::default()
        }),
        [2]
    );
    assert_eq!(
        find(Ask {
            id: some(&"ab".repeat(16)),
            ..Ask::default()
        }),
        [1, 2, 3]
    );
    assert_eq!(
        find(Ask {
            upstream: some("b"),
            ..Ask::default()
        }),
        [2, 3]
    );
    assert_eq!(
        find(Ask {
            reason: some("breaker_open"),
            ..Ask::default()
        }),
        [1, 3]
    );
    assert_eq!(
        find(Ask {
            failed: true,
            upstream: some("b"),
            ..Ask::default()
        }),
        [3]
    );
    assert_eq!(
        find(Ask {
            after: 2,
            ..Ask::default()
        }),
        [3]
    );
    assert_eq!(
        find(Ask {
            limit: Some(1),
            ..Ask::default()
        }),
        [3]
    );
}

#[test]
fn a_story_says_each_step_with_its_numbers() {
    let mut told = story(Kind::Failed, "a", "one");
    let endpoint: SocketAddr = "10.0.0.1:80".parse().expect("an address");
    let step = |at, note| Noted {
        at: Duration::from_micros(at),
        copy: 0,
        note,
    };
    told.notes = Box::new([
        step(
            10,
            Note::Try(Try {
                span: 0xff,
                endpoint: Some(endpoint),
                reused: true,
                took: Some(Duration::from_millis(2)),
                end: End::Failed(Reason::Reset, Sent::Maybe),
            }),
        ),
        step(
            2010,
            Note::Retry {
                again_in: Some(Duration::from_millis(18)),
                why: "reset",
                budget: 9.5,
            },
        ),
        step(
            20_010,
            Note::Breaker {
                fate: Fate::Refused,
                state: "open",
                more_in: Duration::from_secs(3),
                by_hand: false,
            },
        ),
    ]);
    let json = told.json();
    assert_eq!(json["began"], "2026-09-21T14:13:20.123Z");
    assert_eq!(json["steps"][0]["endpoint"], "10.0.0.1:80");
    assert_eq!(json["steps"][0]["connection"], "kept");
    assert_eq!(json["steps"][0]["maybe_sent"], true);
    assert_eq!(json["steps"][0]["span_id"], "00000000000000ff");
    assert_eq!(
        json["steps"][1]["text"],
        "again in 18ms because of reset, 9.5 left in the budget"
    );
    assert_eq!(json["steps"][2]["at_ms"], 20.01);
    assert_eq!(
        json["steps"][2]["text"],
        "open, refused, the next may pass in 3s"
    );
}
