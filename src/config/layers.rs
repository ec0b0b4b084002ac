//! Precedence: built-in < defaults < profile < upstream < route, field by field, each value with its origin.
//!
//! A block is switched like any other field: writing it, even as `{}`, enables what a layer below had off; `off` keeps the
//! fields below it, so that a later layer that enables it again gets them back.

use std::cmp::Ordering;
use std::time::Duration;

use super::decode::Block;
use super::decode::Entry;
use super::fault::Place;
use super::spec::Key;
use super::spec::Kind;
use super::spec::Switch;
use super::spec::Table;
use super::value;
use super::value::Value;
use crate::kit::fields::Fields;

/// One layer's say about a block.
#[derive(Clone, Debug)]
pub(crate) struct Layer<'a> {
    /// `defaults`, `profile third-party`, `upstreams[0].routes[1]`; with the file's name before it if there are several.
    pub(crate) label: &'a str,
    /// 1 is the lowest; 0 is built-in.
    pub(crate) rank: usize,
    pub(crate) say: Say<'a>,
}

/// What it says.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Say<'a> {
    Off(Place),
    On(&'a Block, Place),
}

/// Where a value comes from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    /// As `policy show` prints it: `builtin`, `defaults:2`.
    pub(crate) text: String,
    /// The layer's rank; 0 is built-in.
    pub(crate) rank: usize,
    /// The value's place; `None` for built-in.
    pub(crate) place: Option<Place>,
}

/// A block with all layers merged.
#[derive(Clone, Debug)]
pub(crate) struct Merged {
    pub(crate) on: bool,
    /// Of `on`.
    pub(crate) origin: Origin,
    pub(crate) fields: Vec<Field>,
}

/// One key of a merged block.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) key: &'static Key,
    pub(crate) held: Held,
}

#[derive(Clone, Debug)]
pub(crate) enum Held {
    Value(Value, Origin),
    Block(Merged),
}

fn builtin() -> Origin {
    Origin {
        text: "builtin".to_owned(),
        rank: 0,
        place: None,
    }
}

fn origin(layer: &Layer<'_>, line: Place, value: Place) -> Origin {
    Origin {
        text: format!("{}:{}", layer.label, line.span.line),
        rank: layer.rank,
        place: Some(value),
    }
}

/// Merges the layers, lowest first.
pub(crate) fn merge(table: &'static Table, layers: &[Layer<'_>]) -> Merged {
    let (on, on_origin) = switched(table, layers);
    let mut fields: Vec<Field> = table
        .keys
        .iter()
        .map(|key| Field {
            key,
            held: field(key, layers, on, &on_origin),
        })
        .collect();
    for (block, one, other) in EITHER {
        if table.name == *block {
            keep_the_later(&mut fields, one, other);
        }
    }
    Merged {
        on,
        origin: on_origin,
        fields,
    }
}

/// Two ways to say one thing, by the block that has them: what a layer says in one way replaces what a layer below it said
/// in the other. Both in one layer are left for a lint.
const EITHER: &[(&str, &str, &str)] = &[("limit", "rps", "rate")];

fn keep_the_later(fields: &mut [Field], one: &str, other: &str) {
    let rank = |name: &str| {
        let field = fields.iter().find(|field| field.key.name == name)?;
        match &field.held {
            Held::Value(_, origin) => Some(origin.rank),
            Held::Block(_) => None,
        }
    };
    let (Some(a), Some(b)) = (rank(one), rank(other)) else {
        return;
    };
    let earlier = match a.cmp(&b) {
        Ordering::Less => one,
        Ordering::Greater => other,
        Ordering::Equal => return,
    };
    for field in fields.iter_mut().filter(|field| field.key.name == earlier) {
        field.held = Held::Value(Value::Unset, builtin());
    }
}

fn entries<'a>(
    key: &'static Key,
    layers: &[Layer<'a>],
) -> impl DoubleEndedIterator<Item = (Layer<'a>, &'a Entry)> {
    let found: Vec<_> = layers
        .iter()
        .filter_map(|layer| match layer.say {
            Say::On(block, _) => block.entry(key.name).map(|entry| (layer.clone(), entry)),
            Say::Off(_) => None,
        })
        .collect();
    found.into_iter()
}

fn field(key: &'static Key, layers: &[Layer<'_>], on: bool, switch: &Origin) -> Held {
    if let Some(table) = key.block() {
        let inside: Vec<Layer<'_>> = entries(key, layers)
            .filter_map(|(layer, entry)| {
                let say = match &entry.value {
                    Value::Off => Say::Off(entry.key_at),
                    Value::Block(block) => Say::On(block, entry.key_at),
                    _ => return None,
                };
                Some(Layer { say, ..layer })
            })
            .collect();
        return Held::Block(merge(table, &inside));
    }
    if key.name == "mode" {
        return Held::Value(mode(key, layers, on), switch.clone());
    }
    match entries(key, layers).next_back() {
        Some((layer, entry)) => {
            Held::Value(entry.value.clone(), origin(&layer, entry.key_at, entry.at))
        }
        None => Held::Value(value::built_in(&key.kind, key.default), builtin()),
    }
}

/// The mode that the last layer with one wrote, passing over `off` where the block was enabled again.
fn mode(key: &'static Key, layers: &[Layer<'_>], on: bool) -> Value {
    if !on {
        return Value::Word("off");
    }
    let written = entries(key, layers)
        .rev()
        .find_map(|(_, entry)| match &entry.value {
            Value::Word(word) if *word != "off" => Some(Value::Word(word)),
            _ => None,
        });
    let enabled = match key.kind {
        Kind::Words(words) => words.first().copied().unwrap_or("enforce"),
        _ => "enforce",
    };
    written.unwrap_or(Value::Word(enabled))
}

/// Whether the block is on after all layers, and who said so last.
fn switched(table: &'static Table, layers: &[Layer<'_>]) -> (bool, Origin) {
    let mut on = match table.switch {
        Switch::Always => true,
        Switch::Present => false,
        Switch::Mode => table.key("mode").is_some_and(|key| key.default != "off"),
    };
    let mut last = builtin();
    for layer in layers {
        match layer.say {
            Say::Off(place) => (on, last) = (false, origin(layer, place, place)),
            Say::On(block, place) => match block.entry("mode") {
                Some(mode) => {
                    on = !matches!(mode.value, Value::Word("off"));
                    last = origin(layer, mode.key_at, mode.at);
                }
                None if !on => (on, last) = (true, origin(layer, place, place)),
                None => {}
            },
        }
    }
    (on, last)
}

impl Merged {
    pub(crate) fn held(&self, key: &str) -> Option<&Held> {
        self.fields
            .iter()
            .find(|field| field.key.name == key)
            .map(|field| &field.held)
    }

    /// The value of a key that is not a block.
    pub(crate) fn value(&self, key: &str) -> Option<(&Value, &Origin)> {
        match self.held(key)? {
            Held::Value(value, origin) => Some((value, origin)),
            Held::Block(_) => None,
        }
    }

    /// A block inside this one, on or off.
    pub(crate) fn inside(&self, key: &str) -> Option<&Merged> {
        match self.held(key)? {
            Held::Block(block) => Some(block),
            Held::Value(..) => None,
        }
    }

    /// The place of a key's value, if a file wrote it.
    pub(crate) fn place(&self, key: &str) -> Option<Place> {
        self.value(key).and_then(|(_, origin)| origin.place)
    }

    /// The place of a key's value, if a file wrote it and no later layer than that wrote `other`: of two values at odds, the
    /// one that came last is the one to speak about.
    pub(crate) fn place_over(&self, key: &str, other: Option<&Origin>) -> Option<Place> {
        let (_, origin) = self.value(key)?;
        origin
            .place
            .filter(|_| other.is_none_or(|other| other.rank <= origin.rank))
    }

    /// Whether a layer of this rank wrote anything in here but `mode`.
    pub(crate) fn written_by(&self, rank: usize) -> bool {
        self.fields
            .iter()
            .filter(|field| field.key.name != "mode")
            .any(|field| match &field.held {
                Held::Value(_, origin) => origin.rank == rank,
                Held::Block(block) => block.origin.rank == rank || block.written_by(rank),
            })
    }
}

impl Fields for Merged {
    fn duration(&self, key: &str) -> Option<Duration> {
        match self.value(key)?.0 {
            Value::Duration(value) => Some(*value),
            _ => None,
        }
    }
    fn size(&self, key: &str) -> Option<u64> {
        match self.value(key)?.0 {
            Value::Size(value) => Some(*value),
            _ => None,
        }
    }
    fn share(&self, key: &str) -> Option<f64> {
        match self.value(key)?.0 {
            Value::Share(value) => Some(*value),
            _ => None,
        }
    }
    fn rate(&self, key: &str) -> Option<f64> {
        match self.value(key)?.0 {
            Value::Rate(value) => Some(*value),
            _ => None,
        }
    }
    fn count(&self, key: &str) -> Option<u32> {
        match self.value(key)?.0 {
            Value::Count(value) => u32::try_from(*value).ok(),
            _ => None,
        }
    }
    fn flag(&self, key: &str) -> Option<bool> {
        match self.value(key)?.0 {
            Value::Flag(value) => Some(*value),
            _ => None,
        }
    }
    fn word(&self, key: &str) -> Option<&str> {
        match self.value(key)?.0 {
            Value::Word(word) => Some(word),
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
    fn list(&self, key: &str) -> Option<Vec<&str>> {
        let Value::List(items) = self.value(key)?.0 else {
            return None;
        };
        let texts = items.iter().filter_map(|(item, _)| match item {
            Value::Text(text) => Some(text.as_str()),
            Value::Word(word) => Some(*word),
            _ => None,
        });
        Some(texts.collect())
    }
    fn block(&self, key: &str) -> Option<&Self> {
        self.inside(key).filter(|block| block.on)
    }
}
