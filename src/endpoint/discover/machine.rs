//! What is known of one name, and when to ask again.
//!
//! | answer (A and AAAA together)                   | endpoints                       | next lookup                    |
//! |------------------------------------------------|---------------------------------|--------------------------------|
//! | addresses in one of the two, or both           | replaced, each kind by its own  | before the shorter TTL is over |
//! | addresses in one, the other failed             | the failed kind keeps its last  | before the TTL is over         |
//! | none in either (NXDOMAIN, no data), first time | kept for the grace              | back-off                       |
//! | none in either, grace over                     | gone                            | back-off                       |
//! | failed (SERVFAIL, time-out), nothing found     | kept for ever                   | back-off                       |
//!
//! A name server that fails says nothing about the service. One that denies the name does, but may be wrong for a
//! moment: a headless service between two rollouts, a zone being reloaded. Hence the grace.

use std::net::IpAddr;
use std::time::Duration;
use std::time::Instant;

/// The constants of discovery. They are no knobs of the policy; tests shorten them.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// An answer is used at least so long. Default: 1s: a TTL of 0 must not become a query for each request.
    pub ttl_min: Duration,
    /// An answer is used at most so long. Default: 5m: the longest that a moved service goes unnoticed.
    pub ttl_max: Duration,
    /// The wait after the first failure, doubled with each further one. Default: 1s.
    pub backoff_base: Duration,
    /// The longest wait after failures. Default: 30s.
    pub backoff_max: Duration,
    /// How long the last good answer outlives the denial of the name. Default: 60s: twelve times the TTL of `CoreDNS`.
    pub grace: Duration,
    /// The most addresses of one name; the rest is left out, in the order of their numbers. Default: 256.
    pub addresses_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ttl_min: Duration::from_secs(1),
            ttl_max: Duration::from_secs(300),
            backoff_base: Duration::from_secs(1),
            backoff_max: Duration::from_secs(30),
            grace: Duration::from_secs(60),
            addresses_max: 256,
        }
    }
}

/// Why a lookup gave no addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// The name does not exist, or has no addresses.
    NotFound,
    /// The name server failed (SERVFAIL and its like).
    ServerFailed,
    /// The name server refuses to answer us.
    Refused,
    /// No answer in time.
    TimedOut,
    /// No name server could be reached.
    Unreachable,
    /// The answer could not be understood.
    Malformed,
    /// What was to be looked up is not a name.
    NotAName,
}

impl Why {
    /// The word for logs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::ServerFailed => "server_failed",
            Self::Refused => "refused",
            Self::TimedOut => "timed_out",
            Self::Unreachable => "unreachable",
            Self::Malformed => "malformed",
            Self::NotAName => "not_a_name",
        }
    }
}

/// What one query gave: that for A, or that for AAAA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Addresses, at least one, and how long they hold.
    Found {
        /// In any order, repetitions allowed.
        addresses: Vec<IpAddr>,
        /// The shortest TTL on the way to them.
        ttl: Duration,
    },
    /// The server says that there are none.
    Empty,
    /// No word from a server that could be trusted.
    Failed(Why),
}

impl Part {
    /// Addresses and their TTL; without any it is [`Part::Empty`].
    #[must_use]
    pub fn of(addresses: Vec<IpAddr>, ttl: Duration) -> Self {
        if addresses.is_empty() {
            Self::Empty
        } else {
            Self::Found { addresses, ttl }
        }
    }

    /// Whether it has addresses.
    #[must_use]
    pub const fn is_found(&self) -> bool {
        matches!(self, Self::Found { .. })
    }
}

/// What one lookup gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The query for A.
    pub v4: Part,
    /// The query for AAAA.
    pub v6: Part,
}

impl Answer {
    /// Both queries failed alike.
    #[must_use]
    pub fn failed(why: Why) -> Self {
        Self {
            v4: Part::Failed(why),
            v6: Part::Failed(why),
        }
    }

    /// Whether one of the queries has addresses.
    #[must_use]
    pub const fn is_found(&self) -> bool {
        self.v4.is_found() || self.v6.is_found()
    }

    /// Why there are no addresses: a failure counts for more than a denial, since it may hide an answer.
    #[must_use]
    pub const fn why(&self) -> Why {
        match (&self.v4, &self.v6) {
            (Part::Failed(why), _) | (_, Part::Failed(why)) => *why,
            _ => Why::NotFound,
        }
    }

    /// Leaves out the kind that this host has no route to, where the other kind can be reached: a name with both kinds
    /// must not cost a host without IPv6 every second connection. `reaches` says whether there is a route.
    #[must_use]
    pub fn routable(mut self, reaches: impl Fn(IpAddr) -> bool) -> Self {
        if let (Part::Found { addresses: v4, .. }, Part::Found { addresses: v6, .. }) =
            (&self.v4, &self.v6)
        {
            let any = |addresses: &[IpAddr]| addresses.iter().any(|&address| reaches(address));
            match (any(v4), any(v6)) {
                (true, false) => self.v6 = Part::Empty,
                (false, true) => self.v4 = Part::Empty,
                _ => {}
            }
        }
        self
    }
}

/// What an answer means for the endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A good answer: these came, these went.
    Changed {
        /// Sorted.
        added: Vec<IpAddr>,
        /// Sorted.
        removed: Vec<IpAddr>,
    },
    /// A good answer that says what was known.
    Same,
    /// No usable answer; `kept` addresses of an earlier one stay.
    Failed {
        /// What went wrong.
        why: Why,
        /// Addresses that stay.
        kept: usize,
    },
    /// The grace of a denied name is over: its addresses are gone.
    Gone {
        /// Sorted.
        removed: Vec<IpAddr>,
    },
}

/// The table of one name.
#[derive(Debug)]
pub struct Name {
    settings: Settings,
    v4: Vec<IpAddr>,
    v6: Vec<IpAddr>,
    known: Vec<IpAddr>,
    failures: u32,
    denied_since: Option<Instant>,
    asked: Option<Instant>,
    due: Instant,
}

impl Name {
    /// A name of which nothing is known; it is due at once.
    #[must_use]
    pub fn new(settings: Settings, now: Instant) -> Self {
        Self {
            settings,
            v4: Vec::new(),
            v6: Vec::new(),
            known: Vec::new(),
            failures: 0,
            denied_since: None,
            asked: None,
            due: now,
        }
    }

    /// The addresses to use: the last good answer. Sorted, IPv4 first.
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        &self.known
    }

    /// When to look it up next.
    #[must_use]
    pub fn due(&self) -> Instant {
        self.due
    }

    /// When to look it up next for someone in a hurry: not sooner after the last lookup than the shortest TTL.
    #[must_use]
    pub fn due_in_a_hurry(&self) -> Instant {
        self.asked.map_or(self.due, |asked| {
            self.due.min(asked + self.settings.ttl_min)
        })
    }

    /// Lookups without a usable answer since the last good one.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Takes an answer in. `draw` in `[0, 1)` spreads the lookups of a fleet.
    pub fn settle(&mut self, answer: Answer, now: Instant, draw: f64) -> Verdict {
        self.asked = Some(now);
        if answer.is_found() {
            return self.found(answer, now, draw);
        }
        let why = answer.why();
        self.failures = self.failures.saturating_add(1);
        self.due = now + self.backoff(draw);
        if why != Why::NotFound {
            return self.failed(why);
        }
        let since = *self.denied_since.get_or_insert(now);
        if self.known.is_empty() {
            return self.failed(why);
        }
        let end = since + self.settings.grace;
        if now < end {
            // The end of the grace is not to be slept through.
            self.due = self.due.min(end);
            return self.failed(why);
        }
        self.v4.clear();
        self.v6.clear();
        let removed = std::mem::take(&mut self.known);
        Verdict::Gone { removed }
    }

    fn found(&mut self, answer: Answer, now: Instant, draw: f64) -> Verdict {
        self.failures = 0;
        self.denied_since = None;
        let v4 = take(&mut self.v4, answer.v4);
        let v6 = take(&mut self.v6, answer.v6);
        let ttl = v4
            .into_iter()
            .chain(v6)
            .min()
            .unwrap_or(self.settings.ttl_min);
        let ttl = ttl.clamp(self.settings.ttl_min, self.settings.ttl_max);
        // Before the time is over, so that no request sees an outdated answer because the next one is on its way.
        self.due = now + ttl.mul_f64(0.75 + 0.2 * draw);

        let mut known = [&self.v4[..], &self.v6[..]].concat();
        known.truncate(self.settings.addresses_max);
        let added = without(&known, &self.known);
        let removed = without(&self.known, &known);
        self.known = known;
        if added.is_empty() && removed.is_empty() {
            Verdict::Same
        } else {
            Verdict::Changed { added, removed }
        }
    }

    fn failed(&self, why: Why) -> Verdict {
        Verdict::Failed {
            why,
            kept: self.known.len(),
        }
    }

    /// Half the wait is certain, half is spread.
    fn backoff(&self, draw: f64) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(16);
        let wait = self.settings.backoff_base.saturating_mul(1 << doublings);
        wait.min(self.settings.backoff_max)
            .mul_f64(0.5 + 0.5 * draw)
    }
}

/// Replaces one kind of addresses, unless nobody knows better. Gives the TTL of what was found.
fn take(kind: &mut Vec<IpAddr>, part: Part) -> Option<Duration> {
    match part {
        Part::Found { mut addresses, ttl } => {
            addresses.sort_unstable();
            addresses.dedup();
            *kind = addresses;
            Some(ttl)
        }
        Part::Empty => {
            kind.clear();
            None
        }
        Part::Failed(_) => None,
    }
}

/// What is in `these` and not in `those`; both sorted.
fn without(these: &[IpAddr], those: &[IpAddr]) -> Vec<IpAddr> {
    let missing = these
        .iter()
        .filter(|address| those.binary_search(address).is_err());
    missing.copied().collect()
}
