//! What pods share on a Redis: real servers, a cluster of six or one, and what happens when they go away.

mod client;
mod fleet;
mod limit;
mod purge;
mod tcp;
mod tier;
mod warm;

use std::time::Duration;
use std::time::Instant;

use serde_json::Value;

use crate::support::proxy::Proxy;
use crate::support::until;

/// The admin page about the shared Redis.
async fn page(proxy: &Proxy) -> Value {
    let page = proxy.page("/shared").await;
    assert_eq!(page.status, 200, "/shared");
    serde_json::from_str(&page.text()).expect("JSON")
}

/// Waits until the proxy asks Redis, or goes on without (`up`, `away`).
async fn until_state(proxy: &Proxy, state: &str) -> Value {
    until(&format!("the shared Redis is {state}"), || async {
        Some(page(proxy).await).filter(|page| page["state"] == state)
    })
    .await
}

/// Waits until the proxy knows of every purge, so that it uses what is in Redis.
async fn in_step(proxy: &Proxy) {
    let is_in_step = |sum| sum == 1.0;
    proxy
        .until_sum("outrider_cache_shared_in_step", &[], is_in_step)
        .await;
}

async fn out_of_step(proxy: &Proxy) {
    let is_out = |sum| sum == 0.0;
    proxy
        .until_sum("outrider_cache_shared_in_step", &[], is_out)
        .await;
}

/// Waits until so many answers of the proxy are in Redis.
async fn written(proxy: &Proxy, count: f64) {
    let labels = [("result", "written")];
    let is_there = |sum| sum >= count;
    proxy
        .until_sum("outrider_cache_shared_writes_total", &labels, is_there)
        .await;
}

async fn up(proxy: &Proxy) -> Value {
    until_state(proxy, "up").await
}

/// The time, for figures that are printed.
#[expect(
    clippy::disallowed_methods,
    reason = "a figure; nothing is asserted of it"
)]
fn now() -> Instant {
    Instant::now()
}

fn since(began: Instant) -> Duration {
    now().saturating_duration_since(began)
}
