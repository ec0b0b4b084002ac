//! The end of the demo: both sides beside each other, and what the breaker did, in words and as one JSON object. Pure.

use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use crate::cli::demo::script::Script;
use crate::cli::demo::story::Event;
use crate::cli::demo::story::Story;
use crate::cli::demo::table::Column;
use crate::cli::demo::table::millis;
use crate::cli::demo::table::percent;
use crate::cli::demo::table::ratio;
use crate::cli::demo::table::row;
use crate::cli::paint::Paint;

/// The object of `--json`.
#[derive(Serialize)]
struct Json {
    straight: SideJson,
    outrider: SideJson,
    breaker: BreakerJson,
}

/// One side. Shares are 0 to 1, times milliseconds, the rest counts.
#[derive(Serialize)]
struct SideJson {
    success: f64,
    retriable_success: f64,
    p50_ms: f64,
    p99_ms: f64,
    requests: u64,
    tries: u64,
    tries_per_request: f64,
    tries_in_outage: u64,
}

/// The breaker: how often it opened and closed, and how long after the recovery it was closed for good.
#[derive(Serialize)]
struct BreakerJson {
    opened: u64,
    closed: u64,
    recovery_s: Option<f64>,
    state: &'static str,
    lost_in_recovery: u64,
}

impl SideJson {
    fn of(column: &Column, retriable: f64) -> SideJson {
        SideJson {
            success: rounded(column.figures.success, 6),
            retriable_success: rounded(retriable, 6),
            p50_ms: rounded(column.figures.p50_ms, 3),
            p99_ms: rounded(column.figures.p99_ms, 3),
            requests: column.figures.requests,
            tries: column.tries.all,
            tries_per_request: rounded(column.tries_per_request(), 4),
            tries_in_outage: column.tries.down,
        }
    }
}

/// Everything the summary tells.
pub struct Report<'a> {
    /// The play.
    pub script: &'a Script,
    /// Straight to the origin.
    pub straight: Column,
    /// Through outrider.
    pub outrider: Column,
    /// Success shares of both where at least one endpoint could have answered.
    pub retriable: (f64, f64),
    /// Success shares of both, phase by phase.
    pub by_phase: (Vec<f64>, Vec<f64>),
    /// Requests through outrider that were lost between the recovery and the closing of the breaker.
    pub lost_in_recovery: u64,
    /// The breaker.
    pub story: &'a Story,
}

impl Report<'_> {
    /// Seconds from the recovery to the closing of the breaker; `None` when it is not closed at the end or never opened.
    #[must_use]
    pub fn recovery_s(&self) -> Option<f64> {
        let (_, up) = self.script.outage();
        self.story
            .closed_after(up)
            .map(|closed| closed.saturating_sub(up).as_secs_f64())
    }

    /// The one object of `--json`, on one line.
    ///
    /// # Errors
    /// None that numbers could cause.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string(&Json {
            straight: SideJson::of(&self.straight, self.retriable.0),
            outrider: SideJson::of(&self.outrider, self.retriable.1),
            breaker: BreakerJson {
                opened: self.story.count(Event::Opened),
                closed: self.story.count(Event::Closed),
                recovery_s: self.recovery_s().map(|s| rounded(s, 3)),
                state: self.story.view().state.word(),
                lost_in_recovery: self.lost_in_recovery,
            },
        })
    }

    /// The words.
    #[must_use]
    pub fn words(&self, paint: Paint) -> String {
        let mut out = String::new();
        let heads = paint.bold(&row("", "straight", "through outrider"));
        let _ = writeln!(out, "{heads}");
        for (title, left, right) in self.rows() {
            let line = row(&title, &left, &right);
            let detail = title.starts_with('-');
            let line = if detail { paint.dim(&line) } else { line };
            let _ = writeln!(out, "{line}");
        }
        let alone = percent(Some(self.script.expected_straight()));
        let _ = writeln!(
            out,
            "\nThe faults alone leave a caller that asks once {alone}."
        );
        let _ = writeln!(out, "{}", self.told());
        let note = "(*) without the outage, and without the time the breaker then took to close";
        let _ = writeln!(out, "{}", paint.dim(note));
        out
    }

    /// Title, straight, through outrider. A title that begins with a dash is a part of the row above.
    fn rows(&self) -> Vec<(String, String, String)> {
        let (left, right) = (&self.straight, &self.outrider);
        let shares =
            |title: String, left, right| (title, percent(Some(left)), percent(Some(right)));
        let mut rows = vec![shares(
            "success".to_owned(),
            left.figures.success,
            right.figures.success,
        )];
        let both = self.by_phase.0.iter().zip(&self.by_phase.1);
        for ((_, _, phase), (left, right)) in self.script.phases().zip(both) {
            rows.push(shares(format!("- {}", phase.name), *left, *right));
        }
        let (one_up, one_up_through) = self.retriable;
        rows.push(shares(
            "while one was up (*)".to_owned(),
            one_up,
            one_up_through,
        ));
        let mut add = |title: &str, of: fn(&Column) -> String| {
            rows.push((title.to_owned(), of(left), of(right)));
        };
        add("requests", |side| side.figures.requests.to_string());
        add("p50 of the answered", |side| millis(side.figures.p50_ms));
        add("p99 of the answered", |side| millis(side.figures.p99_ms));
        add("tries at the origin", |side| side.tries.all.to_string());
        add("- in the outage", |side| side.tries.down.to_string());
        add("tries per request", ratio);
        rows
    }

    /// The breaker's story as sentences.
    fn told(&self) -> String {
        let (down, up) = self.script.outage();
        let mut told = String::new();
        let ejections = self.story.count(Event::Ejected);
        let _ = write!(
            told,
            "Ejections: {ejections}. Retries: {}. ",
            self.story.view().retries
        );
        let Some(opened) = self.story.first(Event::Opened, Duration::ZERO) else {
            told.push_str("The breaker never opened.");
            return told;
        };
        let _ = write!(told, "The breaker opened at {}", at(opened));
        if opened >= down {
            let _ = write!(
                told,
                ", {} after the last endpoint went down",
                at(opened.saturating_sub(down))
            );
        }
        let probed = self
            .story
            .events
            .iter()
            .filter(|(t, e)| *e == Event::Probing && *t < up)
            .count();
        match probed {
            0 => {}
            1 => told.push_str(", probed once in vain"),
            n => {
                let _ = write!(told, ", probed {n} times in vain");
            }
        }
        match self.story.closed_after(up) {
            Some(closed) => {
                let _ = write!(
                    told,
                    ", and closed at {}, {} after the recovery ({} requests refused or lost meanwhile).",
                    at(closed),
                    at(closed.saturating_sub(up)),
                    self.lost_in_recovery
                );
            }
            None => {
                let _ = write!(
                    told,
                    ", and is {} at the end.",
                    self.story.view().state.word()
                );
            }
        }
        told
    }
}

fn at(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}
