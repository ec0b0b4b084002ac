//! A secret of the service on its calls: who gets it, how it is changed, and that nobody else ever sees it.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use tempfile::TempDir;

use crate::support::call::Call;
use crate::support::call::HOST;
use crate::support::names::log;
use crate::support::origin::Act;
use crate::support::origin::Answer;
use crate::support::origin::Origin;
use crate::support::origin::Seen;
use crate::support::origin::pattern;
use crate::support::proxy::BINARY;
use crate::support::proxy::Proxy;
use crate::support::setup::Setup;
use crate::support::until;

/// A folder of secrets, as a mounted Secret is one.
struct Keys(TempDir);

impl Keys {
    fn new() -> Self {
        Keys(TempDir::new().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Puts a key in place in one step.
    fn put(&self, name: &str, text: &str) {
        let aside = self.path("aside");
        fs::write(&aside, text).expect("the folder can be written");
        fs::rename(aside, self.path(name)).expect("the key is put in place");
    }

    fn place(&self, name: &str) -> String {
        format!("file:{}", self.path(name).display())
    }
}

fn shop(origin: &Origin, settings: &str) -> Setup {
    let settings = format!("breaker: off\neject: off\n{settings}");
    Setup::shop(&[origin.addr], &settings).args(&["--workers", "1"])
}

fn sent(seen: &Seen) -> &str {
    seen.head.get("authorization").unwrap_or("-")
}

fn all_sent(origin: &Origin) -> Vec<String> {
    let seen = origin.seen();
    seen.iter().map(|seen| sent(seen).to_owned()).collect()
}

fn status(status: u16) -> Act {
    Act::Answer(Answer::status(status).text("scripted"))
}

/// Calls until the origin is sent this value.
async fn until_sent(proxy: &Proxy, origin: &Origin, value: &str) {
    until(&format!("{value:?} is sent"), || async {
        proxy.get("/").await;
        origin
            .seen()
            .last()
            .filter(|seen| sent(seen) == value)
            .map(drop)
    })
    .await;
}

/// An origin that takes one value of the header and answers 401 to all else.
async fn guarded(takes: &'static str) -> Origin {
    Origin::start(move |asked| {
        let is_good = asked.head.get("authorization") == Some(takes);
        status(if is_good { 200 } else { 401 })
    })
    .await
}

#[tokio::test]
async fn every_try_carries_the_secret_and_nobody_outside_sees_it() {
    let keys = Keys::new();
    keys.put("pay", "k3y-of-the-shop\n");
    let origin = Origin::sequence(vec![status(503), status(503), status(200)]).await;
    let credential = format!(
        "retry: {{ max: 2 }}\ncredential: {{ from: {}, format: \"Bearer {{}}\" }}",
        keys.place("pay")
    );
    let proxy = shop(&origin, &credential).start().await;
    let reply = proxy.get("/pay").await;
    reply.is(200);
    assert_eq!(all_sent(&origin), ["Bearer k3y-of-the-shop"; 3]);
    let labels = [("credential", keys.place("pay"))];
    let labels = [(labels[0].0, labels[0].1.as_str())];
    let uses = proxy.sum("outrider_credential_uses_total", &labels).await;
    assert_eq!(uses, 3.0);
    assert!(!String::from_utf8_lossy(&reply.head.raw).contains("k3y"));
}

#[tokio::test]
async fn a_secret_may_come_from_the_environment() {
    let origin = Origin::always(Answer::ok("x")).await;
    let setup = shop(
        &origin,
        "credential: { header: X-Api-Key, from: env:SHOP_KEY }",
    );
    let mut proxy = Proxy::spawn(setup, BINARY.as_ref(), |command| {
        command.env("SHOP_KEY", "from-the-environment");
    });
    proxy.wait_ready().await;
    proxy.get("/").await.is(200);
    let seen = origin.only();
    assert_eq!(seen.head.get("x-api-key"), Some("from-the-environment"));
    assert_eq!(sent(&seen), "-");
}

#[tokio::test]
async fn what_the_application_sets_stays_unless_it_is_to_be_replaced() {
    let keys = Keys::new();
    keys.put("pay", "ours");
    let origin = Origin::always(Answer::ok("x")).await;
    for (overwrite, expected) in [(false, "theirs"), (true, "ours")] {
        let credential = format!(
            "credential: {{ from: {}, overwrite: {overwrite} }}",
            keys.place("pay")
        );
        let proxy = shop(&origin, &credential).start().await;
        let call = Call::get("/").field("Authorization", "theirs");
        proxy.call(&call).await.is(200);
        assert_eq!(all_sent(&origin).last().map(String::as_str), Some(expected));
        let kept = proxy.sum("outrider_credential_kept_total", &[]).await;
        assert_eq!(kept, f64::from(u8::from(!overwrite)));
    }
}

#[tokio::test]
async fn a_file_is_read_again_however_it_changes() {
    let keys = Keys::new();
    // As the kubelet mounts it: the name leads through `..data`.
    let version = |number: usize, text: &str| {
        let data = keys.path(&format!("..v{number}"));
        fs::create_dir(&data).expect("a folder");
        fs::write(data.join("pay"), text).expect("a key");
        let aside = keys.path("..data_tmp");
        std::os::unix::fs::symlink(format!("..v{number}"), &aside).expect("a link");
        fs::rename(aside, keys.path("..data")).expect("the swap");
    };
    version(1, "first");
    std::os::unix::fs::symlink("..data/pay", keys.path("pay")).expect("a link");
    let origin = Origin::always(Answer::ok("x")).await;
    let credential = format!("credential: {}", keys.place("pay"));
    let proxy = shop(&origin, &credential).start().await;
    proxy.get("/").await.is(200);
    assert_eq!(all_sent(&origin), ["first"]);
    version(2, "second\n");
    until_sent(&proxy, &origin, "second").await;
    keys.put("pay", "third");
    until_sent(&proxy, &origin, "third").await;
    fs::write(keys.path("pay"), "fourth").expect("written in place");
    until_sent(&proxy, &origin, "fourth").await;
    assert!(
        all_sent(&origin)
            .iter()
            .all(|sent| ["first", "second", "third", "fourth"].contains(&sent.as_str())),
        "never anything between"
    );
}

#[tokio::test]
async fn half_a_file_is_counted_and_the_old_secret_goes_on() {
    let keys = Keys::new();
    keys.put("pay", "good");
    let origin = Origin::always(Answer::ok("x")).await;
    let credential = format!("credential: {}", keys.place("pay"));
    let proxy = shop(&origin, &credential).start().await;
    for (text, error) in [("", "empty"), ("one\ntwo", "malformed")] {
        keys.put("pay", text);
        proxy
            .until_sum(
                "outrider_credential_errors_total",
                &[("error", error)],
                |sum| sum >= 1.0,
            )
            .await;
        proxy.get("/").await.is(200);
    }
    // A writer that has the file open and is not done.
    let mut half = fs::File::create(keys.path("pay")).expect("opened");
    std::io::Write::write_all(&mut half, b"better-but-ha").expect("written");
    for _ in 0..20 {
        proxy.get("/").await.is(200);
        tokio::time::sleep(crate::support::STEP).await;
    }
    fs::remove_file(keys.path("pay")).expect("removed");
    proxy
        .until_sum(
            "outrider_credential_errors_total",
            &[("error", "missing")],
            |sum| sum >= 1.0,
        )
        .await;
    proxy.get("/").await.is(200);
    assert!(all_sent(&origin).iter().all(|sent| sent == "good"));
    drop(half);
    keys.put("pay", "better");
    until_sent(&proxy, &origin, "better").await;
    let page = proxy.page("/upstreams").await.text();
    assert!(page.contains("\"trouble\": null"), "{page}");
}

#[tokio::test]
async fn without_its_secret_no_call_goes_and_with_it_all_do() {
    let keys = Keys::new();
    let origin = Origin::always(Answer::ok("x")).await;
    let credential = format!("retry: {{ max: 2 }}\ncredential: {}", keys.place("pay"));
    let proxy = shop(&origin, &credential).start().await;
    proxy.get("/none").await.is_own(503, &["credential"]);
    assert_eq!(origin.requests(), 0);
    let line = proxy.logged_path("/none").await;
    assert_eq!(line[log::TRIES].as_u64(), Some(0), "{line}");
    let refused = proxy
        .sum("outrider_credential_refused_total", &[("mode", "enforce")])
        .await;
    assert_eq!(refused, 1.0);
    let page = proxy.page("/upstreams").await.text();
    assert!(page.contains("\"trouble\": \"missing\""), "{page}");
    keys.put("pay", "late");
    until("the secret is there", || async {
        (proxy.get("/").await.status == 200).then_some(())
    })
    .await;
    assert_eq!(all_sent(&origin), ["late"]);
}

#[tokio::test]
async fn shadow_counts_and_sets_nothing() {
    let keys = Keys::new();
    keys.put("pay", "k3y");
    let origin = Origin::always(Answer::ok("x")).await;
    let credential = format!(
        "credential: {{ mode: shadow, from: {} }}\nroutes:\n  - match: /none\n    credential: {{ from: {} }}",
        keys.place("pay"),
        keys.place("none")
    );
    let proxy = shop(&origin, &credential).start().await;
    proxy.get("/").await.is(200);
    proxy.get("/none").await.is(200);
    assert_eq!(all_sent(&origin), ["-", "-"]);
    let metrics = proxy.metrics().await;
    let sum = |name: &str| metrics.sum(name, &[]);
    assert_eq!(sum("outrider_credential_shadow_uses_total"), 1.0);
    assert_eq!(sum("outrider_credential_refused_total"), 1.0);
    assert_eq!(sum("outrider_credential_uses_total"), 0.0);
}

#[tokio::test]
async fn the_next_key_is_tried_once_on_401_with_the_whole_body_and_then_goes_first() {
    let keys = Keys::new();
    keys.put("pay", "old");
    keys.put("pay-next", "new");
    let origin = guarded("new").await;
    for retry in ["off", "{ max: 2, methods: safe }"] {
        let credential = format!(
            "retry: {retry}\ncredential: {{ from: {}, next: {} }}",
            keys.place("pay"),
            keys.place("pay-next")
        );
        let proxy = shop(&origin, &credential).start().await;
        let before = origin.requests();
        let body = pattern(20_000);
        proxy.call(&Call::post("/pay", body.clone())).await.is(200);
        proxy.get("/next").await.is(200);
        assert_eq!(all_sent(&origin)[before..], ["old", "new", "new"]);
        let seen = origin.seen();
        assert!(
            seen[before..before + 2]
                .iter()
                .all(|seen| seen.body.content == body && seen.whole),
            "each is sent all of it"
        );
        let line = proxy.logged_path("/pay").await;
        assert_eq!(line[log::TRIES].as_u64(), Some(2), "{line}");
        let labels = [("outcome", "accepted")];
        let second = proxy.sum("outrider_credential_second_total", &labels).await;
        assert_eq!(second, 1.0);
    }
}

#[tokio::test]
async fn there_is_no_third_key_and_no_second_half_of_a_body() {
    let keys = Keys::new();
    keys.put("pay", "old");
    keys.put("pay-next", "older");
    let origin = guarded("new").await;
    let credential = format!(
        "retry: {{ max: 3 }}\ncredential: {{ from: {}, next: {} }}",
        keys.place("pay"),
        keys.place("pay-next")
    );
    let proxy = shop(&origin, &credential).start().await;
    proxy.get("/").await.is(401);
    assert_eq!(all_sent(&origin), ["old", "older"]);
    let large = Call::post("/large", pattern(200_000));
    proxy.call(&large).await.is(401);
    assert_eq!(origin.requests(), 3, "its body was not kept");
    let metrics = proxy.metrics().await;
    for (outcome, count) in [("refused", 1.0), ("body_gone", 1.0), ("accepted", 0.0)] {
        let labels = [("outcome", outcome)];
        let second = metrics.sum("outrider_credential_second_total", &labels);
        assert_eq!(second, count, "{outcome}");
    }
}

#[tokio::test]
async fn a_redirect_is_the_applications_and_takes_no_secret_along() {
    let keys = Keys::new();
    keys.put("pay", "k3y");
    let elsewhere = Origin::always(Answer::ok("x")).await;
    let away = Answer::status(307).field("Location", "http://elsewhere.test/take");
    let origin = Origin::always(away).await;
    let credential = format!("credential: {}", keys.place("pay"));
    let proxy = shop(&origin, &credential)
        .upstream("elsewhere.test", &[elsewhere.addr], "breaker: off")
        .start()
        .await;
    let reply = proxy.get("/").await;
    reply.is(307);
    assert_eq!(elsewhere.requests(), 0, "it is not followed");
    assert_eq!(reply.get("location"), Some("http://elsewhere.test/take"));
    let call = Call::get("/take").host("elsewhere.test");
    proxy.call(&call).await.is(200);
    assert_eq!(sent(&elsewhere.only()), "-");
}

#[tokio::test]
async fn a_hedged_copy_carries_it_too() {
    let keys = Keys::new();
    keys.put("pay", "k3y");
    let slow = Origin::start(|_| Act::Silence).await;
    let fast = Origin::always(Answer::ok("x")).await;
    let settings = format!(
        "breaker: off\neject: off\nbalance: round_robin\nhedge: {{ after: 20ms, budget: {{ floor: 100/s }} }}\ncredential: {}",
        keys.place("pay")
    );
    let setup = Setup::shop(&[slow.addr, fast.addr], &settings);
    let proxy = setup.args(&["--workers", "1"]).start().await;
    for _ in 0..4 {
        proxy.get("/").await.is(200);
    }
    assert!(slow.requests() > 0 && fast.requests() > 0);
    for origin in [&slow, &fast] {
        assert!(all_sent(origin).iter().all(|sent| sent == "k3y"));
    }
}

#[tokio::test]
async fn a_cache_takes_a_signed_call_for_one_with_credentials_unless_they_are_its_own() {
    let keys = Keys::new();
    keys.put("pay", "k3y");
    let count = Arc::new(AtomicUsize::new(0));
    let origin = Origin::start(move |asked| {
        count.fetch_add(1, Ordering::Relaxed);
        let answer = Answer::ok(asked.n.to_string());
        let how = if asked.target == "/public" {
            "public, max-age=60"
        } else {
            "max-age=60"
        };
        Act::Answer(answer.field("cache-control", how))
    })
    .await;
    for (credentialed, path, fetches) in [
        ("standard", "/plain", 2),
        ("standard", "/public", 1),
        ("off", "/public", 2),
        ("own", "/plain", 1),
    ] {
        let settings = format!(
            "cache: {{ credentialed: {credentialed} }}\ncredential: {}",
            keys.place("pay")
        );
        let proxy = shop(&origin, &settings).start().await;
        let before = origin.requests();
        for _ in 0..2 {
            proxy.get(path).await.is(200);
        }
        let fetched = origin.requests() - before;
        assert_eq!(fetched, fetches, "{credentialed} {path}");
    }
    assert!(all_sent(&origin).iter().all(|sent| sent == "k3y"));
}

#[tokio::test]
async fn a_reload_changes_and_removes_it_without_a_lost_call() {
    let keys = Keys::new();
    keys.put("one", "first");
    keys.put("two", "second");
    let origin = Origin::always(Answer::ok("x")).await;
    let with = |settings: &str| shop(&origin, settings);
    let first = with(&format!("credential: {}", keys.place("one")));
    let proxy = first.start().await;
    proxy.get("/").await.is(200);
    let again = |lines: &str| {
        let mut setup = proxy.setup.clone();
        let fresh = with(lines);
        (setup.outbound, setup.explicit, setup.admin) =
            (fresh.outbound, fresh.explicit, fresh.admin);
        let text = fresh.text();
        let listen = |setup: &Setup| {
            let text = setup.text();
            let mut lines = text.lines().filter(|line| line.starts_with("listen:"));
            lines.next().expect("it listens").to_owned()
        };
        text.replace(&listen(&fresh), &listen(&proxy.setup))
    };
    proxy
        .reload(&again(&format!("credential: {}", keys.place("two"))))
        .await;
    until_sent(&proxy, &origin, "second").await;
    let loaded = "outrider_credential_loaded_timestamp_seconds";
    let of = |name: &str| keys.place(name);
    let (one, two) = (of("one"), of("two"));
    assert!(proxy.sum(loaded, &[("credential", &two)]).await > 1e9);
    proxy
        .until_sum(loaded, &[("credential", &one)], |at| at == 0.0)
        .await;
    proxy.reload(&again("credential: off")).await;
    until_sent(&proxy, &origin, "-").await;
}

#[tokio::test]
async fn nothing_that_can_be_read_from_outside_has_the_secret_in_it() {
    const SECRETS: [&str; 3] = ["s3cret-Alpha-01", "s3cret-Beta-02", "s3cret-Gamma-03"];
    let keys = Keys::new();
    keys.put("pay", SECRETS[0]);
    keys.put("pay-next", SECRETS[1]);
    let origin = Origin::start(|asked| match asked.target {
        "/cut" => Act::Cut(Answer::ok("x"), 5, crate::support::origin::After::Reset),
        "/raw" => Act::Raw(
            b"nonsense\r\n\r\n".to_vec(),
            crate::support::origin::After::Close,
        ),
        "/401" => status(401),
        _ => status(200),
    })
    .await;
    let setup = shop(
        &origin,
        &format!(
            "timeout: 5s\ncredential: {{ from: {}, next: {}, format: \"Bearer {{}}\" }}\ncache: {{ credentialed: own }}",
            keys.place("pay"),
            keys.place("pay-next")
        ),
    );
    let mut proxy = Proxy::spawn(setup, BINARY.as_ref(), |command| {
        command
            .env("RUST_LOG", "trace")
            .env("OUTRIDER_LOG", "trace");
    });
    proxy.wait_ready().await;
    for path in ["/", "/cut", "/raw", "/401"] {
        let reply = proxy.get(path).await;
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&reply.head.raw),
            reply.text()
        );
        assert!(!text.contains("s3cret"), "{path}: {text}");
    }
    keys.put("pay", SECRETS[2]);
    until_sent(&proxy, &origin, &format!("Bearer {}", SECRETS[2])).await;
    keys.put("pay", &format!("{}\nline", SECRETS[2]));
    proxy
        .until_sum(
            "outrider_credential_errors_total",
            &[("error", "malformed")],
            |sum| sum >= 1.0,
        )
        .await;
    let mut outside = proxy.errors();
    outside.extend(proxy.log().iter().map(ToString::to_string));
    for page in [
        "/upstreams",
        "/config",
        "/metrics",
        "/cache",
        "/faults",
        "/",
    ] {
        outside.push(proxy.page(page).await.text());
    }
    assert!(outside.len() > 10 && outside.iter().any(|text| text.contains(HOST)));
    for text in &outside {
        assert!(!text.contains("s3cret"), "{text}");
    }
    let named = |text: &String| text.contains(&keys.place("pay"));
    assert!(outside.iter().any(named), "its name is told");
}
