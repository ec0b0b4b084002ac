//! Single values: what is taken, what is refused and with which words.

use super::faults;
use super::places;

/// The code and the hint of the only fault of one key.
fn refused(text: &str) -> (String, String) {
    let all = faults(&format!("upstream: a.b\n{text}\n"));
    assert_eq!(all.len(), 1, "{text}: {all:?}");
    (
        all[0].code.to_owned(),
        all[0].hint.clone().unwrap_or_default(),
    )
}

#[test]
fn values_without_units_are_refused_with_a_guess() {
    let cases = [
        ("timeout: 2", "OR014", "did you mean `2s`?"),
        ("retry: { budget: 20 }", "OR014", "did you mean `20%`?"),
        ("retry: { budget: 0.2 }", "OR014", "did you mean `20%`?"),
        ("retry: { replay: 64 }", "OR014", "did you mean `64KiB`?"),
        (
            "retry: { max: 3x }",
            "OR014",
            "a count is a bare whole number",
        ),
        (
            "retry: { max: 1e1 }",
            "OR014",
            "a count is a bare whole number",
        ),
        ("retry: { max: 010 }", "OR026", "write `10`"),
        (
            "breaker: { min_calls: 1_000 }",
            "OR026",
            "write plain decimal digits",
        ),
        (
            "retry: yes",
            "OR013",
            "`retry: {}` enables it with the built-in values",
        ),
        ("timeout: no", "OR025", "a long one does it: `timeout: 24h`"),
        (
            "breaker: { open: false }",
            "OR025",
            "write a duration such as `2s`",
        ),
        ("timeout: { try: aut }", "OR016", "did you mean `auto`?"),
        (
            "retry: { retry_after: honor }",
            "OR016",
            "did you mean `honour`?",
        ),
    ];
    for (text, code, hint) in cases {
        assert_eq!(refused(text), (code.to_owned(), hint.to_owned()), "{text}");
    }
}

#[test]
fn bounds_belong_to_the_range() {
    for text in [
        "timeout: 1ms",
        "timeout: 24h",
        "retry: 0",
        "retry: 10",
        "breaker: { failures: 100% }",
        "breaker: { failures: 0.1% }",
    ] {
        assert!(
            !faults(&format!("upstream: a.b\n{text}\n"))
                .iter()
                .any(|fault| fault.code == "OR015"),
            "{text}"
        );
    }
    for text in [
        "timeout: 0.9ms",
        "timeout: 86401s",
        "retry: 11",
        "retry: -1",
        "timeout: -2s",
        "breaker: { failures: 101% }",
    ] {
        assert_eq!(refused(text).0, "OR015", "{text}");
    }
}

#[test]
fn a_quoted_value_is_the_same_value() {
    assert!(places("upstream: \"a.b\"\ntimeout: \"2s\"\nretry: { max: '3', budget: \"20%\" }\nbreaker: 'off'\n").is_empty());
}

#[test]
fn conditions_and_addresses_are_checked() {
    for (text, hint) in [
        ("retry: { when: [conect] }", "did you mean `connect`?"),
        (
            "retry: { when: [\"grpc:UNAVAILABLE\"] }",
            "did you mean `grpc:unavailable`?",
        ),
        (
            "endpoints: [10.0.0.1]",
            "the port is missing: `10.0.0.1:8080`?",
        ),
        ("endpoints: [\"::1\"]", "the port is missing: `[::1]:8080`?"),
        ("retry: { methods: [get] }", "did you mean `GET`?"),
    ] {
        assert_eq!(
            refused(text),
            ("OR017".to_owned(), hint.to_owned()),
            "{text}"
        );
    }
}

#[test]
fn a_secret_in_the_policy_is_never_repeated_in_a_message() {
    for fault in faults("upstream: a.b\ncredential: { from: sk_live_1234 }\n") {
        assert!(!fault.render().contains("sk_live"), "{}", fault.render());
    }
}

#[test]
fn times_are_rfc_3339() {
    let at = |time: &str| places(&format!("upstream: a.b\nfault: {{ until: {time} }}\n")).len();
    for good in ["2026-12-01T00:00:00Z", "2026-12-01T23:59:60.5+02:00"] {
        assert_eq!(at(good), 1, "{good}: only OR040");
    }
    for bad in [
        "2026-12-01",
        "tomorrow",
        "2026-13-01T00:00:00Z",
        "2026-12-01T00:00:00",
        "2026-12-01T00:00:00.Z",
        "2026-12-01T00:00:00+2:00",
    ] {
        assert_eq!(at(bad), 2, "{bad}: OR017 too");
    }
}
