//! `outrider breaker`

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use crate::cli::ask::Admin;
use crate::kit::units;

/// `outrider breaker ...`
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Hold the breakers of an upstream open: its calls are refused until the time ends or `auto`
    Open(Force),
    /// Hold the breakers of an upstream closed: failures are counted, and nothing opens them
    Close(Force),
    /// Let calls decide again: the breakers begin closed, with an empty window
    Auto(Auto),
}

/// `outrider breaker open` and `close`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  outrider breaker open payments.shop                     nobody calls it for the next ten minutes
  outrider breaker close payments.shop --for 1h           it is called whatever happens
  outrider breaker open payments.shop --route 'POST /charges'
  outrider breaker open '*.partner.example' --admin 127.0.0.1:9000 --json

A breaker in mode `shadow` refuses nothing, forced or not. Each order is told on the proxy's stderr, with the target `audit`.

Exit codes: 0 done, 1 the proxy declined (it says why), 2 no proxy answers.")]
pub struct Force {
    #[command(flatten)]
    which: Which,

    /// How long, up to 24h; then their calls decide again
    #[arg(long = "for", value_name = "DURATION", default_value = "10m")]
    lasting: String,

    #[command(flatten)]
    admin: Admin,
}

/// `outrider breaker auto`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  outrider breaker auto payments.shop
  outrider breaker auto payments.shop --route 'POST /charges'

Breakers that are not forced are left as they are.

Exit codes: 0 done, 1 the proxy declined (it says why), 2 no proxy answers.")]
pub struct Auto {
    #[command(flatten)]
    which: Which,

    #[command(flatten)]
    admin: Admin,
}

#[derive(Debug, clap::Args)]
struct Which {
    /// Name of the upstream, as the policy writes it
    #[arg(value_name = "UPSTREAM")]
    upstream: String,

    /// A route that has a breaker of its own, as the policy writes its match
    #[arg(long, value_name = "ROUTE")]
    route: Option<String>,
}

/// The command.
#[must_use]
pub fn run(command: &Command) -> ExitCode {
    let (path, which, lasting, admin) = match command {
        Command::Open(force) => (
            "/breaker/open",
            &force.which,
            Some(&force.lasting),
            &force.admin,
        ),
        Command::Close(force) => (
            "/breaker/close",
            &force.which,
            Some(&force.lasting),
            &force.admin,
        ),
        Command::Auto(auto) => ("/breaker/auto", &auto.which, None, &auto.admin),
    };
    let query = [
        ("upstream", Some(which.upstream.as_str())),
        ("route", which.route.as_deref()),
        ("for", lasting.map(String::as_str)),
    ];
    admin.tell("POST", path, &query, told)
}

/// What the proxy did, for a person.
pub fn told(answer: &Value) -> String {
    let upstream = answer["upstream"].as_str().unwrap_or_default();
    let mut text = match (answer["action"].as_str(), answer["until"].as_str()) {
        (Some("open"), Some(until)) => format!("{upstream}: held open until {until}"),
        (Some("close"), Some(until)) => format!("{upstream}: held closed until {until}"),
        _ => format!("{upstream}: calls decide again"),
    };
    if let Some(lasting) = answer["for_ms"].as_u64() {
        let lasting = units::format_duration(Duration::from_millis(lasting));
        let _ = write!(text, " ({lasting})");
    }
    text.push('\n');
    for breaker in answer["breakers"].as_array().into_iter().flatten() {
        let route = breaker["route"].as_str().unwrap_or_default();
        let before = match breaker["before"].as_str() {
            Some(state) => format!("was {}", state.replace('_', "-")),
            None => "not called yet".to_owned(),
        };
        let note = match breaker["mode"].as_str() {
            Some("shadow") => "; mode: shadow, so nothing is refused",
            _ => "",
        };
        let _ = writeln!(text, "  route {route}: {before}{note}");
    }
    text
}
