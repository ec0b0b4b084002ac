//! RFC 9111 section 3: what is kept.

use super::*;

const FRESH: &str = "cache-control: max-age=60";

fn rules() -> Rules {
    Rules::default()
}

#[test]
fn section_3_get_is_understood_and_head_is_not_kept_as_one() {
    assert_eq!(why_not(200, FRESH), None);
    let request = head("");
    let Intake::Serve(asked) = ask::read("HEAD", false, &request) else {
        panic!("HEAD may be answered");
    };
    assert!(asked.head);
    let at = times(walk::start());
    let kept = store::judge(&asked, &request, 200, &head(FRESH), at, &rules());
    assert_eq!(kept, Err(WhyNot::Head));
}

#[test]
fn section_3_other_methods_are_not_answered() {
    for method in ["POST", "PUT", "DELETE", "PATCH", "PURGE", "get"] {
        assert_eq!(
            ask::read(method, true, &head("")),
            Intake::Invalidates,
            "{method}"
        );
    }
    for method in ["OPTIONS", "TRACE", "CONNECT"] {
        let pass = Intake::Pass(ask::Bypass::Method);
        assert_eq!(ask::read(method, false, &head("")), pass, "{method}");
    }
}

#[test]
fn section_3_the_status_is_final() {
    assert_eq!(why_not(101, FRESH), Some(WhyNot::Status));
    assert_eq!(why_not(600, FRESH), Some(WhyNot::Status));
}

#[test]
fn section_3_a_206_that_nobody_asked_for_and_a_304_are_no_answers() {
    for status in [206, 304] {
        assert_eq!(why_not(status, FRESH), Some(WhyNot::Partial), "{status}");
    }
    let said = format!("{FRESH}\ncontent-range: bytes 0-1/10");
    assert_eq!(why_not(206, &said), Some(WhyNot::Partial));
}

#[test]
fn section_3_what_concerns_one_caller_or_one_moment_is_not_kept() {
    for status in [401, 407, 408, 421, 425, 426, 428, 429] {
        assert_eq!(why_not(status, FRESH), Some(WhyNot::Status), "{status}");
    }
}

#[test]
fn section_3_what_answers_a_range_or_a_condition_is_not_kept_and_says_nothing_of_the_next() {
    for status in [412, 416, 417] {
        assert_eq!(why_not(status, FRESH), Some(WhyNot::Partial), "{status}");
    }
    assert!(!WhyNot::Partial.likely_again());
}

#[test]
fn section_3_any_other_status_is_kept_with_explicit_freshness() {
    for status in [
        200, 203, 204, 299, 301, 302, 303, 307, 308, 400, 404, 410, 499, 500, 503, 599,
    ] {
        assert_eq!(why_not(status, FRESH), None, "{status}");
    }
}

#[test]
fn section_3_no_store_of_the_answer() {
    for text in [
        "no-store",
        "NO-STORE",
        "max-age=60, no-store",
        "no-store, max-age=60",
        "no-store=x",
    ] {
        let response = format!("cache-control: {text}");
        assert_eq!(why_not(200, &response), Some(WhyNot::NoStore), "{text}");
    }
    let second_line = "cache-control: max-age=60\ncache-control: no-store";
    assert_eq!(why_not(200, second_line), Some(WhyNot::NoStore));
}

#[test]
fn section_5_2_1_5_no_store_of_the_request() {
    let kept = judged(&rules(), "cache-control: no-store", 200, FRESH);
    assert_eq!(kept, Err(WhyNot::RequestNoStore));
}

#[test]
fn section_5_2_2_7_private() {
    let private = "cache-control: private, max-age=60";
    assert_eq!(why_not(200, private), Some(WhyNot::Private));
    assert_eq!(
        why_not(200, "cache-control: private=\"\", max-age=60"),
        Some(WhyNot::Private)
    );
    assert_eq!(
        why_not(200, "cache-control: private=\"a, b c\", max-age=60"),
        Some(WhyNot::Private)
    );
}

#[test]
fn section_5_2_2_7_private_with_names_withholds_those_fields() {
    let (stored, _) = kept("cache-control: max-age=60, private=\"Set-Cookie, X-User\"");
    let names: Vec<&[u8]> = stored.withheld.iter().map(|n| &**n).collect();
    assert_eq!(names, [&b"set-cookie"[..], b"x-user"]);
}

#[test]
fn section_5_2_2_4_no_cache_with_names_withholds_those_fields() {
    let (stored, _) = kept("cache-control: max-age=60, no-cache=\"x-user\"");
    assert!(!stored.no_cache);
    assert_eq!(&*stored.withheld[0], b"x-user");
    let (stored, _) = kept("cache-control: max-age=60, no-cache\netag: \"a\"");
    assert!(stored.no_cache && stored.withheld.is_empty());
}

#[test]
fn section_3_5_authorization_needs_the_origins_word() {
    let credentials = "authorization: Bearer x";
    let judged = |cache: &str| {
        judged(
            &rules(),
            credentials,
            200,
            &format!("cache-control: {cache}"),
        )
    };
    assert_eq!(judged("max-age=60"), Err(WhyNot::Authorization));
    assert_eq!(
        judged("max-age=60, proxy-revalidate"),
        Err(WhyNot::Authorization)
    );
    for cache in [
        "max-age=60, public",
        "max-age=60, must-revalidate",
        "s-maxage=60",
    ] {
        assert!(judged(cache).is_ok(), "{cache}");
    }
}

#[test]
fn section_3_5_policy_may_forbid_what_the_origin_allows() {
    let rules = Rules {
        credentialed: false,
        ..rules()
    };
    let kept = judged(
        &rules,
        "authorization: x",
        200,
        "cache-control: public, max-age=60",
    );
    assert_eq!(kept, Err(WhyNot::Authorization));
    assert!(judged(&rules, "", 200, FRESH).is_ok());
}

#[test]
fn a_key_with_the_principal_makes_the_cache_that_users_own() {
    let request = head("authorization: Bearer x");
    let mut asked = asked("authorization: Bearer x");
    super::super::machine::key::principal_field(
        "authorization",
        &request,
        &mut asked,
        &mut Vec::new(),
    );
    let rules = Rules {
        default_ttl: Some(secs(30)),
        ..rules()
    };
    let at = times(walk::start());
    let judge =
        |asked: &Asked, text: &str| store::judge(asked, &request, 200, &head(text), at, &rules);
    assert!(judge(&asked, FRESH).is_ok());
    assert!(judge(&asked, "cache-control: private, max-age=60").is_ok());
    assert_eq!(judge(&asked, "").map(|s| s.lifetime), Ok(secs(30)));
    // One that brings credentials which the key does not hold as well is somebody else's business again.
    asked.cookie = true;
    assert_eq!(
        judge(&asked, "cache-control: private, max-age=60"),
        Err(WhyNot::Private)
    );
}

#[test]
fn section_5_2_2_3_must_understand_wins_over_no_store_where_the_status_is_known() {
    let must = "cache-control: must-understand, no-store, max-age=60";
    assert_eq!(why_not(200, must), None);
    assert_eq!(why_not(404, must), None);
    assert_eq!(why_not(299, must), Some(WhyNot::NotUnderstood));
    assert_eq!(
        why_not(500, "cache-control: must-understand, max-age=60"),
        Some(WhyNot::NotUnderstood)
    );
}

#[test]
fn section_3_nobody_allows_it() {
    assert_eq!(why_not(200, ""), Some(WhyNot::NoFreshness));
    assert_eq!(why_not(302, "etag: \"a\""), Some(WhyNot::NoFreshness));
    assert_eq!(why_not(200, "etag: \"a\""), None, "kept to be validated");
    assert_eq!(
        why_not(200, "last-modified: Tue, 24 Nov 2026 09:00:00 GMT"),
        None
    );
    assert_eq!(
        why_not(200, "cache-control: max-age=0"),
        Some(WhyNot::NoFreshness)
    );
    assert_eq!(why_not(200, "cache-control: max-age=0\netag: \"a\""), None);
    assert_eq!(
        why_not(200, "cache-control: max-age=60\nage: 60"),
        Some(WhyNot::NoFreshness)
    );
}

#[test]
fn section_4_1_vary_star_is_never_kept() {
    let response = |vary: &str| format!("{FRESH}\nvary: {vary}");
    assert_eq!(why_not(200, &response("*")), Some(WhyNot::Vary));
    assert_eq!(why_not(200, &response("accept, *")), Some(WhyNot::Vary));
    assert_eq!(
        why_not(200, &format!("{FRESH}\nvary: accept\nvary: *")),
        Some(WhyNot::Vary)
    );
    let many: Vec<String> = (0..17).map(|n| format!("x-{n}")).collect();
    assert_eq!(why_not(200, &response(&many.join(","))), Some(WhyNot::Vary));
}

#[test]
fn section_7_3_an_answer_that_sets_a_cookie_needs_a_word_for_it() {
    let cookie = |cache: &str| format!("cache-control: {cache}\nset-cookie: a=b");
    assert_eq!(why_not(200, &cookie("max-age=60")), Some(WhyNot::SetCookie));
    assert_eq!(
        why_not(200, &cookie("s-maxage=60")),
        Some(WhyNot::SetCookie)
    );
    assert_eq!(why_not(200, &cookie("public, max-age=60")), None);
    let rules = Rules {
        cookies: true,
        ..rules()
    };
    let stored = judged(&rules, "", 200, &cookie("max-age=60")).unwrap();
    assert_eq!(
        &*stored.withheld[0], b"set-cookie",
        "kept without the cookie"
    );
}

#[test]
fn a_request_with_a_cookie_is_answered_by_the_origins_word_alone() {
    let rules = Rules {
        default_ttl: Some(secs(30)),
        ..rules()
    };
    assert_eq!(
        judged(&rules, "cookie: a=b", 200, ""),
        Err(WhyNot::NoFreshness)
    );
    assert!(judged(&rules, "cookie: a=b", 200, FRESH).is_ok());
    let ignoring = Rules {
        cookies: true,
        ..rules
    };
    assert!(judged(&ignoring, "cookie: a=b", 200, "").is_ok());
}

#[test]
fn an_error_that_a_large_request_provokes_poisons_nothing() {
    for status in [413, 431] {
        assert_eq!(why_not(status, FRESH), Some(WhyNot::Rejection), "{status}");
    }
    let large = format!("x-large: {}", "a".repeat(3000));
    for status in [400, 414] {
        assert_eq!(why_not(status, FRESH), None, "{status}");
        let why = judged(&rules(), &large, status, FRESH);
        assert_eq!(why, Err(WhyNot::Rejection), "{status}");
    }
    assert!(judged(&rules(), &large, 200, FRESH).is_ok());
}

#[test]
fn negative_answers_are_kept_as_policy_says() {
    let rules = Rules {
        default_ttl: Some(secs(60)),
        negative: vec![(404, secs(10)), (503, secs(1))],
        ..rules()
    };
    let lifetime = |status| judged(&rules, "", status, "").map(|s| s.lifetime);
    assert_eq!(lifetime(404), Ok(secs(10)));
    assert_eq!(lifetime(503), Ok(secs(1)));
    assert_eq!(
        lifetime(410),
        Err(WhyNot::NoFreshness),
        "`get` is about what was there"
    );
    assert_eq!(lifetime(500), Err(WhyNot::NoFreshness));
    assert_eq!(
        judged(&rules, "", 404, FRESH).unwrap().lifetime,
        secs(60),
        "the origin's word"
    );
    assert_eq!(
        judged(&rules, "", 404, "cache-control: no-store"),
        Err(WhyNot::NoStore)
    );
}

#[test]
fn section_3_1_connection_fields_are_not_kept() {
    for name in [
        "connection",
        "keep-alive",
        "transfer-encoding",
        "te",
        "upgrade",
        "proxy-authenticate",
        "age",
    ] {
        assert!(!store::keeps(name), "{name}");
    }
    for name in [
        "content-type",
        "x-anything",
        "set-cookie",
        "date",
        "vary",
        "retry-after",
        "cache-control",
    ] {
        assert!(store::keeps(name), "{name}");
    }
}

#[test]
fn every_reason_has_its_own_word() {
    let mut words: Vec<&str> = WhyNot::ALL.iter().map(|why| why.word()).collect();
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), WhyNot::ALL.len());
}

#[test]
fn what_only_the_request_caused_is_not_remembered() {
    assert!(!WhyNot::RequestNoStore.likely_again());
    assert!(!WhyNot::Authorization.likely_again());
    assert!(WhyNot::NoStore.likely_again() && WhyNot::Private.likely_again());
}

#[test]
fn requests_that_a_key_does_not_tell_apart_are_passed() {
    let pass = |fields: &str, body| ask::read("GET", body, &head(fields));
    assert_eq!(pass("", true), Intake::Pass(ask::Bypass::Body), "a fat GET");
    assert_eq!(
        pass("x-http-method-override: POST", false),
        Intake::Pass(ask::Bypass::Override)
    );
    assert_eq!(
        pass("if-match: \"a\"", false),
        Intake::Pass(ask::Bypass::Precondition)
    );
    assert_eq!(
        pass("if-unmodified-since: x", false),
        Intake::Pass(ask::Bypass::Precondition)
    );
    assert_eq!(
        pass("upgrade: websocket", false),
        Intake::Pass(ask::Bypass::Upgrade)
    );
}
