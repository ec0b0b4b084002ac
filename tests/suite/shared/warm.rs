//! What a pod knows of the others before its first call.

use crate::shared::fleet::break_it;
use crate::shared::fleet::nodes;
use crate::shared::fleet::setup;
use crate::shared::until_state;
use crate::support::origin::Answer;
use crate::support::origin::Origin;
use crate::support::redis;
use crate::support::until;

#[tokio::test]
async fn a_new_pod_knows_which_breakers_are_open_before_it_is_ready() {
    let redis = redis::single(&[]).await;
    let broken = Origin::always(Answer::status(503)).await;
    let start = || setup(&nodes(&redis), &broken).start();
    let (first, second) = tokio::join!(start(), start());
    for pod in [&first, &second] {
        pod.until_sum("outrider_fleet_pods", &[], |pods| pods == 2.0)
            .await;
        break_it(pod).await;
    }
    // Both have told so by the time that both have heard of it.
    for pod in [&first, &second] {
        let rolls = [("result", "answered")];
        let before = pod.sum("outrider_fleet_rolls_total", &rolls).await;
        pod.until_sum("outrider_fleet_rolls_total", &rolls, |now| {
            now >= before + 2.0
        })
        .await;
    }
    // A long time, so that a busy machine does not decide.
    let warm = format!("{{ nodes: {}, warm: 10s }}", nodes(&redis));
    let new = setup(&warm, &broken).start().await;
    let metrics = new.metrics().await;
    assert_eq!(metrics.sum("outrider_breaker_suspicious", &[]), 1.0);
    assert_eq!(break_it(&new).await, 5);
}

#[tokio::test]
async fn a_pod_gets_ready_in_time_without_redis() {
    let redis = redis::single(&[]).await;
    let broken = Origin::always(Answer::status(503)).await;
    // It takes connections, and answers none.
    redis.signal("STOP");
    let pod = setup(&nodes(&redis), &broken).start().await;
    until_state(&pod, "away").await;
    until("it says that it went on without", || async {
        let told = pod.errors().join("\n");
        told.contains("ready without the fleet").then_some(())
    })
    .await;
    assert_eq!(pod.sum("outrider_fleet_pods", &[]).await, 0.0);
    assert_eq!(pod.get("/").await.status, 503, "it serves");
}
