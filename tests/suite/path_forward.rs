//! Requests find their way, and nothing of them is lost on it.

use std::net::Ipv6Addr;
use std::net::SocketAddr;

use crate::support::call::Call;
use crate::support::call::HOST;
use crate::support::client::Raw;
use crate::support::h2client;
use crate::support::h2client::H2;
use crate::support::h2origin::H2Act;
use crate::support::h2origin::H2Origin;
use crate::support::names;
use crate::support::origin::Act;
use crate::support::origin::After;
use crate::support::origin::Answer;
use crate::support::origin::Origin;
use crate::support::origin::chunk;
use crate::support::origin::pattern;
use crate::support::ports;
use crate::support::setup::Setup;
use crate::support::wire::latin1;

/// Forwarding alone, so that no retry hides a fault.
pub const PLAIN: &str = "retry: off\nbreaker: off\neject: off";

#[tokio::test]
async fn a_host_header_on_the_outbound_port_finds_its_upstream() {
    let origin = Origin::always(Answer::status(201).field("x-from", "origin").text("made")).await;
    let proxy = Setup::shop(&[origin.addr], PLAIN).start().await;
    let reply = proxy
        .call(&Call::post("/things?a=1&b=%20", "a body").field("X-App", "yes"))
        .await;
    assert_eq!(
        (reply.is(201).text().as_str(), reply.get("x-from")),
        ("made", Some("origin"))
    );
    let seen = origin.only();
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        ("POST", "/things?a=1&b=%20")
    );
    assert_eq!(
        (seen.head.get("host"), seen.head.get("x-app")),
        (Some(HOST), Some("yes"))
    );
    assert_eq!(seen.body.content, b"a body");
}

#[tokio::test]
async fn a_host_is_matched_without_case_port_or_final_dot() {
    let origin = Origin::always(Answer::ok("x")).await;
    let proxy = Setup::shop(&[origin.addr], PLAIN).start().await;
    for host in ["SHOP.test", "shop.test:8080", "shop.test."] {
        proxy.call(&Call::get("/").host(host)).await.is(200);
        assert_eq!(
            origin
                .seen()
                .last()
                .and_then(|seen| seen.head.get("host").map(str::to_owned))
                .as_deref(),
            Some(host)
        );
    }
}

#[tokio::test]
async fn an_absolute_form_request_takes_the_explicit_port() {
    let origin = Origin::start(|asked| Act::Answer(Answer::ok(asked.target.as_bytes()))).await;
    let proxy = Setup::shop(&[origin.addr], PLAIN).start().await;
    let reply = Call::get("http://shop.test/by/proxy?x=1")
        .to(proxy.explicit)
        .await;
    assert_eq!(reply.is(200).text(), "/by/proxy?x=1");
    // The target decides, and replaces a Host that says otherwise (RFC 9112 section 3.2.2).
    Call::get("http://shop.test/other")
        .host("elsewhere.test")
        .to(proxy.explicit)
        .await
        .is(200);
    // A literal address that no policy names is dialled as it is.
    Call::get(&format!("http://{}/direct", origin.addr))
        .host(&origin.addr.to_string())
        .to(proxy.explicit)
        .await
        .is(200);
    let seen = origin.seen();
    let hosts: Vec<_> = seen
        .iter()
        .map(|seen| seen.head.get("host").unwrap_or_default())
        .collect();
    assert_eq!(hosts, [HOST, HOST, &origin.addr.to_string()]);
    assert_eq!(seen[2].target, "/direct");
}

#[tokio::test]
async fn unmatched_traffic_passes_or_is_denied() {
    let origin = Origin::always(Answer::ok("x")).await;
    let host = origin.addr.to_string();
    let open = Setup::new().start().await;
    open.call(&Call::get("/pass").host(&host)).await.is(200);
    assert!(
        origin.only().head.has(names::REQUEST_ID),
        "correlation is on for unmatched traffic too"
    );
    let shut = Setup::shop(&[origin.addr], PLAIN)
        .top("unmatched: deny")
        .start()
        .await;
    shut.call(&Call::get("/denied").host(&host))
        .await
        .is_own(403, &["unmatched"]);
    shut.get("/allowed").await.is(200);
    assert_eq!(origin.requests(), 2);
}

#[tokio::test]
async fn a_request_that_would_come_back_to_us_is_refused() {
    let proxy = Setup::new().start().await;
    for addr in [proxy.outbound, proxy.explicit] {
        proxy
            .call(&Call::get("/").host(&addr.to_string()))
            .await
            .is_own(508, &["loop_detected"]);
    }
}

#[tokio::test]
async fn more_hosts_than_a_worker_remembers_are_served_all_the_same() {
    let origin = Origin::always(Answer::ok("x")).await;
    let block = format!(
        "upstream: '*.shop.test'\nendpoints: [{}]\n{PLAIN}",
        origin.addr
    );
    let proxy = Setup::new()
        .block(&block)
        .args(&["--workers", "1"])
        .start()
        .await;
    let mut raw = proxy.connect().await;
    for host in 0..5000 {
        raw.send(&Call::get("/").host(&format!("h{host}.shop.test")).bytes())
            .await;
        raw.reply("GET").await.is(200);
    }
    assert_eq!(origin.requests(), 5000);
}

#[tokio::test]
async fn a_request_that_came_through_too_many_proxies_is_refused() {
    let origin = Origin::always(Answer::ok("x")).await;
    let proxy = Setup::shop(&[origin.addr], PLAIN).start().await;
    let through =
        |hops: usize| Call::get("/").field("Via", &["1.1 outrider"].repeat(hops).join(", "));
    proxy.call(&through(32)).await.is(200);
    proxy
        .call(&through(33))
        .await
        .is_own(508, &["loop_detected"]);
    assert_eq!(origin.requests(), 1);
}

#[tokio::test]
async fn hop_by_hop_fields_end_here_and_via_is_added() {
    let answer = Answer::ok("x")
        .field("connection", "x-answer-hop")
        .field("x-answer-hop", "1")
        .field("keep-alive", "timeout=9")
        .field("x-answer", "stays");
    let origin = Origin::always(answer).await;
    let proxy = Setup::shop(&[origin.addr], PLAIN).start().await;
    let call = Call::get("/")
        .field("Connection", "keep-alive, X-Hop")
        .field("X-Hop", "1")
        .field("Keep-Alive", "timeout=5")
        .field("Proxy-Connection", "keep-alive")
        .field("Proxy-Authorization", "Basic eDp5")
        .field("TE", "gzip")
        .field("Via", "1.0 before")
        .field("Authorization", "Bearer stays")
        .field("Cookie", "stays=1");
    let reply = proxy.call(&call).await;
    reply.is(200);
    let head = origin.only().head;
    for gone in [
        "x-hop",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "te",
    ] {
        assert!(
            !head.has(gone),
            "{gone} belongs to the client's connection:\n{}",
            latin1(&head.raw)
        );
    }
    assert_eq!(
        (head.get("authorization"), head.get("cookie")),
        (Some("Bearer stays"), Some("stays=1"))
    );
    assert_eq!(head.all("via").join(", "), "1.0 before, 1.1 outrider");
    assert!(!reply.head.has("x-answer-hop") && !reply.head.has("keep-alive"));
    assert_eq!(reply.get("x-answer"), Some("stays"));
    assert!(
        reply.get("via").is_some_and(|via| via.contains("outrider")),
        "every message that is passed on has a Via"
    );
}

#[tokio::test]
async fn responses_without_a_body_keep_the_connection_in_step() {
    let origin = Origin::start(|asked| {
        Act::Answer(match asked.target {
            "/204" => Answer::status(204),
            "/304" => Answer::status(304).field("etag", "\"e\"").length(1234),
            _ => Answer::ok("a body"),
        })
    })
    .await;
    let proxy = Setup::shop(&[origin.addr], PLAIN).start().await;
    let mut raw = proxy.connect().await;
    for _ in 0..2 {
        let head = raw.call(&Call::new("HEAD", "/head")).await;
        assert_eq!(
            (head.is(200).text().as_str(), head.get("content-length")),
            ("", Some("6"))
        );
        let none = raw.call(&Call::get("/204")).await;
        assert_eq!(
            (
                none.is(204).text().as_str(),
                none.head.has("content-length")
            ),
            ("", false)
        );
        assert_eq!(raw.call(&Call::get("/304")).await.is(304).text(), "");
        assert_eq!(raw.call(&Call::get("/get")).await.is(200).text(), "a body");
    }
    raw.call(&Call::new("OPTIONS", "*")).await.is(200);
    assert_eq!(
        origin
            .seen()
            .last()
            .map(|seen| seen.target.clone())
            .as_deref(),
        Some("*")
    );
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::start(|asked| Act::Answer(Answer::ok(asked.target.as_bytes()))).await;
    let proxy = Setup::shop(&[origin.addr], PLAIN).start().await;
    let mut raw = proxy.connect().await;
    let mut bytes = Vec::new();
    for n in 0..20 {
        let path = format!("/{n}");
        bytes.extend(if n % 3 == 0 {
            Call::post(&path, "x".repeat(n * 100)).bytes()
        } else {
            Call::get(&path).bytes()
        });
    }
    raw.send(&bytes).await;
    for n in 0..20 {
        assert_eq!(raw.reply("GET").await.is(200).text(), format!("/{n}"));
    }
    assert!(
        origin
            .seen()
            .iter()
            .all(|seen| seen.fault.is_none() && seen.whole)
    );
}

#[tokio::test]
async fn connections_to_the_upstream_are_kept() {
    let origin = Origin::always(Answer::ok("x")).await;
    let proxy = Setup::shop(&[origin.addr], PLAIN)
        .args(&["--workers", "1"])
        .start()
        .await;
    for n in 0..10 {
        proxy.get(&format!("/{n}")).await.is(200);
    }
    assert_eq!((origin.requests(), origin.connections()), (10, 1));
}

#[tokio::test]
async fn large_bodies_are_byte_identical() {
    const LARGE: usize = 5 << 20;
    let origin = Origin::start(|asked| match asked.method {
        "GET" => Act::Flood(LARGE),
        _ => Act::Answer(Answer::ok("taken")),
    })
    .await;
    let proxy = Setup::shop(&[origin.addr], PLAIN).start().await;
    let mut raw = proxy.connect().await;
    assert!(raw.call(&Call::get("/down")).await.is(200).body.content == pattern(LARGE));
    raw.call(&Call::post("/up", pattern(LARGE))).await.is(200);
    let head = format!(
        "{}Transfer-Encoding: chunked\r\n\r\n",
        Call::new("POST", "/chunks").head()
    );
    raw.send(head.as_bytes()).await;
    for piece in pattern(LARGE).chunks(70_001) {
        raw.send(&chunk(piece)).await;
    }
    raw.send(b"0\r\n\r\n").await;
    raw.reply("POST").await.is(200);
    for seen in &origin.seen()[1..] {
        assert!(
            seen.whole && seen.fault.is_none() && seen.body.content == pattern(LARGE),
            "{}",
            seen.target
        );
    }
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let answer = Answer::status(200)
        .field("trailer", "x-sum")
        .chunked(&[b"abc"])
        .trailer("x-sum", "3");
    let origin = Origin::always(answer).await;
    let proxy = Setup::shop(&[origin.addr], PLAIN).start().await;
    let mut raw = proxy.connect().await;
    let call = Call::new("POST", "/")
        .field("TE", "trailers")
        .field("Trailer", "x-check")
        .field("Transfer-Encoding", "chunked");
    raw.send(format!("{}\r\n3\r\nabc\r\n0\r\nx-check: 42\r\n\r\n", call.head()).as_bytes())
        .await;
    let reply = raw.reply("POST").await;
    assert_eq!(
        reply.is(200).body.trailers,
        [("x-sum".to_owned(), "3".to_owned())]
    );
    assert_eq!(
        origin.only().body.trailers,
        [("x-check".to_owned(), "42".to_owned())]
    );
}

#[tokio::test]
async fn a_response_that_ends_with_its_connection_is_passed_on() {
    let acts = vec![
        Act::Raw(b"HTTP/1.1 200 Scripted\r\nx-a: 1\r\n\r\nuntil the end".to_vec(), After::Close),
        Act::Raw(b"HTTP/1.0 200 Scripted\r\n\r\nof old".to_vec(), After::Close),
        Act::Raw(
            b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec(),
            After::Keep,
        ),
    ];
    let origin = Origin::sequence(acts).await;
    let proxy = Setup::shop(&[origin.addr], PLAIN).start().await;
    let mut raw = proxy.connect().await;
    assert_eq!(
        raw.call(&Call::get("/1")).await.is(200).text(),
        "until the end"
    );
    assert_eq!(raw.call(&Call::get("/2")).await.is(200).text(), "of old");
    assert_eq!(raw.call(&Call::get("/3")).await.is(200).text(), "ok");
}

#[tokio::test]
async fn a_body_that_is_expected_is_asked_for() {
    let origin = Origin::start(|asked| match asked.target {
        "/early" => Act::Early(Answer::status(401).text("no").then(After::Close)),
        _ => Act::Answer(Answer::ok("taken")),
    })
    .await;
    let proxy = Setup::shop(&[origin.addr], PLAIN).start().await;
    let mut raw = proxy.connect().await;
    let bytes = Call::post("/", "0123456789")
        .field("Expect", "100-continue")
        .bytes();
    raw.send(&bytes[..bytes.len() - 10]).await;
    assert_eq!(raw.interim().await, 100);
    raw.send(b"0123456789").await;
    assert_eq!(raw.reply("POST").await.is(200).text(), "taken");
    assert_eq!(origin.only().body.content, b"0123456789");

    // A final answer comes through although the body is never sent.
    let mut raw = proxy.connect().await;
    raw.send(
        format!(
            "{}Expect: 100-continue\r\nContent-Length: 10\r\n\r\n",
            Call::new("POST", "/early").head()
        )
        .as_bytes(),
    )
    .await;
    assert_eq!(raw.reply("POST").await.is(401).text(), "no");
}

#[tokio::test]
async fn both_protocols_share_one_port() {
    let origin = Origin::always(Answer::ok("one")).await;
    let h2 = H2Origin::start(|_, _| H2Act::ok("two")).await;
    let setup = Setup::shop(&[origin.addr], PLAIN).upstream("h2.test", &[h2.addr], PLAIN);
    let proxy = setup.start().await;
    assert_eq!(proxy.get("/").await.is(200).text(), "one");
    let client = H2::connect(proxy.outbound).await;
    let request = http::Request::get("http://h2.test/p?q=1")
        .body(h2client::empty())
        .expect("good");
    let reply = client.call(request).await;
    assert_eq!((reply.status, &reply.body[..]), (200, &b"two"[..]));
    assert!(reply.get(names::REQUEST_ID).is_some());
    assert_eq!(h2.seen()[0].uri, "http://h2.test/p?q=1");
    assert_eq!(proxy.get("/").await.is(200).text(), "one");
}

#[tokio::test]
async fn both_loopback_families_are_served() {
    let origin = Origin::at((Ipv6Addr::LOCALHOST, 0).into(), |_| {
        Act::Answer(Answer::ok("six"))
    })
    .await;
    let proxy = Setup::shop(&[origin.addr], PLAIN).start().await;
    let v6 = |v4: SocketAddr| SocketAddr::from((Ipv6Addr::LOCALHOST, v4.port()));
    assert_eq!(
        Call::get("/").to(v6(proxy.outbound)).await.is(200).text(),
        "six"
    );
    assert_eq!(
        Call::get("http://shop.test/")
            .to(v6(proxy.explicit))
            .await
            .is(200)
            .text(),
        "six"
    );
    // An IPv6 literal that no policy names.
    let host = format!("[::1]:{}", origin.addr.port());
    assert_eq!(
        proxy.call(&Call::get("/").host(&host)).await.is(200).text(),
        "six"
    );
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_is_told_by_its_word() {
    let setup = Setup::shop(&[ports::closed()], PLAIN);
    let reset = Origin::start(|_| Act::Cut(Answer::ok(""), 0, After::Reset)).await;
    let garbage =
        Origin::start(|_| Act::Raw(b"\x00\x01 not HTTP\r\n\r\n".to_vec(), After::Close)).await;
    let silent = Origin::start(|_| Act::Cut(Answer::ok(""), 0, After::Close)).await;
    let setup = setup.upstream("reset.test", &[reset.addr], PLAIN).upstream(
        "garbage.test",
        &[garbage.addr],
        PLAIN,
    );
    let proxy = setup
        .upstream("silent.test", &[silent.addr], PLAIN)
        .start()
        .await;
    proxy.get("/").await.is_own(502, &["connect_refused"]);
    proxy
        .call(&Call::get("/").host("reset.test"))
        .await
        .is_own(502, &["reset"]);
    proxy
        .call(&Call::get("/").host("silent.test"))
        .await
        .is_own(502, &["reset"]);
    proxy
        .call(&Call::get("/").host("garbage.test"))
        .await
        .is_own(502, &["protocol_error"]);
    // The connection of the client outlives the failures of the upstream.
    let mut raw = Raw::connect(proxy.outbound).await;
    for _ in 0..3 {
        raw.call(&Call::post("/", "x"))
            .await
            .is_own(502, &["connect_refused"]);
    }
}
