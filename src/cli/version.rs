//! `outrider version`

use std::process::ExitCode;

use serde_json::json;

use crate::cli::out;

/// The version of the policy language that this build reads.
const POLICY: &str = "outrider.dev/v1";

/// `outrider version`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  outrider version
  outrider version --json
  outrider --version             only the first line")]
pub struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The command.
pub fn run(args: &Args) -> ExitCode {
    let version = env!("CARGO_PKG_VERSION");
    let commit = option_env!("OUTRIDER_COMMIT").unwrap_or("unknown");
    let profile = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    let (system, machine) = (std::env::consts::OS, std::env::consts::ARCH);
    let text = if args.json {
        let object = json!({
            "version": version,
            "policy": POLICY,
            "commit": commit,
            "system": system,
            "machine": machine,
            "profile": profile,
        });
        format!("{object}\n")
    } else {
        format!(
            "outrider {version}\npolicy   {POLICY}\ncommit   {commit}\nsystem   {system} {machine}\nprofile  {profile}\n"
        )
    };
    out::finish(&text, 0)
}
