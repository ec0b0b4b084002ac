//! The two streams of a command: results on stdout, everything else on stderr.

use std::io;
use std::io::Write;
use std::process::ExitCode;

use crate::cli::paint::Paint;
use crate::redact;
use crate::redact::Clean;

/// Findings: a policy with errors.
pub const FINDINGS: u8 = 1;

/// Cannot start: bad usage, an unreadable file, a policy that does not load, a port that is taken.
pub const CANNOT: u8 = 2;

/// Writes a whole result to stdout. A reader that has left (`outrider schema | head`) is not an error.
///
/// # Errors
/// When stdout takes no more for another reason, such as a full disk.
pub fn put(text: &Clean<'_>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// [`put`], with the line end.
///
/// # Errors
/// As [`put`].
pub fn line(text: &str) -> io::Result<()> {
    put(&redact::text(format!("{text}\n").as_bytes()))
}

/// [`put`] as the end of a command: `code` if all could be written.
#[must_use]
pub fn finish(text: &str, code: u8) -> ExitCode {
    finish_clean(&redact::text(text.as_bytes()), code)
}

/// [`finish`], for what holds nothing from outside and must not lose a byte.
#[must_use]
pub fn finish_clean(text: &Clean<'_>, code: u8) -> ExitCode {
    match put(text) {
        Ok(()) => ExitCode::from(code),
        Err(error) => refuse(&format!("cannot write to stdout: {error}")),
    }
}

/// Says on stderr why the command cannot go on.
#[must_use]
pub fn refuse(why: &str) -> ExitCode {
    let paint = Paint::to(&io::stderr());
    say(&format!("{} {why}", paint.red("outrider:")));
    ExitCode::from(CANNOT)
}

/// A line on stderr. Nobody can be told when stderr is gone.
pub fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", redact::text(text.as_bytes()));
}
