//! What is counted about the cache: by route what became of each call, and for the store what it holds.

use std::sync::atomic::Ordering::Relaxed;

use crate::telemetry::ByWord;
use crate::telemetry::Counter;
use crate::telemetry::Def;
use crate::telemetry::Gauge;
use crate::telemetry::Tally;
use crate::telemetry::Telemetry;

const REQUESTS: Def<Tally, 3> = Def::new(
    "outrider_cache_requests_total",
    "Calls of a route with a cache, by what the cache did",
    ["upstream", "route", "result"],
);
const SHADOW_REQUESTS: Def<Tally, 3> = Def::new(
    "outrider_cache_shadow_requests_total",
    "Calls that went to the upstream, by what the cache would have done in mode enforce",
    ["upstream", "route", "result"],
);
const SAVED: Def<Tally, 2> = Def::new(
    "outrider_cache_saved_calls_total",
    "Calls that the upstream did not get, because the cache answered",
    ["upstream", "route"],
);
const STORED: Def<Counter, 2> = Def::new(
    "outrider_cache_stored_total",
    "Answers that were kept",
    ["upstream", "route"],
);
const NOT_STORED: Def<Counter, 3> = Def::new(
    "outrider_cache_not_stored_total",
    "Answers that were not kept, by why not",
    ["upstream", "route", "why"],
);
const STALE: Def<Counter, 3> = Def::new(
    "outrider_cache_stale_total",
    "Stale answers in place of an error, by the error",
    ["upstream", "route", "reason"],
);
const REVALIDATIONS: Def<Counter, 3> = Def::new(
    "outrider_cache_revalidations_total",
    "Times the upstream was asked whether what is kept still holds, by its answer",
    ["upstream", "route", "result"],
);
const INVALIDATED: Def<Counter, 2> = Def::new(
    "outrider_cache_invalidated_total",
    "Calls with an unsafe method that made kept answers invalid",
    ["upstream", "route"],
);
const BYTES: Def<Gauge, 0> = Def::new(
    "outrider_cache_bytes",
    "Memory that kept answers take, with their heads and keys",
    [],
);
const CAPACITY: Def<Gauge, 0> = Def::new(
    "outrider_cache_capacity_bytes",
    "The most memory that kept answers may take",
    [],
);
const ENTRIES: Def<Gauge, 0> = Def::new(
    "outrider_cache_entries",
    "URLs of which answers are kept",
    [],
);
const EVICTIONS: Def<Counter, 0> = Def::new(
    "outrider_cache_evictions_total",
    "Answers given up for others, because the memory was full",
    [],
);
const PURGED: Def<Counter, 2> = Def::new(
    "outrider_cache_purged_total",
    "Answers that an operator's order removed, or made stale",
    ["by", "how"],
);

/// What the cache did with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// Answered from what is kept and fresh.
    Fresh,
    /// Answered from what is kept, after the upstream said that it still holds.
    Revalidated,
    /// Answered stale while one call refreshes it.
    StaleWhileRevalidate,
    /// Answered stale because the upstream failed.
    StaleIfError,
    /// Answered stale because the client takes that (`max-stale`).
    MaxStale,
    /// Answered from another call's fetch of the same.
    Collapsed,
    /// Nothing usable was kept: fetched.
    Miss,
    /// Not for a cache, by the request or the policy: passed on.
    Bypass,
    /// Nothing usable was kept and the client wanted no fetch (`only-if-cached`): 504.
    OnlyIfCached,
}

impl Served {
    /// Every one, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Fresh,
        Self::Revalidated,
        Self::StaleWhileRevalidate,
        Self::StaleIfError,
        Self::MaxStale,
        Self::Collapsed,
        Self::Miss,
        Self::Bypass,
        Self::OnlyIfCached,
    ];

    /// The label value, and `cache` in the access log.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Revalidated => "revalidated",
            Self::StaleWhileRevalidate => "stale_while_revalidate",
            Self::StaleIfError => "stale_if_error",
            Self::MaxStale => "max_stale",
            Self::Collapsed => "collapsed",
            Self::Miss => "miss",
            Self::Bypass => "bypass",
            Self::OnlyIfCached => "only_if_cached",
        }
    }

    /// Whether the client got what is kept. A call that bypasses the cache is no part of its hit ratio.
    #[must_use]
    pub const fn is_hit(self) -> bool {
        !matches!(self, Self::Miss | Self::Bypass | Self::OnlyIfCached)
    }

    /// Whether the upstream was spared a call: not when it was asked and said that the copy holds, nor when it failed.
    #[must_use]
    pub const fn saves(self) -> bool {
        matches!(self, Self::Fresh | Self::MaxStale | Self::Collapsed)
    }
}

/// What came of asking the upstream whether a copy still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// It does: 304.
    NotModified,
    /// There is another in its place.
    Changed,
    /// No usable answer.
    Failed,
}

impl Refreshed {
    const fn word(self) -> &'static str {
        match self {
            Self::NotModified => "not_modified",
            Self::Changed => "changed",
            Self::Failed => "failed",
        }
    }
}

/// What calls of one route came to so far, since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Calls that were the cache's business, in enforce and shadow.
    pub calls: u64,
    /// Those it answered, or would have.
    pub hits: u64,
    /// Calls that the upstream did not get.
    pub saved: u64,
}

impl Figures {
    /// Hits over calls, between 0 and 1; `None` without calls.
    #[must_use]
    pub fn hit_ratio(&self) -> Option<f64> {
        (self.calls > 0).then(|| self.hits as f64 / self.calls as f64)
    }
}

/// The handles of one route.
#[derive(Debug)]
pub struct Metrics {
    served: [Tally; Served::ALL.len()],
    shadow: [Tally; Served::ALL.len()],
    saved: Tally,
    stored: Counter,
    not_stored: ByWord,
    stale: ByWord,
    revalidations: ByWord,
    invalidated: Counter,
}

impl Metrics {
    /// Resolve the handles; `upstream` and `route` as in the policy.
    #[must_use]
    pub fn new(telemetry: &Telemetry, upstream: &str, route: &str) -> Self {
        telemetry.admit(upstream);
        let labels = [upstream, route];
        let by_result = |def| {
            let family = telemetry.family(def);
            Served::ALL.map(|served| family.get([upstream, route, served.word()]))
        };
        let by_word = |def| telemetry.by_word(def, upstream, route);
        Self {
            served: by_result(&REQUESTS),
            shadow: by_result(&SHADOW_REQUESTS),
            saved: telemetry.family(&SAVED).get(labels),
            stored: telemetry.family(&STORED).get(labels),
            not_stored: by_word(&NOT_STORED),
            stale: by_word(&STALE),
            revalidations: by_word(&REVALIDATIONS),
            invalidated: telemetry.family(&INVALIDATED).get(labels),
        }
    }

    /// The cache has done this with a call.
    pub fn served(&self, served: Served) {
        self.served[served as usize].inc();
        if served.saves() {
            self.saved.inc();
        }
    }

    /// The cache would have done this with a call in mode enforce.
    pub fn would_serve(&self, served: Served) {
        self.shadow[served as usize].inc();
    }

    /// An answer was kept.
    pub fn stored(&self) {
        self.stored.inc();
    }

    /// An answer was not kept.
    pub fn not_stored(&self, why: &'static str) {
        self.not_stored.inc(why);
    }

    /// A stale answer went out in place of this: a reason's word, or `upstream_status`.
    pub fn stale(&self, reason: &'static str) {
        self.stale.inc(reason);
    }

    /// The upstream was asked whether a copy still holds.
    pub fn revalidation(&self, refreshed: Refreshed) {
        self.revalidations.inc(refreshed.word());
    }

    /// A call with an unsafe method made kept answers invalid.
    pub fn invalidated(&self) {
        self.invalidated.inc();
    }

    /// What its calls came to.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let sum = |cells: &[Tally], count: fn(Served) -> bool| {
            let each = Served::ALL.into_iter().zip(cells);
            let counted = each.filter(|(served, _)| count(*served));
            counted.map(|(_, cell)| cell.get()).sum::<u64>()
        };
        let is_call = |served| served != Served::Bypass;
        Figures {
            calls: sum(&self.served, is_call) + sum(&self.shadow, is_call),
            hits: sum(&self.served, Served::is_hit) + sum(&self.shadow, Served::is_hit),
            saved: self.saved.get(),
        }
    }
}

/// What a purge went by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PurgedBy {
    /// One URL.
    Url,
    /// A tag.
    Tag,
    /// Everything.
    All,
}

impl PurgedBy {
    /// The label value, and `by` of the answer.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Url => "url",
            Self::Tag => "tag",
            Self::All => "all",
        }
    }
}

/// The handles of the store, one for the process.
#[derive(Debug)]
pub struct StoreMetrics {
    bytes: Gauge,
    capacity: Gauge,
    entries: Gauge,
    evictions: Counter,
    purged: [[Counter; 2]; 3],
}

impl StoreMetrics {
    /// Resolve the handles.
    #[must_use]
    pub fn new(telemetry: &Telemetry) -> Self {
        let purged = telemetry.family(&PURGED);
        Self {
            bytes: telemetry.family(&BYTES).get([]),
            capacity: telemetry.family(&CAPACITY).get([]),
            entries: telemetry.family(&ENTRIES).get([]),
            evictions: telemetry.family(&EVICTIONS).get([]),
            purged: [PurgedBy::Url, PurgedBy::Tag, PurgedBy::All]
                .map(|by| ["hard", "soft"].map(|how| purged.get([by.word(), how]))),
        }
    }

    /// What it holds now, and how many answers it gave up so far; called before a scrape.
    pub fn holds(&self, bytes: u64, entries: u64, capacity: u64, evicted: u64) {
        let whole = |value| i64::try_from(value).unwrap_or(i64::MAX);
        self.bytes.set(whole(bytes));
        self.entries.set(whole(entries));
        self.capacity.set(whole(capacity));
        self.evictions.inner().store(evicted, Relaxed);
    }

    /// An order removed so many answers, or made them stale.
    pub fn purged(&self, by: PurgedBy, soft: bool, count: u64) {
        self.purged[by as usize][usize::from(soft)].inc_by(count);
    }
}
