//! A check of bytes against what happens to them by accident: torn writes, flipped bits, foreign data. No protection against
//! who means to deceive.

const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

/// The check of `bytes`. Eight bytes at a time, each step one to one, so that a change in one place always shows.
#[must_use]
pub fn sum(bytes: &[u8]) -> u64 {
    let mut sum = (bytes.len() as u64).wrapping_mul(FACTOR);
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        sum = step(sum, u64::from_le_bytes(word));
    }
    let mut word = [0; 8];
    let rest = chunks.remainder();
    word[..rest.len()].copy_from_slice(rest);
    step(sum, u64::from_le_bytes(word))
}

fn step(sum: u64, word: u64) -> u64 {
    let mixed = (sum ^ word).wrapping_mul(FACTOR);
    mixed ^ (mixed >> 32)
}
