//! One test for each row of the tables in `machine.rs`, the random walk, and the skin.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use tower::Layer;
use tower::Service;

use super::config::Settings;
use super::layer::Gate;
use super::layer::Load;
use super::layer::OverloadLayer;
use super::machine::FORGET;
use super::machine::LAG_MOST;
use super::machine::Lag;
use super::machine::Pressure;
use super::machine::Priority;
use super::machine::Reading;
use super::machine::WINDOW;
use super::machine::admits;
use super::machine::share;
use super::metrics::Metrics;
use crate::clock;
use crate::http::Call;
use crate::http::Fault;
use crate::http::LocalFuture;
use crate::http::Outcome;
use crate::http::Reason;
use crate::http::RequestBody;
use crate::http::ResponseBody;
use crate::http::Trail;
use crate::kit::mode::Mode;
use crate::kit::walk;
use crate::telemetry::BuildInfo;
use crate::telemetry::Telemetry;

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn settings() -> Settings {
    Settings {
        in_flight: Some(100),
        lag: Some(millis(100)),
        memory: Some(0.8),
        ..Settings::default()
    }
}

fn pressure(reading: Reading) -> f64 {
    Pressure::of(&settings(), reading).greatest()
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9
}

#[test]
fn calls_in_flight_are_a_share_of_the_bound() {
    for (in_flight, expected) in [(0, 0.0), (60, 0.6), (99, 0.99), (100, 1.0), (5000, 1.0)] {
        let got = pressure(Reading {
            in_flight,
            ..Reading::default()
        });
        assert!(near(got, expected), "{in_flight}: {got}");
    }
}

#[test]
fn lag_never_reaches_the_hard_bound() {
    for (lag_ms, expected) in [
        (0, 0.0),
        (100, 0.5),
        (120, 0.6),
        (200, LAG_MOST),
        (9000, LAG_MOST),
    ] {
        let got = pressure(Reading {
            lag_s: millis(lag_ms).as_secs_f64(),
            ..Reading::default()
        });
        assert!(near(got, expected), "{lag_ms}: {got}");
    }
}

#[test]
fn memory_counts_from_three_quarters_of_its_bound() {
    for (memory, expected) in [(0.0, 0.0), (0.6, 0.0), (0.72, 0.6), (0.8, 1.0), (1.2, 1.0)] {
        let got = pressure(Reading {
            memory,
            ..Reading::default()
        });
        assert!(near(got, expected), "{memory}: {got}");
    }
}

#[test]
fn the_greatest_signal_counts_and_one_that_is_off_does_not() {
    let reading = Reading {
        in_flight: 70,
        lag_s: 0.13,
        memory: 0.79,
    };
    assert!(near(pressure(reading), 0.95));
    let mut fewer = settings();
    fewer.memory = None;
    assert!(near(Pressure::of(&fewer, reading).greatest(), 0.7));
    fewer.in_flight = None;
    assert!(near(Pressure::of(&fewer, reading).greatest(), 0.65));
    fewer.lag = None;
    assert!(near(Pressure::of(&fewer, reading).greatest(), 0.0));
}

#[test]
fn each_priority_is_shed_in_its_band() {
    for (priority, from, to) in [
        (Priority::Low, 0.6, 0.8),
        (Priority::Normal, 0.8, 0.95),
        (Priority::High, 0.95, 1.0),
    ] {
        assert!(near(share(priority, from - 0.001), 1.0));
        assert!(near(share(priority, f64::midpoint(from, to)), 0.5));
        assert!(near(share(priority, to), 0.0));
    }
}

#[test]
fn critical_is_shed_at_the_hard_bound_only() {
    assert!(near(share(Priority::Critical, 0.999), 1.0));
    assert!(near(share(Priority::Critical, 1.0), 0.0));
    assert!(!admits(Priority::Critical, 1.0, || 0.0));
}

#[test]
fn chance_is_asked_only_where_it_decides() {
    let never = || -> f64 { panic!("nothing to decide") };
    assert!(admits(Priority::Normal, 0.5, never));
    assert!(!admits(Priority::Normal, 0.96, never));
    assert!(admits(Priority::Normal, 0.875, || 0.4));
    assert!(!admits(Priority::Normal, 0.875, || 0.6));
}

#[test]
fn one_long_turn_of_the_loop_is_no_lag() {
    let mut lag = Lag::default();
    for late in [0, 3000, 1, 0, 5, 900, 2] {
        assert!(lag.tick(millis(late)) < 0.006);
    }
}

#[test]
fn a_lag_that_stays_counts_after_the_window_and_is_forgotten_little_by_little() {
    let mut lag = Lag::default();
    for tick in 1..WINDOW {
        assert!(near(lag.tick(millis(300)), 0.0), "tick {tick}");
    }
    let mut before = lag.tick(millis(300));
    assert!(near(before, 0.3), "{before}");
    for _ in 0..10 {
        let now = lag.tick(millis(1));
        assert!(near(now, before * (1.0 - FORGET)), "{now} after {before}");
        before = now;
    }
}

#[test]
fn walk_more_pressure_never_admits_more_and_a_higher_priority_never_fewer() {
    walk::seeds(|draws| {
        let (a, b) = (draws.unit() * 1.2, draws.unit() * 1.2);
        let (less, more) = (a.min(b), a.max(b));
        for priority in Priority::ALL {
            assert!(share(priority, more) <= share(priority, less));
        }
        for pair in Priority::ALL.windows(2) {
            assert!(share(pair[0], a) <= share(pair[1], a), "{pair:?} at {a}");
        }
        let reading = Reading {
            in_flight: draws.below(300),
            lag_s: draws.pause().as_secs_f64(),
            memory: draws.unit() * 2.0,
        };
        let pressure = Pressure::of(&settings(), reading);
        for one in [pressure.in_flight, pressure.lag, pressure.memory] {
            assert!((0.0..=1.0).contains(&one), "{pressure:?}");
        }
        let mut lag = Lag::default();
        let mut most: f64 = 0.0;
        for _ in 0..50 {
            let late = draws.pause();
            most = most.max(late.as_secs_f64());
            let shown = lag.tick(late);
            assert!(shown.is_finite() && shown >= 0.0 && shown <= most);
        }
    });
}

/// An upstream that answers never, and counts who asked.
#[derive(Clone, Default)]
struct Upstream(Rc<Cell<usize>>);

impl Service<Call> for Upstream {
    type Response = http::Response<ResponseBody>;
    type Error = Fault;
    type Future = LocalFuture<Outcome>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Call) -> Self::Future {
        self.0.set(self.0.get() + 1);
        Box::pin(std::future::pending())
    }
}

fn call() -> Call {
    Call {
        head: Box::new(http::Request::new(()).into_parts().0),
        body: RequestBody::Empty,
        trail: Rc::new(Trail::new(clock::now())),
    }
}

fn load() -> (Arc<Load>, Arc<Telemetry>) {
    let build = BuildInfo {
        version: "",
        commit: "",
    };
    let telemetry = Telemetry::new(build, 1);
    (Load::new(1, Metrics::new(&telemetry, 1)), telemetry)
}

fn gate(load: &Arc<Load>, priority: Priority, mode: Mode) -> Gate {
    Gate {
        load: Arc::clone(load),
        worker: 0,
        settings: Settings {
            mode,
            in_flight: Some(10),
            ..Settings::default()
        },
        priority,
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_place_is_for_critical_and_a_dropped_call_gives_its_own_back() {
    let (load, telemetry) = load();
    let upstream = Upstream::default();
    let through = |priority| {
        OverloadLayer::new(Some(gate(&load, priority, Mode::Enforce))).layer(upstream.clone())
    };
    let mut critical = through(Priority::Critical);
    let mut running: Vec<_> = (0..9).map(|_| critical.call(call())).collect();
    assert_eq!(upstream.0.get(), 9);
    // 0.9: past low, past two thirds of the band of normal, below that of high.
    let fault = through(Priority::Low)
        .call(call())
        .await
        .err()
        .expect("shed");
    assert_eq!(fault.reason, Reason::Overloaded);
    assert!(fault.retry_after.is_some());
    running.push(through(Priority::High).call(call()));
    assert_eq!(upstream.0.get(), 10);
    for priority in Priority::ALL {
        let shed = through(priority).call(call()).await;
        assert!(shed.is_err(), "{priority:?} beyond the bound");
    }
    running.pop();
    running.push(critical.call(call()));
    assert_eq!(upstream.0.get(), 11);
    drop(running);
    drop(through(Priority::Low).call(call()));
    assert_eq!(upstream.0.get(), 12, "nothing is left of it");
    let shown = telemetry.encode();
    for counted in ["{priority=\"low\"} 2", "{priority=\"critical\"} 1"] {
        let line = format!("outrider_overload_shed_total{counted}");
        assert!(shown.contains(&line), "{shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn shadow_counts_and_lets_through() {
    let (load, telemetry) = load();
    let upstream = Upstream::default();
    let layer = OverloadLayer::new(Some(gate(&load, Priority::Normal, Mode::Shadow)));
    let mut service = layer.layer(upstream.clone());
    let running: Vec<_> = (0..12).map(|_| service.call(call())).collect();
    assert_eq!(upstream.0.get(), running.len());
    let shown = telemetry.encode();
    assert!(shown.contains("outrider_overload_shed_total{priority=\"normal\"} 0"));
    let none = "outrider_overload_shadow_shed_total{priority=\"normal\"} 0";
    assert!(!shown.contains(none), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn memory_at_its_bound_sheds_everything_until_it_is_below() {
    let (load, _telemetry) = load();
    let upstream = Upstream::default();
    let layer = OverloadLayer::new(Some(gate(&load, Priority::Critical, Mode::Enforce)));
    load.set_memory(0.95);
    assert!(layer.layer(upstream.clone()).call(call()).await.is_err());
    load.set_memory(0.5);
    drop(layer.layer(upstream.clone()).call(call()));
    assert_eq!(upstream.0.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn off_asks_nobody() {
    let upstream = Upstream::default();
    let mut service = OverloadLayer::new(None).layer(upstream.clone());
    let running: Vec<_> = (0..100).map(|_| service.call(call())).collect();
    assert_eq!(upstream.0.get(), running.len());
}
