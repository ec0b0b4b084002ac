//! SPIFFE IDs and patterns: what is one, and what only looks like one.

use crate::identity::PeerPattern;
use crate::identity::SpiffeId;
use crate::identity::TrustDomain;
use crate::identity::id::DOMAIN_MAX;
use crate::identity::id::ID_MAX;

#[test]
fn an_id_has_a_trust_domain_and_a_path() {
    let id = SpiffeId::parse("spiffe://shop.test/ns/shop/sa/pay_v1.2-a").unwrap();
    assert_eq!(id.domain().as_str(), "shop.test");
    assert_eq!(id.path(), "/ns/shop/sa/pay_v1.2-a");
}

#[test]
fn what_only_looks_like_an_id_is_none() {
    let long = format!("spiffe://a/{}", "b".repeat(ID_MAX));
    let domain = format!("spiffe://{}/a", "b".repeat(DOMAIN_MAX + 1));
    for text in [
        "",
        "spiffe://",
        "spiffe://shop.test",
        "spiffe://shop.test/",
        "spiffe:///ns",
        "SPIFFE://shop.test/ns",
        "https://shop.test/ns",
        "spiffe://Shop.test/ns",
        "spiffe://shop.test:80/ns",
        "spiffe://me@shop.test/ns",
        "spiffe://shop.test/ns/",
        "spiffe://shop.test//ns",
        "spiffe://shop.test/ns/../sa",
        "spiffe://shop.test/./ns",
        "spiffe://shop.test/ns%2fsa",
        "spiffe://shop.test/ns?a",
        "spiffe://shop.test/ns#a",
        "spiffe://shop.test/*",
        "spiffe://shop.test/n\u{e9}",
        " spiffe://shop.test/ns",
        "spiffe://shop.test/ns\0",
        &long,
        &domain,
    ] {
        assert_eq!(SpiffeId::parse(text), None, "{text}");
    }
}

#[test]
fn a_pattern_accepts_one_or_all_below_whole_segments() {
    let accepts = |pattern: &str, id: &str| {
        let id = SpiffeId::parse(id).unwrap();
        PeerPattern::parse(pattern).unwrap().accepts(&id)
    };
    let pay = "spiffe://shop.test/ns/shop/sa/pay";
    for (pattern, id, wanted) in [
        (pay, pay, true),
        (pay, "spiffe://shop.test/ns/shop/sa/pay2", false),
        (pay, "spiffe://shop.test/ns/shop/sa/pay/x", false),
        ("spiffe://shop.test/ns/shop/*", pay, true),
        ("spiffe://shop.test/*", pay, true),
        ("spiffe://shop.test/ns/sho/*", pay, false),
        ("spiffe://shop.test/ns/shop/sa/pay/*", pay, false),
        ("spiffe://shop.tes/*", pay, false),
        (
            "spiffe://shop.test/ns/shop/*",
            "spiffe://evil.test/ns/shop/sa/pay",
            false,
        ),
    ] {
        assert_eq!(accepts(pattern, id), wanted, "{pattern} of {id}");
    }
}

#[test]
fn a_pattern_has_its_star_at_the_end_alone() {
    for text in [
        "*",
        "spiffe://*",
        "spiffe://*/ns",
        "spiffe://shop.test/n*",
        "spiffe://shop.test/*/pay",
        "spiffe://shop.test/ns/**",
        "spiffe://shop.test/ns//*",
        "spiffe://shop.test/../*",
        "spiffe://shop.test",
    ] {
        assert_eq!(PeerPattern::parse(text), None, "{text}");
    }
}

#[test]
fn what_is_read_is_written_the_same() {
    for text in ["spiffe://a/b", "spiffe://a/b/*", "spiffe://a/*"] {
        assert_eq!(PeerPattern::parse(text).unwrap().to_string(), text);
    }
    assert_eq!(TrustDomain::parse("Shop.test"), None);
}
