//! Rows of the table in `machine/token.rs`.

use std::time::Duration;

use crate::kit::walk;
use crate::policy::credential::machine::token::again_in;
use crate::policy::credential::machine::token::may_nudge;
use crate::policy::credential::machine::token::plan;

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn a_token_is_renewed_before_it_ends_and_not_sent_at_its_end() {
    let hour = plan(seconds(3600), 0.0);
    assert_eq!(hour.renew_in, seconds(2520));
    assert_eq!(hour.usable_for, seconds(3590));
    assert_eq!(plan(seconds(3600), 1.0).renew_in, seconds(3060));
    let short = plan(seconds(20), 0.5);
    assert_eq!(short.usable_for, seconds(18));
    assert!(short.renew_in < short.usable_for);
}

#[test]
fn a_token_that_hardly_lives_is_not_asked_for_without_a_pause() {
    for lifetime in [Duration::ZERO, Duration::from_millis(10)] {
        assert_eq!(plan(lifetime, 0.3).renew_in, seconds(1));
    }
    assert_eq!(plan(Duration::ZERO, 0.3).usable_for, Duration::ZERO);
}

#[test]
fn failures_are_repeated_later_and_later_but_at_least_once_a_minute() {
    assert_eq!(again_in(1, 1.0), seconds(1));
    assert_eq!(again_in(1, 0.0), Duration::from_millis(500));
    assert_eq!(again_in(4, 1.0), seconds(8));
    for failures in [7, 100, u32::MAX] {
        assert_eq!(again_in(failures, 1.0), seconds(60));
    }
}

#[test]
fn a_refusal_is_heard_every_five_seconds() {
    assert!(!may_nudge(seconds(4)));
    assert!(may_nudge(seconds(5)));
}

#[test]
fn walk_a_token_that_lives_two_seconds_or_more_never_ends_unrenewed() {
    walk::seeds(|draws| {
        let lifetime = Duration::from_millis(2000 + draws.below(100_000_000));
        let plan = plan(lifetime, draws.unit());
        assert!(plan.renew_in < plan.usable_for, "{lifetime:?} {plan:?}");
        assert!(plan.usable_for < lifetime);
        let wait = again_in(1 + draws.below(50) as u32, draws.unit());
        assert!(wait >= Duration::from_millis(500) && wait <= seconds(60));
    });
}
