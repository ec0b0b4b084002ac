//! RFC 9111 section 2 and the tricks that are played with a key that holds too little.

use super::*;
use crate::policy::cache::machine::key;
use crate::policy::cache::machine::key::Target;

fn url(scheme: &str, authority: &str, path: &str) -> String {
    let mut into = Vec::new();
    let target = Target {
        scheme,
        authority,
        path,
    };
    key::url(target, &mut into);
    String::from_utf8(into).expect("text")
}

fn rest(fields: &str) -> Vec<u8> {
    let mut into = Vec::new();
    key::rest(
        &asked(fields),
        &head(fields),
        ["accept-encoding"].iter(),
        &mut into,
    );
    into
}

#[test]
fn the_host_has_no_case_and_no_port_of_its_scheme() {
    assert_eq!(url("http", "Shop.Example:80", "/"), "http://shop.example/");
    assert_eq!(url("https", "shop:443", "/"), "https://shop/");
    assert_eq!(url("http", "shop:443", "/"), "http://shop:443/");
    assert_eq!(url("http", "shop:8080", "/"), "http://shop:8080/");
    assert_eq!(url("http", "[::1]:80", "/"), "http://[::1]/");
    assert_ne!(url("http", "shop", "/"), url("https", "shop", "/"));
}

#[test]
fn the_path_is_neither_folded_nor_decoded() {
    let paths = [
        "/a",
        "/A",
        "/%61",
        "/a/",
        "/a?",
        "/a?x",
        "//a",
        "/a;x",
        "/./a",
        "/a%2f",
        "/a%2F",
        "/account/x.css",
    ];
    let mut keys: Vec<String> = paths.iter().map(|path| url("http", "shop", path)).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), paths.len());
}

#[test]
fn a_forwarded_host_that_an_upstream_may_obey_is_in_the_key() {
    let plain = rest("");
    for name in key::FORWARDED {
        assert_ne!(rest(&format!("{name}: evil")), plain, "{name}");
        assert_ne!(
            rest(&format!("{name}: evil")),
            rest(&format!("{name}: other")),
            "{name}"
        );
    }
    assert_ne!(rest("forwarded: for=1;HOST=evil"), plain);
    assert_ne!(rest("forwarded: proto=https"), plain);
    assert_eq!(
        rest("forwarded: for=1.2.3.4"),
        plain,
        "who asks is no part of a URL"
    );
    assert_eq!(rest("x-forwarded-for: 1.2.3.4"), plain);
}

#[test]
fn the_fields_of_the_policy_are_compared_as_vary_does() {
    assert_eq!(
        rest("accept-encoding: gzip, br"),
        rest("accept-encoding: br,gzip")
    );
    assert_ne!(rest("accept-encoding: gzip"), rest("accept-encoding: br"));
    assert_ne!(rest("accept-encoding:"), rest(""), "absent is not empty");
}

fn principal(fields: &str) -> (Vec<u8>, Asked) {
    let (mut into, mut asked) = (Vec::new(), asked(fields));
    key::principal_field("authorization", &head(fields), &mut asked, &mut into);
    key::principal_cookie("sid", &head(fields), &mut asked, &mut into);
    (into, asked)
}

#[test]
fn principals_have_keys_of_their_own() {
    let keys = [
        "",
        "authorization: a",
        "authorization: b",
        "authorization:",
        "cookie: sid=a",
        "cookie: sid=b",
        "cookie: sid=",
        "authorization: a\ncookie: sid=a",
        "authorization: a\nauthorization: b",
        "authorization: a=\ncookie: sid=",
    ];
    let mut all: Vec<Vec<u8>> = keys.iter().map(|fields| principal(fields).0).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), keys.len());
    assert_eq!(
        principal("cookie: x=1; sid=a").0,
        principal("cookie: sid=a; y=2").0
    );
    assert_eq!(principal("cookie: xsid=a").0, principal("").0);
    assert_eq!(
        principal("cookie: SID=a").0,
        principal("").0,
        "a cookie's name has its case"
    );
    assert_ne!(
        principal("cookie: sid=a; sid=b").0,
        principal("cookie: sid=a").0
    );
}

#[test]
fn what_the_key_holds_is_nobody_elses_and_what_it_does_not_is_still_personal() {
    let rules = Rules::default();
    let (_, asked) = principal("authorization: a");
    assert!(asked.principal && !asked.personal(&rules));
    let (_, asked) = principal("cookie: sid=a");
    assert!(asked.principal && !asked.personal(&rules));
    let (_, asked) = principal("cookie: other=a");
    assert!(!asked.principal && asked.personal(&rules));
    let (_, asked) = principal("authorization: a\ncookie: other=a");
    assert!(asked.principal && asked.personal(&rules));
}

#[test]
fn no_field_can_speak_for_another() {
    // A value holds no line feed, so what is written with one cannot be forged.
    let one = rest("x-host: a\nx-original-url: b");
    let other = rest("x-host: a=x-original-url=b");
    assert_ne!(one, other);
}
