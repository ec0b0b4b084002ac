//! What pods share on a Redis: real servers, a cluster of six or one, and what happens when they go away.

mod client;
mod fleet;
mod limit;
mod tcp;
mod warm;

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

async fn up(proxy: &Proxy) -> Value {
    until_state(proxy, "up").await
}
