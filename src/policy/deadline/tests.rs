//! One test for each row of the table in `machine.rs`, named after it, and the random walk.

use std::time::Duration;

use super::config::Settings;
use super::machine::Elapsed;
use super::machine::TRY_FLOOR;
use super::machine::Upload;
use super::machine::is_hopeless;
use super::machine::is_hurried;
use super::machine::on_elapsed;
use super::machine::total;
use super::machine::try_limit;
use crate::kit::backoff::LEAST_TRY;
use crate::kit::walk;

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn per_try(limit: u64) -> Settings {
    Settings {
        per_try: Some(millis(limit)),
        ..Settings::default()
    }
}

#[test]
fn nothing_remains_then_a_try_may_take_nothing() {
    assert_eq!(
        try_limit(&Settings::default(), Duration::ZERO, 3),
        Duration::ZERO
    );
    assert_eq!(try_limit(&per_try(800), Duration::ZERO, 3), Duration::ZERO);
}

#[test]
fn per_try_is_set_then_it_is_the_limit_within_what_remains() {
    assert_eq!(try_limit(&per_try(800), millis(2000), 3), millis(800));
    assert_eq!(try_limit(&per_try(800), millis(500), 3), millis(500));
    assert_eq!(
        try_limit(&per_try(20), millis(500), 3),
        millis(20),
        "what was asked for has no floor"
    );
}

#[test]
fn the_last_try_gets_all_that_remains() {
    assert_eq!(
        try_limit(&Settings::default(), millis(1234), 1),
        millis(1234)
    );
    assert_eq!(
        try_limit(&Settings::default(), millis(1234), 0),
        millis(1234)
    );
}

#[test]
fn several_tries_left_share_what_remains() {
    assert_eq!(
        try_limit(&Settings::default(), millis(3000), 3),
        millis(1000)
    );
    assert_eq!(
        try_limit(&Settings::default(), millis(2000), 2),
        millis(1000)
    );
}

#[test]
fn several_tries_left_get_the_floor_at_least_within_what_remains() {
    assert_eq!(try_limit(&Settings::default(), millis(200), 4), TRY_FLOOR);
    assert_eq!(try_limit(&Settings::default(), millis(60), 4), millis(60));
}

#[test]
fn a_caller_can_only_shorten() {
    let settings = Settings::default();
    assert_eq!(total(&settings, None), settings.total);
    for (caller, expected) in [
        (0, 0),
        (1, 1),
        (4999, 4999),
        (5000, 5000),
        (86_400_000, 5000),
    ] {
        assert_eq!(total(&settings, Some(millis(caller))), millis(expected));
    }
}

#[test]
fn less_than_the_least_is_not_begun() {
    assert!(is_hopeless(Duration::ZERO));
    assert!(is_hopeless(
        LEAST_TRY.saturating_sub(Duration::from_nanos(1))
    ));
    assert!(!is_hopeless(LEAST_TRY));
}

#[test]
fn a_hurry_is_less_than_half_of_what_policy_gives() {
    let (settings, own) = (Settings::default(), millis(5000));
    for (limit, tries_left, expected) in [
        (5000, 1, false),
        (4990, 1, false),
        (2500, 1, false),
        (2499, 1, true),
        (1, 1, true),
        // A share of the time is measured against a share.
        (2500, 2, false),
        (1249, 2, true),
    ] {
        let hurried = is_hurried(&settings, millis(limit), own, tries_left);
        assert_eq!(hurried, expected, "{limit}ms of {tries_left} tries");
    }
    // Where `try` is shorter than the deadline, it is the measure.
    assert!(!is_hurried(&per_try(800), millis(800), own, 1));
    assert!(is_hurried(&per_try(800), millis(399), own, 1));
    // What the call has used up by itself is nobody's hurry.
    assert!(!is_hurried(&settings, millis(3), millis(3), 1));
}

#[test]
fn walk_a_caller_never_lengthens_and_without_one_there_is_no_hurry() {
    walk::seeds(|draws| {
        let settings = Settings {
            total: millis(1 + draws.below(20_000)),
            per_try: draws.chance(0.5).then(|| millis(1 + draws.below(5000))),
            ..Settings::default()
        };
        let caller = draws.chance(0.7).then(|| millis(draws.below(30_000)));
        let call = total(&settings, caller);
        assert!(call <= settings.total);
        assert!(caller.is_none_or(|left| call <= left));
        let spent = millis(draws.below(20_000));
        let (remaining, own) = (
            call.saturating_sub(spent),
            settings.total.saturating_sub(spent),
        );
        let tries = 1 + draws.below(6) as u32;
        let limit = try_limit(&settings, remaining, tries);
        let hurried = is_hurried(&settings, limit, own, tries);
        assert!(
            !hurried || caller.is_some_and(|left| left < settings.total),
            "a hurry that nobody is in"
        );
    });
}

#[test]
fn elapsed_without_a_body_is_late() {
    let now = walk::start();
    assert_eq!(
        on_elapsed(&Settings::default(), Upload::None, millis(100), now),
        Elapsed::Late
    );
}

#[test]
fn elapsed_counts_from_the_end_of_the_upload() {
    let at = walk::start();
    let judge = |passed| {
        on_elapsed(
            &Settings::default(),
            Upload::Done { at },
            millis(1000),
            at + millis(passed),
        )
    };
    let until = at + millis(1000);
    assert_eq!(judge(400), Elapsed::Wait { until });
    assert_eq!(judge(1000), Elapsed::Late);
}

#[test]
fn elapsed_while_the_client_waits_for_the_upstream_is_late_after_the_limit() {
    let progress = walk::start();
    let upload = Upload::Running {
        progress,
        starved: false,
    };
    let judge = |passed| {
        on_elapsed(
            &Settings::default(),
            upload,
            millis(1000),
            progress + millis(passed),
        )
    };
    let until = progress + millis(1000);
    assert_eq!(judge(999), Elapsed::Wait { until });
    assert_eq!(judge(1000), Elapsed::Late);
}

#[test]
fn elapsed_while_the_upstream_waits_for_the_client_gives_it_idle() {
    let progress = walk::start();
    let upload = Upload::Running {
        progress,
        starved: true,
    };
    let judge = |passed| {
        on_elapsed(
            &Settings::default(),
            upload,
            millis(1000),
            progress + millis(passed),
        )
    };
    let until = progress + millis(10_000);
    assert_eq!(
        judge(9000),
        Elapsed::Wait { until },
        "no longer asleep than the limit"
    );
    assert_eq!(judge(300_000), Elapsed::ClientStalled);
}

#[test]
fn walk_tries_never_outlast_the_call() {
    walk::seeds(|draws| {
        let settings = Settings {
            total: millis(1 + draws.below(20_000)),
            per_try: draws.chance(0.5).then(|| millis(1 + draws.below(5000))),
            ..Settings::default()
        };
        let tries = 1 + draws.below(6) as u32;
        let mut spent = Duration::ZERO;
        for left in (1..=tries).rev() {
            let remaining = settings.total - spent;
            let limit = try_limit(&settings, remaining, left);
            assert!(limit <= remaining, "{limit:?} of {remaining:?}");
            assert_eq!(
                limit.is_zero(),
                remaining.is_zero(),
                "a try without time, or time without a try"
            );
            let asked = settings.per_try.unwrap_or(TRY_FLOOR);
            assert!(
                limit >= asked.min(remaining),
                "{limit:?} is below what a try must have"
            );
            if settings.per_try.is_none() && left == 1 {
                assert_eq!(limit, remaining, "time is left over");
            }
            spent += limit.mul_f64(draws.unit()) + millis(draws.below(50));
            spent = spent.min(settings.total);
        }
    });
}

#[test]
fn walk_a_timer_is_always_set_ahead() {
    walk::seeds(|draws| {
        let settings = Settings {
            idle: millis(1 + draws.below(300_000)),
            ..Settings::default()
        };
        let limit = millis(draws.below(5000));
        let mut now = walk::start();
        let at = now;
        for _ in 0..50 {
            now += draws.pause();
            let upload = match draws.below(3) {
                0 => Upload::None,
                1 => Upload::Done { at },
                _ => Upload::Running {
                    progress: at,
                    starved: draws.chance(0.5),
                },
            };
            match on_elapsed(&settings, upload, limit, now) {
                Elapsed::Wait { until } => assert!(until > now, "a timer in the past would spin"),
                Elapsed::ClientStalled => assert!(now - at >= settings.idle),
                Elapsed::Late => assert!(upload == Upload::None || now - at >= limit),
            }
        }
    });
}
