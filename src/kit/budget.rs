//! The retry budget: what share of the traffic may be retries.
//!
//! Semantics of Gateway API GEP-3388: a percentage of the requests of an interval, plus a floor so that a quiet service
//! may retry at all. Without it, three tries on each of four hops make 81 requests of one exactly when the last hop is
//! down; with it, retries never add more than the share.

use std::time::Duration;
use std::time::Instant;

use super::window::Window;

/// The `budget` block of a retry, with every value filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct BudgetSettings {
    /// Retries allowed for each request of the window.
    /// Unit: share. Range: 0 to 1. Default: 0.20: it hides the failure of one endpoint in five fully, and a dead upstream
    /// sees 1.2 times its traffic at worst.
    pub share: f64,
    /// The window over which requests and retries are counted.
    /// Unit: duration. Range: 1s to 1h. Default: 10s.
    pub over: Duration,
    /// Retries allowed besides the share, as an average over the window: a window may use up all of its floor at once.
    /// Unit: per second. Range: 0 to 1,000,000. Default: 10.
    pub floor_per_s: f64,
}

impl Default for BudgetSettings {
    fn default() -> Self {
        Self {
            share: 0.20,
            over: Duration::from_secs(10),
            floor_per_s: 10.0,
        }
    }
}

/// What is left of a budget. In every window, retries stay at or below `share` times the requests plus the floor.
#[derive(Debug, Clone)]
pub struct Budget {
    share: f64,
    floor: f64,
    counts: Window<2>,
}

const REQUESTS: usize = 0;
const RETRIES: usize = 1;

impl Budget {
    /// A budget that has seen no request: only its floor may be spent.
    #[must_use]
    pub fn new(settings: &BudgetSettings) -> Self {
        Self {
            share: settings.share.max(0.0),
            floor: (settings.floor_per_s * settings.over.as_secs_f64()).max(0.0),
            counts: Window::new(settings.over),
        }
    }

    /// Counts one request. Call it once a request, never for a retry: a retry must not pay for the next one.
    pub fn deposit(&mut self, now: Instant) {
        self.counts.add(now, [1, 0]);
    }

    /// Takes one retry out of the budget, or says that it is used up.
    #[must_use]
    pub fn withdraw(&mut self, now: Instant) -> bool {
        let totals = self.counts.totals(now);
        if self.left(totals) < 1.0 {
            return false;
        }
        self.counts.add(now, [0, 1]);
        true
    }

    /// Retries that may be made at `now`, in whole and part retries; never negative.
    #[must_use]
    pub fn balance(&self, now: Instant) -> f64 {
        self.left(self.counts.peek(now)).max(0.0)
    }

    fn left(&self, totals: [u32; 2]) -> f64 {
        let allowed = self.share * f64::from(totals[REQUESTS]) + self.floor;
        // 0.2 * 5 must allow one retry although the nearest f64 of 0.2 could lie below it.
        allowed + 1e-9 - f64::from(totals[RETRIES])
    }

    #[cfg(test)]
    pub(crate) fn check_invariants(&mut self, now: Instant) {
        self.counts.check_invariants();
        let balance = self.balance(now);
        assert!(balance.is_finite() && balance >= 0.0, "balance {balance}");
    }
}
