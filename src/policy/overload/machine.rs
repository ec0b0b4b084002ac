//! How much of the work is taken on.
//!
//! Each signal becomes a pressure between 0 and 1, and the greatest of them counts:
//!
//! | signal | 0 | 0.6 | 1 |
//! |---|---|---|---|
//! | calls in flight | none | 60 % of `in_flight` | `in_flight` |
//! | lag of the worker's event loop | none | 1.2 times `lag` | never: at most [`LAG_MOST`], from twice `lag` on |
//! | memory | up to 75 % of `memory` | 90 % of `memory` | `memory` |
//!
//! Each priority has a band of pressure in which the share of it that is admitted falls from all to none:
//!
//! | priority | all below | none from |
//! |---|---|---|
//! | low | 0.60 | 0.80 |
//! | normal | 0.80 | 0.95 |
//! | high | 0.95 | 1 |
//! | critical | 1 | 1 |
//!
//! So critical is shed at a hard bound only: one more call, or one more byte, than there may be. Lag is no such bound.
//!
//! A lag counts once it has been there for [`WINDOW`] ticks: the least of them is taken, as `CoDel` does (RFC 8289 section 3.1),
//! so that one long turn of the loop sheds nothing. It is forgotten by [`FORGET`] a tick, so that what was shed comes back
//! little by little rather than all at once.

use std::time::Duration;

use super::config::Settings;

/// Ticks over which the least lag is taken. With a tick each 100 ms: half a second.
pub const WINDOW: usize = 5;

/// The share of a lag that is forgotten with each tick that does not show it any more.
pub const FORGET: f64 = 0.3;

/// The greatest pressure that lag can be: critical calls are admitted.
pub const LAG_MOST: f64 = 0.99;

/// The share of `memory` at which its pressure begins. Resident memory hardly ever falls, so half of it is no sign.
const MEMORY_FROM: f64 = 0.75;

/// How much a call matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Priority {
    /// Shed first: batch work, prefetching, what is tried again later anyway.
    Low,
    /// What most calls are.
    #[default]
    Normal,
    /// What a person waits for.
    High,
    /// Shed only at a hard bound.
    Critical,
}

impl Priority {
    /// Every priority, the first to be shed first.
    pub const ALL: [Self; 4] = [Self::Low, Self::Normal, Self::High, Self::Critical];

    /// The word of the policy file and the metric label.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// The band of pressure in which it is shed.
    const fn band(self) -> (f64, f64) {
        match self {
            Self::Low => (0.60, 0.80),
            Self::Normal => (0.80, 0.95),
            Self::High => (0.95, 1.0),
            Self::Critical => (1.0, 1.0),
        }
    }
}

/// What there is to do and to do it with.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// Calls in flight, without the one that wants in.
    pub in_flight: u64,
    /// The lag of this worker, as by [`Lag`], in seconds.
    pub lag_s: f64,
    /// The share of the memory limit in use; zero where there is none.
    pub memory: f64,
}

/// The pressure of each signal.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// Of calls in flight.
    pub in_flight: f64,
    /// Of lag.
    pub lag: f64,
    /// Of memory.
    pub memory: f64,
}

impl Pressure {
    /// By the first table.
    #[must_use]
    pub fn of(settings: &Settings, reading: Reading) -> Self {
        let in_flight = settings
            .in_flight
            .map(|most| reading.in_flight as f64 / f64::from(most.max(1)));
        let lag = settings
            .lag
            .map(|most| (reading.lag_s / (2.0 * most.as_secs_f64())).min(LAG_MOST));
        let memory = settings
            .memory
            .map(|most| (reading.memory / most - MEMORY_FROM) / (1.0 - MEMORY_FROM));
        let within = |pressure: Option<f64>| pressure.unwrap_or_default().clamp(0.0, 1.0);
        Self {
            in_flight: within(in_flight),
            lag: within(lag),
            memory: within(memory),
        }
    }

    /// The one that counts.
    #[must_use]
    pub fn greatest(&self) -> f64 {
        self.in_flight.max(self.lag).max(self.memory)
    }
}

/// The share of the calls of a priority that is admitted at this pressure, by the second table.
#[must_use]
pub fn share(priority: Priority, pressure: f64) -> f64 {
    let (from, to) = priority.band();
    if pressure < from {
        1.0
    } else if pressure >= to {
        0.0
    } else {
        (to - pressure) / (to - from)
    }
}

/// Whether a call is admitted. `draw` is uniform in `[0, 1)`, and asked for only where chance decides.
#[must_use]
pub fn admits(priority: Priority, pressure: f64, draw: impl FnOnce() -> f64) -> bool {
    let share = share(priority, pressure);
    share >= 1.0 || (share > 0.0 && draw() < share)
}

/// The lag of one event loop, tick by tick.
#[derive(Clone, Debug, Default)]
pub struct Lag {
    last: [f64; WINDOW],
    at: usize,
    shown: f64,
}

impl Lag {
    /// A tick came so late. Gives the lag that counts now, in seconds.
    pub fn tick(&mut self, late: Duration) -> f64 {
        self.last[self.at] = late.as_secs_f64();
        self.at = (self.at + 1) % WINDOW;
        let least = self.last.iter().copied().fold(f64::INFINITY, f64::min);
        self.shown = least.max(self.shown * (1.0 - FORGET));
        self.shown
    }
}
