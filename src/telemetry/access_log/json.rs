//! JSON strings from whatever bytes arrive.

use std::io::Write as _;
use std::net::SocketAddr;

use itoa::Buffer;

use crate::redact::Clean;

/// Longest value taken from the wire in one field, in bytes. What is cut is marked, and a line stays bounded however
/// long a path is.
pub(super) const FIELD_MAX: usize = 2048;

const CUT: &str = "[cut]";

/// A key with the comma before it and the colon behind it.
macro_rules! key {
    ($word:literal) => {
        concat!(",\"", $word, "\":")
    };
}
pub(super) use key;

/// One JSON object under construction at the end of a buffer.
pub(super) struct Object<'b> {
    out: &'b mut Vec<u8>,
    first: bool,
}

impl<'b> Object<'b> {
    pub(super) fn open(out: &'b mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    /// One that has keys already.
    pub(super) fn resume(out: &'b mut Vec<u8>) -> Self {
        Self { out, first: false }
    }

    /// Keys and values that are written already, with the comma before them.
    #[inline]
    pub(super) fn ready(&mut self, keys: &[u8]) {
        self.out.extend_from_slice(keys);
    }

    pub(super) fn close(self) {
        self.out.extend_from_slice(b"}\n");
    }

    /// A key as [`key!`] writes it: one copy, and nothing to escape.
    #[inline]
    fn key(&mut self, key: &'static str) {
        let key = if self.first { &key[1..] } else { key };
        self.first = false;
        self.out.extend_from_slice(key.as_bytes());
    }

    /// A word of ours that needs no escape.
    #[inline]
    pub(super) fn word(&mut self, key: &'static str, word: &'static str) {
        self.plain(key, word);
    }

    /// What is made of digits and signs of ours.
    #[inline]
    pub(super) fn plain(&mut self, key: &'static str, word: &str) {
        self.key(key);
        self.out.push(b'"');
        self.out.extend_from_slice(word.as_bytes());
        self.out.push(b'"');
    }

    /// Bytes of unknown origin, which were looked at.
    pub(super) fn text(&mut self, key: &'static str, text: &Clean<'_>) {
        let bytes = text.as_bytes();
        self.key(key);
        self.out.push(b'"');
        if bytes.len() > FIELD_MAX {
            escape(self.out, &bytes[..FIELD_MAX]);
            self.out.extend_from_slice(CUT.as_bytes());
        } else {
            escape(self.out, bytes);
        }
        self.out.push(b'"');
    }

    /// As [`Self::text`], left out when empty.
    pub(super) fn text_if(&mut self, key: &'static str, text: &Clean<'_>) {
        if !text.is_empty() {
            self.text(key, text);
        }
    }

    #[inline]
    pub(super) fn number(&mut self, key: &'static str, value: impl itoa::Integer) {
        self.key(key);
        self.out
            .extend_from_slice(Buffer::new().format(value).as_bytes());
    }

    /// Microseconds as milliseconds with three decimals.
    pub(super) fn millis(&mut self, key: &'static str, micros: u64) {
        self.number(key, micros / 1000);
        let rest = micros % 1000;
        self.out.push(b'.');
        for digit in [rest / 100, rest / 10 % 10, rest % 10] {
            self.out.push(b'0' + u8::try_from(digit).unwrap_or(0));
        }
    }

    pub(super) fn address(&mut self, key: &'static str, address: SocketAddr) {
        self.key(key);
        self.out.push(b'"');
        match address {
            // By hand, since it stands in almost every line and the formatter costs more than the rest of it.
            SocketAddr::V4(address) => {
                for (at, octet) in address.ip().octets().into_iter().enumerate() {
                    if at > 0 {
                        self.out.push(b'.');
                    }
                    self.out
                        .extend_from_slice(Buffer::new().format(octet).as_bytes());
                }
                self.out.push(b':');
                self.out
                    .extend_from_slice(Buffer::new().format(address.port()).as_bytes());
            }
            SocketAddr::V6(address) => {
                // Writing to a Vec cannot fail.
                let _ = write!(self.out, "{address}");
            }
        }
        self.out.push(b'"');
    }
}

/// Whether an ASCII byte stands for itself. All others leave the fast path.
const fn is_plain(byte: u8) -> bool {
    byte >= 0x20 && byte < 0x7f && byte != b'"' && byte != b'\\'
}

/// Append `bytes` as the inside of a JSON string. Bytes that are not UTF-8 become U+FFFD; characters that could move a
/// terminal's cursor or turn the reading direction are escaped although JSON would allow them.
pub(super) fn escape(out: &mut Vec<u8>, bytes: &[u8]) {
    // Without an early end the test is done for many bytes at once, and nearly every value is plain.
    if bytes
        .iter()
        .fold(true, |plain, byte| plain & is_plain(*byte))
    {
        out.extend_from_slice(bytes);
        return;
    }
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            escape_char(out, character);
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

fn escape_char(out: &mut Vec<u8>, character: char) {
    match character {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        ' '..='~' => out.push(character as u8),
        hidden if is_hidden(hidden) => escape_unit(out, hidden as u32),
        shown => out.extend_from_slice(shown.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// C0, DEL, C1, line and paragraph separators, bidirectional controls, the byte-order mark: all in the basic plane.
fn is_hidden(character: char) -> bool {
    matches!(character,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn escape_unit(out: &mut Vec<u8>, unit: u32) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"\\u");
    for shift in [12, 8, 4, 0] {
        out.push(HEX[(unit >> shift & 0xf) as usize]);
    }
}
