//! How one moment of the demo looks: a table for a terminal, one line for a log. Pure: a snapshot in, text out.

use std::fmt::Write;
use std::time::Duration;

use crate::cli::demo::origin::Arrived;
use crate::cli::demo::story::Light;
use crate::cli::demo::tally::Figures;
use crate::cli::paint::Paint;

/// Width of one column of numbers.
const COLUMN: usize = 18;

/// Width of the row titles.
const TITLE: usize = 22;

/// One side at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Column {
    /// Success share of the last second; `None` when nothing ended in it.
    pub now: Option<f64>,
    /// Everything so far.
    pub figures: Figures,
    /// Tries that arrived at the origin so far.
    pub tries: Arrived,
}

impl Column {
    /// Tries for each request sent; 0 before the first.
    #[must_use]
    pub fn tries_per_request(&self) -> f64 {
        if self.figures.requests == 0 {
            0.0
        } else {
            self.tries.all as f64 / self.figures.requests as f64
        }
    }
}

/// The demo at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot {
    /// Name of the phase.
    pub phase: &'static str,
    /// How far the play is.
    pub elapsed: Duration,
    /// How long it takes.
    pub total: Duration,
    /// Straight to the origin.
    pub straight: Column,
    /// Through outrider.
    pub outrider: Column,
    /// The breaker.
    pub light: Light,
    /// Endpoints that are out now.
    pub ejected: u64,
    /// Retries that outrider sent so far.
    pub retries: u64,
}

/// The table, several lines, each ended.
#[must_use]
pub fn live(snapshot: &Snapshot, paint: Paint) -> String {
    let (left, right) = (&snapshot.straight, &snapshot.outrider);
    let mut out = String::new();
    let phase = format!("{:<TITLE$}", snapshot.phase);
    let _ = writeln!(
        out,
        "{} {} {:>5.1} s of {:.0} s",
        paint.bold(&phase),
        bar(snapshot.elapsed, snapshot.total),
        snapshot.elapsed.as_secs_f64(),
        snapshot.total.as_secs_f64()
    );
    let heads = row("", "straight", "through outrider");
    let _ = writeln!(out, "{}", paint.dim(&heads));
    let titles = [
        (
            "success, last second",
            graded(left.now, paint),
            graded(right.now, paint),
        ),
        (
            "success, so far",
            graded(so_far(left), paint),
            graded(so_far(right), paint),
        ),
        (
            "p50",
            cell(&millis(left.figures.p50_ms)),
            cell(&millis(right.figures.p50_ms)),
        ),
        (
            "p99",
            cell(&millis(left.figures.p99_ms)),
            cell(&millis(right.figures.p99_ms)),
        ),
        (
            "requests sent",
            cell(&left.figures.requests.to_string()),
            cell(&right.figures.requests.to_string()),
        ),
        ("tries per request", cell(&ratio(left)), cell(&ratio(right))),
    ];
    for (title, left, right) in titles {
        let _ = writeln!(out, "{title:<TITLE$}{left}{right}");
    }
    let light = cell(snapshot.light.word());
    let light = match snapshot.light {
        Light::Closed => paint.green(&light),
        Light::HalfOpen => paint.yellow(&light),
        Light::Open => paint.red(&light),
    };
    let _ = writeln!(out, "{:<TITLE$}{:>COLUMN$}{light}", "breaker", "-");
    let _ = writeln!(
        out,
        "{}",
        row("retries", "-", &snapshot.retries.to_string())
    );
    let _ = writeln!(
        out,
        "{}",
        row("endpoints ejected", "-", &snapshot.ejected.to_string())
    );
    out
}

/// One line, not ended.
#[must_use]
pub fn line(snapshot: &Snapshot) -> String {
    let (left, right) = (&snapshot.straight, &snapshot.outrider);
    format!(
        "{:>5.1}s  {:<13}  success straight {:>6}  through {:>6}   p99 {:>9} / {:>9}   tries/request {} / {}   breaker {:<9}  ejected {}",
        snapshot.elapsed.as_secs_f64(),
        snapshot.phase,
        percent(left.now),
        percent(right.now),
        millis(left.figures.p99_ms),
        millis(right.figures.p99_ms),
        ratio(left),
        ratio(right),
        snapshot.light.word(),
        snapshot.ejected,
    )
}

/// A title and two columns, not ended.
#[must_use]
pub fn row(title: &str, left: &str, right: &str) -> String {
    format!("{title:<TITLE$}{left:>COLUMN$}{right:>COLUMN$}")
}

/// A share as percent. Never rounded up to 100: one lost request has to show.
#[must_use]
pub fn percent(share: Option<f64>) -> String {
    match share {
        None => "-".to_owned(),
        Some(share) if share >= 1.0 => "100 %".to_owned(),
        Some(share) => format!("{:.2} %", (share * 10_000.0).floor() / 100.0),
    }
}

/// Milliseconds with three digits that matter.
#[must_use]
pub fn millis(ms: f64) -> String {
    if ms <= 0.0 {
        "-".to_owned()
    } else if ms < 10.0 {
        format!("{ms:.1} ms")
    } else {
        format!("{ms:.0} ms")
    }
}

/// Tries per request, two digits.
#[must_use]
pub fn ratio(column: &Column) -> String {
    if column.figures.requests == 0 {
        "-".to_owned()
    } else {
        format!("{:.2}", column.tries_per_request())
    }
}

fn so_far(column: &Column) -> Option<f64> {
    (column.figures.requests > 0).then_some(column.figures.success)
}

fn cell(text: &str) -> String {
    format!("{text:>COLUMN$}")
}

/// Padded first and painted after: the codes have no width on the screen, but have one in a format string.
fn graded(share: Option<f64>, paint: Paint) -> String {
    let text = cell(&percent(share));
    match share {
        None => text,
        Some(share) if share >= 0.999 => paint.green(&text),
        Some(share) if share >= 0.9 => paint.yellow(&text),
        Some(_) => paint.red(&text),
    }
}

fn bar(elapsed: Duration, total: Duration) -> String {
    const CELLS: usize = 20;
    let part = (elapsed.as_secs_f64() / total.as_secs_f64().max(0.001)).clamp(0.0, 1.0);
    let full = (part * CELLS as f64).round() as usize;
    format!("{}{}", "█".repeat(full), "░".repeat(CELLS - full))
}
