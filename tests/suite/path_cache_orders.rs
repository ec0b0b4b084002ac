//! The cache in the hands of an operator: purges, reloads, memory, shadow, and what is seen.

use std::process::Stdio;

use serde_json::Value;

use crate::path_cache::ALONE;
use crate::path_cache::is_fetched;
use crate::path_cache::is_hit;
use crate::path_cache::numbered;
use crate::path_cache::shop;
use crate::path_cache::told;
use crate::support::call::Call;
use crate::support::load::Load;
use crate::support::origin::Act;
use crate::support::origin::Answer;
use crate::support::origin::Asked;
use crate::support::origin::Gate;
use crate::support::origin::Origin;
use crate::support::proxy::BINARY;
use crate::support::proxy::Proxy;
use crate::support::setup::Setup;
use crate::support::until;

const MAX_AGE: [(&str, &str); 1] = [("Cache-Control", "max-age=600")];

/// `outrider cache ...`; gives what it prints.
async fn command(proxy: &Proxy, args: &[&str]) -> String {
    let mut args: Vec<String> = args.iter().map(ToString::to_string).collect();
    args.extend(["--admin".to_owned(), proxy.admin.to_string()]);
    let run = move || {
        std::process::Command::new(BINARY)
            .arg("cache")
            .args(args)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .output()
            .expect("start outrider")
    };
    let output = tokio::task::spawn_blocking(run).await.expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{text}{said}");
    text
}

/// How many answers a purge named.
async fn purge(proxy: &Proxy, args: &[&str]) -> u64 {
    let args: Vec<&str> = ["purge", "--json"].iter().chain(args).copied().collect();
    let text = command(proxy, &args).await;
    let answer: Value = serde_json::from_str(&text).expect("JSON");
    answer["purged"].as_u64().expect("a count")
}

async fn is_kept(proxy: &Proxy, target: &str) -> bool {
    let reply = proxy
        .call(&Call::get(target).field("Cache-Control", "only-if-cached"))
        .await;
    reply.status != 504
}

#[tokio::test]
async fn a_purge_by_url_takes_all_that_is_kept_of_it_and_nothing_else() {
    let script = |asked: &Asked<'_>| {
        let fields = [
            ("Cache-Control", "max-age=600"),
            ("Vary", "Accept-Language"),
        ];
        numbered(asked, &fields)
    };
    let (_origin, proxy) = shop("{ per: header:authorization }", script).await;
    for target in ["/a", "/a?x=1", "/a/", "/A"] {
        proxy.get(target).await.is(200);
    }
    for (name, value) in [
        ("Accept-Language", "de"),
        ("Authorization", "ann"),
        ("Authorization", "bob"),
    ] {
        proxy
            .call(&Call::get("/a").field(name, value))
            .await
            .is(200);
    }
    assert_eq!(purge(&proxy, &["http://SHOP.test:80/a"]).await, 4);
    assert!(!is_kept(&proxy, "/a").await);
    for other in ["/a?x=1", "/a/", "/A"] {
        assert!(is_kept(&proxy, other).await, "{other}");
    }
    assert_eq!(purge(&proxy, &["http://shop.test/a"]).await, 0);
    assert_eq!(purge(&proxy, &["http://other.test/a?x=1"]).await, 0);
    assert_eq!(purge(&proxy, &["http://shop.test/a?x=1"]).await, 1);
    assert_eq!(purge(&proxy, &["--all"]).await, 2);
    let by_url = [("by", "url"), ("how", "hard")];
    assert_eq!(proxy.sum("outrider_cache_purged_total", &by_url).await, 5.0);
    let text = command(&proxy, &["purge", "--all"]).await;
    assert_eq!(text, "0 answers removed\n");
    let audit = until("the audit line", || async {
        let lines = proxy.errors();
        lines
            .into_iter()
            .find(|line| line.contains("purges the cache") && line.contains("/a?x=1"))
    })
    .await;
    assert!(audit.contains("audit"), "{audit}");
}

#[tokio::test]
async fn a_purge_by_tag_takes_what_the_upstream_tagged_so() {
    let script = |asked: &Asked<'_>| {
        let tags = match asked.target {
            "/1" => "sku-1 all",
            "/2" => "sku-2, all",
            _ => "other",
        };
        let fields = [
            ("Cache-Control", "max-age=600"),
            ("Surrogate-Key", tags),
            ("ETag", "\"v\""),
        ];
        numbered(asked, &fields)
    };
    let (_origin, proxy) = shop("{ tags: surrogate-key, strip_tags: true }", script).await;
    for target in ["/1", "/2", "/3"] {
        let reply = proxy.get(target).await;
        assert!(!reply.is(200).head.has("surrogate-key"), "stripped");
    }
    assert_eq!(purge(&proxy, &["--tag", "sku-"]).await, 0, "a whole tag");
    assert_eq!(purge(&proxy, &["--tag", "sku-1"]).await, 1);
    assert!(!is_kept(&proxy, "/1").await && is_kept(&proxy, "/2").await);
    assert_eq!(purge(&proxy, &["--tag", "all"]).await, 1);
    assert!(!is_kept(&proxy, "/2").await && is_kept(&proxy, "/3").await);
    let text = command(&proxy, &["purge", "--tag", "other"]).await;
    assert_eq!(text, "other: 1 answer removed\n");
}

#[tokio::test]
async fn what_is_purged_softly_is_asked_for_and_can_still_stand_in() {
    let script = |asked: &Asked<'_>| match asked.n {
        0 => numbered(
            asked,
            &[("Cache-Control", "max-age=600"), ("ETag", "\"v\"")],
        ),
        1 => Act::Answer(Answer::status(503)),
        _ => Act::Answer(
            Answer::status(304)
                .field("ETag", "\"v\"")
                .field("Cache-Control", "max-age=600"),
        ),
    };
    let (origin, proxy) = shop("{ stale_if_error: 10m }", script).await;
    let first = proxy.get("/").await.text();
    assert_eq!(purge(&proxy, &["--soft", "http://shop.test/"]).await, 1);
    for (round, status) in [(1, "fwd-status=503"), (2, "fwd-status=304")] {
        let reply = proxy.get("/").await;
        assert_eq!(reply.is(200).text(), first, "{round}");
        assert!(told(&reply).contains(status), "{round}: {}", told(&reply));
        assert_eq!(
            origin.seen()[round].head.get("if-none-match"),
            Some("\"v\""),
            "{round}"
        );
    }
    is_hit(&proxy.get("/").await);
}

#[tokio::test]
async fn what_was_on_its_way_when_the_purge_came_is_not_kept() {
    for what in ["--all", "http://shop.test/", "--tag=t"] {
        let gate = Gate::new();
        let held = gate.clone();
        let script = move |asked: &Asked<'_>| {
            let act = numbered(asked, &[MAX_AGE[0], ("X-Tag", "t")]);
            if asked.n == 0 {
                Act::Hold(held.clone(), Box::new(act))
            } else {
                act
            }
        };
        let (origin, proxy) = shop("{ tags: x-tag }", script).await;
        let get = Call::get("/");
        let (first, ()) = tokio::join!(proxy.call(&get), async {
            until("the fetch", || async {
                (origin.requests() == 1).then_some(())
            })
            .await;
            purge(&proxy, &[what]).await;
            gate.open();
        });
        first.is(200);
        assert_ne!(proxy.get("/").await.text(), first.text(), "{what}");
    }
}

#[tokio::test]
async fn a_reload_keeps_what_is_kept_and_takes_the_new_rules() {
    let origin = Origin::start(|asked| numbered(asked, &MAX_AGE)).await;
    let policy = |memory: &str, cache: &str| {
        Setup::shop(&[origin.addr], &format!("{ALONE}cache: {cache}\n"))
            .top(&format!("cache: {{ memory: {memory} }}"))
    };
    let setup = policy("8MiB", "{}");
    let text = setup.text();
    let proxy = setup.start().await;
    let first = proxy.get("/").await.text();
    let load = Load::start(proxy.outbound, &Call::get("/"), 2);
    for round in 0..10 {
        proxy
            .reload(&text.replace("8MiB", &format!("{}MiB", 9 + round)))
            .await;
    }
    load.stop_clean().await;
    assert_eq!(
        (proxy.get("/").await.text(), origin.requests()),
        (first.clone(), 1)
    );
    let capacity = proxy.sum("outrider_cache_capacity_bytes", &[]).await;
    assert_eq!(capacity, f64::from(18 << 20));
    // Off, nothing of it is used; on again, it is still there.
    proxy.reload(&text.replace("cache: {}", "cache: off")).await;
    let passed = proxy.get("/").await;
    assert!(!passed.head.has("cache-status") && passed.text() != first);
    proxy.reload(&text).await;
    assert_eq!(is_hit(&proxy.get("/").await).text(), first);
}

#[tokio::test]
async fn memory_is_bounded_and_what_is_asked_for_stays() {
    const LARGE: usize = 20_000;
    let script = |_: &Asked<'_>| {
        Act::Answer(Answer::ok(vec![b'x'; LARGE]).field("Cache-Control", "max-age=600"))
    };
    let origin = Origin::start(script).await;
    let setup = Setup::shop(&[origin.addr], &format!("{ALONE}cache: {{}}\n")).top("cache: 1MiB");
    let proxy = setup.start().await;
    for n in 0..200 {
        proxy.get(&format!("/{n}")).await.is(200);
        proxy.get("/favourite").await.is(200);
    }
    let metrics = proxy.metrics().await;
    let sum = |name: &str| metrics.sum(name, &[]);
    assert!(sum("outrider_cache_bytes") <= f64::from(1 << 20));
    assert!(
        sum("outrider_cache_bytes") >= f64::from(1 << 18),
        "it is used"
    );
    assert!(sum("outrider_cache_evictions_total") >= 140.0);
    assert!(sum("outrider_cache_entries") <= 52.0);
    is_hit(&proxy.get("/favourite").await);
}

#[tokio::test]
async fn shadow_decides_and_counts_and_changes_no_answer() {
    let fields = [("Cache-Control", "max-age=600"), ("Age", "7")];
    let (origin, proxy) = shop(
        "{ mode: shadow, tags: x-tag, strip_tags: true }",
        move |asked| numbered(asked, &[fields[0], fields[1], ("X-Tag", "t")]),
    )
    .await;
    for n in 0..3 {
        let reply = proxy.get("/").await;
        assert_eq!(reply.is(200).text(), format!("{n} of /"));
        assert_eq!(
            (reply.get("age"), reply.get("x-tag")),
            (Some("7"), Some("t"))
        );
        assert!(!reply.head.has("cache-status"));
    }
    assert_eq!(origin.requests(), 3);
    let would = async |result| {
        let labels = [("result", result)];
        proxy
            .sum("outrider_cache_shadow_requests_total", &labels)
            .await
    };
    assert_eq!((would("fresh").await, would("miss").await), (2.0, 1.0));
    assert_eq!(proxy.sum("outrider_cache_requests_total", &[]).await, 0.0);
    assert_eq!(
        proxy.sum("outrider_cache_saved_calls_total", &[]).await,
        0.0
    );
}

#[tokio::test]
async fn hits_are_seen_in_log_metrics_and_pages() {
    let script = |asked: &Asked<'_>| match asked.target {
        "/kept" => numbered(asked, &MAX_AGE),
        _ => numbered(asked, &[("Cache-Control", "no-store")]),
    };
    let (_origin, proxy) = shop("{}", script).await;
    for _ in 0..4 {
        proxy.get("/kept").await.is(200);
    }
    is_fetched(&proxy.get("/passed").await);
    let line = proxy
        .logged("a hit", |line| {
            line["cache"] == "fresh" && line["path"] == "/kept"
        })
        .await;
    assert_eq!(
        (&line["tries"], &line["status"]),
        (&0.into(), &200.into()),
        "{line}"
    );
    let line = proxy.logged_path("/passed").await;
    assert_eq!(
        (&line["cache"], &line["cache_why"]),
        (&"miss".into(), &"no_store".into()),
        "{line}"
    );
    let hits = proxy
        .sum("outrider_cache_requests_total", &[("result", "fresh")])
        .await;
    assert_eq!(hits, 3.0);
    let pages = [
        proxy.page("/upstreams").await.text(),
        proxy.page("/cache").await.text(),
    ];
    let pages = pages.map(|page| serde_json::from_str::<Value>(&page).expect("the page is JSON"));
    let ratio = &pages[0][0]["routes"][0]["cache"]["hit_ratio"];
    assert_eq!(ratio.as_f64(), Some(0.6), "{}", pages[0]);
    assert_eq!(
        (&pages[1]["entries"], &pages[1]["routes"][0]["saved"]),
        (&1.into(), &3.into()),
        "{}",
        pages[1]
    );
    let text = command(&proxy, &["stats"]).await;
    assert!(
        text.contains("shop.test *: 60.0 % hits, 5 calls, 3 saved"),
        "{text}"
    );
}

#[tokio::test]
async fn a_purge_without_a_cache_is_declined() {
    let origin = Origin::start(|asked| numbered(asked, &[])).await;
    let proxy = Setup::shop(&[origin.addr], ALONE).start().await;
    let reply = Call::post("/cache/purge?all", "")
        .host("127.0.0.1")
        .to(proxy.admin)
        .await;
    assert_eq!(reply.status, 409, "{}", reply.text());
    let foreign = Call::post("/cache/purge?all", "")
        .host("evil.example")
        .to(proxy.admin)
        .await;
    assert_eq!(foreign.status, 403);
}
