use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::ServerConfig;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::clock;
use crate::connect::tls::Dialer;
use crate::connect::tls::Inside;
use crate::connect::tls::Metrics;
use crate::connect::tls::Mtls;
use crate::connect::tls::Originate;
use crate::connect::tls::Plan;
use crate::connect::tls::Roots;
use crate::connect::tls::Seen;
use crate::connect::tls::Settings;
use crate::connect::tls::Want;
use crate::connect::tls::Wire;
use crate::http::Reason;
use crate::http::Sent;
use crate::identity::Current;
use crate::identity::Identity;
use crate::identity::Material;
use crate::identity::PeerPattern;
use crate::identity::pem;
use crate::identity::tests::pki::BAD;
use crate::identity::tests::pki::Ca;
use crate::identity::tests::pki::Issued;
use crate::identity::tests::pki::Kind;
use crate::identity::tls;
use crate::telemetry::BuildInfo;
use crate::telemetry::Telemetry;

const ID: &str = "spiffe://shop.test/ns/shop/sa/pay";
const WITHIN: Duration = Duration::from_secs(10);

fn material(issued: &Issued, authorities: &str) -> Material {
    Material {
        chain: pem::certificates("cert", issued.cert.as_bytes()).unwrap(),
        key: pem::key("key", issued.key.as_bytes()).unwrap(),
        own: pem::certificates("ca", authorities.as_bytes()).unwrap(),
        foreign: std::collections::BTreeMap::new(),
    }
}

fn anybody() -> Arc<[PeerPattern]> {
    Arc::new([])
}

/// A server of mutual TLS, which shows whatever it is given.
fn shows(issued: &Issued, believes: &Ca) -> Arc<ServerConfig> {
    let own = Identity::new(material(&believes.workload(ID), &believes.pem()), &[], 1).unwrap();
    let honest = tls::server_config(&own, &anybody(), &[tls::H2, tls::HTTP1]).unwrap();
    let mut config = ServerConfig::clone(&honest);
    let chain = pem::certificates("cert", issued.cert.as_bytes()).unwrap();
    let key = pem::key("key", issued.key.as_bytes()).unwrap();
    let key = tls::provider().key_provider.load_private_key(key).unwrap();
    let shown = rustls::sign::CertifiedKey::new(chain, key);
    config.cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(shown));
    Arc::new(config)
}

/// Answers a byte with a byte over TLS, until the test ends.
async fn serve(config: Arc<ServerConfig>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(config);
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    while let Ok(byte) = stream.read_u8().await {
                        let _ = stream.write_u8(byte).await;
                    }
                }
            });
        }
    });
    address
}

/// Says `words` to whoever comes and closes.
async fn says(words: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 16 * 1024]).await;
            let _ = stream.write_all(words).await;
        }
    });
    address
}

fn telemetry() -> Arc<Telemetry> {
    let build = BuildInfo {
        version: "",
        commit: "",
    };
    Telemetry::new(build, 1)
}

struct Bench {
    ca: Ca,
    current: Arc<Current>,
    telemetry: Arc<Telemetry>,
}

impl Bench {
    fn new() -> Self {
        let (ca, current) = (Ca::new("shop"), Current::new(None));
        current
            .install(material(&ca.workload(ID), &ca.pem()))
            .unwrap();
        Self {
            ca,
            current,
            telemetry: telemetry(),
        }
    }

    fn dialer(&self, want: Want) -> Arc<Dialer> {
        let peers = [PeerPattern::parse("spiffe://shop.test/ns/shop/*").unwrap()];
        let settings = Settings::Mtls(Mtls {
            want,
            peers: peers.into(),
        });
        Dialer::new(Plan {
            settings,
            identity: Arc::clone(&self.current),
            roots: None,
            host: Some("localhost".to_owned()),
            metrics: Metrics::new(&self.telemetry, "pay", want == Want::Shadow),
        })
        .unwrap()
    }

    fn web(&self, originate: Originate, authority: &Ca) -> Arc<Dialer> {
        let mut store = RootCertStore::empty();
        for one in pem::certificates("ca", authority.pem().as_bytes()).unwrap() {
            store.add(one).unwrap();
        }
        Dialer::new(Plan {
            settings: Settings::Originate(originate),
            identity: Current::new(None),
            roots: Some(Roots::fixed(store)),
            host: Some("localhost".to_owned()),
            metrics: Metrics::new(&self.telemetry, "pay", false),
        })
        .unwrap()
    }

    fn counts(&self, line: &str) -> bool {
        self.telemetry.encode().contains(line)
    }
}

async fn echo(wire: &mut Wire) -> std::io::Result<u8> {
    wire.write_u8(7).await?;
    wire.read_u8().await
}

#[tokio::test]
async fn a_peer_is_verified_and_named() {
    let bench = Bench::new();
    let address = serve(shows(&bench.ca.workload(ID), &bench.ca)).await;
    let dialer = bench.dialer(Want::Required);
    let opened = dialer.open(address, WITHIN, Inside::Http2).await.unwrap();
    let (mut wire, secured) = opened;
    assert_eq!(echo(&mut wire).await.unwrap(), 7);
    assert_eq!((secured.how, secured.peer.as_deref()), ("mtls", Some(ID)));
    let left = secured.until.unwrap() - clock::now();
    assert!(
        left <= Duration::from_secs(3600),
        "no longer than its certificate: {left:?}"
    );
    assert!(bench.counts(r#"handshakes_total{upstream="pay",result="full"} 1"#));
}

#[tokio::test]
async fn every_bad_peer_is_refused_whatever_is_preferred() {
    let bench = Bench::new();
    for want in [Want::Required, Want::Preferred] {
        let dialer = bench.dialer(want);
        for (kind, word) in BAD {
            let address = serve(shows(&bench.ca.issue(kind, ID), &bench.ca)).await;
            let fault = dialer.open(address, WITHIN, Inside::Http1).await;
            let fault = fault.expect_err("it is nobody to talk to");
            assert_eq!(fault.tls, Some(word), "{kind:?}");
            assert_eq!(fault.sent, Sent::No);
            let reason = fault.reason;
            assert!(
                matches!(reason, Reason::PeerCertificate | Reason::PeerIdentity),
                "{reason}"
            );
            assert!(matches!(dialer.seen(address), Some(Seen::Failed(_))));
        }
    }
}

#[tokio::test]
async fn our_own_certificate_may_be_refused_once_we_have_begun_to_speak() {
    let bench = Bench::new();
    let address = serve(shows(&bench.ca.workload(ID), &Ca::new("stranger"))).await;
    let dialer = bench.dialer(Want::Required);
    let (mut wire, _) = dialer.open(address, WITHIN, Inside::Http1).await.unwrap();
    let error = echo(&mut wire).await.unwrap_err();
    let flaw = crate::identity::Flaw::of_io(&error);
    assert_eq!(flaw.word(), "found_unknown_issuer");
    assert_eq!(flaw.reason(), Reason::TlsRefused);
}

#[tokio::test]
async fn plaintext_is_preferred_only_where_there_is_no_tls() {
    let bench = Bench::new();
    for (words, word) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "not_tls"),
        (b"", "closed"),
    ] {
        let address = says(words).await;
        let fault = bench
            .dialer(Want::Required)
            .open(address, WITHIN, Inside::Http1)
            .await;
        let fault = fault.expect_err("required");
        assert_eq!(
            (fault.reason, fault.tls),
            (Reason::TlsHandshake, Some(word))
        );
        let dialer = bench.dialer(Want::Preferred);
        let (wire, secured) = dialer.open(address, WITHIN, Inside::Http1).await.unwrap();
        assert!(matches!(wire, Wire::Plain(_)));
        assert_eq!((secured.how, secured.peer), ("plaintext", None));
        assert!(secured.until.unwrap() <= clock::now() + Duration::from_secs(60));
        let line = format!(r#"plaintext_total{{upstream="pay",why="{word}"}} 1"#);
        assert!(bench.counts(&line), "{line}");
        // Known now: no second handshake.
        dialer.open(address, WITHIN, Inside::Http1).await.unwrap();
        assert!(bench.counts(&line), "{line}");
    }
}

#[tokio::test]
async fn a_server_of_old_versions_is_refused_and_never_spoken_to_in_plaintext() {
    // TLS 1.2, by whoever has no better; alert 70 is `protocol_version`.
    let address = says(&[21, 3, 1, 0, 2, 2, 70]).await;
    let bench = Bench::new();
    let dialer = bench.dialer(Want::Preferred);
    let fault = dialer
        .open(address, WITHIN, Inside::Http1)
        .await
        .expect_err("too old");
    assert_eq!(
        (fault.reason, fault.tls),
        (Reason::TlsHandshake, Some("version"))
    );
}

#[tokio::test]
async fn without_an_identity_nothing_is_required_in_vain() {
    let bench = Bench {
        current: Current::new(None),
        ..Bench::new()
    };
    let address = serve(shows(&bench.ca.workload(ID), &bench.ca)).await;
    let fault = bench
        .dialer(Want::Required)
        .open(address, WITHIN, Inside::Http1)
        .await;
    assert_eq!(fault.expect_err("nobody").reason, Reason::NoIdentity);
    let dialer = bench.dialer(Want::Preferred);
    let (_, secured) = dialer.open(address, WITHIN, Inside::Http1).await.unwrap();
    assert_eq!(secured.how, "plaintext");
    // As soon as there is one, it is used.
    let issued = bench.ca.workload(ID);
    bench
        .current
        .install(material(&issued, &bench.ca.pem()))
        .unwrap();
    let (_, secured) = dialer.open(address, WITHIN, Inside::Http1).await.unwrap();
    assert_eq!(secured.how, "mtls");
}

#[tokio::test]
async fn in_shadow_calls_are_plain_and_a_handshake_is_counted_beside_them() {
    let bench = Bench::new();
    let address = serve(shows(&bench.ca.issue(Kind::WrongId, ID), &bench.ca)).await;
    let dialer = bench.dialer(Want::Shadow);
    for _ in 0..3 {
        let (wire, _) = dialer.open(address, WITHIN, Inside::Http1).await.unwrap();
        assert!(matches!(wire, Wire::Plain(_)));
    }
    let once = r#"shadow_handshakes_total{upstream="pay",result="wrong_id"} 1"#;
    let counted = async {
        while !bench.counts(once) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(WITHIN, counted).await.unwrap();
    assert!(!bench.counts("tls_handshakes_total{upstream"));
}

#[tokio::test]
async fn sessions_are_resumed_within_one_generation_only() {
    let bench = Bench::new();
    let address = serve(shows(&bench.ca.workload(ID), &bench.ca)).await;
    let dialer = bench.dialer(Want::Required);
    let call = async || {
        let (mut wire, secured) = dialer.open(address, WITHIN, Inside::Http1).await.unwrap();
        // Tickets come after the handshake.
        echo(&mut wire).await.unwrap();
        secured
    };
    assert_eq!(call().await.peer.as_deref(), Some(ID));
    assert_eq!(
        call().await.peer.as_deref(),
        Some(ID),
        "resumed, and named all the same"
    );
    assert!(bench.counts(r#"handshakes_total{upstream="pay",result="resumed"} 1"#));
    let issued = bench.ca.workload(ID);
    bench
        .current
        .install(material(&issued, &bench.ca.pem()))
        .unwrap();
    assert_eq!(call().await.generation, 2);
    assert!(bench.counts(r#"handshakes_total{upstream="pay",result="full"} 2"#));
}

#[tokio::test]
async fn on_the_web_the_name_is_what_counts() {
    let bench = Bench::new();
    let web = |issued: &Issued| {
        let chain = pem::certificates("cert", issued.cert.as_bytes()).unwrap();
        let key = pem::key("key", issued.key.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        Arc::new(config)
    };
    let ours = serve(web(&bench.ca.server("api.example.com"))).await;
    let named = |sni: &str| Originate {
        sni: Some(sni.to_owned()),
        ..Originate::default()
    };
    let word = async |dialer: Arc<Dialer>, address| match dialer
        .open(address, WITHIN, Inside::Http1)
        .await
    {
        Ok((_, secured)) => secured.how,
        Err(fault) => fault.tls.unwrap_or("no flaw"),
    };
    let dialer = bench.web(named("api.example.com"), &bench.ca);
    assert_eq!(
        word(dialer, ours).await,
        "tls",
        "1.2 is taken where there is no better"
    );
    assert_eq!(
        word(bench.web(Originate::default(), &bench.ca), ours).await,
        "wrong_name"
    );
    let stranger = bench.web(named("api.example.com"), &Ca::new("x"));
    assert_eq!(word(stranger, ours).await, "unknown_issuer");
    let address = serve(web(&bench.ca.issue(Kind::Expired, ID))).await;
    assert_eq!(
        word(bench.web(Originate::default(), &bench.ca), address).await,
        "expired"
    );
}

#[tokio::test]
async fn http_2_is_not_spoken_to_who_did_not_choose_it() {
    let bench = Bench::new();
    let mut config = ServerConfig::clone(&shows(&bench.ca.workload(ID), &bench.ca));
    config.alpn_protocols = Vec::new();
    let address = serve(Arc::new(config)).await;
    let dialer = bench.dialer(Want::Required);
    let fault = dialer
        .open(address, WITHIN, Inside::Http2)
        .await
        .expect_err("no h2");
    assert_eq!(fault.tls, Some("protocol"));
    dialer.open(address, WITHIN, Inside::Http1).await.unwrap();
}

#[test]
fn calls_to_port_80_go_to_443() {
    let port = |port| Originate {
        port,
        ..Originate::default()
    };
    assert_eq!(port(None).port(80), 443);
    assert_eq!(port(None).port(8080), 8080);
    assert_eq!(port(Some(7443)).port(80), 7443);
    assert_eq!(Settings::Plain.port(80), 80);
}
