//! `outrider check`

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use crate::cli::chain;
use crate::cli::out;
use crate::cli::paint::Paint;
use crate::cli::sarif;
use crate::config;
use crate::config::Fault;
use crate::config::Loaded;
use crate::config::Severity;
use crate::config::fault::code;
use crate::kit::units;

/// `outrider check`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  outrider check policy.yaml
  outrider check /etc/outrider                every *.yaml in it, in name order, as one policy
  outrider check configmap.yaml               a Kubernetes ConfigMap; places are those of the outer file
  outrider check --strict --format sarif policy.yaml > outrider.sarif
  outrider check --chain shop.yaml orders.yaml payments.yaml
                                              shop calls orders, which calls payments: what becomes of one call?

For each route it tells the largest number of tries that one call can cause, and the longest time it can take. With --chain,
also how these multiply from hop to hop. Which upstream of one policy the next one is, its `service:` says: `orders` is
`orders.shop`. Without one that fits, it is the only upstream.

Exit codes: 0 no errors (with --strict: and no warnings), 1 findings, 2 a file cannot be read.")]
pub struct Args {
    /// Policy files, directories of *.yaml, or ConfigMaps; together they are one policy, as for `run`
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// How to print the findings
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    /// Let warnings fail the check as well
    #[arg(long)]
    strict: bool,

    /// Each PATH is the policy of one service, the outermost caller first, and each calls the next
    #[arg(long)]
    chain: bool,
}

/// `--format`
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For a person: each finding with its line, then the worst case of each route
    Text,
    /// A JSON list of objects with file, line, column, severity, code, message and hint
    Json,
    /// SARIF 2.1.0, for code scanning
    Sarif,
}

/// The command.
pub fn run(args: &Args) -> ExitCode {
    if args.chain {
        return chained(args);
    }
    let (loaded, faults) = match config::load(&args.paths) {
        Ok(loaded) => (Some(loaded), None),
        Err(faults) => (None, Some(faults)),
    };
    let findings = match (&loaded, &faults) {
        (Some(loaded), _) => &loaded.warnings,
        (None, Some(faults)) => faults,
        (None, None) => {
            return out::refuse("the policy neither loads nor has a fault; this is a bug");
        }
    };
    tell(args, findings, |paint| {
        text(findings, loaded.as_ref(), paint)
    })
}

fn chained(args: &Args) -> ExitCode {
    let found = config::chain(&args.paths);
    tell(args, &found.findings, |paint| {
        let report = chain::text(&found, paint);
        report_of(&found.findings, &report, Some(found.files), paint)
    })
}

fn tell(args: &Args, findings: &[Fault], text: impl Fn(Paint) -> String) -> ExitCode {
    let text = match args.format {
        Format::Json => match json(findings) {
            Ok(list) => format!("{list}\n"),
            Err(error) => {
                return out::refuse(&format!("the findings cannot be written as JSON: {error}"));
            }
        },
        Format::Sarif => format!("{}\n", sarif::log(findings)),
        Format::Text => text(Paint::to(&io::stdout())),
    };
    out::finish(&text, exit(findings, args.strict))
}

/// The exit code that these findings are worth.
#[must_use]
pub fn exit(findings: &[Fault], strict: bool) -> u8 {
    let unread = |fault: &&Fault| [code::UNREADABLE.code, code::NOTHING.code].contains(&fault.code);
    if findings.iter().any(|fault| unread(&fault)) {
        return out::CANNOT;
    }
    let refused = findings
        .iter()
        .any(|fault| strict || fault.severity == Severity::Error);
    if refused { out::FINDINGS } else { 0 }
}

/// One finding of `--format json`: these fields, in this order, and no others.
#[derive(Serialize)]
struct Finding<'a> {
    file: &'a str,
    line: u32,
    column: u32,
    severity: &'static str,
    code: &'static str,
    message: &'a str,
    hint: Option<&'a str>,
}

/// The findings as the list of `--format json`.
///
/// # Errors
/// None that plain text and numbers could cause.
pub fn json(findings: &[Fault]) -> serde_json::Result<String> {
    fn finding(fault: &Fault) -> Finding<'_> {
        Finding {
            file: &fault.file,
            line: fault.line,
            column: fault.column,
            severity: fault.severity.word(),
            code: fault.code,
            message: &fault.message,
            hint: fault.hint.as_deref(),
        }
    }
    serde_json::to_string(&findings.iter().map(finding).collect::<Vec<_>>())
}

/// The report for a person.
#[must_use]
pub fn text(findings: &[Fault], loaded: Option<&Loaded>, paint: Paint) -> String {
    let report = loaded.map_or_else(String::new, |loaded| worst(loaded, paint));
    let files = loaded.map(|loaded| loaded.policy.sources.len());
    report_of(findings, &report, files, paint)
}

/// Findings, then what was computed, then the verdict.
fn report_of(findings: &[Fault], computed: &str, files: Option<usize>, paint: Paint) -> String {
    let mut out: String = findings.iter().map(|fault| told(fault, paint)).collect();
    if !findings.is_empty() {
        out.push('\n');
    }
    if !computed.is_empty() {
        out.push_str(computed);
        out.push('\n');
    }
    let errors = findings
        .iter()
        .filter(|fault| fault.severity == Severity::Error)
        .count();
    let warnings = findings.len() - errors;
    let verdict = match (errors, warnings) {
        (0, 0) => paint.green("no findings"),
        (0, _) => paint.yellow(&many(warnings, "warning")),
        (_, 0) => paint.red(&many(errors, "error")),
        _ => paint.red(&format!(
            "{}, {}",
            many(errors, "error"),
            many(warnings, "warning")
        )),
    };
    let _ = match files {
        Some(files) => writeln!(out, "{}: {verdict}", many(files, "file")),
        None => writeln!(out, "{verdict}"),
    };
    out
}

/// One finding as [`Fault::render`] writes it, in colour.
#[must_use]
pub fn told(fault: &Fault, paint: Paint) -> String {
    let plain = fault.render();
    let word = format!("{:5}", fault.severity.word());
    let painted = match fault.severity {
        Severity::Error => paint.red(&word),
        Severity::Warn => paint.yellow(&word),
    };
    // The place comes first and may hold the word as part of a path, hence the code behind it.
    plain.replacen(
        &format!("  {word} {}", fault.code),
        &format!("  {painted} {}", fault.code),
        1,
    )
}

/// The bounds of each route, as a table.
fn worst(loaded: &Loaded, paint: Paint) -> String {
    let policy = &loaded.policy;
    let mut rows =
        vec![["upstream", "route", "tries at most", "latency at most"].map(str::to_owned)];
    let mut add = |upstream: &str, route: &config::Route| {
        let worst = config::worst_case(route);
        let latency = units::format_duration(worst.latency);
        rows.push([
            upstream.to_owned(),
            route.name.clone(),
            worst.tries.to_string(),
            latency,
        ]);
    };
    for upstream in &policy.upstreams {
        for route in upstream.routes.iter().chain([&upstream.base]) {
            add(&upstream.name, route);
        }
    }
    if policy.unmatched == config::Unmatched::Pass {
        add("(unmatched)", &policy.fallback);
    }
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let (first, second, third) = (width(0), width(1), width(2));
    let mut out = String::new();
    for (number, [upstream, route, tries, latency]) in rows.iter().enumerate() {
        let line = format!("{upstream:first$}  {route:second$}  {tries:>third$}  {latency:>15}");
        let _ = writeln!(out, "{}", if number == 0 { paint.dim(&line) } else { line });
    }
    out
}

fn many(count: usize, what: &str) -> String {
    if count == 1 {
        format!("1 {what}")
    } else {
        format!("{count} {what}s")
    }
}
