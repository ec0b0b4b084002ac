//! What leaves a head on its way to the next connection, and what the other direction must look like.

use http::HeaderMap;
use http::HeaderValue;
use http::Version;
use http::request::Parts;

use super::LIMITS;
use super::h1;
use super::h2;
use crate::http::Reason;
use crate::http::strict::Door;
use crate::http::strict::check;
use crate::http::strict::check_response;
use crate::http::strict::check_trailers;
use crate::http::strict::readdress;
use crate::http::strict::strip_hop_by_hop;
use crate::http::strict::strip_response;
use crate::http::strict::via;

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    h1("GET", "/", fields).headers
}

fn lines(headers: &HeaderMap) -> Vec<String> {
    let mut lines: Vec<_> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    lines.sort();
    lines
}

#[test]
fn fields_of_the_connection_are_taken_out() {
    let mut headers = map(&[
        ("connection", "keep-alive, X-Hop, close"),
        ("connection", "x-other"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authorization", "Basic eA=="),
        ("http2-settings", "AAMAAABkAAQAAP__"),
        ("upgrade", "h2c"),
        ("x-hop", "1"),
        ("x-hop", "2"),
        ("x-other", "3"),
        ("transfer-encoding", "chunked"),
        ("trailer", "x-sum"),
        ("x-stays", "4"),
    ]);
    strip_hop_by_hop(&mut headers, false);
    let left = ["trailer: x-sum", "transfer-encoding: chunked", "x-stays: 4"];
    assert_eq!(lines(&headers), left);
}

#[test]
fn connection_cannot_name_away_what_the_receiver_needs() {
    let fields = [
        ("host", "a"),
        ("content-length", "3"),
        ("x-request-id", "r"),
        ("traceparent", "t"),
        ("x-forwarded-for", "f"),
        ("authorization", "s"),
        ("cookie", "c"),
        ("b3", "b"),
    ];
    for (name, _) in fields {
        let mut headers = map(&fields);
        headers.insert("connection", HeaderValue::from_str(name).unwrap());
        strip_hop_by_hop(&mut headers, false);
        assert_eq!(lines(&headers), lines(&map(&fields)), "{name}");
    }
    let mut headers = map(&[
        ("connection", "b@d, , \"x\", x-a"),
        ("x-a", "1"),
        ("x", "2"),
    ]);
    strip_hop_by_hop(&mut headers, false);
    assert_eq!(lines(&headers), ["x: 2"]);
}

#[test]
fn te_is_cut_down_to_trailers() {
    for (values, left) in [
        (&["trailers"][..], Some("trailers")),
        (&["Trailers"], Some("trailers")),
        (&["gzip, trailers;q=0.5", "deflate"], None),
        (&["gzip, trailers"], Some("trailers")),
        (&["gzip", "trailers"], Some("trailers")),
        (&["gzip"], None),
        (&[""], None),
    ] {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("te", HeaderValue::from_str(value).unwrap());
        }
        headers.insert("connection", HeaderValue::from_static("te"));
        strip_hop_by_hop(&mut headers, false);
        let expected: Vec<String> = left.iter().map(|value| format!("te: {value}")).collect();
        assert_eq!(lines(&headers), expected, "{values:?}");
    }
}

#[test]
fn an_upgrade_keeps_what_it_needs() {
    let fields = [
        ("connection", "keep-alive, Upgrade, x-hop"),
        ("upgrade", "websocket"),
        ("x-hop", "1"),
        ("sec-websocket-key", "k"),
    ];
    let mut headers = map(&fields);
    strip_hop_by_hop(&mut headers, true);
    let left = [
        "connection: upgrade",
        "sec-websocket-key: k",
        "upgrade: websocket",
    ];
    assert_eq!(lines(&headers), left);
    let mut headers = map(&[("x", "1")]);
    strip_response(&mut headers, true);
    assert_eq!(lines(&headers), ["x: 1"]);
}

#[test]
fn a_response_loses_its_framing_too() {
    let mut headers = map(&[
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("proxy-authenticate", "Basic"),
        ("trailer", "x-sum"),
        ("x", "1"),
    ]);
    strip_response(&mut headers, false);
    assert_eq!(lines(&headers), ["trailer: x-sum", "x: 1"]);
}

#[test]
fn a_response_ends_in_one_place() {
    let checked = |fields: &[(&str, &str)]| {
        let mut headers = map(fields);
        check_response(&mut headers).map(|()| lines(&headers))
    };
    for (fields, left) in [
        (&[("x", "1")][..], "x: 1"),
        (&[("content-length", "5")], "content-length: 5"),
        (&[("content-length", "5, 5")], "content-length: 5"),
        (
            &[("content-length", "5"), ("content-length", "5")],
            "content-length: 5",
        ),
        (
            &[("transfer-encoding", "chunked")],
            "transfer-encoding: chunked",
        ),
    ] {
        assert_eq!(checked(fields), Ok(vec![left.to_owned()]), "{fields:?}");
    }
    for fields in [
        &[("content-length", "5"), ("content-length", "6")][..],
        &[("content-length", "5, 6")],
        &[("content-length", "5,")],
        &[("content-length", "")],
        &[("content-length", "+5")],
        &[("transfer-encoding", "gzip")],
        &[("transfer-encoding", "gzip, chunked")],
        &[
            ("transfer-encoding", "chunked"),
            ("transfer-encoding", "chunked"),
        ],
        &[("transfer-encoding", "chunked"), ("content-length", "5")],
    ] {
        assert_eq!(checked(fields), Err(Reason::ProtocolError), "{fields:?}");
    }
}

#[test]
fn trailers_cannot_change_what_the_head_said() {
    assert_eq!(
        check_trailers(&map(&[("x-sum", "1"), ("grpc-status", "0")])),
        Ok(())
    );
    for name in [
        "content-length",
        "transfer-encoding",
        "host",
        "te",
        "content_length",
        "trailer",
    ] {
        assert_eq!(
            check_trailers(&map(&[(name, "1")])),
            Err(Reason::InvalidBody),
            "{name}"
        );
    }
}

#[test]
fn via_says_what_we_received() {
    assert_eq!(via(Version::HTTP_10), "1.0 outrider");
    assert_eq!(via(Version::HTTP_11), "1.1 outrider");
    assert_eq!(via(Version::HTTP_2), "2.0 outrider");
}

fn readdressed(mut parts: Parts, to: Version, has_body: bool) -> (String, Vec<String>) {
    let target = check(&parts, &LIMITS, Door::Explicit).expect("a good request");
    readdress(&mut parts, &target, to, has_body);
    assert_eq!(parts.version, to);
    (parts.uri.to_string(), lines(&parts.headers))
}

#[test]
fn the_next_head_names_its_target_once() {
    let one = Version::HTTP_11;
    let two = Version::HTTP_2;
    let host = |name: &str| vec![format!("host: {name}")];
    let plain = h1("GET", "/x?y", &[("host", "A:81")]);
    assert_eq!(
        readdressed(plain.clone(), one, false),
        ("/x?y".into(), host("A:81"))
    );
    assert_eq!(
        readdressed(plain, two, false),
        ("http://A:81/x?y".into(), vec![])
    );
    let absolute = h1("GET", "http://a/x", &[("host", "b")]);
    assert_eq!(
        readdressed(absolute.clone(), one, false),
        ("/x".into(), host("a"))
    );
    assert_eq!(
        readdressed(absolute, two, false),
        ("http://a/x".into(), vec![])
    );
    let query = h1("GET", "http://a?x", &[("host", "a")]);
    assert_eq!(readdressed(query, one, false), ("/?x".into(), host("a")));
    let pseudo = h2("GET", "http://a/x", &[("host", "a")]);
    assert_eq!(
        readdressed(pseudo.clone(), one, false),
        ("/x".into(), host("a"))
    );
    assert_eq!(
        readdressed(pseudo, two, false),
        ("http://a/x".into(), vec![])
    );
    let hosted = h2("GET", "/x", &[("host", "a")]);
    assert_eq!(
        readdressed(hosted.clone(), one, false),
        ("/x".into(), host("a"))
    );
    assert_eq!(
        readdressed(hosted, two, false),
        ("http://a/x".into(), vec![])
    );
    let star = h1("OPTIONS", "*", &[("host", "a")]);
    assert_eq!(readdressed(star, one, false), ("*".into(), host("a")));
    let star = h2("OPTIONS", "*", &[("host", "a")]);
    assert_eq!(readdressed(star, one, false), ("*".into(), host("a")));
}

#[test]
fn a_body_of_unsaid_length_is_announced_between_versions() {
    let body = h2("GET", "http://a/", &[("cookie", "a=1"), ("cookie", "b=2")]);
    let (_, sent) = readdressed(body.clone(), Version::HTTP_11, true);
    assert_eq!(
        sent,
        ["cookie: a=1; b=2", "host: a", "transfer-encoding: chunked"]
    );
    let (_, sent) = readdressed(body, Version::HTTP_11, false);
    assert_eq!(sent, ["cookie: a=1; b=2", "host: a"]);
    let sized = h2("PUT", "http://a/", &[("content-length", "3")]);
    let (_, sent) = readdressed(sized, Version::HTTP_11, true);
    assert_eq!(sent, ["content-length: 3", "host: a"]);
    let chunked = h1(
        "PUT",
        "/",
        &[("host", "a"), ("transfer-encoding", "chunked")],
    );
    let (_, sent) = readdressed(chunked, Version::HTTP_2, true);
    assert_eq!(sent, Vec::<String>::new());
}
