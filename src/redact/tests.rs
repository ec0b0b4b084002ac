use serde_json::json;

use super::*;
use crate::kit::walk;

fn told(text: &str) -> String {
    Redactor::default()
        .text(text.as_bytes())
        .to_text()
        .into_owned()
}

fn target(text: &str) -> String {
    Redactor::default()
        .target(text.as_bytes())
        .to_text()
        .into_owned()
}

#[track_caller]
fn becomes(text: &str, wanted: &str) {
    assert_eq!(told(text), wanted, "{text}");
}

#[track_caller]
fn survives(text: &str) {
    let redactor = Redactor::default();
    let clean = redactor.text(text.as_bytes());
    assert_eq!(clean.to_text(), text);
    assert!(matches!(clean.0, Cow::Borrowed(_)), "{text} was copied");
}

#[test]
fn addresses_of_people_go() {
    becomes("/users/jo.doe+x@example.com/orders", "/users/***/orders");
    becomes("to <a@b.co>, c@d.org", "to <***>, ***");
    becomes("é.ñ@exämple.de", "***");
    becomes("/users/jo%40example.com/x", "/users/***/x");
    becomes("/users/jo%2540example.com/x", "/users/***/x");
    becomes("a@b.com.", "***.");
    for text in [
        "/@scope/package",
        "react@18.2.0",
        "user@localhost",
        "@",
        "a@",
        "a@b..c",
        "x@1.2.3.4",
    ] {
        survives(text);
    }
}

#[test]
fn card_numbers_go_if_they_add_up() {
    for card in [
        "4111111111111111",
        "4222222222222",
        "5555555555554444",
        "2223003122003222",
        "378282246310005",
        "6011111111111117",
        "3530111333300000",
        "30569309025904",
        "6240008631401148",
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "3782 822463 10005",
    ] {
        becomes(&format!("/pay/{card}/x"), "/pay/***/x");
        becomes(card, "***");
    }
    for text in [
        "4111111111111112",
        "1111111111111117",
        "x4111111111111111",
        "41111111111111111111",
        "0000000000000000",
    ] {
        survives(text);
    }
}

#[test]
fn account_numbers_go_if_they_add_up() {
    for iban in [
        "DE89370400440532013000",
        "GB29NWBK60161331926819",
        "de89370400440532013000",
        "NO9386011117947",
        "DE89 3704 0044 0532 0130 00",
        "MT84MALT011000012345MTLCAST001S",
    ] {
        becomes(&format!("iban-of {iban}."), "iban-of ***.");
    }
    for text in [
        "DE88370400440532013000",
        "XX89370400440532013000",
        "ADE89370400440532013000",
    ] {
        survives(text);
    }
}

#[test]
fn telephone_numbers_go_if_they_say_that_they_are() {
    for phone in [
        "+4917012345678",
        "+49 170 1234567",
        "+1 (212) 555-0123",
        "(212) 555-0123",
        "212-555-0123",
        "212.555.0123",
    ] {
        becomes(&format!("call {phone}!"), "call ***!");
    }
    becomes("/call/%2B4917012345678", "/call/***");
    for text in [
        "+01:00",
        "1+12345678",
        "+1234567",
        "10.20.30.40:4759",
        "123-456-7890-1234",
        "112-555-0123",
    ] {
        survives(text);
    }
}

#[test]
fn tokens_and_keys_go() {
    const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl";
    becomes(&format!("/t/{JWT}/x"), "/t/***/x");
    becomes("Bearer abc123", "Bearer ***");
    becomes("bearer%20abc-123_x", "***");
    becomes("Basic dXNlcjpwYXNz", "Basic ***");
    becomes("x AKIAIOSFODNN7EXAMPLE y", "x *** y");
    becomes("ghp_0123456789abcdefghijABCDEFGHIJ012345", "***");
    becomes("xoxb-123456789012-abcdefGHIJ", "***");
    becomes("sk_live_0123456789abcdefABCDEF", "***");
    becomes(
        "a -----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- b",
        "a *** b",
    );
    becomes("\"-----BEGIN PRIVATE KEY-----\\nMIIE\", 1", "\"***\", 1");
    becomes("postgres://u:p@ss/w#rd@db/x", "postgres://***@db/x");
    for text in [
        "-----BEGIN CERTIFICATE-----",
        "Basic authentication",
        "the bearer of bad news",
        "task-force-of-the-very-long-name",
        "http://host/a/@me",
        "eyJust a word",
    ] {
        survives(text);
    }
}

#[test]
fn values_go_with_their_names() {
    becomes("password=hunter2&x=1", "password=***&x=1");
    becomes(
        "{\"api_key\":\"k k\",\"n\":1}",
        "{\"api_key\":\"***\",\"n\":1}",
    );
    becomes("{\\\"token\\\":\\\"k\\\"}", "{\\\"token\\\":\\\"***\\\"}");
    becomes("redis: { password: hunter2 }", "redis: { password: *** }");
    becomes("Authorization: Digest a=b, c=d", "Authorization: ***");
    becomes("Cookie: a=b; c=d\nx", "Cookie: ***\nx");
    becomes("clientSecret='a b'", "clientSecret='***'");
    becomes("/a;jsessionid=0A1B;v=1", "/a;jsessionid=***;v=1");
    for text in [
        "password: file:/etc/outrider/redis",
        "token::Kind",
        "cookie:sid",
        "unknown key `token`: say what",
        "the token is missing",
        "max_tokens=5",
        "secret=",
    ] {
        survives(text);
    }
}

#[test]
fn innocents_survive() {
    for text in [
        "0198f9a2-7c3d-7b1e-8d4f-1a2b3c4d5e6f",
        "550e8400-e29b-41d4-a716-446655440000",
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "2026-11-24T11:37:12.042+01:00",
        "1732448232042",
        "1732448232042123456",
        "duration_ms=1234.567",
        "10.0.0.1:4759",
        "[fe80::1%3]:80",
        "/orders/1234567890123456/items/42",
        "payments.shop.svc.cluster.local:8443",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "v1.29.3-rc.1+build.20261124",
        "spiffe://td/ns/shop/sa/payments",
        "/files/report%20of%20may.pdf",
        "GET /charges HTTP/1.1",
        "AA:BB:CC:DD:EE:FF",
        "18446744073709551615",
    ] {
        survives(text);
    }
}

#[test]
fn a_query_is_judged_by_names_first() {
    assert_eq!(
        target("/a/b?token=x&page=2&api%5Fkey=y&q=a%40b.com&sort#frag"),
        "/a/b?token=***&page=2&api%5Fkey=***&***&sort#frag"
    );
    assert_eq!(target("/cb?code=abc&state=5"), "/cb?code=***&state=5");
    assert_eq!(target("/cb?a=4111111111111111"), "/cb?a=***");
    assert_eq!(target("/x?"), "/x?");
    assert_eq!(target("/x?&&=&a"), "/x?&&=&a");
    assert_eq!(target("?jo@example.com"), "?***");
}

#[test]
fn headers_go_by_name_and_by_look() {
    let redactor = Redactor::default();
    let told = |name: &str, value: &str| {
        redactor
            .header(name, value.as_bytes())
            .to_text()
            .into_owned()
    };
    for name in [
        "Authorization",
        "cookie",
        "X-API-Key",
        "x-auth-token",
        "Proxy-Authorization",
        "X-Amz-Security-Token",
    ] {
        assert_eq!(told(name, "whatever"), "***", "{name}");
    }
    for name in ["idempotency-key", "accept", "x-request-id", "host"] {
        assert_eq!(told(name, "whatever"), "whatever", "{name}");
    }
    assert_eq!(
        told("referer", "http://a/?x=jo@example.com"),
        "http://a/?x=***"
    );
}

#[test]
fn json_goes_by_key_at_any_depth_and_by_look() {
    let redactor = Redactor::default();
    let mut value = json!({
        "a": { "clientSecret": { "deep": ["x", 1, null] }, "n": 5 },
        "list": ["jo@example.com", 4_111_111_111_111_111_u64, true],
        "jo@example.com": "k",
        "code": 404,
    });
    redactor.json(&mut value);
    assert_eq!(
        value,
        json!({
            "a": { "clientSecret": { "deep": ["***", "***", null] }, "n": 5 },
            "list": ["***", "***", true],
            "***": "k",
            "code": 404,
        })
    );
}

#[test]
fn an_identifier_may_be_a_number() {
    let redactor = Redactor::default();
    let told = |text: &str| redactor.id(text.as_bytes()).to_text().into_owned();
    assert_eq!(told("4111111111111111"), "4111111111111111");
    assert_eq!(told("jo@example.com"), "***");
}

#[test]
fn a_policy_adds_names_and_takes_them_away() {
    let settings = Settings {
        headers: vec!["x-tenant".to_owned()],
        query: vec!["q".to_owned()],
        json: vec!["iban_of".to_owned()],
        allow: vec!["page_token".to_owned()],
        detect: vec!["email".to_owned()],
        ..Settings::default()
    };
    let redactor = Redactor::new(Some(&settings)).unwrap();
    let target = |text: &str| redactor.target(text.as_bytes()).to_text().into_owned();
    assert_eq!(redactor.header("X-Tenant", b"7").to_text(), "***");
    assert_eq!(
        target("/?q=x&page_token=jo@example.com"),
        "/?q=***&page_token=jo@example.com"
    );
    assert_eq!(
        target("/4111111111111111?a=b@c.de"),
        "/4111111111111111?a=***"
    );
}

#[test]
fn what_stands_in_is_chosen() {
    let of = |action| {
        Redactor::new(Some(&Settings {
            action,
            ..Settings::default()
        }))
        .unwrap()
    };
    assert_eq!(
        of(Action::Drop).text(b"a jo@example.com b").to_text(),
        "a  b"
    );
    let hashing = of(Action::Hash);
    let one = hashing.text(b"jo@example.com").into_bytes();
    assert_eq!(one, hashing.text(b"jo@example.com").into_bytes());
    assert_ne!(one, hashing.text(b"jp@example.com").into_bytes());
    assert_ne!(one, of(Action::Hash).text(b"jo@example.com").into_bytes());
    assert!(one.starts_with(b"hash_") && one.len() == 21);
    let off = Redactor::new(None).unwrap();
    assert_eq!(off.text(b"jo@example.com").to_text(), "jo@example.com");
}

#[test]
fn a_key_is_a_file_with_enough_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let with = |key: &std::path::Path| {
        Redactor::new(Some(&Settings {
            action: Action::Hash,
            key: Some(key.display().to_string()),
            ..Settings::default()
        }))
    };
    assert!(matches!(with(&path), Err(KeyError::Read(..))));
    std::fs::write(&path, "short\n").unwrap();
    assert!(matches!(with(&path), Err(KeyError::Short(_, 5))));
    std::fs::write(&path, "0123456789abcdef\n").unwrap();
    let told = |redactor: Redactor| redactor.text(b"jo@example.com").into_bytes();
    assert_eq!(told(with(&path).unwrap()), told(with(&path).unwrap()));
}

/// Whatever stands around it: no panic, and no secret comes through.
#[test]
fn no_neighbour_hides_a_secret() {
    let pool: &[&str] = &[
        "@",
        ".com",
        "a",
        "4111",
        "1111",
        "%",
        "%40",
        "%25",
        "=",
        ":",
        "\"",
        "\\",
        " ",
        "/",
        "?",
        "&",
        "+49170",
        "1234567",
        "DE89",
        "370400440532013000",
        "eyJhbGciOiJI",
        ".",
        "-----BEGIN",
        "PRIVATE",
        "-----END",
        "-----",
        "password",
        "token",
        "Bearer ",
        "AKIA",
        "://",
        "é",
        "\u{fffd}",
        "(212)",
        "hash_",
        "***",
    ];
    let secrets = [
        "jo.doe@example.com",
        "4111111111111111",
        "DE89370400440532013000",
        "+4917012345678",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
        "AKIAIOSFODNN7EXAMPLE",
        "sk_live_0123456789abcdefABCDEF",
    ];
    let edges = [" ", "/", "\"", "&", ",", "?"];
    for action in [Action::Drop, Action::Mask, Action::Hash] {
        let redactor = Redactor::new(Some(&Settings {
            action,
            ..Settings::default()
        }))
        .unwrap();
        walk::seeds(|draws| {
            let filler = |draws: &mut walk::Draws| -> String {
                (0..draws.below(8)).map(|_| draws.pick(pool)).collect()
            };
            let (before, after) = (filler(draws), filler(draws));
            let secret = draws.pick(&secrets);
            let text = format!(
                "{before}{}{secret}{}{after}",
                draws.pick(&edges),
                draws.pick(&edges)
            );
            for told in [
                redactor.text(text.as_bytes()),
                redactor.target(text.as_bytes()),
            ] {
                assert!(!told.to_text().contains(secret), "{text:?}: {told}");
            }
        });
    }
}

/// The first look may say too much, never too little: with all detectors let loose nothing more is found.
#[test]
fn the_first_look_misses_nothing() {
    for text in [
        "4222222222222",
        "+12345678",
        "NO9386011117947",
        "a@b.co",
        "eyJhbGciOiJ.eyJzdWI",
        "Basic YTpiYg==",
        "SG.0123456789abcdefghij",
        "pwd=x",
    ] {
        assert_ne!(told(text), text);
    }
}
