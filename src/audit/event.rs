//! What an audit record tells.

use std::fmt;
use std::fmt::Display;
use std::fmt::Write as _;

use serde_json::Value;

use crate::redact;

/// Something that a person will ask about afterwards. What it says is redacted by its look when it is recorded; a name of
/// a credential is told, a credential never.
#[derive(Clone, PartialEq)]
pub struct Event {
    pub(super) what: &'static str,
    pub(super) who: Option<String>,
    pub(super) fields: Vec<(&'static str, Value)>,
}

impl Event {
    /// `what` is its stable word; `docs/audit.md` has a row for each.
    #[must_use]
    pub fn new(what: &'static str) -> Self {
        Self {
            what,
            who: None,
            fields: Vec::new(),
        }
    }

    /// Who caused it: a peer's address or identity.
    #[must_use]
    pub fn by(mut self, who: impl Display) -> Self {
        self.who = Some(
            redact::text(who.to_string().as_bytes())
                .to_text()
                .into_owned(),
        );
        self
    }

    /// Adds a field. Its key is a word of ours, and none of those that every record has.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        debug_assert!(
            !RESERVED.contains(&key),
            "`{key}` belongs to the record itself"
        );
        let mut value = value.into();
        redact::json(&mut value);
        self.fields.push((key, value));
        self
    }

    /// What makes two events the same.
    pub(super) fn signature(&self) -> String {
        let mut text = format!("{} {:?}", self.what, self.who);
        for (key, value) in &self.fields {
            // Writing to a String cannot fail.
            let _ = write!(text, " {key}={value}");
        }
        text
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.signature())
    }
}

/// Keys of every record.
pub(super) const RESERVED: &[&str] = &["seq", "time", "event", "who", "prev", "signature", "hash"];
