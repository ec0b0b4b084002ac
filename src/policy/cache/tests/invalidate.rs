//! RFC 9111 section 4.4: invalidation.

use super::*;
use crate::policy::cache::machine::invalidate;
use crate::policy::cache::machine::key::Target;

const TARGET: Target<'_> = Target {
    scheme: "http",
    authority: "shop:8080",
    path: "/a/b?q=1",
};

fn also(response: &str) -> Vec<String> {
    invalidate::also(TARGET, &head(response))
}

fn location(text: &str) -> Vec<String> {
    also(&format!("location: {text}"))
}

#[test]
fn section_4_4_a_success_or_redirect_invalidates_and_an_error_does_not() {
    for status in [200, 201, 204, 299, 301, 303, 304, 399] {
        assert!(invalidate::by(status), "{status}");
    }
    for status in [101, 400, 404, 500, 503] {
        assert!(!invalidate::by(status), "{status}");
    }
}

#[test]
fn section_4_4_location_and_content_location_of_the_same_origin() {
    assert_eq!(also("location: /x\ncontent-location: /y"), ["/x", "/y"]);
    assert_eq!(also("location: /x\ncontent-location: /x"), ["/x"]);
    assert_eq!(location("http://shop:8080/x?y=1#z"), ["/x?y=1"]);
    assert_eq!(location("HTTP://SHOP:8080/x"), ["/x"]);
    assert_eq!(location("//shop:8080/x"), ["/x"]);
    assert!(also("").is_empty());
    assert!(
        location("/a/b?q=1").is_empty(),
        "the target itself is known"
    );
}

#[test]
fn section_4_4_another_origin_is_left_alone() {
    for text in [
        "http://shop/x",
        "http://other:8080/x",
        "https://shop:8080/x",
        "//other/x",
        "mailto:a@b",
        "http:x",
        "http://shop:8080@evil/x",
        "http://evil/shop:8080/x",
    ] {
        assert!(location(text).is_empty(), "{text}");
    }
}

#[test]
fn section_4_4_the_default_port_is_the_same_origin() {
    let target = Target {
        authority: "shop",
        ..TARGET
    };
    let response = head("location: http://Shop:80/x");
    assert_eq!(invalidate::also(target, &response), ["/x"]);
}

#[test]
fn section_5_2_of_rfc_3986_references_are_resolved() {
    assert_eq!(location("x"), ["/a/x"]);
    assert_eq!(location("./x?y"), ["/a/x?y"]);
    assert_eq!(location("../x"), ["/x"]);
    assert_eq!(location("../../../x"), ["/x"]);
    assert_eq!(location("/x/../y/./z"), ["/y/z"]);
    assert_eq!(location("/x/.."), ["/"]);
    assert_eq!(location("/x/."), ["/x/"]);
    assert_eq!(location("/x/"), ["/x/"]);
    assert_eq!(location("?z"), ["/a/b?z"]);
    assert_eq!(location("http://shop:8080"), ["/"]);
    assert_eq!(location("http://shop:8080?x"), ["/?x"]);
    assert_eq!(
        location("/a//b"),
        ["/a//b"],
        "what an upstream may read otherwise stays"
    );
    assert!(location("#x").is_empty());
}
