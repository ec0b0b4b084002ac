//! `PING`, as every Redis and everything that calls itself one answers it.

use tokio::io::AsyncWriteExt as _;

use super::Failure;
use super::read_until;
use crate::connect::tls::Wire;

/// The command as a client sends it: an array of one string.
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// An error line is short; more without an end is somebody else.
const MOST: usize = 1024;

/// Errors by which a server that serves others turns us away: it wants a password, or gives us no right to `PING`. The
/// last is how Redis before 2.8 asked for a password.
const ALIVE: &[&str] = &["NOAUTH", "NOPERM", "ERR operation not permitted"];

pub(super) async fn ask(mut stream: Wire) -> Result<(), Failure> {
    let written = stream.write_all(PING).await;
    written.map_err(|_| Failure::Closed)?;
    let answer = read_until(&mut stream, "Redis", MOST, verdict).await;
    answer.map(|_| ())
}

/// The verdict on the first line; `None` while there is none.
pub fn verdict(bytes: &[u8]) -> Option<Result<(), Failure>> {
    let foreign = Some(Err(Failure::Foreign("Redis")));
    if !matches!(bytes.first(), None | Some(b'+' | b'-')) {
        return foreign;
    }
    let end = bytes.iter().position(|byte| *byte == b'\r')?;
    let line = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default());
    if line == "+PONG" {
        return Some(Ok(()));
    }
    let Some(error) = line.strip_prefix('-') else {
        return foreign;
    };
    // LOADING, MASTERDOWN, BUSY and the like: there, and of no use. What is not known here is of no use either.
    Some(if ALIVE.iter().any(|alive| error.starts_with(alive)) {
        Ok(())
    } else {
        Err(Failure::says(error))
    })
}
