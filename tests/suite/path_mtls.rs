//! Mutual TLS with an upstream: whom we speak to, and whom we do not, by the word for each.

use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::path_forward::PLAIN;
use crate::path_identity::ID;
use crate::path_identity::PEER;
use crate::path_identity::files;
use crate::path_identity::required;
use crate::path_tunnel::tunnel;
use crate::support::call::Call;
use crate::support::call::HOST;
use crate::support::front::Front;
use crate::support::h2client;
use crate::support::h2client::H2;
use crate::support::h2origin::H2Act;
use crate::support::h2origin::H2Origin;
use crate::support::origin::Answer;
use crate::support::origin::Origin;
use crate::support::pki::BAD;
use crate::support::pki::Ca;
use crate::support::proxy::Proxy;
use crate::support::setup::Setup;
use crate::support::tcp::Manner;
use crate::support::tcp::Tcp;
use crate::support::until;

const HANDSHAKES: &str = "outrider_tls_handshakes_total";

struct Bench {
    ca: Ca,
    folder: tempfile::TempDir,
    origin: Origin,
}

impl Bench {
    async fn new() -> Self {
        Self {
            ca: Ca::new("shop"),
            folder: tempfile::tempdir().expect("a folder"),
            origin: Origin::always(Answer::ok("x")).await,
        }
    }

    async fn front(&self) -> Front {
        let (issued, authorities) = (self.ca.workload(PEER), self.ca.pem());
        Front::start(&issued, Some(&authorities), self.origin.addr).await
    }

    async fn proxy(&self, endpoints: &[SocketAddr], settings: &str) -> Proxy {
        let laid = self.ca.lay(self.folder.path(), ID);
        let setup = Setup::shop(endpoints, settings).top(&files(&laid));
        setup.start().await
    }
}

/// A server of plain HTTP that says at once when something else is spoken to it, as most do.
async fn plain() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = service_fn(|_| async {
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("x"))))
            });
            // Its end is the client's affair.
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
    addr
}

async fn upstreams(proxy: &Proxy) -> Value {
    serde_json::from_str(&proxy.page("/upstreams").await.text()).expect("JSON")
}

#[tokio::test]
async fn a_peer_that_is_who_it_should_be_is_called_and_named() {
    let bench = Bench::new().await;
    let front = bench.front().await;
    let proxy = bench.proxy(&[front.addr], &required()).await;
    let mut client = proxy.connect().await;
    for _ in 0..3 {
        client.call(&Call::get("/")).await.is(200);
    }
    assert_eq!(front.accepted(), 1, "connections are kept");
    let line = proxy.logged_path("/").await;
    assert_eq!(
        (line["tls"].as_str(), line["peer"].as_str()),
        (Some("mtls"), Some(PEER))
    );
    let full = [("upstream", HOST), ("result", "full")];
    assert_eq!(proxy.sum(HANDSHAKES, &full).await, 1.0);
    let page = upstreams(&proxy).await;
    assert_eq!(page[0]["tls"]["mtls"], "required");
    assert_eq!(page[0]["endpoints"][0]["peer"], PEER);
}

#[tokio::test]
async fn every_other_peer_is_refused_by_its_own_word() {
    let bench = Bench::new().await;
    for (kind, word) in BAD {
        let issued = bench.ca.issue(kind, PEER);
        let front = Front::start(&issued, Some(&bench.ca.pem()), bench.origin.addr).await;
        let proxy = bench.proxy(&[front.addr], &required()).await;
        let reply = proxy.get("/").await;
        reply.is_own(502, &["peer_certificate", "peer_identity"]);
        assert_eq!(proxy.logged_path("/").await["tls"], word, "{kind:?}");
        assert_eq!(
            proxy.sum(HANDSHAKES, &[("result", word)]).await,
            1.0,
            "{kind:?}"
        );
    }
    assert_eq!(bench.origin.requests(), 0);
}

#[tokio::test]
async fn a_server_that_does_not_believe_us_is_told_apart() {
    let bench = Bench::new().await;
    let stranger = Ca::new("stranger").pem();
    let front = Front::start(&bench.ca.workload(PEER), Some(&stranger), bench.origin.addr).await;
    let proxy = bench.proxy(&[front.addr], &required()).await;
    // What comes first, the alert or the end of the connection that it closes, is up to the kernel.
    until("the alert is seen", || async {
        let reply = proxy.get("/").await;
        reply.is_own(502, &["tls_refused", "reset"]);
        (reply.reason() == Some("tls_refused")).then_some(())
    })
    .await;
    // Over HTTP/2 it is told by another way.
    let client = H2::connect(proxy.outbound).await;
    until("the alert is seen in HTTP/2", || async {
        let reply = client.get("/h2").await;
        assert_eq!(reply.status, 502);
        (reply.reason() == Some("tls_refused")).then_some(())
    })
    .await;
    let refused = |line: &Value| line["tls"] == "found_unknown_issuer";
    proxy.logged("the word of the alert", refused).await;
    assert_eq!(bench.origin.requests(), 0);
}

#[tokio::test]
async fn plaintext_takes_its_place_only_where_it_is_preferred_and_there_is_no_tls() {
    let bench = Bench::new().await;
    let plain = plain().await;
    let proxy = bench.proxy(&[plain], &required()).await;
    proxy.get("/").await.is_own(502, &["tls_handshake"]);
    let word = proxy.logged_path("/").await["tls"].clone();
    assert!(word == "not_tls" || word == "closed", "{word}");
    let preferred = required().replace("required", "preferred");
    let proxy = bench.proxy(&[plain], &preferred).await;
    proxy.get("/").await.is(200);
    assert_eq!(proxy.logged_path("/").await["tls"], "plaintext");
    assert_eq!(
        proxy
            .sum("outrider_tls_plaintext_total", &[("upstream", HOST)])
            .await,
        1.0
    );
    assert_eq!(
        upstreams(&proxy).await[0]["endpoints"][0]["tls"],
        "plaintext"
    );
    let issued = bench.ca.issue(BAD[3].0, PEER);
    let wrong = Front::start(&issued, None, bench.origin.addr).await;
    let proxy = bench.proxy(&[wrong.addr], &preferred).await;
    proxy.get("/").await.is_own(502, &["peer_identity"]);
}

#[tokio::test]
async fn http_2_goes_over_it_too() {
    let bench = Bench::new().await;
    let origin = H2Origin::start(|_, _| H2Act::ok("x")).await;
    let (issued, authorities) = (bench.ca.workload(PEER), bench.ca.pem());
    let front = Front::start(&issued, Some(&authorities), origin.addr).await;
    let proxy = bench.proxy(&[front.addr], &required()).await;
    let client = H2::connect(proxy.outbound).await;
    for _ in 0..3 {
        let reply = client.call(
            h2client::request("GET", "/")
                .body(h2client::empty())
                .expect("a request"),
        );
        assert_eq!(reply.await.status, 200);
    }
    assert_eq!((front.accepted(), origin.requests()), (1, 3));
}

#[tokio::test]
async fn probes_go_over_it_too() {
    let bench = Bench::new().await;
    let (good, expired) = (bench.front().await, bench.ca.issue(BAD[0].0, PEER));
    let bad = Front::start(&expired, Some(&bench.ca.pem()), bench.origin.addr).await;
    let settings = format!(
        "{}\nhealth: {{ get: /healthz, every: 200ms, unhealthy: 2 }}",
        required()
    );
    let proxy = bench.proxy(&[good.addr, bad.addr], &settings).await;
    until("one is healthy and one is not", || async {
        let page = upstreams(&proxy).await;
        let all = page[0]["endpoints"].as_array().expect("a list");
        let of = |addr: SocketAddr| all.iter().find(|one| one["address"] == addr.to_string());
        let (good, bad) = (of(good.addr)?, of(bad.addr)?);
        (good["health"] == "healthy" && bad["health_error"] == "expired").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_reload_that_wants_it_uses_no_connection_made_without() {
    let bench = Bench::new().await;
    let front = bench.front().await;
    let off = format!("{PLAIN}\nmtls: off");
    let plain = plain().await;
    let proxy = bench.proxy(&[plain], &off).await;
    proxy.get("/").await.is(200);
    let text = fs::read_to_string(&proxy.policy).expect("a policy");
    let text = text.replace("mtls: off", "mtls: required");
    proxy.reload(&text).await;
    proxy.get("/").await.is_own(502, &["tls_handshake"]);
    let text = text.replace(&plain.to_string(), &front.addr.to_string());
    proxy.reload(&text).await;
    proxy.call(&Call::get("/last")).await.is(200);
    assert_eq!(proxy.logged_path("/last").await["peer"], PEER);
}

#[tokio::test]
async fn a_tunnel_is_protected_whatever_is_in_it() {
    let bench = Bench::new().await;
    let echo = Tcp::start(Manner::Echo).await;
    let front = Front::start(&bench.ca.workload(PEER), Some(&bench.ca.pem()), echo.addr).await;
    let settings = format!("protocol: tcp\n{}", required());
    let proxy = bench.proxy(&[front.addr], &settings).await;
    let mut raw = tunnel(&proxy, &format!("{HOST}:5432")).await;
    raw.send(b"bytes of any kind").await;
    raw.expect(b"bytes of any kind").await;
    assert_eq!(front.accepted(), 1);

    let wrong = bench.ca.issue(BAD[3].0, PEER);
    let front = Front::start(&wrong, Some(&bench.ca.pem()), echo.addr).await;
    let proxy = bench.proxy(&[front.addr], &settings).await;
    let mut raw = tunnel(&proxy, &format!("{HOST}:5432")).await;
    raw.offer(b"bytes of any kind").await;
    let (_, seen) = raw.end().await;
    assert!(seen.is_empty(), "{seen:?}");
    let refused = [("upstream", HOST), ("reason", "peer_identity")];
    assert_eq!(
        proxy.sum("outrider_connect_failures_total", &refused).await,
        1.0
    );
}
