//! The support against itself: what the tests stand on must hold before it can blame the proxy.

use bytes::Bytes;
use http::HeaderMap;

use crate::support::blackhole::Blackhole;
use crate::support::call::Call;
use crate::support::call::HOST;
use crate::support::client::End;
use crate::support::client::Raw;
use crate::support::dns::Dns;
use crate::support::dns::Zone;
use crate::support::h2client;
use crate::support::h2client::H2;
use crate::support::h2frame;
use crate::support::h2origin::H2Act;
use crate::support::h2origin::H2Origin;
use crate::support::h2origin::RawAct;
use crate::support::h2raw;
use crate::support::h2raw::Fate;
use crate::support::h2raw::H2Raw;
use crate::support::metrics::Metrics;
use crate::support::origin::Act;
use crate::support::origin::After;
use crate::support::origin::Answer;
use crate::support::origin::Gate;
use crate::support::origin::Origin;
use crate::support::origin::pattern;
use crate::support::ports;
use crate::support::setup::Setup;
use crate::support::tcp::Manner;
use crate::support::tcp::Tcp;
use crate::support::until;
use crate::support::wire::Fault;
use crate::support::wire::Head;

#[tokio::test]
async fn an_origin_answers_keeps_the_connection_and_remembers() {
    let origin = Origin::always(Answer::ok("hello").field("x-a", "1")).await;
    let mut raw = Raw::connect(origin.addr).await;
    for n in 0..3 {
        let reply = raw.call(&Call::post("/p", format!("body {n}"))).await;
        assert_eq!(
            (reply.status, reply.text().as_str(), reply.get("x-a")),
            (200, "hello", Some("1"))
        );
    }
    assert_eq!(
        (origin.connections(), origin.requests(), origin.open()),
        (1, 3, 1)
    );
    let seen = origin.seen();
    assert!(
        seen.iter()
            .all(|seen| seen.whole && seen.fault.is_none() && seen.target == "/p")
    );
    assert_eq!(seen[2].body.content, b"body 2");
    assert_eq!(seen[2].head.get("host"), Some(HOST));
}

#[tokio::test]
async fn a_script_knows_what_it_is_asked() {
    let origin = Origin::start(|asked| {
        let name = asked.head.get("x-name").unwrap_or_default();
        Act::Answer(
            Answer::ok(format!(
                "{} {} {} {name}",
                asked.connection, asked.nth, asked.n
            ))
            .then(After::HalfClose),
        )
    })
    .await;
    for n in 0..2 {
        let mut raw = Raw::connect(origin.addr).await;
        assert_eq!(
            raw.call(&Call::get("/").field("X-Name", "it")).await.text(),
            format!("{n} 0 {n} it")
        );
        raw.finish().await;
        assert_eq!(raw.end().await, (End::Closed, Vec::new()));
    }
    assert_eq!(origin.seen()[1].connection, 1);
}

#[tokio::test]
async fn an_origin_sends_chunks_with_trailers() {
    let origin = Origin::always(
        Answer::status(200)
            .chunked(&[b"one", b"two"])
            .trailer("x-sum", "6"),
    )
    .await;
    let reply = Call::get("/").to(origin.addr).await;
    assert_eq!((reply.text().as_str(), reply.body.pieces), ("onetwo", 2));
    assert_eq!(reply.body.trailers, [("x-sum".to_owned(), "6".to_owned())]);
}

#[tokio::test]
async fn an_origin_can_be_held_cut_reset_and_silent() {
    let gate = Gate::new();
    let answer = Answer::ok("0123456789");
    let acts = vec![
        Act::Hold(gate.clone(), Box::new(Act::Answer(answer.clone()))),
        Act::Cut(answer.clone(), answer.bytes(false).len() - 4, After::Close),
        Act::Cut(answer.clone(), 0, After::Reset),
        Act::Raw(b"nonsense\r\n\r\n".to_vec(), After::Close),
        Act::Drip(answer.clone(), 16),
        Act::Silence,
    ];
    let origin = Origin::sequence(acts).await;
    let mut held = Raw::connect(origin.addr).await;
    held.send(&Call::get("/held").bytes()).await;
    until("the origin has it", || async {
        (origin.requests() == 1).then_some(())
    })
    .await;
    gate.open();
    assert_eq!(held.reply("GET").await.text(), "0123456789");

    let fault = |reply| match reply {
        Err(fault) => fault,
        Ok(reply) => panic!("expected a fault, got {reply:?}"),
    };
    let mut cut = Raw::connect(origin.addr).await;
    cut.send(&Call::get("/cut").bytes()).await;
    assert!(matches!(fault(cut.try_reply("GET").await), Fault::Short(_)));
    let mut reset = Raw::connect(origin.addr).await;
    reset.send(&Call::get("/reset").bytes()).await;
    assert!(matches!(fault(reset.try_reply("GET").await), Fault::Io(_)));
    let mut odd = Raw::connect(origin.addr).await;
    odd.send(&Call::get("/odd").bytes()).await;
    assert!(matches!(fault(odd.try_reply("GET").await), Fault::Rule(_)));
    assert_eq!(
        Call::get("/drip").to(origin.addr).await.text(),
        "0123456789"
    );
    let mut silent = Raw::connect(origin.addr).await;
    silent.send(&Call::get("/silent").bytes()).await;
    silent.finish().await;
    assert_eq!(silent.end().await, (End::Closed, Vec::new()));
}

#[tokio::test]
async fn an_origin_plays_the_keep_alive_race() {
    let origin = Origin::always(Answer::ok("x").then(After::Race)).await;
    let mut raw = Raw::connect(origin.addr).await;
    assert_eq!(raw.call(&Call::get("/1")).await.status, 200);
    raw.offer(&Call::get("/2").bytes()).await;
    assert_eq!(raw.end().await.0, End::Reset);
    assert_eq!(origin.requests(), 1);
}

#[tokio::test]
async fn an_origin_honours_expect_and_head() {
    let origin = Origin::always(Answer::ok("body")).await;
    let mut raw = Raw::connect(origin.addr).await;
    let call = Call::post("/", "late").field("Expect", "100-continue");
    let bytes = call.bytes();
    raw.send(&bytes[..bytes.len() - 4]).await;
    raw.expect(b"HTTP/1.1 100 Continue\r\n\r\n").await;
    raw.send(b"late").await;
    assert_eq!(raw.reply("POST").await.text(), "body");
    assert_eq!(raw.call(&Call::new("HEAD", "/")).await.text(), "");
}

#[tokio::test]
async fn an_origin_streams_upgrades_and_floods() {
    let acts = vec![Act::Duplex, Act::Flood(1 << 20), Act::Upgrade];
    let origin = Origin::sequence(acts).await;
    let mut raw = Raw::connect(origin.addr).await;
    raw.send(
        format!(
            "{}Transfer-Encoding: chunked\r\n\r\n",
            Call::new("POST", "/duplex").head()
        )
        .as_bytes(),
    )
    .await;
    let _ = raw.head("POST").await;
    for piece in [b"ping", b"pong"] {
        raw.send(&crate::support::origin::chunk(piece)).await;
        raw.expect(&crate::support::origin::chunk(piece)).await;
    }
    raw.send(b"0\r\n\r\n").await;
    raw.expect(b"0\r\n\r\n").await;
    assert!(raw.call(&Call::get("/flood")).await.body.content == pattern(1 << 20));
    assert_eq!(origin.sent(), 1 << 20);
    raw.send(
        &Call::get("/ws")
            .field("Connection", "upgrade")
            .field("Upgrade", "echo")
            .bytes(),
    )
    .await;
    assert_eq!(raw.head("GET").await.0, 101);
    raw.send(b"raw bytes").await;
    raw.expect(b"raw bytes").await;
}

#[tokio::test]
async fn an_origin_objects_to_what_can_be_read_in_two_ways() {
    let origin = Origin::always(Answer::ok("x")).await;
    for odd in [
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: 1\nY: 2\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent_Length: 3\r\n\r\n",
    ] {
        let mut raw = Raw::connect(origin.addr).await;
        raw.send(odd.as_bytes()).await;
        assert_eq!(raw.reply("GET").await.status, 400, "{odd:?}");
        assert!(
            origin
                .seen()
                .last()
                .is_some_and(|seen| seen.fault.is_some()),
            "{odd:?}"
        );
    }
}

#[tokio::test]
async fn heads_and_metrics_are_read() {
    let head = Head::parse(b"HTTP/1.1 200 OK\r\nA: \xff b \r\na:c\r\n\r\n").expect("a good head");
    assert_eq!(head.all("a"), ["\u{ff} b", "c"]);
    let metrics = Metrics::parse(
        "# TYPE a counter\na_total{x=\"1\",y=\"q\\\"}\"} 2\na_total{x=\"2\",y=\"\"} 3.5\nb 1\n# EOF\n",
    );
    assert!((metrics.sum("a_total", &[]) - 5.5).abs() < 1e-9);
    assert!((metrics.sum("a_total", &[("x", "1"), ("y", "q\"}")]) - 2.0).abs() < 1e-9);
    assert_eq!(metrics.families(), ["a"]);
}

#[tokio::test]
async fn tcp_servers_black_holes_and_closed_ports() {
    let banner = Tcp::start(Manner::Banner(b"220 hi\r\n".to_vec())).await;
    let mut raw = Raw::connect(banner.addr).await;
    raw.expect(b"220 hi\r\n").await;
    raw.send(b"HELO").await;
    raw.expect(b"HELO").await;
    assert_eq!(
        (banner.connections(), banner.received()),
        (1, b"HELO".to_vec())
    );
    let echo = Tcp::start(Manner::Echo).await;
    let mut raw = Raw::connect(echo.addr).await;
    raw.send(b"abc").await;
    raw.finish().await;
    assert_eq!(raw.end().await, (End::Closed, b"abc".to_vec()));
    let resetting = Tcp::start(Manner::Reset).await;
    assert_eq!(Raw::connect(resetting.addr).await.end().await.0, End::Reset);
    assert!(Raw::try_connect(ports::closed()).await.is_err());
    let hole = Blackhole::start();
    let connect = tokio::net::TcpStream::connect(hole.addr);
    let waited = tokio::time::timeout(std::time::Duration::from_millis(50), connect).await;
    assert!(waited.is_err(), "a black hole neither accepts nor refuses");
}

#[tokio::test]
async fn http2_origins_and_clients() {
    let origin = H2Origin::start(|n, _| match n {
        0 => H2Act::ok("h2"),
        1 => H2Act::grpc(b"\0\0\0\0\x01a", 0),
        2 => H2Act::grpc_only(14),
        _ => H2Act::Echo,
    })
    .await;
    let h2 = H2::connect(origin.addr).await;
    assert_eq!(h2.get("/plain").await.body, "h2");
    let reply = h2.call(h2client::grpc("/a.B/C", b"\0\0\0\0\0")).await;
    assert_eq!((reply.grpc_status(), reply.body.len()), (Some("0"), 6));
    assert_eq!(
        h2.call(h2client::grpc("/a.B/C", b"\0\0\0\0\0"))
            .await
            .grpc_status(),
        Some("14")
    );
    let request = h2client::request("POST", "/echo");
    let body = h2client::with_trailers(vec![Bytes::from(pattern(300_000))], HeaderMap::new());
    let reply = h2.call(request.body(body).expect("a good request")).await;
    assert!(reply.body == pattern(300_000));
    assert_eq!((origin.connections(), origin.requests()), (1, 4));
    let seen = &origin.seen()[0];
    assert_eq!(
        (seen.connection, seen.method.as_str(), seen.uri.as_str()),
        (0, "GET", "http://shop.test/plain")
    );

    let fate = H2Raw::ask(origin.addr, &h2raw::get(b"/raw", HOST.as_bytes())).await;
    assert!(matches!(fate, Fate::Answered(200, _)), "{fate:?}");
    let fate = H2Raw::ask(origin.addr, &[(b":method", b"GET"), (b"Upper", b"x")]).await;
    assert!(fate.is_refusal(&[400]), "{fate:?}");
}

#[tokio::test]
async fn a_raw_http2_origin_refuses_and_says_goodbye() {
    let origin = H2Origin::raw(|connection, nth| match (connection, nth) {
        (0, 0) => RawAct::Ok,
        (0, 1) => RawAct::Reset(h2frame::REFUSED_STREAM),
        (0, _) => RawAct::GoAwayUnprocessed,
        (1, _) => RawAct::OkThenGoAway,
        _ => RawAct::HeadThenReset(h2frame::CANCEL),
    })
    .await;
    let h2 = H2::connect(origin.addr).await;
    assert_eq!(h2.get("/").await.body, "ok");
    let ask = || {
        h2client::request("GET", "/")
            .body(h2client::empty())
            .expect("a good request")
    };
    assert!(h2.begin(ask()).await.is_err());
    assert!(h2.begin(ask()).await.is_err());
    assert_eq!(H2::connect(origin.addr).await.get("/").await.status, 200);
    let response = H2::connect(origin.addr)
        .await
        .begin(ask())
        .await
        .expect("a head");
    assert!(h2client::read(response).await.is_err());
    assert_eq!(origin.requests(), 5);
}

#[tokio::test]
async fn a_name_server_answers_what_it_was_told() {
    let name = "a.test";
    let dns = Dns::start(name, Zone::v4(&[[127, 0, 0, 9].into()])).await;
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0")
        .await
        .expect("bind");
    let query =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01A\x04test\x00\x00\x01\x00\x01";
    let mut reply = [0; 512];
    for (zone, code, answers) in [
        (None, 0, 1),
        (Some(Zone::ServerFailure), 2, 0),
        (Some(Zone::NoSuchName), 3, 0),
    ] {
        if let Some(zone) = zone {
            dns.set(zone);
        }
        socket.send_to(query, dns.addr).await.expect("send");
        let (count, _) = socket.recv_from(&mut reply).await.expect("receive");
        assert_eq!(
            (reply[0], reply[1], reply[3] & 0xf, reply[7]),
            (0x12, 0x34, code, answers)
        );
        assert_eq!(answers == 1, reply[..count].ends_with(&[127, 0, 0, 9]));
    }
    assert_eq!(dns.queries(), 3);
}

#[test]
fn a_setup_writes_a_policy() {
    let addr = ([127, 0, 0, 1], 80).into();
    let setup = Setup::shop(
        &[addr, "[::1]:81".parse().expect("an address")],
        "retry: off",
    )
    .limits("head: 8KiB");
    let text = setup.top("unmatched: deny").text();
    let tail = "unmatched: deny\nupstreams:\n  - upstream: \"shop.test\"\n    endpoints: [127.0.0.1:80, \"[::1]:81\"]\n    retry: off\n";
    assert!(text.ends_with(tail), "{text}");
    assert!(text.contains(", limits: { head: 8KiB } }"), "{text}");
}
