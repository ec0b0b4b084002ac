//! `outrider fault`

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use crate::cli::ask::Admin;
use crate::kit::units;

/// `outrider fault ...`
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Stop injecting faults, at once
    Stop(Which),
    /// Let faults that were stopped go on until their end
    Resume(Which),
    /// Tell which faults a proxy injects, and until when
    List(List),
}

/// `outrider fault stop` and `resume`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  outrider fault stop                      all faults of this proxy
  outrider fault stop payments.shop        those of one upstream
  outrider fault resume payments.shop      go on until `until`

What was stopped stays so until `resume`, or until a reload changes its block. Each order is told on the proxy's stderr,
with the target `audit`.

Exit codes: 0 done, 1 the proxy declined (it says why), 2 no proxy answers.")]
pub struct Which {
    /// Name of the upstream, as the policy writes it; all of them if left out
    #[arg(value_name = "UPSTREAM")]
    upstream: Option<String>,

    #[command(flatten)]
    admin: Admin,
}

/// `outrider fault list`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  outrider fault list
  outrider fault list --json

Exit codes: 0 told, 2 no proxy answers.")]
pub struct List {
    #[command(flatten)]
    admin: Admin,
}

/// The command.
#[must_use]
pub fn run(command: &Command) -> ExitCode {
    let (path, which) = match command {
        Command::Stop(which) => ("/faults/stop", which),
        Command::Resume(which) => ("/faults/resume", which),
        Command::List(list) => return list.admin.tell("GET", "/faults", &[], listed),
    };
    let query = [("upstream", which.upstream.as_deref())];
    which.admin.tell("POST", path, &query, told)
}

/// What became of each fault, for a person.
pub fn told(answer: &Value) -> String {
    let mut text = String::new();
    for fault in answer["faults"].as_array().into_iter().flatten() {
        let of = |key: &str| fault[key].as_str().unwrap_or_default();
        let (upstream, route, now) = (of("upstream"), of("route"), of("now"));
        let was = match of("before") {
            before if before == now => " already".to_owned(),
            before => format!(" (was {before})"),
        };
        let _ = writeln!(text, "{upstream} {route}: {now}{was}");
    }
    if text.is_empty() {
        text.push_str("no faults are injected\n");
    }
    text
}

/// The faults, one a line, for a person.
pub fn listed(answer: &Value) -> String {
    let mut text = String::new();
    for fault in answer.as_array().into_iter().flatten() {
        let of = |key: &str| fault[key].as_str().unwrap_or_default();
        let share = units::format_share(fault["share"].as_f64().unwrap_or_default());
        let _ = write!(
            text,
            "{} {}: {}, {} on {share} of the calls until {}",
            of("upstream"),
            of("route"),
            of("state"),
            details(fault),
            of("until")
        );
        if let Some(limit) = fault["stop_when_errors_above"].as_f64() {
            let (errors, judged) = (&fault["errors"], &fault["judged"]);
            let limit = units::format_share(limit);
            let _ = write!(text, ", or errors > {limit} ({errors} of {judged} now)");
        }
        if of("mode") == "shadow" {
            text.push_str("; mode: shadow, only counted");
        }
        text.push('\n');
    }
    if text.is_empty() {
        text.push_str("no faults are injected\n");
    }
    text
}

fn details(fault: &Value) -> String {
    let mut all = Vec::new();
    if let Some(delay) = fault["delay_ms"].as_u64() {
        let delay = units::format_duration(Duration::from_millis(delay));
        all.push(format!("delay {delay}"));
    }
    if let Some(status) = fault["abort"].as_u64() {
        all.push(format!("abort {status}"));
    }
    if fault["reset"] == true {
        all.push("reset".to_owned());
    }
    if let Some(rate) = fault["bandwidth"].as_u64() {
        all.push(format!("bandwidth {}/s", units::format_size(rate)));
    }
    all.join(" and ")
}
