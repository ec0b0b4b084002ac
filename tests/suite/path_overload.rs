//! outrider itself has too much to do: the least important is left undone, at once, and the rest is served.

use crate::support::call::Call;
use crate::support::client::Raw;
use crate::support::names::log;
use crate::support::origin::Act;
use crate::support::origin::Answer;
use crate::support::origin::Gate;
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::setup::Setup;
use crate::support::until;

const IN_FLIGHT: &str = "outrider_calls_in_flight";
const SHED: &str = "outrider_overload_shed_total";

/// Routes of each priority, and one whose calls are never answered until the gate opens.
const ROUTES: &str = "retry: off
breaker: off
eject: off
timeout: 60s
routes:
  - match: /low
    priority: low
  - match: /high
    priority: high
  - match: /critical
    priority: critical
  - match: /held
    priority: critical";

async fn stalled() -> (Origin, Gate) {
    let gate = Gate::new();
    let door = gate.clone();
    let origin = Origin::start(move |asked| match asked.target {
        "/held" => Act::Hold(door.clone(), Box::new(Act::Answer(Answer::ok("done")))),
        _ => Act::Answer(Answer::ok("free")),
    })
    .await;
    (origin, gate)
}

async fn hold(proxy: &Proxy, count: usize, all: &mut Vec<Raw>) {
    for _ in 0..count {
        let mut raw = proxy.connect().await;
        raw.send(&Call::get("/held").bytes()).await;
        all.push(raw);
    }
    let held = all.len() as f64;
    proxy.until_sum(IN_FLIGHT, &[], |now| now == held).await;
}

fn setup(origin: &Origin, overload: &str) -> Setup {
    Setup::shop(&[origin.addr], ROUTES)
        .top(&format!("overload: {overload}"))
        .args(&["--workers", "2"])
}

#[tokio::test]
async fn low_is_shed_first_and_critical_only_at_the_bound() {
    let (origin, gate) = stalled().await;
    let proxy = setup(&origin, "{ in_flight: 20, lag: off, memory: off }")
        .start()
        .await;
    let mut held = Vec::new();
    hold(&proxy, 10, &mut held).await;
    proxy.get("/low").await.is(200);
    hold(&proxy, 6, &mut held).await;
    let reply = proxy.get("/low").await;
    reply.is_own(503, &["overloaded"]);
    assert_eq!(reply.get("retry-after"), Some("1"));
    assert!(
        reply.get("outrider-no-retry").is_some(),
        "nobody is to ask again"
    );
    hold(&proxy, 3, &mut held).await;
    for (path, shed) in [
        ("/low", true),
        ("/normal", true),
        ("/high", false),
        ("/critical", false),
    ] {
        let reply = proxy.get(path).await;
        if shed {
            reply.is_own(503, &["overloaded"]);
        } else {
            reply.is(200);
        }
    }
    hold(&proxy, 1, &mut held).await;
    for path in ["/low", "/normal", "/high", "/critical"] {
        proxy.get(path).await.is_own(503, &["overloaded"]);
    }
    assert_eq!(proxy.page("/ready").await.status, 200);
    let metrics = proxy.metrics().await;
    for (priority, count) in [
        ("low", 3.0),
        ("normal", 2.0),
        ("high", 1.0),
        ("critical", 1.0),
    ] {
        assert_eq!(
            metrics.sum(SHED, &[("priority", priority)]),
            count,
            "{priority}"
        );
    }
    let pressure = "outrider_overload_pressure";
    assert_eq!(metrics.sum(pressure, &[("signal", "in_flight")]), 1.0);

    gate.open();
    for mut raw in held {
        assert_eq!(raw.reply("GET").await.is(200).text(), "done");
    }
    proxy.until_sum(IN_FLIGHT, &[], |now| now == 0.0).await;
    for path in ["/low", "/normal", "/high", "/critical"] {
        proxy.get(path).await.is(200);
    }
}

#[tokio::test]
async fn a_crowd_against_a_stalled_origin_leaves_room_for_critical() {
    let (origin, gate) = stalled().await;
    let settings = ROUTES.replace(
        "match: /held\n    priority: critical",
        "match: /held\n    priority: low",
    );
    let proxy = Setup::shop(&[origin.addr], &settings)
        .top("overload: 20")
        .start()
        .await;
    let mut crowd = Vec::new();
    for _ in 0..60 {
        let mut raw = proxy.connect().await;
        raw.send(&Call::get("/held").bytes()).await;
        crowd.push(raw);
    }
    proxy
        .until_sum(SHED, &[("priority", "low")], |shed| shed >= 44.0)
        .await;
    for reply in proxy.at_once(4, &Call::get("/critical")).await {
        reply.is(200);
    }
    gate.open();
    let mut served = 0;
    for mut raw in crowd {
        let reply = raw.reply("GET").await;
        if reply.reason().is_none() {
            served += 1;
        } else {
            reply.is_own(503, &["overloaded"]);
        }
    }
    assert!((12..=16).contains(&served), "{served} of the crowd");
    proxy.until_sum(IN_FLIGHT, &[], |now| now == 0.0).await;
    proxy.get("/low").await.is(200);
}

#[tokio::test]
async fn shadow_sheds_nobody_and_a_reload_enforces() {
    let (origin, gate) = stalled().await;
    let setup = setup(
        &origin,
        "{ mode: shadow, in_flight: 2, lag: off, memory: off }",
    );
    let text = setup.text();
    let proxy = setup.start().await;
    let mut held = Vec::new();
    hold(&proxy, 3, &mut held).await;
    proxy.get("/normal").await.is(200);
    let shadow = "outrider_overload_shadow_shed_total";
    assert_eq!(proxy.sum(shadow, &[("priority", "critical")]).await, 1.0);
    assert_eq!(proxy.sum(shadow, &[("priority", "normal")]).await, 1.0);
    assert_eq!(proxy.sum(SHED, &[]).await, 0.0);
    // Those in flight are counted on.
    proxy.reload(&text.replace("mode: shadow, ", "")).await;
    proxy.get("/critical").await.is_own(503, &["overloaded"]);
    gate.open();
    for mut raw in held {
        raw.reply("GET").await.is(200);
    }
    proxy.until_sum(IN_FLIGHT, &[], |now| now == 0.0).await;
    proxy.get("/normal").await.is(200);
}

#[tokio::test]
async fn a_body_counts_until_it_has_ended_and_a_client_that_leaves_ends_it() {
    let origin = Origin::start(|asked| match asked.target {
        "/streams" => Act::Cut(
            Answer::ok("x".repeat(1000)),
            500,
            crate::support::origin::After::Stall,
        ),
        _ => Act::Answer(Answer::ok("free")),
    })
    .await;
    let proxy = setup(&origin, "{ in_flight: 1, lag: off, memory: off }")
        .start()
        .await;
    let mut raw = proxy.connect().await;
    raw.send(&Call::get("/streams").bytes()).await;
    until("the origin has sent half of it", || async {
        (origin.requests() == 1).then_some(())
    })
    .await;
    proxy.get("/normal").await.is_own(503, &["overloaded"]);
    drop(raw);
    proxy.until_sum(IN_FLIGHT, &[], |now| now == 0.0).await;
    proxy.get("/normal").await.is(200);
}

#[tokio::test]
async fn bodies_are_not_kept_beyond_the_memory_for_all_of_them() {
    let origin = Origin::always(Answer::status(503)).await;
    let settings = "breaker: off\neject: off\nretry: { max: 1, budget: 100%, methods: all }";
    let setup = Setup::shop(&[origin.addr], settings).top("overload: { replay: 10B }");
    let text = setup.text();
    let proxy = setup.start().await;
    proxy.call(&Call::post("/small", "x")).await.is(503);
    assert_eq!(proxy.logged_path("/small").await[log::TRIES], 2);
    proxy
        .call(&Call::post("/large", "x".repeat(11)))
        .await
        .is(503);
    let line = proxy.logged_path("/large").await;
    assert_eq!(line[log::RETRY_SKIPPED], "replay_memory", "{line}");
    assert_eq!(line[log::TRIES], 1);
    proxy.reload(&text.replace("10B", "1KiB")).await;
    proxy
        .call(&Call::post("/again", "x".repeat(11)))
        .await
        .is(503);
    assert_eq!(proxy.logged_path("/again").await[log::TRIES], 2);
}
