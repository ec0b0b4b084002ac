//! HTTP/2 fields that would smuggle into HTTP/1, broken streams, and floods.

use crate::path_forward::PLAIN;
use crate::support::h2frame;
use crate::support::h2frame::CONTINUATION;
use crate::support::h2frame::Frame;
use crate::support::h2frame::HEADERS;
use crate::support::h2origin::H2Act;
use crate::support::h2origin::H2Origin;
use crate::support::h2raw::Fate;
use crate::support::h2raw::H2Raw;
use crate::support::h2raw::get;
use crate::support::proxy::Proxy;
use crate::support::setup::Setup;

type Field = (&'static [u8], &'static [u8]);

const GET: [Field; 4] = [
    (b":method", b"GET"),
    (b":scheme", b"http"),
    (b":path", b"/"),
    (b":authority", b"shop.test"),
];

async fn shop(limits: &str) -> (H2Origin, Proxy) {
    let origin = H2Origin::start(|_, _| H2Act::ok("x")).await;
    let proxy = Setup::shop(&[origin.addr], PLAIN)
        .limits(limits)
        .start()
        .await;
    (origin, proxy)
}

async fn serves(proxy: &Proxy, origin: &H2Origin, before: usize, what: &str) {
    assert_eq!(origin.requests(), before, "{what}: it reached the origin");
    let fate = H2Raw::ask(proxy.outbound, &GET).await;
    assert_eq!(
        fate,
        Fate::Answered(200, b"x".to_vec()),
        "{what}: the proxy goes on serving"
    );
}

#[tokio::test]
async fn fields_that_would_smuggle_are_refused() {
    let (origin, proxy) = shop("").await;
    let more: [(&str, Field); 22] = [
        ("CR in a value", (b"x-a", b"a\rb")),
        ("LF in a value", (b"x-a", b"a\nb")),
        (
            "a request in a value",
            (
                b"x-a",
                b"a\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: shop.test\r\n\r\n",
            ),
        ),
        ("NUL in a value", (b"x-a", b"a\0b")),
        ("a space before a value", (b"x-a", b" a")),
        ("a tab behind a value", (b"x-a", b"a\t")),
        ("CR and LF in a name", (b"x-a: 1\r\nx-b", b"2")),
        ("a colon in a name", (b"x-a:", b"1")),
        ("a space in a name", (b"x a", b"1")),
        ("an upper-case name", (b"X-A", b"1")),
        ("an empty name", (b"", b"1")),
        ("a name that is not ASCII", (b"x-\xff", b"1")),
        ("connection", (b"connection", b"close")),
        ("transfer-encoding", (b"transfer-encoding", b"chunked")),
        ("keep-alive", (b"keep-alive", b"timeout=5")),
        ("proxy-connection", (b"proxy-connection", b"keep-alive")),
        ("upgrade", (b"upgrade", b"websocket")),
        ("te other than trailers", (b"te", b"gzip")),
        (
            "a shadow of transfer-encoding",
            (b"transfer_encoding", b"chunked"),
        ),
        ("a shadow of content-length", (b"content_length", b"5")),
        ("a length without a body", (b"content-length", b"5")),
        ("another host", (b"host", b"evil.test")),
    ];
    for (what, field) in more {
        let before = origin.requests();
        let mut fields = GET.to_vec();
        fields.push(field);
        let fate = H2Raw::ask(proxy.outbound, &fields).await;
        assert!(fate.is_refusal(&[400]), "{what}: {fate:?}");
        serves(&proxy, &origin, before, what).await;
    }
}

#[tokio::test]
async fn pseudo_fields_that_are_not_exactly_right_are_refused() {
    let (origin, proxy) = shop("").await;
    let [method, scheme, path, authority] = GET;
    let blocks: [(&str, Vec<Field>); 16] = [
        ("no method", vec![scheme, path, authority]),
        ("no scheme", vec![method, path, authority]),
        ("no path", vec![method, scheme, authority]),
        ("no authority and no host", vec![method, scheme, path]),
        ("two methods", vec![method, method, scheme, path, authority]),
        (
            "two paths",
            vec![method, scheme, path, (b":path", b"/other"), authority],
        ),
        (
            "two authorities",
            vec![
                method,
                scheme,
                path,
                authority,
                (b":authority", b"evil.test"),
            ],
        ),
        (
            "an unknown one",
            vec![method, scheme, path, authority, (b":evil", b"1")],
        ),
        (
            "one behind a field",
            vec![method, scheme, (b"x-a", b"1"), path, authority],
        ),
        (
            "a status",
            vec![method, scheme, path, authority, (b":status", b"200")],
        ),
        (
            "an empty path",
            vec![method, scheme, (b":path", b""), authority],
        ),
        (
            "a relative path",
            vec![method, scheme, (b":path", b"evil"), authority],
        ),
        (
            "a space in the path",
            vec![method, scheme, (b":path", b"/ HTTP/1.1\r\nx: "), authority],
        ),
        (
            "a method with a space",
            vec![(b":method", b"GET / HTTP/1.1"), scheme, path, authority],
        ),
        (
            "userinfo",
            vec![method, scheme, path, (b":authority", b"user@shop.test")],
        ),
        (
            "a space in the authority",
            vec![method, scheme, path, (b":authority", b"shop.test evil")],
        ),
    ];
    for (what, fields) in blocks {
        let before = origin.requests();
        let fate = H2Raw::ask(proxy.outbound, &fields).await;
        assert!(fate.is_refusal(&[400]), "{what}: {fate:?}");
        serves(&proxy, &origin, before, what).await;
    }
}

#[tokio::test]
async fn connect_over_http2_is_not_served() {
    let (origin, proxy) = shop("").await;
    let connect: [Field; 2] = [(b":method", b"CONNECT"), (b":authority", b"shop.test:80")];
    let mut h2 = H2Raw::connect(proxy.outbound).await;
    h2.offer(&[Frame::headers(1, &connect, true)]).await;
    let fate = h2.fate(1).await;
    assert!(fate.is_refusal(&[400, 501]), "{fate:?}");
    serves(&proxy, &origin, 0, "CONNECT").await;
}

#[tokio::test]
async fn a_body_that_differs_from_its_length_is_never_whole() {
    let (_origin, proxy) = shop("").await;
    let post: [Field; 5] = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/"),
        (b":authority", b"shop.test"),
        (b"content-length", b"5"),
    ];
    for body in [&b"hell"[..], b"hello world"] {
        let mut h2 = H2Raw::connect(proxy.outbound).await;
        h2.offer(&[Frame::headers(1, &post, false), Frame::data(1, body, true)])
            .await;
        let fate = h2.fate(1).await;
        assert!(fate.is_refusal(&[400]), "{fate:?}");
    }
    let mut h2 = H2Raw::connect(proxy.outbound).await;
    h2.offer(&[
        Frame::headers(1, &post, false),
        Frame::data(1, b"hello", true),
    ])
    .await;
    assert_eq!(h2.fate(1).await, Fate::Answered(200, b"x".to_vec()));
}

#[tokio::test]
async fn trailers_cannot_reframe() {
    let (_origin, proxy) = shop("").await;
    let mut post = GET;
    post[0].1 = b"POST";
    // A pseudo field among trailers is dropped by the library and never goes out.
    let trailers: [Field; 3] = [
        (b"content-length", b"9"),
        (b"transfer-encoding", b"chunked"),
        (b"x-a", b"a\r\nb"),
    ];
    for trailer in trailers {
        // A pseudo field is dropped by the library before anyone sees it, so it may also end as if never sent.
        let statuses: &[u16] = if trailer.0 == b":path" {
            &[400, 200]
        } else {
            &[400]
        };
        let mut h2 = H2Raw::connect(proxy.outbound).await;
        let frames = [
            Frame::headers(1, &post, false),
            Frame::data(1, b"hello", false),
            Frame::headers(1, &[trailer], true),
        ];
        h2.offer(&frames).await;
        let fate = h2.fate(1).await;
        assert!(
            fate.is_refusal(statuses),
            "{:?}: {fate:?}",
            String::from_utf8_lossy(trailer.0)
        );
    }
    let fate = H2Raw::ask(proxy.outbound, &GET).await;
    assert_eq!(fate, Fate::Answered(200, b"x".to_vec()));
}

#[tokio::test]
async fn limits_hold_for_http2_too() {
    let (origin, proxy) = shop("head: 8KiB, headers: 20, uri: 1KiB, body: 10KiB").await;
    let long = [b"/".to_vec(), vec![b'a'; 2000]].concat();
    let fate = H2Raw::ask(proxy.outbound, &get(&long, b"shop.test")).await;
    assert!(fate.is_refusal(&[414]), "{fate:?}");
    let large = vec![b'v'; 20_000];
    let mut fields = GET.to_vec();
    fields.push((b"x-large", &large));
    let fate = H2Raw::ask(proxy.outbound, &fields).await;
    assert!(fate.is_refusal(&[431]), "{fate:?}");
    let mut fields = GET.to_vec();
    fields.extend([(&b"x-many"[..], &b"1"[..]); 30]);
    let fate = H2Raw::ask(proxy.outbound, &fields).await;
    assert!(fate.is_refusal(&[431]), "{fate:?}");
    serves(&proxy, &origin, 0, "limits").await;
    let mut post = GET;
    post[0].1 = b"POST";
    let mut h2 = H2Raw::connect(proxy.outbound).await;
    h2.offer(&[
        Frame::headers(1, &post, false),
        Frame::data(1, &[0; 8000], false),
        Frame::data(1, &[0; 8000], true),
    ])
    .await;
    let fate = h2.fate(1).await;
    assert!(fate.is_refusal(&[413]), "{fate:?}");
}

#[tokio::test]
async fn floods_end_the_connection_that_makes_them() {
    let (origin, proxy) = shop("").await;
    // A header block that never ends.
    let mut h2 = H2Raw::connect(proxy.outbound).await;
    let block = h2frame::literal(&GET);
    let mut frames = vec![Frame::new(HEADERS, h2frame::END_STREAM, 1, block)];
    let more = h2frame::literal(&[(b"x-a", &[b'v'; 1000])]);
    frames.extend((0..5000).map(|_| Frame::new(CONTINUATION, 0, 1, more.clone())));
    h2.offer(&frames).await;
    let fate = h2.fate(1).await;
    assert!(fate.is_refusal(&[431]), "{fate:?}");
    serves(&proxy, &origin, 0, "endless header block").await;

    // Streams that are begun and reset at once, thousands of them.
    let mut h2 = H2Raw::connect(proxy.outbound).await;
    for stream in (1..20_000).step_by(2) {
        h2.offer(&[
            Frame::headers(stream, &GET, true),
            Frame::reset(stream, h2frame::CANCEL),
        ])
        .await;
    }
    drop(h2);
    let fate = H2Raw::ask(proxy.outbound, &GET).await;
    assert_eq!(
        fate,
        Fate::Answered(200, b"x".to_vec()),
        "rapid reset: the proxy goes on serving"
    );

    // Frames that break the protocol.
    let odd = [
        Frame::data(0, b"x", false),
        Frame::headers(2, &GET, true),
        Frame::new(h2frame::WINDOW_UPDATE, 0, 0, [0; 4]),
        Frame::window(0, 0x7fff_ffff),
        Frame::new(h2frame::SETTINGS, 0, 0, [0; 5]),
        Frame::new(h2frame::PING, 0, 0, [0; 3]),
        Frame::new(CONTINUATION, 0, 1, Vec::new()),
        Frame::new(
            HEADERS,
            h2frame::END_HEADERS | h2frame::END_STREAM,
            1,
            [0xff; 64],
        ),
    ];
    for frame in odd {
        let mut h2 = H2Raw::connect(proxy.outbound).await;
        h2.offer(std::slice::from_ref(&frame)).await;
        let fate = h2.fate(1).await;
        assert!(
            matches!(fate, Fate::ConnectionEnded(_) | Fate::Reset(_)),
            "{frame:?}: {fate:?}"
        );
    }
    let fate = H2Raw::ask(proxy.outbound, &GET).await;
    assert_eq!(fate, Fate::Answered(200, b"x".to_vec()));
    assert_eq!(proxy.sum("outrider_panics_total", &[]).await, 0.0);
}
