//! One test for each row of the table in `machine.rs`, the whole matrix, and the random walk.

use std::time::Duration;

use super::config::Jitter;
use super::config::Methods;
use super::config::Settings;
use super::config::When;
use super::machine::Attempt;
use super::machine::Decision;
use super::machine::Pushback;
use super::machine::Sent;
use super::machine::Verdictable;
use super::machine::Verdictable::Connect;
use super::machine::Verdictable::Grpc;
use super::machine::Verdictable::Other;
use super::machine::Verdictable::Refused;
use super::machine::Verdictable::Reset;
use super::machine::Verdictable::Status;
use super::machine::Verdictable::TryTimeout;
use super::machine::WhyNot;
use super::machine::allows;
use super::machine::judge;
use super::machine::parse_retry_after;
use super::machine::told_upwards;
use crate::kit::walk;

const METHODS: [&str; 9] = [
    "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "POST", "PATCH", "PURGE",
];

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// The first try of a GET that was sent and got a 503, with plenty of everything, and a change.
fn but(change: impl FnOnce(&mut Attempt<'static>)) -> Attempt<'static> {
    let mut attempt = Attempt {
        method: "GET",
        idempotent: false,
        tries_made: 1,
        outcome: Status(503),
        sent: Sent::Maybe,
        replayable: true,
        response_began: false,
        hop_retries: false,
        pushback: None,
        retry_after: None,
        remaining: Duration::from_secs(5),
        previous: Duration::ZERO,
    };
    change(&mut attempt);
    attempt
}

fn ended(outcome: Verdictable) -> Attempt<'static> {
    but(|a| a.outcome = outcome)
}

/// The built-in settings without chance (waits of 25ms, 50ms, 100ms), and a change.
fn with(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = Settings::default();
    settings.backoff.jitter = Jitter::None;
    change(&mut settings);
    settings
}

fn decide(attempt: &Attempt<'_>) -> Decision {
    judge(&with(|_| {}), attempt, 0.0)
}

fn stops(attempt: Attempt<'_>, why: WhyNot) {
    assert_eq!(decide(&attempt), Decision::Stop(why), "{attempt:?}");
}

fn retries(attempt: Attempt<'_>, after: u64) {
    assert_eq!(decide(&attempt), wait(after), "{attempt:?}");
}

fn wait(after: u64) -> Decision {
    Decision::Retry {
        after: millis(after),
    }
}

#[test]
fn began_stops() {
    stops(but(|a| a.response_began = true), WhyNot::Began);
    let unsent = Attempt {
        response_began: true,
        sent: Sent::No,
        ..ended(Connect)
    };
    stops(unsent, WhyNot::Began);
}

#[test]
fn retriable_stops_what_when_does_not_name() {
    for code in [200, 302, 400, 401, 404, 408, 409, 500, 501, 505] {
        stops(ended(Status(code)), WhyNot::NotRetriable);
    }
    for outcome in [TryTimeout, Other, Grpc(14), Grpc(0)] {
        stops(ended(outcome), WhyNot::NotRetriable);
    }
}

#[test]
fn retriable_passes_the_built_in_outcomes() {
    for outcome in [
        Status(502),
        Status(503),
        Status(504),
        Connect,
        Refused,
        Reset,
    ] {
        retries(ended(outcome), 25);
    }
}

#[test]
fn retriable_stops_a_429_without_retry_after() {
    stops(ended(Status(429)), WhyNot::NotRetriable);
    let told = Attempt {
        retry_after: Some(millis(1000)),
        ..ended(Status(429))
    };
    retries(told, 1025);
}

fn nothing() -> When {
    When {
        connect: false,
        refused: false,
        reset: false,
        try_timeout: false,
        statuses: vec![],
        grpc: vec![],
    }
}

#[test]
fn retriable_each_key_switches_its_own_outcome() {
    type Switch = fn(&mut When);
    let keys: [(Verdictable, Switch); 6] = [
        (Connect, |when| when.connect = true),
        (Refused, |when| when.refused = true),
        (Reset, |when| when.reset = true),
        (TryTimeout, |when| when.try_timeout = true),
        (Status(500), |when| when.statuses.push(500)),
        (Grpc(14), |when| when.grpc.push(14)),
    ];
    for (named, switch) in keys {
        let mut when = nothing();
        switch(&mut when);
        let settings = with(|s| s.when = when);
        let outcomes = keys.iter().map(|(outcome, _)| *outcome);
        for outcome in outcomes.chain([Other, Status(503), Grpc(8)]) {
            let decision = judge(&settings, &ended(outcome), 0.0);
            let is_retry = matches!(decision, Decision::Retry { .. });
            assert_eq!(is_retry, outcome == named, "{named:?} {outcome:?}");
        }
    }
}

#[test]
fn safe_stops_a_method_that_may_have_been_sent() {
    for method in ["PUT", "DELETE", "POST", "PATCH", "get", "PURGE", ""] {
        stops(but(|a| a.method = method), WhyNot::Method);
        let reset = Attempt {
            method,
            ..ended(Reset)
        };
        stops(reset, WhyNot::Method);
    }
}

#[test]
fn safe_passes_every_method_of_which_nothing_was_sent() {
    for method in METHODS {
        let unsent = Attempt {
            sent: Sent::No,
            ..but(|a| a.method = method)
        };
        retries(unsent, 25);
        // Unprocessed by their meaning, whatever the transport believes.
        for outcome in [Connect, Refused] {
            let refused = Attempt {
                method,
                ..ended(outcome)
            };
            retries(refused, 25);
        }
    }
}

#[test]
fn forbidden_stops_whatever_else_would_be_retried() {
    stops(
        but(|a| a.pushback = Some(Pushback::Never)),
        WhyNot::Forbidden,
    );
    let unsent = Attempt {
        pushback: Some(Pushback::Never),
        sent: Sent::No,
        ..ended(Refused)
    };
    stops(unsent, WhyNot::Forbidden);
    let fine = Attempt {
        pushback: Some(Pushback::Never),
        ..ended(Status(404))
    };
    stops(fine, WhyNot::NotRetriable);
}

#[test]
fn ours_stops_what_the_hop_before_retries_unless_nothing_was_sent() {
    for outcome in [Status(503), Reset] {
        let attempt = Attempt {
            hop_retries: true,
            ..ended(outcome)
        };
        stops(attempt, WhyNot::HopRetries);
    }
    for outcome in [Connect, Refused] {
        let attempt = Attempt {
            hop_retries: true,
            ..ended(outcome)
        };
        retries(attempt, 25);
    }
}

#[test]
fn retry_waits_exactly_as_long_as_a_pushback_says() {
    retries(
        but(|a| a.pushback = Some(Pushback::After(Duration::ZERO))),
        0,
    );
    let both = Attempt {
        pushback: Some(Pushback::After(millis(70))),
        retry_after: Some(millis(1000)),
        ..but(|_| {})
    };
    retries(both, 70);
    stops(
        but(|a| a.pushback = Some(Pushback::After(millis(5000)))),
        WhyNot::NoTime,
    );
}

#[test]
fn told_upwards_is_that_retrying_was_in_vain_and_nothing_else() {
    for why in WhyNot::ALL {
        let expected = match why {
            WhyNot::Exhausted => [None, Some("exhausted")],
            WhyNot::NoTime => [Some("no_time"); 2],
            WhyNot::Forbidden => [Some("forbidden"); 2],
            _ => [None; 2],
        };
        assert_eq!([1, 2].map(|tries| told_upwards(why, tries)), expected);
    }
}

#[test]
fn safe_passes_a_call_with_an_idempotency_key_whatever_its_method() {
    for method in METHODS {
        retries(
            Attempt {
                method,
                idempotent: true,
                ..ended(Reset)
            },
            25,
        );
    }
}

#[test]
fn tries_left_stops_after_max_extra_tries() {
    retries(but(|a| a.tries_made = 2), 50);
    stops(but(|a| a.tries_made = 3), WhyNot::Exhausted);
    let none = judge(&with(|s| s.max = 0), &but(|_| {}), 0.0);
    assert_eq!(none, Decision::Stop(WhyNot::Exhausted));
}

#[test]
fn replayable_stops_a_body_that_is_gone() {
    stops(but(|a| a.replayable = false), WhyNot::BodyTooLarge);
}

#[test]
fn time_left_stops_a_wait_that_uses_it_up() {
    retries(but(|a| a.remaining = millis(26)), 25);
    stops(but(|a| a.remaining = millis(25)), WhyNot::NoTime);
    let hardly = millis(26) - Duration::from_nanos(1);
    stops(but(|a| a.remaining = hardly), WhyNot::NoTime);
    stops(but(|a| a.remaining = Duration::ZERO), WhyNot::NoTime);
}

#[test]
fn time_left_stops_a_retry_after_beyond_it() {
    stops(but(|a| a.retry_after = Some(millis(5000))), WhyNot::NoTime);
    stops(but(|a| a.retry_after = Some(Duration::MAX)), WhyNot::NoTime);
    retries(but(|a| a.retry_after = Some(millis(4000))), 4025);
}

#[test]
fn retry_waits_at_least_as_long_as_a_503_asks() {
    retries(but(|a| a.retry_after = Some(millis(2000))), 2025);
}

#[test]
fn retry_does_not_wait_for_a_retry_after_that_is_not_honoured() {
    let settings = with(|s| s.retry_after = false);
    for code in [503, 429] {
        let told = Attempt {
            retry_after: Some(Duration::from_secs(100)),
            ..ended(Status(code))
        };
        assert_eq!(judge(&settings, &told, 0.0), wait(25));
    }
}

#[test]
fn retry_spreads_by_the_draw_and_the_previous_wait() {
    let full = Settings::default();
    assert_eq!(judge(&full, &but(|_| {}), 0.0), wait(0));
    assert_eq!(judge(&full, &but(|a| a.tries_made = 2), 0.5), wait(25));
    let grown = with(|s| s.backoff.jitter = Jitter::Decorrelated);
    let second = but(|a| a.previous = millis(60));
    assert_eq!(judge(&grown, &second, 1.0), wait(180));
}

#[test]
fn allows_by_kind() {
    let listed = Methods::List(vec!["POST".to_owned(), "PURGE".to_owned()]);
    let expected = [
        (Methods::Safe, &METHODS[..4]),
        (Methods::Idempotent, &METHODS[..6]),
        (Methods::All, &METHODS[..]),
        (listed, &["POST", "PURGE"][..]),
    ];
    for (methods, allowed) in expected {
        for method in METHODS {
            let expected = allowed.contains(&method);
            assert_eq!(allows(&methods, method), expected, "{methods:?} {method}");
        }
    }
    assert!(!allows(&Methods::Safe, "get"), "methods are case-sensitive");
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    assert_eq!(parse_retry_after("120", 0), Some(millis(120_000)));
    assert_eq!(parse_retry_after(" 7\t", 0), Some(millis(7000)));
    assert_eq!(parse_retry_after("0", 0), Some(Duration::ZERO));
    let endless = parse_retry_after("99999999999999999999999", 0);
    assert_eq!(endless, Some(Duration::from_secs(u64::MAX)));
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    assert_eq!(parse_retry_after(date, 784_111_677), Some(millis(100_000)));
    assert_eq!(parse_retry_after(date, 784_111_778), Some(Duration::ZERO));
    assert_eq!(parse_retry_after(date, u64::MAX), None, "a broken clock");
    for value in ["", " ", "-1", "+5", "1.5", "5s", "soon", "1 2", "١٢٠"] {
        assert_eq!(parse_retry_after(value, 0), None, "{value:?}");
    }
}

/// Every method, sent, outcome, and number of tries, against the rules told in another way.
#[test]
fn matrix_of_method_sent_and_outcome() {
    let outcomes = [
        (Status(200), false),
        (Status(429), true),
        (Status(500), false),
        (Status(502), true),
        (Status(503), true),
        (Status(504), true),
        (Grpc(14), false),
        (Connect, true),
        (Refused, true),
        (Reset, true),
        (TryTimeout, false),
        (Other, false),
    ];
    for methods in [Methods::Safe, Methods::Idempotent, Methods::All] {
        let settings = with(|s| s.methods = methods.clone());
        for (method, sent) in METHODS
            .iter()
            .flat_map(|m| [(m, Sent::No), (m, Sent::Maybe)])
        {
            for (outcome, named) in outcomes {
                for (tries_made, retry_after) in [(1, None), (2, Some(millis(10))), (3, None)] {
                    let attempt = Attempt {
                        method,
                        tries_made,
                        outcome,
                        sent,
                        retry_after,
                        ..but(|_| {})
                    };
                    let is_429 = outcome == Status(429);
                    let untouched = sent == Sent::No || matches!(outcome, Connect | Refused);
                    let expected = if !named || (is_429 && retry_after.is_none()) {
                        Some(WhyNot::NotRetriable)
                    } else if !untouched && !allows(&methods, method) {
                        Some(WhyNot::Method)
                    } else {
                        (tries_made == 3).then_some(WhyNot::Exhausted)
                    };
                    let stopped = match judge(&settings, &attempt, 0.0) {
                        Decision::Stop(why) => Some(why),
                        Decision::Retry { .. } => None,
                    };
                    assert_eq!(stopped, expected, "{methods:?} {attempt:?}");
                }
            }
        }
    }
}

#[test]
fn safe_naming_a_grpc_status_consents_to_a_second_post() {
    let settings = with(|s| s.when.grpc.push(14));
    let attempt = Attempt {
        method: "POST",
        outcome: Grpc(14),
        sent: Sent::Maybe,
        ..but(|_| {})
    };
    assert!(matches!(
        judge(&settings, &attempt, 0.0),
        Decision::Retry { .. }
    ));
}

#[test]
fn walk_a_retry_always_fits_and_never_repeats_what_is_unsafe() {
    let outcomes = [
        Status(429),
        Status(503),
        Connect,
        Refused,
        Reset,
        TryTimeout,
        Grpc(14),
        Other,
    ];
    walk::seeds(|draws| {
        let mut settings = Settings {
            max: draws.below(5) as u32,
            ..Settings::default()
        };
        settings.backoff.jitter = draws.pick(&Jitter::ALL);
        let mut remaining = millis(draws.below(3000));
        let mut previous = Duration::ZERO;
        let method = draws.pick(&METHODS);
        let mut tries_made = 0;
        loop {
            tries_made += 1;
            assert!(tries_made <= settings.max + 1, "more tries than set");
            let sent = if draws.chance(0.5) {
                Sent::No
            } else {
                Sent::Maybe
            };
            let outcome = draws.pick(&outcomes);
            let attempt = Attempt {
                method,
                idempotent: draws.chance(0.2),
                tries_made,
                outcome,
                sent,
                replayable: draws.chance(0.95),
                response_began: draws.chance(0.02),
                hop_retries: draws.chance(0.1),
                pushback: draws.chance(0.2).then(|| match draws.below(3) {
                    0 => Pushback::Never,
                    _ => Pushback::After(millis(draws.below(1000))),
                }),
                retry_after: draws.chance(0.3).then(|| millis(draws.below(1000))),
                remaining,
                previous,
            };
            let Decision::Retry { after } = judge(&settings, &attempt, draws.unit()) else {
                break;
            };
            assert!(after < remaining, "the next try could never run");
            assert!(attempt.replayable && !attempt.response_began);
            let asked = match attempt.pushback {
                Some(Pushback::After(wait)) => Some(wait),
                _ => attempt.retry_after,
            };
            assert!(
                asked.is_none_or(|asked| after >= asked),
                "sooner than asked"
            );
            let untouched = sent == Sent::No || matches!(outcome, Connect | Refused);
            assert_ne!(attempt.pushback, Some(Pushback::Never), "told not to");
            assert!(untouched || !attempt.hop_retries, "two hops retry one call");
            assert!(
                untouched || attempt.idempotent || allows(&settings.methods, method),
                "{method} might act twice"
            );
            remaining -= after;
            previous = after;
        }
    });
}
