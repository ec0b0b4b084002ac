//! One test for each row of the table, the walk, and threads.

use std::time::Duration;

use super::super::gcra::Bucket;
use super::super::gcra::Quota;
use super::super::gcra::Standing;
use super::super::gcra::Verdict;
use super::super::walk;
use super::super::walk::Draws;

const MS: u64 = 1_000_000;
const S: u64 = 1000 * MS;

fn quota(rps: u32, burst: u32) -> Quota {
    Quota::new(rps, Duration::from_secs(1), burst)
}

fn passed(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Pass(_))
}

fn standing(left: u64, more_in_ms: u64) -> Standing {
    Standing {
        left,
        more_in: Duration::from_millis(more_in_ms),
    }
}

#[test]
fn a_full_bucket_passes_and_is_full_one_step_from_now() {
    let bucket = Bucket::new(3 * S);
    let verdict = bucket.take(&quota(10, 5), 7 * S);
    assert_eq!(verdict, Verdict::Pass(standing(4, 100)));
    assert_eq!(bucket.full_at(), 7 * S + 100 * MS);
}

#[test]
fn a_bucket_with_room_passes_and_is_full_one_step_later() {
    let bucket = Bucket::new(7 * S + 250 * MS);
    let verdict = bucket.take(&quota(10, 5), 7 * S);
    assert_eq!(verdict, Verdict::Pass(standing(1, 50)));
    assert_eq!(bucket.full_at(), 7 * S + 350 * MS);
}

#[test]
fn a_bucket_without_room_refuses_tells_when_it_has_and_stays_as_it_was() {
    let bucket = Bucket::new(7 * S + 430 * MS);
    let verdict = bucket.take(&quota(10, 5), 7 * S);
    assert_eq!(verdict, Verdict::Refuse(standing(0, 30)));
    assert_eq!(bucket.full_at(), 7 * S + 430 * MS);
    assert!(!passed(bucket.take(&quota(10, 5), 7 * S + 29 * MS)));
    assert!(
        passed(bucket.take(&quota(10, 5), 7 * S + 30 * MS)),
        "it has when it said"
    );
}

#[test]
fn a_burst_of_one_spaces_calls_evenly() {
    let (bucket, quota) = (Bucket::default(), quota(2, 1));
    let at = [0, 499, 500, 999, 1000, 5000, 5499];
    let verdicts = at.map(|ms| passed(bucket.take(&quota, ms * MS)));
    assert_eq!(verdicts, [true, false, true, false, true, true, false]);
}

#[test]
fn a_step_is_rounded_up_so_that_the_rate_is_never_exceeded() {
    let bucket = Bucket::default();
    let quota = quota(3, 3);
    let count = |from: u64, to: u64| {
        (from..to)
            .step_by(1_000_000)
            .filter(|now| passed(bucket.take(&quota, *now)))
            .count()
    };
    assert_eq!(count(0, 10 * S), 3 + 29, "not 33: 10 s are a moment short");
}

#[test]
fn a_caller_whose_now_is_old_is_judged_no_less_strictly() {
    let (bucket, quota) = (Bucket::new(10 * S + 300 * MS), quota(10, 5));
    assert!(!passed(bucket.take(&quota, 9 * S)));
    assert!(passed(bucket.take(&quota, 10 * S)));
}

#[test]
fn a_reload_keeps_what_was_used_in_calls() {
    let (before, now) = (quota(10, 20), 50 * S);
    let used_15 = now + 1500 * MS;
    let left = |quota: Quota| {
        let full_at = quota.carry(&before, used_15, now);
        quota.standing(full_at, now).left
    };
    assert_eq!(left(quota(10, 20)), 5, "the same");
    assert_eq!(left(quota(100, 20)), 5, "faster, not fuller");
    assert_eq!(
        left(quota(10, 100)),
        85,
        "the larger burst is there, less what was used"
    );
    assert_eq!(left(quota(10, 10)), 0, "a smaller one is used up");
    let full_at = quota(10, 10).carry(&before, used_15, now);
    assert_eq!(full_at, now + S, "and no more than that");
    assert_eq!(
        quota(1, 5).carry(&before, now - S, now),
        now,
        "full stays full"
    );
}

/// Whether the times at which calls passed keep to the quota: in any time t no more than `burst` + t / step.
fn keeps(quota: &Quota, times: &[u64]) -> bool {
    let step = quota.step();
    times.iter().enumerate().all(|(first, from)| {
        times[first..].iter().enumerate().all(|(more, to)| {
            let most = quota.burst() + (to - from) / step;
            (more as u64) < most
        })
    })
}

fn any_quota(draws: &mut Draws) -> Quota {
    let minute = Duration::from_secs(60);
    let calls = 1 + draws.below(600) as u32;
    let (calls, per) = match draws.below(3) {
        0 => (calls, 60 * minute),
        1 => (calls, minute),
        _ => (calls, Duration::from_secs(1)),
    };
    Quota::new(calls, per, 1 + draws.below(20) as u32)
}

#[test]
fn walk_no_more_than_burst_and_rate_pass_in_any_time() {
    walk::seeds(|draws| {
        let quota = any_quota(draws);
        let step = quota.step();
        let (bucket, mut now) = (Bucket::default(), draws.below(S));
        let mut times = Vec::new();
        for _ in 0..120 {
            now += match draws.below(10) {
                0 => draws.below(step * 30),
                1..4 => draws.below(step * 2),
                _ => draws.below(step),
            };
            match bucket.take(&quota, now) {
                Verdict::Pass(standing) => {
                    times.push(now);
                    assert!(standing.left < quota.burst());
                }
                Verdict::Refuse(standing) => {
                    assert_eq!(standing.left, 0);
                    let wait = standing.more_in.as_nanos() as u64;
                    assert!((1..=step).contains(&wait), "{wait} of {step}");
                    let copy = Bucket::new(bucket.full_at());
                    assert!(!passed(copy.take(&quota, now + wait - 1)), "not before");
                    assert!(passed(copy.take(&quota, now + wait)), "but then");
                }
            }
        }
        assert!(keeps(&quota, &times), "{quota:?}: {times:?}");
    });
}

#[test]
fn threads_together_pass_what_one_would() {
    const THREADS: u64 = 8;
    const ROUNDS: u64 = 2000;
    for burst in [1, 7, 50] {
        let quota = quota(1000, burst);
        let bucket = Bucket::default();
        // Every thread asks once at each of the same moments, in whatever order they come to it.
        let passes: u64 = std::thread::scope(|scope| {
            let running: Vec<_> = (0..THREADS)
                .map(|_| {
                    let ask = |round: &u64| passed(bucket.take(&quota, round * 250_000));
                    scope.spawn(move || (0..ROUNDS).filter(ask).count() as u64)
                })
                .collect();
            running
                .into_iter()
                .map(|thread| thread.join().expect("no thread fails"))
                .sum()
        });
        let most = u64::from(burst) + (ROUNDS - 1) * 250_000 / MS;
        // Those behind are judged by a bucket that is ahead of them, so less may pass, but not less than by the one ahead.
        assert!(
            (most - u64::from(burst)..=most).contains(&passes),
            "{passes} of {most}"
        );
    }
    let (quota, bucket) = (quota(10, 100), Bucket::default());
    let passes: usize = std::thread::scope(|scope| {
        let ask = || (0..50).filter(|_| passed(bucket.take(&quota, S))).count();
        let running: Vec<_> = (0..THREADS).map(|_| scope.spawn(ask)).collect();
        running
            .into_iter()
            .map(|thread| thread.join().expect("no thread fails"))
            .sum()
    });
    assert_eq!(passes, 100, "at one moment exactly the burst, whoever asks");
}
