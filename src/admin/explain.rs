//! Which calls `/explain` is asked for.

use super::orders::Declined;
use super::orders::Given;
use super::orders::bad;
use crate::telemetry::story::Ask;

/// Every parameter, for the message that names them.
const KNOWN: [&str; 6] = ["id", "upstream", "reason", "failed", "after", "limit"];

/// Reads the query.
pub(super) fn read(query: Option<&str>) -> Result<Ask, Declined> {
    let mut given = Given::parse(query.unwrap_or_default())?;
    let mut number = |name: &'static str| -> Result<Option<u64>, Declined> {
        let Some(text) = given.take(name) else {
            return Ok(None);
        };
        match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(bad(format!("`{name}` takes a whole number"))),
        }
    };
    let (after, limit) = (number("after")?, number("limit")?);
    let ask = Ask {
        id: given.take("id"),
        upstream: given.take("upstream"),
        reason: given.take("reason"),
        failed: given.flag("failed")?,
        after: after.unwrap_or_default(),
        limit: limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
    };
    given.end(&KNOWN)?;
    Ok(ask)
}
