//! Every refusal of `strict::check`, and what must not be refused. What follows a check is tested in `hop.rs`.

use http::HeaderName;
use http::HeaderValue;
use http::Method;
use http::Uri;
use http::Version;
use http::request::Parts;

use super::LIMITS;
use super::h1;
use super::h2;
use super::head;
use crate::http::Reason;
use crate::http::strict::Door;
use crate::http::strict::Form;
use crate::http::strict::Framing;
use crate::http::strict::HeadLimits;
use crate::http::strict::Target;
use crate::http::strict::check;

fn outbound(parts: &Parts) -> Result<Target, Reason> {
    check(parts, &LIMITS, Door::Outbound)
}

fn explicit(parts: &Parts) -> Result<Target, Reason> {
    check(parts, &LIMITS, Door::Explicit)
}

#[track_caller]
fn refused(parts: &Parts, reason: Reason) {
    assert_eq!(
        outbound(parts).map(|target| target.as_str().to_owned()),
        Err(reason),
        "{parts:?}"
    );
}

#[track_caller]
fn passed(parts: &Parts) -> Target {
    outbound(parts).unwrap_or_else(|reason| panic!("{reason} for {parts:?}"))
}

#[test]
fn host_names_the_target() {
    for (host, name, port) in [
        ("payments.shop", "payments.shop", None),
        ("Payments.SHOP:8080", "payments.shop", Some(8080)),
        ("payments.shop.", "payments.shop", None),
        ("payments.shop.:80", "payments.shop", Some(80)),
        ("my_service", "my_service", None),
        ("10.0.0.1:65535", "10.0.0.1", Some(65535)),
        ("[::1]", "::1", None),
        ("[FE80::1]:9", "fe80::1", Some(9)),
        ("3com.example", "3com.example", None),
        ("v2", "v2", None),
    ] {
        let target = passed(&h1("GET", "/", &[("host", host)]));
        assert_eq!((target.host(), target.port), (name, port), "{host}");
        assert_eq!(target.as_str(), host, "sent on as written");
        assert_eq!(target.host_value(), host);
        assert_eq!(target.authority().as_str(), host);
        assert_eq!(target.form, Form::Origin);
    }
    assert_eq!(
        passed(&h1("GET", "/", &[("host", "a")])).port_or_default(),
        80
    );
}

#[test]
fn invalid_hosts_are_refused() {
    let long_label = "a".repeat(64);
    let long_name = "a.".repeat(127) + "b";
    for host in [
        "",
        ".",
        ":80",
        "a..b",
        ".a",
        "a:",
        "a:0",
        "a:080",
        "a:65536",
        "a:100000",
        "a:8x",
        "a:+8",
        "a:80:80",
        "a b",
        "a,b",
        "a/b",
        "a?b",
        "a#b",
        "user@a",
        "user:pw@a",
        "a%20b",
        "a\\b",
        "a\tb",
        "[::1",
        "[::1]x",
        "[::1]:",
        "[fe80::1%25eth0]",
        "[a]",
        "::1",
        "]",
        "[]",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "0177.0.0.1",
        "1.2.3.4.5",
        "256.1.1.1",
        "a.b.1",
        long_label.as_str(),
        long_name.as_str(),
    ] {
        refused(&h1("GET", "/", &[("host", host)]), Reason::InvalidHost);
    }
    let mut high = h1("GET", "/", &[]);
    let value = HeaderValue::from_bytes(b"caf\xc3\xa9").unwrap();
    high.headers.insert("host", value);
    refused(&high, Reason::InvalidHost);
}

#[test]
fn host_is_there_once() {
    refused(&h1("GET", "/", &[]), Reason::InvalidHost);
    refused(
        &head(Version::HTTP_10, "GET", "/", &[]),
        Reason::InvalidHost,
    );
    refused(
        &h1("GET", "/", &[("host", "a"), ("host", "a")]),
        Reason::InvalidHost,
    );
    refused(
        &h1("GET", "/", &[("host", "a"), ("host", "b")]),
        Reason::InvalidHost,
    );
    refused(
        &h2("GET", "/", &[("host", "a"), ("host", "a")]),
        Reason::InvalidHost,
    );
    refused(&h2("GET", "/", &[]), Reason::InvalidHost);
}

#[test]
fn http_10_target_with_authority_needs_no_host() {
    let absolute = head(Version::HTTP_10, "GET", "http://a:8080/", &[]);
    assert_eq!(passed(&absolute).as_str(), "a:8080");
    let tunnel = head(Version::HTTP_10, "CONNECT", "a:443", &[]);
    assert_eq!(passed(&tunnel).port, Some(443));
    refused(&h1("GET", "http://a/", &[]), Reason::InvalidHost);
    refused(&h1("CONNECT", "a:443", &[]), Reason::InvalidHost);
}

#[test]
fn absolute_form_agrees_with_host_where_traffic_was_captured() {
    for (uri, host) in [
        ("http://a/x", "a"),
        ("http://A/x", "a."),
        ("http://a:80/x", "a"),
        ("http://a/x", "a:80"),
        ("http://a?x=1", "a"),
    ] {
        let parts = h1("GET", uri, &[("host", host)]);
        assert_eq!(passed(&parts).form, Form::Absolute, "{uri} {host}");
    }
    for (uri, host) in [
        ("http://a/", "b"),
        ("http://a:81/", "a"),
        ("http://a/", "a:8080"),
    ] {
        let parts = h1("GET", uri, &[("host", host)]);
        refused(&parts, Reason::InvalidTarget);
        let target = explicit(&parts).expect("the proxy takes the target");
        assert_eq!(target.as_str(), parts.uri.authority().unwrap().as_str());
    }
}

#[test]
fn a_bad_host_is_refused_beside_an_absolute_target() {
    let parts = h1("GET", "http://a/", &[("host", "b c")]);
    assert_eq!(explicit(&parts).err(), Some(Reason::InvalidHost));
}

#[test]
fn targets_that_cannot_be_forwarded_are_refused() {
    for (method, uri) in [
        ("GET", "https://a/"),
        ("GET", "ftp://a/"),
        ("GET", "http://user@a/"),
        ("GET", "http://user:pw@a/"),
        ("GET", "http://127.1/"),
        ("GET", "http://a:0/"),
        ("GET", "a:80"),
        ("GET", "a"),
        ("GET", "*"),
        ("CONNECT", "/"),
        ("CONNECT", "a"),
        ("CONNECT", "http://a:80/"),
        ("CONNECT", "user@a:443"),
    ] {
        refused(&h1(method, uri, &[("host", "a")]), Reason::InvalidTarget);
    }
    let options = passed(&h1("OPTIONS", "*", &[("host", "a")]));
    assert_eq!(options.form, Form::Asterisk);
}

#[test]
fn connect_names_host_and_port() {
    let target = passed(&h1("CONNECT", "Example.com:443", &[("host", "other")]));
    assert_eq!((target.host(), target.port), ("example.com", Some(443)));
    assert_eq!(target.form, Form::Authority);
    let parts = h1("CONNECT", "[::1]:443", &[("host", "[::1]:443")]);
    assert_eq!(passed(&parts).host(), "::1");
}

#[test]
fn a_connect_has_no_body() {
    let with = |name, value| h1("CONNECT", "a:443", &[("host", "a:443"), (name, value)]);
    refused(&with("content-length", "1"), Reason::InvalidFraming);
    refused(
        &with("transfer-encoding", "chunked"),
        Reason::InvalidFraming,
    );
    passed(&with("content-length", "0"));
}

#[test]
fn framing_is_read_one_way() {
    let framing = |fields: &[(&str, &str)]| {
        let all = [&[("host", "a")], fields].concat();
        outbound(&h1("POST", "/", &all)).map(|target| target.framing)
    };
    assert_eq!(framing(&[]), Ok(Framing::Unsaid));
    assert_eq!(framing(&[("content-length", "0")]), Ok(Framing::Length(0)));
    let most = ("content-length", "18446744073709551615");
    assert_eq!(framing(&[most]), Ok(Framing::Length(u64::MAX)));
    assert_eq!(
        framing(&[("transfer-encoding", "Chunked")]),
        Ok(Framing::Chunked)
    );
    for fields in [
        &[("content-length", "5"), ("content-length", "5")][..],
        &[("content-length", "5"), ("content-length", "6")],
        &[("content-length", "5, 5")],
        &[("content-length", "5,5")],
        &[("content-length", "+5")],
        &[("content-length", "-5")],
        &[("content-length", "0x5")],
        &[("content-length", "5 ")],
        &[("content-length", "5.0")],
        &[("content-length", "")],
        &[("content-length", "18446744073709551616")],
        &[("content-length", "99999999999999999999999")],
        &[("transfer-encoding", "chunked"), ("content-length", "5")],
        &[("content-length", "5"), ("transfer-encoding", "chunked")],
        &[
            ("transfer-encoding", "chunked"),
            ("transfer-encoding", "chunked"),
        ],
        &[("transfer-encoding", "chunked, chunked")],
        &[("transfer-encoding", "gzip, chunked")],
        &[("transfer-encoding", "chunked, gzip")],
        &[("transfer-encoding", "identity")],
        &[("transfer-encoding", "xchunked")],
        &[("transfer-encoding", "chunked;q=1")],
        &[
            (
                "transfer-encoding",
                "\u{b}chunked".trim_start_matches('\u{b}'),
            ),
            ("transfer-encoding", "x"),
        ],
        &[("transfer-encoding", "")],
    ] {
        assert_eq!(framing(fields), Err(Reason::InvalidFraming), "{fields:?}");
    }
    let old = [("host", "a"), ("transfer-encoding", "chunked")];
    refused(
        &head(Version::HTTP_10, "POST", "/", &old),
        Reason::InvalidFraming,
    );
}

#[test]
fn names_that_play_at_being_framing_are_refused() {
    for name in [
        "transfer_encoding",
        "Transfer_Encoding",
        "content_length",
        "content.length",
        "transfer.encoding",
        "transfer~encoding",
        "content'length",
        "_content-length",
        "content-length_",
        "host_",
        "ho_st",
        "t_e",
        "connection.",
        "keep_alive",
        "proxy_connection",
        "upgrade!",
        "ex|pect",
        "http2_settings",
    ] {
        refused(
            &h1("GET", "/", &[("host", "a"), (name, "1")]),
            Reason::InvalidHeader,
        );
        refused(
            &h2("GET", "http://a/", &[(name, "1")]),
            Reason::InvalidHeader,
        );
    }
    for name in [
        "x_forwarded_for",
        "x.y",
        "my_host",
        "hosts",
        "x_content_length",
        "~",
        "te2_",
    ] {
        passed(&h1("GET", "/", &[("host", "a"), (name, "1")]));
    }
    let mut quoted = h2("GET", "http://a/", &[]);
    let name = HeaderName::from_lowercase(b"x\"y").expect("let pass for HTTP/2");
    quoted.headers.insert(name, HeaderValue::from_static("1"));
    refused(&quoted, Reason::InvalidHeader);
}

/// What `check` leaves to the types. Should a new version of `http` let one of these through, this says so.
#[test]
fn the_types_hold_what_is_not_checked_again() {
    for byte in (0..=255_u8).filter(|byte| byte.is_ascii_control() && *byte != b'\t') {
        assert!(
            HeaderValue::from_bytes(&[b'a', byte, b'b']).is_err(),
            "value {byte}"
        );
    }
    for byte in (0..=255_u8).filter(|byte| byte.is_ascii_control() || *byte == b' ') {
        assert!(
            Uri::from_maybe_shared(vec![b'/', byte]).is_err(),
            "path {byte}"
        );
        assert!(
            Uri::from_maybe_shared(vec![b'/', b'?', byte]).is_err(),
            "query {byte}"
        );
    }
    for byte in (0..=255_u8)
        .filter(|byte| !byte.is_ascii_graphic() || b"()<>@,;:\\\"/[]?={}".contains(byte))
    {
        assert!(Method::from_bytes(&[b'G', byte]).is_err(), "method {byte}");
        assert!(
            HeaderName::from_bytes(&[b'a', byte]).is_err(),
            "name {byte}"
        );
        // `"` is the one that HTTP/2 names let through, and `check` refuses.
        assert!(
            byte == b'"' || HeaderName::from_lowercase(&[b'a', byte]).is_err(),
            "name {byte}"
        );
    }
    assert_eq!(
        "/a#b".parse::<Uri>().unwrap().to_string(),
        "/a",
        "a fragment is not sent on"
    );
}

#[test]
fn limits_are_held() {
    let limits = HeadLimits {
        headers: 3,
        uri: 20,
    };
    let of = |uri: &str, fields: &[(&str, &str)]| {
        let all = [&[("host", "a")], fields].concat();
        check(&h1("GET", uri, &all), &limits, Door::Outbound).err()
    };
    let two = [("x", "1"), ("x", "2")];
    assert_eq!(of("/", &two), None);
    assert_eq!(
        of("/", &[two[0], two[1], ("y", "3")]),
        Some(Reason::HeadTooLarge)
    );
    assert_eq!(of(&format!("/{}", "p".repeat(19)), &[]), None);
    assert_eq!(
        of(&format!("/{}", "p".repeat(20)), &[]),
        Some(Reason::UriTooLong)
    );
    assert_eq!(
        of(&format!("/?{}", "q".repeat(19)), &[]),
        Some(Reason::UriTooLong)
    );
    assert_eq!(
        of(&format!("http://a/{}", "p".repeat(12)), &[]),
        Some(Reason::UriTooLong)
    );
}

#[test]
fn unknown_versions_are_refused() {
    for version in [Version::HTTP_09, Version::HTTP_3] {
        refused(
            &head(version, "GET", "/", &[("host", "a")]),
            Reason::MalformedRequest,
        );
    }
}

#[test]
fn http2_reads_the_pseudo_fields() {
    let target = passed(&h2("GET", "http://A.b:81/x", &[]));
    assert_eq!((target.host(), target.port), ("a.b", Some(81)));
    assert_eq!(target.form, Form::Origin);
    assert_eq!(passed(&h2("GET", "/x", &[("host", "a")])).host(), "a");
    passed(&h2("GET", "http://a/x", &[("host", "A.:80")]));
    passed(&h2(
        "POST",
        "http://a/x",
        &[("te", "trailers"), ("content-length", "3")],
    ));
    passed(&h2("OPTIONS", "*", &[("host", "a")]));
    refused(
        &h2("GET", "http://a/x", &[("host", "b")]),
        Reason::InvalidHost,
    );
    refused(&h2("GET", "http://user@a/x", &[]), Reason::InvalidTarget);
    refused(&h2("GET", "https://a/x", &[]), Reason::InvalidTarget);
    refused(&h2("GET", "*", &[("host", "a")]), Reason::InvalidTarget);
    refused(&h2("CONNECT", "a:443", &[]), Reason::MethodUnsupported);
    let mut bare = h2("GET", "/", &[("host", "a")]);
    bare.uri = Uri::from(http::uri::PathAndQuery::try_from("?x").unwrap());
    refused(&bare, Reason::InvalidTarget);
    let mut empty = h2("GET", "/", &[("host", "a")]);
    empty.uri = Uri::from(http::uri::PathAndQuery::try_from("#x").unwrap());
    refused(&empty, Reason::InvalidTarget);
}

#[test]
fn http2_fields_that_would_smuggle_are_refused() {
    for (name, value, reason) in [
        ("connection", "close", Reason::InvalidHeader),
        ("keep-alive", "timeout=5", Reason::InvalidHeader),
        ("proxy-connection", "keep-alive", Reason::InvalidHeader),
        ("upgrade", "h2c", Reason::InvalidHeader),
        ("te", "gzip", Reason::InvalidHeader),
        ("te", "trailers, gzip", Reason::InvalidHeader),
        ("transfer-encoding", "chunked", Reason::InvalidFraming),
        ("content-length", "1, 1", Reason::InvalidFraming),
        ("x", " a", Reason::InvalidHeader),
        ("x", "a ", Reason::InvalidHeader),
        ("x", "\ta", Reason::InvalidHeader),
    ] {
        refused(&h2("POST", "http://a/", &[(name, value)]), reason);
    }
    let twice = [("content-length", "1"), ("content-length", "1")];
    refused(&h2("POST", "http://a/", &twice), Reason::InvalidFraming);
}

#[test]
fn only_harmless_upgrades_are_passed_on() {
    let upgrade = |connection: &str, protocol: &str| {
        let fields = [
            ("host", "a"),
            ("connection", connection),
            ("upgrade", protocol),
        ];
        passed(&h1("GET", "/", &fields)).upgrade
    };
    assert!(upgrade("Upgrade", "websocket"));
    assert!(upgrade("keep-alive, upgrade", "WebSocket"));
    assert!(upgrade("upgrade", "tcp"));
    assert!(
        !upgrade("keep-alive", "websocket"),
        "Connection does not ask for it"
    );
    for hidden in ["h2c", "H2C", "websocket, h2c", "h2", "TLS/1.0", "HTTP/2.0"] {
        assert!(!upgrade("upgrade", hidden), "{hidden}");
    }
    let fields = [
        ("host", "a"),
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
    ];
    assert!(!passed(&head(Version::HTTP_10, "GET", "/", &fields)).upgrade);
    assert!(!passed(&h1("GET", "/", &fields[..2])).upgrade);
}
