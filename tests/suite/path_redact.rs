//! Secrets are planted wherever a caller or an operator can put one, and looked for wherever outrider says something.

mod corpus;

use std::fmt::Write as _;
use std::process::Command;

use serde_json::Value;

use crate::support::call::Call;
use crate::support::origin::Answer;
use crate::support::origin::Origin;
use crate::support::ports;
use crate::support::proxy::BINARY;
use crate::support::proxy::Proxy;
use crate::support::setup::Setup;
use crate::support::setup::write;
use crate::support::until;

use corpus::Planted;

const QUIET: &str = "retry: off\nbreaker: off\neject: off";

fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+@".contains(&byte);
    text.bytes()
        .map(|byte| match byte {
            byte if plain(byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

/// Everything that the process has said, and shows to whoever asks.
async fn told(proxy: &Proxy) -> Vec<(String, String)> {
    let mut told = vec![
        ("stderr".to_owned(), proxy.errors().join("\n")),
        (
            "stdout".to_owned(),
            proxy.log().iter().map(Value::to_string).collect(),
        ),
    ];
    for page in [
        "/config",
        "/upstreams",
        "/faults",
        "/cache",
        "/explain?limit=1000",
        "/metrics",
        "/nowhere",
    ] {
        told.push((page.to_owned(), proxy.page(page).await.text()));
    }
    told
}

fn leaks(told: &[(String, String)], planted: &[Planted]) -> Vec<String> {
    let mut found = Vec::new();
    for secret in planted {
        let needles = [secret.secret.clone(), encoded(&secret.secret)];
        for (place, text) in told {
            if needles.iter().any(|needle| text.contains(needle.as_str())) {
                found.push(format!("{} `{}` in {place}", secret.kind, secret.secret));
            }
        }
    }
    found
}

#[track_caller]
fn assert_clean(told: &[(String, String)], planted: &[Planted]) {
    let found = leaks(told, planted);
    assert!(
        found.is_empty(),
        "{} leaks:\n{}",
        found.len(),
        found.join("\n")
    );
}

/// Plants each secret in one of six places, and gives all that was said of it.
async fn plant(planted: &[Planted], redact: &str) -> Vec<(String, String)> {
    let origin = Origin::always(Answer::ok("x")).await;
    let closed = ports::closed();
    let proxy = Setup::shop(&[origin.addr], QUIET)
        .upstream("gone.test", &[closed], QUIET)
        .top(&format!(
            "telemetry: {{ explain: {{ sample: 100%, keep: 10000 }}, redact: {redact} }}"
        ))
        .start()
        .await;
    let mut replies = Vec::new();
    for (nth, secret) in planted.iter().enumerate() {
        let text = encoded(&secret.secret);
        let call = match nth % 6 {
            // By its look, in the path.
            0 if secret.by_look => Call::get(&format!("/users/{text}/x")),
            1 if secret.by_look => Call::get(&format!("/a/b;v={text}")),
            // By its name, in the query; queries are not written at all, which is as good.
            2 => Call::get(&format!("/q?{}={text}", secret.name)),
            3 => Call::get("/h").field(
                &format!("x-{}", secret.name),
                &secret.secret.replace('\n', " "),
            ),
            4 => Call::post(
                "/b",
                format!(
                    "{{\"{}\":{}}}",
                    secret.name,
                    Value::from(secret.secret.as_str())
                ),
            ),
            // Answered by outrider itself.
            _ if secret.by_look => Call::get(&format!("/down/{text}")).host("gone.test"),
            _ => Call::get(&format!("/down?{}={text}", secret.name)).host("gone.test"),
        };
        let call = if secret.by_look && !secret.kind.is_number() && !secret.secret.contains('\n') {
            call.field("x-request-id", &secret.secret)
        } else {
            call
        };
        let reply = proxy.call(&call).await;
        if reply.status >= 400 {
            replies.push(reply.text());
        }
    }
    // The last line is out when this one is.
    proxy.get("/the-end").await;
    proxy.logged_path("/the-end").await;
    assert!(replies.len() > 50, "{}", replies.len());
    let mut all = told(&proxy).await;
    all.push(("problem bodies".to_owned(), replies.join("\n")));
    all
}

#[tokio::test]
async fn no_planted_secret_comes_out_anywhere() {
    let planted = corpus::planted();
    assert!(planted.len() >= 500, "{}", planted.len());
    assert_clean(&plant(&planted, "default").await, &planted);
}

#[tokio::test]
async fn without_redaction_what_was_planted_is_found() {
    let planted = corpus::planted();
    let found = leaks(&plant(&planted, "off").await, &planted);
    assert!(found.len() > 300, "{} of {}", found.len(), planted.len());
}

#[tokio::test]
async fn a_bad_policy_is_told_without_the_secrets_in_it() {
    let planted: Vec<Planted> = corpus::planted();
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("bad.yaml");
    for some in planted.chunks(24) {
        let mut text = "upstreams:\n".to_owned();
        for (nth, secret) in some.iter().enumerate() {
            let value = Value::from(secret.secret.as_str());
            writeln!(
                text,
                "  - upstream: a{nth}.test\n    credential: {{ from: {value} }}\n    {}: {value}",
                secret.name
            )
            .expect("a String takes all");
        }
        std::fs::write(&path, &text).expect("the policy");
        for command in [
            &["check"][..],
            &["check", "--format", "json"],
            &["check", "--format", "sarif"],
            &["run"],
        ] {
            let done = Command::new(BINARY)
                .args(command)
                .arg(&path)
                .output()
                .expect("outrider runs");
            assert!(!done.status.success(), "{command:?}");
            let told = |bytes: &[u8]| {
                (
                    format!("{command:?}"),
                    String::from_utf8_lossy(bytes).into_owned(),
                )
            };
            assert_clean(&[told(&done.stdout), told(&done.stderr)], some);
        }
    }
    let origin = Origin::always(Answer::ok("x")).await;
    let proxy = Setup::shop(&[origin.addr], QUIET).start().await;
    let last = std::fs::read_to_string(&path).expect("the policy");
    write(&proxy.policy, &last);
    proxy.signal("HUP");
    proxy
        .until_sum("outrider_policy_reload_success", &[], |value| value == 0.0)
        .await;
    let some = planted.chunks(24).last().expect("some");
    assert_clean(&told(&proxy).await, some);
}

#[tokio::test]
async fn innocents_come_through_as_they_are() {
    let origin = Origin::always(Answer::ok("x")).await;
    let proxy = Setup::shop(&[origin.addr], QUIET).start().await;
    let mut raw = proxy.connect().await;
    for (nth, innocent) in corpus::INNOCENTS.iter().enumerate() {
        let path = format!("/{nth}/{innocent}");
        raw.call(&Call::get(&path).field("x-request-id", &format!("id-{nth}-4111111111111111")))
            .await;
        let line = proxy.logged_path(&path).await;
        assert_eq!(line["host"], "shop.test");
        let duration = line["duration_ms"].as_f64();
        assert!(duration.is_some(), "{line}");
    }
    let id = "4111111111111111";
    raw.call(&Call::get("/id").field("x-request-id", id)).await;
    assert_eq!(
        proxy.logged_path("/id").await["request_id"],
        id,
        "a number is an identifier"
    );
}

#[tokio::test]
async fn the_name_of_a_host_is_looked_at() {
    let origin = Origin::always(Answer::ok("x")).await;
    let proxy = Setup::shop(&[origin.addr], QUIET).start().await;
    // A host name may hold a number; that it is one of a card, only its arithmetic says.
    proxy
        .call(&Call::get("/host").host("4111111111111111.shop.test"))
        .await;
    let line = proxy.logged_path("/host").await;
    assert_eq!(line["host"], "***.shop.test");
}

#[tokio::test]
async fn a_policy_chooses_what_stands_in_and_a_reload_changes_it() {
    let origin = Origin::always(Answer::ok("x")).await;
    let setup = Setup::shop(&[origin.addr], QUIET).top("telemetry: { redact: { action: hash } }");
    let text = setup.text();
    let proxy = setup.start().await;
    proxy.get("/jo@example.com/1").await;
    proxy.get("/jo@example.com/2").await;
    let path = |nth: &'static str| {
        let proxy = &proxy;
        async move {
            let found = until("the line", || async {
                proxy.log().into_iter().find(|line| {
                    line["path"]
                        .as_str()
                        .is_some_and(|path| path.ends_with(nth))
                })
            });
            found.await["path"].as_str().expect("a path").to_owned()
        }
    };
    let (one, two) = (path("/1").await, path("/2").await);
    assert!(one.starts_with("/hash_"), "{one}");
    assert_eq!(one.trim_end_matches('1'), two.trim_end_matches('2'));
    proxy
        .reload(&text.replace("{ redact: { action: hash } }", "{ redact: off }"))
        .await;
    proxy.get("/jo@example.com/3").await;
    assert_eq!(path("/3").await, "/jo@example.com/3");
}
