//! The tree under the language: places, aliases, merges, bounds, traps.

use super::super::dom;
use super::super::dom::Kind;
use super::super::dom::Why;
use super::super::fault;
use super::faults;
use super::good;
use super::places;

fn scalars(node: &dom::Node, all: &mut Vec<(String, u32, u32)>) {
    match &node.kind {
        Kind::Null => {}
        Kind::Scalar(text) => all.push((text.clone(), node.span.line, node.span.column)),
        Kind::Seq(items) => items.iter().for_each(|item| scalars(item, all)),
        Kind::Map(pairs) => pairs.iter().for_each(|(_, value)| scalars(value, all)),
    }
}

#[test]
fn scalars_keep_their_text_and_place() {
    let root =
        dom::parse("a: 0755\nb: off\nc: 1e3 # x\nd: \"x # y\"\ne: 'it''s'\nf: |\n  two\n  lines\n")
            .expect("YAML");
    let mut all = Vec::new();
    scalars(&root, &mut all);
    let texts: Vec<&str> = all.iter().map(|(text, ..)| text.as_str()).collect();
    assert_eq!(
        texts,
        ["0755", "off", "1e3", "x # y", "it's", "two\nlines\n"]
    );
    assert_eq!(all[2], ("1e3".to_owned(), 3, 4));
}

#[test]
fn an_alias_is_shown_where_it_is_used_and_its_inside_where_it_is_written() {
    let text = "defaults:\n  timeout: &fast 2\n  retry: &often { max: 3x }\nupstreams:\n  - upstream: a.b\n    timeout: *fast\n    retry: *often\n";
    assert_eq!(places(text), ["2:18 OR014", "3:24 OR014", "6:14 OR014"]);
}

#[test]
fn a_merge_brings_values_that_own_keys_win_over() {
    let text = "defaults:\n  retry: &often { max: 4, replay: 1KiB }\nupstreams:\n  - upstream: a.b\n    retry: { <<: *often, max: 1 }\n";
    let retry = good(text).policy.upstreams[0]
        .base
        .retry
        .clone()
        .expect("on");
    assert_eq!((retry.max, retry.replay), (1, 1024));
}

#[test]
fn every_bound_holds() {
    let why = |text: &str| dom::parse(text).map(drop).map_err(|broken| broken.why);
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(why(&nested(dom::MAX_DEPTH)), Ok(()));
    assert_eq!(why(&nested(dom::MAX_DEPTH + 1)), Err(Why::Limit));
    assert_eq!(why(&nested(100_000)), Err(Why::Limit));
    assert_eq!(why(&"{a: ".repeat(10_000)), Err(Why::Limit));
    let anchors: String =
        (0..1_000).fold(String::new(), |text, n| text + &format!("k{n}: &a{n} x\n"));
    assert!(why(&anchors).is_ok() || why(&anchors) == Err(Why::Limit));
    let bomb: String = (1..12).fold("a0: &a0 [x, x, x, x]\n".to_owned(), |text, n| {
        let many = vec![format!("*a{}", n - 1); 10].join(", ");
        text + &format!("a{n}: &a{n} [{many}]\n")
    });
    assert_eq!(why(&bomb), Err(Why::Limit));
    assert_eq!(why("a: 1\n---\nb: 2\n"), Err(Why::Several));
    assert_eq!(why("a: [\n"), Err(Why::Syntax));
}

#[test]
fn traps_of_yaml_1_1_are_told() {
    for key in ["on", "yes", "true", "off", "no", "false", "On", "TRUE"] {
        let all = faults(&format!("upstream: a.b\nretry: {{ {key}: [503] }}\n"));
        assert_eq!((all.len(), all[0].code), (1, "OR020"), "{key}: {all:?}");
    }
}

#[test]
fn duplicate_keys_name_both_places() {
    let all =
        faults("upstream: a.b\nretry: { max: 1 }\ntimeout: 2s\nretry: { max: 2 }\nretry: {}\n");
    let told: Vec<String> = all.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "p.yaml:4:1  error OR011: `retry` appears twice in an upstream; the first is at 2:1",
            "p.yaml:5:1  error OR011: `retry` appears twice in an upstream; the first is at 2:1",
        ]
    );
}

#[test]
fn faults_are_told_once_and_in_order() {
    let text = "upstreams:\n  - upstream: a.b\n    retry: { budjet: 20%, max: x }\n    timeout: 1\nzzz: 1\n";
    assert_eq!(
        places(text),
        ["3:14 OR012", "3:32 OR014", "4:14 OR014", "5:1 OR012"]
    );
}

#[test]
fn a_file_of_nothing_but_faults_is_cut_short() {
    let text: String = (0..2_000).fold(String::new(), |text, n| text + &format!("key{n}: 1\n"));
    let all = faults(&format!("upstream: a.b\n{text}"));
    assert_eq!(all.len(), 501);
    assert_eq!(all[500].code, "OR004", "{}", all[500]);
}

#[test]
fn a_snippet_points_at_the_fault() {
    let all = faults("upstream: a.b\nretry: { max: 3, budjet: 20% }\n");
    assert_eq!(
        all[0].snippet,
        "     2 | retry: { max: 3, budjet: 20% }\n       |                  ^^^^^^\n"
    );
    assert_eq!((all[0].column, all[0].end_column), (18, 24));
}

#[test]
fn snippets_survive_any_text() {
    let span = |line, column, end| dom::Span { line, column, end };
    for text in ["", "\n", "\u{1b}[31mred\t\u{7}", "äöü: 1", "x"] {
        for at in [
            span(0, 0, 0),
            span(1, 1, 1),
            span(1, 2, 900),
            span(1, 900, 2),
            span(9, 9, 9),
            span(u32::MAX, u32::MAX, u32::MAX),
        ] {
            let shown = fault::snippet(text, at);
            assert!(!shown.contains(['\u{1b}', '\t', '\u{7}']), "{shown:?}");
        }
    }
}

#[test]
fn any_text_is_refused_or_taken_but_never_panics() {
    let pieces = [
        "upstream",
        ":",
        " ",
        "\n",
        "  ",
        "-",
        "a.b",
        "{",
        "}",
        "[",
        "]",
        "&a",
        "*a",
        "<<",
        "off",
        "2s",
        "\"",
        "'",
        "|",
        "#",
        "\t",
        "retry",
        "routes",
        "match",
        "/x",
        "~",
        "!",
        "%",
        "---",
        "null",
        "\u{feff}",
        "é",
        "\0",
        "timeout",
        "upstreams",
        "kind",
        "ConfigMap",
        "data",
        "x.yaml",
    ];
    // A small generator of our own, so that a failing seed can be run again from its number.
    for seed in 0..1_000_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut text = String::new();
        for _ in 0..(seed % 40) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            text += pieces[(state % pieces.len() as u64) as usize];
        }
        let outcome = std::panic::catch_unwind(|| drop(super::super::parse("seed.yaml", &text)));
        assert!(outcome.is_ok(), "seed {seed}: {text:?}");
    }
}
