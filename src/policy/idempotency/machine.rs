//! Which calls get a key, and what one looks like.
//!
//! | method | values of the header | decision |
//! |---|---|---|
//! | may be repeated by itself, or CONNECT | any | leave: it needs none |
//! | any other | none | inject a key; the call may be repeated |
//! | any other | one that is not empty | keep it; the call may be repeated |
//! | any other | one that is empty, or several | leave: nobody can tell which key the upstream will read |

/// What to do with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It stays as it is, and may not be repeated beyond what its method allows.
    Leave,
    /// It gets a key.
    Inject,
    /// It has one.
    Keep,
}

/// Judges a call by the table above. `needs_key`: its method alone does not allow a repetition.
pub fn judge<'a>(needs_key: bool, mut values: impl Iterator<Item = &'a [u8]>) -> Decision {
    if !needs_key {
        return Decision::Leave;
    }
    match (values.next(), values.next()) {
        (None, _) => Decision::Inject,
        (Some(value), None) if !value.trim_ascii().is_empty() => Decision::Keep,
        _ => Decision::Leave,
    }
}

/// A key: a UUIDv4 (RFC 9562 section 5.4) without quotes. The draft makes the field a structured string, in quotes; every
/// service that reads it today takes the bare text, and some compare it byte by byte. All chance and no time in it, so that
/// a key neither tells when it was made nor can be guessed.
#[must_use]
pub fn key(high: u64, low: u64) -> [u8; 36] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let high = (high & !0xf000) | 0x4000;
    let low = (low & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000;
    let bytes = ((u128::from(high) << 64) | u128::from(low)).to_be_bytes();
    let mut text = [b'-'; 36];
    let places = (0..36).filter(|at| !matches!(at, 8 | 13 | 18 | 23));
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    for (at, digit) in places.zip(digits) {
        text[at] = DIGITS[usize::from(digit)];
    }
    text
}
