//! Mutual TLS with servers that others wrote: OpenSSL and nginx.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::path_identity::ID;
use crate::path_identity::PEER;
use crate::path_identity::files;
use crate::path_identity::required;
use crate::support::pki::Ca;
use crate::support::pki::Issued;
use crate::support::proxy::Proxy;
use crate::support::servers::Server;
use crate::support::setup::Setup;
use crate::support::until;

async fn proxy(ca: &Ca, folder: &Path, server: &Server) -> Proxy {
    let own = folder.join("own");
    fs::create_dir_all(&own).expect("a folder");
    let laid = ca.lay(&own, ID);
    let setup = Setup::shop(&[server.addr], &required()).top(&files(&laid));
    let proxy = setup.start().await;
    // The first answer that is not about a port that nobody listens on yet.
    until("the server listens", || async {
        (proxy.get("/waiting").await.reason() != Some("connect_refused")).then_some(())
    })
    .await;
    proxy
}

fn openssl(args: &[&str]) {
    let done = Command::new("openssl").args(args).output();
    let done = done.expect("openssl runs; tests/run installs it");
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

#[tokio::test]
async fn openssl_is_called_when_it_is_who_it_should_be() {
    let (ca, folder) = (Ca::new("shop"), tempfile::tempdir().expect("a folder"));
    let laid = ca.workload(PEER).lay(folder.path(), &ca.pem());
    let server = Server::openssl(&laid, &["-Verify", "1", "-verify_return_error"]);
    let proxy = proxy(&ca, folder.path(), &server).await;
    let reply = proxy.get("/").await;
    reply.is(200);
    // Its page tells of the handshake.
    assert!(reply.text().contains("TLSv1.3"), "{}", reply.text());
    assert_eq!(proxy.logged_path("/").await["peer"], PEER);
}

#[tokio::test]
async fn openssl_with_an_old_version_or_a_short_key_is_refused() {
    let (ca, folder) = (Ca::new("shop"), tempfile::tempdir().expect("a folder"));
    let laid = ca.workload(PEER).lay(folder.path(), &ca.pem());
    let old = Server::openssl(&laid, &["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"]);
    let of_old = proxy(&ca, folder.path(), &old).await;
    of_old.get("/").await.is_own(502, &["tls_handshake"]);
    assert_eq!(of_old.logged_path("/").await["tls"], "version");

    let weak = folder.path().join("weak");
    fs::create_dir(&weak).expect("a folder");
    let (key, public) = (weak.join("key.pem"), weak.join("public.pem"));
    let (key, public) = (key.display().to_string(), public.display().to_string());
    openssl(&["genrsa", "-out", &key, "1024"]);
    openssl(&["rsa", "-in", &key, "-pubout", "-out", &public]);
    let issued = Issued {
        cert: ca.certify(PEER, &fs::read_to_string(&public).expect("a key")),
        key: fs::read_to_string(&key).expect("a key"),
    };
    let laid = issued.lay(&weak, &ca.pem());
    let server = Server::openssl(&laid, &["-cipher", "DEFAULT@SECLEVEL=0"]);
    let of_weak = proxy(&ca, folder.path(), &server).await;
    of_weak.get("/").await.is_own(502, &["peer_certificate"]);
    assert_eq!(of_weak.logged_path("/").await["tls"], "weak_key");
}

#[tokio::test]
async fn nginx_that_verifies_its_clients_knows_us() {
    let (ca, folder) = (Ca::new("shop"), tempfile::tempdir().expect("a folder"));
    let laid = ca.workload(PEER).lay(folder.path(), &ca.pem());
    let server = Server::nginx(&laid);
    let proxy = proxy(&ca, folder.path(), &server).await;
    let reply = proxy.get("/").await;
    reply.is(200);
    assert_eq!(reply.text(), "SUCCESS TLSv1.3\n");
    assert_eq!(proxy.logged_path("/").await["peer"], PEER);

    // The same server, asked by somebody whom it does not know.
    let stranger = Ca::new("stranger");
    let own = folder.path().join("stranger");
    fs::create_dir(&own).expect("a folder");
    let both = format!("{}{}", ca.pem(), stranger.pem());
    let laid = stranger.workload(ID).lay(&own, &both);
    let setup = Setup::shop(&[server.addr], &required()).top(&files(&laid));
    let unknown = setup.start().await;
    let reply = unknown.get("/").await;
    assert_eq!(reply.status, 400, "{}", reply.text());
    assert!(
        reply.text().contains("SSL certificate error"),
        "{}",
        reply.text()
    );
}
