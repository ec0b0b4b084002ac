//! Odd requests that are let through: the bytes that leave can be read in one way only, whatever arrived.
//!
//! Each case is sent with a second request right behind it. The origin's strict reader must see exactly these two, or,
//! where a refusal is as good, none of the first.

use crate::path_forward::PLAIN;
use crate::support::client::Raw;
use crate::support::h2client;
use crate::support::h2client::H2;
use crate::support::names;
use crate::support::origin::Act;
use crate::support::origin::Origin;
use crate::support::origin::Seen;
use crate::support::setup::Setup;
use crate::support::wire::latin1;

/// What has to become of an odd request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Must {
    /// It is good HTTP and arrives.
    Pass,
    /// It may be refused with 400, or arrive normalised.
    PassOrRefuse,
    /// As before, and a response that is not a refusal ends the connection.
    PassAndCloseOrRefuse,
}
use Must::Pass;
use Must::PassAndCloseOrRefuse;
use Must::PassOrRefuse;

const SECOND: &str = "GET /second HTTP/1.1\r\nHost: shop.test\r\n\r\n";

fn cases() -> Vec<(Must, &'static str, Vec<u8>)> {
    let get =
        |line: &str| format!("GET /odd HTTP/1.1\r\nHost: shop.test\r\n{line}\r\n\r\n").into_bytes();
    let post = |rest: &str| format!("POST /odd HTTP/1.1\r\nHost: shop.test\r\n{rest}").into_bytes();
    let chunked = |rest: &str| post(&format!("Transfer-Encoding: chunked\r\n\r\n{rest}"));
    vec![
        (Pass, "an empty value", get("X-A:")),
        (Pass, "spaces around a value", get("X-A:  \t a \t ")),
        (Pass, "a tab inside a value", get("X-A: a\tb")),
        (Pass, "a value that is not ASCII", b"GET /odd HTTP/1.1\r\nHost: shop.test\r\nX-A: \xe9\xff\r\n\r\n".to_vec()),
        (Pass, "every token character in a name", get("!#$%&'*+-.^_`|~1A: x")),
        (Pass, "an underscore in a harmless name", get("x_custom_id: 1")),
        (Pass, "the same name many times", get("X-A: 1\r\nx-a: 2\r\nX-A: 3")),
        (Pass, "a lower-case method", b"get /odd HTTP/1.1\r\nHost: shop.test\r\n\r\n".to_vec()),
        (Pass, "an unknown method", b"BREW /odd HTTP/1.1\r\nHost: shop.test\r\n\r\n".to_vec()),
        (Pass, "an empty line first", b"\r\nGET /odd HTTP/1.1\r\nHost: shop.test\r\n\r\n".to_vec()),
        (Pass, "absolute form that agrees", b"GET http://shop.test/odd HTTP/1.1\r\nHost: shop.test\r\n\r\n".to_vec()),
        (Pass, "absolute form in capitals", b"GET HTTP://SHOP.test/odd HTTP/1.1\r\nHost: shop.test\r\n\r\n".to_vec()),
        (Pass, "percent encoding", b"GET /odd%00%0d%0a?x=%20%ff HTTP/1.1\r\nHost: shop.test\r\n\r\n".to_vec()),
        (Pass, "dots and slashes", b"GET //odd/../a/./b;c=1,2 HTTP/1.1\r\nHost: shop.test\r\n\r\n".to_vec()),
        (Pass, "a length of zero on GET", get("Content-Length: 0")),
        (Pass, "a body on GET", b"GET /odd HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 5\r\n\r\nhello".to_vec()),
        (Pass, "a chunked body on GET", b"GET /odd HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_vec()),
        (Pass, "a body on DELETE", b"DELETE /odd HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 2\r\n\r\nhi".to_vec()),
        (Pass, "no framing on POST", post("\r\n")),
        (Pass, "capitals in the coding", post("Transfer-Encoding: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n")),
        (Pass, "an empty chunked body", chunked("0\r\n\r\n")),
        (Pass, "capitals in a size", chunked("A\r\n0123456789\r\n0\r\n\r\n")),
        (Pass, "zeros before a size", chunked("0000005\r\nhello\r\n000\r\n\r\n")),
        (Pass, "a trailer", chunked("5\r\nhello\r\n0\r\nX-Check: 1\r\n\r\n")),
        (PassOrRefuse, "a chunk extension", chunked("5;name=\"va;lue\"\r\nhello\r\n0;last\r\n\r\n")),
        (PassOrRefuse, "a space behind a size", chunked("5 \r\nhello\r\n0\r\n\r\n")),
        (PassOrRefuse, "zeros before a length", post("Content-Length: 0005\r\n\r\nhello")),
        (PassOrRefuse, "the same length twice", post("Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello")),
        (PassOrRefuse, "a list of the same length", post("Content-Length: 5, 5\r\n\r\nhello")),
        (PassOrRefuse, "a fragment", b"GET /odd#fragment HTTP/1.1\r\nHost: shop.test\r\n\r\n".to_vec()),
        (PassOrRefuse, "characters that want encoding", b"GET /odd?\"<>^`{|}\\ HTTP/1.1\r\nHost: shop.test\r\n\r\n".to_vec()),
        (PassOrRefuse, "a path that is not ASCII", b"GET /odd-\xc3\xa9 HTTP/1.1\r\nHost: shop.test\r\n\r\n".to_vec()),
        (PassOrRefuse, "a path that is not UTF-8", b"GET /odd-\xff HTTP/1.1\r\nHost: shop.test\r\n\r\n".to_vec()),
        (PassOrRefuse, "Connection that names Host", get("Connection: close, host")),
        (PassOrRefuse, "Connection that names the framing", post("Connection: content-length\r\nContent-Length: 5\r\n\r\nhello")),
        (PassOrRefuse, "a strange expectation", post("Expect: the-unexpected\r\nContent-Length: 5\r\n\r\nhello")),
        (PassOrRefuse, "a tab between the parts of a request line", b"GET\t/odd\tHTTP/1.1\r\nHost: shop.test\r\n\r\n".to_vec()),
        (PassOrRefuse, "two spaces in a request line", b"GET  /odd HTTP/1.1\r\nHost: shop.test\r\n\r\n".to_vec()),
        (PassAndCloseOrRefuse, "a length beside chunked", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")),
        (PassAndCloseOrRefuse, "chunked beside a length", post("Transfer-Encoding: chunked\r\nContent-Length: 30\r\n\r\n5\r\nhello\r\n0\r\n\r\n")),
        (PassAndCloseOrRefuse, "bare LF ends the lines", b"GET /odd HTTP/1.1\nHost: shop.test\nX-A: 1\n\n".to_vec()),
        (PassAndCloseOrRefuse, "one bare LF", b"GET /odd HTTP/1.1\r\nHost: shop.test\r\nX-A: 1\nX-B: 2\r\n\r\n".to_vec()),
        (PassAndCloseOrRefuse, "a bare LF ends the head", b"GET /odd HTTP/1.1\r\nHost: shop.test\r\n\n".to_vec()),
        (PassOrRefuse, "HTTP/1.0 with a host", b"GET /odd HTTP/1.0\r\nHost: shop.test\r\n\r\n".to_vec()),
        (PassOrRefuse, "HTTP/1.0 that asks to be kept", b"GET /odd HTTP/1.0\r\nHost: shop.test\r\nConnection: keep-alive\r\n\r\n".to_vec()),
    ]
}

#[tokio::test]
async fn what_is_forwarded_can_be_read_in_one_way_only() {
    let origin = Origin::start(|_| Act::Echo).await;
    let proxy = Setup::shop(&[origin.addr], PLAIN).start().await;
    for (must, what, bytes) in cases() {
        let before = origin.seen().len();
        let mut raw = Raw::connect(proxy.outbound).await;
        raw.offer(&[&bytes[..], SECOND.as_bytes()].concat()).await;
        let first = raw
            .try_reply("GET")
            .await
            .unwrap_or_else(|fault| panic!("{what}: {fault}"));
        let first = first.unwrap_or_else(|| panic!("{what}: closed without an answer"));
        let passed = first.status == 200 && first.reason().is_none();
        assert!(
            passed || (must != Pass && first.status == 400),
            "{what}: {} {:?}",
            first.status,
            first.reason()
        );
        let second = raw.try_reply("GET").await.ok().flatten();
        if passed && must == PassAndCloseOrRefuse {
            assert!(
                second.is_none(),
                "{what}: the connection goes on although its framing was in doubt"
            );
        }
        if !passed {
            first.is_own(
                400,
                &[
                    "malformed_request",
                    "invalid_framing",
                    "invalid_header",
                    "invalid_target",
                    "invalid_body",
                ],
            );
        }
        check(
            what,
            &origin.seen()[before..],
            passed,
            second.is_some_and(|reply| reply.status == 200),
        );
    }
    assert_eq!(proxy.sum("outrider_panics_total", &[]).await, 0.0);
}

/// The origin saw what the client was told, and nothing that breaks a rule.
fn check(what: &str, seen: &[Seen], first: bool, second: bool) {
    for seen in seen {
        assert!(
            seen.fault.is_none(),
            "{what}: a strict reader objects: {:?}\n{}",
            seen.fault,
            latin1(&seen.head.raw)
        );
        assert!(seen.head.has(names::REQUEST_ID), "{what}");
    }
    let whole: Vec<_> = seen.iter().filter(|seen| seen.whole).collect();
    assert_eq!(
        whole.len(),
        usize::from(first) + usize::from(second),
        "{what}: {whole:#?}"
    );
    if first && whole[0].method != "get" {
        let bodies: [&[u8]; 4] = [b"", b"hello", b"hi", b"0123456789"];
        assert!(
            bodies.contains(&&whole[0].body.content[..]),
            "{what}: {:?}",
            whole[0].body
        );
    }
    if let Some(last) = whole.last().filter(|_| second) {
        assert_eq!(
            (last.target.as_str(), last.body.raw.len()),
            ("/second", 0),
            "{what}"
        );
    }
}

#[tokio::test]
async fn values_arrive_as_they_were_sent() {
    let origin = Origin::start(|_| Act::Echo).await;
    let proxy = Setup::shop(&[origin.addr], PLAIN).start().await;
    let mut raw = proxy.connect().await;
    raw.send(b"POST /a%2Fb/../c?q=1&q=2;x HTTP/1.1\r\nHost: shop.test\r\nX-A:  1 \r\nX-A: 2\r\nX-B: \xe9\r\nCookie: a=1; b=2\r\nContent-Length: 3\r\n\r\n\r\n\0").await;
    let reply = raw.reply("POST").await;
    let echoed: serde_json::Value =
        serde_json::from_slice(&reply.is(200).body.content).expect("the echo is JSON");
    assert_eq!(echoed["body"], "\r\n\0");
    let seen = origin.only();
    assert_eq!(seen.target, "/a%2Fb/../c?q=1&q=2;x");
    assert_eq!(seen.head.all("x-a"), ["1", "2"]);
    assert_eq!(
        (seen.head.get("x-b"), seen.head.get("cookie")),
        (Some("\u{e9}"), Some("a=1; b=2"))
    );
    assert_eq!(echoed["head"], latin1(&seen.head.raw));
}

#[tokio::test]
async fn http2_requests_to_an_http2_origin_keep_their_meaning() {
    use crate::support::h2origin::H2Act;
    use crate::support::h2origin::H2Origin;
    let origin = H2Origin::start(|_, _| H2Act::Echo).await;
    let proxy = Setup::shop(&[origin.addr], PLAIN).start().await;
    let client = H2::connect(proxy.outbound).await;
    let request = h2client::request("POST", "/odd?a=b%20c")
        .header("x_custom", "1")
        .header("cookie", "a=1")
        .header("cookie", "b=2");
    let reply = client
        .call(
            request
                .body(h2client::full("hello"))
                .expect("a good request"),
        )
        .await;
    assert_eq!((reply.status, &reply.body[..]), (200, &b"hello"[..]));
    let seen = &origin.seen()[0];
    assert_eq!(seen.uri, "http://shop.test/odd?a=b%20c");
    assert!(
        !seen.headers.contains_key("host"),
        "the authority says it already"
    );
    let cookies: Vec<_> = seen
        .headers
        .get_all("cookie")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    assert_eq!(cookies.join("; "), "a=1; b=2");
    assert_eq!(
        seen.headers
            .get("x_custom")
            .map(http::HeaderValue::as_bytes),
        Some(&b"1"[..])
    );
    assert_eq!(
        seen.headers
            .get_all("via")
            .iter()
            .next()
            .and_then(|via| via.to_str().ok()),
        Some("2.0 outrider")
    );
}
