//! What outrider says about itself, on stderr: text for a person at a terminal, JSON lines for a collector.

use std::io;
use std::io::IsTerminal as _;
use std::io::Write;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::redact;

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
        .with_writer(|| Redacted);
    let started = if io::stderr().is_terminal() {
        base.with_target(false).try_init()
    } else {
        base.json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init()
    };
    if started.is_ok() {
        std::panic::set_hook(Box::new(panicked));
    }
    if started.is_ok()
        && let Some(error) = fault
    {
        tracing::warn!(%error, "{VARIABLE} cannot be read; using `info`");
    }
}

/// Stderr, where whatever is said was looked at, whoever says it: libraries know no policy. Each event is written at once.
struct Redacted;

impl Write for Redacted {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        io::stderr()
            .lock()
            .write_all(redact::text(line).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// What a panic says may hold what it stumbled over.
fn panicked(info: &std::panic::PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("no message");
    let place = info.location().map(ToString::to_string);
    tracing::error!(place, "panicked: {message}");
}
