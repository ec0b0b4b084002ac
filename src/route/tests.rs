//! Patterns and matchers: what they match, which wins, and what `parse` says of a slip.

use super::machine::Matcher;
use super::machine::Pattern;
use super::machine::SEGMENTS_MAX;
use crate::kit::walk;
use crate::kit::walk::Draws;

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap_or_else(|fault| panic!("{text}: {fault}"))
}

fn matcher(text: &str) -> Matcher {
    Matcher::parse(text).unwrap_or_else(|fault| panic!("{text}: {fault}"))
}

#[test]
fn pattern_matches_its_host_on_every_port() {
    let own = pattern("Payments.Shop.");
    for host in ["payments.shop", "PAYMENTS.shop", "payments.shop."] {
        assert!(own.matches(host, 80) && own.matches(host, 8443), "{host}");
    }
    for host in [
        "payments",
        "payments.sho",
        "payments.shopx",
        "xpayments.shop",
        "a.payments.shop",
        "",
    ] {
        assert!(!own.matches(host, 80), "{host}");
    }
}

#[test]
fn pattern_with_a_port_matches_that_port() {
    let own = pattern("payments.shop:8080");
    assert!(own.matches("payments.shop", 8080));
    assert!(!own.matches("payments.shop", 80));
}

#[test]
fn pattern_of_service_and_namespace_matches_its_longer_names() {
    let own = pattern("payments.shop");
    assert!(own.matches("payments.shop.svc", 80));
    assert!(own.matches("payments.shop.SVC.cluster.local.", 80));
    for host in [
        "payments.shop.svc.cluster",
        "payments.shop.svc.other.local",
        "payments.shop.com",
        "payments.shopsvc",
    ] {
        assert!(!own.matches(host, 80), "{host}");
    }
    assert!(
        !pattern("a.b.c").matches("a.b.c.svc", 80),
        "three labels are no service"
    );
    assert!(!pattern("payments").matches("payments.svc", 80));
}

#[test]
fn pattern_glob_matches_every_name_below_but_not_the_name() {
    let own = pattern("*.Example.com");
    assert!(own.matches("a.example.com", 80));
    assert!(own.matches("a.b.EXAMPLE.com.", 80));
    for host in [
        "example.com",
        ".example.com",
        "aexample.com",
        "a.example.com.evil.org",
        "",
        "com",
    ] {
        assert!(!own.matches(host, 80), "{host}");
    }
    let cut = "\u{e9}123";
    assert!(!pattern("*.a.b").matches(cut, 80), "inside a character");
    assert!(pattern("*.example.com:443").matches("a.example.com", 443));
    assert!(!pattern("*.example.com:443").matches("a.example.com", 80));
}

#[test]
fn pattern_addresses() {
    assert!(pattern("10.0.0.1").matches("10.0.0.1", 80));
    assert!(pattern("10.0.0.1:80").matches("10.0.0.1", 80));
    let six = pattern("[2001:DB8::1]:8080");
    assert!(six.matches("[2001:db8:0::1]", 8080));
    assert!(six.matches("2001:db8::1", 8080));
    assert!(!six.matches("[2001:db8::2]", 8080));
    assert!(!six.matches("payments.shop", 8080));
}

#[test]
fn pattern_is_total_on_hosts() {
    for text in ["a.b", "*.a.b", "[::1]"] {
        for host in [
            "é", "a.é", "界.a.b", "[", "]", "[]", ".", "..", "*.a.b", "a.b:80",
        ] {
            let _ = pattern(text).matches(host, 80);
        }
    }
    assert!(!pattern("a.b").matches("a.b:80", 80));
}

#[test]
fn pattern_prints_what_it_parses() {
    for (text, printed) in [
        ("Payments.Shop.", "payments.shop"),
        ("payments.shop:80", "payments.shop:80"),
        ("*.Example.com:443", "*.example.com:443"),
        ("[0:0::1]:80", "[::1]:80"),
        ("svc_1.ns-2", "svc_1.ns-2"),
    ] {
        let own = pattern(text);
        assert_eq!(own.to_string(), printed);
        assert!(own.same(&pattern(printed)));
    }
    assert_eq!(pattern("[::1]:80").host(), "::1");
    assert_eq!(
        (pattern("a.b:80").host().as_str(), pattern("a.b:80").port()),
        ("a.b", Some(80))
    );
    assert!(pattern("*.a.b").is_glob() && !pattern("a.b").is_glob());
}

#[test]
fn pattern_specificity_in_order() {
    let order = [
        "*.com",
        "*.com:80",
        "*.b.com",
        "*.b.com:80",
        "a",
        "a.b",
        "a.b:80",
        "a.b.svc",
        "a.b.svc:80",
    ];
    for pair in order.windows(2) {
        assert!(
            pattern(pair[0]).specificity() < pattern(pair[1]).specificity(),
            "{pair:?}"
        );
    }
}

#[test]
fn pattern_overlaps() {
    for (a, b, expected) in [
        ("a.b", "A.B", true),
        ("a.b", "a.b:80", true),
        ("a.b:81", "a.b:80", false),
        ("a.b", "a.c", false),
        ("a.b", "a.b.svc.cluster.local", true),
        ("*.b", "a.b", true),
        ("*.cluster.local", "a.b", true),
        ("*.local", "a.b.c", false),
        ("*.b", "b", false),
        ("*.b", "*.a.b", true),
        ("*.b", "*.ab", false),
        ("[::1]", "*.b", false),
        ("[::1]", "[0::1]:80", true),
    ] {
        assert_eq!(pattern(a).overlaps(&pattern(b)), expected, "{a} {b}");
        assert_eq!(pattern(b).overlaps(&pattern(a)), expected, "{b} {a}");
    }
    assert!(!pattern("a.b").same(&pattern("a.b:80")));
}

fn pattern_fault(text: &str) -> String {
    Pattern::parse(text).expect_err(text).to_string()
}

#[test]
fn pattern_faults_suggest_the_mend() {
    for (text, part) in [
        ("", "write a host"),
        (
            "https://api.stripe.com/v1",
            "did you mean `api.stripe.com`?",
        ),
        ("payments.shop/charges", "under `routes:`"),
        ("user@payments.shop", "user information"),
        ("::1", "did you mean `[::1]`?"),
        ("a:b:c", "one colon"),
        ("a.b:http", "`http` in `a.b:http` is not a port"),
        ("a.b:", "not a port"),
        ("a.b:0", "not a port"),
        ("a.b:65536", "not a port"),
        ("a.b:+80", "not a port"),
        ("*", "under `defaults:`"),
        ("a.*.b", "such as `*.example.com`"),
        ("*a.b", "such as `*.example.com`"),
        ("[::1", "not an IPv6 address"),
        ("[x]", "not an IPv6 address"),
        ("a..b", "not a label"),
        ("*..a", "not a label"),
        ("a b", "`a b` is not a label"),
        ("é.fr", "not a label"),
    ] {
        let told = pattern_fault(text);
        assert!(told.contains(part), "{text}: {told}");
    }
    let longest = format!("{}a", "a.".repeat(126));
    assert!(Pattern::parse(&longest).is_ok());
    assert!(pattern_fault(&format!("{longest}.a")).contains("253"));
    assert!(Pattern::parse(&"a".repeat(63)).is_ok());
    assert!(pattern_fault(&"a".repeat(64)).contains("not a label"));
}

#[test]
fn matcher_literals() {
    let own = matcher("POST /charges");
    assert!(own.matches("POST", "/charges"));
    for (method, path) in [
        ("GET", "/charges"),
        ("post", "/charges"),
        ("POST", "/charges/"),
        ("POST", "/Charges"),
        ("POST", "/charges/1"),
        ("POST", "/"),
        ("POST", "charges"),
        ("POST", ""),
        ("POST", "*"),
    ] {
        assert!(!own.matches(method, path), "{method} {path}");
    }
    assert!(matcher("/").matches("GET", "/") && !matcher("/").matches("GET", "/a"));
}

#[test]
fn matcher_star_is_one_segment_that_is_not_empty() {
    let own = matcher("/x/*/y");
    assert!(own.matches("GET", "/x/1/y"));
    for path in ["/x//y", "/x/y", "/x/1/2/y", "/x/1/y/", "/x/1"] {
        assert!(!own.matches("GET", path), "{path}");
    }
}

#[test]
fn matcher_double_star_is_any_rest() {
    let own = matcher("GET /reports/**");
    for path in [
        "/reports",
        "/reports/",
        "/reports/a",
        "/reports/a/b/",
        "/reports//",
    ] {
        assert!(own.matches("GET", path), "{path}");
    }
    for path in ["/report", "/reportsx", "/", "/a/reports"] {
        assert!(!own.matches("GET", path), "{path}");
    }
    let all = matcher("/**");
    assert!(all.matches("GET", "/") && all.matches("BREW", "/a/b"));
    assert!(!all.matches("OPTIONS", "*"), "no path at all");
}

#[test]
fn matcher_leaves_percent_encoding_and_dots_alone() {
    assert!(matcher("/a%2Fb").matches("GET", "/a%2Fb"));
    assert!(!matcher("/a%2Fb").matches("GET", "/a%2fb"));
    assert!(!matcher("/a%2Fb").matches("GET", "/a/b"));
    assert!(
        matcher("/*").matches("GET", "/a%2Fb"),
        "one segment as sent"
    );
    assert!(!matcher("/b").matches("GET", "/a/../b"));
    assert!(matcher("/a/../b").matches("GET", "/a/../b"));
}

#[test]
fn matcher_never_sees_the_query() {
    let own = matcher("/x/*");
    assert!(own.matches("GET", "/x/1?next=/a/b"));
    assert!(own.matches("GET", "/x/1?"));
    assert!(!own.matches("GET", "/x?/1"));
    assert!(!own.matches("GET", "/x/?1"));
    assert!(own.matches("GET", "/x/1#part/a"));
}

#[test]
fn matcher_specificity_in_order() {
    let order = [
        "/**",
        "GET /**",
        "/*/**",
        "/*",
        "GET /*",
        "/*/*",
        "/a/**",
        "GET /a/**",
        "/a/*/**",
        "/a",
        "GET /a",
        "/*/b",
        "/a/*",
        "GET /*/b",
        "GET /a/*",
        "/a/b/**",
        "/a/b",
        "/a/b/c/**",
    ];
    for pair in order.windows(2) {
        assert!(
            matcher(pair[0]).specificity() < matcher(pair[1]).specificity(),
            "{pair:?}"
        );
    }
}

#[test]
fn matcher_overlaps() {
    for (a, b, expected) in [
        ("/a", "/a", true),
        ("GET /a", "/a", true),
        ("GET /a", "POST /a", false),
        ("/a/*", "/*/b", true),
        ("/a/*", "/b/*", false),
        ("/a/**", "/a", true),
        ("/a/**", "/*/b/c", true),
        ("/a/b/**", "/a/*", true),
        ("/a/b/**", "/a", false),
        ("/a/", "/a/*", false),
        ("/a/", "/a/**", true),
        ("/**", "GET /x/*", true),
    ] {
        assert_eq!(matcher(a).overlaps(&matcher(b)), expected, "{a} {b}");
        assert_eq!(matcher(b).overlaps(&matcher(a)), expected, "{b} {a}");
    }
}

#[test]
fn matcher_covers_and_same() {
    for (wide, narrow, expected) in [
        ("/a/**", "/a", true),
        ("/a/**", "GET /a/*/b", true),
        ("GET /a/**", "/a/b", false),
        ("/a/*", "/a/b", true),
        ("/a/*", "/a/", false),
        ("/a/*", "/a/**", false),
        ("/a", "/a/**", false),
        ("/*/b", "/a/*", false),
    ] {
        assert_eq!(
            matcher(wide).covers(&matcher(narrow)),
            expected,
            "{wide} {narrow}"
        );
    }
    assert!(matcher("GET  /a").same(&matcher("GET /a")));
    assert!(!matcher("GET /a").same(&matcher("/a")));
    assert!(!matcher("/a").same(&matcher("/a/")));
}

fn matcher_fault(text: &str) -> String {
    Matcher::parse(text).expect_err(text).to_string()
}

#[test]
fn matcher_faults_suggest_the_mend() {
    for (text, part) in [
        ("", "the match is empty"),
        ("POST", "did you mean `POST /**`?"),
        ("charges", "did you mean `/charges`?"),
        ("POST charges", "did you mean `/charges`?"),
        ("GET https://a/b", "a path of its upstream"),
        ("post /charges", "did you mean `POST`?"),
        ("* /charges", "leave the method out"),
        ("ANY /charges", "leave the method out"),
        ("GET,POST /a", "not a method"),
        ("/a?b=c", "did you mean `/a`?"),
        ("/a#b", "did you mean `/a`?"),
        ("/a b", "not a method"),
        ("GET /a b", "percent-encoded"),
        ("/é", "percent-encoded"),
        ("/a/**/b", "not at the end"),
        ("/a/*.pdf", "one whole segment"),
        ("/a**", "one whole segment"),
    ] {
        let told = matcher_fault(text);
        assert!(told.contains(part), "{text}: {told}");
    }
    let most = "/a".repeat(SEGMENTS_MAX);
    assert!(Matcher::parse(&most).is_ok());
    assert!(matcher_fault(&(most + "/a")).contains("more than 64"));
}

fn drawn_matcher(draws: &mut Draws) -> Matcher {
    let mut text = draws.pick(&["", "", "GET ", "POST "]).to_string();
    let count = draws.below(4);
    for _ in 0..count {
        text.push_str(draws.pick(&["/a", "/b", "/*", "/"]));
    }
    text.push_str(if count == 0 || draws.chance(0.3) {
        "/**"
    } else {
        ""
    });
    matcher(&text)
}

fn drawn_path(draws: &mut Draws) -> String {
    (0..=draws.below(4))
        .map(|_| draws.pick(&["/a", "/b", "/c", "/"]))
        .collect()
}

#[test]
fn walk_the_most_specific_is_one_and_relations_hold() {
    walk::seeds(|draws| {
        let (a, b) = (drawn_matcher(draws), drawn_matcher(draws));
        assert!(
            a.same(&matcher(&a.to_string())),
            "{a} is not what it prints"
        );
        assert_eq!(a.overlaps(&b), b.overlaps(&a), "{a} {b}");
        if a.overlaps(&b) && !a.same(&b) {
            assert_ne!(a.specificity(), b.specificity(), "{a} {b}: which wins?");
        }
        if a.covers(&b) {
            assert!(a.overlaps(&b), "{a} {b}");
            assert!(
                a.same(&b) || a.specificity() < b.specificity(),
                "{b} could never be reached beside {a}"
            );
        }
        for _ in 0..30 {
            let (method, path) = (draws.pick(&["GET", "POST", "PUT"]), drawn_path(draws));
            let (in_a, in_b) = (a.matches(method, &path), b.matches(method, &path));
            assert!(
                !(in_a && in_b) || a.overlaps(&b),
                "{a} and {b} both match {method} {path}"
            );
            assert!(
                !(in_b && a.covers(&b)) || in_a,
                "{a} should match {method} {path} as {b} does"
            );
        }
    });
}

#[test]
fn walk_patterns_that_match_one_host_differ_in_rank() {
    let hosts = [
        "a.b",
        "a.b.svc",
        "x.a.b",
        "a.b.svc.cluster.local",
        "svc",
        "a",
        "x.y.a.b",
        "b.svc",
    ];
    walk::seeds(|draws| {
        let mut drawn = || {
            let glob = draws.pick(&["", "*."]);
            let port = draws.pick(&["", ":80"]);
            pattern(&format!("{glob}{}{port}", draws.pick(&hosts)))
        };
        let (a, b) = (drawn(), drawn());
        assert!(a.same(&pattern(&a.to_string())));
        for host in hosts {
            if a.matches(host, 80) && b.matches(host, 80) {
                assert!(a.overlaps(&b), "{a} {b} {host}");
                assert!(
                    a.same(&b) || a.specificity() != b.specificity(),
                    "{a} {b} {host}"
                );
            }
        }
    });
}
