//! How a client writes itself down for a token endpoint: a form, and `Basic`.
//!
//! What is written holds a secret, so each text is made in one piece of memory: growing would leave copies behind that nobody
//! wipes.

/// Appends `name=value` in `application/x-www-form-urlencoded`, with `&` before it where something stands there already.
/// `into` must have room: see [`room`].
pub fn pair(name: &str, value: &[u8], into: &mut Vec<u8>) {
    if !into.is_empty() {
        into.push(b'&');
    }
    encode(name.as_bytes(), into);
    into.push(b'=');
    encode(value, into);
}

/// The most that a pair takes up.
#[must_use]
pub const fn room(name: usize, value: usize) -> usize {
    3 * (name + value) + 2
}

/// Appends a text as a form has it: blanks as `+`, all but letters, digits and `*-._` as `%XX`.
pub fn encode(text: &[u8], into: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'*' | b'-' | b'.' | b'_' => into.push(*byte),
            b' ' => into.push(b'+'),
            _ => {
                into.push(b'%');
                into.push(HEX[usize::from(byte >> 4)]);
                into.push(HEX[usize::from(byte & 15)]);
            }
        }
    }
}

/// Appends the base64 of `text` (RFC 4648 section 4), which takes up four bytes for each three.
pub fn base64(text: &[u8], into: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for group in text.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at) & 63) as usize];
            into.push(if at <= group.len() { digit } else { b'=' });
        }
    }
}
