//! CONNECT, TLS, server-first TCP, upgrades: what is looked into, and what passes unread.

use crate::path_forward::PLAIN;
use crate::support::call::Call;
use crate::support::call::HOST;
use crate::support::client::End;
use crate::support::client::Raw;
use crate::support::names::log;
use crate::support::origin;
use crate::support::origin::Act;
use crate::support::origin::Answer;
use crate::support::origin::Origin;
use crate::support::ports;
use crate::support::proxy::Proxy;
use crate::support::setup::Setup;
use crate::support::tcp::Manner;
use crate::support::tcp::Tcp;

/// A TLS 1.2 record with a ClientHello that names `server`.
pub fn client_hello(server: &str) -> Vec<u8> {
    let with_length = |width: usize, bytes: Vec<u8>| {
        let length = u32::try_from(bytes.len())
            .expect("a short hello")
            .to_be_bytes();
        [&length[4 - width..], &bytes].concat()
    };
    let name = [vec![0], with_length(2, server.as_bytes().to_vec())].concat();
    let server_name = [vec![0, 0], with_length(2, with_length(2, name))].concat();
    let mut hello = vec![3, 3];
    hello.extend([7; 32]);
    hello.push(0);
    hello.extend(with_length(2, vec![0x13, 0x01, 0xc0, 0x2f]));
    hello.extend([1, 0]);
    hello.extend(with_length(2, server_name));
    let handshake = [vec![1], with_length(3, hello)].concat();
    [vec![0x16, 3, 1], with_length(2, handshake)].concat()
}

/// A connection through which bytes pass unread.
pub async fn tunnel(proxy: &Proxy, authority: &str) -> Raw {
    let mut raw = Raw::connect(proxy.explicit).await;
    raw.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").as_bytes())
        .await;
    assert_eq!(raw.head("CONNECT").await.0, 200, "CONNECT {authority}");
    raw
}

#[tokio::test]
async fn plain_http_inside_connect_gets_the_whole_policy() {
    let acts = vec![
        Act::Answer(Answer::status(503)),
        Act::Answer(Answer::ok("second")),
    ];
    let origin = Origin::sequence(acts).await;
    let proxy = Setup::shop(&[origin.addr], "retry: { max: 1 }")
        .start()
        .await;
    let mut raw = tunnel(&proxy, "shop.test:80").await;
    assert_eq!(
        raw.call(&Call::get("/inside")).await.is(200).text(),
        "second"
    );
    assert_eq!(
        raw.call(&Call::get("/inside/again")).await.is(200).text(),
        "second"
    );
    let line = proxy.logged_path("/inside").await;
    assert_eq!(
        (line[log::UPSTREAM].as_str(), line[log::TRIES].as_u64()),
        (Some(HOST), Some(2))
    );
}

#[tokio::test]
async fn old_clients_open_tunnels_with_http_1_0() {
    let origin = Origin::always(Answer::ok("x")).await;
    let proxy = Setup::shop(&[origin.addr], PLAIN).start().await;
    let mut raw = Raw::connect(proxy.explicit).await;
    raw.send(b"CONNECT shop.test:80 HTTP/1.0\r\n\r\n").await;
    assert_eq!(raw.head("CONNECT").await.0, 200);
    raw.call(&Call::get("/")).await.is(200);
}

#[tokio::test]
async fn tls_inside_connect_is_tunnelled_and_named() {
    let server = Tcp::start(Manner::Echo).await;
    let proxy = Setup::new().start().await;
    let mut raw = tunnel(&proxy, &server.addr.to_string()).await;
    let hello = client_hello("api.shop.test");
    // In two parts: the name must be found across reads, and no byte lost.
    raw.send(&hello[..20]).await;
    raw.send(&hello[20..]).await;
    raw.expect(&hello).await;
    raw.send(b"\x17\x03\x03\x00\x02ok").await;
    raw.expect(b"\x17\x03\x03\x00\x02ok").await;
    raw.finish().await;
    assert_eq!(raw.end().await.0, End::Closed);
    let line = proxy
        .logged("the tunnel's line", |line| {
            line[log::SNI] == "api.shop.test"
        })
        .await;
    let sent = u64::try_from(hello.len() + 7).ok();
    assert_eq!(
        (line[log::BYTES_IN].as_u64(), line[log::BYTES_OUT].as_u64()),
        (sent, sent),
        "{line}"
    );
    proxy
        .until_sum("outrider_tunnels_total", &[("kind", "tls")], |count| {
            count == 1.0
        })
        .await;
}

#[tokio::test]
async fn a_server_that_speaks_first_is_not_kept_waiting() {
    let server = Tcp::start(Manner::Banner(b"220 ready\r\n".to_vec())).await;
    // By time: nobody speaks, so the bytes are taken for opaque.
    let proxy = Setup::new().limits("detect: 50ms").start().await;
    let mut raw = tunnel(&proxy, &server.addr.to_string()).await;
    raw.expect(b"220 ready\r\n").await;
    raw.send(b"HELO there\r\n").await;
    raw.expect(b"HELO there\r\n").await;
    proxy
        .until_sum(
            "outrider_tunnels_total",
            &[("kind", "server_first")],
            |count| count == 1.0,
        )
        .await;

    // By policy: `protocol: tcp` does not wait at all.
    let setup = Setup::new().limits("detect: 30s");
    let proxy = setup
        .upstream("mail.test", &[server.addr], "protocol: tcp")
        .start()
        .await;
    let mut raw = tunnel(&proxy, "mail.test:25").await;
    raw.expect(b"220 ready\r\n").await;
}

#[tokio::test]
async fn opaque_bytes_pass_with_their_half_close() {
    let server = Tcp::start(Manner::Echo).await;
    let proxy = Setup::new().start().await;
    let mut raw = tunnel(&proxy, &server.addr.to_string()).await;
    let bytes: Vec<u8> = b"*1\r\n$4\r\nPING\r\n".repeat(2000);
    raw.send(&bytes).await;
    raw.finish().await;
    let (end, echoed) = raw.end().await;
    assert!(
        end == End::Closed && echoed == bytes,
        "{end:?}, {} of {} bytes",
        echoed.len(),
        bytes.len()
    );
    assert!(server.received() == bytes);
    proxy
        .until_sum("outrider_tunnels_total", &[("kind", "opaque")], |count| {
            count == 1.0
        })
        .await;
}

#[tokio::test]
async fn a_tunnel_goes_past_an_endpoint_that_refuses_it() {
    let server = Tcp::start(Manner::Banner(b"220 ready\r\n".to_vec())).await;
    let endpoints = [ports::closed(), server.addr];
    let proxy = Setup::new()
        .upstream(
            "mail.test",
            &endpoints,
            "protocol: tcp\neject: { consecutive: 1 }",
        )
        .start()
        .await;
    // As many as make it next to certain that the closed one was drawn first at least once.
    for _ in 0..16 {
        let mut raw = tunnel(&proxy, "mail.test:25").await;
        raw.expect(b"220 ready\r\n").await;
    }
    assert_eq!(server.connections(), 16);
    proxy
        .until_sum(
            "outrider_connect_failures_total",
            &[("reason", "connect_refused")],
            |count| count == 1.0,
        )
        .await;
    proxy
        .until_sum("outrider_ejections_total", &[], |ejected| ejected == 1.0)
        .await;
}

#[tokio::test]
async fn open_tunnels_are_spread_over_the_endpoints() {
    let banner = || Tcp::start(Manner::Banner(b"220 ready\r\n".to_vec()));
    let (one, other) = (banner().await, banner().await);
    let proxy = Setup::new()
        .upstream("mail.test", &[one.addr, other.addr], "protocol: tcp")
        .start()
        .await;
    let mut held = Vec::new();
    for _ in 0..6 {
        let mut raw = tunnel(&proxy, "mail.test:25").await;
        raw.expect(b"220 ready\r\n").await;
        held.push(raw);
    }
    assert_eq!((one.connections(), other.connections()), (3, 3));
}

#[tokio::test]
async fn tunnels_follow_weights_and_stay_in_their_zone() {
    let banner = || Tcp::start(Manner::Banner(b"220 ready\r\n".to_vec()));
    let (light, heavy, far) = (banner().await, banner().await, banner().await);
    let zones = format!(
        "a: [{}, {{ address: {}, weight: 2 }}], b: [{}]",
        light.addr, heavy.addr, far.addr
    );
    let proxy = Setup::new()
        .top("zone: a")
        .block(&format!(
            "upstream: mail.test\nendpoints: {{ zones: {{ {zones} }} }}\nprotocol: tcp"
        ))
        .start()
        .await;
    let mut held = Vec::new();
    for _ in 0..6 {
        let mut raw = tunnel(&proxy, "mail.test:25").await;
        raw.expect(b"220 ready\r\n").await;
        held.push(raw);
    }
    let connections = [&light, &heavy, &far].map(Tcp::connections);
    assert_eq!(connections, [2, 4, 0]);
}

#[tokio::test]
async fn a_tunnel_that_is_reset_is_counted_all_the_same() {
    let server = Tcp::start(Manner::Echo).await;
    let proxy = Setup::new().start().await;
    let mut raw = tunnel(&proxy, &server.addr.to_string()).await;
    raw.send(b"*1\r\n$4\r\nPING\r\n").await;
    raw.expect(b"*1\r\n$4\r\nPING\r\n").await;
    origin::reset(&raw.wire.io);
    drop(raw);
    let line = proxy
        .logged("the tunnel's line", |line| {
            line[log::BYTES_IN].as_u64() == Some(14)
        })
        .await;
    assert_eq!(
        (line[log::BYTES_IN].as_u64(), line[log::BYTES_OUT].as_u64()),
        (Some(14), Some(14)),
        "{line}"
    );
}

#[tokio::test]
async fn a_tunnel_to_nowhere_says_so() {
    let proxy = Setup::new().limits("detect: 50ms").start().await;
    let authority = ports::closed().to_string();
    let mut raw = Raw::connect(proxy.explicit).await;
    raw.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").as_bytes())
        .await;
    raw.offer(&client_hello("nowhere.test")).await;
    // The protocol is only known after 200, so a refusal either comes as an answer or as the end of the tunnel.
    match raw.try_reply("CONNECT").await {
        Ok(Some(reply)) if reply.status == 200 => assert_eq!(raw.end().await.1, b""),
        Ok(Some(reply)) => {
            reply.is_own(502, &["connect_refused"]);
        }
        other => panic!("neither an answer nor a tunnel: {other:?}"),
    }
    let line = proxy
        .logged("the tunnel's line", |line| {
            line[log::REASON] == "connect_refused"
        })
        .await;
    assert!(
        line[log::HOST]
            .as_str()
            .is_some_and(|host| host.contains("127.0.0.1")),
        "{line}"
    );
}

#[tokio::test]
async fn a_denied_tunnel_is_refused() {
    let server = Tcp::start(Manner::Echo).await;
    let proxy = Setup::new().top("unmatched: deny").start().await;
    let authority = server.addr.to_string();
    let mut raw = Raw::connect(proxy.explicit).await;
    raw.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").as_bytes())
        .await;
    let reply = raw.try_reply("CONNECT").await;
    match reply {
        Ok(Some(reply)) if reply.status == 200 => {
            raw.offer(&client_hello("denied.test")).await;
            assert_eq!(raw.end().await.1, b"");
        }
        Ok(Some(reply)) => {
            reply.is_own(403, &["unmatched"]);
        }
        other => panic!("neither an answer nor a tunnel: {other:?}"),
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn connect_to_ourselves_is_a_loop() {
    let proxy = Setup::new().start().await;
    let authority = proxy.outbound.to_string();
    let mut raw = Raw::connect(proxy.explicit).await;
    raw.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").as_bytes())
        .await;
    match raw.try_reply("CONNECT").await {
        Ok(Some(reply)) if reply.status == 200 => {
            raw.offer(&client_hello("loop.test")).await;
            assert_eq!(raw.end().await.1, b"");
        }
        Ok(Some(reply)) => {
            reply.is_own(508, &["loop_detected"]);
        }
        other => panic!("neither an answer nor a tunnel: {other:?}"),
    }
}

#[tokio::test]
async fn an_upgrade_joins_both_sides() {
    let origin = Origin::start(|asked| match asked.target {
        "/ws" => Act::Upgrade,
        _ => Act::Answer(
            Answer::status(426)
                .field("upgrade", "echo")
                .text("upgrade first"),
        ),
    })
    .await;
    let proxy = Setup::shop(&[origin.addr], PLAIN).start().await;
    let mut raw = proxy.connect().await;
    let call = Call::get("/ws")
        .field("Connection", "Upgrade")
        .field("Upgrade", "echo")
        .field("Sec-WebSocket-Key", "k");
    raw.send(&call.bytes()).await;
    let (status, head, _) = raw.head("GET").await;
    assert_eq!((status, head.get("upgrade")), (101, Some("echo")));
    for piece in [
        &b"\x81\x02hi"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        &vec![0xff; 100_000],
    ] {
        raw.send(piece).await;
        raw.expect(piece).await;
    }
    let sent = origin.only().head;
    assert_eq!(
        (
            sent.get("upgrade"),
            sent.get("connection").map(str::to_lowercase).as_deref()
        ),
        (Some("echo"), Some("upgrade"))
    );
    raw.finish().await;
    assert_eq!(raw.end().await, (End::Closed, Vec::new()));
    assert_eq!(proxy.logged_path("/ws").await[log::STATUS], 101);

    // An upstream that declines answers as ever, and the connection stays usable.
    let mut raw = proxy.connect().await;
    let declined = Call::get("/no")
        .field("Connection", "Upgrade")
        .field("Upgrade", "echo");
    assert_eq!(raw.call(&declined).await.is(426).text(), "upgrade first");
    raw.call(&Call::get("/again")).await.is(426);
}

#[tokio::test]
async fn an_upgrade_that_would_hide_http_is_not_passed_on() {
    let origin = Origin::always(Answer::ok("plain")).await;
    let proxy = Setup::shop(&[origin.addr], PLAIN).start().await;
    let call = Call::get("/")
        .field("Connection", "Upgrade, HTTP2-Settings")
        .field("Upgrade", "h2c");
    proxy
        .call(&call.field("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA"))
        .await
        .is(200);
    let head = origin.only().head;
    assert!(!head.has("upgrade") && !head.has("http2-settings"));
}
