//! Where the identity comes from, and what a renewal costs: nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use crate::path_forward::PLAIN;
use crate::support::agent::Agent;
use crate::support::call::Call;
use crate::support::front::Front;
use crate::support::load::Load;
use crate::support::origin::Answer;
use crate::support::origin::Origin;
use crate::support::pki::Ca;
use crate::support::pki::Issued;
use crate::support::pki::Laid;
use crate::support::proxy::BINARY;
use crate::support::proxy::Proxy;
use crate::support::setup::Setup;
use crate::support::until;

pub const ID: &str = "spiffe://shop.test/ns/shop/sa/checkout";
pub const PEER: &str = "spiffe://shop.test/ns/shop/sa/pay";
const RENEWALS: &str = "outrider_identity_renewals_total";
const ERRORS: &str = "outrider_identity_errors_total";
const GENERATION: &str = "outrider_identity_generation";

/// `identity` of a policy, for files that were laid.
pub fn files(laid: &Laid) -> String {
    let (cert, key, ca) = (laid.cert.display(), laid.key.display(), laid.ca.display());
    format!("identity: {{ files: {{ cert: {cert}, key: {key}, ca: {ca} }} }}")
}

pub fn required() -> String {
    format!("{PLAIN}\nmtls: {{ mode: required, peers: [spiffe://shop.test/ns/shop/*] }}")
}

fn outrider(args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(BINARY);
    let output = command.args(args).stdin(Stdio::null()).output();
    let output = output.expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), text)
}

async fn is_generation(proxy: &Proxy, wanted: f64) {
    proxy.until_sum(GENERATION, &[], |now| now >= wanted).await;
}

#[tokio::test]
async fn the_development_authority_makes_what_a_proxy_takes() {
    let folder = tempfile::tempdir().expect("a folder");
    let pki = folder.path().display().to_string();
    let (code, block) = outrider(&["identity", "dev-ca", &pki, "--id", ID]);
    assert_eq!(code, Some(0), "{block}");
    let authority = fs::read(folder.path().join("ca.crt")).expect("an authority");
    let (_, peer) = outrider(&["identity", "dev-ca", &pki, "--id", PEER, "--for", "1h"]);
    assert!(peer.contains("authority: as it was"), "{peer}");
    assert_eq!(
        fs::read(folder.path().join("ca.crt")).expect("it stays"),
        authority
    );
    for name in [
        "ca.key",
        "ns-shop-sa-checkout/tls.key",
        "ns-shop-sa-pay/tls.crt",
    ] {
        let mode = fs::metadata(folder.path().join(name))
            .expect(name)
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o600, "{name}");
    }
    let policy = folder.path().join("policy.yaml");
    fs::write(
        &policy,
        format!("upstream: pay.shop\nmtls: required\n{block}"),
    )
    .expect("a file");
    let (code, shown) = outrider(&["identity", "show", &policy.display().to_string()]);
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains(ID) && shown.contains("shop.test"), "{shown}");

    let of_peer = |name: &str| {
        let path = folder.path().join("ns-shop-sa-pay").join(name);
        fs::read_to_string(path).expect(name)
    };
    let issued = Issued {
        cert: of_peer("tls.crt"),
        key: of_peer("tls.key"),
    };
    let origin = Origin::always(Answer::ok("x")).await;
    let front = Front::start(&issued, Some(&of_peer("ca.crt")), origin.addr).await;
    let proxy = Setup::shop(&[front.addr], &required())
        .top(&block)
        .start()
        .await;
    proxy.get("/").await.is(200);
}

#[tokio::test]
async fn a_half_written_key_changes_nothing_and_is_counted() {
    let (ca, folder) = (Ca::new("shop"), tempfile::tempdir().expect("a folder"));
    let laid = ca.lay(folder.path(), ID);
    let origin = Origin::always(Answer::ok("x")).await;
    let front = Front::start(&ca.workload(PEER), Some(&ca.pem()), origin.addr).await;
    let setup = Setup::shop(&[front.addr], &required()).top(&files(&laid));
    let proxy = setup.start().await;
    proxy.get("/").await.is(200);
    let whole = fs::read(&laid.key).expect("a key");
    fs::write(&laid.key, &whole[..whole.len() / 2]).expect("half of it");
    proxy.until_sum(ERRORS, &[], |errors| errors >= 1.0).await;
    assert_eq!(proxy.sum(GENERATION, &[]).await, 1.0);
    proxy.get("/").await.is(200);
    // A key of another certificate, whole: as between two renames.
    fs::write(&laid.key, ca.workload(ID).key).expect("another");
    proxy
        .until_sum(ERRORS, &[("error", "key_mismatch")], |errors| errors >= 1.0)
        .await;
    proxy.get("/").await.is(200);
    ca.lay(folder.path(), ID);
    is_generation(&proxy, 2.0).await;
    assert_eq!(proxy.sum(RENEWALS, &[]).await, 1.0);
    proxy.get("/").await.is(200);
}

/// Authority `n` of a test.
fn authority(n: usize) -> Ca {
    Ca::new(&format!("authority {n}"))
}

/// Puts an identity into a mounted directory the way the kubelet does: a new data directory, then one rename.
fn mount(folder: &Path, version: usize, issued: &Issued, authorities: &str) -> Laid {
    let data = format!("..v{version}");
    fs::create_dir(folder.join(&data)).expect("a folder");
    issued.lay(&folder.join(&data), authorities);
    symlink(&data, folder.join("..data_tmp")).expect("a link");
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).expect("its name");
    let visible = |name: &str| {
        let path = folder.join(name);
        if version == 0 {
            symlink(format!("..data/{name}"), &path).expect("a link");
        }
        path
    };
    Laid {
        cert: visible("tls.crt"),
        key: visible("tls.key"),
        ca: visible("ca.crt"),
    }
}

#[tokio::test]
async fn two_hundred_renewals_of_certificates_and_authorities_fail_no_call() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut all = vec![authority(0), authority(1)];
    // Each side believes the authority before, its own and the next, so that the two may renew one after the other.
    let believed = |all: &[Ca], n: usize| -> String {
        all[n.saturating_sub(1)..=n + 1]
            .iter()
            .map(Ca::pem)
            .collect()
    };
    let laid = mount(folder.path(), 0, &all[0].workload(ID), &believed(&all, 0));
    let origin = Origin::always(Answer::ok("x")).await;
    let front = Front::start(
        &all[0].workload(PEER),
        Some(&believed(&all, 0)),
        origin.addr,
    )
    .await;
    let setup = Setup::shop(&[front.addr], &required()).top(&files(&laid));
    let proxy = setup.start().await;
    let load = Load::start(proxy.outbound, &Call::get("/"), 4);
    load.go_on(20).await;
    for n in 1..=200 {
        all.push(authority(n + 1));
        let believes = believed(&all, n);
        mount(folder.path(), n, &all[n].workload(ID), &believes);
        is_generation(&proxy, n as f64 + 1.0).await;
        front.renew(&all[n].workload(PEER), Some(&believes));
    }
    load.go_on(20).await;
    let done = load.stop_clean().await;
    assert_eq!(origin.requests(), done);
    assert!(front.accepted() >= 200, "{} handshakes", front.accepted());
    let closed = "outrider_pool_closed_total";
    assert!(proxy.sum(closed, &[("why", "identity")]).await >= 200.0);
}

fn socket(folder: &Path) -> (std::path::PathBuf, String) {
    let path = folder.join("agent.sock");
    let top = format!("identity: {{ spiffe: unix://{} }}", path.display());
    (path, top)
}

#[tokio::test]
async fn an_agent_of_the_workload_api_is_followed_through_renewals_and_restarts() {
    let (ca, folder) = (Ca::new("shop"), tempfile::tempdir().expect("a folder"));
    let (path, top) = socket(folder.path());
    let origin = Origin::always(Answer::ok("x")).await;
    let front = Front::start(&ca.workload(PEER), Some(&ca.pem()), origin.addr).await;
    let proxy = Setup::shop(&[front.addr], &required())
        .top(&top)
        .start()
        .await;
    // Ready without: an agent that is late must not keep the application from starting.
    proxy.get("/early").await.is_own(503, &["no_identity"]);
    let agent = Agent::start(&path, ID, &ca.workload(ID), &ca.pem());
    is_generation(&proxy, 1.0).await;
    proxy.get("/").await.is(200);
    agent.renew(ID, &ca.workload(ID), &ca.pem());
    is_generation(&proxy, 2.0).await;
    assert_eq!(agent.streams(), 1, "told over the same stream");
    drop(agent);
    proxy
        .until_sum(ERRORS, &[("error", "workload_api")], |errors| errors >= 1.0)
        .await;
    proxy.get("/").await.is(200);
    fs::remove_file(&path).expect("the old socket");
    let _agent = Agent::start(&path, ID, &ca.workload(ID), &ca.pem());
    is_generation(&proxy, 3.0).await;
    proxy.get("/").await.is(200);
}

#[tokio::test]
async fn the_environment_names_an_agent_where_the_policy_names_none() {
    let (ca, folder) = (Ca::new("shop"), tempfile::tempdir().expect("a folder"));
    let (path, _) = socket(folder.path());
    let _agent = Agent::start(&path, ID, &ca.workload(ID), &ca.pem());
    let policy = folder.path().join("policy.yaml");
    fs::write(&policy, "upstream: pay.shop\nmtls: required\n").expect("a file");
    let show = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(BINARY);
        command.args(["identity", "show", "--json"]).arg(&policy);
        command.env(
            "SPIFFE_ENDPOINT_SOCKET",
            format!("unix://{}", path.display()),
        );
        command.stdin(Stdio::null()).output().expect("it runs")
    });
    let shown = show.await.expect("it ends");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains(ID), "{shown}");
}

#[tokio::test]
async fn an_authority_that_was_taken_out_is_believed_no_more() {
    let (old, new, folder) = (Ca::new("old"), Ca::new("new"), tempfile::tempdir());
    let folder = folder.expect("a folder");
    let both = format!("{}{}", old.pem(), new.pem());
    let laid = old.workload(ID).lay(folder.path(), &both);
    let origin = Origin::always(Answer::ok("x")).await;
    let front = Front::start(&old.workload(PEER), Some(&both), origin.addr).await;
    let setup = Setup::shop(&[front.addr], &required()).top(&files(&laid));
    let proxy = setup.start().await;
    proxy.get("/").await.is(200);
    new.workload(ID).lay(folder.path(), &new.pem());
    is_generation(&proxy, 2.0).await;
    // The connection that was made before is not used again either.
    proxy.get("/after").await.is_own(502, &["peer_certificate"]);
    let line = proxy.logged_path("/after").await;
    assert_eq!(line["tls"], "retired_issuer");
    until("a renewed peer is believed", || async {
        front.renew(&new.workload(PEER), Some(&both));
        (proxy.get("/").await.status == 200).then_some(())
    })
    .await;
}
