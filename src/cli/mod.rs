//! The command line: one file a command, results on stdout, everything else on stderr.
//!
//! Exit codes are the same for all commands: 0 done, 1 findings (a policy that `check` refuses), 2 could not start (usage, an
//! unreadable file, a policy that does not load, a port that is taken).

mod ask;
mod audit;
mod breaker;
mod cache;
mod chain;
mod check;
mod demo;
mod explain;
mod fault;
mod identity;
mod out;
mod paint;
mod policy;
mod route;
mod run;
mod sarif;
mod schema;
mod version;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use clap::Subcommand;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "outrider",
    bin_name = "outrider",
    version,
    about = "A sidecar that keeps a service's outbound calls working while what they call does not",
    long_about = "\
outrider stands beside one service and takes its outbound HTTP calls: it retries within a budget, breaks circuits, takes bad
endpoints out, holds deadlines and passes correlation on. The application changes nothing; a small YAML policy says the rest.",
    after_help = "\
Examples:
  outrider demo                                      see what it does, in 30 seconds, without any set-up
  outrider check policy.yaml                         is this policy right, and what can it cost at worst?
  outrider run policy.yaml                           take the traffic
  outrider route policy.yaml POST http://payments.shop/charges
                                                     what happens to this request?
  outrider explain --failed                          why did these calls go wrong?

Exit codes: 0 done, 1 findings, 2 could not start.",
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 120
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take the traffic, as the policy says
    Run(run::Args),
    /// Look for faults in a policy, and compute what each route can cost at worst
    Check(check::Args),
    /// Tell what happens to one request: upstream, route, and each value with its origin
    Route(route::Args),
    /// Look at a policy as outrider understands it
    #[command(
        subcommand,
        after_help = "\
Examples:
  outrider policy show policy.yaml
  outrider policy show --expanded policy.yaml"
    )]
    Policy(policy::Command),
    /// Tell why a call went as it did: each decision and each try, with its numbers
    Explain(explain::Args),
    /// Hold breakers of a running proxy open or closed, or let them go
    #[command(
        subcommand,
        after_help = "\
Examples:
  outrider breaker open payments.shop --for 30m
  outrider breaker auto payments.shop"
    )]
    Breaker(breaker::Command),
    /// Purge what a running proxy keeps of answers, or look at it
    #[command(
        subcommand,
        after_help = "\
Examples:
  outrider cache purge --tag sku-4711
  outrider cache stats"
    )]
    Cache(cache::Command),
    /// Look at the faults that a running proxy injects, or stop them
    #[command(
        subcommand,
        after_help = "\
Examples:
  outrider fault list
  outrider fault stop"
    )]
    Fault(fault::Command),
    /// Look at an audit log
    #[command(
        subcommand,
        after_help = "\
Examples:
  outrider audit verify /var/log/outrider/audit.log"
    )]
    Audit(audit::Command),
    /// Make certificates for trying things out, or tell who a workload is
    #[command(
        subcommand,
        after_help = "\
Examples:
  outrider identity dev-ca ./pki --id spiffe://dev.local/ns/shop/sa/pay
  outrider identity show policy.yaml"
    )]
    Identity(identity::Command),
    /// Print the JSON Schema of the policy language
    Schema(schema::Args),
    /// Show a failing service with and without outrider, in this terminal
    Demo(demo::Args),
    /// Print the version and what it was built with
    Version(version::Args),
}

/// The program, from its arguments to its exit code.
#[must_use]
pub fn main() -> ExitCode {
    with(std::env::args_os())
}

/// [`main`] with the arguments given, the program's name first.
pub fn with(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match Cli::try_parse_from(arguments) {
        Ok(cli) => cli.command.run(),
        Err(told) => {
            // Help for a reader that has left (`outrider --help | head -1`) is no error.
            let _ = told.print();
            ExitCode::from(u8::try_from(told.exit_code()).unwrap_or(out::CANNOT))
        }
    }
}

impl Command {
    fn run(self) -> ExitCode {
        match self {
            Command::Run(args) => run::run(args),
            Command::Check(args) => check::run(&args),
            Command::Route(args) => route::run(&args),
            Command::Policy(command) => policy::run(&command),
            Command::Explain(args) => explain::run(&args),
            Command::Breaker(command) => breaker::run(&command),
            Command::Fault(command) => fault::run(&command),
            Command::Cache(command) => cache::run(&command),
            Command::Audit(command) => audit::run(&command),
            Command::Identity(command) => identity::run(&command),
            Command::Schema(args) => schema::run(&args),
            Command::Demo(args) => demo::run(&args),
            Command::Version(args) => version::run(&args),
        }
    }
}
