//! Settings of the breaker: what trips it, how long it stays open, and how it tries again.

use std::time::Duration;

use crate::kit::fields::Fields;
use crate::kit::mode::Mode;

/// The `breaker` block, with every value filled in. Any one of `failures`, `slow` and `consecutive` opens it.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Shadow counts, moves and reports, but lets every request through. Default: enforce.
    pub mode: Mode,
    /// The share of failed calls in the window that opens it.
    /// Unit: share. Range: above 0 to 1. Default: 0.5. None: the rate never opens it.
    pub failures: Option<f64>,
    /// The length of the sliding window for `failures` and `slow`.
    /// Unit: duration. Range: 1s to 1h. Default: 10s: long enough for 20 calls of a quiet service, short enough to act
    /// while the user still waits.
    pub over: Duration,
    /// Fewer calls than this in the window never open it by rate.
    /// Unit: count. Range: 1 to 1,000,000. Default: 20: below that, one bad call is 5 % and more, and chance trips it.
    pub min_calls: u32,
    /// Opens on slowness too, even where slow calls succeed. Default: none.
    pub slow: Option<Slow>,
    /// This many failures in a row open it, however few calls there were.
    /// Unit: count. Range: 1 to 1,000,000. Default: none, for a run of failures says little where calls are many.
    pub consecutive: Option<u32>,
    /// How long it stays open at first; doubled each time a probe fails, and varied by up to half either way so that a
    /// fleet does not probe in step.
    /// Unit: duration. Range: 10ms to `open_max`. Default: 5s.
    pub open: Duration,
    /// The longest time it stays open before the jitter.
    /// Unit: duration. Range: `open` to 1h. Default: 60s: the longest that a recovered upstream goes unnoticed.
    pub open_max: Duration,
    /// How many calls are let through half-open; all must succeed to close it.
    /// Unit: count. Range: 1 to 1,000. Default: 3: one lucky call is no proof.
    pub probes: u32,
    /// Whether the routes of an upstream share one breaker. Default: upstream.
    pub scope: Scope,
    /// Whether pods of this service tell one another, by way of the policy's `redis`, that it is open: a quorum of them makes
    /// the others open it by fewer of their own calls, and the fleet probes as one. Without effect where there is no `redis`.
    /// Default: hints, for all that it can do is to make a pod look sooner, and to have fewer probes sent.
    pub fleet: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Enforce,
            failures: Some(0.5),
            over: Duration::from_secs(10),
            min_calls: 20,
            slow: None,
            consecutive: None,
            open: Duration::from_secs(5),
            open_max: Duration::from_secs(60),
            probes: 3,
            scope: Scope::Upstream,
            fleet: true,
        }
    }
}

impl Settings {
    /// The settings of a merged `breaker` block that is not off.
    pub fn lift<F: Fields>(block: &F) -> Self {
        let built_in = Self::default();
        Self {
            mode: match block.word("mode") {
                Some("shadow") => Mode::Shadow,
                _ => Mode::Enforce,
            },
            failures: block.share("failures"),
            over: block.duration("over").unwrap_or(built_in.over),
            min_calls: block.count("min_calls").unwrap_or(built_in.min_calls),
            slow: block.block("slow").map(Slow::lift),
            consecutive: block.count("consecutive"),
            open: block.duration("open").unwrap_or(built_in.open),
            open_max: block.duration("open_max").unwrap_or(built_in.open_max),
            probes: block.count("probes").unwrap_or(built_in.probes),
            scope: match block.word("scope") {
                Some("route") => Scope::Route,
                _ => Scope::Upstream,
            },
            fleet: block.word("fleet") == Some("hints"),
        }
    }
}

/// The `slow` block: when slowness alone opens the breaker.
#[derive(Debug, Clone, PartialEq)]
pub struct Slow {
    /// A call that takes longer than this is slow, whether it succeeded or not.
    /// Unit: duration. Range: 1ms to 24h. Default: 2s.
    pub over: Duration,
    /// The share of slow calls in the window that opens it.
    /// Unit: share. Range: above 0 to 1. Default: 0.8: a tail is normal, four calls in five are not.
    pub share: f64,
}

impl Default for Slow {
    fn default() -> Self {
        Self {
            over: Duration::from_secs(2),
            share: 0.8,
        }
    }
}

impl Slow {
    /// The settings of a merged `slow` block that is not off.
    pub fn lift<F: Fields>(block: &F) -> Self {
        let built_in = Self::default();
        Self {
            over: block.duration("over").unwrap_or(built_in.over),
            share: block.share("share").unwrap_or(built_in.share),
        }
    }
}

/// What one breaker watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope {
    /// All routes of the upstream that do not set a breaker of their own. The default: the dependency fails as a whole.
    #[default]
    Upstream,
    /// Each route for itself, for one bad route must not shut the good ones.
    Route,
}
