//! A policy changes under load: as a whole or not at all, and no request pays for it.

use crate::path_forward::PLAIN;
use crate::support::call::Call;
use crate::support::load::Load;
use crate::support::names::label;
use crate::support::names::state;
use crate::support::origin::Act;
use crate::support::origin::Answer;
use crate::support::origin::Gate;
use crate::support::origin::Origin;
use crate::support::proxy::swap_mount;
use crate::support::setup::Setup;
use crate::support::setup::write;
use crate::support::until;

const SUCCESS: &str = "outrider_policy_reload_success";

#[tokio::test]
async fn a_hundred_reloads_under_load_fail_no_request() {
    let origin = Origin::always(Answer::ok("x")).await;
    let setup = Setup::shop(&[origin.addr], PLAIN);
    let text = setup.text();
    let proxy = setup.start().await;
    let load = Load::start(proxy.outbound, &Call::get("/"), 4);
    load.go_on(20).await;
    let mut revisions = std::collections::BTreeSet::new();
    for n in 0..100 {
        // Other settings each time, so that the whole tree is built anew.
        let revision = proxy
            .reload(&format!("{text}    timeout: {}ms\n", 5000 + n))
            .await;
        assert!(revisions.insert(revision), "each text has its revision");
    }
    load.go_on(20).await;
    let done = load.stop_clean().await;
    assert_eq!(origin.requests(), done);
    assert_eq!(proxy.sum(SUCCESS, &[]).await, 1.0);
    let applied = proxy
        .sum("outrider_policy_reloads_total", &[("result", "applied")])
        .await;
    assert!(applied >= 100.0, "{applied}");
}

#[tokio::test]
async fn a_bad_policy_leaves_the_last_good_one_in_force() {
    let origin = Origin::always(Answer::ok("x")).await;
    let setup = Setup::shop(&[origin.addr], PLAIN);
    let text = setup.text();
    let proxy = setup.start().await;
    let revision = proxy.revision().await;
    for bad in [
        "upstreams: [",
        "upstream: a.test\nretry: { budjet: 20% }\n",
        "nonsense: true\n",
        "service: [1, 2]\n",
    ] {
        write(&proxy.policy, bad);
        proxy.signal("HUP");
        proxy.until_sum(SUCCESS, &[], |value| value == 0.0).await;
        proxy.get("/").await.is(200);
        assert_eq!(proxy.revision().await, revision, "{bad:?}");
        assert_eq!(
            proxy.page("/ready").await.status,
            200,
            "an old policy is still a policy"
        );
        proxy
            .reload(&format!("{text}# after {}\n", bad.len()))
            .await;
        proxy.until_sum(SUCCESS, &[], |value| value == 1.0).await;
        write(&proxy.policy, &text);
        proxy.signal("HUP");
        until("the first text is back", || async {
            (proxy.revision().await == revision).then_some(())
        })
        .await;
    }
    assert!(
        proxy
            .errors()
            .iter()
            .any(|line| line.contains("OR0") || line.contains("budjet")),
        "stderr says what is wrong"
    );
    // A file that has gone is as bad as a file that is wrong.
    std::fs::remove_file(&proxy.policy).expect("remove the policy");
    proxy.signal("HUP");
    proxy.until_sum(SUCCESS, &[], |value| value == 0.0).await;
    proxy.get("/").await.is(200);
}

#[tokio::test]
async fn a_change_takes_effect() {
    let (one, two) = (
        Origin::always(Answer::ok("one")).await,
        Origin::always(Answer::ok("two")).await,
    );
    let setup = Setup::shop(&[one.addr], PLAIN);
    let text = setup.text();
    let proxy = setup.start().await;
    let mut kept = proxy.connect().await;
    assert_eq!(kept.call(&Call::get("/")).await.is(200).text(), "one");
    proxy
        .reload(&text.replace(&one.addr.to_string(), &two.addr.to_string()))
        .await;
    // Within a bounded time also for connections that were there before.
    until("the kept connection follows", || async {
        let reply = proxy.get("/").await;
        (reply.is(200).text() == "two").then_some(())
    })
    .await;
    assert_eq!(kept.call(&Call::get("/")).await.is(200).text(), "two");
    proxy
        .reload(&format!(
            "unmatched: deny\n{}",
            text.split_once("upstreams:")
                .expect("there are upstreams")
                .0
        ))
        .await;
    until("the upstream is gone", || async {
        let reply = proxy.get("/").await;
        (reply.status == 403).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_request_in_flight_ends_under_the_policy_it_began_with() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |asked| match asked.target {
        "/held" => Act::Hold(held.clone(), Box::new(Act::Answer(Answer::ok("late")))),
        _ => Act::Answer(Answer::ok("x")),
    })
    .await;
    let setup = Setup::shop(&[origin.addr], PLAIN);
    let text = setup.text();
    let proxy = setup.start().await;
    let mut raw = proxy.connect().await;
    raw.send(&Call::get("/held").bytes()).await;
    until("the origin has it", || async {
        (origin.requests() == 1).then_some(())
    })
    .await;
    proxy
        .reload(&format!(
            "unmatched: deny\n{}",
            text.split_once("upstreams:")
                .expect("there are upstreams")
                .0
        ))
        .await;
    gate.open();
    assert_eq!(raw.reply("GET").await.is(200).text(), "late");
}

#[tokio::test]
async fn a_breaker_is_carried_over() {
    let origin = Origin::always(Answer::status(500)).await;
    let setup = Setup::shop(
        &[origin.addr],
        "retry: off\neject: off\nbreaker: { failures: 50%, min_calls: 5, open: 30s }",
    );
    let text = setup.text();
    let proxy = setup.start().await;
    for _ in 0..5 {
        proxy.get("/").await.is(500);
    }
    proxy.get("/").await.is_own(503, &["breaker_open"]);
    proxy.reload(&format!("{text}    timeout: 4s\n")).await;
    for _ in 0..5 {
        proxy.get("/").await.is_own(503, &["breaker_open"]);
    }
    assert_eq!(
        proxy
            .sum("outrider_breaker_state", &[(label::UPSTREAM, "shop.test")])
            .await,
        state::OPEN
    );
    assert_eq!(origin.requests(), 5);
}

#[tokio::test]
async fn connections_are_carried_over() {
    let origin = Origin::always(Answer::ok("x")).await;
    let setup = Setup::shop(&[origin.addr], PLAIN).args(&["--workers", "1"]);
    let text = setup.text();
    let proxy = setup.start().await;
    for n in 0..5 {
        proxy.get("/").await.is(200);
        proxy.reload(&format!("{text}# {n}\n")).await;
    }
    proxy.get("/").await.is(200);
    assert_eq!((origin.requests(), origin.connections()), (6, 1));
}

#[tokio::test]
async fn a_swapped_config_map_is_picked_up() {
    let origin = Origin::always(Answer::ok("x")).await;
    let setup = Setup::shop(&[origin.addr], PLAIN).mounted();
    let text = setup.text();
    let proxy = setup.start().await;
    let mount = proxy
        .policy
        .parent()
        .expect("the policy stands in the mount")
        .to_path_buf();
    for version in 1..=3 {
        let before = proxy.revision().await;
        swap_mount(&mount, version, &format!("{text}# {version}\n"));
        until("the new revision, without a signal", || async {
            (proxy.revision().await != before).then_some(())
        })
        .await;
        proxy.get("/").await.is(200);
    }
    swap_mount(&mount, 4, "upstreams: [");
    proxy.until_sum(SUCCESS, &[], |value| value == 0.0).await;
    proxy.get("/").await.is(200);
    swap_mount(&mount, 5, &text);
    proxy.until_sum(SUCCESS, &[], |value| value == 1.0).await;
}
