//! Settings of the limit: how many calls, in what time, and of whom.

use std::time::Duration;

use http::HeaderName;

use crate::kit::fields::Fields;
use crate::kit::gcra::Quota;
use crate::kit::mode::Mode;
use crate::policy::limit::machine::lease::Away;

/// The `limit` block, with every value filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Shadow judges and counts, but every call passes, and no field is added to any answer. Default: enforce.
    pub mode: Mode,
    /// How fast a bucket fills again (`rps` or `rate` in the file, exactly one of them).
    /// Unit: calls a second, or a rate with its unit. Range: 1/h to 1000000/s. No default in a policy: only its writer can
    /// know what the upstream bears.
    pub rate: Rate,
    /// Calls that may come at once after a rest: the size of the bucket.
    /// Unit: calls. Range: 1 to 1000000. Default: the calls of one second, at least 1. Within any time t no more calls pass
    /// than `burst` + `rate` x t (ITU-T I.371 Annex A, the virtual scheduling algorithm).
    pub burst: u32,
    /// What tells callers apart, each with a bucket of its own. Default: nothing, one bucket for all calls.
    pub per: Vec<Selector>,
    /// The most buckets kept. A quarter of them is for keys that the estimate finds busy.
    /// Unit: count. Range: 1 to 100000. Default: 10000, about half a MiB. What has no bucket is judged by an estimate that
    /// may refuse too early and never admits too much.
    pub keys: u32,
    /// Which answers carry `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers). Default: refusals,
    /// so that nothing is put beside what an upstream says about itself.
    pub headers: Headers,
    /// Who draws on the same buckets. Default: this pod alone.
    pub scope: Scope,
    /// Whether the routes of an upstream draw on one limit. Not a key of the file (`scope` there says pod or global): a
    /// route that changes more than `mode` has a limit of its own.
    pub own: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Enforce,
            rate: Rate::per_second(100),
            burst: 100,
            per: Vec::new(),
            keys: 10_000,
            headers: Headers::Refused,
            scope: Scope::Pod,
            own: false,
        }
    }
}

impl Settings {
    /// The settings of a merged `limit` block that is not off.
    pub fn lift<F: Fields>(block: &F) -> Self {
        let built_in = Self::default();
        let by_count = block.count("rps").map(Rate::per_second);
        let rate = block
            .rate("rate")
            .map(Rate::of)
            .or(by_count)
            .unwrap_or(built_in.rate);
        Self {
            mode: match block.word("mode") {
                Some("shadow") => Mode::Shadow,
                _ => Mode::Enforce,
            },
            burst: block.count("burst").unwrap_or_else(|| rate.in_a_second()),
            rate,
            per: block
                .list("per")
                .or_else(|| block.word("per").map(|word| vec![word]))
                .unwrap_or_default()
                .into_iter()
                .filter_map(Selector::parse)
                .collect(),
            keys: block.count("keys").unwrap_or(built_in.keys),
            headers: match block.word("headers") {
                Some("all") => Headers::All,
                Some("off") => Headers::Off,
                _ => Headers::Refused,
            },
            scope: match (block.word("scope"), block.word("away")) {
                (Some("global"), Some("allow")) => Scope::Global(Away::Allow),
                (Some("global"), Some("deny")) => Scope::Global(Away::Deny),
                (Some("global"), _) => Scope::Global(Away::Local),
                _ => Scope::Pod,
            },
            own: built_in.own,
        }
    }

    /// What its buckets hold.
    #[must_use]
    pub fn quota(&self) -> Quota {
        Quota::new(self.rate.calls, self.rate.per, self.burst)
    }

    /// Whether a limit built from one may serve as a limit of the other: all but what only the route's skin reads.
    #[must_use]
    pub fn same_buckets(&self, other: &Self) -> bool {
        (self.rate, self.burst, self.keys, self.own, self.scope)
            == (other.rate, other.burst, other.keys, other.own, other.scope)
            && self.per == other.per
    }
}

/// Who draws on the same buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope {
    /// This pod alone.
    #[default]
    Pod,
    /// All pods of this service, by way of Redis; and what happens while it cannot be asked (`away`). Default: each pod counts
    /// for itself, its part of the rate.
    Global(Away),
}

/// Calls in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Never zero.
    pub calls: u32,
    /// A second, a minute or an hour.
    pub per: Duration,
}

impl Rate {
    /// So many calls a second.
    #[must_use]
    pub fn per_second(calls: u32) -> Self {
        Self {
            calls: calls.max(1),
            per: Duration::from_secs(1),
        }
    }

    /// From a number per second: in whole calls of the shortest unit that has them, so that `30/m` is told as 30 in 60
    /// seconds. A part of a call an hour is left off.
    #[must_use]
    pub fn of(per_second: f64) -> Self {
        let whole = |seconds: u64| {
            let calls = per_second * seconds as f64;
            let near = calls.round();
            ((calls - near).abs() <= 1e-6 && near >= 1.0).then_some(Self {
                calls: near as u32,
                per: Duration::from_secs(seconds),
            })
        };
        let down = Self {
            calls: ((per_second * 3600.0) as u32).max(1),
            per: Duration::from_secs(3600),
        };
        whole(1)
            .or_else(|| whole(60))
            .or_else(|| whole(3600))
            .unwrap_or(down)
    }

    /// The calls of one second, at least 1.
    #[must_use]
    pub fn in_a_second(self) -> u32 {
        (self.calls / u32::try_from(self.per.as_secs()).unwrap_or(u32::MAX)).max(1)
    }
}

/// What tells callers apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// All values of a request header, `header:NAME`. Calls without it share one bucket.
    Header(HeaderName),
    /// The path without its query, as it is sent.
    Path,
    /// The method.
    Method,
    /// The address of the client (`source`).
    Source,
    /// The verified identity of the client where there is one (`peer`); outbound, where a client has none, its address.
    Peer,
}

impl Selector {
    /// `header:NAME`, `path`, `method`, `source` or `peer`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "path" => Some(Self::Path),
            "method" => Some(Self::Method),
            "source" => Some(Self::Source),
            "peer" => Some(Self::Peer),
            _ => {
                let name = text.strip_prefix("header:")?;
                name.parse().ok().map(Self::Header)
            }
        }
    }
}

/// Which answers tell of the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Headers {
    /// Only refusals.
    #[default]
    Refused,
    /// Every answer; what the upstream says of its own limits stands first.
    All,
    /// None; a refusal still has `Retry-After`.
    Off,
}
