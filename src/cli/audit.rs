//! `outrider audit`

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use crate::audit;
use crate::audit::PublicKey;
use crate::audit::verify;
use crate::audit::verify::Known;
use crate::audit::verify::Report;
use crate::cli::out;

/// `outrider audit ...`
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Find any changed, removed, moved or missing record of an audit log
    Verify(Verify),
}

/// `outrider audit verify`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  outrider audit verify /var/log/outrider/audit.log                 with its older files beside it
  outrider audit verify --key audit.pub.pem audit.log               and who signed it
  outrider audit verify --expect 4711:9f86d081...0a08 audit.log     a head that was noted elsewhere

Without --key and --expect, whoever can write the log and the note beside it can write another one that holds: docs/audit.md
tells what is found by what.

Exit codes: 0 the chain holds, 1 it does not (each finding on a line, and its word), 2 a file or key cannot be read.")]
pub struct Verify {
    /// Files of one log, in any order
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// A key of its checkpoints, public or private, in PEM; may be repeated
    #[arg(long, value_name = "FILE")]
    key: Vec<PathBuf>,

    /// A record that must be there, and its hash; may be repeated
    #[arg(long, value_name = "SEQ:HASH", value_parser = expected)]
    expect: Vec<(u64, [u8; 32])>,

    /// The log may go on after these files
    #[arg(long)]
    open_ended: bool,

    /// The log may have begun before these files
    #[arg(long)]
    open_begin: bool,

    /// The report as JSON
    #[arg(long)]
    json: bool,
}

fn expected(text: &str) -> Result<(u64, [u8; 32]), String> {
    let parts = text.split_once(':').and_then(|(seq, hash)| {
        let hash = audit::from_hex(&hash.to_ascii_lowercase())?;
        Some((seq.parse().ok()?, hash))
    });
    parts.ok_or_else(|| "a record's number, a colon, and the 64 hex digits of its hash".to_owned())
}

/// The command.
#[must_use]
pub fn run(command: &Command) -> ExitCode {
    let Command::Verify(args) = command;
    let keys: Result<Vec<PublicKey>, _> =
        args.key.iter().map(|path| PublicKey::read(path)).collect();
    let keys = match keys {
        Ok(keys) => keys,
        Err(error) => return out::refuse(&error.to_string()),
    };
    let known = Known {
        expect: args.expect.clone(),
        keys,
        open_ended: args.open_ended,
        open_begin: args.open_begin,
    };
    let mut files = verify::files_of(&args.files);
    // Those without a first record stay where they are named, which for the newest is last.
    files.sort_by_key(|path| verify::first_seq(path).unwrap_or(u64::MAX));
    match verify::verify(&files, &known) {
        Err(error) => out::refuse(&format!("the log cannot be read: {error}")),
        Ok(report) => {
            let code = if report.found > 0 { out::FINDINGS } else { 0 };
            let text = if args.json {
                as_json(&report)
            } else {
                as_text(&report, &known)
            };
            out::finish(&text, code)
        }
    }
}

fn as_json(report: &Report) -> String {
    let findings: Vec<_> = report
        .findings
        .iter()
        .map(|finding| {
            let (file, line) = &finding.place;
            json!({ "file": file, "line": line, "word": finding.word, "what": finding.what })
        })
        .collect();
    let value = json!({
        "records": report.records,
        "first": report.first,
        "head": report.head.map(|head| json!({ "seq": head.0, "hash": audit::hex(&head.1) })),
        "found": report.found,
        "findings": findings,
        "signed": report.signed,
        "signed_to": report.signed_to,
        "unsigned": report.unsigned,
        "admitted": report.admitted,
    });
    format!("{value:#}\n")
}

fn as_text(report: &Report, known: &Known) -> String {
    let mut lines: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    let beyond = report.found - report.findings.len() as u64;
    if beyond > 0 {
        lines.push(format!("and {beyond} more"));
    }
    lines.extend(
        report
            .admitted
            .iter()
            .map(|told| format!("told by outrider itself: {told}")),
    );
    let verdict = if report.found == 0 {
        "the chain holds"
    } else {
        "the chain does not hold"
    };
    let first = report.first.unwrap_or(0);
    match report.head {
        None => lines.push("no record".to_owned()),
        Some((seq, hash)) => {
            lines.push(format!(
                "{verdict}: {} records, {first} to {seq}",
                report.records
            ));
            lines.push(format!("head: {seq}:{}", audit::hex(&hash)));
        }
    }
    if !known.keys.is_empty() {
        lines.push(format!(
            "signed: {} checkpoints, up to record {}",
            report.signed, report.signed_to
        ));
    } else if report.unsigned > 0 {
        lines.push(format!(
            "{} checkpoints were not looked at: give --key",
            report.unsigned
        ));
    }
    lines.join("\n") + "\n"
}
