//! The audit log of a real process: what is told, what a restart and a harm leave behind, and what `verify` says.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::call::Call;
use crate::support::origin::Act;
use crate::support::origin::Answer;
use crate::support::origin::Origin;
use crate::support::proxy::BINARY;
use crate::support::proxy::Proxy;
use crate::support::setup::Setup;
use crate::support::setup::write;
use crate::support::until;

const BREAKER: &str = "retry: off\neject: off\nbreaker: { failures: 50%, min_calls: 5, open: 30s }\ncache: { get: 60s }";

/// An order in which openssl makes the key of checkpoints.
fn key(folder: &Path) -> std::path::PathBuf {
    let key = folder.join("audit.pem");
    let made = Command::new("openssl")
        .args(["genpkey", "-algorithm", "ed25519", "-out"])
        .arg(&key)
        .output()
        .expect("openssl runs");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    key
}

fn records(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let whole = text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    whole
        .map(|line| serde_json::from_str(line).expect("a record is JSON"))
        .collect()
}

async fn recorded(file: &Path, what: &str, good: impl Fn(&Value) -> bool) -> Value {
    let good = &good;
    until(&format!("a record of {what}"), || async {
        records(file)
            .into_iter()
            .find(|record| record["event"] == what && good(record))
    })
    .await
}

fn verify(file: &Path, more: &[&str]) -> (i32, String) {
    let done = Command::new(BINARY)
        .args(["audit", "verify"])
        .arg(file)
        .args(more)
        .output()
        .expect("outrider runs");
    let text =
        String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    (done.status.code().expect("it ends by itself"), text)
}

async fn post(proxy: &Proxy, target: &str) {
    let reply = Call::post(target, "")
        .host("127.0.0.1")
        .to(proxy.admin)
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}

#[tokio::test]
async fn what_was_done_is_recorded_and_holds() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, key) = (folder.path().join("audit.log"), key(folder.path()));
    let origin = Origin::start(|_| Act::Answer(Answer::status(500))).await;
    let audit = format!(
        "audit: {{ file: {}, key: \"file:{}\" }}",
        file.display(),
        key.display()
    );
    let setup = Setup::shop(&[origin.addr], BREAKER).top(&audit);
    let text = setup.text();
    let mut proxy = setup.start().await;
    recorded(&file, "started", |_| true).await;
    recorded(&file, "policy_loaded", |record| {
        record["revision"].is_string()
    })
    .await;

    for nth in 0..6 {
        proxy.get(&format!("/{nth}")).await;
    }
    let opened = recorded(&file, "breaker", |record| record["to"] == "open").await;
    assert_eq!(opened["breaker"], "shop.test *");
    post(&proxy, "/breaker/close?upstream=shop.test&for=5m").await;
    let forced = recorded(&file, "breaker_override", |_| true).await;
    assert_eq!(
        (&forced["who"], &forced["action"]),
        (&"127.0.0.1".into(), &"close".into())
    );
    post(&proxy, "/cache/purge?url=http://shop.test/jo@example.com").await;
    let purged = recorded(&file, "purge", |_| true).await;
    assert_eq!(purged["name"], "http://shop.test/***");

    proxy.reload(&text.replace("open: 30s", "open: 31s")).await;
    let loaded = recorded(&file, "policy_loaded", |record| {
        record["changes"].is_array()
    })
    .await;
    assert_eq!(loaded["changes"][0]["at"], "shop.test * breaker.open");
    assert_eq!(loaded["changes"][0]["from"], "30s");
    assert_eq!(loaded["changes"][0]["to"], "31s");
    write(&proxy.policy, "nonsense: true\n");
    proxy.signal("HUP");
    recorded(&file, "policy_refused", |record| {
        record["faults"].as_u64() > Some(0)
    })
    .await;

    proxy.signal("TERM");
    assert!(proxy.ended().await.success());
    let all = records(&file);
    assert!(all.iter().any(|record| record["event"] == "stopped"));
    assert_eq!(
        all.last().expect("records")["event"],
        "checkpoint",
        "the last word is signed"
    );
    let (code, told) = verify(&file, &["--key", key.to_str().expect("a name")]);
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("the chain holds"), "{told}");
}

#[tokio::test]
async fn a_kill_in_the_middle_leaves_a_chain_that_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("audit.log");
    let origin = Origin::always(Answer::ok("x")).await;
    let audit = format!("audit: {}", file.display());
    let setup = || Setup::shop(&[origin.addr], "retry: off").top(&audit);
    for _ in 0..2 {
        let mut proxy = setup().start().await;
        recorded(&file, "policy_loaded", |_| true).await;
        proxy.signal("KILL");
        proxy.ended().await;
        // As a disk that lost power leaves it.
        let mut text = std::fs::read(&file).expect("the log");
        text.extend_from_slice(b"{\"seq\":99,\"ti");
        std::fs::write(&file, text).expect("the log");
        let (code, told) = verify(&file, &[]);
        assert_eq!(code, 1, "{told}");
        assert!(told.contains("truncated"), "{told}");
    }
    let mut proxy = setup().start().await;
    until("both repairs are told", || async {
        let repaired = records(&file)
            .into_iter()
            .filter(|record| record["event"] == "repaired");
        (repaired.count() == 2).then_some(())
    })
    .await;
    proxy.signal("TERM");
    proxy.ended().await;
    let (code, told) = verify(&file, &[]);
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("told by outrider itself"), "{told}");
}

#[tokio::test]
async fn verify_says_what_was_done_to_a_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("audit.log");
    let origin = Origin::always(Answer::ok("x")).await;
    let mut proxy = Setup::shop(&[origin.addr], "retry: off")
        .top(&format!("audit: {}", file.display()))
        .start()
        .await;
    proxy.signal("TERM");
    proxy.ended().await;
    let sound = std::fs::read_to_string(&file).expect("the log");
    let (code, told) = verify(&file, &[]);
    assert_eq!(code, 0, "{told}");
    let head = told
        .lines()
        .find_map(|line| line.strip_prefix("head: "))
        .expect("a head")
        .to_owned();
    assert_eq!(verify(&file, &["--expect", &head]).0, 0);

    std::fs::write(&file, sound.replacen("policy_loaded", "policy_landed", 1)).expect("the log");
    let (code, told) = verify(&file, &[]);
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("audit.log:2: changed: record 2"), "{told}");
    let cut: String = sound.split_inclusive('\n').take(2).collect();
    std::fs::write(&file, &cut).expect("the log");
    let (code, told) = verify(&file, &[]);
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("truncated: records 3 to"), "{told}");
    assert_eq!(
        verify(&file, &["--open-ended"]).0,
        0,
        "the note is not asked then"
    );
    assert_eq!(verify(&file, &["--open-ended", "--expect", &head]).0, 1);
    assert_eq!(verify(&folder.path().join("none.log"), &[]).0, 2);
    assert_eq!(verify(&file, &["--key", "/nowhere"]).0, 2);
}

#[tokio::test]
async fn a_policy_that_asks_for_what_cannot_be_had_is_refused() {
    let origin = Origin::always(Answer::ok("x")).await;
    let setup = Setup::shop(&[origin.addr], "retry: off");
    let text = setup.text();
    let proxy = setup.start().await;
    write(
        &proxy.policy,
        &format!("{text}audit: /nowhere/at/all/audit.log\n"),
    );
    proxy.signal("HUP");
    proxy
        .until_sum("outrider_policy_reload_success", &[], |value| value == 0.0)
        .await;
    proxy.get("/").await.is(200);
    let folder = tempfile::tempdir().expect("a folder");
    let policy = folder.path().join("p.yaml");
    std::fs::write(
        &policy,
        "upstream: a.test\naudit: /nowhere/at/all/audit.log\n",
    )
    .expect("the policy");
    let done = Command::new(BINARY)
        .arg("run")
        .arg(&policy)
        .output()
        .expect("outrider runs");
    assert_eq!(done.status.code(), Some(2));
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(told.contains("cannot open the audit log"), "{told}");
}
