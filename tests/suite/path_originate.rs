//! The application speaks plain HTTP, and outrider TLS: as a browser would, with the same doubts.

use std::fs;

use crate::path_forward::PLAIN;
use crate::support::front::Front;
use crate::support::h2client;
use crate::support::h2client::H2;
use crate::support::h2origin::H2Act;
use crate::support::h2origin::H2Origin;
use crate::support::origin::Answer;
use crate::support::origin::Origin;
use crate::support::pki::Ca;
use crate::support::setup::Setup;
use crate::support::until;

fn settings(ca: &std::path::Path, more: &str) -> String {
    format!("{PLAIN}\noriginate: {{ ca: {}{more} }}", ca.display())
}

#[tokio::test]
async fn the_server_is_believed_for_its_name_by_authorities_that_may_change() {
    let (ca, folder) = (Ca::new("web"), tempfile::tempdir().expect("a folder"));
    let path = folder.path().join("ca.pem");
    fs::write(&path, ca.pem()).expect("a file");
    let origin = Origin::always(Answer::ok("x")).await;
    let front = Front::start(&ca.server("api.example.com"), None, origin.addr).await;
    let named = settings(&path, ", sni: api.example.com");
    let proxy = Setup::shop(&[front.addr], &named).start().await;
    proxy.get("/").await.is(200);
    let line = proxy.logged_path("/").await;
    assert_eq!(line["tls"], "tls");
    assert!(
        line["peer"]
            .as_str()
            .is_some_and(|peer| peer.contains("api.example.com"))
    );
    assert_eq!(
        origin.only().head.get("host"),
        Some(crate::support::call::HOST)
    );

    // The host of the call is another name than the certificate's.
    let other = Setup::shop(&[front.addr], &settings(&path, ""))
        .start()
        .await;
    other.get("/").await.is_own(502, &["peer_identity"]);
    assert_eq!(other.logged_path("/").await["tls"], "wrong_name");

    // Another authority: connections of the old trust are not used again.
    let next = Ca::new("next");
    fs::write(folder.path().join("new"), next.pem()).expect("a file");
    fs::rename(folder.path().join("new"), &path).expect("its name");
    until("the old authority is believed no more", || async {
        (proxy.get("/old").await.reason() == Some("peer_certificate")).then_some(())
    })
    .await;
    front.renew(&next.server("api.example.com"), None);
    proxy.get("/new").await.is(200);
}

#[tokio::test]
async fn authorities_of_the_system_do_not_believe_ours() {
    let origin = Origin::always(Answer::ok("x")).await;
    let front = Front::start(&Ca::new("web").server("a.test"), None, origin.addr).await;
    let settings = format!("{PLAIN}\noriginate: {{ sni: a.test }}");
    let proxy = Setup::shop(&[front.addr], &settings).start().await;
    proxy.get("/").await.is_own(502, &["peer_certificate"]);
    assert_eq!(proxy.logged_path("/").await["tls"], "unknown_issuer");
}

#[tokio::test]
async fn http_2_is_told_that_it_is_in_https() {
    let (ca, folder) = (Ca::new("web"), tempfile::tempdir().expect("a folder"));
    let path = folder.path().join("ca.pem");
    fs::write(&path, ca.pem()).expect("a file");
    let origin = H2Origin::start(|_, _| H2Act::ok("x")).await;
    let front = Front::start(&ca.server("a.test"), None, origin.addr).await;
    let named = settings(&path, ", sni: a.test");
    let proxy = Setup::shop(&[front.addr], &named).start().await;
    let client = H2::connect(proxy.outbound).await;
    let request = h2client::request("GET", "/")
        .body(h2client::empty())
        .expect("a request");
    assert_eq!(client.call(request).await.status, 200);
    let seen = origin.seen();
    assert!(seen[0].uri.starts_with("https://"), "{}", seen[0].uri);
}
