//! What hops tell each other: read, refused, and written.

use std::net::IpAddr;
use std::time::Duration;

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;

use crate::http::hops::Peer;
use crate::http::hops::Pushback;
use crate::http::hops::Said;
use crate::http::hops::Settings;
use crate::http::hops::Terms;
use crate::http::hops::Trust;
use crate::http::hops::forbid_retry;
use crate::http::hops::parse_deadline;
use crate::http::hops::parse_grpc_timeout;
use crate::http::hops::pushback;
use crate::http::hops::read;
use crate::http::hops::send_attempt;
use crate::http::hops::send_deadline;
use crate::kit::mode::Mode;

const MIDNIGHT: Duration = Duration::from_secs(1_796_083_200); // 2026-12-01T00:00:00Z

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a test's name");
        headers.append(name, HeaderValue::from_str(value).expect("a test's value"));
    }
    headers
}

fn terms(trusted: bool, mode: Mode) -> Terms {
    Terms {
        trusted,
        deadline: Some(mode),
        retry: Some(mode),
    }
}

fn names(headers: &HeaderMap) -> Vec<&str> {
    headers.keys().map(HeaderName::as_str).collect()
}

const ALL: [(&str, &str); 3] = [
    ("grpc-timeout", "2S"),
    ("x-request-deadline", "1500ms"),
    ("retry-attempt", "2"),
];

#[test]
fn a_trusted_peer_is_believed_and_the_shorter_of_two_deadlines_counts() {
    let mut headers = map(&ALL);
    let said = read(&mut headers, terms(true, Mode::Enforce), MIDNIGHT);
    let expected = Said {
        left: Some(millis(1500)),
        grpc_left: Some(millis(2000)),
        attempt: 2,
        untrusted: 0,
        malformed: 0,
    };
    assert_eq!((said, headers.len()), (expected, 3));
}

#[test]
fn the_fields_of_a_stranger_are_taken_out_and_counted() {
    let mut headers = map(&[ALL[0], ALL[1], ALL[2], ("x-other", "1")]);
    let said = read(&mut headers, terms(false, Mode::Enforce), MIDNIGHT);
    let expected = Said {
        untrusted: 3,
        ..Said::default()
    };
    assert_eq!((said, names(&headers)), (expected, vec!["x-other"]));
}

#[test]
fn shadow_takes_nothing_out_and_off_reads_nothing() {
    let mut headers = map(&ALL);
    let said = read(&mut headers, terms(false, Mode::Shadow), MIDNIGHT);
    assert_eq!((said.untrusted, headers.len()), (3, 3));
    let said = read(&mut headers, Terms::default(), MIDNIGHT);
    assert_eq!((said, headers.len()), (Said::default(), 3));
    let only_retry = Terms {
        deadline: None,
        ..terms(false, Mode::Enforce)
    };
    let said = read(&mut headers, only_retry, MIDNIGHT);
    assert_eq!((said.untrusted, headers.len()), (1, 2));
}

#[test]
fn nonsense_is_counted_and_goes_no_further() {
    let long = "0".repeat(60) + "1ms";
    for value in [
        "",
        "1500",
        "soon",
        "-1ms",
        "1500 ms ms",
        "1e3ms",
        "NaN",
        "5T",
        "2026-13-01T00:00:00Z",
        &long,
    ] {
        let mut headers = map(&[("x-request-deadline", value)]);
        let said = read(&mut headers, terms(true, Mode::Enforce), MIDNIGHT);
        assert_eq!((said.left, said.malformed), (None, 1), "{value:?}");
        assert!(headers.is_empty(), "{value:?}");
    }
    for value in ["", "-1", "+1", "1.0", "one", "99999999999", "1, 2"] {
        let mut headers = map(&[("retry-attempt", value)]);
        let said = read(&mut headers, terms(true, Mode::Enforce), MIDNIGHT);
        assert_eq!((said.attempt, said.malformed), (0, 1), "{value:?}");
        assert!(headers.is_empty(), "{value:?}");
    }
    // The same field twice: which of them the next hop would believe, nobody knows.
    let mut headers = map(&[ALL[2], ALL[2], ALL[1], ALL[1]]);
    let said = read(&mut headers, terms(true, Mode::Enforce), MIDNIGHT);
    assert_eq!((said.malformed, headers.len()), (2, 0));
    // The server answers to what its own protocol calls malformed.
    let mut headers = map(&[("grpc-timeout", "123456789S")]);
    let said = read(&mut headers, terms(true, Mode::Enforce), MIDNIGHT);
    assert_eq!((said.left, said.malformed, headers.len()), (None, 1, 1));
}

#[test]
fn grpc_timeout_is_up_to_eight_digits_and_a_unit() {
    for (text, expected) in [
        ("1H", Some(millis(3_600_000))),
        ("2M", Some(millis(120_000))),
        ("3S", Some(millis(3000))),
        ("40m", Some(millis(40))),
        ("5000u", Some(millis(5))),
        ("6000000n", Some(millis(6))),
        ("0m", Some(Duration::ZERO)),
        ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
        ("100000000n", None),
        ("", None),
        ("S", None),
        ("5", None),
        ("5s", None),
        ("-5S", None),
        ("+5S", None),
        (" 5S", None),
        ("5S ", None),
        ("1.5S", None),
        ("5é", None),
    ] {
        assert_eq!(parse_grpc_timeout(text), expected, "{text:?}");
    }
}

#[test]
fn a_deadline_is_a_duration_or_an_instant() {
    for (text, expected) in [
        ("1500ms", Some(millis(1500))),
        ("2s", Some(millis(2000))),
        ("0ms", Some(Duration::ZERO)),
        ("2026-12-01T00:00:01.5Z", Some(millis(1500))),
        ("2026-12-01T01:00:01+01:00", Some(millis(1000))),
        ("2026-11-30T23:59:59Z", Some(Duration::ZERO)),
        ("1955-11-05T06:15:00Z", Some(Duration::ZERO)),
        ("2026-12-01", None),
        ("2026-12-01T00:00:01", None),
    ] {
        assert_eq!(parse_deadline(text, MIDNIGHT), expected, "{text:?}");
    }
}

#[test]
fn what_is_sent_is_rounded_down_and_read_back() {
    for (left, grpc_left, expected) in [
        (
            millis(1499) + Duration::from_micros(999),
            None,
            ("1499ms", None),
        ),
        (
            millis(5000),
            Some(millis(90_000)),
            ("5000ms", Some("90000000u")),
        ),
        (millis(1), Some(millis(100_000)), ("1ms", Some("100000m"))),
        (
            millis(0),
            Some(Duration::from_nanos(900)),
            ("0ms", Some("0u")),
        ),
        (
            Duration::from_secs(86_400),
            Some(Duration::from_secs(99_999_999 * 3600)),
            ("86400000ms", Some("99999999S")),
        ),
    ] {
        let mut headers = map(&[("x-request-deadline", "9h")]);
        send_deadline(&mut headers, left, grpc_left);
        let get = |name| headers.get(name).and_then(|value| value.to_str().ok());
        assert_eq!(
            (get("x-request-deadline"), get("grpc-timeout")),
            (Some(expected.0), expected.1)
        );
        let said = read(&mut headers, terms(true, Mode::Enforce), MIDNIGHT);
        assert!(said.left.is_some_and(|read| read <= left), "{said:?}");
        assert!(
            said.grpc_left
                .is_none_or(|read| grpc_left.is_some_and(|sent| read <= sent))
        );
    }
    let mut headers = map(&[("retry-attempt", "1")]);
    send_attempt(&mut headers, 3);
    assert_eq!(
        read(&mut headers, terms(true, Mode::Enforce), MIDNIGHT).attempt,
        3
    );
}

#[test]
fn an_answer_says_never_or_when() {
    let after = |count| Some(Pushback::After(millis(count)));
    for (fields, expected) in [
        (&[][..], None),
        (
            &[("outrider-no-retry", "exhausted")][..],
            Some(Pushback::Never),
        ),
        (&[("outrider-no-retry", "")][..], Some(Pushback::Never)),
        (&[("grpc-retry-pushback-ms", "0")][..], after(0)),
        (&[("grpc-retry-pushback-ms", "1500")][..], after(1500)),
        (
            &[("grpc-retry-pushback-ms", "-1")][..],
            Some(Pushback::Never),
        ),
        (
            &[("grpc-retry-pushback-ms", "soon")][..],
            Some(Pushback::Never),
        ),
        (&[("grpc-retry-pushback-ms", "")][..], Some(Pushback::Never)),
        (
            &[("grpc-retry-pushback-ms", "2147483648")][..],
            Some(Pushback::Never),
        ),
        (
            &[
                ("grpc-retry-pushback-ms", "1"),
                ("grpc-retry-pushback-ms", "2"),
            ][..],
            Some(Pushback::Never),
        ),
        (
            &[
                ("grpc-retry-pushback-ms", "1"),
                ("outrider-no-retry", "limit"),
            ][..],
            Some(Pushback::Never),
        ),
    ] {
        assert_eq!(pushback(&map(fields)), expected, "{fields:?}");
    }
}

#[test]
fn whoever_forbids_first_is_quoted() {
    let mut headers = HeaderMap::new();
    forbid_retry(&mut headers, "exhausted", false);
    assert!(!headers.contains_key("grpc-retry-pushback-ms"));
    forbid_retry(&mut headers, "deadline", true);
    assert_eq!(
        headers.get("outrider-no-retry").expect("it is said"),
        "exhausted"
    );
    assert_eq!(
        headers.get("grpc-retry-pushback-ms").expect("it is said"),
        "-1"
    );
}

#[test]
fn local_is_what_no_network_can_send() {
    let ip = |text: &str| -> IpAddr { text.parse().expect("a test's address") };
    for (own, theirs, expected) in [
        ("127.0.0.1", "127.0.0.1", true),
        // Redirected: the application's connection keeps the address it left with.
        ("127.0.0.1", "10.1.2.3", true),
        ("::1", "::1", true),
        ("10.1.2.3", "10.1.2.3", true),
        ("10.1.2.3", "10.1.2.4", false),
        ("::ffff:10.1.2.3", "10.1.2.3", true),
        ("fd00::1", "fd00::2", false),
    ] {
        assert_eq!(
            Peer::of(Some(ip(own)), ip(theirs)).is_local,
            expected,
            "{theirs} to {own}"
        );
    }
}

#[test]
fn trust_is_by_place_or_by_address() {
    let far = Peer::of(Some([10, 0, 0, 1].into()), [10, 9, 9, 9].into());
    let near = Peer::of(Some([127, 0, 0, 1].into()), [127, 0, 0, 1].into());
    let unknown = Peer::of(None, [192, 0, 2, 1].into());
    let mut settings = Settings::default();
    let trusted =
        |settings: &Settings| [far, near, unknown].map(|peer| settings.terms(peer).trusted);
    assert_eq!(trusted(&settings), [false, true, false]);
    settings.trust = ["10.0.0.0/8"]
        .iter()
        .filter_map(|text| Trust::parse(text))
        .collect();
    assert_eq!(trusted(&settings), [true, false, false]);
    settings.trust.clear();
    assert_eq!(trusted(&settings), [false; 3]);
    settings.retry = false;
    let terms = settings.terms(near);
    assert_eq!((terms.deadline, terms.retry), (Some(Mode::Enforce), None));
}
