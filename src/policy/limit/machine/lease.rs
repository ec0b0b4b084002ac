//! The lease: what one pod holds of a bucket that it shares with others, and when it asks for more.
//!
//! The bucket is in Redis. A pod takes calls out of it a few at a time and spends them by itself, so that no call waits for
//! anybody. It asks ahead of need, as many as it will use in [`LOOKAHEAD`].
//!
//! | the lease | a call | it then |
//! |---|---|---|
//! | holds calls | passes | holds one less; asks when it is half empty |
//! | is empty, the bucket was not, and it owes less than its account | passes, on account | owes one more, and tells so when it asks |
//! | is empty, and so was the bucket | is refused | asks when the bucket may have something again |
//! | is empty, and owes its account | is refused | waits for its answer |
//! | is empty, and no answer comes for [`PATIENCE`] or the last one was a failure | is judged by the rule for `away` | asks again after a while |
//! | was not used for [`KEEP`] | | gives back what it holds |
//!
//! What may go wrong costs calls and never adds any: an answer that is lost takes its grant with it, what is owed is told
//! until it was heard, what is given back is told once. So in any time t, of all pods together, no more calls pass than
//! `burst` + `rate` x t + pods x [`Terms::batch`], the last being what pods hold or owe at a time, as long as Redis is there
//! and forgets nothing.
//!
//! For `away: local` a bucket of the pod's own goes along, with its part of the quota, and is charged for every call that
//! passes. So an outage is worth no burst to a pod that has had its share.

use std::time::Duration;

use crate::kit::gcra::Quota;
use crate::kit::gcra::Standing;
use crate::kit::gcra::Verdict;

const MS: u64 = 1_000_000;

/// For how long a batch is to last. A tenth of a second: ten asks a second and pod at most for its demand, and little
/// enough that the share of a pod that has gone is not missed for long.
pub const LOOKAHEAD: u64 = 100 * MS;

/// How long an unused lease is kept.
pub const KEEP: u64 = 1000 * MS;

/// How long an answer may take before calls stop waiting for it.
pub const PATIENCE: u64 = 50 * MS;

/// The least time between two asks that get less than they want.
const REST: u64 = 20 * MS;

/// The longest after a failure, and after an answer while others want the same.
const REST_MOST: u64 = 1000 * MS;

/// How many pods there are before anybody has said.
const PODS_UNKNOWN: u64 = 8;

/// What happens when the shared bucket cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Away {
    /// Each pod counts for itself, its part of the rate.
    #[default]
    Local,
    /// Every call passes.
    Allow,
    /// None does.
    Deny,
}

/// What is agreed about a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Of all pods together.
    pub quota: Quota,
    /// Without Redis.
    pub away: Away,
}

impl Terms {
    /// The most that one of so many pods holds at a time.
    #[must_use]
    pub fn batch(&self, pods: u64) -> u64 {
        let ahead = 2 * LOOKAHEAD / self.quota.step();
        self.account(pods).max(ahead / pods.max(1))
    }

    /// The most that one of so many pods owes at a time.
    #[must_use]
    pub fn account(&self, pods: u64) -> u64 {
        (self.quota.burst() / (2 * pods.max(1))).max(1)
    }
}

/// What a pod asks of the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Calls that it would like to have.
    pub want: u64,
    /// Calls that have passed on account.
    pub owed: u64,
    /// Calls that it had and did not need.
    pub back: u64,
}

/// What the bucket answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Calls given.
    pub calls: u64,
    /// What is left in it.
    pub left: u64,
    /// Pods that have asked it lately, the one that asks included.
    pub pods: u64,
    /// Until there is one more; zero if there is one.
    pub next: u64,
}

/// By what a call was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The lease, what it holds or may owe.
    Lease,
    /// The rule for when Redis is away.
    Away,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Whether it passes.
    pub verdict: Verdict,
    /// By what.
    pub by: By,
    /// Whether somebody is to ask for more now. Told once for each ask.
    pub rings: bool,
}

/// What one pod holds of one bucket. Times are nanoseconds since a beginning of the caller's own.
#[derive(Debug, Clone)]
pub struct Lease {
    held: u64,
    owed: u64,
    // Of an ask on its way.
    asked: Option<Ask>,
    // Since when an answer is due.
    waits_since: Option<u64>,
    asked_at: u64,
    used_at: u64,
    // Calls seen since the last ask, and those of a LOOKAHEAD by what was seen before.
    seen: u64,
    pace: u64,
    left: u64,
    pods: u64,
    not_before: u64,
    // Until when the bucket counts as empty.
    short_until: u64,
    failures: u32,
    spare: u64,
}

impl Lease {
    /// One that holds nothing and knows nothing.
    #[must_use]
    pub fn new(now: u64) -> Self {
        Self {
            held: 0,
            owed: 0,
            asked: None,
            waits_since: None,
            asked_at: now,
            used_at: now,
            seen: 0,
            pace: 0,
            left: 0,
            pods: PODS_UNKNOWN,
            not_before: now,
            short_until: 0,
            failures: 0,
            spare: 0,
        }
    }

    /// Judges a call.
    pub fn take(&mut self, terms: &Terms, now: u64) -> Taken {
        self.seen += 1;
        self.used_at = self.used_at.max(now);
        let (passes, by) = if self.held > 0 {
            self.held -= 1;
            (true, By::Lease)
        } else if self.is_away(now) {
            (self.passes_alone(terms, now), By::Away)
        } else if now >= self.short_until && self.owed < terms.account(self.pods) {
            self.owed += 1;
            (true, By::Lease)
        } else {
            (false, By::Lease)
        };
        if passes {
            self.charge(terms, now);
        }
        let standing = Standing {
            left: if passes { self.held + self.left } else { 0 },
            more_in: Duration::from_nanos(self.more_in(terms, now)),
        };
        Taken {
            verdict: if passes {
                Verdict::Pass(standing)
            } else {
                Verdict::Refuse(standing)
            },
            by,
            rings: self.rings(now),
        }
    }

    /// When it is to ask, if it wants anything.
    #[must_use]
    pub fn not_before(&self) -> u64 {
        self.not_before
    }

    /// What it asks now; `None` if it has nothing to say or waits for an answer.
    pub fn ask(&mut self, terms: &Terms, now: u64) -> Option<Ask> {
        if self.asked.is_some() {
            return None;
        }
        let is_idle = self.is_unused(now);
        let want = if is_idle { 0 } else { self.need(terms, now) };
        let ask = Ask {
            want,
            owed: self.owed,
            back: if is_idle {
                std::mem::take(&mut self.held)
            } else {
                0
            },
        };
        if (ask.want, ask.owed, ask.back) == (0, 0, 0) {
            self.waits_since = None;
            return None;
        }
        Some(self.send(ask, now))
    }

    /// Asks for nothing, to hear how the bucket stands and how many share it.
    pub fn greet(&mut self, now: u64) -> Option<Ask> {
        let nothing = Ask {
            want: 0,
            owed: self.owed,
            back: 0,
        };
        self.asked.is_none().then(|| self.send(nothing, now))
    }

    fn send(&mut self, ask: Ask, now: u64) -> Ask {
        self.asked = Some(ask);
        self.asked_at = self.asked_at.max(now);
        self.waits_since = Some(now);
        ask
    }

    /// The bucket has answered. `draw`, uniform in `[0, 1)`, keeps pods that share it out of step.
    pub fn granted(&mut self, terms: &Terms, grant: Grant, now: u64, draw: f64) {
        let Some(ask) = self.asked.take() else { return };
        self.waits_since = None;
        self.failures = 0;
        self.held += grant.calls;
        self.owed -= ask.owed.min(self.owed);
        self.left = grant.left;
        self.pods = grant.pods.max(1);
        let is_short = grant.next > 0 || grant.calls < ask.want;
        if is_short {
            // Each of so many asks as often as there is something for it.
            let most = REST_MOST.max(self.pods.saturating_mul(10 * MS));
            let turn = terms.quota.step().saturating_mul(self.pods);
            let turn = turn.clamp(REST, most) as f64 * (0.5 + draw.clamp(0.0, 1.0));
            self.not_before = now.saturating_add(grant.next.max(turn as u64));
        } else {
            self.not_before = now;
        }
        // A lease that goes on asking hears of it; one that has been quiet begins again on account.
        self.short_until = match grant.next {
            0 => 0,
            _ => self.not_before.saturating_add(KEEP),
        };
    }

    /// The bucket could not be asked.
    pub fn failed(&mut self, now: u64) {
        if self.asked.take().is_none() {
            return;
        }
        self.waits_since = None;
        let rest = (LOOKAHEAD << self.failures.min(4)).min(REST_MOST);
        self.failures = self.failures.saturating_add(1);
        self.not_before = now.saturating_add(rest);
    }

    /// Whether it has been quiet for so long that what it holds is to go back.
    #[must_use]
    pub fn is_unused(&self, now: u64) -> bool {
        now.saturating_sub(self.used_at) >= KEEP
    }

    /// Whether nothing would be lost without it: it has been quiet, holds and owes nothing, and its part is unused.
    #[must_use]
    pub fn is_blank(&self, now: u64) -> bool {
        self.is_unused(now)
            && now >= self.short_until
            && self.asked.is_none()
            && (self.held, self.owed) == (0, 0)
            && self.spare <= now
    }

    /// Calls it holds.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held
    }

    /// Calls that passed and that the bucket has not heard of.
    #[must_use]
    pub fn owed(&self) -> u64 {
        self.owed
    }

    /// Pods that share the bucket, as it last said.
    #[must_use]
    pub fn pods(&self) -> u64 {
        self.pods
    }

    /// What the bucket had left when it last answered.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Whether the bucket cannot be asked: the last ask failed, or its answer is late.
    #[must_use]
    pub fn is_away(&self, now: u64) -> bool {
        let is_late = |since: u64| now.saturating_sub(since) > PATIENCE;
        self.failures > 0 || self.waits_since.is_some_and(is_late)
    }

    fn need(&mut self, terms: &Terms, now: u64) -> u64 {
        let since = now.saturating_sub(self.asked_at).max(10 * MS);
        let ahead = u128::from(self.seen) * u128::from(LOOKAHEAD);
        let sample = u64::try_from(ahead.div_ceil(u128::from(since))).unwrap_or(u64::MAX);
        // Up at once, down by halves: traffic that pauses for a moment comes back as it was.
        self.pace = sample.max(self.pace.saturating_add(sample) / 2);
        self.seen = 0;
        let most = terms.batch(self.pods);
        self.pace.clamp(1, most).saturating_sub(self.held)
    }

    fn rings(&mut self, now: u64) -> bool {
        let is_low = self.held <= self.pace / 2;
        if !is_low || self.asked.is_some() || self.waits_since.is_some() {
            return false;
        }
        self.waits_since = Some(now.max(self.not_before));
        true
    }

    fn passes_alone(&self, terms: &Terms, now: u64) -> bool {
        match terms.away {
            Away::Allow => true,
            Away::Deny => false,
            Away::Local => self.part(terms).spend(self.spare, now).is_some(),
        }
    }

    fn charge(&mut self, terms: &Terms, now: u64) {
        let part = self.part(terms);
        self.spare = part
            .spend(self.spare, now)
            .unwrap_or_else(|| now.saturating_add(part.refill()));
    }

    fn part(&self, terms: &Terms) -> Quota {
        terms.quota.part(self.pods)
    }

    fn more_in(&self, terms: &Terms, now: u64) -> u64 {
        let alone = || {
            let part = self.part(terms);
            u64::try_from(part.standing(self.spare, now).more_in.as_nanos()).unwrap_or(u64::MAX)
        };
        match terms.away {
            Away::Local if self.is_away(now) => alone(),
            _ => self.not_before.saturating_sub(now),
        }
        .max(terms.quota.step().min(KEEP))
    }
}
