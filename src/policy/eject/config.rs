//! Settings of ejection: when one endpoint of an upstream is left out for a while.

use std::time::Duration;

use crate::kit::fields::Fields;
use crate::kit::mode::Mode;

/// The `eject` block, with every value filled in. Either of `consecutive` and `failures` ejects.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Shadow decides and counts, but the endpoint keeps its share of the traffic. Default: enforce.
    pub mode: Mode,
    /// This many failures in a row eject the endpoint.
    /// Unit: count. Range: 1 to 1,000,000. Default: 5. None: a run never ejects.
    pub consecutive: Option<u32>,
    /// The share of failed calls in the window (10s, at least 10 calls) that ejects the endpoint.
    /// Unit: share. Range: above 0 to 1. Default: 0.5. None: the rate never ejects. A run alone would let an endpoint that
    /// fails every second call serve for ever.
    pub failures: Option<f64>,
    /// How long the first ejection lasts; the n-th in a row lasts n times as long, at most 300s.
    /// Unit: duration. Range: 10ms to 300s. Default: 5s.
    pub base: Duration,
    /// The largest share of the upstream's endpoints that may be out at once; the last one is never ejected.
    /// Unit: share. Range: 0 to 1. Default: 0.5: with more than half failing it is the upstream, and that is the
    /// breaker's matter.
    pub max_share: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Enforce,
            consecutive: Some(5),
            failures: Some(0.5),
            base: Duration::from_secs(5),
            max_share: 0.5,
        }
    }
}

impl Settings {
    /// The settings of a merged `eject` block that is not off.
    pub fn lift<F: Fields>(block: &F) -> Self {
        let built_in = Self::default();
        Self {
            mode: match block.word("mode") {
                Some("shadow") => Mode::Shadow,
                _ => Mode::Enforce,
            },
            consecutive: block.count("consecutive"),
            failures: block.share("failures"),
            base: block.duration("base").unwrap_or(built_in.base),
            max_share: block.share("max_share").unwrap_or(built_in.max_share),
        }
    }
}
