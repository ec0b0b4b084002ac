//! One endpoint of five is gray: it answers ten times as slowly and fails one call in twenty, so that no failure rate ever
//! finds it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use outrider::clock;
use outrider::policy::eject;
use outrider::policy::eject::EjectLayer;
use outrider::policy::eject::Ejector;
use tower::ServiceBuilder;

use super::Door;
use super::Draws;
use super::fleet::By;
use super::fleet::Fleet;
use super::offer;
use super::simulate;
use super::telemetry;

const ENDPOINTS: u8 = 5;
const GRAY: usize = 2;
const RATE: u32 = 200;
const WITHIN: Duration = Duration::from_secs(10);

fn manner(endpoint: usize, draws: &mut Draws) -> (Duration, u16) {
    let mean = Duration::from_millis(if endpoint == GRAY { 100 } else { 10 });
    let time = draws.service_time(mean);
    let fails = endpoint == GRAY && draws.chance(0.05);
    (time, if fails { 503 } else { 200 })
}

/// What became of the gray endpoint.
#[derive(Debug)]
struct Fate {
    /// After so many seconds it was ejected.
    ejected_after: Option<f64>,
    /// Its share of the calls in the second ten seconds.
    share: f64,
    /// Healthy endpoints that were out at some time.
    wronged: usize,
}

async fn fate(by: By, slow: Option<f64>, draws: Draws) -> Fate {
    let start = clock::now();
    let fleet = Fleet::new(ENDPOINTS, by, manner, draws);
    let settings = eject::Settings {
        slow,
        ..eject::Settings::default()
    };
    let metrics = eject::metrics::Metrics::new(&telemetry(), "u");
    let cluster = Arc::clone(&fleet.cluster);
    let ejector = Ejector::new("u".to_owned(), settings, Arc::clone(&cluster), metrics);
    let outrider = Door::stack(
        ServiceBuilder::new()
            .layer(EjectLayer::new(Some(ejector)))
            .service(fleet.door()),
    );
    let out = Rc::new(RefCell::new(vec![None; usize::from(ENDPOINTS)]));
    let noted = Rc::clone(&out);
    offer(&outrider, RATE, 2 * WITHIN, move |_, _| {
        let now = clock::now();
        for (at, endpoint) in cluster.set().endpoints.iter().enumerate() {
            if !endpoint.serves(now) {
                noted.borrow_mut()[at].get_or_insert((now - start).as_secs_f64());
            }
        }
    })
    .await;
    let late = |sent: &&(Instant, usize)| sent.0 - start >= WITHIN;
    let sent = fleet.sent.borrow();
    let to_gray = sent
        .iter()
        .filter(late)
        .filter(|(_, at)| *at == GRAY)
        .count();
    let mut out = out.take();
    let ejected_after = out.remove(GRAY);
    Fate {
        ejected_after,
        share: to_gray as f64 / sent.iter().filter(late).count() as f64,
        wronged: out.iter().flatten().count(),
    }
}

#[test]
fn a_gray_endpoint_is_out_of_the_rotation_within_ten_seconds() {
    let missed = simulate(|draws| fate(By::RoundRobin, None, draws));
    let slow = simulate(|draws| fate(By::RoundRobin, Some(3.0), draws));
    let ewma = simulate(|draws| fate(By::Ewma, None, draws));
    println!(
        "sim gray: one of five endpoints with 5 % errors and 10x latency: round robin {missed:.2?}, with eject slow 3x {slow:.2?}, ewma {ewma:.4?}"
    );
    for fate in missed {
        assert!(
            fate.ejected_after.is_none(),
            "failures alone find it: {fate:?}"
        );
        assert!(fate.share > 0.19, "{fate:?}");
    }
    for fate in slow {
        assert!(
            fate.ejected_after
                .is_some_and(|after| after < WITHIN.as_secs_f64()),
            "{fate:?}"
        );
        assert_eq!(fate.wronged, 0, "{fate:?}");
    }
    for fate in ewma {
        assert!(fate.share < 0.01, "starved, not ejected: {fate:?}");
        assert_eq!(fate.wronged, 0, "{fate:?}");
    }
}
