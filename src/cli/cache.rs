//! `outrider cache`

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::Value;

use crate::cli::ask::Admin;
use crate::kit::units;

/// `outrider cache ...`
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Remove what a running proxy keeps of one URL, of one tag, or all of it
    Purge(Purge),
    /// Tell what a running proxy keeps, and how often that answered
    Stats(Stats),
}

/// `outrider cache purge`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  outrider cache purge http://payments.shop/rates?day=today   with all that it varies on, whoever it is for
  outrider cache purge --tag sku-4711                         what the upstream tagged so (`tags` in the policy)
  outrider cache purge --tag sku-4711 --soft                  stale, not gone: it can still stand in for an error
  outrider cache purge --all --admin 127.0.0.1:9000 --json

An answer that was on its way when the order came is passed on and not kept. Each order is told on the proxy's stderr,
with the target `audit`.

Exit codes: 0 done, 1 the proxy declined (it says why), 2 no proxy answers.")]
#[group(id = "what", required = true, multiple = false, args = ["url", "tag", "all"])]
pub struct Purge {
    /// The URL as the application calls it
    #[arg(value_name = "URL")]
    url: Option<String>,

    /// A tag that the upstream gave its answers
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,

    /// Everything
    #[arg(long)]
    all: bool,

    /// Make it stale instead: the next call asks the upstream whether it still holds
    #[arg(long)]
    soft: bool,

    #[command(flatten)]
    admin: Admin,
}

/// `outrider cache stats`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  outrider cache stats
  outrider cache stats --json --admin 127.0.0.1:9000

Exit codes: 0 done, 1 the proxy declined (it says why), 2 no proxy answers.")]
pub struct Stats {
    #[command(flatten)]
    admin: Admin,
}

/// The command.
#[must_use]
pub fn run(command: &Command) -> ExitCode {
    match command {
        Command::Purge(purge) => {
            let flag = |set: bool| set.then_some("true");
            let query = [
                ("url", purge.url.as_deref()),
                ("tag", purge.tag.as_deref()),
                ("all", flag(purge.all)),
                ("soft", flag(purge.soft)),
            ];
            purge.admin.tell("POST", "/cache/purge", &query, purged)
        }
        Command::Stats(stats) => stats.admin.tell("GET", "/cache", &[], stats_text),
    }
}

/// What the proxy did, for a person.
pub fn purged(answer: &Value) -> String {
    let count = answer["purged"].as_u64().unwrap_or_default();
    let answers = if count == 1 { "answer" } else { "answers" };
    let how = if answer["soft"] == true {
        "made stale"
    } else {
        "removed"
    };
    match answer["name"].as_str() {
        Some(name) => format!("{name}: {count} {answers} {how}\n"),
        None => format!("{count} {answers} {how}\n"),
    }
}

/// What the proxy keeps, for a person.
pub fn stats_text(answer: &Value) -> String {
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let (bytes, capacity) = (number(&answer["bytes"]), number(&answer["capacity"]));
    let mut text = format!(
        "{} keys, {} of {} ({:.0} %), {} evicted\n",
        number(&answer["entries"]),
        rough_size(bytes),
        units::format_size(capacity),
        bytes as f64 * 100.0 / capacity.max(1) as f64,
        number(&answer["evictions"]),
    );
    let routes: Vec<&Value> = answer["routes"].as_array().into_iter().flatten().collect();
    if routes.is_empty() {
        text.push_str("no route has a cache\n");
    }
    for route in routes {
        let name = |key: &str| route[key].as_str().unwrap_or_default();
        let ratio = match route["hit_ratio"].as_f64() {
            Some(ratio) => format!("{:.1} % hits", ratio * 100.0),
            None => "no calls yet".to_owned(),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "  {} {}: {ratio}, {} calls, {} saved{}",
            name("upstream"),
            name("route"),
            number(&route["calls"]),
            number(&route["saved"]),
            if name("mode") == "shadow" {
                "; mode: shadow, so nothing is answered from it"
            } else {
                ""
            },
        );
    }
    text
}

/// Exact bytes are for machines.
fn rough_size(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..1024 => return format!("{bytes} B"),
        1024..1_048_576 => (1024.0, "KiB"),
        1_048_576..1_073_741_824 => (1_048_576.0, "MiB"),
        _ => (1_073_741_824.0, "GiB"),
    };
    format!("{:.1} {name}", bytes as f64 / unit)
}
