//! `outrider run`

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::app;
use crate::cli::out;
use crate::cli::policy;
use crate::kit::units;
use crate::telemetry::diagnostics;

/// `outrider run`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  outrider run policy.yaml
  outrider run /etc/outrider                  every *.yaml in it, in name order, as one policy
  outrider run policy.yaml --workers 2 --drain 60s

Send a service's calls through it by the name the policy uses:
  curl -H 'Host: payments.shop' http://localhost:4750/charges
  http_proxy=http://localhost:4751 curl http://payments.shop/charges

The access log goes to stdout, one JSON object a line; what outrider has to say about itself goes to stderr.
SIGHUP, or a change of the files, loads the policy anew; a bad file changes nothing and is reported. SIGTERM drains.

Exit codes: 0 stopped as asked, 2 could not start.")]
pub struct Args {
    /// Policy files, or directories of *.yaml
    #[arg(required = true, value_name = "CONFIG")]
    config: Vec<PathBuf>,

    /// Worker threads; default is the CPU quota of this container, at least 1
    #[arg(long, value_name = "N", env = "OUTRIDER_WORKERS")]
    workers: Option<NonZeroUsize>,

    /// Name server to ask instead of those of resolv.conf; may be repeated
    #[arg(long, value_name = "ADDRESS[:PORT]", value_parser = name_server)]
    dns: Vec<SocketAddr>,

    /// Longest time that requests in flight get to finish after SIGTERM
    #[arg(long, value_name = "DURATION", default_value = "25s", value_parser = units::parse_duration)]
    drain: Duration,
}

/// The command.
pub fn run(args: Args) -> ExitCode {
    diagnostics::start();
    let loaded = match policy::load(&args.config) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let options = app::Options {
        workers: args.workers.map(NonZeroUsize::get),
        dns: args.dns,
        drain: args.drain,
        watch: Some(args.config),
        access_log: Box::new(io::stdout()),
        signals: true,
    };
    match app::launch(loaded, options) {
        Ok(running) => running.wait(),
        Err(error) => out::refuse(&error.to_string()),
    }
}

/// `1.1.1.1`, `1.1.1.1:5353`, `[::1]:53`, `::1`; port 53 unless said.
pub(super) fn name_server(text: &str) -> Result<SocketAddr, String> {
    let with_port = text.parse::<SocketAddr>();
    let bare = text.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    with_port
        .or_else(|_| bare.map(|address| SocketAddr::new(address, 53)))
        .map_err(|_| format!("`{text}` is not an IP address with an optional port, such as `10.96.0.10` or `[fd00::a]:53`"))
}
