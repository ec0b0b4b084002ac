//! RFC 9111 section 4.1: which answer a request selects.

use std::cmp::Ordering;

use super::*;
use crate::policy::cache::machine::vary;

/// Whether the answer to the first request, with this `Vary`, is selected by the second.
fn selects(vary: &str, first: &str, second: &str) -> bool {
    let response = head(&format!("vary: {vary}"));
    let selected = vary::select(&response, &head(first)).expect("selectable");
    selected.by(&head(second), &mut Vec::new())
}

#[test]
fn section_4_1_the_same_values_select_and_others_do_not() {
    assert!(selects("x-a", "x-a: 1", "x-a: 1"));
    assert!(!selects("x-a", "x-a: 1", "x-a: 2"));
    assert!(
        !selects("x-a", "x-a: a", "x-a: A"),
        "nothing is known of its case"
    );
    assert!(selects("x-a", "x-a: 1\nx-b: 1", "x-a: 1\nx-b: 2"));
    assert!(!selects("x-a, x-b", "x-a: 1\nx-b: 1", "x-a: 1\nx-b: 2"));
}

#[test]
fn section_4_1_absent_is_absent_in_both_and_not_empty() {
    assert!(selects("x-a", "", ""));
    assert!(!selects("x-a", "x-a: 1", ""));
    assert!(!selects("x-a", "", "x-a: 1"));
    assert!(!selects("x-a", "x-a:", ""));
    assert!(!selects("x-a", "", "x-a:"));
    assert!(!selects("accept-encoding", "accept-encoding:", ""));
    assert!(selects(
        "accept-encoding",
        "accept-encoding:",
        "accept-encoding:"
    ));
}

#[test]
fn section_4_1_names_have_no_case_and_lines_are_one_list() {
    assert!(!selects("X-A", "x-a: 1", "x-a: 2"));
    let response = head("vary: x-a\nvary: , x-b ,");
    let selected = vary::select(&response, &head("x-a: 1\nx-b: 2")).unwrap();
    assert_eq!(selected.names().collect::<Vec<_>>(), ["x-a", "x-b"]);
    assert!(!selected.by(&head("x-a: 1\nx-b: 3"), &mut Vec::new()));
    assert!(vary::select(&head(""), &head("")).unwrap().is_any());
}

#[test]
fn section_4_1_lines_are_joined_and_ends_trimmed() {
    assert!(selects("x-a", "x-a: 1\nx-a: 2", "x-a: 1, 2"));
    assert!(!selects("x-a", "x-a: 1\nx-a: 2", "x-a: 2, 1"));
    let spaced = Head(vec![("x-a".into(), " 1\t".into())]);
    let selected = vary::select(&head("vary: x-a"), &spaced).unwrap();
    assert!(selected.by(&head("x-a: 1"), &mut Vec::new()));
}

#[test]
fn section_4_1_negotiation_is_compared_by_its_meaning() {
    let same = |name: &str, one: &str, other: &str| {
        let (one, other) = (format!("{name}: {one}"), format!("{name}: {other}"));
        selects(name, &one, &other) && selects(name, &other, &one)
    };
    assert!(same("accept-encoding", "gzip, br", "br,gzip"));
    assert!(same("accept-encoding", "gzip, br", "BR ,\tGZip"));
    assert!(same("accept-encoding", "gzip;q=1.0, br", "gzip, br;q=1"));
    assert!(same("accept-encoding", "gzip;q=0.5", "gzip ; Q=0.50"));
    assert!(same("accept-encoding", "gzip, gzip", "gzip"));
    assert!(same("accept-language", "en, de;q=0.5", "de;q=0.5,EN"));
    assert!(same(
        "accept",
        "text/html, */*;q=0.1",
        "*/*;q=0.100,text/html"
    ));
    assert!(!same("accept-encoding", "gzip", "br"));
    assert!(!same("accept-encoding", "gzip;q=0", "gzip"));
    assert!(!same("accept-encoding", "gzip;q=0.5, br", "gzip, br;q=0.5"));
    assert!(
        !same("accept-encoding", "gzip;q=2", "gzip"),
        "no weight, so not one"
    );
    assert!(!same("accept", "text/html;level=1", "text/html;level=2"));
    assert!(!same("accept", "a/b;x=\"1,2\"", "a/b;x=\"1\", 2"));
}

#[test]
fn section_12_5_4_of_rfc_9110_equal_weights_keep_the_order_that_some_servers_go_by() {
    assert!(!selects(
        "accept-language",
        "accept-language: en, de",
        "accept-language: de, en"
    ));
    assert!(!selects("accept", "accept: a/b, c/d", "accept: c/d, a/b"));
}

#[test]
fn section_4_of_several_the_most_recent_date_is_used() {
    let answer = |date: &str| kept(&format!("cache-control: max-age=9\ndate: {date}")).0;
    let old = answer("Tue, 24 Nov 2026 09:59:58 GMT");
    let new = answer("Tue, 24 Nov 2026 09:59:59 GMT");
    assert_eq!(vary::newer(&new, &old), Ordering::Greater);
    let mut later = old.clone();
    later.received = old.received + secs(1);
    assert_eq!(
        vary::newer(&later, &old),
        Ordering::Greater,
        "of the same date the later one"
    );
}

#[test]
fn normalising_twice_changes_nothing() {
    walk::seeds(|draws| {
        let name = draws.pick(&["accept", "accept-encoding", "accept-language", "x-a"]);
        let alphabet = b"gz,;q=01.5 \"*/\\GZ";
        let length = draws.below(30) as usize;
        let text: Vec<u8> = (0..length).map(|_| draws.pick(alphabet)).collect();
        let text = String::from_utf8(text).expect("ASCII");
        let (mut once, mut twice) = (Vec::new(), Vec::new());
        vary::normalise(name, &Head(vec![(name.into(), text)]), &mut once);
        let again = String::from_utf8(once.clone()).expect("ASCII");
        vary::normalise(name, &Head(vec![(name.into(), again)]), &mut twice);
        assert_eq!(once, twice);
    });
}
