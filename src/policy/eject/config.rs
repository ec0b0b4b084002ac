//! Settings of ejection: when one endpoint of an upstream is left out for a while.

use std::time::Duration;

use crate::kit::fields::Fields;
use crate::kit::mode::Mode;

/// The `eject` block, with every value filled in. Any of `consecutive`, `failures` and `slow` ejects.
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
    /// An endpoint whose answers take this many times as long as those of its peers is ejected: the gray one, which answers
    /// well enough never to fail. Against the middle one of two peers or more, by 5ms at least, over about the last 5s.
    /// Unit: factor. Range: 1.5 to 1000. Default: none: `balance: ewma` gives a slow endpoint hardly any calls without this,
    /// and endpoints that are slow for a reason (just started, in another region, with the keys of the largest users) would
    /// be ejected too. For `round_robin`, `least` and `hash`. Envoy's issue 288 has asked for it since 2016.
    pub slow: Option<f64>,
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
            slow: None,
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
            slow: block.word("slow").and_then(parse_factor),
            base: block.duration("base").unwrap_or(built_in.base),
            max_share: block.share("max_share").unwrap_or(built_in.max_share),
        }
    }
}

/// `3x`, `2.5x`; from 1.5 to 1000.
#[must_use]
pub fn parse_factor(text: &str) -> Option<f64> {
    let digits = text.strip_suffix('x')?;
    let plain = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let factor: f64 = digits.parse().ok().filter(|_| plain)?;
    (1.5..=1000.0).contains(&factor).then_some(factor)
}
