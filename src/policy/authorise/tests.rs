//! The rows of the machine's table, what is clear and what is not, a walk, and the layer against a mock.

use std::rc::Rc;
use std::time::Duration;

use http::HeaderValue;
use tower::Layer;
use tower::Service;

use crate::clock;
use crate::http::Call;
use crate::http::Caller;
use crate::http::Reason;
use crate::http::RequestBody;
use crate::http::ResponseBody;
use crate::http::Trail;
use crate::kit::matcher::Matcher;
use crate::kit::mode::Mode;
use crate::kit::walk;
use crate::policy::authorise::AuthoriseLayer;
use crate::policy::authorise::Authoriser;
use crate::policy::authorise::Settings;
use crate::policy::authorise::machine::Asked;
use crate::policy::authorise::machine::Denial;
use crate::policy::authorise::machine::Request;
use crate::policy::authorise::machine::Rule;
use crate::policy::authorise::machine::Tellings;
use crate::policy::authorise::machine::Who;
use crate::policy::authorise::machine::is_clear;
use crate::policy::authorise::machine::judge;
use crate::policy::authorise::metrics::Metrics;
use crate::telemetry::BuildInfo;
use crate::telemetry::Telemetry;

const CHECKOUT: &str = "spiffe://td.test/ns/shop/sa/checkout";

fn who(text: &str) -> Who {
    Who::parse(text).unwrap_or_else(|fault| panic!("{text}: {fault}"))
}

fn rule(from: &[&str], to: &[&str]) -> Rule {
    let matcher = |text: &&str| Matcher::parse(text).expect("a match");
    Rule {
        from: from.iter().map(|text| who(text)).collect(),
        to: to.iter().map(matcher).collect(),
    }
}

fn asked<'a>(caller: Option<&'a str>, method: &'a str, path: &'a str) -> Asked<'a> {
    Asked {
        caller,
        request: Some(Request {
            method,
            path,
            overrides_method: false,
            overrides_path: false,
        }),
    }
}

fn shop() -> Vec<Rule> {
    vec![
        rule(&[CHECKOUT], &["GET /rates/**", "POST /charges"]),
        rule(&["spiffe://td.test/ns/ops/*"], &[]),
    ]
}

#[test]
fn a_caller_that_no_rule_is_about_is_denied() {
    for caller in [
        None,
        Some("spiffe://td.test/ns/shop/sa/other"),
        Some("spiffe://td.test/ns/shop/sa/checkout/more"),
        Some("spiffe://other.test/ns/shop/sa/checkout"),
        Some("spiffe://td.test/ns/ops"),
        Some("spiffe://td.test/ns/opsy/a"),
    ] {
        let judged = judge(&shop(), &asked(caller, "GET", "/rates/eur"));
        assert_eq!(judged, Err(Denial::Caller), "{caller:?}");
    }
}

#[test]
fn with_no_rule_everybody_is_denied() {
    assert_eq!(
        judge(&[], &asked(Some(CHECKOUT), "GET", "/")),
        Err(Denial::Caller)
    );
}

#[test]
fn a_request_that_no_rule_of_the_caller_allows_is_denied() {
    for (method, path) in [
        ("DELETE", "/charges"),
        ("POST", "/rates/eur"),
        ("GET", "/charges"),
        ("POST", "/charges/"),
        ("POST", "/Charges"),
        ("get", "/rates/eur"),
        ("OPTIONS", "*"),
    ] {
        let judged = judge(&shop(), &asked(Some(CHECKOUT), method, path));
        assert_eq!(judged, Err(Denial::Request), "{method} {path}");
    }
}

#[test]
fn a_request_that_could_be_mistaken_is_denied_where_a_path_is_named() {
    for path in [
        "/rates/../admin",
        "/rates/%2e%2e/admin",
        "/rates/..;/admin",
        "/rates//eur",
        "/rates/%2Fadmin",
        "/rates/a%5c..%5cadmin",
        "/rates/%252e%252e/admin",
        "/rates/;admin",
        "/rates/%c0%ae%c0%ae/admin",
    ] {
        let judged = judge(&shop(), &asked(Some(CHECKOUT), "GET", path));
        assert_eq!(judged, Err(Denial::Ambiguous), "{path}");
        let ops = Some("spiffe://td.test/ns/ops/sa/a");
        assert_eq!(judge(&shop(), &asked(ops, "GET", path)), Ok(1), "{path}");
    }
}

#[test]
fn a_field_that_asks_for_another_method_or_path_counts_where_the_rule_names_one() {
    let by_method = [rule(&["any"], &["GET /**"])];
    let by_path = [rule(&["any"], &["/rates/**"])];
    for (rules, overrides_method, overrides_path, allowed) in [
        (&by_method, true, false, false),
        (&by_method, false, true, true),
        (&by_path, true, false, true),
        (&by_path, false, true, false),
    ] {
        let asked = Asked {
            caller: Some(CHECKOUT),
            request: Some(Request {
                method: "GET",
                path: "/rates/eur",
                overrides_method,
                overrides_path,
            }),
        };
        let expected = if allowed {
            Ok(0)
        } else {
            Err(Denial::Ambiguous)
        };
        assert_eq!(judge(rules, &asked), expected, "{asked:?}");
    }
}

#[test]
fn what_a_rule_covers_is_allowed() {
    assert_eq!(
        judge(
            &shop(),
            &asked(Some(CHECKOUT), "GET", "/rates/eur/%C3%A9t%C3%A9")
        ),
        Ok(0)
    );
    assert_eq!(
        judge(&shop(), &asked(Some(CHECKOUT), "POST", "/charges")),
        Ok(0)
    );
}

#[test]
fn a_connection_that_is_not_http_needs_a_rule_that_names_no_request() {
    let connection = |caller| Asked {
        caller: Some(caller),
        request: None,
    };
    assert_eq!(judge(&shop(), &connection(CHECKOUT)), Err(Denial::Request));
    assert_eq!(
        judge(&shop(), &connection("spiffe://td.test/ns/ops/sa/a")),
        Ok(1)
    );
}

#[test]
fn any_is_who_has_proved_an_identity_and_anonymous_is_who_has_not() {
    let (any, anonymous) = (who("any"), who("anonymous"));
    assert_eq!(
        (any.covers(Some(CHECKOUT)), any.covers(None)),
        (true, false)
    );
    assert_eq!(
        (anonymous.covers(Some(CHECKOUT)), anonymous.covers(None)),
        (false, true)
    );
}

#[test]
fn callers_that_cannot_be_are_refused() {
    for text in [
        "",
        "*",
        "checkout",
        "spiffe://",
        "spiffe:///ns",
        "spiffe://*/ns/shop",
        "spiffe://TD.test/ns/shop",
        "spiffe://td.test/ns/shop/",
        "spiffe://td.test/ns/sh*",
        "spiffe://td.test/*/shop",
        "spiffe://td.test/ns//shop",
        "spiffe://td.test/ns/../shop",
        "spiffe://td.test/ns/sh%6fp",
        "spiffe://td.test*",
        "spiffe://user@td.test/a",
        "spiffe://td.test:80/a",
    ] {
        assert!(Who::parse(text).is_err(), "{text}");
    }
    assert_eq!(
        who("spiffe://td.test/*"),
        Who::Under("spiffe://td.test/".into())
    );
    assert!(who("spiffe://td.test/*").covers(Some(CHECKOUT)));
}

#[test]
fn paths_that_are_clear() {
    for path in [
        "/",
        "/a",
        "/a/",
        "/a/b.c/d-e_f~g",
        "/a%20b",
        "/%C3%A9",
        "/...",
        "/a:b@c=d+e,f",
    ] {
        assert!(is_clear(path), "{path}");
    }
    for path in [
        "", "*", "a", "//", "//a", "/a//b", "/.", "/..", "/./a", "/a/..", "/a;b", "/%", "/%2",
        "/%zz", "/%61", "/%2F", "/%00", "/%7f", "/a b", "/a\u{e9}", "/a\\b", "/a?b", "/a#b",
    ] {
        assert!(!is_clear(path), "{path}");
    }
}

/// What a careless server makes of a path: decodes until nothing changes, takes backslashes for slashes, drops what follows
/// a `;` in a segment, and removes dot segments.
fn careless(path: &str) -> String {
    let mut text = path.as_bytes().to_vec();
    loop {
        let mut decoded = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let hex = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
            match (text[at], hex(text.get(at + 1)), hex(text.get(at + 2))) {
                (b'%', Some(high), Some(low)) => {
                    decoded.push((high * 16 + low) as u8);
                    at += 3;
                }
                (byte, ..) => {
                    decoded.push(if byte == b'\\' { b'/' } else { byte });
                    at += 1;
                }
            }
        }
        if decoded == text {
            break;
        }
        text = decoded;
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    let mut kept: Vec<&str> = Vec::new();
    for segment in text.split('/') {
        match segment.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

#[test]
fn walk_no_spelling_of_a_path_gets_a_careless_server_out_of_what_was_allowed() {
    const PARTS: [&str; 20] = [
        "/", "/", "..", ".", "%2e", "%2E", "%2f", "%5c", "\\", ";", "%3b", "%25", "2e", "open",
        "admin", "a", "%61", "%", "//", "%20",
    ];
    let rules = [rule(&["any"], &["/open/**"])];
    let mut allowed = 0;
    walk::seeds(|draws| {
        for _ in 0..20 {
            let mut path = "/open".to_owned();
            for _ in 0..draws.below(9) {
                path.push_str(draws.pick(&PARTS));
            }
            if judge(&rules, &asked(Some(CHECKOUT), "GET", &path)).is_ok() {
                allowed += 1;
                let served = careless(&path);
                assert!(
                    served == "/open" || served.starts_with("/open/"),
                    "{path} is served as {served}"
                );
            }
        }
    });
    assert!(allowed > 1000, "{allowed}");
}

#[test]
fn a_denial_is_told_at_once_and_then_now_and_then_with_what_was_kept_back() {
    let mut tellings = Tellings::default();
    let start = clock::now();
    let mut at =
        |ms, caller| tellings.denied(caller, Denial::Caller, start + Duration::from_millis(ms));
    assert_eq!(at(0, Some("a")), Some(0));
    assert_eq!(at(1, Some("a")), None);
    assert_eq!(at(2, Some("b")), Some(0));
    assert_eq!(at(9_999, Some("a")), None);
    assert_eq!(at(10_000, Some("a")), Some(2));
    assert_eq!(at(10_001, None), Some(0));
}

#[test]
fn who_has_many_identities_does_not_flood_the_log_and_nothing_is_forgotten() {
    let mut tellings = Tellings::default();
    let start = clock::now();
    let (mut told, mut counted) = (0, 0);
    for n in 0..10_000_u64 {
        let caller = format!("c{n}");
        let now = start + Duration::from_millis(n);
        if let Some(untold) = tellings.denied(Some(&caller), Denial::Request, now) {
            told += 1;
            counted += untold + 1;
        }
    }
    assert_eq!(told, 200);
    assert!(counted > 9_000, "{counted}");
}

async fn through(mode: Mode, caller: Option<&str>) -> (bool, Option<Reason>) {
    let telemetry = Telemetry::new(
        BuildInfo {
            version: "0",
            commit: "0",
        },
        1,
    );
    let settings = Settings {
        mode,
        rules: vec![rule(&[CHECKOUT], &["GET /rates"])],
    };
    let authoriser = Authoriser::new(settings, Metrics::new(&telemetry, 1));
    let reached = Rc::new(std::cell::Cell::new(false));
    let seen = Rc::clone(&reached);
    let inner = tower::service_fn(move |_: Call| {
        seen.set(true);
        std::future::ready(Ok(http::Response::new(ResponseBody::empty())))
    });
    let (mut head, ()) = http::Request::new(()).into_parts();
    head.uri = "/rates".parse().expect("a path");
    let trail = Rc::new(Trail::new(clock::now()));
    *trail.caller.borrow_mut() = caller.map(|id| {
        Rc::new(Caller {
            id: id.into(),
            forwarded: HeaderValue::from_static("URI=x"),
        })
    });
    let call = Call {
        head: Box::new(head),
        body: RequestBody::Empty,
        trail,
    };
    let outcome = AuthoriseLayer::new(Some(authoriser))
        .layer(inner)
        .call(call)
        .await;
    (reached.get(), outcome.err().map(|fault| fault.reason))
}

#[tokio::test]
async fn the_layer_lets_pass_what_is_allowed_and_answers_for_what_is_not() {
    assert_eq!(through(Mode::Enforce, Some(CHECKOUT)).await, (true, None));
    let denied = (false, Some(Reason::NotAuthorised));
    assert_eq!(
        through(Mode::Enforce, Some("spiffe://td.test/b")).await,
        denied
    );
    assert_eq!(through(Mode::Enforce, None).await, denied);
}

#[tokio::test]
async fn in_shadow_everything_passes() {
    assert_eq!(through(Mode::Shadow, None).await, (true, None));
}
