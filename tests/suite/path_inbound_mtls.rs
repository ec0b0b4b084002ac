//! The listener in front of the application, over mutual TLS: who is let in, who is not and by which word, and what follows
//! from who it is.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::path_identity::files;
use crate::support::call::Call;
use crate::support::h2client;
use crate::support::h2origin::H2Act;
use crate::support::h2origin::H2Origin;
use crate::support::origin::Answer;
use crate::support::origin::Origin;
use crate::support::pki::BAD;
use crate::support::pki::Ca;
use crate::support::pki::Issued;
use crate::support::pki::Kind;
use crate::support::proxy::Proxy;
use crate::support::secure;
use crate::support::secure::Secure;
use crate::support::setup::Setup;
use crate::support::tcp::Manner;
use crate::support::tcp::Tcp;
use crate::support::until;
use crate::support::within;

const OWN: &str = "spiffe://shop.test/ns/shop/sa/pay";
const CALLER: &str = "spiffe://shop.test/ns/shop/sa/checkout";
const OTHER: &str = "spiffe://shop.test/ns/shop/sa/report";
const HANDSHAKES: &str = "outrider_inbound_handshakes_total";

struct Bench {
    ca: Ca,
    folder: TempDir,
    origin: Origin,
}

impl Bench {
    async fn new() -> Self {
        Self {
            ca: Ca::new("shop"),
            folder: tempfile::tempdir().expect("a folder"),
            origin: Origin::always(Answer::ok("from the app")).await,
        }
    }

    async fn proxy(&self, settings: &str) -> Proxy {
        let inside = format!("app: {}{settings}", self.origin.addr.port());
        self.setup(&inside).start().await
    }

    fn setup(&self, inside: &str) -> Setup {
        let laid = self.ca.lay(self.folder.path(), OWN);
        Setup::new().inbound(inside).top(&files(&laid))
    }

    fn caller(&self) -> Issued {
        self.ca.workload(CALLER)
    }

    /// The word under which it was refused.
    async fn refused(&self, proxy: &Proxy, own: Option<&Issued>) -> String {
        let before = refusals(proxy).len();
        let reply = secure::ask(proxy.inbound, &self.ca.pem(), own, &Call::get("/")).await;
        assert!(reply.is_none(), "it is not let in: {reply:?}");
        let line = until("its line", || async {
            refusals(proxy).get(before).cloned()
        })
        .await;
        line["cause"].as_str().expect("a cause").to_owned()
    }
}

fn refusals(proxy: &Proxy) -> Vec<Value> {
    let lines = proxy.log().into_iter();
    lines.filter(|line| line["kind"] == "connection").collect()
}

#[tokio::test]
async fn a_caller_that_proves_who_it_is_is_let_in_and_named() {
    let bench = Bench::new().await;
    let proxy = bench.proxy(", authorise: [any]").await;
    let caller = bench.caller();
    let mut secure = Secure::connect(proxy.inbound, &bench.ca.pem(), Some(&caller))
        .await
        .expect("TLS");
    let spoofed = "By=x;URI=spiffe://shop.test/ns/ops/sa/admin";
    let call = Call::get("/rates").field("X-Forwarded-Client-Cert", spoofed);
    let reply = secure.call(&call).await;
    assert_eq!(reply.is(200).text(), "from the app");
    let seen = bench.origin.only();
    let told = seen.head.all("x-forwarded-client-cert");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with(&format!("By={OWN};Hash=")), "{told:?}");
    assert!(
        told[0].ends_with(&format!(";Subject=\"CN=workload\";URI={CALLER}")),
        "{told:?}"
    );
    let hash = told[0].split([';', '=']).nth(3).expect("a hash");
    assert!(
        hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()),
        "{hash}"
    );
    let line = proxy.logged_path("/rates").await;
    assert_eq!(
        (&line["caller"], &line["direction"]),
        (&CALLER.into(), &"inbound".into()),
        "{line}"
    );
    assert_eq!(proxy.sum(HANDSHAKES, &[("result", "ok")]).await, 1.0);
    let mtls = [("transport", "mtls"), ("status", "2xx")];
    assert_eq!(
        proxy.sum("outrider_inbound_requests_total", &mtls).await,
        1.0
    );
    let page: Value = serde_json::from_str(&proxy.page("/inbound").await.text()).expect("JSON");
    assert_eq!(page["identity"]["id"], OWN, "{page}");
}

#[tokio::test]
async fn nobody_else_is_let_in_and_each_has_a_word() {
    let bench = Bench::new().await;
    let proxy = bench.proxy(&format!(", authorise: [\"{CALLER}\"]")).await;
    for (kind, word) in BAD {
        let issued = bench.ca.issue(kind, CALLER);
        if kind == Kind::WrongId {
            // Who it is is beyond doubt; what it may do is for the rules.
            let call = Call::get("/");
            let reply = secure::ask(proxy.inbound, &bench.ca.pem(), Some(&issued), &call).await;
            reply.expect("an answer").is_own(403, &["not_authorised"]);
            continue;
        }
        assert_eq!(bench.refused(&proxy, Some(&issued)).await, word, "{kind:?}");
        assert_eq!(
            proxy.sum(HANDSHAKES, &[("result", word)]).await,
            1.0,
            "{word}"
        );
    }
    assert_eq!(bench.refused(&proxy, None).await, "no_certificate");
    assert_eq!(bench.origin.requests(), 0);
    let valid = bench.caller();
    let reply = secure::ask(
        proxy.inbound,
        &bench.ca.pem(),
        Some(&valid),
        &Call::get("/"),
    )
    .await;
    reply.expect("the valid one passes").is(200);
}

#[tokio::test]
async fn an_authority_that_was_taken_out_lets_nobody_in() {
    let bench = Bench::new().await;
    let proxy = bench.proxy("").await;
    let old = bench.caller();
    let call = Call::get("/");
    secure::ask(proxy.inbound, &bench.ca.pem(), Some(&old), &call)
        .await
        .expect("an answer")
        .is(200);
    let next = Ca::new("next");
    next.lay(bench.folder.path(), OWN);
    let fresh = next.workload(CALLER);
    until("the new authority holds", || async {
        let reply = secure::ask(proxy.inbound, &next.pem(), Some(&fresh), &call).await?;
        (reply.status == 200).then_some(())
    })
    .await;
    let before = refusals(&proxy).len();
    let reply = secure::ask(proxy.inbound, &next.pem(), Some(&old), &call).await;
    assert!(reply.is_none(), "it is not let in: {reply:?}");
    let line = until("its line", || async {
        refusals(&proxy)
            .into_iter()
            .skip(before)
            .find(|line| line["cause"] == "retired_issuer")
    })
    .await;
    assert_eq!(line["reason"], "peer_certificate", "{line}");
}

#[tokio::test]
async fn renewals_under_load_fail_no_call() {
    let bench = Bench::new().await;
    let proxy = bench.proxy("").await;
    let (caller, pem) = (bench.caller(), bench.ca.pem());
    let mut kept = Secure::connect(proxy.inbound, &pem, Some(&caller))
        .await
        .expect("TLS");
    for generation in 2..52 {
        bench.ca.lay(bench.folder.path(), OWN);
        let renewed = proxy.until_sum("outrider_identity_generation", &[], |sum| {
            sum >= f64::from(generation)
        });
        let calls = async {
            for _ in 0..2 {
                kept.call(&Call::get("/kept")).await.is(200);
                let fresh =
                    secure::ask(proxy.inbound, &pem, Some(&caller), &Call::get("/fresh")).await;
                fresh.expect("it is let in").is(200);
            }
        };
        tokio::join!(renewed, calls);
    }
    assert_eq!(
        proxy
            .sum("outrider_inbound_requests_total", &[("status", "5xx")])
            .await,
        0.0
    );
}

#[tokio::test]
async fn permissive_tells_tls_and_plaintext_apart_on_one_port() {
    let bench = Bench::new().await;
    let rules =
        format!("[{{ from: \"{CALLER}\", to: /private }}, {{ from: anonymous, to: /public }}]");
    let proxy = bench
        .proxy(&format!(", mode: permissive, authorise: {rules}"))
        .await;
    let caller = bench.caller();
    let mut secure = Secure::connect(proxy.inbound, &bench.ca.pem(), Some(&caller))
        .await
        .expect("TLS");
    secure.call(&Call::get("/private")).await.is(200);
    secure
        .call(&Call::get("/public"))
        .await
        .is_own(403, &["not_authorised"]);
    Call::get("/public").to(proxy.inbound).await.is(200);
    Call::get("/private")
        .to(proxy.inbound)
        .await
        .is_own(403, &["not_authorised"]);
    assert_eq!(
        bench.refused(&proxy, None).await,
        "no_certificate",
        "TLS is mutual or nothing"
    );
}

#[tokio::test]
async fn rules_and_limits_go_by_the_identity() {
    let bench = Bench::new().await;
    let settings = format!(
        ", limit: {{ rate: 4/h, burst: 2, per: peer }}, authorise: [\"{CALLER}\", {{ from: \"spiffe://shop.test/ns/shop/*\", to: GET /rates }}]"
    );
    let proxy = bench.proxy(&settings).await;
    let pem = bench.ca.pem();
    let mut first = Secure::connect(proxy.inbound, &pem, Some(&bench.caller()))
        .await
        .expect("TLS");
    let mut again = Secure::connect(proxy.inbound, &pem, Some(&bench.caller()))
        .await
        .expect("TLS");
    let mut other = Secure::connect(proxy.inbound, &pem, Some(&bench.ca.workload(OTHER)))
        .await
        .expect("TLS");
    first.call(&Call::post("/charges", "x")).await.is(200);
    again.call(&Call::get("/rates")).await.is(200);
    first
        .call(&Call::get("/rates"))
        .await
        .is_own(429, &["limit"]);
    other
        .call(&Call::post("/charges", "x"))
        .await
        .is_own(403, &["not_authorised"]);
    other.call(&Call::get("/rates")).await.is(200);
}

#[tokio::test]
async fn grpc_and_http2_pass() {
    let bench = Bench::new().await;
    let app = H2Origin::start(|_, request| {
        assert_eq!(request.uri().scheme_str(), Some("http"), "TLS ended before");
        H2Act::grpc(b"\0\0\0\0\x01x", 0)
    })
    .await;
    let proxy = bench
        .setup(&format!("app: {}", app.addr.port()))
        .start()
        .await;
    let h2 = secure::h2(proxy.inbound, &bench.ca.pem(), &bench.caller()).await;
    let reply = h2
        .call(h2client::grpc_over(
            "https",
            "/pay.Rates/Get",
            b"\0\0\0\0\x01q",
        ))
        .await;
    assert_eq!((reply.status, reply.grpc_status()), (200, Some("0")));
    assert!(
        app.seen()[0]
            .headers
            .contains_key("x-forwarded-client-cert")
    );

    let plain = bench.proxy("").await;
    let h2 = secure::h2(plain.inbound, &bench.ca.pem(), &bench.caller()).await;
    assert_eq!(
        &h2.get("/").await.body[..],
        b"from the app",
        "the application speaks HTTP/1.1"
    );
}

#[tokio::test]
async fn declared_bytes_pass_for_those_that_may() {
    let bench = Bench::new().await;
    let server = Tcp::start(Manner::Echo).await;
    let inside = format!(
        "app: [{{ port: {}, protocol: tcp }}], authorise: [\"{CALLER}\", {{ from: any, to: /echo }}]",
        server.addr.port()
    );
    let proxy = bench.setup(&inside).start().await;
    let pem = bench.ca.pem();
    let mut secure = Secure::connect(proxy.inbound, &pem, Some(&bench.caller()))
        .await
        .expect("TLS");
    secure.wire.send(b"echo\r\n\r\n").await.expect("sent");
    while !secure.wire.ahead.starts_with(b"echo\r\n\r\n") {
        let more = within("the echo", secure.wire.more()).await;
        assert!(more.expect("bytes"), "it ended early");
    }
    drop(secure);
    let line = proxy
        .logged("the tunnel", |line| line["kind"] == "tunnel")
        .await;
    assert_eq!(line["caller"], CALLER, "{line}");
    let other = bench.ca.workload(OTHER);
    assert!(
        secure::ask(proxy.inbound, &pem, Some(&other), &Call::get("/echo"))
            .await
            .is_none()
    );
    proxy
        .logged("the refusal", |line| line["reason"] == "not_authorised")
        .await;
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn one_outrider_calls_another() {
    let bench = Bench::new().await;
    let server = bench
        .proxy(&format!(
            ", authorise: [{{ from: \"{CALLER}\", to: GET /rates }}]"
        ))
        .await;
    let folder = tempfile::tempdir().expect("a folder");
    let laid = bench.ca.lay(folder.path(), CALLER);
    let settings = format!("mtls: {{ mode: required, peers: [\"{OWN}\"] }}");
    let client = Setup::shop(&[server.inbound], &settings)
        .top(&files(&laid))
        .start()
        .await;
    let reply = client.get("/rates").await;
    assert_eq!(reply.is(200).text(), "from the app");
    let denied = client.get("/other").await;
    assert_eq!(
        (denied.status, denied.reason()),
        (403, Some("not_authorised")),
        "told as it is"
    );
    let seen = bench.origin.only();
    assert!(
        seen.head
            .get("x-forwarded-client-cert")
            .is_some_and(|told| told.ends_with(CALLER))
    );
    let (inner, outer) = (
        server.logged_path("/rates").await,
        client.logged_path("/rates").await,
    );
    assert_eq!(inner["request_id"], outer["request_id"]);
    assert_eq!(inner["trace_id"], outer["trace_id"]);
}

fn openssl(args: &[&str]) {
    let done = std::process::Command::new("openssl").args(args).output();
    let done = done.expect("openssl runs; tests/run installs it");
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

#[tokio::test]
async fn openssl_is_let_in_as_who_it_is_and_refused_with_what_is_old_or_weak() {
    let bench = Bench::new().await;
    let proxy = bench.proxy("").await;
    let folder = tempfile::tempdir().expect("a folder");
    let laid = bench.caller().lay(folder.path(), &bench.ca.pem());
    let text = |path: &Path| path.display().to_string();
    let (cert, key, ca) = (text(&laid.cert), text(&laid.key), text(&laid.ca));
    let request = folder.path().join("request");
    fs::write(
        &request,
        "GET /by-openssl HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    )
    .expect("a file");
    let addr = proxy.inbound.to_string();
    let common = [
        "s_client", "-connect", &addr, "-ign_eof", "-quiet", "-CAfile", &ca,
    ];
    let with = |more: &[&str]| -> Vec<String> {
        common.iter().chain(more).map(ToString::to_string).collect()
    };
    let run = async |more: &[&str]| {
        let args = with(more);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let output = secure::run("openssl", &args, &request).await;
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let answer = run(&["-cert", &cert, "-key", &key]).await;
    assert!(answer.contains("from the app"), "{answer}");
    assert_eq!(proxy.logged_path("/by-openssl").await["caller"], CALLER);
    let cause = async |more: &[&str]| {
        let before = refusals(&proxy).len();
        let answer = run(more).await;
        assert!(!answer.contains("from the app"), "{more:?}: {answer}");
        let line = until("its line", || async {
            refusals(&proxy).get(before).cloned()
        })
        .await;
        line["cause"].as_str().expect("a cause").to_owned()
    };
    let own = ["-cert", &cert, "-key", &key];
    let old = [&own[..], &["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"]].concat();
    // It names no signature algorithms, which TLS 1.1 has no field for, and that is missed first.
    assert_eq!(cause(&old).await, "algorithms");
    assert_eq!(cause(&[&own[..], &["-tls1_2"]].concat()).await, "version");
    assert_eq!(cause(&[]).await, "no_certificate");
    let weak = folder.path().join("weak");
    fs::create_dir(&weak).expect("a folder");
    let (short, public) = (text(&weak.join("key.pem")), text(&weak.join("public.pem")));
    openssl(&["genrsa", "-out", &short, "1024"]);
    openssl(&["rsa", "-in", &short, "-pubout", "-out", &public]);
    let certified = bench
        .ca
        .certify(CALLER, &fs::read_to_string(&public).expect("a key"));
    let shown = weak.join("cert.pem");
    fs::write(&shown, certified).expect("a file");
    let shown = text(&shown);
    let args = [
        "-cert",
        &shown,
        "-key",
        &short,
        "-cipher",
        "DEFAULT@SECLEVEL=0",
    ];
    assert_eq!(cause(&args).await, "weak_key");
    assert_eq!(bench.origin.requests(), 1);
}

#[tokio::test]
async fn curl_is_let_in_as_who_it_is() {
    let bench = Bench::new().await;
    let proxy = bench.proxy("").await;
    let folder = tempfile::tempdir().expect("a folder");
    let laid = bench.caller().lay(folder.path(), &bench.ca.pem());
    let text = |path: &Path| path.display().to_string();
    let (cert, key, ca) = (text(&laid.cert), text(&laid.key), text(&laid.ca));
    let url = format!("https://localhost:{}/by-curl", proxy.inbound.port());
    let args = [
        "-sS",
        "--ipv4",
        "-w",
        " over %{http_version}",
        "--cacert",
        &ca,
        "--cert",
        &cert,
        "--key",
        &key,
        &url,
    ];
    let output = secure::run("curl", &args, Path::new("/dev/null")).await;
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "from the app over 2",
        "{output:?}"
    );
    let line = proxy.logged_path("/by-curl").await;
    assert_eq!(line["caller"], CALLER, "{line}");
}
