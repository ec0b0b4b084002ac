//! `outrider schema`

use std::process::ExitCode;

use crate::cli::out;
use crate::config;
use crate::redact::Clean;

/// `outrider schema`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  outrider schema > outrider.schema.json

With the YAML language server an editor then completes and checks a policy that begins with:
  # yaml-language-server: $schema=outrider.schema.json")]
pub struct Args {}

/// The command.
pub fn run(_: &Args) -> ExitCode {
    match serde_json::to_string_pretty(&config::schema()) {
        Ok(text) => out::finish_clean(&Clean::vetted(format!("{text}\n").into_bytes()), 0),
        Err(error) => out::refuse(&format!("the schema cannot be written: {error}")),
    }
}
