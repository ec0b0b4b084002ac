//! RFC 9111 section 5.2, as strangers write it.

use super::*;
use crate::policy::cache::machine::directives::Delta;
use crate::policy::cache::machine::directives::Directives;
use crate::policy::cache::machine::directives::RequestDirectives;
use crate::policy::cache::machine::syntax;

fn said(value: &str) -> Directives {
    Directives::parse(std::iter::once(value.as_bytes()))
}

fn max_age(value: &str) -> Delta {
    said(value).max_age
}

#[test]
fn section_5_2_names_have_no_case() {
    assert_eq!(max_age("MaX-aGe=60"), Delta::Seconds(60));
    assert!(said("Public").public && said("IMMUTABLE").immutable);
}

#[test]
fn section_5_2_arguments_are_tokens_or_quoted() {
    assert_eq!(max_age("max-age=\"60\""), Delta::Seconds(60));
}

#[test]
fn section_5_6_1_of_rfc_9110_empty_members_and_blanks_are_nothing() {
    for text in [
        ",max-age=60",
        "max-age=60,",
        " , ,\tmax-age=60 ,, ",
        "a,max-age=60",
        "\tmax-age=60\t",
    ] {
        assert_eq!(max_age(text), Delta::Seconds(60), "{text:?}");
    }
}

#[test]
fn section_5_2_3_unknown_directives_are_nothing() {
    let long = format!("{}=1, max-age=60", "x".repeat(100));
    for text in [
        "foo, max-age=60",
        "foo=bar, max-age=60",
        "foo=\"a, b\", max-age=60",
        long.as_str(),
    ] {
        assert_eq!(max_age(text), Delta::Seconds(60), "{text:?}");
    }
    assert_eq!(max_age("xmax-age=60"), Delta::Absent);
    assert_eq!(max_age("max-age-x=60"), Delta::Absent);
}

#[test]
fn a_directive_inside_a_quoted_string_is_not_one() {
    let read = said("foo=\"bar, no-store, max-age=1\", max-age=60");
    assert!(!read.no_store);
    assert_eq!(read.max_age, Delta::Seconds(60));
    let read = said("foo=\"a\\\", no-store\", max-age=60");
    assert!(!read.no_store);
    assert_eq!(read.max_age, Delta::Seconds(60));
}

#[test]
fn a_quote_that_never_ends_hides_nothing() {
    assert!(said("foo=\"bar, no-store").no_store);
    assert!(said("foo=\"bar\\, no-store").no_store);
    assert_eq!(max_age("max-age=\"60"), Delta::Invalid);
}

#[test]
fn section_1_2_2_seconds_are_digits_and_saturate() {
    assert_eq!(max_age("max-age=0"), Delta::Seconds(0));
    assert_eq!(max_age("max-age=007"), Delta::Seconds(7));
    assert_eq!(max_age("max-age=2147483648"), Delta::Seconds(1 << 31));
    assert_eq!(
        max_age("max-age=99999999999999999999999"),
        Delta::Seconds(1 << 31)
    );
}

#[test]
fn section_4_2_1_what_is_no_number_gives_no_freshness() {
    let odd = [
        "max-age",
        "max-age=",
        "max-age=-1",
        "max-age=1.5",
        "max-age=60s",
        "max-age=+60",
        "max-age=0x10",
        "max-age=\"\"",
        "max-age=\"-1\"",
        "max-age = 60",
        "max-age =60",
        "max-age= 60",
        "max-age=60;x=1",
        "max-age=6 0",
        "max-age='60'",
        "max-age=60=60",
    ];
    for text in odd {
        assert_eq!(max_age(text), Delta::Invalid, "{text:?}");
        // And what comes after it in line is not asked instead.
        let response =
            format!("cache-control: {text}\nexpires: Tue, 24 Nov 2026 11:00:00 GMT\netag: \"a\"");
        let (stored, at) = kept(&response);
        assert!(!stored.is_fresh(at), "{text:?}");
    }
}

#[test]
fn section_4_2_1_of_two_the_more_restrictive_counts() {
    assert_eq!(max_age("max-age=60, max-age=1"), Delta::Seconds(1));
    assert_eq!(max_age("max-age=1, max-age=60"), Delta::Seconds(1));
    assert_eq!(max_age("max-age=60, max-age=x"), Delta::Invalid);
    let lines = [&b"max-age=60"[..], b"max-age=5"];
    assert_eq!(
        Directives::parse(lines.into_iter()).max_age,
        Delta::Seconds(5)
    );
    let both = said("private=\"a\", private, no-cache=\"b\", no-cache");
    assert!(both.private && both.no_cache);
}

#[test]
fn section_5_2_1_the_directives_of_a_request() {
    let read = RequestDirectives::read(&head(
        "cache-control: max-age=1, Min-Fresh=\"2\", max-stale=3, stale-if-error=4, only-if-cached\ncache-control: no-cache, no-store",
    ));
    assert_eq!(read.max_age, Delta::Seconds(1));
    assert_eq!(read.min_fresh, Delta::Seconds(2));
    assert_eq!(read.max_stale, Delta::Seconds(3));
    assert_eq!(read.stale_if_error, Delta::Seconds(4));
    assert!(read.only_if_cached && read.no_cache && read.no_store);
    let any = RequestDirectives::read(&head("cache-control: max-stale"));
    assert_eq!(any.max_stale, Delta::Seconds(1 << 31));
}

#[test]
fn section_5_4_pragma_counts_where_there_is_no_cache_control() {
    let no_cache = |fields: &str| RequestDirectives::read(&head(fields)).no_cache;
    assert!(no_cache("pragma: no-cache"));
    assert!(no_cache("pragma: foo, No-Cache"));
    assert!(!no_cache("pragma: no-cache\ncache-control: max-age=60"));
    assert!(!no_cache("pragma: x-no-cache"));
}

#[test]
fn whatever_the_bytes_splitting_loses_none_and_ends() {
    walk::seeds(|draws| {
        let alphabet = b"\",\\=;a \tno-store";
        let length = draws.below(24) as usize;
        let text: Vec<u8> = (0..length).map(|_| draws.pick(alphabet)).collect();
        let parts: Vec<&[u8]> = syntax::split(&text, b',').collect();
        assert!(parts.len() <= text.split(|byte| *byte == b',').count());
        for part in parts {
            assert_eq!(syntax::trim(part), part);
            let _ = syntax::directive(part);
        }
    });
}
