//! Connections that a firewall rule redirects to us, in a network namespace that the test makes: the original
//! destination is read back from the kernel and dialled.

use crate::path_forward::PLAIN;
use crate::path_tunnel::client_hello;
use crate::support::call::Call;
use crate::support::captured;
use crate::support::captured::V4;
use crate::support::captured::V6;
use crate::support::captured::addr;
use crate::support::captured::redirect_to;
use crate::support::captured::start;
use crate::support::client::End;
use crate::support::client::Raw;
use crate::support::names::log;
use crate::support::origin::Act;
use crate::support::origin::Answer;
use crate::support::origin::Origin;
use crate::support::ports;
use crate::support::proxy::Proxy;
use crate::support::setup::Setup;
use crate::support::tcp::Manner;
use crate::support::tcp::Tcp;

const TEST: &str = "path_captured::redirected_connections_go_where_they_were_meant_to";

#[tokio::test]
async fn redirected_connections_go_where_they_were_meant_to() {
    if captured::entered(TEST) {
        inside().await;
    }
}

async fn inside() {
    let port = ports::free();
    let answer = |text: &'static str| {
        move |_: &crate::support::origin::Asked<'_>| Act::Answer(Answer::ok(text))
    };
    let four = Origin::at(addr(V4, port), answer("four")).await;
    let six = Origin::at(addr(V6, port), answer("six")).await;
    let listed = Origin::always(Answer::ok("listed")).await;
    let setup = Setup::new()
        .block(&format!(
            "upstream: dialled.test\nendpoints: original\n{PLAIN}"
        ))
        .upstream("listed.test", &[listed.addr], PLAIN)
        .limits("detect: 50ms");
    redirect_to(setup.outbound);
    let (proxy, _binary) = start(setup).await;

    http_is_routed(&proxy, &four, &six, &listed).await;
    bytes_are_tunnelled(&proxy).await;
    nowhere_is_told(&proxy).await;
    what_was_not_redirected_is_not_dialled(&proxy).await;
}

async fn http_is_routed(proxy: &Proxy, four: &Origin, six: &Origin, listed: &Origin) {
    let dialled = Call::get("/dialled")
        .host("dialled.test")
        .field("retry-attempt", "1");
    assert_eq!(dialled.to(four.addr).await.is(200).text(), "four");
    // Under a path of its own: another worker may carry it, and whose line is written first is chance.
    let other = Call::get("/dialled/six").host("dialled.test");
    assert_eq!(other.to(six.addr).await.is(200).text(), "six");
    let head = four.only().head;
    assert!(head.has("via"), "it came through us");
    assert!(
        head.has("retry-attempt"),
        "the application is trusted although it comes from the pod's address"
    );
    // A policy may send it elsewhere by its Host.
    assert_eq!(
        Call::get("/listed")
            .host("listed.test")
            .to(four.addr)
            .await
            .is(200)
            .text(),
        "listed"
    );
    assert_eq!((four.requests(), listed.requests()), (1, 1));
    // Host may be anything when no policy names it: the app's own choice of address stands.
    assert_eq!(
        Call::get("/unmatched")
            .host("unmatched.test")
            .to(four.addr)
            .await
            .is(200)
            .text(),
        "four"
    );
    let line = proxy.logged_path("/dialled").await;
    assert_eq!(
        line[log::ENDPOINT].as_str(),
        Some(four.addr.to_string().as_str())
    );
}

async fn bytes_are_tunnelled(proxy: &Proxy) {
    let banner = Tcp::at(
        addr(V4, ports::free()),
        Manner::Banner(b"220 hello\r\n".to_vec()),
    )
    .await;
    let mut raw = Raw::connect(banner.addr).await;
    raw.expect(b"220 hello\r\n").await;
    raw.send(b"EHLO\r\n").await;
    raw.expect(b"EHLO\r\n").await;
    let echo = Tcp::at(addr(V6, ports::free()), Manner::Echo).await;
    let hello = client_hello("captured.test");
    let mut raw = Raw::connect(echo.addr).await;
    raw.send(&hello).await;
    raw.expect(&hello).await;
    raw.finish().await;
    assert_eq!(raw.end().await.0, End::Closed);
    proxy
        .logged("the tunnel's line", |line| {
            line[log::SNI] == "captured.test"
        })
        .await;
}

async fn nowhere_is_told(proxy: &Proxy) {
    let nowhere = addr(V4, ports::free());
    Call::get("/nowhere")
        .host("dialled.test")
        .to(nowhere)
        .await
        .is_own(502, &["connect_refused"]);
    // Opaque bytes cannot be answered; the connection ends.
    let mut raw = Raw::connect(nowhere).await;
    raw.offer(b"\0\0opaque").await;
    assert!(raw.end().await.1.is_empty());
    drop(proxy.metrics().await);
}

async fn what_was_not_redirected_is_not_dialled(proxy: &Proxy) {
    // The kernel gives our own address as the original destination, or none: dialling it would never end.
    for bytes in [&b"\0\0opaque"[..], &client_hello("direct.test")] {
        let mut raw = Raw::connect(proxy.outbound).await;
        raw.offer(bytes).await;
        let rest = raw.end().await.1;
        assert!(
            rest.is_empty() || rest.starts_with(b"HTTP/1.1 4"),
            "{:?}",
            String::from_utf8_lossy(&rest)
        );
    }
    let host = proxy.outbound.to_string();
    proxy
        .call(&Call::get("/loop").host(&host))
        .await
        .is_own(508, &["loop_detected"]);
}
