//! YAML as a tree in which every key and value knows its place. One parser (serde-saphyr), no typed guesses: scalars keep
//! the text that was written, so that `0755`, `off` and `1e3` are judged by our rules and not by YAML's.

use std::fmt;

use serde::de::Deserialize;
use serde::de::Deserializer;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;
use serde_saphyr::Location;
use serde_saphyr::Spanned;

/// Largest file read, in bytes. A ConfigMap cannot exceed 1 MiB either.
pub(crate) const MAX_BYTES: u64 = 1024 * 1024;
/// Deepest nesting. The deepest policy of the whole grammar needs 7.
pub(crate) const MAX_DEPTH: usize = 32;
/// Most aliases (`*name`) in one file.
const MAX_ALIASES: usize = 500;
/// Most nodes that aliases may replay: what stops an alias bomb.
const MAX_REPLAYED: usize = 20_000;

/// A stretch of one line. Lines and columns count from 1, columns in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Span {
    pub(crate) line: u32,
    pub(crate) column: u32,
    /// One past the last character; equal to `column` where the length is unknown (blocks).
    pub(crate) end: u32,
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    /// Where it is used; for an alias, the `*name`.
    pub(crate) span: Span,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// Nothing was written, or `null`/`~`.
    Null,
    /// Any scalar, as text.
    Scalar(String),
    Seq(Vec<Node>),
    /// In order, duplicates included.
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping and its place.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) span: Span,
}

/// Why a text is not one YAML document.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) why: Why,
    pub(crate) span: Span,
    pub(crate) message: String,
}

/// The kinds of [`Broken`] that have codes of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Syntax,
    Limit,
    Several,
}

/// What the parser hands us before the source text has been consulted.
enum Raw {
    Null,
    Scalar(String),
    Seq(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<RawKey>, Spanned<Raw>)>),
}

/// Parses one document.
pub(crate) fn parse(text: &str) -> Result<Node, Broken> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_aliases: MAX_ALIASES,
            max_documents: 64,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_REPLAYED,
            max_alias_expansions_per_anchor: MAX_ALIASES,
        },
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        non_finite_float_policy: serde_saphyr::NonFiniteFloatPolicy::AsString,
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options) {
        Ok(root) => Ok(settle(root, false, text)),
        Err(error) => Err(broken(&error)),
    }
}

fn broken(error: &serde_saphyr::Error) -> Broken {
    use serde_saphyr::Error as E;
    let mut inner = error.without_snippet();
    while let E::AliasError { error, .. } = inner {
        inner = error.without_snippet();
    }
    let why = match inner {
        E::MultipleDocuments { .. } => Why::Several,
        E::Budget { .. }
        | E::AliasReplayLimitExceeded { .. }
        | E::AliasExpansionLimitExceeded { .. }
        | E::AliasReplayStackDepthExceeded { .. }
        | E::AliasReplayCounterOverflow { .. } => Why::Limit,
        // The parser has a bound of its own on nesting, which it reaches before ours counts.
        _ if inner.to_string().contains("recursion limit") => Why::Limit,
        _ => Why::Syntax,
    };
    // Of an error behind an alias, where it is used.
    let span = error
        .without_snippet()
        .location()
        .or_else(|| inner.location())
        .map_or(
            Span {
                line: 1,
                column: 1,
                end: 1,
            },
            |at| span_of(&at),
        );
    let message = match (why, inner) {
        (
            Why::Limit,
            E::Budget {
                breach: serde_saphyr::budget::BudgetBreach::Depth { .. },
                ..
            },
        ) => {
            format!("nested more than {MAX_DEPTH} levels deep")
        }
        (Why::Limit, other) if other.to_string().contains("recursion limit") => {
            format!("nested more than {MAX_DEPTH} levels deep")
        }
        (Why::Limit, E::Budget { .. }) => {
            "more anchors, aliases or values than a policy can need".to_owned()
        }
        (Why::Limit, _) => format!("aliases that stand for more than {MAX_REPLAYED} values"),
        (_, E::NullIntoString { .. }) => "a key is empty or null".to_owned(),
        _ => {
            let text = inner.to_string();
            text.split(" at line ").next().unwrap_or(&text).to_owned()
        }
    };
    Broken { why, span, message }
}

fn span_of(at: &Location) -> Span {
    let narrow = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let (line, column) = (narrow(at.line()).max(1), narrow(at.column()).max(1));
    Span {
        line,
        column,
        end: column.saturating_add(narrow(at.span().len())),
    }
}

/// The text behind a scalar, exactly as written.
fn written<'a>(at: &Location, text: &'a str) -> Option<&'a str> {
    let start = usize::try_from(at.span().byte_offset()?).ok()?;
    let len = usize::try_from(at.span().byte_len()?).ok()?;
    text.get(start..start.checked_add(len)?)
}

/// Turns the parser's tree into ours. A value behind an alias is shown where it is used; what lies inside such a value, or came
/// by a merge (`<<`), is shown where it is written, because that is the line to change.
fn settle(raw: Spanned<Raw>, inside: bool, text: &str) -> Node {
    let aliased = inside || raw.referenced != raw.defined;
    let span = span_of(if inside {
        &raw.defined
    } else {
        &raw.referenced
    });
    let kind = match raw.value {
        Raw::Null => Kind::Null,
        Raw::Scalar(value) => scalar(value, &raw.defined, text),
        Raw::Seq(items) => Kind::Seq(
            items
                .into_iter()
                .map(|item| settle(item, aliased, text))
                .collect(),
        ),
        Raw::Map(pairs) => Kind::Map(
            pairs
                .into_iter()
                .map(|pair| settle_pair(pair, aliased, text))
                .collect(),
        ),
    };
    Node { kind, span }
}

fn settle_pair(
    (key, value): (Spanned<RawKey>, Spanned<Raw>),
    inside: bool,
    text: &str,
) -> (Key, Node) {
    let merged = inside || key.referenced != key.defined;
    (
        Key {
            text: key.value.0,
            span: span_of(&key.defined),
        },
        settle(value, merged, text),
    )
}

/// The text of a plain scalar as it was written; of a quoted, folded or block scalar, what it stands for.
fn scalar(value: String, at: &Location, text: &str) -> Kind {
    let raw = written(at, text).unwrap_or_default().trim();
    let stands_for_itself =
        !raw.is_empty() && !raw.contains('\n') && !raw.starts_with(['"', '\'', '|', '>']);
    Kind::Scalar(if stands_for_itself {
        raw.to_owned()
    } else {
        value
    })
}

/// A key of any scalar kind, as text.
struct RawKey(String);

impl<'de> Deserialize<'de> for RawKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl Visitor<'_> for KeyVisitor {
            type Value = RawKey;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a plain key")
            }
            fn visit_str<E>(self, v: &str) -> Result<RawKey, E> {
                Ok(RawKey(v.to_owned()))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }
    fn visit_bool<E>(self, v: bool) -> Result<Raw, E> {
        Ok(Raw::Scalar(v.to_string()))
    }
    fn visit_i64<E>(self, v: i64) -> Result<Raw, E> {
        Ok(Raw::Scalar(v.to_string()))
    }
    fn visit_u64<E>(self, v: u64) -> Result<Raw, E> {
        Ok(Raw::Scalar(v.to_string()))
    }
    fn visit_i128<E>(self, v: i128) -> Result<Raw, E> {
        Ok(Raw::Scalar(v.to_string()))
    }
    fn visit_u128<E>(self, v: u128) -> Result<Raw, E> {
        Ok(Raw::Scalar(v.to_string()))
    }
    fn visit_f64<E>(self, v: f64) -> Result<Raw, E> {
        Ok(Raw::Scalar(v.to_string()))
    }
    fn visit_str<E>(self, v: &str) -> Result<Raw, E> {
        Ok(Raw::Scalar(v.to_owned()))
    }
    fn visit_string<E>(self, v: String) -> Result<Raw, E> {
        Ok(Raw::Scalar(v))
    }
    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }
    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw::Seq(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Raw::Map(pairs))
    }
}
