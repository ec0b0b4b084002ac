//! Typed values of the language, one scalar at a time: text in, value or what is wrong with it out.

use std::fmt;
use std::time::Duration;

use super::decode::Block;
use super::fault::Code;
use super::fault::Place;
use super::fault::code;
use super::spec::Kind;
use super::suggest;
use crate::kit::units;
use crate::kit::units::Unfit;

/// A value after its kind was checked.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// A key without a built-in value that nobody set.
    Unset,
    Off,
    Duration(Duration),
    Size(u64),
    /// Between 0 and 1.
    Share(f64),
    Count(u64),
    /// Per second.
    Rate(f64),
    Flag(bool),
    Word(&'static str),
    Text(String),
    List(Vec<(Value, Place)>),
    Block(Block),
    Named(Vec<(String, Place, Block)>),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Unset => f.write_str("-"),
            Value::Off => f.write_str("off"),
            Value::Duration(value) => f.write_str(&units::format_duration(*value)),
            Value::Size(value) => f.write_str(&units::format_size(*value)),
            Value::Share(value) => f.write_str(&units::format_share(*value)),
            Value::Count(value) => write!(f, "{value}"),
            Value::Rate(value) => f.write_str(&units::format_rate(*value)),
            Value::Flag(value) => write!(f, "{value}"),
            Value::Word(word) => f.write_str(word),
            Value::Text(text) => f.write_str(text),
            Value::List(items) => {
                let items: Vec<String> = items.iter().map(|(item, _)| item.to_string()).collect();
                write!(f, "[{}]", items.join(", "))
            }
            Value::Block(block) => {
                if let Some(short) = block.as_short() {
                    return short.fmt(f);
                }
                let entries: Vec<String> = block
                    .entries
                    .iter()
                    .map(|entry| format!("{}: {}", entry.key.name, entry.value))
                    .collect();
                write!(f, "{{ {} }}", entries.join(", "))
            }
            Value::Named(all) => {
                let one = |(name, _, block): &(String, Place, Block)| {
                    format!("{name}: {}", Value::Block(block.clone()))
                };
                let all: Vec<String> = all.iter().map(one).collect();
                write!(f, "{{ {} }}", all.join(", "))
            }
        }
    }
}

/// A fault without its place.
pub(crate) type Problem = (Code, Unfit);

/// The three ways to say off. `off` and `no` are booleans in YAML 1.1, text in 1.2, and the same here.
pub(crate) fn is_off(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "off" | "no" | "false")
}

/// What YAML 1.1 reads as true.
pub(crate) fn is_on(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "on" | "yes" | "true")
}

/// Reads one scalar.
pub(crate) fn scalar(kind: &'static Kind, text: &str) -> Result<Value, Problem> {
    let unit = |fault: Unfit| {
        (
            if text.trim_start().starts_with('-') {
                code::RANGE
            } else {
                code::UNIT
            },
            fault,
        )
    };
    match kind {
        Kind::Off if is_off(text) => Ok(Value::Off),
        Kind::Off => Err((code::WORD, Unfit::new(format!("`{text}` is not `off`")))),
        Kind::Duration(low, high) => {
            let parse = units::parse_duration;
            let value = parse(text).map_err(unit)?;
            within(text, value, parse(low), parse(high), (low, high)).map(Value::Duration)
        }
        Kind::Size(low, high) => {
            let parse = units::parse_size;
            let value = parse(text).map_err(unit)?;
            within(text, value, parse(low), parse(high), (low, high)).map(Value::Size)
        }
        Kind::Share { min, max, zero } => share(text, *min, *max, *zero),
        Kind::Count(low, high) => count(text, *low, *high),
        Kind::Rate { max } => {
            let value = units::parse_rate(text).map_err(unit)?;
            if value > *max {
                return Err((
                    code::RANGE,
                    Unfit::new(format!("`{text}` is out of range: at most {max}/s")),
                ));
            }
            Ok(Value::Rate(value))
        }
        Kind::Flag if is_on(text) => Ok(Value::Flag(true)),
        Kind::Flag if is_off(text) => Ok(Value::Flag(false)),
        Kind::Flag => Err((
            code::WORD,
            Unfit::new(format!("`{text}` is neither `true` nor `false`")),
        )),
        Kind::Words(words) => word(text, words),
        Kind::Text(check) => (check.test)(text)
            .map(|()| Value::Text(text.to_owned()))
            .map_err(|fault| (code::TEXT, fault)),
        Kind::Or(kinds) => either(kinds, text),
        Kind::List(of, _) => {
            let hint = format!("write `[{text}]`");
            let fault = Unfit::new(format!("expected {}, found `{text}`", kind.expected()));
            Err((
                code::SHAPE,
                if scalar(of, text).is_ok() {
                    fault.hint(hint)
                } else {
                    fault
                },
            ))
        }
        Kind::Block(_) | Kind::Named(_) => Err((
            code::SHAPE,
            Unfit::new(format!("expected {}, found `{text}`", kind.expected())),
        )),
    }
}

fn within<T: PartialOrd>(
    text: &str,
    value: T,
    low: Result<T, Unfit>,
    high: Result<T, Unfit>,
    bounds: (&str, &str),
) -> Result<T, Problem> {
    let inside = low.is_ok_and(|low| low <= value) && high.is_ok_and(|high| value <= high);
    if inside {
        Ok(value)
    } else {
        Err((code::RANGE, out_of_range(text, bounds.0, bounds.1)))
    }
}

fn out_of_range(text: &str, low: impl fmt::Display, high: impl fmt::Display) -> Unfit {
    Unfit::new(format!("`{text}` is out of range: {low} to {high}"))
}

fn share(text: &str, min: f64, max: f64, zero: bool) -> Result<Value, Problem> {
    let over = text
        .trim()
        .strip_suffix('%')
        .and_then(|number| number.parse::<f64>().ok());
    if over.is_some_and(|value| value > max) {
        return Err((
            code::RANGE,
            out_of_range(text, format!("{min}%"), format!("{max}%")),
        ));
    }
    if text.trim_start().starts_with('-') {
        return Err((
            code::RANGE,
            out_of_range(text, format!("{min}%"), format!("{max}%")),
        ));
    }
    let value = units::parse_percent(text).map_err(|fault| (code::UNIT, fault))?;
    if value == 0.0 && !zero {
        return Err((
            code::RANGE,
            Unfit::new(format!("`{text}` is out of range: above 0%")).hint("`off` switches it off"),
        ));
    }
    if value * 100.0 < min {
        return Err((
            code::RANGE,
            out_of_range(text, format!("{min}%"), format!("{max}%")),
        ));
    }
    Ok(Value::Share(value))
}

fn count(text: &str, low: u64, high: u64) -> Result<Value, Problem> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if digits && text.len() > 1 && text.starts_with('0') {
        let plain = text.trim_start_matches('0');
        let plain = if plain.is_empty() { "0" } else { plain };
        return Err((
            code::NUMBER,
            Unfit::new(format!(
                "`{text}` has a leading zero: octal in YAML 1.1, decimal in 1.2"
            ))
            .hint(format!("write `{plain}`")),
        ));
    }
    let odd = text.contains('_')
        || text.starts_with("0x")
        || text.starts_with("0o")
        || text.starts_with("0b");
    if odd && text.starts_with(|c: char| c.is_ascii_digit()) {
        return Err((
            code::NUMBER,
            Unfit::new(format!(
                "`{text}` is a number in some YAML versions and text in others"
            ))
            .hint("write plain decimal digits"),
        ));
    }
    if let Some(rest) = text.strip_prefix('-')
        && rest.bytes().all(|b| b.is_ascii_digit())
        && !rest.is_empty()
    {
        return Err((code::RANGE, out_of_range(text, low, high)));
    }
    if !digits {
        return Err((
            code::UNIT,
            Unfit::new(format!("`{text}` is not a count")).hint("a count is a bare whole number"),
        ));
    }
    match text.parse::<u64>() {
        Ok(value) if (low..=high).contains(&value) => Ok(Value::Count(value)),
        _ => Err((code::RANGE, out_of_range(text, low, high))),
    }
}

fn word(text: &str, words: &'static [&'static str]) -> Result<Value, Problem> {
    if let Some(word) = words
        .iter()
        .find(|word| **word == text || (**word == "off" && is_off(text)))
    {
        return Ok(Value::Word(word));
    }
    let fault = Unfit::new(format!("unknown word `{text}`"));
    let hint = match suggest::nearest(text, words.iter().copied()) {
        Some(guess) => format!("did you mean `{guess}`?"),
        None => format!("known are {}", known(words)),
    };
    Err((code::WORD, fault.hint(hint)))
}

fn known(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
}

/// The first alternative that fits, or the fault of the one that was most likely meant.
fn either(kinds: &'static [Kind], text: &str) -> Result<Value, Problem> {
    let mut meant: Option<Problem> = None;
    let mut words: Vec<&'static str> = Vec::new();
    for kind in kinds {
        match kind {
            Kind::Off => words.push("off"),
            Kind::Words(more) => words.extend(*more),
            Kind::Block(_) | Kind::Named(_) | Kind::List(..) => continue,
            _ => {}
        }
        match scalar(kind, text) {
            Ok(value) => return Ok(value),
            Err(problem) if !matches!(kind, Kind::Off | Kind::Words(_)) => meant = Some(problem),
            Err(_) => {}
        }
    }
    let guess = suggest::nearest(text, words.iter().copied());
    match (meant, guess) {
        // Anything with a digit in it was meant as a value, not as a word.
        (Some(problem), None) => Err(problem),
        (Some(problem), Some(_)) if text.contains(|c: char| c.is_ascii_digit()) => Err(problem),
        (_, Some(guess)) => Err((
            code::WORD,
            Unfit::new(format!("unknown word `{text}`")).hint(format!("did you mean `{guess}`?")),
        )),
        (None, None) => Err((
            code::WORD,
            Unfit::new(format!("unknown word `{text}`"))
                .hint(format!("known are {}", known(&words))),
        )),
    }
}

/// Reads the built-in value of a key from its text in the registry.
pub(crate) fn built_in(kind: &'static Kind, text: &str) -> Value {
    if text.is_empty() {
        return Value::Unset;
    }
    if let Some(inner) = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        let of = match kind {
            Kind::List(of, _) => Some(*of),
            Kind::Or(kinds) => kinds.iter().find_map(|kind| match kind {
                Kind::List(of, _) => Some(*of),
                _ => None,
            }),
            _ => None,
        };
        let items = inner
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty());
        let items = items.filter_map(|item| Some((scalar(of?, item).ok()?, Place::default())));
        return Value::List(items.collect());
    }
    scalar(kind, text).unwrap_or(Value::Unset)
}
