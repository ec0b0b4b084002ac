//! RFC 9111 section 4.3: validation, both ways.

use super::*;
use crate::policy::cache::machine::validate;
use crate::policy::cache::machine::validate::HeadSays;

const MODIFIED: &str = "last-modified: Tue, 24 Nov 2026 09:00:00 GMT";

fn of(fields: &str) -> Stored {
    kept(&format!("cache-control: max-age=60\n{fields}")).0
}

fn is_304(stored: &Stored, request: &str) -> bool {
    validate::not_modified(&head(request), stored, NOW)
}

#[test]
fn section_4_3_2_if_none_match_is_compared_weakly() {
    let stored = of("etag: \"a\"");
    for tags in [
        "\"a\"",
        "W/\"a\"",
        "\"b\", \"a\"",
        "\"b\" ,W/\"a\"",
        "*",
        "\"x,y\", \"a\"",
    ] {
        assert!(is_304(&stored, &format!("if-none-match: {tags}")), "{tags}");
    }
    for tags in [
        "\"b\"",
        "a",
        "\"A\"",
        "\"a",
        "W/a",
        "w/\"a\"",
        "\"x, \\\"a\\\"\"",
    ] {
        assert!(
            !is_304(&stored, &format!("if-none-match: {tags}")),
            "{tags}"
        );
    }
    assert!(is_304(&of("etag: W/\"a\""), "if-none-match: \"a\""));
    assert!(is_304(
        &stored,
        "if-none-match: \"b\"\nif-none-match: \"a\""
    ));
}

#[test]
fn section_4_3_2_without_a_tag_only_the_star_matches() {
    assert!(!is_304(&of(MODIFIED), "if-none-match: \"a\""));
    assert!(is_304(&of(MODIFIED), "if-none-match: *"));
}

#[test]
fn section_4_3_2_if_modified_since_counts_only_without_if_none_match() {
    let stored = of(&format!("etag: \"a\"\n{MODIFIED}"));
    let since = "if-modified-since: Tue, 24 Nov 2026 09:00:00 GMT";
    assert!(is_304(&stored, since));
    assert!(!is_304(&stored, &format!("{since}\nif-none-match: \"b\"")));
    assert!(is_304(
        &stored,
        "if-modified-since: Tue, 24 Nov 2026 09:30:00 GMT"
    ));
    assert!(!is_304(
        &stored,
        "if-modified-since: Tue, 24 Nov 2026 08:59:59 GMT"
    ));
    assert!(is_304(
        &stored,
        "if-modified-since: Tuesday, 24-Nov-26 09:00:00 GMT"
    ));
    assert!(!is_304(&stored, "if-modified-since: yesterday"));
    assert!(!is_304(&stored, &format!("{since}\n{since}")), "not a list");
}

#[test]
fn section_4_3_2_without_last_modified_the_date_stands_in() {
    let stored = of("date: Tue, 24 Nov 2026 09:59:50 GMT");
    assert!(is_304(
        &stored,
        "if-modified-since: Tue, 24 Nov 2026 09:59:50 GMT"
    ));
    assert!(!is_304(
        &stored,
        "if-modified-since: Tue, 24 Nov 2026 09:59:49 GMT"
    ));
}

#[test]
fn section_13_2_1_of_rfc_9110_a_condition_counts_for_a_success_only() {
    let stored = judged(
        &Rules::default(),
        "",
        404,
        "cache-control: max-age=9\netag: \"a\"",
    )
    .unwrap();
    assert!(!is_304(&stored, "if-none-match: \"a\""));
    assert!(!is_304(&of("etag: \"a\""), ""));
}

#[test]
fn section_15_4_5_of_rfc_9110_what_a_304_carries() {
    for name in [
        "etag",
        "date",
        "vary",
        "cache-control",
        "expires",
        "content-location",
        "last-modified",
        "x-any",
    ] {
        assert!(validate::in_not_modified(name), "{name}");
    }
    for name in [
        "content-length",
        "content-type",
        "content-encoding",
        "content-range",
        "content-language",
    ] {
        assert!(!validate::in_not_modified(name), "{name}");
    }
}

#[test]
fn section_4_3_1_an_upstream_is_asked_with_all_validators() {
    let text = "W/\"a\"";
    let stored = of(&format!("etag: {text}\n{MODIFIED}"));
    let question = stored.question();
    assert_eq!(question.etag, Some(text.as_bytes()));
    assert_eq!(
        question.last_modified,
        Some(&b"Tue, 24 Nov 2026 09:00:00 GMT"[..])
    );
    assert!(!of("last-modified: nonsense").question().asks());
    assert!(!of("etag:").question().asks());
}

#[test]
fn section_4_3_4_a_304_is_about_what_has_its_validators() {
    let about =
        |answer: &str, stored: &str, asked| validate::freshens(&head(answer), &of(stored), asked);
    // A strong tag: all that have it.
    assert!(about("etag: \"a\"", "etag: \"a\"", true));
    assert!(about("etag: \"a\"", "etag: \"a\"", false));
    assert!(!about("etag: \"b\"", "etag: \"a\"", true));
    assert!(!about("etag: \"a\"", MODIFIED, true));
    assert!(about(&format!("etag: \"a\"\n{MODIFIED}"), MODIFIED, true));
    // A weak one, or a date: the one that was asked about.
    assert!(about("etag: W/\"a\"", "etag: W/\"a\"", true));
    assert!(!about("etag: W/\"a\"", "etag: W/\"a\"", false));
    assert!(
        about("etag: \"a\"", "etag: W/\"a\"", true),
        "as nginx answers for what it compresses"
    );
    assert!(about(MODIFIED, MODIFIED, true));
    assert!(!about(
        "last-modified: Tue, 24 Nov 2026 09:00:01 GMT",
        MODIFIED,
        true
    ));
    // None: likewise.
    assert!(about("", "etag: \"a\"", true));
    assert!(!about("", "etag: \"a\"", false));
}

#[test]
fn section_3_2_a_304_changes_all_but_how_the_bytes_are_read() {
    for name in [
        "cache-control",
        "date",
        "expires",
        "x-any",
        "set-cookie",
        "content-type",
        "content-language",
        "last-modified",
    ] {
        assert!(validate::replaces(name), "{name}");
    }
    for name in [
        "content-length",
        "content-encoding",
        "content-range",
        "etag",
        "connection",
        "transfer-encoding",
        "age",
    ] {
        assert!(!validate::replaces(name), "{name}");
    }
}

#[test]
fn section_4_3_4_a_validated_answer_is_as_young_as_the_304() {
    let stored = of("etag: \"a\"");
    let later = stored.received + secs(100);
    let at = Times {
        requested: later,
        received: later,
        received_unix: NOW + 100,
    };
    let merged =
        head("cache-control: max-age=30\netag: \"a\"\ndate: Tue, 24 Nov 2026 10:01:40 GMT");
    let rules = Rules::default();
    let anew = validate::freshened(&stored, &asked(""), &head(""), &merged, at, &rules).unwrap();
    assert_eq!((anew.age(later), anew.lifetime), (secs(0), secs(30)));
    assert!(anew.is_fresh(later) && !stored.is_fresh(later));
    let forbidden = head("cache-control: no-store\netag: \"a\"");
    let anew = validate::freshened(&stored, &asked(""), &head(""), &forbidden, at, &rules);
    assert_eq!(anew, Err(WhyNot::NoStore), "and then it is dropped");
}

#[test]
fn section_4_3_5_a_head_says_whether_the_get_is_still_the_same() {
    let stored = of(&format!("etag: \"a\"\n{MODIFIED}"));
    let says = |status, fields: &str| validate::head(status, &head(fields), &stored, 10);
    assert_eq!(says(200, "etag: \"a\"\ncontent-length: 10"), HeadSays::Same);
    assert_eq!(says(200, ""), HeadSays::Same);
    assert_eq!(says(200, "etag: \"b\""), HeadSays::Changed);
    assert_eq!(
        says(200, "etag: \"a\"\ncontent-length: 11"),
        HeadSays::Changed
    );
    assert_eq!(
        says(200, "last-modified: Tue, 24 Nov 2026 09:00:01 GMT"),
        HeadSays::Changed
    );
    assert_eq!(says(404, "etag: \"b\""), HeadSays::Nothing);
    assert_eq!(says(304, "etag: \"b\""), HeadSays::Nothing);
}
