//! `scope: global`: several proxies, one Redis, and a limit that all draw on.

use std::time::Duration;
use std::time::Instant;

use outrider::clock;

use crate::shared::up;
use crate::support::call::Call;
use crate::support::client::Raw;
use crate::support::origin::Answer;
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::redis;
use crate::support::servers::Server;
use crate::support::setup::Setup;

const ALONE: &str = "retry: off\nbreaker: off\neject: off\n";
const ASKS: &str = "outrider_limit_asks_total";
const AWAY: &str = "outrider_limit_away_total";

fn setup(redis: &Server) -> Setup {
    Setup::new().top(&format!("redis: [\"{}\"]", redis.addr))
}

/// So many proxies with the same policy, each in touch with Redis.
async fn pods(count: usize, redis: &Server, origin: &Origin, limit: &str) -> Vec<Proxy> {
    let start = |_| async {
        let setup = setup(redis).upstream("shop.test", &[origin.addr], &format!("{ALONE}{limit}"));
        let proxy = setup.start().await;
        up(&proxy).await;
        proxy
    };
    futures_util::future::join_all((0..count).map(start)).await
}

/// One client's calls, evenly spaced, until the time is over; those that passed, and when.
async fn caller(proxy: &Proxy, spacing: Duration, until: Instant) -> Vec<Instant> {
    let mut raw = Raw::connect(proxy.outbound).await;
    let mut ticks = tokio::time::interval(spacing);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut passed = Vec::new();
    while clock::now() < until {
        ticks.tick().await;
        match raw.call(&Call::get("/")).await.status {
            200 => passed.push(clock::now()),
            status => assert_eq!(status, 429),
        }
    }
    passed
}

/// Five pods that are each asked for three fifths of the limit pass what one would let pass.
#[tokio::test]
async fn five_pods_pass_together_what_the_limit_says() {
    let (redis, origin) = (
        redis::single(&[]).await,
        Origin::always(Answer::ok("x")).await,
    );
    let limit = "limit: { rps: 100, burst: 10, scope: global, away: deny }";
    let pods = pods(5, &redis, &origin, limit).await;
    let began = clock::now();
    let until = began + Duration::from_secs(10);
    let callers = pods
        .iter()
        .map(|pod| caller(pod, Duration::from_millis(16), until));
    let each = futures_util::future::join_all(callers).await;
    let seconds = clock::now().duration_since(began).as_secs_f64();
    let counts: Vec<usize> = each.iter().map(Vec::len).collect();
    let mut all: Vec<Instant> = each.into_iter().flatten().collect();
    all.sort();
    // While the machine stands still nobody calls, and what a full bucket does not take is gone; a bucket is full after a tenth
    // of a second.
    let full = Duration::from_millis(100);
    let gaps = all.windows(2).map(|pair| pair[1] - pair[0]);
    let still: Duration = gaps.map(|gap| gap.saturating_sub(full)).sum();
    let (most, least) = (seconds * 105.0, (seconds - still.as_secs_f64()) * 95.0);
    let passed = all.len() as f64;
    println!("{passed} passed in {seconds:.2}s, {counts:?}, standing still {still:?}");
    assert!(
        (least..=most).contains(&passed),
        "{passed} in {seconds:.2}s, {counts:?}, {still:?} of it standing still"
    );
    assert!(still.as_secs_f64() < 0.3 * seconds, "{still:?}");
    assert_eq!(origin.requests(), all.len());
    for pod in &pods {
        assert_eq!(
            pod.sum(AWAY, &[]).await,
            0.0,
            "Redis was there all the time"
        );
    }
}

/// Calls as a user, and waits until the pod has heard of it from Redis.
async fn as_user(pod: &Proxy, user: &str) -> bool {
    let heard = pod.sum(ASKS, &[]).await;
    let reply = pod.call(&Call::get("/").field("X-User", user)).await;
    if reply.status == 200 {
        pod.until_sum(ASKS, &[], |asks| asks > heard).await;
    }
    reply.status == 200
}

#[tokio::test]
async fn each_key_has_one_quota_over_all_pods_and_is_not_to_be_read_in_redis() {
    let (redis, origin) = (
        redis::single(&[]).await,
        Origin::always(Answer::ok("x")).await,
    );
    let limit = "limit: { rate: 4/h, burst: 6, per: header:x-user, scope: global, away: deny }";
    let pods = pods(2, &redis, &origin, limit).await;
    for user in ["ann-of-the-secret", "bob"] {
        let mut passed = 0;
        for turn in 0..20 {
            passed += usize::from(as_user(&pods[turn % 2], user).await);
        }
        // Six, and what the two of them may have owed.
        assert!((6..=9).contains(&passed), "{user}: {passed}");
    }
    let keys: Vec<String> = redis::ask(redis.addr, &redis::typed("KEYS *"))
        .await
        .expect("it is there");
    let buckets = keys.iter().filter(|key| key.contains(":limit:"));
    assert!(buckets.count() >= 2, "{keys:?}");
    for key in &keys {
        assert!(!key.contains("ann") && !key.contains("bob"), "{key}");
    }
    let page = pods[0].page("/upstreams").await.text();
    let page: serde_json::Value = serde_json::from_str(&page).expect("JSON");
    let told = &page[0]["routes"][0]["limit"];
    assert_eq!(
        (&told["scope"], &told["keys"], &told["away"]),
        (&"global".into(), &2.into(), &false.into()),
        "{told}"
    );
}

#[tokio::test]
async fn without_redis_the_rule_for_away_holds_and_nobody_waits() {
    let (mut redis, origin) = (
        redis::single(&[]).await,
        Origin::always(Answer::ok("x")).await,
    );
    let with = |away: &str| {
        format!("{ALONE}limit: {{ rate: 4/h, burst: 8, scope: global, away: {away} }}")
    };
    let proxy = setup(&redis)
        .upstream("local.test", &[origin.addr], &with("local"))
        .upstream("allow.test", &[origin.addr], &with("allow"))
        .upstream("deny.test", &[origin.addr], &with("deny"))
        .start()
        .await;
    up(&proxy).await;
    let ask = |host: &'static str| {
        let proxy = &proxy;
        async move { proxy.call(&Call::get("/").host(host)).await.status == 200 }
    };
    // Everybody has heard how the bucket stands: one pod, eight calls.
    proxy
        .until_sum(ASKS, &[("result", "granted")], |asks| asks >= 3.0)
        .await;
    redis.kill();
    // The first few on account, and then by the rule.
    let mut passed = [0; 3];
    for _ in 0..40 {
        for (at, host) in ["local.test", "allow.test", "deny.test"]
            .into_iter()
            .enumerate()
        {
            passed[at] += usize::from(ask(host).await);
        }
        let away = [("upstream", "deny.test")];
        if proxy.sum(AWAY, &away).await == 0.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    assert_eq!(passed[0], 8, "its part, which is all of it, and no more");
    assert!(passed[2] <= 4, "deny: {}", passed[2]);
    let refused = proxy.sum(
        "outrider_limit_refused_total",
        &[("upstream", "allow.test")],
    );
    let refused = refused.await;
    assert_eq!(passed[1] as f64 + refused, 40.0);
    for _ in 0..20 {
        assert!(
            ask("allow.test").await,
            "everything passes while Redis is away"
        );
    }

    redis.start();
    up(&proxy).await;
    let deny = [("upstream", "deny.test")];
    crate::support::until("deny.test counts with Redis again", || async {
        let before = proxy.sum(AWAY, &deny).await;
        let passes = ask("deny.test").await;
        (passes && proxy.sum(AWAY, &deny).await == before).then_some(())
    })
    .await;
}
