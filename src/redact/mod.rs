//! What may be said: every text that leaves this process for a person or a collector goes through here first.
//!
//! A sink (access log, span, answer, admin page, audit record, line on stderr) takes [`Clean`] and nothing else, and a
//! `Clean` is only made here: of a word that the program itself holds, or of foreign bytes that were looked at. So that
//! this costs a request next to nothing, one pass over the bytes asks whether there is anything worth looking at, and what
//! is clean is borrowed, not copied.
//!
//! Lowest but for arithmetic, time and chance: whoever can say something can reach it.

mod config;
mod find;
mod hints;
mod names;
mod number;
mod redactor;
mod token;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::LazyLock;

use arc_swap::ArcSwap;
use serde_json::Value;

pub use config::Action;
pub use config::DETECTORS;
pub use config::KeyError;
pub use config::Settings;
pub use redactor::Redactor;

/// A text that may be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clean<'a>(Cow<'a, [u8]>);

impl Clean<'static> {
    /// Nothing.
    pub const EMPTY: Self = Self(Cow::Borrowed(b""));

    /// A word that stands in the program.
    #[must_use]
    pub const fn word(word: &'static str) -> Self {
        Self(Cow::Borrowed(word.as_bytes()))
    }
}

impl<'a> Clean<'a> {
    /// Takes the writer's word for it: what is made of numbers, of names in the policy and of words of ours, and of
    /// nothing that came over the wire. `tests/architecture.rs` lists who may, and why.
    #[must_use]
    pub fn vetted(text: impl Into<Cow<'a, [u8]>>) -> Self {
        Self(text.into())
    }

    /// The text. Mostly, but not always, UTF-8: what came over the wire is what it is.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether there is anything to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text for a sink that keeps it.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0.into_owned()
    }

    /// The text as characters, what is not UTF-8 replaced.
    #[must_use]
    pub fn to_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

impl fmt::Display for Clean<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

// One process, one policy, one answer to what may be said: diagnostics, which know no policy, obey it too.
static CURRENT: LazyLock<ArcSwap<Redactor>> = LazyLock::new(ArcSwap::default);

/// Makes `redactor` the one that all functions below ask.
pub fn install(redactor: Redactor) {
    CURRENT.store(Arc::new(redactor));
}

/// The redactor in force.
#[must_use]
pub fn current() -> Arc<Redactor> {
    CURRENT.load_full()
}

/// Any text: secrets are found by how they look. See [`Redactor::text`].
#[must_use]
pub fn text(text: &[u8]) -> Clean<'_> {
    CURRENT.load().text(text)
}

/// An identifier of a call. See [`Redactor::id`].
#[must_use]
pub fn id(id: &[u8]) -> Clean<'_> {
    CURRENT.load().id(id)
}

/// The value of a header. See [`Redactor::header`].
#[must_use]
pub fn header<'a>(name: &str, value: &'a [u8]) -> Clean<'a> {
    CURRENT.load().header(name, value)
}

/// A request target, with or without a query. See [`Redactor::target`].
#[must_use]
pub fn target(target: &[u8]) -> Clean<'_> {
    CURRENT.load().target(target)
}

/// JSON, in place. See [`Redactor::json`].
pub fn json(value: &mut Value) {
    CURRENT.load().json(value);
}

/// JSON as the text of a page: for people with curl as much as for programs.
#[must_use]
pub fn page(mut value: Value) -> Clean<'static> {
    json(&mut value);
    Clean(Cow::Owned(format!("{value:#}\n").into_bytes()))
}

/// Takes secrets out of JSON whatever a policy says: where no policy may let them through.
pub fn always(value: &mut Value) {
    static BUILT_IN: LazyLock<Redactor> = LazyLock::new(Redactor::default);
    BUILT_IN.json(value);
}
