//! Ejection of one endpoint: when it has failed enough to be left out, and for how long.
//!
//! | from | event | guard | to | effect |
//! |---|---|---|---|---|
//! | In | success | | In | the run ends, the call is counted |
//! | In | failure | run below `consecutive` and rate below `failures` | In | run and window grow |
//! | In | failure | run reaches `consecutive` | In | verdict: eject, cause `consecutive` |
//! | In | failure | 10 calls or more in 10s, and the rate reaches `failures` | In | verdict: eject, cause `failure_rate` |
//! | In | answer | `slow` is set and [`is_outlier`] against its peers, which the skin looks up now and then | In | verdict: eject, cause `latency` |
//! | In | `confirm` | the skin found that the upstream can spare it | Out | run and window are forgotten |
//! | Out | outcome | it is still out | Out | dropped: calls from before the ejection say nothing new |
//! | Out | time | the ejection has lasted its length | In | starts afresh |
//! | Out | `recall` | probes had failed and pass again | In | starts afresh, before its time |
//!
//! The machine judges one endpoint and cannot see the others, so its verdict is a proposal: the skin asks [`may_eject`]
//! and then calls [`Machine::confirm`]. An unconfirmed verdict is given again at the next failure.

use std::time::Duration;
use std::time::Instant;

use super::config::Settings;
use crate::kit::spread::Spread;
use crate::kit::spread::Summary;
use crate::kit::window::Window;

/// The window of the failure rate.
pub const WINDOW: Duration = Duration::from_secs(10);

/// Fewer calls than this in the window never eject by rate.
pub const MIN_CALLS: u32 = 10;

/// How fast the latencies of an endpoint's answers fade. Ten times slower from one moment to the next, it is three times
/// slower on average after 2.5s.
pub const LATENCY_DECAY: Duration = Duration::from_secs(5);

/// With fewer answers than this nothing is said about an endpoint's latency.
pub const MIN_ANSWERS: f64 = 10.0;

/// With fewer peers than this nobody can say which of them is the odd one.
pub const MIN_PEERS: usize = 2;

/// How much slower an endpoint is at least, whatever the factor: below it a busy scheduler looks the same.
pub const MIN_EXCESS: Duration = Duration::from_millis(5);

/// By how many standard errors an endpoint has to be off. Latencies of mixed routes spread widely, and this is asked over and
/// over: four are exceeded by chance once in thirty thousand times.
const SURE: f64 = 4.0;

/// How often the peers are looked at on behalf of one endpoint.
pub const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The longest ejection, however often the endpoint came back and failed.
pub const LONGEST: Duration = Duration::from_secs(300);

/// An endpoint that has been back for this long has one of its earlier ejections forgiven, and so on.
pub const FORGIVE_AFTER: Duration = Duration::from_secs(10);

/// Why an endpoint should be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// A run of failures reached `consecutive`.
    Consecutive,
    /// The failed share of the window reached `failures`.
    FailureRate,
    /// Its answers take `slow` times what those of its peers take.
    Latency,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Cause; 3] = [Cause::Consecutive, Cause::FailureRate, Cause::Latency];

    /// The word of the metric label and the log.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Cause::Consecutive => "consecutive",
            Cause::FailureRate => "failure_rate",
            Cause::Latency => "latency",
        }
    }
}

/// What the machine proposes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a verdict takes effect by `confirm`"]
pub enum Verdict {
    /// Leave the endpoint out for this long.
    Eject {
        /// `base` times the number of ejections in a row, at most 300s.
        for_: Duration,
        /// What was reached.
        cause: Cause,
    },
}

/// The health of one endpoint as its outcomes show it.
#[derive(Debug, Clone)]
pub struct Machine {
    settings: Settings,
    counts: Window<2>,
    latency: Spread,
    looked: Option<Instant>,
    run: u32,
    times: u32,
    out: Option<Out>,
    back_since: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Out {
    since: Instant,
    length: Duration,
}

const CALLS: usize = 0;
const FAILURES: usize = 1;

impl Machine {
    /// An endpoint in good standing.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            counts: Window::new(WINDOW),
            latency: Spread::new(LATENCY_DECAY),
            looked: None,
            run: 0,
            times: 0,
            out: None,
            back_since: None,
        }
    }

    /// Counts one outcome that the endpoint is answerable for (not a caller that went away, not our own refusal).
    pub fn record(&mut self, ok: bool, now: Instant) -> Option<Verdict> {
        self.pass_time(now);
        if self.out.is_some() {
            return None;
        }
        self.counts.add(now, [1, u32::from(!ok)]);
        if ok {
            self.run = 0;
            return None;
        }
        self.run = self.run.saturating_add(1);
        let cause = self.cause(now)?;
        Some(Verdict::Eject {
            for_: self.next_length(now),
            cause,
        })
    }

    /// Takes in how long an answer took. True if its peers should be looked at now, for [`Machine::compare`].
    pub fn answered(&mut self, took: Duration, now: Instant) -> bool {
        self.pass_time(now);
        if self.settings.slow.is_none() || self.out.is_some() {
            return false;
        }
        self.latency.observe(octaves(took), now);
        let due = self.looked.is_none_or(|looked| {
            looked > now || now.saturating_duration_since(looked) >= LOOK_EVERY
        });
        if due {
            self.looked = Some(now);
        }
        due
    }

    /// How long its answers take, as [`is_outlier`] reads it; none while it is out or has answered too little.
    #[must_use]
    pub fn latency(&self, now: Instant) -> Option<Summary> {
        let summary = self.latency.summary(now);
        (summary.count >= MIN_ANSWERS && !self.is_out(now)).then_some(summary)
    }

    /// Holds its latency against that of its peers.
    pub fn compare(&mut self, peers: &mut [Summary], now: Instant) -> Option<Verdict> {
        self.pass_time(now);
        let (own, factor) = (self.latency(now)?, self.settings.slow?);
        is_outlier(own, peers, factor).then(|| Verdict::Eject {
            for_: self.next_length(now),
            cause: Cause::Latency,
        })
    }

    /// Carries out the verdict: the endpoint is out from `now`. Returns for how long.
    pub fn confirm(&mut self, now: Instant) -> Duration {
        self.pass_time(now);
        if let Some(out) = self.out {
            return out.length;
        }
        self.times = self.standing(now) + 1;
        let length = length(self.settings.base, self.times);
        self.out = Some(Out { since: now, length });
        self.run = 0;
        self.counts.clear();
        self.latency.clear();
        length
    }

    /// The endpoint serves again ahead of time. Its ejections so far still count towards the length of the next.
    pub fn recall(&mut self, now: Instant) {
        self.pass_time(now);
        if self.out.take().is_some() {
            self.back_since = Some(now);
        }
    }

    /// How long the endpoint is still out at `now`; none if it may serve.
    #[must_use]
    pub fn out_for(&self, now: Instant) -> Option<Duration> {
        let out = self.out?;
        let left = out
            .length
            .saturating_sub(now.saturating_duration_since(out.since));
        (!left.is_zero()).then_some(left)
    }

    /// True while the endpoint is left out.
    #[must_use]
    pub fn is_out(&self, now: Instant) -> bool {
        self.out_for(now).is_some()
    }

    fn pass_time(&mut self, now: Instant) {
        let Some(out) = self.out.as_mut() else { return };
        // A clock that stepped back must not make the ejection longer than it was.
        out.since = out.since.min(now);
        if now.saturating_duration_since(out.since) >= out.length {
            self.back_since = Some(out.since + out.length);
            self.out = None;
        }
    }

    fn cause(&mut self, now: Instant) -> Option<Cause> {
        if self.settings.consecutive.is_some_and(|n| self.run >= n) {
            return Some(Cause::Consecutive);
        }
        let totals = self.counts.totals(now);
        let rate = f64::from(totals[FAILURES]) / f64::from(totals[CALLS].max(1));
        let reached = self.settings.failures.is_some_and(|share| rate >= share);
        (totals[CALLS] >= MIN_CALLS && reached).then_some(Cause::FailureRate)
    }

    fn next_length(&self, now: Instant) -> Duration {
        length(self.settings.base, self.standing(now) + 1)
    }

    // Earlier ejections that still count at `now`.
    fn standing(&self, now: Instant) -> u32 {
        let Some(back) = self.back_since else {
            return 0;
        };
        let forgiven = now.saturating_duration_since(back).as_secs() / FORGIVE_AFTER.as_secs();
        self.times
            .saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX))
    }

    #[cfg(test)]
    pub(super) fn check_invariants(&self, now: Instant) {
        self.counts.check_invariants();
        if let Some(out) = self.out {
            assert!(out.length <= LONGEST, "an ejection of {:?}", out.length);
            assert_eq!(self.run, 0, "an endpoint that is out has no run");
            assert!(self.times > 0, "out without an ejection");
        }
        if let Some(left) = self.out_for(now) {
            assert!(left <= LONGEST);
        }
        assert!(self.standing(now) <= self.times);
    }
}

fn length(base: Duration, times: u32) -> Duration {
    base.saturating_mul(times.max(1)).min(LONGEST)
}

/// Latencies are compared as ratios, and one answer in a hundred that takes a second must not outweigh the rest: so by their
/// logarithm. One octave is twice as long.
fn octaves(took: Duration) -> f64 {
    (took.as_secs_f64() * 1e6).max(1.0).log2()
}

fn micros(octaves: f64) -> f64 {
    octaves.exp2()
}

/// Whether an endpoint answers `factor` times as slowly as the middle one of its peers, by [`MIN_EXCESS`] at least, and beyond
/// what chance does to samples of this size. Means are geometric. Never with fewer than [`MIN_PEERS`] peers.
#[must_use]
pub fn is_outlier(own: Summary, peers: &mut [Summary], factor: f64) -> bool {
    if peers.len() < MIN_PEERS {
        return false;
    }
    peers.sort_unstable_by(|a, b| a.mean.total_cmp(&b.mean));
    // Of an even number the slower of the two in the middle: the doubt is in favour of the endpoint.
    let middle = peers[peers.len() / 2];
    let off = own.mean - middle.mean;
    let error = (own.variance / own.count + middle.variance / middle.count).sqrt();
    let excess = micros(own.mean) - micros(middle.mean);
    off >= factor.log2() && off > SURE * error && excess >= MIN_EXCESS.as_micros() as f64
}

/// Whether one more of `total` endpoints may be left out when `ejected` are out already. Never the last one, and never more
/// than `max_share` of them.
#[must_use]
pub fn may_eject(ejected: usize, total: usize, max_share: f64) -> bool {
    let after = ejected + 1;
    // 0.29 * 100 is 28.999... in f64, and must still allow 29.
    after < total && after as f64 <= max_share * total as f64 + 1e-9
}
