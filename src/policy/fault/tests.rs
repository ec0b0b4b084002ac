//! One test for each row of the tables in `machine.rs`, named after it, and a random walk.

mod layer;

use std::time::Duration;
use std::time::Instant;

use super::config;
use super::config::Settings;
use super::machine::Cause;
use super::machine::End;
use super::machine::Kind;
use super::machine::Machine;
use super::machine::Plan;
use super::machine::State;
use super::machine::part;
use super::machine::pause;
use crate::http::Code;
use crate::kit::walk;

const LOADED: Duration = Duration::from_secs(1_800_000_000);
const HOUR: Duration = Duration::from_secs(3600);
const UNAVAILABLE: Code = Code {
    http: 503,
    grpc: 14,
};

fn with(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = Settings {
        share: 0.5,
        until: LOADED + HOUR,
        stop_when: Some(0.05),
        ..Settings::default()
    };
    change(&mut settings);
    settings
}

/// A machine and two clocks that agree.
struct Bench {
    machine: Machine,
    now: Instant,
    unix: Duration,
}

impl Bench {
    fn new(settings: &Settings) -> Self {
        let now = walk::start();
        Self {
            machine: Machine::new(settings, now, LOADED),
            now,
            unix: LOADED,
        }
    }

    fn pass(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self.unix += time;
        self
    }

    fn meets(&mut self, draw: f64) -> bool {
        let (met, transition) = self.machine.admit(self.now, self.unix, draw);
        assert_eq!(transition, None);
        met
    }

    fn ends(&mut self) -> Option<(State, Cause)> {
        let (met, transition) = self.machine.admit(self.now, self.unix, 0.0);
        assert!(!met || transition.is_none());
        transition.map(|t| (t.to, t.cause))
    }

    fn settle(&mut self, count: usize, failed: bool) -> Option<(State, Cause)> {
        let now = self.now;
        (0..count)
            .find_map(|_| self.machine.settle(failed, now))
            .map(|t| (t.to, t.cause))
    }

    fn state(&self) -> State {
        self.machine.state(self.now, self.unix)
    }
}

#[test]
fn running_call_is_met_below_the_share() {
    let mut bench = Bench::new(&with(|_| {}));
    assert!(bench.meets(0.0) && bench.meets(0.499));
    assert!(!bench.meets(0.5) && !bench.meets(0.999));
}

#[test]
fn running_until_is_reached_by_both_clocks() {
    let mut bench = Bench::new(&with(|_| {}));
    assert!(bench.pass(HOUR - Duration::from_millis(1)).meets(0.0));
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.state(), State::Over, "as a call would find it");
    assert_eq!(bench.ends(), Some((State::Over, Cause::Until)));
    assert_eq!(bench.ends(), None, "told once");
}

#[test]
fn running_is_not_prolonged_by_a_wall_clock_that_is_set_back() {
    let mut bench = Bench::new(&with(|_| {}));
    bench.pass(HOUR);
    bench.unix -= Duration::from_secs(86_400);
    assert_eq!(bench.ends(), Some((State::Over, Cause::Until)));
    bench.unix = LOADED;
    assert!(!bench.meets(0.0), "over is over");
}

#[test]
fn running_ends_when_the_wall_clock_is_set_beyond_it() {
    let mut bench = Bench::new(&with(|_| {}));
    bench.unix += HOUR;
    assert_eq!(bench.ends(), Some((State::Over, Cause::Until)));
}

#[test]
fn over_from_the_start_when_its_time_has_passed() {
    for until in [Duration::ZERO, LOADED] {
        let mut bench = Bench::new(&with(|s| s.until = until));
        assert_eq!(bench.state(), State::Over);
        assert!(!bench.meets(0.0));
        assert_eq!(bench.machine.stop(), None);
        assert_eq!(bench.machine.resume(bench.now, bench.unix), None);
    }
}

#[test]
fn running_guard_stops_it_above_the_share() {
    let mut bench = Bench::new(&with(|_| {}));
    assert_eq!(bench.settle(95, false), None);
    assert_eq!(bench.settle(5, true), None, "5 % is not above 5 %");
    assert_eq!(bench.settle(1, true), Some((State::Stopped, Cause::Guard)));
    assert!(!bench.meets(0.0));
}

#[test]
fn running_guard_waits_for_enough_calls() {
    let mut bench = Bench::new(&with(|_| {}));
    assert_eq!(bench.settle(19, true), None);
    assert!(bench.meets(0.0));
    assert_eq!(bench.settle(1, true), Some((State::Stopped, Cause::Guard)));
}

#[test]
fn running_guard_forgets_what_is_older_than_its_window() {
    let mut bench = Bench::new(&with(|_| {}));
    assert_eq!(bench.settle(19, true), None);
    bench.pass(config::OVER + Duration::from_millis(1));
    assert_eq!(bench.settle(19, true), None);
}

#[test]
fn running_without_a_guard_counts_nothing() {
    let mut bench = Bench::new(&with(|s| s.stop_when = None));
    assert!(!bench.machine.watches());
    assert_eq!(bench.settle(1000, true), None);
    assert!(bench.meets(0.0));
}

#[test]
fn running_stop_and_stopped_resume() {
    let mut bench = Bench::new(&with(|_| {}));
    bench.settle(10, true);
    let stopped = bench.machine.stop().map(|t| (t.to, t.cause));
    assert_eq!(stopped, Some((State::Stopped, Cause::ByHand)));
    assert_eq!(bench.machine.stop(), None, "it is stopped already");
    assert!(!bench.meets(0.0) && !bench.machine.watches());
    assert_eq!(bench.settle(100, true), None, "not counted");
    let resumed = bench.machine.resume(bench.now, bench.unix);
    assert_eq!(
        resumed.map(|t| (t.to, t.cause)),
        Some((State::Running, Cause::Resumed))
    );
    assert_eq!(bench.machine.counts(bench.now), (0, 0));
    assert!(bench.meets(0.0));
    assert_eq!(bench.machine.resume(bench.now, bench.unix), None);
}

#[test]
fn stopped_resume_after_its_time_is_over() {
    let mut bench = Bench::new(&with(|_| {}));
    bench.machine.stop();
    bench.pass(HOUR);
    let resumed = bench.machine.resume(bench.now, bench.unix);
    assert_eq!(
        resumed.map(|t| (t.to, t.cause)),
        Some((State::Over, Cause::Until))
    );
}

#[test]
fn plan_is_the_table() {
    let delay = Some(Duration::from_millis(5));
    let of = |delay, abort, reset, bandwidth| {
        let plan = Plan::of(&with(|s| {
            (s.delay, s.abort, s.reset, s.bandwidth) = (delay, abort, reset, bandwidth);
        }));
        (plan.end, plan.kinds().collect::<Vec<_>>(), plan.word())
    };
    let abort = Some(UNAVAILABLE);
    assert_eq!(
        of(delay, None, false, None),
        (End::Call, vec![Kind::Delay], "delay")
    );
    assert_eq!(
        of(None, abort, false, Some(1024)),
        (End::Abort, vec![Kind::Abort], "abort")
    );
    assert_eq!(
        of(delay, abort, true, None),
        (End::Abort, vec![Kind::Delay, Kind::Abort], "delay+abort")
    );
    assert_eq!(
        of(delay, None, true, Some(1024)),
        (End::Reset, vec![Kind::Delay, Kind::Reset], "delay+reset")
    );
    assert_eq!(
        of(delay, None, false, Some(1024)),
        (
            End::Call,
            vec![Kind::Delay, Kind::Bandwidth],
            "delay+bandwidth"
        )
    );
}

#[test]
fn parts_of_a_body_add_up_to_the_rate() {
    for rate in [1, 9, 1024, 1 << 20, 1 << 30] {
        let part = part(rate);
        assert!(part >= 1 && part as u64 <= (rate / 10).max(1));
        let second = pause(part, rate).as_secs_f64() * rate as f64 / part as f64;
        assert!((second - 1.0).abs() < 1e-6, "{rate}: {second}");
    }
    assert_eq!(pause(usize::MAX, 0), HOUR, "no rate at all is no panic");
}

#[test]
fn settings_are_read_as_written() {
    let both = |text| config::abort(text).map(|code| (code.http, code.grpc)).ok();
    assert_eq!(both("503"), Some((503, 14)));
    assert_eq!(both("404"), Some((404, 12)));
    assert_eq!(both("418"), Some((418, 2)));
    assert_eq!(both("grpc:resource_exhausted"), Some((429, 8)));
    for text in [
        "399", "600", "0", "-1", "grpc:ok", "grpc:OK", "grpc:14", "", "5xx",
    ] {
        assert_eq!(both(text), None, "{text}");
    }
    let until = |text| config::until(text).map(|time| time.as_secs()).ok();
    assert_eq!(until("1970-01-01T00:01:00Z"), Some(60));
    assert_eq!(until("1970-01-01T02:00:00+01:00"), Some(3600));
    assert_eq!(until("1960-01-01T00:00:00Z"), Some(0));
    assert_eq!(until("2026-02-31T00:00:00Z"), None);
    for (text, share) in [
        ("errors > 5%", Some(0.05)),
        ("errors>0.5%", Some(0.005)),
        ("errors > 0%", None),
        ("errors > 100%", None),
        ("errors < 5%", None),
        ("latency > 5%", None),
    ] {
        assert_eq!(config::guard(text).ok(), share, "{text}");
    }
}

#[test]
fn walk_never_meets_a_call_that_it_must_not() {
    let mut ended = [0_u32; 3];
    walk::seeds(|draws| {
        let settings = with(|s| {
            s.share = draws.unit();
            s.until = LOADED + Duration::from_millis(draws.below(60_000));
            s.stop_when = draws.chance(0.7).then_some(0.05 + 0.5 * draws.unit());
        });
        let mut bench = Bench::new(&settings);
        let mut stopped = false;
        let mut failing = 0.05;
        for _ in 0..300 {
            bench.pass(draws.pause());
            if draws.chance(0.02) {
                bench.unix = (LOADED + Duration::from_millis(draws.below(30_000))).max(LOADED);
            }
            if draws.chance(0.02) {
                failing = draws.pick(&[0.0, 0.2, 1.0]);
            }
            let (now, unix) = (bench.now, bench.unix);
            let moved = match draws.unit() {
                draw if draw < 0.02 => bench.machine.stop(),
                draw if draw < 0.04 => bench.machine.resume(now, unix),
                draw if draw < 0.5 => bench.machine.settle(draws.chance(failing), now),
                _ => {
                    let before = bench.state();
                    let draw = draws.unit();
                    let (met, moved) = bench.machine.admit(now, unix, draw);
                    if met {
                        assert_eq!(before, State::Running);
                        assert!(!stopped && draw < settings.share);
                        assert!(unix < settings.until);
                        assert!(now - walk::start() < settings.until - LOADED);
                    }
                    moved
                }
            };
            if let Some(moved) = moved {
                stopped = moved.to != State::Running;
                ended[moved.to as usize] += 1;
                if moved.cause == Cause::Guard {
                    assert!(moved.calls >= config::MIN_CALLS);
                    let share = f64::from(moved.failures) / f64::from(moved.calls);
                    assert!(settings.stop_when.is_some_and(|limit| share > limit));
                }
            }
        }
    });
    let alone = std::env::var("OUTRIDER_SEED").is_ok();
    assert!(
        alone || ended.iter().all(|moves| *moves > 20),
        "the walk hardly moves: {ended:?}"
    );
}
