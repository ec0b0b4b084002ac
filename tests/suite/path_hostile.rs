//! Heads that two parsers could read differently: each is refused by its word, reaches nobody, and harms nobody.

use crate::path_forward::PLAIN;
use crate::support::call::Call;
use crate::support::client::Raw;
use crate::support::origin::Answer;
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::setup::Setup;

/// Refusals of the parser itself, which cannot say more.
const PARSER: &str = "malformed_request";

/// One request, byte for byte, and the words that may refuse it: the first is the best, others may see it earlier.
struct Case {
    what: &'static str,
    bytes: Vec<u8>,
    words: &'static [&'static str],
}

fn case(what: &'static str, words: &'static [&'static str], bytes: impl Into<Vec<u8>>) -> Case {
    Case {
        what,
        bytes: bytes.into(),
        words,
    }
}

/// A POST whose framing fields are these, with five bytes behind it that one reading takes for its body.
fn framed(fields: &str) -> String {
    format!("POST /framed HTTP/1.1\r\nHost: shop.test\r\n{fields}\r\n\r\n0\r\n\r\n")
}

/// A GET with one more field line.
fn with_field(line: &str) -> String {
    format!("GET /field HTTP/1.1\r\nHost: shop.test\r\n{line}\r\n\r\n")
}

fn with_host(lines: &str) -> String {
    format!("GET /host HTTP/1.1\r\n{lines}Accept: */*\r\n\r\n")
}

fn with_target(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: shop.test\r\n\r\n")
}

async fn refuse_all(cases: Vec<Case>) {
    let origin = Origin::always(Answer::ok("x")).await;
    let proxy = Setup::shop(&[origin.addr], PLAIN).start().await;
    for case in &cases {
        refuse(&proxy, &origin, case).await;
    }
    assert_eq!(proxy.sum("outrider_panics_total", &[]).await, 0.0);
}

async fn refuse(proxy: &Proxy, origin: &Origin, case: &Case) {
    let before = origin.requests();
    let mut raw = Raw::connect(proxy.outbound).await;
    raw.offer(&case.bytes).await;
    let reply = match raw.try_reply("GET").await {
        Ok(Some(reply)) => reply,
        other => panic!("{}: expected a refusal, got {other:?}", case.what),
    };
    let reason = reply.reason().unwrap_or("(none)").to_owned();
    assert!(
        reply.status == 400 && case.words.contains(&reason.as_str()),
        "{}: expected 400 {:?}, got {} {reason}",
        case.what,
        case.words,
        reply.status
    );
    reply.is_own(400, case.words);
    if matches!(reason.as_str(), "malformed_request" | "invalid_framing") {
        // Where the next request begins is anybody's guess, so there must be none.
        let rest = raw.end().await.1;
        assert!(
            rest.is_empty(),
            "{}: {:?} after the refusal",
            case.what,
            String::from_utf8_lossy(&rest)
        );
    }
    assert_eq!(
        origin.requests(),
        before,
        "{}: it reached the origin",
        case.what
    );
    proxy.get("/after").await.is(200);
    assert_eq!(
        origin.requests(),
        before + 1,
        "{}: the proxy goes on serving",
        case.what
    );
}

#[tokio::test]
async fn ambiguous_framing_is_refused() {
    const WORDS: &[&str] = &["invalid_framing", PARSER];
    let fields = [
        (
            "different lengths",
            "Content-Length: 5\r\nContent-Length: 6",
        ),
        ("a list of different lengths", "Content-Length: 5, 6"),
        ("a signed length", "Content-Length: +5"),
        ("a negative length", "Content-Length: -5"),
        ("a hexadecimal length", "Content-Length: 0x5"),
        ("a length with a space inside", "Content-Length: 5 0"),
        ("a length with a fraction", "Content-Length: 5.0"),
        ("an empty length", "Content-Length:"),
        (
            "a length that overflows 64 bits",
            "Content-Length: 18446744073709551621",
        ),
        (
            "a length of forty digits",
            "Content-Length: 5000000000000000000000000000000000000000",
        ),
        ("an unknown coding", "Transfer-Encoding: gzip"),
        (
            "a coding before chunked",
            "Transfer-Encoding: gzip, chunked",
        ),
        (
            "a coding after chunked",
            "Transfer-Encoding: chunked, identity",
        ),
        ("identity", "Transfer-Encoding: identity"),
        (
            "chunked twice in a list",
            "Transfer-Encoding: chunked, chunked",
        ),
        (
            "chunked twice",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        ),
        (
            "chunked and identity apart",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        ),
        ("nearly chunked", "Transfer-Encoding: xchunked"),
        ("chunked with a parameter", "Transfer-Encoding: chunked;q=1"),
        ("chunked in quotes", "Transfer-Encoding: \"chunked\""),
        ("an empty coding", "Transfer-Encoding:"),
        ("a comma before chunked", "Transfer-Encoding: , chunked"),
    ];
    let mut cases: Vec<Case> = fields
        .into_iter()
        .map(|(what, fields)| case(what, WORDS, framed(fields)))
        .collect();
    let old = framed("Transfer-Encoding: chunked").replace("HTTP/1.1", "HTTP/1.0");
    cases.push(case("chunked in HTTP/1.0", WORDS, old));
    refuse_all(cases).await;
}

#[tokio::test]
async fn names_that_shadow_framing_are_refused() {
    const WORDS: &[&str] = &["invalid_header", PARSER];
    let names = [
        "Transfer_Encoding: chunked",
        "TRANSFER_ENCODING: chunked",
        "transfer.encoding: chunked",
        "Transfer-_Encoding: chunked",
        "Content_Length: 5",
        "content_length: 0",
        "Content.Length: 5",
        "Keep_Alive: timeout=5",
        "Content_Encoding: gzip",
        "Proxy_Connection: close",
        "_Host: other.test",
    ];
    refuse_all(names.map(|line| case(line, WORDS, with_field(line))).into()).await;
}

#[tokio::test]
async fn forbidden_characters_and_folds_are_refused() {
    const WORDS: &[&str] = &[PARSER, "invalid_header"];
    let lines: [(&str, &[u8]); 20] = [
        ("a folded value", b"X-A: 1\r\n 2"),
        ("a value folded with a tab", b"X-A: 1\r\n\t2"),
        ("a folded coding", b"Transfer-Encoding:\r\n chunked"),
        ("NUL in a value", b"X-A: a\0b"),
        ("NUL in a name", b"X\0A: 1"),
        ("CR in a value", b"X-A: a\rb"),
        ("CR before a colon", b"X-A\r: 1"),
        ("a bell in a value", b"X-A: a\x07b"),
        ("DEL in a value", b"X-A: a\x7fb"),
        (
            "a vertical tab before a coding",
            b"Transfer-Encoding: \x0bchunked",
        ),
        ("a space in a name", b"X A: 1"),
        ("a space before the colon", b"X-A : 1"),
        (
            "a space before the colon of a coding",
            b"Transfer-Encoding : chunked",
        ),
        ("a tab before the colon of a length", b"Content-Length\t: 5"),
        ("a name in brackets", b"X(A): 1"),
        ("a name with a slash", b"X/A: 1"),
        ("a name that is not ASCII", b"X-\xc3\xa9: 1"),
        ("an empty name", b": 1"),
        ("no colon at all", b"X-A"),
        ("a quote in a name", b"X\"A: 1"),
    ];
    let mut cases = Vec::new();
    for (what, line) in lines {
        let mut bytes = b"GET /line HTTP/1.1\r\nHost: shop.test\r\n".to_vec();
        bytes.extend_from_slice(line);
        bytes.extend_from_slice(b"\r\n\r\n");
        cases.push(case(what, WORDS, bytes));
    }
    cases.push(case(
        "a space before the first field",
        WORDS,
        with_host(" Host: shop.test\r\n"),
    ));
    refuse_all(cases).await;
}

#[tokio::test]
async fn a_host_that_is_not_exactly_one_authority_is_refused() {
    const WORDS: &[&str] = &["invalid_host", PARSER];
    let hosts = [
        ("no host", ""),
        ("two hosts", "Host: shop.test\r\nHost: shop.test\r\n"),
        (
            "two different hosts",
            "Host: shop.test\r\nHost: evil.test\r\n",
        ),
        ("an empty host", "Host:\r\n"),
        ("a list of hosts", "Host: shop.test, evil.test\r\n"),
        ("a space in the host", "Host: shop.test evil.test\r\n"),
        ("userinfo", "Host: user@shop.test\r\n"),
        ("a path in the host", "Host: shop.test/evil\r\n"),
        ("a fragment in the host", "Host: shop.test#evil\r\n"),
        ("a query in the host", "Host: shop.test?evil\r\n"),
        ("a backslash in the host", "Host: shop.test\\evil\r\n"),
        ("percent encoding in the host", "Host: sh%6fp.test\r\n"),
        ("a word for a port", "Host: shop.test:http\r\n"),
        ("a port that is too large", "Host: shop.test:65536\r\n"),
        ("port zero", "Host: shop.test:0\r\n"),
        ("an empty port", "Host: shop.test:\r\n"),
        ("a port and a port", "Host: shop.test:80:80\r\n"),
        ("an unclosed bracket", "Host: [::1\r\n"),
        ("letters in brackets", "Host: [shop]\r\n"),
        ("a zone", "Host: [fe80::1%25eth0]\r\n"),
        ("an empty label", "Host: shop..test\r\n"),
        ("an address as one number", "Host: 2130706433\r\n"),
        ("an address in hexadecimal", "Host: 0x7f.0.0.1\r\n"),
        ("an address of three parts", "Host: 127.0.1\r\n"),
        ("a host that is not ASCII", "Host: sh\u{f6}p.test\r\n"),
        ("a URL", "Host: http://shop.test\r\n"),
    ];
    refuse_all(
        hosts
            .map(|(what, lines)| case(what, WORDS, with_host(lines)))
            .into(),
    )
    .await;
}

#[tokio::test]
async fn a_target_that_cannot_be_forwarded_is_refused() {
    const WORDS: &[&str] = &["invalid_target", PARSER];
    let targets = [
        ("userinfo", "http://user@shop.test/"),
        ("userinfo with a password", "http://user:secret@shop.test/"),
        ("another host than Host", "http://evil.test/"),
        ("another port than Host", "http://shop.test:81/"),
        ("https on a plain port", "https://shop.test/"),
        ("a foreign scheme", "ftp://shop.test/"),
        ("no authority", "http:///path"),
        ("a relative path", "path"),
        ("a query alone", "?a=1"),
        ("an asterisk for GET", "*"),
        ("an authority for GET", "shop.test:80"),
        ("a space in the path", "/a b"),
        ("a tab in the path", "/a\tb"),
        ("a NUL in the path", "/a\0b"),
        ("a CR in the path", "/a\rb"),
        ("nothing", ""),
    ];
    refuse_all(
        targets
            .map(|(what, target)| case(what, WORDS, with_target(target)))
            .into(),
    )
    .await;
}

#[tokio::test]
async fn a_line_that_is_no_request_line_is_refused() {
    const WORDS: &[&str] = &[PARSER, "invalid_target", "invalid_host"];
    let lines = [
        ("a method with a bracket", "GE(T / HTTP/1.1"),
        ("a method with a NUL", "G\0T / HTTP/1.1"),
        ("a method with a colon", "GET: / HTTP/1.1"),
        ("version 1.2", "GET / HTTP/1.2"),
        ("version 3", "GET / HTTP/3.0"),
        ("version 1", "GET / HTTP/1"),
        ("a lower-case version", "GET / http/1.1"),
        ("another protocol", "GET / ICAP/1.0"),
        ("text after the version", "GET / HTTP/1.1 evil"),
        ("a space after the version", "GET / HTTP/1.1 "),
        ("HTTP/0.9", "GET /"),
        ("a leading space", " GET / HTTP/1.1"),
    ];
    let cases =
        lines.map(|(what, line)| case(what, WORDS, format!("{line}\r\nHost: shop.test\r\n\r\n")));
    refuse_all(cases.into()).await;
}

#[tokio::test]
async fn a_connect_that_is_no_tunnel_is_refused() {
    let origin = Origin::always(Answer::ok("x")).await;
    let proxy = Setup::shop(&[origin.addr], PLAIN).start().await;
    let cases = [
        case(
            "no port",
            &["invalid_target", PARSER],
            "CONNECT shop.test HTTP/1.1\r\nHost: shop.test\r\n\r\n",
        ),
        case(
            "a path",
            &["invalid_target", PARSER],
            "CONNECT /path HTTP/1.1\r\nHost: shop.test\r\n\r\n",
        ),
        case(
            "a URL",
            &["invalid_target", PARSER],
            "CONNECT http://shop.test/ HTTP/1.1\r\nHost: shop.test\r\n\r\n",
        ),
        case(
            "userinfo",
            &["invalid_target", PARSER],
            "CONNECT u@shop.test:80 HTTP/1.1\r\nHost: shop.test:80\r\n\r\n",
        ),
        case(
            "a body",
            &["invalid_framing", PARSER],
            "CONNECT shop.test:80 HTTP/1.1\r\nHost: shop.test:80\r\nContent-Length: 5\r\n\r\nhello",
        ),
        case(
            "a chunked body",
            &["invalid_framing", PARSER],
            "CONNECT shop.test:80 HTTP/1.1\r\nHost: shop.test:80\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
    ];
    for case in cases {
        let mut raw = Raw::connect(proxy.explicit).await;
        raw.offer(&case.bytes).await;
        let reply = raw
            .try_reply("POST")
            .await
            .ok()
            .flatten()
            .unwrap_or_else(|| panic!("{}: no answer", case.what));
        assert!(reply.status == 400, "{}: {}", case.what, reply.status);
        reply.is_own(400, case.words);
    }
    assert_eq!(origin.requests(), 0);
    Call::get("http://shop.test/")
        .to(proxy.explicit)
        .await
        .is(200);
}

#[tokio::test]
async fn noise_is_survived() {
    // Hundreds of damaged requests, from a printed seed: none may end the process, and what is let through is whole.
    const SEED: u64 = 0x5eed_0001;
    eprintln!("seed {SEED:#x}");
    let origin = Origin::always(Answer::ok("x")).await;
    let proxy = Setup::shop(&[origin.addr], PLAIN)
        .limits("detect: 50ms")
        .start()
        .await;
    let mut random = SEED;
    let mut draw = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let whole = Call::post("/noise", "0123456789")
        .field("Transfer-Encoding", "chunked")
        .bytes();
    for n in 0..500 {
        let mut bytes = whole.clone();
        bytes.truncate(bytes.len() - usize::try_from(draw() % 20).expect("small"));
        for _ in 0..=draw() % 4 {
            let at = usize::try_from(draw()).unwrap_or(n) % bytes.len();
            bytes[at] = u8::try_from(draw() % 256).expect("below 256");
        }
        let mut raw = Raw::connect(proxy.outbound).await;
        raw.offer(&bytes).await;
        raw.finish().await;
        let _ = raw.end().await;
    }
    for seen in origin.seen() {
        assert!(
            seen.fault.is_none(),
            "what was forwarded breaks a rule: {:?}",
            seen.fault
        );
    }
    proxy.get("/after").await.is(200);
    assert_eq!(proxy.sum("outrider_panics_total", &[]).await, 0.0);
}
