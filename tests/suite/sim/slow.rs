//! A leaf that becomes ten times as slow under a load that it could carry before.
//!
//! It does so many calls at a time and queues the others without end, and it does not notice when a caller has left: what a
//! thread pool behind a listen queue does. Once the queue is longer than the callers' patience, all its work is for nobody.

use std::cell::Cell;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use outrider::clock;
use outrider::policy::bulkhead;
use outrider::policy::deadline;
use tokio::sync::Semaphore;
use tokio::sync::oneshot;

use super::Door;
use super::Draws;
use super::Rooms;
use super::answer;
use super::offer;
use super::simulate;

const THREADS: u32 = 20;
const HEALTHY: Duration = Duration::from_millis(20);
const SLOWER: u32 = 10;
const PATIENCE: Duration = Duration::from_secs(1);
/// 0.3 of what the healthy leaf can do, and three times what the slow one can.
const RATE: u32 = 300;
const BEFORE: Duration = Duration::from_secs(10);
const DURING: Duration = Duration::from_secs(60);

/// A thread pool that takes so long for a call.
fn leaf(slow: Rc<Cell<bool>>, draws: Draws) -> Door {
    let threads = Arc::new(Semaphore::new(THREADS as usize));
    let draws = Rc::new(RefCell::new(draws));
    Door::of(move |call| {
        let (threads, slow, draws) = (Arc::clone(&threads), Rc::clone(&slow), Rc::clone(&draws));
        let (done, finished) = oneshot::channel();
        // A task of its own, so that it goes on when the caller has left.
        tokio::task::spawn_local(async move {
            let _thread = threads.acquire_owned().await;
            let mean = HEALTHY * if slow.get() { SLOWER } else { 1 };
            let time = draws.borrow_mut().service_time(mean);
            tokio::time::sleep(time).await;
            // Nobody may be listening any more, which is the point.
            let _ = done.send(());
        });
        async move {
            finished.await.expect("every call is done some time");
            call.trail.stamp(clock::now());
            Ok(answer(200))
        }
    })
}

/// Answers that callers still waited for while the leaf was slow, as a share of what it could have done.
async fn goodput(bulkhead: Option<bulkhead::Settings>, draws: Draws) -> f64 {
    let slow = Rc::new(Cell::new(false));
    let rooms = Rooms {
        deadline: deadline::Settings {
            total: PATIENCE,
            ..deadline::Settings::default()
        },
        bulkhead: bulkhead.map(Rooms::bulkhead),
        ..Rooms::default()
    };
    let outrider = rooms.before(leaf(Rc::clone(&slow), draws));
    offer(&outrider, RATE, BEFORE, |outcome, _| {
        assert!(outcome.is_ok(), "a healthy leaf carries the load");
    })
    .await;
    slow.set(true);
    let good = Rc::new(Cell::new(0u32));
    let counted = Rc::clone(&good);
    offer(&outrider, RATE, DURING, move |outcome, took| {
        if outcome.is_ok() && took <= PATIENCE {
            counted.set(counted.get() + 1);
        }
    })
    .await;
    let capacity = f64::from(THREADS) / (HEALTHY * SLOWER).as_secs_f64();
    f64::from(good.get()) / (capacity * DURING.as_secs_f64())
}

#[test]
fn a_slow_leaf_does_what_it_can_behind_an_adaptive_bulkhead_and_nothing_without() {
    let adaptive = bulkhead::Settings {
        adaptive: Some(bulkhead::config::Adaptive::default()),
        ..bulkhead::Settings::default()
    };
    let without = simulate(|draws| goodput(None, draws));
    let with = simulate(move |draws| goodput(Some(adaptive.clone()), draws));
    println!(
        "sim slow: leaf at {SLOWER}x, goodput as a share of its capacity: without {without:.3?}, adaptive bulkhead {with:.3?}"
    );
    for share in without {
        assert!(share < 0.3, "{share}");
    }
    for share in with {
        assert!((0.8..=1.1).contains(&share), "{share}");
    }
}
