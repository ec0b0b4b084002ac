//! Settings of hedging: when a second copy goes out, how many, and for what share of the calls.

use std::time::Duration;

use crate::kit::budget::BudgetSettings;
use crate::kit::fields::Fields;
use crate::kit::mode::Mode;

/// The `hedge` block, with every value filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Shadow decides and counts, but sends no second copy. Default: enforce.
    pub mode: Mode,
    /// How long a copy is given before the next one is sent. Default: the 95th percentile of the route's own latency.
    pub after: After,
    /// Copies beside the first.
    /// Unit: count. Range: 1 to 3. Default: 1: the second copy takes nearly all there is to gain.
    pub max: u32,
    /// The share of the calls that may be sent again, apart from the budget of retries.
    /// Default: 5% over 10s without a floor: what a percentile of 95 asks for, and no more when all calls turn slow.
    pub budget: BudgetSettings,
}

/// `after`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum After {
    /// Always this long. Unit: duration. Range: 1ms to 1h.
    Fixed(Duration),
    /// As long as this share of the route's calls takes to the response head, as measured over the last half to whole
    /// minute; at least 1ms. Unit: share. Range: 0.01 to below 1.
    Percentile(f64),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Enforce,
            after: After::Percentile(0.95),
            max: 1,
            budget: BudgetSettings {
                share: 0.05,
                over: Duration::from_secs(10),
                floor_per_s: 0.0,
            },
        }
    }
}

impl Settings {
    /// The settings of a merged `hedge` block that is not off.
    pub fn lift<F: Fields>(block: &F) -> Self {
        let built_in = Self::default();
        Self {
            mode: match block.word("mode") {
                Some("shadow") => Mode::Shadow,
                _ => Mode::Enforce,
            },
            after: match block.duration("after") {
                Some(time) => After::Fixed(time),
                None => block
                    .word("after")
                    .and_then(percentile)
                    .map_or(built_in.after, After::Percentile),
            },
            max: block.count("max").unwrap_or(built_in.max),
            budget: block
                .block("budget")
                .map_or_else(|| built_in.budget.clone(), |block| lift_budget(block)),
        }
    }

    /// Whether a machine built from one works as the other asks: the mode is the route's, not the machine's.
    #[must_use]
    pub fn same_machine(&self, other: &Self) -> bool {
        *self
            == Self {
                mode: self.mode,
                ..other.clone()
            }
    }
}

fn lift_budget<F: Fields>(block: &F) -> BudgetSettings {
    let built_in = Settings::default().budget;
    BudgetSettings {
        share: block.share("share").unwrap_or(built_in.share),
        over: block.duration("over").unwrap_or(built_in.over),
        floor_per_s: block.rate("floor").unwrap_or(built_in.floor_per_s),
    }
}

/// `p95` is 0.95.
fn percentile(word: &str) -> Option<f64> {
    let value: f64 = word.strip_prefix('p')?.parse().ok()?;
    (1.0..100.0).contains(&value).then_some(value / 100.0)
}
