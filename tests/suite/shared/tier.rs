//! The second tier: what one pod fetched is a hit for the others, one of them fetches for all, and Redis being slow or gone
//! is nobody's trouble.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;

use crate::path_cache::told;
use crate::shared::in_step;
use crate::shared::now;
use crate::shared::since;
use crate::shared::until_state;
use crate::shared::written;
use crate::support::between::Between;
use crate::support::call::Call;
use crate::support::call::Reply;
use crate::support::load::Load;
use crate::support::origin::Act;
use crate::support::origin::Answer;
use crate::support::origin::Asked;
use crate::support::origin::Gate;
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::redis;
use crate::support::redis::Cluster;
use crate::support::setup::Setup;
use crate::support::until;

const LOOKUPS: &str = "outrider_cache_shared_lookups_total";

fn kept(asked: &Asked<'_>) -> Act {
    let body = format!("{} of {}", asked.n, asked.target);
    Act::Answer(
        Answer::ok(body)
            .field("Cache-Control", "max-age=600")
            .field("Vary", "Accept-Language")
            .field("Surrogate-Key", "every other"),
    )
}

/// A pod with a cache that others share. It waits for Redis as long as a busy machine may need.
pub fn pod(origin: &Origin, nodes: &str, more: &str) -> Setup {
    pod_within(origin, nodes, "1s", more)
}

fn pod_within(origin: &Origin, nodes: &str, deadline: &str, more: &str) -> Setup {
    let cache = "shared: true, tags: surrogate-key, collapse: 1m";
    let settings = format!("cache: {{ {cache}{more} }}\nretry: off\ntimeout: 1m");
    Setup::shop(&[origin.addr], &settings)
        .top(&format!(
            "redis: {{ nodes: {nodes}, deadline: {deadline} }}"
        ))
        .args(&["--workers", "1"])
}

fn is_shared(reply: &Reply) -> bool {
    told(reply).contains("hit") && told(reply).contains("detail=shared")
}

#[tokio::test]
async fn what_one_pod_fetched_is_a_hit_for_the_other() {
    let cluster = Cluster::start().await;
    let origin = Origin::start(kept).await;
    let (one, other) = (
        pod(&origin, &cluster.seeds(), "").start().await,
        pod(&origin, &cluster.seeds(), "").start().await,
    );
    in_step(&one).await;
    in_step(&other).await;
    for number in 0..20 {
        one.get(&format!("/{number}")).await.is(200);
    }
    written(&one, 20.0).await;
    for number in 0..20 {
        let reply = other.get(&format!("/{number}")).await;
        assert!(is_shared(&reply), "{number}: {}", told(&reply));
        assert_eq!(reply.text(), one.get(&format!("/{number}")).await.text());
        assert!(reply.get("age").is_some(), "it says how old it is");
    }
    assert_eq!(origin.requests(), 20, "each once");
    let again = other.get("/0").await;
    assert!(!is_shared(&again), "now it is in memory: {}", told(&again));
    // Another variant stands beside the first.
    let call = Call::get("/0").field("Accept-Language", "de");
    one.call(&call).await.is(200);
    written(&one, 21.0).await;
    assert!(is_shared(&other.call(&call).await));
    assert_eq!(origin.requests(), 21);
    let line = other.logged_path("/1").await;
    assert_eq!(
        (&line["cache"], &line["cache_why"]),
        (&"fresh".into(), &"shared".into())
    );
}

#[tokio::test]
async fn fifty_pods_that_want_one_cold_answer_make_one_call() {
    let cluster = Cluster::start().await;
    let gate = Gate::new();
    let closed = gate.clone();
    let origin = Origin::start(move |asked| Act::Hold(closed.clone(), Box::new(kept(asked)))).await;
    let starts = (0..50).map(|_| pod(&origin, &cluster.seeds(), "").start());
    let pods: Vec<Proxy> = join_all(starts).await;
    join_all(pods.iter().map(in_step)).await;
    let calls = join_all(pods.iter().map(|pod| pod.get("/cold")));
    let opened = async {
        until("the one call is at the origin", || async {
            (origin.requests() > 0).then_some(())
        })
        .await;
        // Whoever would call as well has had the time to.
        join_all(pods.iter().map(|pod| async {
            let asked = |sum| sum >= 1.0;
            pod.until_sum(
                "outrider_shared_commands_total",
                &[("purpose", "cache")],
                asked,
            )
            .await;
        }))
        .await;
        gate.open();
    };
    let (replies, ()) = tokio::join!(calls, opened);
    let bodies: HashSet<String> = replies.iter().map(Reply::text).collect();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    assert_eq!(origin.requests(), 1, "one call for fifty pods");
}

#[tokio::test]
async fn a_primary_that_dies_under_load_is_nobodys_trouble() {
    let mut cluster = Cluster::start().await;
    let origin = Origin::start(kept).await;
    let (one, other) = (
        pod_within(&origin, &cluster.seeds(), "5ms", "")
            .start()
            .await,
        pod_within(&origin, &cluster.seeds(), "5ms", "")
            .start()
            .await,
    );
    in_step(&one).await;
    in_step(&other).await;
    let mut numbers = 0..;
    let mut round = async |pods: [&Proxy; 2]| {
        let number = numbers.next().expect("endless");
        let target = format!("/load/{number}");
        for pod in pods {
            pod.get(&target).await.is(200);
        }
    };
    for _ in 0..50 {
        round([&one, &other]).await;
    }
    let killed = cluster.primary_of("any").await;
    cluster.nodes[killed].kill();
    let mut slowest = Duration::ZERO;
    // Until a replica serves those slots, and some more.
    let served = async {
        loop {
            let began = now();
            round([&one, &other]).await;
            slowest = slowest.max(since(began) / 2);
            if cluster.primary_of("any").await != killed {
                return;
            }
        }
    };
    served.await;
    println!("slowest call through the failover: {slowest:?}");
    shared_again(&one, &other, "failover").await;

    cluster.stop();
    for _ in 0..30 {
        round([&one, &other]).await;
    }
    cluster.start_again();
    cluster.whole().await;
    shared_again(&one, &other, "restart").await;
}

/// Waits until an answer that one fetches is a hit for the other.
async fn shared_again(one: &Proxy, other: &Proxy, why: &str) {
    let number = std::cell::Cell::new(0);
    until("shared hits are back", || async {
        number.set(number.get() + 1);
        let target = format!("/{why}/{}", number.get());
        let before = one
            .sum(
                "outrider_cache_shared_writes_total",
                &[("result", "written")],
            )
            .await;
        one.get(&target).await.is(200);
        let after = one
            .sum(
                "outrider_cache_shared_writes_total",
                &[("result", "written")],
            )
            .await;
        let reply = other.get(&target).await;
        reply.is(200);
        (after > before && is_shared(&reply)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_slow_redis_costs_its_deadline_a_few_times_and_then_nothing() {
    let server = redis::single(&[]).await;
    let between = Between::start(server.addr).await;
    let origin = Origin::start(kept).await;
    let at = format!("[\"{}\"]", between.addr);
    let proxy = pod_within(&origin, &at, "5ms", "").start().await;
    in_step(&proxy).await;
    between.delay(Duration::from_secs(1));
    let mut slow = Vec::new();
    let mut number = 0;
    while proxy.sum("outrider_shared_up", &[]).await > 0.0 {
        let began = now();
        proxy.get(&format!("/slow/{number}")).await.is(200);
        slow.push(since(began));
        number += 1;
        assert!(number < 100, "its breaker never opens");
    }
    let commands = async |result: &str| {
        let labels = [("purpose", "cache"), ("result", result)];
        proxy.sum("outrider_shared_commands_total", &labels).await
    };
    let late = commands("late").await;
    let began = now();
    for number in 0..50 {
        proxy.get(&format!("/open/{number}")).await.is(200);
    }
    let open = since(began) / 50;
    assert_eq!(commands("late").await, late, "no call waits any more");
    println!("while it is late: {slow:?} a call; while its breaker is open: {open:?}");
    between.delay(Duration::ZERO);
    until_state(&proxy, "up").await;
}

#[tokio::test]
async fn what_stands_in_redis_holds_no_credential_and_a_broken_entry_is_a_miss() {
    let server = redis::single(&[]).await;
    let origin = Origin::start(kept).await;
    let at = format!("[\"{}\"]", server.addr);
    let per = ", per: header:authorization";
    let (one, other) = (
        pod(&origin, &at, per).start().await,
        pod(&origin, &at, per).start().await,
    );
    in_step(&one).await;
    in_step(&other).await;
    let call = Call::get("/mine").field("Authorization", "Bearer verysecret");
    one.call(&call).await.is(200);
    written(&one, 1.0).await;
    let keys: Vec<String> = redis::ask(server.addr, &redis::typed("KEYS *"))
        .await
        .expect("it answers");
    let mut entries = 0;
    for key in keys {
        assert!(!key.contains("secret"), "{key}");
        let mut get = ::redis::cmd("GET");
        get.arg(&key);
        let Ok(value) = redis::ask::<Vec<u8>>(server.addr, &get).await else {
            continue;
        };
        let holds = value.windows(6).any(|part| part == b"secret");
        assert!(!holds, "{key}");
        if !key.contains(":e:") {
            continue;
        }
        entries += 1;
        let mut broken = value;
        let middle = broken.len() / 2;
        broken[middle] ^= 1;
        let mut set = ::redis::cmd("SET");
        set.arg(&key).arg(broken).arg("KEEPTTL");
        let () = redis::ask(server.addr, &set).await.expect("it answers");
    }
    assert!(entries > 0, "there is an entry");
    let reply = other.call(&call).await;
    reply.is(200);
    assert!(!told(&reply).contains("hit"), "{}", told(&reply));
    assert_eq!(other.sum(LOOKUPS, &[("result", "foreign")]).await, 1.0);
    let stranger = Call::get("/mine").field("Authorization", "Bearer other");
    assert!(!told(&other.call(&stranger).await).contains("hit"));
}

#[tokio::test]
async fn load_with_redis_away_is_served_from_the_upstream() {
    let origin = Origin::start(kept).await;
    let closed = crate::support::ports::closed();
    let proxy = pod(&origin, &format!("[\"{closed}\"]"), "").start().await;
    let load = Load::start(proxy.outbound, &Call::get("/a"), 4);
    load.go_on(200).await;
    load.stop_clean().await;
    assert_eq!(
        proxy
            .sum(
                "outrider_cache_shared_writes_total",
                &[("result", "written")]
            )
            .await,
        0.0
    );
}
