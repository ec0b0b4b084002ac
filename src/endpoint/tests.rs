use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::Wake;
use std::task::Waker;
use std::time::Duration;

use crate::clock;
use crate::endpoint::Cluster;
use crate::endpoint::Endpoint;
use crate::endpoint::Member;
use crate::endpoint::gate::Gate;
use crate::endpoint::idle::Silence;
use crate::http::Reason;

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[derive(Default)]
struct Counting(AtomicU32);

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Counting {
    fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

#[test]
fn a_gate_keeps_wake_ups_of_the_driver_itself_and_passes_the_others_on() {
    let counting = Arc::new(Counting::default());
    let task = Waker::from(Arc::clone(&counting));
    let gate = Gate::new();

    let inner = gate.driving().waker().clone();
    inner.wake_by_ref();
    assert_eq!(counting.count(), 0, "the driver runs");
    assert!(gate.has_news());

    gate.wait(&Context::from_waker(&task));
    assert_eq!(
        counting.count(),
        1,
        "what was noted is told when it goes to wait"
    );

    let inner = gate.driving().waker().clone();
    gate.wait(&Context::from_waker(&task));
    assert_eq!(counting.count(), 1, "nothing happened");
    inner.wake_by_ref();
    inner.wake_by_ref();
    assert_eq!(counting.count(), 2, "one wait, one wake-up");
}

#[test]
fn a_cluster_keeps_the_endpoints_whose_address_stays() {
    let now = clock::now();
    let cluster = Cluster::fixed(&[address(1), address(2)], now);
    let before = cluster.set().endpoints.clone();
    let generation = cluster.generation();
    cluster.update(&[address(2), address(3)], now);
    let after = cluster.set().endpoints.clone();
    assert!(Arc::ptr_eq(&before[1], &after[0]));
    assert!(before[0].is_gone() && !before[1].is_gone());
    assert_ne!(before[0].id, after[1].id);
    assert!(cluster.generation() > generation);

    cluster.fail(Reason::DnsFailed);
    assert_eq!(
        cluster.set().endpoints.len(),
        2,
        "the last good answer serves"
    );
    cluster.clear(Reason::DnsFailed);
    assert!(cluster.set().endpoints.is_empty() && after[0].is_gone());
    assert_eq!(cluster.set().failed, Some(Reason::DnsFailed));
}

#[test]
fn a_newcomer_among_others_is_known_as_one_and_a_change_of_weight_is_none() {
    let start = clock::now();
    let cluster = Cluster::fixed(&[address(1), address(2)], start);
    let joined = |cluster: &Cluster| -> Vec<_> {
        let set = cluster.set();
        let since = |one: &Arc<Endpoint>| one.back_since().is_some();
        set.endpoints.iter().map(since).collect()
    };
    assert_eq!(joined(&cluster), [false, false], "all at once is a start");
    let later = start + Duration::from_secs(60);
    let before = cluster.set().endpoints.clone();
    let heavier = Member {
        weight: 3,
        zone: Some("eu-1a".into()),
        ..Member::from(address(2))
    };
    let now = [address(1).into(), heavier, address(3).into()];
    cluster.replace(&now, later);
    assert_eq!(joined(&cluster), [false, false, true]);
    let set = Arc::clone(&cluster.set());
    assert!(Arc::ptr_eq(&before[1], &set.endpoints[1]) && set.members[1].weight == 3);

    let generation = cluster.generation();
    cluster.replace(&now, later);
    assert_eq!(cluster.generation(), generation, "nothing new was said");
    cluster.update(&[address(7), address(8)], later);
    assert_eq!(joined(&cluster), [false, false], "nobody served before");
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_first_answer_is_woken_by_it_good_or_bad() {
    for good in [true, false] {
        let cluster = Cluster::waiting();
        let teller = Arc::clone(&cluster);
        let tell = async move {
            tokio::task::yield_now().await;
            if good {
                teller.update(&[address(1)], clock::now());
            } else {
                teller.fail(Reason::DnsFailed);
            }
        };
        let waiting = tokio::time::timeout(Duration::from_secs(1), cluster.known());
        let (known, ()) = tokio::join!(waiting, tell);
        known.expect("it was told");
    }
}

#[tokio::test(start_paused = true)]
async fn an_ejected_endpoint_rests_for_its_time_and_comes_back_unknown() {
    let cluster = Cluster::fixed(&[address(1)], clock::now());
    let endpoint = Arc::clone(&cluster.set().endpoints[0]);
    let mut lease = endpoint.lease(clock::now());
    assert_eq!(endpoint.in_flight(), 1);
    tokio::time::advance(Duration::from_millis(20)).await;
    lease.answered(clock::now());
    drop(lease);
    assert_eq!(endpoint.in_flight(), 0);
    assert!(endpoint.latency_s(clock::now()) > 0.019);

    let until = clock::now() + Duration::from_secs(5);
    endpoint.rest(until);
    assert_eq!(endpoint.resting_until(clock::now()), Some(until));
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(endpoint.resting_until(clock::now()), None);
    assert!(endpoint.latency_s(clock::now()) == 0.0);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_says_when_it_came_back() {
    let cluster = Cluster::fixed(&[address(1)], clock::now());
    let endpoint = Arc::clone(&cluster.set().endpoints[0]);
    assert_eq!(endpoint.back_since(), None, "it never left");
    let until = clock::now() + Duration::from_secs(5);
    endpoint.rest(until);
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(endpoint.serves(clock::now()));
    assert_eq!(
        endpoint.back_since(),
        Some(until),
        "not when it was noticed"
    );
    endpoint.found_unhealthy(7);
    assert!(!endpoint.serves(clock::now()));
    endpoint.found_healthy(7, clock::now());
    assert!(endpoint.serves(clock::now()));
    assert_eq!(endpoint.back_since(), Some(clock::now()));
}

#[tokio::test(start_paused = true)]
async fn probes_end_a_rest_only_where_they_had_failed() {
    let cluster = Cluster::fixed(&[address(1)], clock::now());
    let endpoint = Arc::clone(&cluster.set().endpoints[0]);
    let now = clock::now();
    endpoint.rest(now + Duration::from_secs(5));
    endpoint.found_healthy(7, now);
    assert!(!endpoint.serves(now), "what ejected it, probes cannot see");
    assert!(!endpoint.take_recall());
    endpoint.found_unhealthy(7);
    endpoint.found_healthy(7, now);
    assert!(endpoint.serves(now));
    assert!(endpoint.take_recall());
    assert!(!endpoint.take_recall(), "told once");
}

#[tokio::test]
async fn a_checker_that_stops_takes_back_its_own_verdict_only() {
    let cluster = Cluster::fixed(&[address(1)], clock::now());
    let endpoint = Arc::clone(&cluster.set().endpoints[0]);
    endpoint.found_unhealthy(7);
    endpoint.found_unhealthy(8);
    assert!(!endpoint.lift_verdict(7));
    assert!(endpoint.is_unhealthy());
    assert!(endpoint.lift_verdict(8));
    assert!(!endpoint.is_unhealthy());
}

#[tokio::test(start_paused = true)]
async fn a_call_given_up_counts_with_the_time_it_waited() {
    let cluster = Cluster::fixed(&[address(1)], clock::now());
    let endpoint = Arc::clone(&cluster.set().endpoints[0]);
    let lease = endpoint.lease(clock::now());
    tokio::time::advance(Duration::from_millis(300)).await;
    drop(lease);
    assert!(endpoint.latency_s(clock::now()) > 0.29);
}

#[tokio::test(start_paused = true)]
async fn silence_is_measured_from_the_last_sign_of_life() {
    let mut silence = Silence::new(Duration::from_secs(10));
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(silence.poll_too_long(&mut cx), Poll::Pending);
    tokio::time::advance(Duration::from_secs(8)).await;
    silence.broken();
    tokio::time::advance(Duration::from_secs(8)).await;
    assert_eq!(
        silence.poll_too_long(&mut cx),
        Poll::Pending,
        "heard 8 s ago"
    );
    tokio::time::advance(Duration::from_secs(3)).await;
    assert_eq!(silence.poll_too_long(&mut cx), Poll::Ready(()));
}
