//! The three forms of a date, and what is none.

use crate::kit::date::parse;
use crate::kit::date::write;
use crate::kit::walk;

// The date of RFC 9110 section 5.6.7, in its three forms.
const UNIX: i64 = 784_111_777;
const FORMS: [&str; 3] = [
    "Sun, 06 Nov 1994 08:49:37 GMT",
    "Sunday, 06-Nov-94 08:49:37 GMT",
    "Sun Nov  6 08:49:37 1994",
];

const IN_2026: u64 = 1_795_000_000;

#[test]
fn the_three_forms_are_one_date() {
    for form in FORMS {
        assert_eq!(parse(form, IN_2026), Some(UNIX), "{form}");
    }
    assert_eq!(
        parse("Wed Nov 16 08:49:37 1994", IN_2026),
        Some(UNIX + 864_000)
    );
}

#[test]
fn days_are_counted_rightly() {
    for (text, unix) in [
        ("Wed, 31 Dec 1969 23:59:59 GMT", -1),
        ("Thu, 01 Jan 1970 00:00:01 GMT", 1),
        ("Tue, 29 Feb 2000 23:59:59 GMT", 951_868_799),
        ("Wed, 01 Mar 2000 00:00:00 GMT", 951_868_800),
        ("Fri, 31 Dec 2027 23:59:60 GMT", 1_830_297_600),
        ("Mon, 01 Mar 2100 00:00:00 GMT", 4_107_542_400),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 253_402_300_799),
    ] {
        assert_eq!(parse(text, 0), Some(unix), "{text}");
    }
}

#[test]
fn two_digit_years_are_at_most_fifty_ahead() {
    for (text, now, unix) in [
        ("Tuesday, 01-Jan-30 00:00:00 GMT", IN_2026, 1_893_456_000),
        ("Wednesday, 01-Jan-76 00:00:00 GMT", IN_2026, 3_345_062_400),
        ("Saturday, 01-Jan-77 00:00:00 GMT", IN_2026, 220_924_800),
        ("Saturday, 01-Jan-00 00:00:00 GMT", 0, -2_208_988_800),
    ] {
        assert_eq!(parse(text, now), Some(unix), "{text}");
    }
}

#[test]
fn anything_else_is_none() {
    for text in [
        "",
        "soon",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 nov 1994 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 31 Nov 1994 08:49:37 GMT",
        "Sun, 29 Feb 2100 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:00 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 06 Nov 1994 08-49-37 GMT",
        "Sun, 06 Nov 1994 08:49-37 GMT",
        "Sun, 06 Nov 1994 08-49:37 GMT",
        "Sun, 06-Nov-1994 08:49:37 GMT",
        "Sun, 06 Nov-1994 08:49:37 GMT",
        "Sun, +6 Nov 1994 08:49:37 GMT",
        "Sun,  06 Nov 1994 08:49:37 GMT",
        "sun, 06 Nov 1994 08:49:37 GMT",
        "Someday, 06-Nov-94 08:49:37 GMT",
        "Sunday, 06-Nov-1994 08:49:37 GMT",
        "Sunday, 06-Nov-94",
        "Sun Nov 6 08:49:37 1994",
        "Sun Nov  6 08:49:37 1994 ",
        "Sun Nov  6 08:49:37 94",
        "Sun-Nov  6 08:49:37 1994",
        "Son Nov  6 08:49:37 1994",
        "Sun Nov- 6 08:49:37 1994",
        "Sun Nov  6-08:49:37 1994",
        "Sun Nov  6 08:49:37-1994",
        "S\u{fc}n, 06 Nov 1994 08:49:37 GMT",
    ] {
        assert_eq!(parse(text, IN_2026), None, "{text:?}");
    }
}

#[test]
fn walk_broken_dates_never_panic() {
    walk::seeds(|draws| {
        let mut text: Vec<char> = draws.pick(&FORMS).chars().collect();
        for _ in 0..20 {
            let place = draws.below(text.len() as u64 + 1) as usize;
            let other = draws.pick(&['0', '9', ' ', ',', '-', ':', 'G', '\0', '\u{e9}']);
            match draws.below(4) {
                0 if place < text.len() => {
                    text.remove(place);
                }
                1 => text.insert(place, other),
                _ if place < text.len() => text[place] = other,
                _ => {}
            }
            let text: String = text.iter().collect();
            if let Some(unix) = parse(&text, draws.bits()) {
                let years = unix / 31_556_952 + 1970;
                assert!((-1..=9999).contains(&years), "{text}: {unix}");
            }
        }
    });
}

#[test]
fn a_date_is_written_as_it_is_read() {
    assert_eq!(write(UNIX), *FORMS[0].as_bytes().first_chunk().unwrap());
    assert_eq!(write(0), *b"Thu, 01 Jan 1970 00:00:00 GMT");
    assert_eq!(write(951_868_799), *b"Tue, 29 Feb 2000 23:59:59 GMT");
    assert_eq!(write(4_107_542_400), *b"Mon, 01 Mar 2100 00:00:00 GMT");
    assert_eq!(write(i64::MIN), *b"Mon, 01 Jan 0001 00:00:00 GMT");
    assert_eq!(write(i64::MAX), *b"Fri, 31 Dec 9999 23:59:59 GMT");
    walk::seeds(|draws| {
        let unix = draws.below(253_402_300_800).cast_signed();
        let text = write(unix);
        let text = std::str::from_utf8(&text).unwrap();
        assert_eq!(parse(text, 0), Some(unix), "{text}");
    });
}
