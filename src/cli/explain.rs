//! `outrider explain`

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use crate::cli::ask::Admin;
use crate::cli::out;
use crate::cli::paint::Paint;
use crate::clock;

/// Time between two looks of `--follow`.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// `outrider explain`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  outrider explain 0198c2f1-7d2e-7a55-9a4f-0c8f4a1b2c3d   one call: each decision, each try, with its numbers
  outrider explain --failed                               the calls that failed last
  outrider explain --upstream payments.shop --limit 5
  outrider explain --reason breaker_open --follow         as they happen, until Ctrl-C

Every answer carries `x-request-id`; a trace ID does as well. Remembered are all calls that failed, all that were slow
and a sample of the rest (`telemetry.explain` in the policy), the newest of each.

Exit codes: 0 done, 1 no such call is remembered or the proxy declined, 2 no proxy answers.")]
pub struct Args {
    /// The call's request ID (`x-request-id`) or trace ID; without it the newest calls
    #[arg(value_name = "REQUEST-ID", conflicts_with_all = ["follow", "failed", "upstream", "reason", "limit"])]
    id: Option<String>,

    /// Print calls as they end, until interrupted
    #[arg(long)]
    follow: bool,

    /// Only calls that failed
    #[arg(long)]
    failed: bool,

    /// Only calls of this upstream, as the policy writes it
    #[arg(long, value_name = "UPSTREAM")]
    upstream: Option<String>,

    /// Only calls that ended with this reason word
    #[arg(long, value_name = "WORD")]
    reason: Option<String>,

    /// How many calls at most, the newest
    #[arg(long, value_name = "N", default_value_t = 10)]
    limit: u32,

    #[command(flatten)]
    admin: Admin,
}

/// The command.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    let paint = Paint::to(&std::io::stdout());
    if let Some(id) = &args.id {
        return match args.ask(Some(id), None) {
            Err(code) => code,
            Ok(answer) if calls(&answer).next().is_none() => {
                out::say(&format!(
                    "outrider: no call `{id}` is remembered; failed and slow ones are, and a sample of the rest, the newest of each"
                ));
                ExitCode::from(out::FINDINGS)
            }
            Ok(answer) => args.print(&answer, paint),
        };
    }
    let mut after = None;
    loop {
        let answer = match args.ask(None, after) {
            Ok(answer) => answer,
            Err(code) => return code,
        };
        after = answer["last"].as_u64();
        if !args.follow {
            if calls(&answer).next().is_none() {
                out::say("outrider: nothing of that kind is remembered yet");
            }
            return args.print(&answer, paint);
        }
        if calls(&answer).next().is_some() {
            let printed = args.print(&answer, paint);
            if printed != ExitCode::SUCCESS {
                return printed;
            }
        }
        clock::block(LOOK_AGAIN);
    }
}

impl Args {
    fn ask(&self, id: Option<&str>, after: Option<u64>) -> Result<Value, ExitCode> {
        let after = after.map(|after| after.to_string());
        // Between two looks may lie more than one page of calls.
        let limit = if self.follow && after.is_some() {
            1000
        } else {
            self.limit
        };
        self.admin.ask(
            "/explain",
            &[
                ("id", id),
                ("upstream", self.upstream.as_deref()),
                ("reason", self.reason.as_deref()),
                ("failed", self.failed.then_some("true")),
                ("after", after.as_deref()),
                ("limit", Some(&limit.to_string())),
            ],
        )
    }

    fn print(&self, answer: &Value, paint: Paint) -> ExitCode {
        let text: String = if self.admin.is_json() {
            // One call a line, for programs that read as it comes.
            let lines: Vec<String> = calls(answer).map(Value::to_string).collect();
            lines.join("\n") + "\n"
        } else {
            calls(answer).map(|call| timeline(call, paint)).collect()
        };
        out::finish(&text, 0)
    }
}

fn calls(answer: &Value) -> impl Iterator<Item = &Value> {
    answer["calls"].as_array().into_iter().flatten()
}

/// One call as a person reads it: what was asked, what became of it, and each step with its time.
pub fn timeline(call: &Value, paint: Paint) -> String {
    let word = |key: &str| call[key].as_str().unwrap_or_default();
    let mut text = String::new();
    let asked = format!("{} {}{}", word("method"), word("host"), word("path"));
    let end = match call["reason"].as_str() {
        Some(reason) => paint.red(&format!("{} {reason}", call["status"])),
        None if call["status"].as_u64() >= Some(500) => paint.red(&call["status"].to_string()),
        None => paint.green(&call["status"].to_string()),
    };
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{}  {end}  in {}",
        paint.bold(asked.trim()),
        millis(&call["duration_ms"])
    );
    let mut facts = vec![
        word("began").to_owned(),
        format!("request {}", word("request_id")),
    ];
    if let Some(trace) = call["trace_id"].as_str() {
        facts.push(format!("trace {trace}"));
    }
    let route = match word("route") {
        "*" | "" => String::new(),
        route => format!(", route {route}"),
    };
    facts.push(format!(
        "upstream {}{route}, policy {}",
        word("upstream"),
        word("policy")
    ));
    for fact in facts {
        let _ = writeln!(text, "  {}", paint.dim(&fact));
    }
    if let Some(title) = call["title"].as_str() {
        let _ = writeln!(text, "  {title}");
    }
    if call["cached"].is_object() {
        let _ = writeln!(text, "  {}", cached(&call["cached"]));
    }
    for step in call["steps"].as_array().into_iter().flatten() {
        let _ = writeln!(text, "{}", line(step, paint));
    }
    if let Some(lost) = call["steps_lost"].as_u64() {
        let _ = writeln!(text, "  {:>11}  {lost} more steps were not kept", "...");
    }
    let _ = writeln!(
        text,
        "  {:>11}  {:<11} {} bytes in, {} bytes out\n",
        millis(&call["duration_ms"]),
        "end",
        call["bytes_in"],
        call["bytes_out"],
    );
    text
}

/// The arithmetic of the cache on one line.
fn cached(told: &Value) -> String {
    let seconds = |key: &str| told[key].as_f64().unwrap_or_default();
    format!(
        "cache: {} s old of {} s by {}, {}, {}",
        seconds("age_s"),
        seconds("lifetime_s"),
        told["lifetime_from"].as_str().unwrap_or_default(),
        if told["fresh"] == true {
            "fresh"
        } else {
            "stale"
        },
        if told["stored"] == true {
            "kept"
        } else {
            "not kept"
        },
    )
}

fn line(step: &Value, paint: Paint) -> String {
    let room = step["room"].as_str().unwrap_or_default();
    let said = step["text"].as_str().unwrap_or_default();
    let copy = match step["copy"].as_u64() {
        Some(copy) => format!(" [copy {copy}]"),
        None => String::new(),
    };
    let mut text = said.to_owned();
    if let Some(endpoint) = step["endpoint"].as_str() {
        let how = step["connection"].as_str().unwrap_or_default();
        let took = match &step["took_ms"] {
            Value::Null => String::new(),
            took => format!(" in {}", millis(took)),
        };
        text = format!("{endpoint} ({how} connection): {said}{took}");
    }
    let bad = step["reason"].is_string()
        || step["status"].as_u64() >= Some(500)
        || step["fate"] == "refused";
    let text = if bad { paint.red(&text) } else { text };
    format!("  {:>11}  {room:<11} {text}{copy}", millis(&step["at_ms"]))
}

fn millis(value: &Value) -> String {
    format!("{:.3} ms", value.as_f64().unwrap_or_default())
}
