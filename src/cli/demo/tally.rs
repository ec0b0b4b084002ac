//! What happened to the requests of one side, kept so that every number of the summary can be computed from it. Pure.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::cli::demo::script::Script;

/// How a request ended, as the application sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A complete response below 500.
    Ok,
    /// A 5xx response.
    Status(u16),
    /// The connection failed or was reset.
    Broken,
    /// The application gave up waiting.
    TimedOut,
}

/// One request: times are counted from the start of the play.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// When it was due to be sent (open loop: lateness of the sender counts as latency).
    pub begin: Duration,
    /// When it ended.
    pub end: Duration,
    /// How.
    pub how: End,
}

/// The requests of one side.
#[derive(Debug)]
pub struct Tally {
    samples: Vec<Sample>,
    /// Microseconds of the answered ones. Failures are left out: a refusal that comes at once would flatter the median.
    answered: Histogram<u64>,
    ok: u64,
    sent: u64,
}

/// Numbers of one side at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Requests sent.
    pub requests: u64,
    /// Share of the ended ones that succeeded, 0 to 1; 0 when there was none.
    pub success: f64,
    /// Median of the answered ones, milliseconds.
    pub p50_ms: f64,
    /// 99th percentile of the answered ones, milliseconds.
    pub p99_ms: f64,
}

impl Default for Tally {
    fn default() -> Self {
        Tally {
            samples: Vec::new(),
            answered: Histogram::new_with_bounds(1, 600_000_000, 3)
                .expect("the bounds are constants in range"),
            ok: 0,
            sent: 0,
        }
    }
}

impl Tally {
    /// Counts one request that is due now.
    pub fn begin(&mut self) {
        self.sent += 1;
    }

    /// Adds one ended request.
    pub fn add(&mut self, sample: Sample) {
        if sample.how == End::Ok {
            self.ok += 1;
            let micros = sample.end.saturating_sub(sample.begin).as_micros();
            self.answered
                .saturating_record(u64::try_from(micros).unwrap_or(u64::MAX).max(1));
        }
        self.samples.push(sample);
    }

    /// The numbers so far.
    #[must_use]
    pub fn figures(&self) -> Figures {
        Figures {
            requests: self.sent,
            success: share(self.ok, self.samples.len() as u64),
            p50_ms: self.answered.value_at_quantile(0.50) as f64 / 1000.0,
            p99_ms: self.answered.value_at_quantile(0.99) as f64 / 1000.0,
        }
    }

    /// Success share of the requests that ended in the second before `now`; `None` when none did.
    #[must_use]
    pub fn last_second(&self, now: Duration) -> Option<f64> {
        let since = now.saturating_sub(Duration::from_secs(1));
        let recent = self.samples.iter().rev().take_while(|s| s.end >= since);
        let (mut ok, mut all) = (0, 0);
        for sample in recent {
            all += 1;
            ok += u64::from(sample.how == End::Ok);
        }
        (all > 0).then(|| share(ok, all))
    }

    /// Success share where at least one endpoint could have answered: see [`could_answer`].
    #[must_use]
    pub fn retriable_success(&self, script: &Script, closed_at: Option<Duration>) -> f64 {
        let (mut ok, mut all) = (0, 0);
        for sample in self
            .samples
            .iter()
            .filter(|s| could_answer(script, closed_at, s))
        {
            all += 1;
            ok += u64::from(sample.how == End::Ok);
        }
        share(ok, all)
    }

    /// Requests begun in `from..to`: how many ended well, how many ended.
    #[must_use]
    pub fn between(&self, from: Duration, to: Duration) -> (u64, u64) {
        let (mut ok, mut all) = (0, 0);
        for sample in self
            .samples
            .iter()
            .filter(|s| s.begin >= from && s.begin < to)
        {
            all += 1;
            ok += u64::from(sample.how == End::Ok);
        }
        (ok, all)
    }

    /// Success share of the requests begun in each phase, in order.
    #[must_use]
    pub fn by_phase(&self, script: &Script) -> Vec<f64> {
        let parts = script
            .phases()
            .map(|(begin, end, _)| self.between(begin, end));
        parts.map(|(ok, all)| share(ok, all)).collect()
    }
}

/// Whether a request belongs to the part of the script where a retry could have saved it.
///
/// Left out are the requests that touched the outage, and those begun after it while the breaker had not closed yet:
/// a breaker cannot know of the recovery before its probes do, and `recovery_s` reports that time on its own. When
/// the breaker never closed, nothing of the recovery is left out, so a breaker that stays open spoils the figure.
#[must_use]
pub fn could_answer(script: &Script, closed_at: Option<Duration>, sample: &Sample) -> bool {
    let (down, up) = script.outage();
    let out = closed_at.unwrap_or(up).max(up);
    sample.end < down || sample.begin >= out
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}
