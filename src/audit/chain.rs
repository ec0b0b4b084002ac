//! The chain: how a record is written, and how it is read again.
//!
//! One line, one JSON object, always in this order:
//!
//!     {"seq":N,"time":"..","event":"..", .. ,"prev":"<64 hex>","hash":"<64 hex>"}
//!
//! `prev` is the `hash` of the record before (zeros before the first), and `hash` is the SHA-256 of the line up to the comma
//! before `"hash"`, byte for byte. A checkpoint has `"signature":"<128 hex>"` between the two: Ed25519 over the line up to
//! the comma before `"signature"`. Since `prev` has a fixed length and place, nothing that an event says can be taken for it.

use std::fmt::Write as _;
use std::time::Duration;

use aws_lc_rs::digest;
use serde_json::Value;

use super::event::Event;
use super::key::SigningKey;

/// The word of a checkpoint.
pub const CHECKPOINT: &str = "checkpoint";

const DIGEST_HEX: usize = 64;
const SIGNATURE_HEX: usize = 128;

/// A SHA-256.
pub type Digest = [u8; 32];

/// Where a chain ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The number of the last record; 0: there is none.
    pub seq: u64,
    /// Its hash.
    pub hash: Digest,
}

impl Head {
    /// Adds a record to `out` and moves on to it. A key signs it.
    pub fn write(
        &mut self,
        out: &mut String,
        time: Duration,
        event: &Event,
        key: Option<&SigningKey>,
    ) {
        let begin = out.len();
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "{{\"seq\":{},\"time\":\"{}\",\"event\":\"{}\"",
            self.seq + 1,
            stamp(time),
            event.what
        );
        if let Some(who) = &event.who {
            let _ = write!(out, ",\"who\":{}", Value::from(who.as_str()));
        }
        for (key, value) in &event.fields {
            let _ = write!(out, ",\"{key}\":{value}");
        }
        out.push_str(",\"prev\":\"");
        push_hex(out, &self.hash);
        out.push('"');
        if let Some(key) = key {
            let signature = key.sign(&out.as_bytes()[begin..]);
            out.push_str(",\"signature\":\"");
            push_hex(out, signature.as_ref());
            out.push('"');
        }
        let hash = sha256(&out.as_bytes()[begin..]);
        out.push_str(",\"hash\":\"");
        push_hex(out, &hash);
        out.push_str("\"}\n");
        *self = Self {
            seq: self.seq + 1,
            hash,
        };
    }
}

/// A record as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read<'a> {
    /// Its number.
    pub seq: u64,
    /// What it says the hash before it is.
    pub prev: Digest,
    /// What it says its own hash is.
    pub written: Digest,
    /// What its hash is.
    pub computed: Digest,
    /// What a checkpoint's signature is over, and the signature.
    pub signed: Option<(&'a [u8], [u8; 64])>,
    /// The line up to `prev`, closed so that it is JSON again by adding `}`.
    pub told: &'a str,
}

impl Read<'_> {
    /// The event's word and fields; `None` if they are no JSON.
    pub fn value(&self) -> Option<Value> {
        serde_json::from_str(&format!("{}}}", self.told)).ok()
    }
}

/// Reads one line, without its end; `None` if it is no record.
pub fn read(line: &[u8]) -> Option<Read<'_>> {
    let line = std::str::from_utf8(line).ok()?;
    let body = line.strip_suffix("\"}")?;
    let (body, written) = hex_at_end::<32>(body, ",\"hash\":\"", DIGEST_HEX)?;
    let computed = sha256(body.as_bytes());
    let mut open = body.strip_suffix('"')?;
    let mut signed = None;
    if let Some((before, signature)) = hex_at_end::<64>(open, ",\"signature\":\"", SIGNATURE_HEX) {
        signed = Some((before.as_bytes(), signature));
        open = before.strip_suffix('"')?;
    }
    let (told, prev) = hex_at_end::<32>(open, ",\"prev\":\"", DIGEST_HEX)?;
    let digits = told.strip_prefix("{\"seq\":")?;
    let digits = &digits[..digits.find(',')?];
    let seq: u64 = digits.parse().ok()?;
    // `+1` and `01` are read as 1 too, and are not how it was written.
    (seq.to_string() == digits).then_some(Read {
        seq,
        prev,
        written,
        computed,
        signed,
        told,
    })
}

fn hex_at_end<'a, const N: usize>(
    text: &'a str,
    key: &str,
    digits: usize,
) -> Option<(&'a str, [u8; N])> {
    let at = text.len().checked_sub(digits)?;
    let value = from_hex(text.get(at..)?)?;
    Some((text.get(..at)?.strip_suffix(key)?, value))
}

/// SHA-256 (FIPS 180-4).
pub fn sha256(bytes: &[u8]) -> Digest {
    let hash = digest::digest(&digest::SHA256, bytes);
    let mut out = [0; 32];
    out.copy_from_slice(hash.as_ref());
    out
}

/// Lower-case hex digits.
pub fn push_hex(out: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

/// Lower-case hex digits as text.
pub fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 * bytes.len());
    push_hex(&mut out, bytes);
    out
}

/// The bytes of lower-case hex digits, exactly as many as wanted.
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

/// RFC 3339, UTC, milliseconds.
pub fn stamp(unix: Duration) -> String {
    let millis = i64::try_from(unix.as_millis()).ok();
    millis
        .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok())
        .unwrap_or(jiff::Timestamp::MAX)
        .strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
        .to_string()
}
