//! An origin of which one try in a hundred, wherever it goes, takes far too long.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use outrider::clock;
use outrider::policy::hedge;
use outrider::policy::hedge::Hedger;

use super::Draws;
use super::Rooms;
use super::fleet::By;
use super::fleet::Fleet;
use super::fleet::Manner;
use super::offer;
use super::simulate;
use super::telemetry;

const RATE: u32 = 500;
const TIME: Duration = Duration::from_secs(60);
/// Until then the percentile is not known, and nothing is hedged.
const WARM: Duration = Duration::from_secs(5);

/// A little more than one in a hundred, so that the 99th percentile is one of them for certain and not by luck.
fn manner(_: usize, draws: &mut Draws) -> (Duration, u16) {
    let mean = Duration::from_millis(10);
    let stalls = draws.chance(0.012);
    let time = draws.service_time(mean);
    (time + if stalls { 20 * mean } else { Duration::ZERO }, 200)
}

#[derive(Debug)]
struct Figures {
    p50_ms: f64,
    p99_ms: f64,
    /// Tries beyond one a call, as a share of the calls.
    extra: f64,
}

/// Not a tail: the origin as a whole is slow.
fn every_second_stalls(_: usize, draws: &mut Draws) -> (Duration, u16) {
    let slow = draws.chance(0.5);
    (Duration::from_millis(if slow { 1000 } else { 10 }), 200)
}

async fn figures(settings: Option<hedge::Settings>, manner: Manner, draws: Draws) -> Figures {
    let fleet = Fleet::new(5, By::Ewma, manner, draws);
    let hedge = settings.map(|settings| {
        let metrics = hedge::metrics::Metrics::new(&telemetry(), "u", "*");
        let hedger = Hedger::new(settings, metrics);
        (hedger, fleet.cluster.clone())
    });
    let rooms = Rooms {
        hedge,
        ..Rooms::default()
    };
    let outrider = rooms.before(fleet.door());
    let start = clock::now();
    let latencies = Rc::new(RefCell::new(Vec::new()));
    let noted = Rc::clone(&latencies);
    let calls = offer(&outrider, RATE, TIME, move |outcome, took| {
        assert!(outcome.is_ok_and(|response| response.status().is_success()));
        if clock::now() - start > WARM {
            noted.borrow_mut().push(took);
        }
    })
    .await;
    let mut latencies = latencies.take();
    latencies.sort();
    let percentile = |share: f64| {
        let at = (latencies.len() as f64 * share) as usize;
        latencies[at].as_secs_f64() * 1e3
    };
    let tries = fleet.sent.borrow().len();
    Figures {
        p50_ms: percentile(0.5),
        p99_ms: percentile(0.99),
        extra: tries as f64 / f64::from(calls) - 1.0,
    }
}

#[test]
fn hedging_cuts_the_tail_by_half_for_a_twentieth_of_the_load() {
    let without = simulate(|draws| figures(None, manner, draws));
    let with = simulate(|draws| figures(Some(hedge::Settings::default()), manner, draws));
    println!("sim hedge: 1 % of tries stalls: without {without:.2?}, with {with:.3?}");
    for (without, with) in without.iter().zip(&with) {
        assert!(
            without.p99_ms > 100.0,
            "there is no tail to cut: {without:?}"
        );
        assert!(without.extra.abs() < 1e-9, "{without:?}");
        assert!(with.p99_ms <= without.p99_ms / 2.0, "{with:?}");
        assert!(with.p50_ms <= without.p50_ms * 1.1, "{with:?}");
        assert!(with.extra > 0.0 && with.extra <= 0.05, "{with:?}");
    }
}

#[test]
fn an_origin_that_turns_slow_as_a_whole_is_not_sent_twice_the_load() {
    // A fixed time, for a percentile would learn that a second is nothing unusual, and so hide the budget.
    let eager = |share: f64| {
        let mut settings = hedge::Settings {
            after: hedge::config::After::Fixed(Duration::from_millis(50)),
            ..hedge::Settings::default()
        };
        settings.budget.share = share;
        settings
    };
    let without = simulate(move |draws| figures(Some(eager(1.0)), every_second_stalls, draws));
    let with = simulate(move |draws| figures(Some(eager(0.05)), every_second_stalls, draws));
    println!(
        "sim hedge: every second try stalls: without a budget {without:.3?}, with one {with:.3?}"
    );
    for (without, with) in without.iter().zip(&with) {
        assert!(without.extra > 0.4, "nothing to bound: {without:?}");
        assert!(with.extra > 0.0 && with.extra <= 0.05, "{with:?}");
    }
}
