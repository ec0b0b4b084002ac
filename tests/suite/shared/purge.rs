//! Purges reach every pod, also one that was away, and outlive a race with a fetch.

use crate::path_cache::told;
use crate::shared::in_step;
use crate::shared::now;
use crate::shared::out_of_step;
use crate::shared::since;
use crate::shared::tier::pod;
use crate::shared::written;
use crate::support::between::Between;
use crate::support::call::Call;
use crate::support::origin::Act;
use crate::support::origin::Answer;
use crate::support::origin::Asked;
use crate::support::origin::Gate;
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::redis;
use crate::support::redis::Cluster;
use crate::support::until;

fn numbered(asked: &Asked<'_>) -> Answer {
    Answer::ok(format!("{}", asked.n))
        .field("Cache-Control", "max-age=600")
        .field("Surrogate-Key", "every other")
}

fn kept(asked: &Asked<'_>) -> Act {
    Act::Answer(numbered(asked))
}

async fn purge(proxy: &Proxy, what: &str) {
    let reply = Call::post(&format!("/cache/purge?{what}"), "")
        .host("localhost")
        .to(proxy.admin)
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(reply.text().contains("\"fleet\": true"), "{}", reply.text());
}

/// Whether a pod would answer by itself.
async fn holds(proxy: &Proxy, target: &str) -> bool {
    let call = Call::get(target).field("Cache-Control", "only-if-cached");
    proxy.call(&call).await.status != 504
}

#[tokio::test]
async fn a_purge_on_one_pod_is_seen_by_the_others() {
    let cluster = Cluster::start().await;
    let origin = Origin::start(kept).await;
    let (one, other) = (
        pod(&origin, &cluster.seeds(), "").start().await,
        pod(&origin, &cluster.seeds(), "").start().await,
    );
    in_step(&one).await;
    in_step(&other).await;
    for what in ["url=http://shop.test/a", "tag=other", "all"] {
        let before = one.get("/a").await.text();
        until("the other has it too", || async {
            (other.get("/a").await.text() == before && holds(&other, "/a").await).then_some(())
        })
        .await;
        let began = now();
        purge(&one, what).await;
        let letting_go = async { while holds(&other, "/a").await {} };
        crate::support::within("the other lets it go", letting_go).await;
        println!(
            "a purge of {what} was seen by the other after {:?}",
            since(began)
        );
        let after = other.get("/a").await;
        assert_ne!(
            after.text(),
            before,
            "{what}: not out of Redis either: {}",
            told(&after)
        );
        assert_ne!(one.get("/a").await.text(), before, "{what}");
    }
}

#[tokio::test]
async fn an_unsafe_call_on_one_pod_is_seen_by_the_others() {
    let server = redis::single(&[]).await;
    let origin = Origin::start(kept).await;
    let at = format!("[\"{}\"]", server.addr);
    let (one, other) = (
        pod(&origin, &at, "").start().await,
        pod(&origin, &at, "").start().await,
    );
    in_step(&one).await;
    in_step(&other).await;
    let before = one.get("/a").await.text();
    written(&one, 1.0).await;
    assert_eq!(other.get("/a").await.text(), before);
    one.call(&Call::post("/a", "x")).await.is(200);
    let after = one.get("/a").await;
    assert_ne!(after.text(), before, "at once: {}", told(&after));
    until("the other lets it go", || async {
        (other.get("/a").await.text() != before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_fetch_that_a_purge_overtakes_is_not_shared() {
    let server = redis::single(&[]).await;
    let gate = Gate::new();
    let closed = gate.clone();
    let origin = Origin::start(move |asked| {
        let answer = Act::Answer(numbered(asked));
        if asked.n == 0 {
            Act::Hold(closed.clone(), Box::new(answer))
        } else {
            answer
        }
    })
    .await;
    let at = format!("[\"{}\"]", server.addr);
    let (one, other) = (
        pod(&origin, &at, "").start().await,
        pod(&origin, &at, "").start().await,
    );
    in_step(&one).await;
    in_step(&other).await;
    let call = Call::get("/a");
    let (slow, ()) = tokio::join!(one.call(&call), async {
        until("the old answer is on its way", || async {
            (origin.requests() == 1).then_some(())
        })
        .await;
        purge(&other, "all").await;
        let heard = |sum| sum >= 1.0;
        one.until_sum(
            "outrider_cache_shared_purges_total",
            &[("kind", "purge")],
            heard,
        )
        .await;
        gate.open();
    });
    let old = slow.text();
    for pod in [&one, &other] {
        let reply = pod.get("/a").await;
        assert_ne!(reply.text(), old, "{}", told(&reply));
    }
}

#[tokio::test]
async fn a_pod_that_was_cut_off_answers_nothing_that_was_purged_meanwhile() {
    let server = redis::single(&[]).await;
    let between = Between::start(server.addr).await;
    let origin = Origin::start(kept).await;
    let one = pod(&origin, &format!("[\"{}\"]", server.addr), "")
        .start()
        .await;
    let far = pod(&origin, &format!("[\"{}\"]", between.addr), "")
        .start()
        .await;
    in_step(&one).await;
    in_step(&far).await;
    let targets: Vec<String> = (0..10).map(|number| format!("/{number}")).collect();
    let mut old = Vec::new();
    for target in &targets {
        old.push(one.get(target).await.text());
        far.get(target).await.is(200);
    }
    between.cut();
    out_of_step(&far).await;
    purge(&one, "tag=every").await;
    // What it has it goes on serving: nobody can tell it better.
    assert!(holds(&far, "/0").await);
    // A purge on the side that is cut off is kept until it can be told.
    one.get("/mine").await.is(200);
    purge(&far, "url=http://shop.test/mine").await;
    between.heal();
    in_step(&far).await;
    in_step(&one).await;
    for (target, old) in targets.iter().zip(&old) {
        for pod in [&far, &one] {
            let reply = pod.get(target).await;
            assert_ne!(&reply.text(), old, "{target}: {}", told(&reply));
        }
    }
    until("the purge from the other side is here", || async {
        (!holds(&one, "/mine").await).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_redis_that_lost_everything_lets_nothing_old_come_back() {
    let mut server = redis::single(&[]).await;
    let origin = Origin::start(kept).await;
    let at = format!("[\"{}\"]", server.addr);
    let (one, other) = (
        pod(&origin, &at, "").start().await,
        pod(&origin, &at, "").start().await,
    );
    in_step(&one).await;
    in_step(&other).await;
    let old = one.get("/a").await.text();
    written(&one, 1.0).await;
    assert_eq!(other.get("/a").await.text(), old);
    server.kill();
    out_of_step(&one).await;
    out_of_step(&other).await;
    purge(&one, "url=http://shop.test/a").await;
    server.start();
    in_step(&one).await;
    in_step(&other).await;
    until("nobody has the old one", || async {
        let (a, b) = (one.get("/a").await.text(), other.get("/a").await.text());
        (a != old && b != old).then_some(())
    })
    .await;
}
