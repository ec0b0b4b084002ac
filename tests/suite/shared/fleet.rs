//! Pods that tell one another of open breakers, over a real Redis.

use crate::shared::up;
use crate::support::call::Call;
use crate::support::call::HOST;
use crate::support::names::state;
use crate::support::origin::Answer;
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::redis;
use crate::support::servers::Server;
use crate::support::setup::Setup;

const STATE: &str = "outrider_breaker_state";
const SUSPICIOUS: &str = "outrider_breaker_suspicious";
const ROLLS: &str = "outrider_fleet_rolls_total";
const ANSWERED: [(&str, &str); 1] = [("result", "answered")];

/// A pod that opens for an hour, by twenty calls, half of them failed.
pub fn setup(redis: &str, origin: &Origin) -> Setup {
    let settings =
        "retry: off\neject: off\nbreaker: { min_calls: 20, over: 1h, open: 1h, open_max: 1h }";
    Setup::shop(&[origin.addr], settings).top(&format!("redis: {redis}"))
}

/// `redis` of a policy.
pub fn nodes(redis: &Server) -> String {
    format!("[\"{}\"]", redis.addr)
}

async fn pod(redis: &Server, origin: &Origin) -> Proxy {
    let proxy = setup(&nodes(redis), origin).start().await;
    up(&proxy).await;
    proxy
}

/// Calls that fail, until the breaker opens; how many it took.
pub async fn break_it(pod: &Proxy) -> usize {
    for calls in 1..=20 {
        pod.get("/").await;
        if pod.sum(STATE, &[]).await == state::OPEN {
            return calls;
        }
    }
    panic!("twenty failures open it");
}

/// Waits until the pod has heard all others once more.
async fn heard(pod: &Proxy) {
    let before = pod.sum(ROLLS, &ANSWERED).await;
    // The one that is on its way may be older than what is to be heard.
    pod.until_sum(ROLLS, &ANSWERED, |rolls| rolls >= before + 2.0)
        .await;
}

#[tokio::test]
async fn a_quorum_of_pods_makes_the_others_look_sooner_and_moves_nobody() {
    let redis = redis::single(&[]).await;
    let (broken, well) = (
        Origin::always(Answer::status(503)).await,
        Origin::always(Answer::ok("x")).await,
    );
    let (first, second, third) = tokio::join!(
        pod(&redis, &broken),
        pod(&redis, &broken),
        pod(&redis, &broken)
    );
    let lucky = pod(&redis, &well).await;
    for pod in [&first, &third, &lucky] {
        pod.until_sum("outrider_fleet_pods", &[], |pods| pods == 4.0)
            .await;
    }

    assert_eq!(break_it(&first).await, 20);
    for pod in [&first, &third, &lucky] {
        heard(pod).await;
    }
    assert_eq!(
        third.sum(SUSPICIOUS, &[]).await,
        0.0,
        "one pod moves nobody"
    );

    assert_eq!(break_it(&second).await, 20);
    for pod in [&third, &lucky] {
        pod.until_sum(SUSPICIOUS, &[("upstream", HOST)], |is| is == 1.0)
            .await;
        assert_eq!(pod.sum(STATE, &[]).await, state::CLOSED, "nor do two");
    }
    assert_eq!(
        break_it(&third).await,
        5,
        "a quarter of the calls is enough now"
    );

    for _ in 0..30 {
        lucky.get("/").await.is(200);
    }
    heard(&lucky).await;
    assert_eq!(lucky.sum(SUSPICIOUS, &[]).await, 1.0);
    assert_eq!(
        lucky.sum(STATE, &[]).await,
        state::CLOSED,
        "its own calls go well"
    );
    lucky.call(&Call::get("/")).await.is(200);
}

#[tokio::test]
async fn pods_that_are_gone_or_closed_again_count_no_more() {
    let redis = redis::single(&[]).await;
    let broken = Origin::always(Answer::status(503)).await;
    let (first, second, third) = tokio::join!(
        pod(&redis, &broken),
        pod(&redis, &broken),
        pod(&redis, &broken)
    );
    for pod in [&first, &second] {
        pod.until_sum("outrider_fleet_pods", &[], |pods| pods == 3.0)
            .await;
        break_it(pod).await;
    }
    third.until_sum(SUSPICIOUS, &[], |is| is == 1.0).await;
    drop(second);
    third
        .until_sum("outrider_fleet_pods", &[], |pods| pods == 2.0)
        .await;
    third.until_sum(SUSPICIOUS, &[], |is| is == 0.0).await;
    for _ in 0..19 {
        third.get("/").await;
    }
    assert_eq!(third.sum(STATE, &[]).await, state::CLOSED);
}
