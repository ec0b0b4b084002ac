//! RFC 9111 sections 3.3 and 3.4: parts that are stored.

use bytes::Bytes;

use super::bench::Bench;
use super::bench::locally;
use super::bench::with;
use super::*;
use crate::http::ResponseBody;
use crate::kit::walk::Draws;
use crate::policy::cache::Settings;
use crate::policy::cache::machine::part;
use crate::policy::cache::machine::part::Gives;
use crate::policy::cache::machine::part::Span;

fn span(first: u64, last: u64, total: Option<u64>) -> Span {
    Span {
        first,
        last,
        total,
        wish: Box::default(),
    }
}

fn came(range: &str, content_range: &str) -> Option<(u64, u64, Option<u64>)> {
    let request = head(&format!("range: {range}"));
    let response = head(&format!("content-range: {content_range}"));
    let found = part::came(&asked(&format!("range: {range}")), &request, &response)?;
    Some((found.first, found.last, found.total))
}

#[test]
fn section_14_4_of_rfc_9110_content_range_is_read_or_the_part_is_none() {
    assert_eq!(came("bytes=2-4", "bytes 2-4/10"), Some((2, 4, Some(10))));
    assert_eq!(came("bytes=2-4", "Bytes 2-4/*"), Some((2, 4, None)));
    for text in [
        "bytes 4-2/10",
        "bytes 2-10/10",
        "bytes */10",
        "bytes 2-4",
        "bytes 2-4/x",
        "bytes 2-99999999999999999999/*x",
        "lines 2-4/10",
        "bytes=2-4/10",
        "",
    ] {
        assert_eq!(came("bytes=2-4", text), None, "{text}");
    }
    let response = head("content-range: bytes 2-4/10");
    let twice = head("range: bytes=2-4\nrange: bytes=2-4");
    assert_eq!(part::came(&asked("range: x"), &twice, &response), None);
    assert_eq!(part::came(&asked(""), &head(""), &response), None);
}

#[test]
fn section_3_3_a_part_is_what_is_there_of_it() {
    let said = span(4, 9, Some(10));
    assert_eq!(said.fitted(6), Some(said.clone()));
    assert_eq!(said.fitted(5), Some(span(4, 8, Some(10))));
    assert_eq!((said.fitted(7), said.fitted(0)), (None, None));
    assert_eq!(Span::beginning(3, 10), Some(span(0, 2, Some(10))));
    assert_eq!(
        (Span::beginning(0, 10), Span::beginning(10, 10)),
        (None, None)
    );
}

#[test]
fn section_3_4_spans_join_where_they_touch() {
    let join = |one: &Span, other: &Span| {
        one.with(other)
            .map(|both| (both.first, both.last, both.total))
    };
    let (low, high) = (span(0, 4, Some(10)), span(5, 9, Some(10)));
    assert_eq!(join(&low, &high), Some((0, 9, Some(10))));
    assert_eq!(join(&high, &low), Some((0, 9, Some(10))));
    assert!(low.with(&high).is_some_and(|both| both.is_whole()));
    assert_eq!(join(&low, &span(6, 9, Some(10))), None);
    assert_eq!(join(&low, &span(5, 9, Some(11))), None);
    assert_eq!(join(&low, &span(5, 9, None)), Some((0, 9, Some(10))));
    assert_eq!(join(&low, &span(5, 12, None)), None, "beyond the end");
    assert_eq!(
        join(&span(0, u64::MAX, None), &span(3, 4, None)),
        Some((0, u64::MAX, None))
    );
    assert!(!span(0, 9, None).is_whole(), "nobody knows");
}

#[test]
fn section_3_3_only_what_lies_wholly_in_a_part_is_given() {
    let (mut stored, _) = kept("cache-control: max-age=60\netag: \"a\"");
    let gives =
        |stored: &Stored, span: &Span, text: &str| part::gives(&head(text), stored, span, NOW);
    let known = span(4, 9, Some(10));
    for (range, bytes) in [
        ("bytes=4-9", Some((4, 9))),
        ("bytes=5-5", Some((5, 5))),
        ("bytes=5-", Some((5, 9))),
        ("bytes=5-99", Some((5, 9))),
        ("bytes=-6", Some((4, 9))),
        ("bytes=-7", None),
        ("bytes=-0", None),
        ("bytes=3-5", None),
        ("bytes=10-", None),
        ("bytes=4-5,7-8", None),
        ("bytes=5-4", None),
    ] {
        let bytes = bytes.map(|(first, last)| Gives::Bytes(first, last));
        assert_eq!(
            gives(&stored, &known, &format!("range: {range}")),
            bytes,
            "{range}"
        );
    }
    let open = span(4, 9, None);
    assert_eq!(gives(&stored, &open, "range: bytes=5-"), None);
    assert_eq!(gives(&stored, &open, "range: bytes=-1"), None);
    assert_eq!(gives(&stored, &open, "range: bytes=5-10"), None);
    let same = Span {
        wish: b"bytes=-1"[..].into(),
        ..open
    };
    assert_eq!(gives(&stored, &same, "range: bytes=-1"), Some(Gives::Same));
    assert_eq!(
        gives(&stored, &same, "range: bytes=-1\nif-range: \"b\""),
        None
    );
    assert_eq!(
        gives(&stored, &same, "range: bytes=-1\nif-range: \"a\""),
        Some(Gives::Same)
    );
    stored.etag = None;
    assert_eq!(
        gives(&stored, &known, "range: bytes=5-5\nif-range: \"a\""),
        None
    );
}

#[test]
fn section_3_4_a_strong_tag_says_that_the_bytes_are_the_same() {
    let tagged = |tag: &str| kept(&format!("cache-control: max-age=60\netag: {tag}")).0;
    let none = kept("cache-control: max-age=60").0;
    assert!(part::same_bytes(&tagged("\"a\""), &tagged("\"a\"")));
    assert!(!part::same_bytes(&tagged("\"a\""), &tagged("\"b\"")));
    assert!(!part::same_bytes(&tagged("W/\"a\""), &tagged("W/\"a\"")));
    assert!(!part::same_bytes(&none, &none));
    assert!(part::side_by_side(&none, &none));
    assert!(!part::side_by_side(&none, &tagged("\"a\"")));
    assert!(!part::side_by_side(&tagged("\"a\""), &tagged("\"b\"")));
}

const TEXT: &str = "0123456789abcdefghijklmnopqrstuvwxyz";

/// An origin with one text, whose every answer may break off.
fn answer(draws: &mut Draws, range: Option<(usize, usize)>) -> (u16, Vec<(String, String)>, Bytes) {
    let (first, last) = range.unwrap_or((0, TEXT.len() - 1));
    let mut fields = vec![
        ("cache-control".to_owned(), "max-age=60".to_owned()),
        ("etag".to_owned(), "\"text\"".to_owned()),
    ];
    let mut bytes = Bytes::from_static(&TEXT.as_bytes()[first..=last]);
    if range.is_some() {
        let text = format!("bytes {first}-{last}/{}", TEXT.len());
        fields.push(("content-range".to_owned(), text));
        if draws.below(4) == 0 {
            bytes.truncate(bytes.len() / 2 + 1);
        }
    }
    (if range.is_some() { 206 } else { 200 }, fields, bytes)
}

#[test]
fn whatever_parts_come_every_answer_is_what_the_text_has_there() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    walk::seeds(|draws| {
        runtime.block_on(locally(async {
            let bench = Bench::new(Settings::default());
            let mut hits = 0;
            for _ in 0..40 {
                let (one, other) = (draws.below(36) as usize, draws.below(36) as usize);
                let (first, last) = (one.min(other), one.max(other));
                let is_whole = draws.below(20) == 0;
                let range = (!is_whole).then_some((first, last));
                let (status, fields, bytes) = answer(draws, range);
                let fields: Vec<(&str, &str)> = fields
                    .iter()
                    .map(|(n, v)| (n.as_str(), v.as_str()))
                    .collect();
                let came = bytes.len();
                bench
                    .upstream
                    .answers(with(ResponseBody::full(bytes), status, &fields));
                let before = bench.upstream.count();
                let wish = format!("bytes={first}-{last}");
                let wish: &[(&str, &str)] = if is_whole { &[] } else { &[("range", &wish)] };
                let got = bench.get("/", wish).await;
                bench.upstream.forget();
                let (first, last) = range.unwrap_or((0, TEXT.len() - 1));
                if bench.upstream.count() == before {
                    hits += 1;
                    // The same wish may be answered with as much as it was before.
                    assert!(
                        TEXT[first..=last].starts_with(&got.text),
                        "{first}-{last}: {}",
                        got.text
                    );
                    assert!(!got.text.is_empty());
                } else {
                    assert_eq!(got.text, TEXT[first..first + came]);
                }
            }
            assert!(hits > 0);
        }));
    });
}
