//! RFC 9110 section 14 for what is stored.

use super::*;
use crate::policy::cache::machine::range;
use crate::policy::cache::machine::range::Part;

const MODIFIED: &str = "Tue, 24 Nov 2026 09:00:00 GMT";

fn part_of(length: u64, request: &str) -> Part {
    let (stored, _) = kept(&format!(
        "cache-control: max-age=60\netag: \"a\"\nlast-modified: {MODIFIED}"
    ));
    range::part(&head(request), &stored, length, NOW)
}

fn part(range: &str) -> Part {
    part_of(10, &format!("range: {range}"))
}

#[test]
fn section_14_1_2_one_range_of_bytes() {
    assert_eq!(part("bytes=0-0"), Part::Bytes(0, 0));
    assert_eq!(part("bytes=2-4"), Part::Bytes(2, 4));
    assert_eq!(part("bytes=2-"), Part::Bytes(2, 9));
    assert_eq!(part("bytes=-3"), Part::Bytes(7, 9));
    assert_eq!(part("bytes=-99"), Part::Bytes(0, 9));
    assert_eq!(part("bytes=2-99"), Part::Bytes(2, 9));
    assert_eq!(part("Bytes= 2-4 "), Part::Bytes(2, 4));
    assert_eq!(part("bytes=0-99999999999999999999999"), Part::Bytes(0, 9));
}

#[test]
fn section_14_1_2_beyond_the_end_is_unsatisfiable() {
    assert_eq!(part("bytes=10-"), Part::Unsatisfiable);
    assert_eq!(part("bytes=10-20"), Part::Unsatisfiable);
    assert_eq!(part("bytes=-0"), Part::Unsatisfiable);
    assert_eq!(part("bytes=99999999999999999999-"), Part::Unsatisfiable);
    assert_eq!(part_of(0, "range: bytes=0-"), Part::Unsatisfiable);
    assert_eq!(part_of(0, "range: bytes=-1"), Part::Unsatisfiable);
}

#[test]
fn section_14_2_what_cannot_be_read_gets_the_whole() {
    for text in [
        "bytes=4-2",
        "bytes=",
        "bytes",
        "bytes=a-b",
        "bytes=1",
        "bytes=-",
        "lines=1-2",
        "bytes=1-2-3",
        "bytes=+1-2",
        "bytes 1-2",
    ] {
        assert_eq!(part(text), Part::Whole, "{text:?}");
    }
    assert_eq!(part_of(10, ""), Part::Whole);
    assert_eq!(
        part_of(10, "range: bytes=0-1\nrange: bytes=2-3"),
        Part::Whole
    );
}

#[test]
fn section_14_2_several_ranges_get_the_whole() {
    assert_eq!(part("bytes=0-1,4-5"), Part::Whole);
}

#[test]
fn section_14_2_a_range_is_of_a_200() {
    let stored = judged(&Rules::default(), "", 203, "cache-control: max-age=9").unwrap();
    assert_eq!(
        range::part(&head("range: bytes=0-1"), &stored, 10, NOW),
        Part::Whole
    );
}

#[test]
fn section_13_1_5_if_range_is_compared_strongly() {
    let with = |condition: &str| part_of(10, &format!("range: bytes=0-1\nif-range: {condition}"));
    assert_eq!(with("\"a\""), Part::Bytes(0, 1));
    assert_eq!(with("\"b\""), Part::Whole);
    assert_eq!(with("W/\"a\""), Part::Whole);
    assert_eq!(with(MODIFIED), Part::Bytes(0, 1));
    assert_eq!(
        with("Tue, 24 Nov 2026 09:00:01 GMT"),
        Part::Whole,
        "not the same to the second"
    );
    assert_eq!(with("nonsense"), Part::Whole);
    assert_eq!(with("\"a\"\nif-range: \"a\""), Part::Whole);
    let (weak, _) = kept("cache-control: max-age=60\netag: W/\"a\"");
    let request = head("range: bytes=0-1\nif-range: W/\"a\"");
    assert_eq!(range::part(&request, &weak, 10, NOW), Part::Whole);
}

#[test]
fn section_8_8_2_2_a_date_within_its_second_is_not_strong() {
    let (young, _) = kept(&format!(
        "cache-control: max-age=60\nlast-modified: {NOW_TEXT}\ndate: {NOW_TEXT}"
    ));
    let request = head(&format!("range: bytes=0-1\nif-range: {NOW_TEXT}"));
    assert_eq!(range::part(&request, &young, 10, NOW), Part::Whole);
}

#[test]
fn section_14_4_content_range() {
    let text = |part| range::content_range(part, 10);
    assert_eq!(text(Part::Bytes(2, 4)).as_deref(), Some("bytes 2-4/10"));
    assert_eq!(text(Part::Unsatisfiable).as_deref(), Some("bytes */10"));
    assert_eq!(text(Part::Whole), None);
}

#[test]
fn whatever_is_asked_a_part_lies_inside() {
    walk::seeds(|draws| {
        let alphabet = b"0123456789--==,bytes ";
        let length = draws.below(12) as usize;
        let text: Vec<u8> = (0..length).map(|_| draws.pick(alphabet)).collect();
        let text = format!("bytes={}", String::from_utf8(text).expect("ASCII"));
        let size = draws.below(20);
        if let Part::Bytes(first, last) = part_of(size, &format!("range: {text}")) {
            assert!(
                first <= last && last < size,
                "{text} of {size}: {first}-{last}"
            );
        }
    });
}
