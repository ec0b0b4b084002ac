//! Settings of admission: when outrider itself has too much to do, and what it then leaves undone.

use std::time::Duration;

use crate::kit::fields::Fields;
use crate::kit::mode::Mode;
use crate::policy::overload::machine::Priority;

/// The `overload` block, with every value filled in. Of several signals the worst counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Shadow counts what it would shed, and lets every call through. Default: enforce.
    pub mode: Mode,
    /// The most calls in flight in the process, over all upstreams. The hard bound: nothing is admitted beyond it, whatever
    /// its priority.
    /// Unit: count. Range: 1 to 1,000,000. Default: 10,000, as many as `listen.limits.connections`: at some 30 KiB a call that
    /// is 300 MiB. None: calls are not counted.
    pub in_flight: Option<u32>,
    /// How late a worker's event loop may run: the time that a ready task waits for its turn. Low priority is shed a little
    /// above it, everything but critical at twice of it.
    /// Unit: duration. Range: 1ms to 10s. Default: 100ms, twenty times what a busy worker shows, and less than any caller's
    /// patience. None: lag sheds nothing.
    pub lag: Option<Duration>,
    /// The share of the memory limit of our control group at which nothing is admitted; shedding begins at nine tenths of it.
    /// Unit: share. Range: above 0 to 1. Default: 0.9, so that we answer 503 before the kernel ends the process. None, or no
    /// limit: memory sheds nothing.
    pub memory: Option<f64>,
    /// The most memory that bodies kept for another try may take, over all calls. Beyond it they are not kept, and such a call
    /// is not retried once its body was read.
    /// Unit: bytes. Range: 0 to 64GiB. Default: 64MiB: a thousand bodies of the largest size that `retry.replay` keeps.
    pub replay: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Enforce,
            in_flight: Some(10_000),
            lag: Some(Duration::from_millis(100)),
            memory: Some(0.9),
            replay: 64 << 20,
        }
    }
}

impl Settings {
    /// The settings of a merged `overload` block that is not off.
    pub fn lift<F: Fields>(block: &F) -> Self {
        let built_in = Self::default();
        Self {
            mode: match block.word("mode") {
                Some("shadow") => Mode::Shadow,
                _ => Mode::Enforce,
            },
            in_flight: block.count("in_flight"),
            lag: block.duration("lag"),
            memory: block.share("memory"),
            replay: block.size("replay").unwrap_or(built_in.replay),
        }
    }
}

impl Priority {
    /// The priority of a merged upstream or route.
    pub fn lift<F: Fields>(block: &F) -> Self {
        let named = |priority: &Self| Some(priority.word()) == block.word("priority");
        Self::ALL.into_iter().find(named).unwrap_or_default()
    }
}
