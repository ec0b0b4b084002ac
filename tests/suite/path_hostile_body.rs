//! Bodies that break their own framing: never whole at the origin, and nothing behind them is taken for a request.

use crate::path_forward::PLAIN;
use crate::support::call::Call;
use crate::support::client::Raw;
use crate::support::origin::Answer;
use crate::support::origin::Origin;
use crate::support::setup::Setup;
use crate::support::until;

const HEAD: &str = "POST /body HTTP/1.1\r\nHost: shop.test\r\n";
/// What follows each body; served as a request only if the body was taken to end before it.
const NEXT: &str = "GET /smuggled HTTP/1.1\r\nHost: shop.test\r\n\r\n";

#[tokio::test]
async fn a_chunked_body_that_breaks_its_framing_is_refused() {
    let bodies: [(&str, String); 17] = [
        (
            "a size that is no number",
            "zz\r\nhello\r\n0\r\n\r\n".into(),
        ),
        ("a negative size", "-5\r\nhello\r\n0\r\n\r\n".into()),
        ("a signed size", "+5\r\nhello\r\n0\r\n\r\n".into()),
        ("a prefixed size", "0x5\r\nhello\r\n0\r\n\r\n".into()),
        ("an empty size", "\r\nhello\r\n0\r\n\r\n".into()),
        (
            "an underscore in a size",
            "0_5\r\nhello\r\n0\r\n\r\n".into(),
        ),
        (
            "a size that overflows 64 bits",
            "10000000000000005\r\nhello\r\n0\r\n\r\n".into(),
        ),
        (
            "a size of forty digits",
            format!("{}5\r\nhello\r\n0\r\n\r\n", "1".repeat(39)),
        ),
        (
            "a size with text behind it",
            "5 hello\r\nhello\r\n0\r\n\r\n".into(),
        ),
        ("more data than the size", "5\r\nhello!\r\n0\r\n\r\n".into()),
        ("less data than the size", "6\r\nhello\r\n0\r\n\r\n".into()),
        ("a bare CR behind the data", "5\r\nhello\r0\r\n\r\n".into()),
        ("a bare LF behind the data", "5\r\nhello\n0\r\n\r\n".into()),
        ("a bare CR behind the size", "5\rhello\r\n0\r\n\r\n".into()),
        ("a NUL in the size", "5\0\r\nhello\r\n0\r\n\r\n".into()),
        (
            "a folded trailer",
            "5\r\nhello\r\n0\r\nX-A: 1\r\n 2\r\n\r\n".into(),
        ),
        (
            "a NUL in a trailer",
            "5\r\nhello\r\n0\r\nX-A: a\0b\r\n\r\n".into(),
        ),
    ];
    let origin = Origin::always(Answer::ok("x")).await;
    let proxy = Setup::shop(&[origin.addr], PLAIN).start().await;
    for (what, body) in &bodies {
        let mut raw = Raw::connect(proxy.outbound).await;
        raw.offer(format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n{body}{NEXT}").as_bytes())
            .await;
        let reply = raw
            .try_reply("POST")
            .await
            .unwrap_or_else(|fault| panic!("{what}: {fault}"));
        let reply = reply.unwrap_or_else(|| panic!("{what}: closed without an answer"));
        assert_eq!(
            (reply.status, reply.reason()),
            (400, Some("invalid_body")),
            "{what}"
        );
        reply.is_own(400, &["invalid_body"]);
        let rest = raw.end().await.1;
        assert!(
            rest.is_empty(),
            "{what}: {:?} after the refusal",
            String::from_utf8_lossy(&rest)
        );
    }
    proxy.get("/after").await.is(200);
    for seen in origin.seen() {
        assert!(
            seen.target == "/after" || !seen.whole,
            "a broken body looked whole: {seen:?}"
        );
        assert_ne!(seen.target, "/smuggled");
        // The origin's own strict reader may object only to a body that was cut, never to one that is wrong.
        assert!(seen.fault.is_none(), "{seen:?}");
    }
    until("broken uploads leave nothing open", || async {
        (origin.open() <= 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn trailers_that_would_reframe_are_refused() {
    let origin = Origin::always(Answer::ok("x")).await;
    let proxy = Setup::shop(&[origin.addr], PLAIN).start().await;
    for trailer in [
        "Content-Length: 9",
        "Transfer-Encoding: chunked",
        "Host: evil.test",
        "Content_Length: 9",
    ] {
        let mut raw = Raw::connect(proxy.outbound).await;
        let body = format!("5\r\nhello\r\n0\r\n{trailer}\r\n\r\n");
        raw.offer(format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n{body}{NEXT}").as_bytes())
            .await;
        let reply = raw.reply("POST").await;
        assert_eq!(reply.reason(), Some("invalid_body"), "{trailer}");
        reply.is_own(400, &["invalid_body"]);
        // The body did end where it said, so what follows may be served, or the connection may end.
        if let Ok(Some(next)) = raw.try_reply("GET").await {
            next.is(200);
        }
    }
    for seen in origin.seen() {
        assert!(
            seen.fault.is_none() && (seen.target == "/smuggled" || !seen.whole),
            "{seen:?}"
        );
    }
}

#[tokio::test]
async fn a_body_that_ends_too_early_is_not_whole() {
    let origin = Origin::always(Answer::ok("x")).await;
    let proxy = Setup::shop(&[origin.addr], PLAIN).start().await;
    for body in [
        "Content-Length: 10\r\n\r\nhalf",
        "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "Transfer-Encoding: chunked\r\n\r\n9\r\nhalf",
    ] {
        let mut raw = Raw::connect(proxy.outbound).await;
        raw.send(format!("{HEAD}{body}").as_bytes()).await;
        raw.finish().await;
        if let Ok(Some(reply)) = raw.try_reply("POST").await {
            reply.is_own(400, &["invalid_body"]);
        }
    }
    proxy.get("/after").await.is(200);
    assert!(
        origin
            .seen()
            .iter()
            .all(|seen| seen.target == "/after" || !seen.whole)
    );
}

#[tokio::test]
async fn a_length_ends_the_body_and_the_rest_is_the_next_request() {
    let origin = Origin::always(Answer::ok("x")).await;
    let proxy = Setup::shop(&[origin.addr], PLAIN).start().await;
    let mut raw = Raw::connect(proxy.outbound).await;
    raw.send(format!("{HEAD}Content-Length: 5\r\n\r\nhello{NEXT}").as_bytes())
        .await;
    raw.reply("POST").await.is(200);
    raw.reply("GET").await.is(200);
    let seen = origin.seen();
    assert_eq!(
        (seen[0].body.content.as_slice(), seen[1].target.as_str()),
        (&b"hello"[..], "/smuggled")
    );
}

#[tokio::test]
async fn a_get_without_framing_has_no_body() {
    let origin = Origin::always(Answer::ok("x")).await;
    let proxy = Setup::shop(&[origin.addr], PLAIN).start().await;
    let mut raw = Raw::connect(proxy.outbound).await;
    raw.send(&[&Call::get("/first").bytes()[..], NEXT.as_bytes()].concat())
        .await;
    raw.reply("GET").await.is(200);
    raw.reply("GET").await.is(200);
    assert!(
        origin
            .seen()
            .iter()
            .all(|seen| seen.body.raw.is_empty() && seen.fault.is_none())
    );
    assert_eq!(origin.requests(), 2);
}

#[tokio::test]
async fn responses_that_two_parsers_read_differently_are_not_passed_on() {
    use crate::support::origin::Act;
    use crate::support::origin::After;
    let heads = [
        "content-length: 1\r\ncontent-length: 2\r\n\r\nab",
        "content-length: 1, 2\r\n\r\nab",
        "content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        "transfer-encoding: gzip\r\n\r\nab",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "content-length: -1\r\n\r\n",
        "x-a: a\0b\r\ncontent-length: 0\r\n\r\n",
    ];
    for head in heads {
        let bytes = format!("HTTP/1.1 200 OK\r\n{head}").into_bytes();
        let origin = Origin::start(move |_| Act::Raw(bytes.clone(), After::Close)).await;
        let proxy = Setup::shop(&[origin.addr], PLAIN).start().await;
        let mut raw = proxy.connect().await;
        raw.send(&Call::get("/").bytes()).await;
        // Refused, or normalised to one reading; the strict reader of this client would object to anything else.
        match raw.try_reply("GET").await {
            Ok(Some(reply)) if reply.status == 200 => assert!(reply.reason().is_none(), "{head:?}"),
            Ok(Some(reply)) => {
                reply.is_own(502, &["protocol_error"]);
            }
            other => panic!("{head:?}: {other:?}"),
        }
    }
}
