//! The listener in front of the application, in the clear: what is let in, what is told of the caller, what is refused.
//!
//! What mutual TLS adds is in `path_inbound_mtls`.

use serde_json::Value;

use crate::path_tunnel::client_hello;
use crate::support::call::Call;
use crate::support::captured;
use crate::support::client::End;
use crate::support::client::Raw;
use crate::support::h2client;
use crate::support::h2client::H2;
use crate::support::h2origin::H2Act;
use crate::support::h2origin::H2Origin;
use crate::support::names::log;
use crate::support::origin::Act;
use crate::support::origin::Answer;
use crate::support::origin::Gate;
use crate::support::origin::Origin;
use crate::support::ports;
use crate::support::proxy::Proxy;
use crate::support::setup::Setup;
use crate::support::tcp::Manner;
use crate::support::tcp::Tcp;
use crate::support::until;

const REQUESTS: &str = "outrider_inbound_requests_total";
const REFUSED: &str = "outrider_connections_refused_total";
const HANDSHAKES: &str = "outrider_inbound_handshakes_total";

async fn behind(origin: &Origin, settings: &str) -> Proxy {
    let inside = format!("app: {}{settings}", origin.addr.port());
    Setup::new().inbound(&inside).start().await
}

async fn app() -> Origin {
    Origin::always(Answer::ok("from the app")).await
}

#[tokio::test]
async fn permissive_lets_plaintext_in_and_tells_of_it() {
    let origin = app().await;
    let proxy = behind(&origin, ", mode: permissive").await;
    let reply = Call::get("/rates?of=eur").to(proxy.inbound).await;
    assert_eq!(reply.is(200).text(), "from the app");
    let seen = origin.only();
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        ("GET", "/rates?of=eur")
    );
    assert_eq!(seen.head.get("host"), Some("shop.test"));
    assert_eq!(seen.head.get("x-request-id"), reply.get("x-request-id"));
    assert!(seen.head.has("traceparent"), "it is part of a trace");
    let line = proxy.logged_path("/rates").await;
    let port = origin.addr.port().to_string();
    assert_eq!(
        (
            &line["direction"],
            &line["app"],
            &line["server"],
            &line["caller"]
        ),
        (
            &"inbound".into(),
            &port.as_str().into(),
            &"test".into(),
            &Value::Null
        ),
        "{line}"
    );
    let labels = [
        ("app", port.as_str()),
        ("transport", "plain"),
        ("status", "2xx"),
    ];
    assert_eq!(proxy.sum(REQUESTS, &labels).await, 1.0);
    assert_eq!(
        proxy.sum("outrider_requests_total", &[]).await,
        0.0,
        "it is no outbound call"
    );
    assert_eq!(
        proxy
            .sum(
                "outrider_connections_accepted_total",
                &[("listener", "inbound")]
            )
            .await,
        1.0
    );
}

#[tokio::test]
async fn nobody_can_say_himself_who_calls() {
    let origin = app().await;
    let proxy = behind(&origin, ", mode: permissive").await;
    let spoofed = "By=spiffe://td/a;Hash=00;URI=spiffe://td/admin";
    let names = [
        "X-Forwarded-Client-Cert",
        "x_forwarded_client_cert",
        "X-Forwarded_Client-Cert",
        "x.forwarded.client.cert",
    ];
    let call = names
        .iter()
        .fold(Call::get("/"), |call, name| {
            call.field(name, spoofed).field(name, spoofed)
        })
        .field("Connection", "x-forwarded-client-cert")
        .field("X-Forwarded-For", "10.0.0.1");
    call.to(proxy.inbound).await.is(200);
    let seen = origin.only();
    let raw = String::from_utf8_lossy(&seen.head.raw).to_lowercase();
    assert!(!raw.contains("spiffe"), "{raw}");
    assert_eq!(
        seen.head.get("x-forwarded-for"),
        Some("10.0.0.1"),
        "the rest passes"
    );
}

#[tokio::test]
async fn a_trailer_cannot_say_it_either() {
    let origin = app().await;
    let proxy = behind(&origin, ", mode: permissive").await;
    let mut raw = Raw::connect(proxy.inbound).await;
    let head = Call::new("POST", "/")
        .field("Transfer-Encoding", "chunked")
        .head();
    raw.send(format!("{head}\r\n1\r\na\r\n0\r\nX-Forwarded-Client-Cert: URI=x\r\n\r\n").as_bytes())
        .await;
    raw.reply("POST").await.is_own(400, &["invalid_body"]);
}

#[tokio::test]
async fn strict_refuses_what_comes_in_the_clear() {
    let origin = app().await;
    let proxy = behind(&origin, "").await;
    let reply = Call::get("/rates").to(proxy.inbound).await;
    reply.is_own(403, &["mtls_required"]);
    let line = proxy.logged_path("/rates").await;
    assert_eq!(
        (&line[log::REASON], &line["direction"]),
        (&"mtls_required".into(), &"inbound".into()),
        "{line}"
    );
    let h2 = H2::connect(proxy.inbound).await;
    let reply = h2.get("/").await;
    assert_eq!((reply.status, reply.reason()), (403, Some("mtls_required")));
    let mut raw = Raw::connect(proxy.inbound).await;
    raw.send(b"\x00\x01\x02 no protocol that we know\r\n").await;
    let (end, bytes) = raw.end().await;
    assert!(bytes.is_empty(), "{end:?} {bytes:?}");
    proxy
        .until_sum(REFUSED, &[("reason", "mtls_required")], |sum| sum == 1.0)
        .await;
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn strict_lets_the_kubelet_ask_for_exactly_what_is_listed() {
    let origin = app().await;
    let inside = ", probes: [/healthz, \"/ready?deep=1\"], authorise: [\"spiffe://td/a\"]";
    let proxy = behind(&origin, inside).await;
    for (method, target) in [
        ("GET", "/healthz"),
        ("HEAD", "/healthz"),
        ("GET", "/ready?deep=1"),
    ] {
        let mut raw = Raw::connect(proxy.inbound).await;
        raw.call(&Call::new(method, target).host("10.0.0.7:4752"))
            .await
            .is(200);
    }
    assert_eq!(origin.requests(), 3);
    for (method, target) in [
        ("POST", "/healthz"),
        ("GET", "/healthz?x=1"),
        ("GET", "/healthz/"),
        ("GET", "/healthz/../admin"),
        ("GET", "//healthz"),
        ("GET", "/Healthz"),
        ("GET", "/%68ealthz"),
        ("GET", "/ready"),
        ("GET", "http://shop.test/healthz;x"),
    ] {
        let reply = Call::new(method, target).to(proxy.inbound).await;
        reply.is_own(403, &["mtls_required"]);
    }
    let smuggled = Call::get("/healthz").body("GET /admin HTTP/1.1\r\nHost: a\r\n\r\n");
    smuggled
        .to(proxy.inbound)
        .await
        .is_own(403, &["mtls_required"]);
    let h2 = H2::connect(proxy.inbound).await;
    assert_eq!(h2.get("/healthz").await.status, 200);
    assert_eq!(origin.requests(), 4);
    let probes = [("transport", "probe"), ("status", "2xx")];
    assert_eq!(proxy.sum(REQUESTS, &probes).await, 4.0);
}

#[tokio::test]
async fn without_an_identity_tls_is_refused_and_said() {
    let origin = app().await;
    let proxy = behind(&origin, ", mode: permissive").await;
    let mut raw = Raw::connect(proxy.inbound).await;
    raw.send(&client_hello("pay.shop")).await;
    raw.end().await;
    let line = proxy
        .logged("the refused connection", |line| {
            line["kind"] == "connection"
        })
        .await;
    assert_eq!(
        (
            &line[log::REASON],
            &line["cause"],
            &line[log::SNI],
            &line["source"]
        ),
        (
            &"no_identity".into(),
            &"no_identity".into(),
            &"pay.shop".into(),
            &"127.0.0.1".into()
        ),
        "{line}"
    );
    assert_eq!(
        proxy.sum(HANDSHAKES, &[("result", "no_identity")]).await,
        1.0
    );
    Call::get("/").to(proxy.inbound).await.is(200);
}

#[tokio::test]
async fn who_says_nothing_is_not_waited_for() {
    let origin = app().await;
    let inside = format!("app: {}", origin.addr.port());
    let setup = Setup::new().inbound(&inside).limits("head_read: 100ms");
    let proxy = setup.start().await;
    let mut silent = Raw::connect(proxy.inbound).await;
    let mut slow = Raw::connect(proxy.inbound).await;
    slow.send(b"\x16\x03\x01").await;
    silent.end().await;
    slow.end().await;
    proxy
        .until_sum(REFUSED, &[("reason", "head_timeout")], |sum| sum == 1.0)
        .await;
    // The hello was begun, so it is the handshake that did not come to an end; without an identity it is not even begun.
    proxy
        .until_sum(REFUSED, &[("reason", "no_identity")], |sum| sum == 1.0)
        .await;
}

#[tokio::test]
async fn an_application_that_is_down_is_said_to_be() {
    let gone = ports::free();
    let setup = Setup::new().inbound(&format!("app: {gone}, mode: permissive"));
    let proxy = setup.start().await;
    let reply = Call::get("/").to(proxy.inbound).await;
    reply.is_own(502, &["connect_refused"]);
    let failures = [("upstream", "(inbound)"), ("reason", "connect_refused")];
    assert_eq!(
        proxy
            .sum("outrider_connect_failures_total", &failures)
            .await,
        1.0
    );
}

#[tokio::test]
async fn a_kept_connection_that_had_died_is_no_failure() {
    let origin = Origin::start(|asked| match asked.nth {
        0 => Act::Answer(Answer::ok("x")),
        _ => Act::Raw(Vec::new(), crate::support::origin::After::Reset),
    })
    .await;
    let proxy = behind(&origin, ", mode: permissive").await;
    for _ in 0..3 {
        Call::get("/").to(proxy.inbound).await.is(200);
    }
    assert_eq!(proxy.sum(REQUESTS, &[("status", "5xx")]).await, 0.0);
}

#[tokio::test]
async fn callers_and_the_application_do_not_take_each_others_connections() {
    let origin = app().await;
    let inside = format!("app: {}, mode: permissive", origin.addr.port());
    let setup = Setup::shop(&[origin.addr], "")
        .inbound(&inside)
        .limits("connections: 2");
    let proxy = setup.start().await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut raw = Raw::connect(proxy.inbound).await;
        raw.call(&Call::get("/")).await.is(200);
        held.push(raw);
    }
    let mut third = Raw::connect(proxy.inbound).await;
    assert!(third.end().await.1.is_empty(), "it is turned away");
    proxy.get("/").await.is(200);
    drop(held);
    until("places come free", || async {
        let mut raw = Raw::try_connect(proxy.inbound).await.ok()?;
        raw.offer(&Call::get("/").bytes()).await;
        let reply = raw.try_reply("GET").await.ok()??;
        (reply.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn grpc_reaches_the_application_as_http2_with_its_trailers() {
    let origin = H2Origin::start(|_, _| H2Act::grpc(b"\0\0\0\0\x01x", 0)).await;
    let inside = format!("app: {}, mode: permissive", origin.addr.port());
    let proxy = Setup::new().inbound(&inside).start().await;
    let h2 = H2::connect(proxy.inbound).await;
    let reply = h2
        .call(h2client::grpc("/pay.Rates/Get", b"\0\0\0\0\x01q"))
        .await;
    assert_eq!((reply.status, reply.grpc_status()), (200, Some("0")));
    assert_eq!(origin.requests(), 1);
}

#[tokio::test]
async fn an_application_of_http1_is_called_so_whatever_the_caller_speaks() {
    let origin = app().await;
    let apps = format!("[{{ port: {}, protocol: http1 }}]", origin.addr.port());
    let setup = Setup::new().inbound(&format!("app: {apps}, mode: permissive"));
    let proxy = setup.start().await;
    let h2 = H2::connect(proxy.inbound).await;
    let request = h2client::request("POST", "/charges").body(h2client::full("amount"));
    let reply = h2.call(request.expect("a good request")).await;
    assert_eq!(&reply.body[..], b"from the app");
    let seen = origin.only();
    assert_eq!(seen.body.content, b"amount");
    assert_eq!(seen.head.get("host"), Some("shop.test"));
}

#[tokio::test]
async fn an_application_of_http2_is_called_so_whatever_the_caller_speaks() {
    let origin = H2Origin::start(|_, _| H2Act::ok("over h2")).await;
    let apps = format!("[{{ port: {}, protocol: http2 }}]", origin.addr.port());
    let setup = Setup::new().inbound(&format!("app: {apps}, mode: permissive"));
    let proxy = setup.start().await;
    let reply = Call::get("/").to(proxy.inbound).await;
    assert_eq!(reply.is(200).text(), "over h2");
}

#[tokio::test]
async fn upgrades_pass() {
    let origin = Origin::start(|_| Act::Upgrade).await;
    let proxy = behind(&origin, ", mode: permissive").await;
    let mut raw = Raw::connect(proxy.inbound).await;
    let call = Call::get("/ws")
        .field("Connection", "Upgrade")
        .field("Upgrade", "echo");
    raw.send(&call.bytes()).await;
    assert_eq!(raw.head("GET").await.0, 101);
    raw.send(b"there and back").await;
    raw.expect(b"there and back").await;
}

#[tokio::test]
async fn what_is_no_request_for_the_application_is_refused() {
    let origin = app().await;
    let proxy = behind(&origin, ", mode: permissive").await;
    let connect = b"CONNECT shop.test:80 HTTP/1.1\r\nHost: shop.test:80\r\n\r\n";
    let mut raw = Raw::connect(proxy.inbound).await;
    raw.send(connect).await;
    raw.reply("CONNECT")
        .await
        .is_own(501, &["method_unsupported"]);
    let doubled = Call::get("/")
        .field("Content-Length", "1")
        .field("Content-Length", "2");
    doubled
        .to(proxy.inbound)
        .await
        .is_own(400, &["malformed_request"]);
    let other = Call::get("http://elsewhere.test/").to(proxy.inbound).await;
    other.is_own(400, &["invalid_target"]);
    let mut raw = Raw::connect(proxy.inbound).await;
    raw.send(b"\x00\x01\x02 no protocol that we know\r\n").await;
    raw.reply("GET").await.is_own(400, &["malformed_request"]);
    assert_eq!(origin.requests(), 0);
}

#[tokio::test]
async fn bytes_pass_only_where_the_policy_says_that_they_are_no_http() {
    let server = Tcp::start(Manner::Echo).await;
    let apps = format!("[{{ port: {}, protocol: tcp }}]", server.addr.port());
    let setup = Setup::new()
        .inbound(&format!("app: {apps}, mode: permissive"))
        .limits("detect: 10ms");
    let proxy = setup.start().await;
    let mut raw = Raw::connect(proxy.inbound).await;
    raw.send(b"GET / is not looked into\r\n").await;
    raw.expect(b"GET / is not looked into\r\n").await;
    drop(raw);
    let line = proxy
        .logged("the tunnel", |line| line["kind"] == "tunnel")
        .await;
    assert_eq!(line["direction"], "inbound", "{line}");
    let strict = Setup::new().inbound(&format!("app: {apps}")).start().await;
    Call::get("/")
        .to(strict.inbound)
        .await
        .is_own(403, &["mtls_required"]);
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_limit_counts_the_calls_of_all() {
    let origin = app().await;
    let settings = ", mode: permissive, limit: { rate: 4/h, burst: 3 }, probes: [/healthz]";
    let proxy = behind(&origin, settings).await;
    for _ in 0..3 {
        Call::get("/").to(proxy.inbound).await.is(200);
    }
    let reply = Call::get("/").to(proxy.inbound).await;
    reply.is_own(429, &["limit"]);
    assert!(reply.get("retry-after").is_some());
    Call::get("/healthz").to(proxy.inbound).await.is(200);
    let text = proxy.setup.text();
    proxy
        .reload(&text.replace("permissive", "permissive, authorise: [any, anonymous]"))
        .await;
    Call::get("/")
        .to(proxy.inbound)
        .await
        .is_own(429, &["limit"]);
}

#[tokio::test]
async fn a_reload_holds_for_connections_that_are_open() {
    let origin = app().await;
    let proxy = behind(&origin, ", mode: permissive").await;
    let mut raw = Raw::connect(proxy.inbound).await;
    raw.call(&Call::get("/")).await.is(200);
    let text = proxy.setup.text();
    proxy.reload(&text.replace("permissive", "strict")).await;
    raw.call(&Call::get("/"))
        .await
        .is_own(403, &["mtls_required"]);
    proxy.reload(&text).await;
    raw.call(&Call::get("/")).await.is(200);
}

#[tokio::test]
async fn calls_in_flight_are_finished_at_the_end() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |_| {
        Act::Hold(held.clone(), Box::new(Act::Answer(Answer::ok("finished"))))
    })
    .await;
    let mut proxy = behind(&origin, ", mode: permissive").await;
    let mut busy = Raw::connect(proxy.inbound).await;
    busy.send(&Call::get("/held").bytes()).await;
    until("the application has it", || async {
        (origin.requests() == 1).then_some(())
    })
    .await;
    proxy.signal("TERM");
    until("new connections are refused", || async {
        Raw::try_connect(proxy.inbound).await.err()
    })
    .await;
    gate.open();
    assert_eq!(busy.reply("GET").await.is(200).text(), "finished");
    assert_eq!(busy.end().await.0, End::Closed);
    assert_eq!(proxy.ended().await.code(), Some(0));
}

#[tokio::test]
async fn the_page_says_who_may_call() {
    let origin = app().await;
    let settings =
        ", mode: permissive, probes: [/healthz], authorise: { mode: shadow, rules: [any] }";
    let proxy = behind(&origin, settings).await;
    let page: Value = serde_json::from_str(&proxy.page("/inbound").await.text()).expect("JSON");
    assert_eq!(page["mode"], "permissive", "{page}");
    assert_eq!(
        page["apps"][0]["address"],
        origin.addr.to_string(),
        "{page}"
    );
    assert_eq!(page["authorise"]["mode"], "shadow", "{page}");
    assert_eq!(page["identity"], Value::Null, "{page}");
    let none = Setup::shop(&[origin.addr], "").start().await;
    assert_eq!(none.page("/inbound").await.text().trim(), "null");
}

const REDIRECTED: &str =
    "path_inbound::a_redirected_connection_goes_to_the_application_of_its_port_and_to_no_other";

#[tokio::test]
async fn a_redirected_connection_goes_to_the_application_of_its_port_and_to_no_other() {
    if captured::entered(REDIRECTED) {
        redirected().await;
    }
}

async fn redirected() {
    let (first, second) = (app().await, Origin::always(Answer::ok("second")).await);
    let hidden = Origin::always(Answer::ok("for this pod alone")).await;
    let apps = format!("[{}, {}]", first.addr.port(), second.addr.port());
    let setup = Setup::new().inbound(&format!("app: {apps}, mode: permissive"));
    captured::redirect_to(setup.inbound);
    let (proxy, _binary) = captured::start(setup).await;
    let to = |port: u16| captured::addr(captured::V4, port);
    let reply = Call::get("/").to(to(second.addr.port())).await;
    assert_eq!(reply.is(200).text(), "second");
    let reply = Call::get("/").to(to(first.addr.port())).await;
    assert_eq!(reply.is(200).text(), "from the app");
    let reply = Call::get("/").to(proxy.inbound).await;
    assert_eq!(
        reply.is(200).text(),
        "from the app",
        "one that was not redirected"
    );
    for port in [
        hidden.addr.port(),
        proxy.admin.port(),
        proxy.outbound.port(),
    ] {
        let reply = Call::get("/").to(to(port)).await;
        reply.is_own(503, &["no_endpoint"]);
    }
    assert_eq!(hidden.connections(), 0);
}
