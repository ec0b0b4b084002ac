//! What outrider says about itself, on stderr: text for a person at a terminal, JSON lines for a collector.

use std::io;
use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// The variable that sets the level, such as `debug` or `info,outrider::endpoint=trace`. Default `info`.
pub const VARIABLE: &str = "OUTRIDER_LOG";

const AUDIT: &str = "audit=info";

/// Send diagnostics to stderr from here on. Only the first call of a process has an effect.
pub fn start() {
    let wanted = std::env::var(VARIABLE).unwrap_or_default();
    let parsed = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse(&wanted);
    let (filter, fault) = match parsed {
        Ok(filter) => (filter, None),
        Err(error) => (
            EnvFilter::default().add_directive(LevelFilter::INFO.into()),
            Some(error),
        ),
    };
    // Whatever else is wanted: who overrode what is told.
    let filter = filter.add_directive(AUDIT.parse().expect("a target and a level"));
    let base = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    let started = if io::stderr().is_terminal() {
        base.with_target(false).try_init()
    } else {
        base.json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init()
    };
    if started.is_ok()
        && let Some(error) = fault
    {
        tracing::warn!(%error, "{VARIABLE} cannot be read; using `info`");
    }
}
