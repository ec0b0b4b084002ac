//! The breaker around the shared tier: whether calls ask Redis at all.
//!
//! Half-open is not for calls here: whether Redis is back is found out by probes of our own, so that no call ever pays for
//! the answer.
//!
//! | state | event | becomes |
//! |---|---|---|
//! | Closed | answered | Closed, the streak of failures ends |
//! | Closed | failed (late or broken), [`STREAK`] times in a row | Open, a probe after [`REST`] |
//! | Closed | failed, half of at least [`LEAST`] commands over [`OVER`] | Open |
//! | Closed | failed, fewer | Closed |
//! | Open | command settles that began before | Open |
//! | Open | probe answered, [`PROBES`] times in a row | Closed, with nothing remembered |
//! | Open | probe answered, fewer | Open, the next probe after [`SOON`] |
//! | Open | probe failed | Open, the next probe after twice the time, at most [`REST_MAX`] |
//! | any | [`WORN`] failures in a row, of commands or probes | the same, and a new connection is wanted |
//! | any | connected anew | Open, a probe at once |
//!
//! It begins Open: nothing is asked before a probe was answered.

use std::time::Duration;
use std::time::Instant;

use crate::kit::backoff::doubled;
use crate::kit::window::Window;

/// Failures in a row that open it.
pub const STREAK: u32 = 5;
/// Commands that a share is judged by.
pub const LEAST: u32 = 20;
/// The time over which it is.
pub const OVER: Duration = Duration::from_secs(5);
/// Answered probes that close it.
pub const PROBES: u32 = 2;
/// From one answered probe to the next.
pub const SOON: Duration = Duration::from_millis(20);
/// From opening to the first probe.
pub const REST: Duration = Duration::from_millis(100);
/// The longest time between two probes.
pub const REST_MAX: Duration = Duration::from_secs(2);
/// Failures in a row after which the connection is not trusted any more.
pub const WORN: u32 = 8;

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Redis answered, be it with a refusal.
    Answered,
    /// The deadline passed.
    Late,
    /// The connection broke, or the node says that it cannot serve.
    Broken,
}

/// A change to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Calls go on without Redis from now on.
    Opened,
    /// Calls ask it again.
    Closed,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Gate {
    open: bool,
    streak: u32,
    /// Failures in a row over commands and probes, until a new connection.
    worn: u32,
    window: Window<2>,
    answered_probes: u32,
    failed_probes: u32,
    probe_at: Option<Instant>,
}

impl Gate {
    /// Open, until a connection is there.
    #[must_use]
    pub fn new() -> Self {
        Self {
            open: true,
            streak: 0,
            worn: 0,
            window: Window::new(OVER),
            answered_probes: 0,
            failed_probes: 0,
            probe_at: None,
        }
    }

    /// Whether calls go on without Redis.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// When the next probe is due; `None` while none is wanted.
    #[must_use]
    pub fn probe_at(&self) -> Option<Instant> {
        self.probe_at
    }

    /// Whether the connection should be made anew.
    #[must_use]
    pub fn is_worn(&self) -> bool {
        self.worn >= WORN
    }

    /// A connection was made.
    pub fn connected(&mut self, now: Instant) -> Option<Turn> {
        let turn = (!self.open).then_some(Turn::Opened);
        *self = Self {
            probe_at: Some(now),
            ..Self::new()
        };
        turn
    }

    /// A new connection could not be made; the old one has its chance again.
    pub fn not_connected(&mut self) {
        self.worn = 0;
    }

    /// A command was settled.
    pub fn settle(&mut self, outcome: Outcome, now: Instant) -> Option<Turn> {
        if self.open {
            return None;
        }
        let failed = outcome != Outcome::Answered;
        self.window.add(now, [1, u32::from(failed)]);
        if !failed {
            self.streak = 0;
            self.worn = 0;
            return None;
        }
        self.streak = self.streak.saturating_add(1);
        self.worn = self.worn.saturating_add(1);
        let [all, failures] = self.window.totals(now);
        if self.streak < STREAK && (all < LEAST || failures < all.div_ceil(2)) {
            return None;
        }
        self.open = true;
        self.answered_probes = 0;
        self.failed_probes = 0;
        self.probe_at = Some(now + REST);
        Some(Turn::Opened)
    }

    /// A probe came back.
    pub fn probed(&mut self, outcome: Outcome, now: Instant) -> Option<Turn> {
        if !self.open {
            return None;
        }
        if outcome != Outcome::Answered {
            self.worn = self.worn.saturating_add(1);
            self.answered_probes = 0;
            self.failed_probes = self.failed_probes.saturating_add(1);
            self.probe_at = Some(now + doubled(REST, self.failed_probes, REST_MAX));
            return None;
        }
        self.worn = 0;
        self.answered_probes += 1;
        if self.answered_probes < PROBES {
            self.probe_at = Some(now + SOON);
            return None;
        }
        *self = Self {
            open: false,
            ..Self::new()
        };
        Some(Turn::Closed)
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}
