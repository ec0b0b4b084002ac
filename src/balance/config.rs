//! Settings of the balance: which endpoint a try goes to.

use std::time::Duration;

use crate::balance::key::Key;
use crate::kit::fields::Fields;
use crate::kit::mode::Mode;

/// The `balance` block, with every value filled in. `balance: off` is the built-in values. Weights and zones are said of
/// the endpoints, and count in every mode.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Shadow chooses by the built-in values, and counts how often these would have chosen otherwise. Default: enforce.
    pub mode: Mode,
    /// How an endpoint is picked where no hash decides. Default: ewma, as Finagle and Linkerd do: it leaves a slow endpoint
    /// by itself, which neither counting requests nor taking turns does.
    pub by: By,
    /// What of a call is hashed, so that calls with the same key meet the same endpoint. Default: off.
    /// A call without it (no such header or cookie, or an empty one) goes by `by`.
    pub hash: Option<Key>,
    /// How far above its even share of the calls in flight a hash may load an endpoint; beyond it the next on the ring
    /// takes the call. Unit: share. Range: 1.01 to 10. Default: 1.25, the value in the paper and the usual one at HAProxy
    /// and Envoy. None: no bound. With a few calls in flight the even share is small, so that two calls of one key at the same
    /// time may part; `off` keeps them together and lets a hot key overload its endpoint.
    pub bound: Option<f64>,
    /// How long an endpoint that is new or comes back takes to get all of its weight, in a straight line from a tenth of
    /// it. Unit: duration. Range: 100ms to 1h. Default: off. Not when all are new at once: somebody has to take the
    /// traffic. A hash gives keys by whole weights; there only the bound grows.
    pub slow_start: Option<Duration>,
    /// While less than this share of the endpoints serves, all are used, the ejected and the ill too.
    /// Unit: share. Range: above 0 to 1. Default: off, that is, only when none serves. Elsewhere half is the usual value,
    /// and it surprises: calls are sprayed over endpoints known to be dead. Here `eject.max_share` keeps ejection from
    /// emptying the pool, and retries go elsewhere.
    pub panic: Option<f64>,
}

/// `balance.by`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The cheaper of two at random, by peak EWMA of latency times requests in flight.
    Ewma,
    /// The less busy of two at random, by requests in flight for each unit of weight.
    Least,
    /// In turns, by weight. Each worker and route takes its own turns.
    RoundRobin,
}

impl By {
    /// As a policy writes it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ewma => "ewma",
            Self::Least => "least",
            Self::RoundRobin => "round_robin",
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Enforce,
            by: By::Ewma,
            hash: None,
            bound: Some(1.25),
            slow_start: None,
            panic: None,
        }
    }
}

impl Settings {
    /// The settings of a merged `balance` block that is not off.
    pub fn lift<F: Fields>(block: &F) -> Self {
        Self {
            mode: match block.word("mode") {
                Some("shadow") => Mode::Shadow,
                _ => Mode::Enforce,
            },
            by: match block.word("by") {
                Some("least") => By::Least,
                Some("round_robin") => By::RoundRobin,
                _ => By::Ewma,
            },
            hash: block.word("hash").and_then(Key::parse),
            bound: block.share("bound"),
            slow_start: block.duration("slow_start"),
            panic: block.share("panic"),
        }
    }
}
