//! RFC 9213: targeted cache control.

use super::*;
use crate::policy::cache::machine::Source;

fn lifetime(response: &str) -> Result<(Duration, Source), WhyNot> {
    judged(&Rules::default(), "", 200, response).map(|s| (s.lifetime, s.source))
}

#[test]
fn section_2_2_the_first_target_that_speaks_wins() {
    let all =
        "outrider-cache-control: max-age=1\ncdn-cache-control: max-age=2\ncache-control: max-age=3";
    assert_eq!(lifetime(all), Ok((secs(1), Source::MaxAge)));
    let cdn = "cdn-cache-control: max-age=2\ncache-control: max-age=3, no-store";
    assert_eq!(lifetime(cdn), Ok((secs(2), Source::MaxAge)));
    let stop = "cdn-cache-control: no-store\ncache-control: max-age=3";
    assert_eq!(lifetime(stop), Err(WhyNot::NoStore));
}

#[test]
fn section_2_2_expires_is_not_read_beside_a_target() {
    let text = "cdn-cache-control: public\nexpires: Tue, 24 Nov 2026 11:00:00 GMT\netag: \"a\"";
    assert_eq!(lifetime(text), Ok((secs(0), Source::Nobody)));
}

#[test]
fn section_2_1_an_invalid_or_empty_dictionary_says_nothing() {
    let invalid = [
        "",
        " ",
        ",",
        "max-age=1,",
        "max-age=1,,public",
        "Max-Age=1",
        "max-age=1 public",
        "max-age=",
        "max-age=\"1",
        "max-age=(1",
        "=1",
        "max-age=?2",
        "max-age=1.2345",
        "max-age=1;",
        "max-age=@x",
        "a=:!:",
        "é",
    ];
    for text in invalid {
        let response = format!("cdn-cache-control: {text}\ncache-control: max-age=3");
        assert_eq!(
            lifetime(&response),
            Ok((secs(3), Source::MaxAge)),
            "{text:?}"
        );
    }
}

#[test]
fn section_2_1_members_of_every_type_are_read() {
    let valid = [
        "max-age=1",
        "  max-age=1 ",
        "public,  max-age=1",
        "max-age=1;foo=bar;baz",
        "x=(1 2 \"a\");q=?0, max-age=1",
        "x=:aGk=:, max-age=1",
        "x=@123, max-age=1",
        "x=1.5, max-age=1",
        "x=a/b:c, max-age=1",
        "max-age=7, max-age=1",
        "x=\"a\\\"b,c\", max-age=1",
        "x=?0,max-age=1",
        "x=-1\t,\tmax-age=1",
    ];
    for text in valid {
        let response = format!("cdn-cache-control: {text}\ncache-control: max-age=3");
        assert_eq!(
            lifetime(&response),
            Ok((secs(1), Source::MaxAge)),
            "{text:?}"
        );
    }
    let lines = "cdn-cache-control: public\ncdn-cache-control: max-age=1";
    assert_eq!(lifetime(lines), Ok((secs(1), Source::MaxAge)));
}

#[test]
fn section_2_1_seconds_of_another_type_are_no_freshness() {
    for text in [
        "max-age=\"60\"",
        "max-age=60.0",
        "max-age=abc",
        "max-age",
        "max-age=?1",
        "max-age=-1",
    ] {
        let response = format!("cdn-cache-control: {text}\ncache-control: max-age=60\netag: \"a\"");
        assert_eq!(lifetime(&response).map(|l| l.0), Ok(secs(0)), "{text:?}");
    }
}

#[test]
fn section_2_1_a_flag_that_is_false_is_not_there() {
    assert_eq!(
        lifetime("cdn-cache-control: no-store=?0, max-age=9"),
        Ok((secs(9), Source::MaxAge))
    );
    assert_eq!(
        lifetime("cdn-cache-control: no-store=1, max-age=9"),
        Err(WhyNot::NoStore)
    );
}

#[test]
fn section_2_1_field_names_are_withheld() {
    let (stored, _) = kept("cdn-cache-control: max-age=9, private=\"X-A, x-b\"");
    let names: Vec<&[u8]> = stored.withheld.iter().map(|n| &**n).collect();
    assert_eq!(names, [&b"x-a"[..], b"x-b"]);
    assert_eq!(
        lifetime("cdn-cache-control: max-age=9, private"),
        Err(WhyNot::Private)
    );
    assert_eq!(
        lifetime("cdn-cache-control: max-age=9, private=(a)"),
        Err(WhyNot::Private)
    );
}

#[test]
fn whatever_the_bytes_a_dictionary_is_read_to_its_end() {
    walk::seeds(|draws| {
        let alphabet = b"max-age=1;?@:\"\\(), \tAz*.";
        let length = draws.below(24) as usize;
        let text: Vec<u8> = (0..length).map(|_| draws.pick(alphabet)).collect();
        let text = String::from_utf8(text).expect("ASCII");
        let response = Head(vec![("cdn-cache-control".to_owned(), text)]);
        let _ = crate::policy::cache::machine::targeted::directives(&response);
    });
}
