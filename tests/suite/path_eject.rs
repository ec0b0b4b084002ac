//! Ejection: one endpoint that fails is left out, and there is always one left.

use std::sync::Arc;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;

use crate::support::call::Call;
use crate::support::call::HOST;
use crate::support::names::label;
use crate::support::origin::Act;
use crate::support::origin::Answer;
use crate::support::origin::Origin;
use crate::support::ports;
use crate::support::setup::Setup;
use crate::support::until;

const EJECTIONS: &str = "outrider_ejections_total";
const OUT: &str = "outrider_endpoints_ejected";

/// Enough calls at once that the balance cannot keep all of them away from any endpoint.
const CROWD: usize = 6;

/// A healthy endpoint that takes its time, so that the balance has no reason to prefer it.
async fn slow() -> Origin {
    Origin::start(|_| Act::Drip(Answer::ok("slow"), 16)).await
}

async fn with_status(status: u16) -> (Origin, Arc<AtomicU16>) {
    let shared = Arc::new(AtomicU16::new(status));
    let now = Arc::clone(&shared);
    let answer = move || Act::Answer(Answer::status(now.load(Ordering::SeqCst)));
    (Origin::start(move |_| answer()).await, shared)
}

#[tokio::test]
async fn a_failing_endpoint_is_left_out() {
    let (good, better, bad) = (slow().await, slow().await, with_status(500).await.0);
    let settings = "retry: off\nbreaker: off\neject: { consecutive: 3, base: 30s }";
    let proxy = Setup::shop(&[good.addr, bad.addr, better.addr], settings)
        .start()
        .await;
    until("the ejection", || async {
        proxy.at_once(CROWD, &Call::get("/")).await;
        (proxy.sum(EJECTIONS, &[(label::UPSTREAM, HOST)]).await >= 1.0).then_some(())
    })
    .await;
    let before = bad.requests();
    for reply in proxy.at_once(40, &Call::get("/")).await {
        reply.is(200);
    }
    assert_eq!(bad.requests(), before, "an ejected endpoint gets nothing");
    assert!(
        good.requests() > 0 && better.requests() > 0,
        "the others share the load"
    );
    assert_eq!(proxy.sum(OUT, &[]).await, 1.0);
    let page = proxy.page("/upstreams").await.text();
    assert!(page.contains(&bad.addr.to_string()), "{page}");
}

#[tokio::test]
async fn an_endpoint_that_refuses_connections_is_left_out() {
    let good = slow().await;
    let settings =
        "breaker: off\nretry: { max: 1, budget: 100% }\neject: { consecutive: 3, base: 30s }";
    let proxy = Setup::shop(&[ports::closed(), good.addr], settings)
        .start()
        .await;
    until("the ejection", || async {
        for reply in proxy.at_once(CROWD, &Call::get("/")).await {
            reply.is(200);
        }
        (proxy.sum(EJECTIONS, &[]).await >= 1.0).then_some(())
    })
    .await;
    let retries = proxy.sum("outrider_retries_total", &[]).await;
    for reply in proxy.at_once(20, &Call::get("/")).await {
        reply.is(200);
    }
    assert_eq!(
        proxy.sum("outrider_retries_total", &[]).await,
        retries,
        "nothing is left to retry"
    );
}

#[tokio::test]
async fn the_last_endpoint_is_never_left_out() {
    let (only, _) = with_status(500).await;
    let settings =
        "retry: off\nbreaker: off\neject: { consecutive: 2, base: 30s, max_share: 100% }";
    let proxy = Setup::shop(&[only.addr], settings).start().await;
    for _ in 0..20 {
        proxy.get("/").await.is(500);
    }
    assert_eq!(
        (only.requests(), proxy.sum(EJECTIONS, &[]).await),
        (20, 0.0)
    );
    assert!(proxy.sum("outrider_ejections_kept_total", &[]).await > 0.0);
}

#[tokio::test]
async fn no_more_than_the_share_is_left_out() {
    let mut origins = Vec::new();
    for _ in 0..4 {
        origins.push(with_status(500).await.0);
    }
    let endpoints: Vec<_> = origins.iter().map(|origin| origin.addr).collect();
    let settings = "retry: off\nbreaker: off\neject: { consecutive: 2, base: 30s, max_share: 50% }";
    let proxy = Setup::shop(&endpoints, settings).start().await;
    for _ in 0..80 {
        proxy.get("/").await.is(500);
    }
    assert_eq!(proxy.sum(OUT, &[]).await, 2.0);
}

#[tokio::test]
async fn an_endpoint_comes_back() {
    let (good, (bad, mood)) = (slow().await, with_status(500).await);
    let settings = "retry: off\nbreaker: off\neject: { consecutive: 2, base: 50ms }";
    let proxy = Setup::shop(&[good.addr, bad.addr], settings).start().await;
    until("the ejection", || async {
        proxy.at_once(CROWD, &Call::get("/")).await;
        (proxy.sum(EJECTIONS, &[]).await >= 1.0).then_some(())
    })
    .await;
    mood.store(200, Ordering::SeqCst);
    let before = bad.requests();
    until("it gets calls again", || async {
        proxy.at_once(CROWD, &Call::get("/")).await;
        (bad.requests() > before + 3).then_some(())
    })
    .await;
    proxy.until_sum(OUT, &[], |out| out == 0.0).await;
}

#[tokio::test]
async fn shadow_leaves_everyone_in() {
    let (good, bad) = (slow().await, with_status(500).await.0);
    let settings = "retry: off\nbreaker: off\neject: { mode: shadow, consecutive: 2, base: 30s }";
    let proxy = Setup::shop(&[good.addr, bad.addr], settings).start().await;
    until("it would have been left out", || async {
        proxy.at_once(CROWD, &Call::get("/")).await;
        (proxy.sum("outrider_shadow_ejections_total", &[]).await >= 1.0).then_some(())
    })
    .await;
    let before = bad.requests();
    until("it still gets calls", || async {
        proxy.at_once(CROWD, &Call::get("/")).await;
        (bad.requests() > before).then_some(())
    })
    .await;
    assert_eq!(proxy.sum(EJECTIONS, &[]).await, 0.0);
}
