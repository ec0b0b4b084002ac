//! The one registry of the policy language. Decoding, did-you-mean, merging, the JSON Schema, `policy show` and the annotated
//! sample are driven by these tables or tested against them; a key that is not here does not exist.
//!
//! The whole grammar is here, including blocks that later versions enforce: those parse and are checked, and then refused by
//! name (OR040), so that no line of a policy is ever ignored in silence.

pub mod balance;
pub mod bulkhead;
pub mod cache;
pub mod checks;
pub mod credential;
pub mod endpoints;
pub mod fault;
pub mod health;
pub mod hedge;
pub mod hops;
pub mod identity;
pub mod inbound;
pub mod limit;
pub mod mtls;
pub mod originate;
pub mod overload;
pub mod redact;
pub mod redis;
pub mod rooms;
pub mod root;
pub mod upstream;

use crate::kit::units::Unfit;

/// One block of the language.
#[derive(Debug)]
pub struct Table {
    /// As faults call it: `retry`, `a route`.
    pub name: &'static str,
    /// One line for the schema and the documentation.
    pub doc: &'static str,
    /// Which key a bare scalar or list sets: `timeout: 2s` is `timeout: { total: 2s }`.
    pub short: Option<&'static str>,
    /// Whether and how the block can be switched off.
    pub switch: Switch,
    /// In the order in which they are shown.
    pub keys: &'static [Key],
}

/// How a block is enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// Always there; `off` is a fault.
    Always,
    /// Off until written; `{}` enables, `off` disables.
    Present,
    /// Has a `mode` key whose default says whether it is on when nobody mentions it.
    Mode,
}

/// One key of a block.
#[derive(Debug)]
pub struct Key {
    /// As written in the file.
    pub name: &'static str,
    /// What it may hold.
    pub kind: Kind,
    /// The built-in value as it would be written; empty for blocks and for keys without one.
    pub default: &'static str,
    /// One line: meaning, and what the value bounds or enables.
    pub doc: &'static str,
    /// Whether the block makes no sense without it.
    pub required: bool,
    /// `None`: enforced. `Some(words)`: understood but not enforced by this version, except for these values (and `off`).
    pub later: Option<&'static [&'static str]>,
}

/// What a value may be.
#[derive(Debug)]
pub enum Kind {
    /// `off`, `no` or `false`.
    Off,
    /// A span of time with its unit; lowest and highest value, as written.
    Duration(&'static str, &'static str),
    /// Bytes with their unit; lowest and highest value, as written.
    Size(&'static str, &'static str),
    /// A percentage.
    Share {
        /// In per cent.
        min: f64,
        /// In per cent.
        max: f64,
        /// Whether nothing at all is a share too.
        zero: bool,
    },
    /// A bare whole number.
    Count(u64, u64),
    /// `10/s`.
    Rate {
        /// Per second.
        max: f64,
    },
    /// `true` or `false`.
    Flag,
    /// One of these words.
    Words(&'static [&'static str]),
    /// Text that must pass a check.
    Text(&'static Check),
    /// A list of such values, at least so many.
    List(&'static Kind, usize),
    /// A block.
    Block(&'static Table),
    /// A mapping of free names to blocks.
    Named(&'static Table),
    /// Any of these; told apart by shape, then in order.
    Or(&'static [Kind]),
}

/// A check of text, shared by the parser and the schema.
#[derive(Debug)]
pub struct Check {
    /// With an article: `a host name`.
    pub name: &'static str,
    /// An ECMA-262 pattern that every accepted text matches; the parser may be stricter.
    pub pattern: &'static str,
    /// The parser's rule.
    pub test: fn(&str) -> Result<(), Unfit>,
}

impl Key {
    /// A key that this version enforces.
    #[must_use]
    pub const fn new(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        doc: &'static str,
    ) -> Key {
        Key {
            name,
            kind,
            default,
            doc,
            required: false,
            later: None,
        }
    }

    /// The block is a fault without it.
    #[must_use]
    pub const fn required(self) -> Key {
        Key {
            required: true,
            ..self
        }
    }

    /// Understood, not enforced, except for these values.
    #[must_use]
    pub const fn later(self, accepted: &'static [&'static str]) -> Key {
        Key {
            later: Some(accepted),
            ..self
        }
    }

    /// The table behind a key that merges field by field.
    #[must_use]
    pub fn block(&self) -> Option<&'static Table> {
        match self.kind {
            Kind::Block(table) => Some(table),
            _ => None,
        }
    }
}

impl Table {
    /// The key of that name.
    #[must_use]
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

impl Kind {
    /// Whether a text that is refused in this place may be a secret, written where only its place belongs.
    #[must_use]
    pub fn may_hold_secret(&self) -> bool {
        let Kind::Text(check) = self else {
            return false;
        };
        let places = [
            &checks::SECRET,
            &credential::TOKEN_URL,
            &redact::SECRET_FILE,
        ];
        places.iter().any(|place| std::ptr::eq(*place, *check))
    }

    /// How a fault describes what was expected.
    #[must_use]
    pub fn expected(&self) -> String {
        match self {
            Kind::Off => "`off`".to_owned(),
            Kind::Duration(..) => "a duration such as `2s`".to_owned(),
            Kind::Size(..) => "a size such as `64KiB`".to_owned(),
            Kind::Share { .. } => "a share such as `20%`".to_owned(),
            Kind::Count(..) => "a count".to_owned(),
            Kind::Rate { .. } => "a rate such as `10/s`".to_owned(),
            Kind::Flag => "`true` or `false`".to_owned(),
            Kind::Words(words) => words_or(words),
            Kind::Text(check) => check.name.to_owned(),
            Kind::List(of, _) => format!("a list of {}", plural(of)),
            Kind::Block(_) => "a block `{ ... }`".to_owned(),
            Kind::Named(_) => "a mapping of names to blocks".to_owned(),
            Kind::Or(kinds) => {
                let all: Vec<String> = kinds.iter().map(Kind::expected).collect();
                join_or(&all)
            }
        }
    }
}

fn plural(kind: &Kind) -> String {
    match kind {
        Kind::Text(check) => {
            let bare = check
                .name
                .trim_start_matches("an ")
                .trim_start_matches("a ");
            format!("{bare}s")
        }
        Kind::Block(table) => format!(
            "{}s",
            table
                .name
                .trim_start_matches("an ")
                .trim_start_matches("a ")
        ),
        other => other.expected(),
    }
}

fn words_or(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    join_or(&quoted)
}

/// `a`, `a or b`, `a, b or c`.
pub(crate) fn join_or(all: &[String]) -> String {
    match all {
        [] => String::new(),
        [one] => one.clone(),
        [head @ .., last] => format!("{} or {last}", head.join(", ")),
    }
}
