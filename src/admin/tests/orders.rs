//! Who may give an order, and what is understood of it.

use super::*;

impl Admin {
    fn order(&self, target: &str, fields: &str) -> Reply {
        let text = format!("POST {target} HTTP/1.1\r\n{fields}connection: close\r\n\r\n");
        reply(&self.send(text.as_bytes()))
    }
}

const LOCAL: &str = "host: 127.0.0.1:4759\r\n";

#[test]
fn an_order_from_this_machine_is_obeyed() {
    let admin = admin();
    for host in [
        "127.0.0.1",
        "127.0.0.1:4759",
        "127.8.8.8",
        "[::1]:4759",
        "[::ffff:127.0.0.1]",
        "localhost",
        "LOCALHOST:1",
    ] {
        let reply = admin.order(
            "/breaker/open?upstream=pay&for=50ms",
            &format!("host: {host}\r\n"),
        );
        assert_eq!(reply.status, 200, "{host}: {}", reply.body);
        let obeyed = reply.json()["obeyed"].to_string();
        assert!(
            obeyed.contains("Open") && obeyed.contains("50ms"),
            "{obeyed}"
        );
    }
}

#[test]
fn an_order_that_a_page_could_send_is_refused() {
    let admin = admin();
    let with = |field: &str| format!("{LOCAL}{field}\r\n");
    for fields in [
        with("origin: http://127.0.0.1:4759"),
        with("origin: null"),
        with("sec-fetch-site: same-origin"),
        with("Sec-Fetch-Mode: no-cors"),
        with("referer: http://localhost/"),
        with("via: 1.1 proxy"),
        with("x-forwarded-for: 10.0.0.1"),
        with("forwarded: for=10.0.0.1"),
        // A name that its owner has rebound to 127.0.0.1, and others that look local.
        "host: evil.example\r\n".to_owned(),
        "host: 127.0.0.1.evil.example\r\n".to_owned(),
        "host: localhost.evil.example\r\n".to_owned(),
        "host: 10.0.0.1:4759\r\n".to_owned(),
        "host: 0.0.0.0:4759\r\n".to_owned(),
        "host: user@127.0.0.1\r\n".to_owned(),
        "host: \r\n".to_owned(),
        "host: 127.0.0.1\r\nhost: evil.example\r\n".to_owned(),
        String::new(),
    ] {
        let reply = admin.order("/breaker/open?upstream=pay", &fields);
        let refused = matches!(reply.status, 400 | 403);
        assert!(refused, "{fields:?}: {} {}", reply.status, reply.body);
        assert!(!reply.body.contains("obeyed"), "{fields:?}: {}", reply.body);
    }
    let reply = admin.order("http://evil.example/breaker/open?upstream=pay", LOCAL);
    assert_eq!(reply.status, 403, "{}", reply.body);
}

#[test]
fn an_order_from_elsewhere_is_refused() {
    use crate::admin::orders::Asked;
    let (method, uri) = (http::Method::POST, "/breaker/auto?upstream=pay".parse());
    let uri: http::Uri = uri.expect("a target");
    let mut headers = http::HeaderMap::new();
    headers.insert("host", http::HeaderValue::from_static("127.0.0.1"));
    let read = |peer: &str| {
        let asked = Asked {
            method: &method,
            uri: &uri,
            headers: &headers,
            peer: peer.parse().expect("an address"),
        };
        crate::admin::orders::may_order(&asked, None)
    };
    for peer in [
        "127.0.0.1:9",
        "127.9.9.9:9",
        "[::1]:9",
        "[::ffff:127.0.0.1]:9",
    ] {
        assert!(read(peer).is_ok(), "{peer}");
    }
    for peer in [
        "10.0.0.1:9",
        "[::ffff:10.0.0.1]:9",
        "[fe80::1]:9",
        "0.0.0.0:9",
    ] {
        let declined = read(peer).expect_err(peer);
        assert_eq!(declined.status, 403, "{peer}");
    }
}

#[test]
fn an_order_is_given_by_post_only() {
    let admin = admin();
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
        let reply = admin.ask(method, "/breaker/open?upstream=pay");
        assert_eq!(
            (reply.status, reply.header("allow")),
            (405, Some("POST")),
            "{method}"
        );
    }
}

#[test]
fn an_order_is_understood_whole_or_not_at_all() {
    let admin = admin();
    for (target, said) in [
        ("/breaker/open", "`upstream` is missing"),
        ("/breaker/open?upstream=", "`upstream` has no value"),
        ("/breaker/open?upstream=a&upstream=b", "given twice"),
        ("/breaker/open?upstream=a&rout=b", "`rout` is unknown"),
        ("/breaker/open?upstream=a&for=10", "no unit"),
        ("/breaker/open?upstream=a&for=0s", "above 0s"),
        ("/breaker/open?upstream=a&for=25h", "at most 1d"),
        ("/breaker/open?upstream=%zz", "percent-encoded"),
        ("/breaker/open?upstream=%ff", "percent-encoded"),
        ("/breaker/open?upstream=a%0ab", "percent-encoded"),
        ("/breaker/auto?upstream=a&for=1m", "no meaning"),
        ("/cache/purge", "exactly one of"),
        ("/cache/purge?soft", "exactly one of"),
        ("/cache/purge?all=false", "exactly one of"),
        ("/cache/purge?all&tag=a", "exactly one of"),
        ("/cache/purge?url=http://a/&tag=a", "exactly one of"),
        ("/cache/purge?url=/rates", "whole URL"),
        ("/cache/purge?url=ftp://a/", "whole URL"),
        ("/cache/purge?url=http://me@a/", "whole URL"),
        ("/cache/purge?tag=a%20b", "one tag"),
        ("/cache/purge?tag=", "`tag` has no value"),
        ("/cache/purge?all=yes", "it is true or false"),
        ("/cache/purge?tag=a&upstream=pay", "`upstream` is unknown"),
    ] {
        let reply = admin.order(target, LOCAL);
        assert_eq!(reply.status, 400, "{target}: {}", reply.body);
        let problem = reply.json();
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(said), "{target}: {detail}");
    }
}

#[test]
fn parameters_are_decoded_and_time_has_its_default() {
    let admin = admin();
    let target = "/breaker/close?upstream=%2A.shop&route=GET%20/a+b/%C3%A9";
    let obeyed = admin.order(target, LOCAL).json()["obeyed"].to_string();
    for part in ["*.shop", "GET /a+b/é", "Close", "lasting: 600s"] {
        assert!(obeyed.contains(part), "{part}: {obeyed}");
    }
}

#[test]
fn faults_are_stopped_all_or_those_of_one() {
    let admin = admin();
    for (target, understood) in [
        ("/faults/stop", "go_on: false, upstream: None"),
        (
            "/faults/stop?upstream=pay",
            "go_on: false, upstream: Some(\\\"pay\\\")",
        ),
        ("/faults/resume", "go_on: true, upstream: None"),
    ] {
        let obeyed = admin.order(target, LOCAL).json()["obeyed"].to_string();
        assert!(obeyed.contains(understood), "{target}: {obeyed}");
    }
    assert_eq!(admin.order("/faults/stop?route=x", LOCAL).status, 400);
    let browser = format!("{LOCAL}origin: null\r\n");
    assert_eq!(admin.order("/faults/stop", &browser).status, 403);
    assert_eq!(admin.get("/faults").json()[0]["state"], "running");
    assert_eq!(admin.ask("POST", "/faults").status, 405);
}

#[test]
fn a_purge_says_what_and_how() {
    let admin = admin();
    for (query, parts) in [
        ("all", ["All", "soft: false"]),
        ("all=true&soft=false", ["All", "soft: false"]),
        ("soft&tag=sku-1", ["Tag(\\\"sku-1\\\")", "soft: true"]),
        (
            "url=http://pay/a%3Fb=c%26d&soft=true",
            ["Url(\\\"http://pay/a?b=c&d\\\")", "soft: true"],
        ),
    ] {
        let reply = admin.order(&format!("/cache/purge?{query}"), LOCAL);
        let obeyed = reply.json()["obeyed"].to_string();
        for part in parts {
            assert!(obeyed.contains(part), "{query}: {part}: {obeyed}");
        }
    }
    let from_a_page = format!("{LOCAL}origin: http://127.0.0.1:4759\r\n");
    let reply = admin.order("/cache/purge?all", &from_a_page);
    assert_eq!(reply.status, 403, "{}", reply.body);
    assert_eq!(admin.get("/cache/purge?all").status, 405);
}

#[test]
fn what_cannot_be_done_is_a_problem() {
    let reply = admin().order("/breaker/open?upstream=nobody", LOCAL);
    assert_eq!(reply.status, 404);
    assert_eq!(
        reply.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(reply.json()["detail"], "no such upstream");
}

#[test]
fn any_query_is_survived() {
    let admin = admin();
    walk::seeds(|draws| {
        if !draws.chance(0.1) {
            return;
        }
        let pool = [
            "upstream", "=", "&", "%", "%41", "for", "1s", "%f", "é", "+",
        ];
        let query: String = (0..draws.below(12)).map(|_| draws.pick(&pool)).collect();
        let reply = admin.order(&format!("/breaker/open?{query}"), LOCAL);
        assert!(
            matches!(reply.status, 200 | 400),
            "{query}: {}",
            reply.status
        );
    });
}
