//! The first step of a PostgreSQL session (protocol 3.0, PostgreSQL manual section "Message Flow"), and no further.
//!
//! As `pg_isready` does: whoever is asked to authenticate has found a server that takes sessions. Nothing is ever
//! authenticated, so no password is needed. Closing while a password is awaited is silent in the server's log; a server
//! that asks for none tells there that it knows no role `outrider`.

use tokio::io::AsyncWriteExt as _;

use super::Failure;
use super::read_until;
use crate::connect::tls::Wire;

/// 3.0
const PROTOCOL: u32 = 196_608;

/// What an error of this step may measure; more is not PostgreSQL.
const MOST: usize = 8 * 1024;

/// `X`, with its length: the end of a session in order. Not allowed before the session is authenticated.
const TERMINATE: &[u8] = &[b'X', 0, 0, 0, 4];

/// AuthenticationOk: nothing is asked for.
const TRUSTED: &[u8] = &[b'R', 0, 0, 0, 8, 0, 0, 0, 0];

/// States (PostgreSQL manual appendix A) of a server that cannot take sessions, by their beginning: no resources left
/// (too many connections among them), shutting down, crashed, not yet up (57P01 to 57P03), and faults of its own.
const CANNOT: &[&str] = &["53", "57P", "58", "XX"];

pub(super) async fn ask(mut stream: Wire) -> Result<(), Failure> {
    let written = stream.write_all(&startup()).await;
    written.map_err(|_| Failure::Closed)?;
    let answer = read_until(&mut stream, "PostgreSQL", MOST, verdict).await?;
    if answer.starts_with(TRUSTED) {
        // A courtesy: a server that has closed already has given its answer.
        let _ = stream.write_all(TERMINATE).await;
    }
    Ok(())
}

fn startup() -> Vec<u8> {
    let parameters = b"user\0outrider\0database\0postgres\0application_name\0outrider-health\0\0";
    let length = u32::try_from(parameters.len() + 8).unwrap_or(u32::MAX);
    let mut message = length.to_be_bytes().to_vec();
    message.extend_from_slice(&PROTOCOL.to_be_bytes());
    message.extend_from_slice(parameters);
    message
}

/// The verdict on the first message; `None` while there is none.
pub fn verdict(bytes: &[u8]) -> Option<Result<(), Failure>> {
    let foreign = Some(Err(Failure::Foreign("PostgreSQL")));
    let kind = *bytes.first()?;
    if !matches!(kind, b'R' | b'E') {
        return foreign;
    }
    let length = u32::from_be_bytes(bytes.get(1..5)?.try_into().ok()?);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if !(8..=MOST).contains(&length) {
        return foreign;
    }
    if kind == b'R' {
        // With what it asks for, which tells how to part.
        return bytes.get(..TRUSTED.len()).map(|_| Ok(()));
    }
    let fields = bytes.get(5..=length)?;
    let field = |wanted: u8| {
        let all = fields.split(|byte| *byte == 0);
        let mut found = all.filter_map(|field| field.split_first());
        let (_, text) = found.find(|(kind, _)| **kind == wanted)?;
        Some(String::from_utf8_lossy(text).into_owned())
    };
    let Some(state) = field(b'C') else {
        return foreign;
    };
    Some(if CANNOT.iter().any(|class| state.starts_with(class)) {
        let message = field(b'M').unwrap_or_default();
        Err(Failure::says(&format!("{state} {message}")))
    } else {
        Ok(())
    })
}
