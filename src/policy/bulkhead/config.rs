//! Settings of the bulkhead: how many calls may be at an upstream at once, and how many may wait for their turn.

use std::time::Duration;

use crate::kit::fields::Fields;
use crate::kit::mode::Mode;

/// The `bulkhead` block, with every value filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Shadow counts what it would refuse, and lets every call through at once. Default: enforce, once the block is written.
    pub mode: Mode,
    /// The most calls in flight, over all workers. A call is in flight until its response body has ended.
    /// Unit: count. Range: 1 to 1,000,000. Default: 100. Without effect where `adaptive` is on.
    pub max: u32,
    /// How many calls may wait for one in flight to end.
    /// Unit: count. Range: 0 to 1,000,000. Default: 50: half of `max`, so that a burst passes and a pile does not.
    pub queue: u32,
    /// How long a call may wait, and never past its deadline.
    /// Unit: duration. Range: 0 to 1m. Default: 100ms: a burst is over by then, and what is not a burst is not helped by
    /// waiting.
    pub wait: Duration,
    /// Finds the limit from latency instead. Default: none.
    pub adaptive: Option<Adaptive>,
}

/// `bulkhead.adaptive`: bounds of the limit that is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Adaptive {
    /// The limit never falls below this, whatever the latency.
    /// Unit: count. Range: 1 to `max`. Default: 4: enough calls to see that the upstream has recovered.
    pub min: u32,
    /// It never rises above this, however fast the answers.
    /// Unit: count. Range: `min` to 1,000,000. Default: 1000, as Envoy's and Netflix's.
    pub max: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Enforce,
            max: 100,
            queue: 50,
            wait: Duration::from_millis(100),
            adaptive: None,
        }
    }
}

impl Default for Adaptive {
    fn default() -> Self {
        Self { min: 4, max: 1000 }
    }
}

impl Settings {
    /// The settings of a merged `bulkhead` block that is not off.
    pub fn lift<F: Fields>(block: &F) -> Self {
        let built_in = Self::default();
        Self {
            mode: match block.word("mode") {
                Some("shadow") => Mode::Shadow,
                _ => Mode::Enforce,
            },
            max: block.count("max").unwrap_or(built_in.max),
            queue: block.count("queue").unwrap_or(built_in.queue),
            wait: block.duration("wait").unwrap_or(built_in.wait),
            adaptive: block.block("adaptive").map(Adaptive::lift),
        }
    }
}

impl Adaptive {
    /// The bounds of a merged `adaptive` block.
    pub fn lift<F: Fields>(block: &F) -> Self {
        let built_in = Self::default();
        Self {
            min: block.count("min").unwrap_or(built_in.min),
            max: block.count("max").unwrap_or(built_in.max),
        }
    }
}
