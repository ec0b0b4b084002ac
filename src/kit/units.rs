//! Durations, sizes, shares and rates as people write them, and back.
//!
//! Every parser here says what is wrong and, where it can be guessed, what was meant. Every printer writes a text that
//! its parser reads back as the same value, with the largest unit that divides it: `5m`, not `300000ms`.

use std::fmt;
use std::time::Duration;

/// Why a text is not the value it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// What is wrong, one sentence without a full stop.
    pub message: String,
    /// What to write instead, if it can be guessed.
    pub hint: Option<String>,
}

impl Unfit {
    /// A fault with no guess.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }

    /// The same fault with what to write instead.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Unfit {}

/// The longest duration that can be written. Far beyond any use, and near enough that adding it to the clock is safe.
pub const DURATION_MAX: Duration = Duration::from_secs(3650 * 86_400);

const DURATIONS: [(&str, u64); 5] = [
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

const DURATION_SLIPS: [(&str, &str); 20] = [
    ("S", "s"),
    ("sec", "s"),
    ("secs", "s"),
    ("second", "s"),
    ("seconds", "s"),
    ("MS", "ms"),
    ("msec", "ms"),
    ("millis", "ms"),
    ("milliseconds", "ms"),
    ("min", "m"),
    ("mins", "m"),
    ("minute", "m"),
    ("minutes", "m"),
    ("M", "m"),
    ("H", "h"),
    ("hr", "h"),
    ("hour", "h"),
    ("hours", "h"),
    ("day", "d"),
    ("days", "d"),
];

const SIZES: [(&str, u64); 7] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

const SIZE_SLIPS: [(&str, &str); 15] = [
    ("b", "B"),
    ("bytes", "B"),
    ("byte", "B"),
    ("K", "KiB"),
    ("k", "KiB"),
    ("KB", "KiB"),
    ("kb", "KiB"),
    ("Ki", "KiB"),
    ("kib", "KiB"),
    ("M", "MiB"),
    ("m", "MiB"),
    ("mb", "MiB"),
    ("Mi", "MiB"),
    ("mib", "MiB"),
    ("G", "GiB"),
];

/// Parses `250ms`, `2s`, `1.5m`, `1h`, `7d`: one number, one unit.
///
/// # Errors
/// If the text is not a number with a known unit, is finer than a nanosecond, or is above [`DURATION_MAX`].
pub fn parse_duration(text: &str) -> Result<Duration, Unfit> {
    const WHAT: &str = "a duration";
    let text = text.trim();
    let (number, unit) = split(text, WHAT, "5s")?;
    if unit.is_empty() {
        return Err(no_unit(WHAT, number, &format!("{number}s")));
    }
    if unit.starts_with(|c: char| c.is_ascii_alphabetic())
        && unit.contains(|c: char| c.is_ascii_digit())
    {
        let message = format!("`{text}` has more than one unit");
        return Err(Unfit::new(message).hint("write one number and one unit, such as `90m`"));
    }
    let scale = scale(number, unit, WHAT, &DURATIONS, &DURATION_SLIPS)?;
    let too_long = || {
        Unfit::new(format!(
            "`{text}` is longer than any duration may be (3650d)"
        ))
    };
    let nanos = exact(number, u128::from(scale)).map_err(|fault| match fault {
        Inexact::TooFine => Unfit::new(format!("`{text}` is finer than a nanosecond")),
        Inexact::TooBig => too_long(),
    })?;
    if nanos > DURATION_MAX.as_nanos() {
        return Err(too_long());
    }
    let nanos = u64::try_from(nanos).map_err(|_| too_long())?;
    Ok(Duration::from_nanos(nanos))
}

/// Prints a duration with the largest unit that divides it; what no unit divides is printed in decimal milliseconds.
#[must_use]
pub fn format_duration(value: Duration) -> String {
    let nanos = value.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    for (unit, scale) in DURATIONS.iter().rev() {
        if nanos.is_multiple_of(u128::from(*scale)) {
            return format!("{}{unit}", nanos / u128::from(*scale));
        }
    }
    let text = format!("{}.{:06}", nanos / 1_000_000, nanos % 1_000_000);
    format!("{}ms", text.trim_end_matches('0'))
}

/// Parses `512B`, `64KiB`, `1.5MiB`, `1GiB`, `10kB`, `1MB`, `1GB` into bytes.
///
/// # Errors
/// If the text is not a number with a known unit, is not a whole number of bytes, or does not fit 64 bits.
pub fn parse_size(text: &str) -> Result<u64, Unfit> {
    const WHAT: &str = "a size";
    let text = text.trim();
    let (number, unit) = split(text, WHAT, "64KiB")?;
    if unit.is_empty() {
        return Err(no_unit(WHAT, number, &format!("{number}KiB")));
    }
    let scale = scale(number, unit, WHAT, &SIZES, &SIZE_SLIPS)?;
    let bytes = exact(number, u128::from(scale)).map_err(|fault| match fault {
        Inexact::TooFine => Unfit::new(format!("`{text}` is not a whole number of bytes")),
        Inexact::TooBig => Unfit::new(format!("`{text}` is larger than any size may be")),
    })?;
    u64::try_from(bytes).map_err(|_| Unfit::new(format!("`{text}` is larger than any size may be")))
}

/// Prints a size with the largest unit that divides it, binary ones first.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    const ORDER: [(&str, u64); 6] = [
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("kB", 1_000),
    ];
    for (unit, scale) in ORDER {
        if bytes != 0 && bytes.is_multiple_of(scale) {
            return format!("{}{unit}", bytes / scale);
        }
    }
    format!("{bytes}B")
}

/// Parses `20%` into 0.2. Between 0% and 100%.
///
/// # Errors
/// If the `%` is missing, or the value lies outside 0% to 100%.
pub fn parse_share(text: &str) -> Result<f64, Unfit> {
    let share = parse_percent(text)?;
    if share > 1.0 {
        return Err(Unfit::new(format!("`{}` is more than 100%", text.trim())));
    }
    Ok(share)
}

/// [`parse_share`] of what may be more than the whole: `125%` is 1.25.
///
/// # Errors
/// If the text is not a number and `%`.
pub fn parse_percent(text: &str) -> Result<f64, Unfit> {
    const WHAT: &str = "a share";
    let text = text.trim();
    let (number, unit) = split(text, WHAT, "20%")?;
    let value: f64 = number
        .parse()
        .map_err(|_| Unfit::new(format!("`{number}` is not a number")))?;
    match unit {
        "%" => {}
        "" => {
            // 0.2 and 20 are both read as 20 %; nobody who writes 0.5 for a share means half a percent.
            let guess = if value <= 1.0 && number.contains('.') {
                format_share(value)
            } else {
                format!("{number}%")
            };
            return Err(no_unit(WHAT, number, &guess));
        }
        _ => {
            let message = format!("unknown unit `{unit}` in `{text}`: {WHAT} carries `%`");
            return Err(Unfit::new(message).hint(format!("did you mean `{number}%`?")));
        }
    }
    Ok(value / 100.0)
}

/// Prints a share in percent, to a millionth of a percent.
#[must_use]
pub fn format_share(share: f64) -> String {
    format!("{}%", decimal(share * 100.0))
}

const RATES: [(&str, f64); 3] = [("s", 1.0), ("m", 60.0), ("h", 3600.0)];

/// Parses `10/s`, `600/m`, `5/h` into a number per second.
///
/// # Errors
/// If the text is not a number, a slash and one of `s`, `m`, `h`.
pub fn parse_rate(text: &str) -> Result<f64, Unfit> {
    const WHAT: &str = "a rate";
    let text = text.trim();
    let (number, rest) = split(text, WHAT, "10/s")?;
    let value: f64 = number
        .parse()
        .map_err(|_| Unfit::new(format!("`{number}` is not a number")))?;
    if rest.is_empty() {
        return Err(no_unit(WHAT, number, &format!("{number}/s")));
    }
    let known = rest.strip_prefix('/').map(str::trim_start);
    if let Some((_, seconds)) = RATES.iter().find(|(unit, _)| known == Some(unit)) {
        return Ok(value / seconds);
    }
    let guess = match rest.trim_start_matches(['/', 'p']).chars().next() {
        Some('m' | 'M') => "m",
        Some('h' | 'H') => "h",
        _ => "s",
    };
    let message = format!("unknown unit `{rest}` in `{text}`: {WHAT} carries `/s`, `/m` or `/h`");
    Err(Unfit::new(message).hint(format!("did you mean `{number}/{guess}`?")))
}

/// Prints a rate per second if that is short, else per minute or hour.
#[must_use]
pub fn format_rate(per_second: f64) -> String {
    for (unit, seconds) in RATES {
        let text = decimal(per_second * seconds);
        let back = text.parse::<f64>().unwrap_or(f64::NAN) / seconds;
        if text.len() <= 9 && (back - per_second).abs() <= per_second.abs() * 1e-12 {
            return format!("{text}/{unit}");
        }
    }
    // The shortest text that reads back as the same f64.
    format!("{per_second}/s")
}

// Splits a number from its unit, and refuses what does not begin with a plain number.
fn split<'a>(text: &'a str, what: &str, example: &str) -> Result<(&'a str, &'a str), Unfit> {
    let such_as = || format!("write it such as `{example}`");
    if text.is_empty() {
        return Err(Unfit::new(format!("{what} is missing")).hint(such_as()));
    }
    if text.starts_with('-') {
        return Err(Unfit::new(format!("`{text}` is negative: {what} is not")));
    }
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let whole = number.split('.').next().unwrap_or_default();
    let points = number.bytes().filter(|b| *b == b'.').count();
    if whole.is_empty() || points > 1 || number.ends_with('.') {
        return Err(Unfit::new(format!("`{text}` is not {what}")).hint(such_as()));
    }
    Ok((number, unit.trim_start()))
}

fn no_unit(what: &str, number: &str, guess: &str) -> Unfit {
    Unfit::new(format!("`{number}` has no unit: {what} carries one"))
        .hint(format!("did you mean `{guess}`?"))
}

fn scale(
    number: &str,
    unit: &str,
    what: &str,
    units: &[(&str, u64)],
    slips: &[(&str, &str)],
) -> Result<u64, Unfit> {
    if let Some((_, scale)) = units.iter().find(|(known, _)| *known == unit) {
        return Ok(*scale);
    }
    let names: Vec<&str> = units.iter().map(|(known, _)| *known).collect();
    let (last, first) = names.split_last().expect("a table of units is never empty");
    let fault = Unfit::new(format!(
        "unknown unit `{unit}`: {what} carries {} or {last}",
        first.join(", ")
    ));
    Err(match slips.iter().find(|(slip, _)| *slip == unit) {
        Some((_, meant)) => fault.hint(format!("did you mean `{number}{meant}`?")),
        None => fault,
    })
}

enum Inexact {
    TooFine,
    TooBig,
}

// Decimal arithmetic on integers: through f64, `1.1s` would be a nanosecond short of what was written.
fn exact(number: &str, scale: u128) -> Result<u128, Inexact> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let part = part.trim_end_matches('0');
    let whole = whole.parse::<u64>().map_err(|_| Inexact::TooBig)?;
    let whole = u128::from(whole)
        .checked_mul(scale)
        .ok_or(Inexact::TooBig)?;
    if part.is_empty() {
        return Ok(whole);
    }
    if part.len() > 18 {
        return Err(Inexact::TooFine);
    }
    let digits = part.parse::<u64>().map_err(|_| Inexact::TooFine)?;
    let divisor = 10u128.pow(part.len() as u32);
    let scaled = u128::from(digits) * scale;
    if !scaled.is_multiple_of(divisor) {
        return Err(Inexact::TooFine);
    }
    Ok(whole + scaled / divisor)
}

fn decimal(value: f64) -> String {
    let text = format!("{value:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    text.to_owned()
}
