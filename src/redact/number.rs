//! Secrets that are numbers: each is only believed when its arithmetic is right, for logs are full of digits.

use super::find::Found;
use super::find::is_word;

/// Card numbers: 13 to 19 digits in a row or in the groups in which cards show them, a first part that some network has,
/// and the check digit of ISO/IEC 7812 (Luhn).
pub fn cards(text: &[u8], found: &mut Found) {
    let mut at = 0;
    while let Some(start) = next_number(text, at) {
        let end = digits_end(text, start);
        at = end;
        if start > 0 && is_word(text[start - 1]) {
            continue;
        }
        let run = &text[start..end];
        if (13..=19).contains(&run.len()) && !is_word_at(text, end) && is_card(run) {
            found.add(start, end);
        } else if run.len() == 4
            && let Some(end) = grouped_card(text, start)
        {
            found.add(start, end);
            at = end;
        }
    }
}

/// The groups that cards have behind their first four digits.
const GROUPS: &[&[usize]] = &[&[4, 4, 4], &[6, 5], &[6, 4], &[4, 4, 4, 3], &[4, 4, 1]];

fn grouped_card(text: &[u8], start: usize) -> Option<usize> {
    let separator = *text.get(start + 4)?;
    if !matches!(separator, b' ' | b'-' | b'.' | b'+' | b'_') {
        return None;
    }
    GROUPS.iter().find_map(|groups| {
        let mut digits = [0; 20];
        digits[..4].copy_from_slice(&text[start..start + 4]);
        let (mut len, mut at) = (4, start + 4);
        for group in *groups {
            if text.get(at) != Some(&separator) {
                return None;
            }
            let part = text.get(at + 1..at + 1 + group)?;
            if !part.iter().all(u8::is_ascii_digit) {
                return None;
            }
            digits[len..len + group].copy_from_slice(part);
            len += group;
            at += 1 + group;
        }
        (!is_word_at(text, at) && is_card(&digits[..len])).then_some(at)
    })
}

fn is_card(digits: &[u8]) -> bool {
    has_network(digits) && luhn(digits)
}

/// The networks and the lengths that each of them uses.
fn has_network(digits: &[u8]) -> bool {
    let leading = |count: usize| {
        digits[..count]
            .iter()
            .fold(0_u32, |sum, digit| sum * 10 + u32::from(digit - b'0'))
    };
    let (two, three, four, len) = (leading(2), leading(3), leading(4), digits.len());
    match two {
        40..=49 => matches!(len, 13 | 16 | 19),
        51..=55 => len == 16,
        22..=27 => (2221..=2720).contains(&four) && len == 16,
        34 | 37 => len == 15,
        35 => (3528..=3589).contains(&four) && (16..=19).contains(&len),
        30 => (300..=305).contains(&three) && (14..=19).contains(&len),
        36 | 38 | 39 => (14..=19).contains(&len),
        60 | 62 | 64 | 65 => (16..=19).contains(&len),
        50 | 56..=59 | 61 | 63 | 66..=69 => (13..=19).contains(&len),
        _ => false,
    }
}

fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let digit = u32::from(digit - b'0');
            match (place % 2, digit * 2) {
                (0, _) => digit,
                (_, double) if double > 9 => double - 9,
                (_, double) => double,
            }
        })
        .sum();
    // All zeros add up too, and are no card.
    sum > 0 && sum.is_multiple_of(10)
}

/// Account numbers of ISO 13616: a country, its length, and 1 as the remainder by 97.
pub fn ibans(text: &[u8], found: &mut Found) {
    for start in 0..text.len().saturating_sub(14) {
        let is_start = text[start].is_ascii_alphabetic()
            && text[start + 1].is_ascii_alphabetic()
            && text[start + 2].is_ascii_digit()
            && text[start + 3].is_ascii_digit()
            && (start == 0 || !is_word(text[start - 1]));
        if is_start && let Some(end) = iban_end(text, start) {
            found.add(start, end);
        }
    }
}

fn iban_end(text: &[u8], start: usize) -> Option<usize> {
    let country = [
        text[start].to_ascii_uppercase(),
        text[start + 1].to_ascii_uppercase(),
    ];
    let (_, wanted) = IBAN_LENGTHS
        .iter()
        .find(|(known, _)| known.as_bytes() == country)?;
    let (mut kept, mut len, mut at) = ([0; 34], 0, start);
    while len < *wanted {
        let byte = *text.get(at)?;
        if byte.is_ascii_alphanumeric() {
            kept[len] = byte.to_ascii_uppercase();
            len += 1;
        } else if !(matches!(byte, b' ' | b'+' | b'-') && len % 4 == 0) {
            return None;
        }
        at += 1;
    }
    let kept = &kept[..len];
    let rest = kept[4..]
        .iter()
        .chain(&kept[..4])
        .fold(0_u32, |rest, byte| match byte {
            b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
            letter => (rest * 100 + u32::from(letter - b'A') + 10) % 97,
        });
    (rest == 1 && !is_word_at(text, at)).then_some(at)
}

/// SWIFT's registry.
#[rustfmt::skip]
const IBAN_LENGTHS: &[(&str, usize)] = &[
    ("AD", 24), ("AE", 23), ("AL", 28), ("AT", 20), ("AZ", 28), ("BA", 20), ("BE", 16), ("BG", 22), ("BH", 22),
    ("BI", 27), ("BR", 29), ("BY", 28), ("CH", 21), ("CR", 22), ("CY", 28), ("CZ", 24), ("DE", 22), ("DJ", 27),
    ("DK", 18), ("DO", 28), ("EE", 20), ("EG", 29), ("ES", 24), ("FI", 18), ("FK", 18), ("FO", 18), ("FR", 27),
    ("GB", 22), ("GE", 22), ("GI", 23), ("GL", 18), ("GR", 27), ("GT", 28), ("HR", 21), ("HU", 28), ("IE", 22),
    ("IL", 23), ("IQ", 23), ("IS", 26), ("IT", 27), ("JO", 30), ("KW", 30), ("KZ", 20), ("LB", 28), ("LC", 32),
    ("LI", 21), ("LT", 20), ("LU", 20), ("LV", 21), ("LY", 25), ("MC", 27), ("MD", 24), ("ME", 22), ("MK", 19),
    ("MN", 20), ("MR", 27), ("MT", 31), ("MU", 30), ("NI", 28), ("NL", 18), ("NO", 15), ("OM", 23), ("PK", 24),
    ("PL", 28), ("PS", 29), ("PT", 25), ("QA", 29), ("RO", 24), ("RS", 22), ("RU", 33), ("SA", 24), ("SC", 31),
    ("SD", 18), ("SE", 24), ("SI", 19), ("SK", 24), ("SM", 27), ("SO", 23), ("ST", 25), ("SV", 28), ("TL", 23),
    ("TN", 24), ("TR", 26), ("UA", 29), ("VA", 22), ("VG", 24), ("XK", 20), ("YE", 30),
];

/// Telephone numbers that say so: `+` and a country, or the groups of North America. A bare row of digits is far more often
/// an identifier, a time or a size.
pub fn phones(text: &[u8], found: &mut Found) {
    for at in memchr::memchr_iter(b'+', text) {
        if at > 0 && is_word(text[at - 1]) {
            continue;
        }
        if let Some(end) = international(text, at + 1) {
            found.add(at, end);
        }
    }
    let mut at = 0;
    while let Some(start) = next_number(text, at) {
        at = digits_end(text, start);
        let opened = start > 0 && text[start - 1] == b'(';
        let from = if opened { start - 1 } else { start };
        if from > 0 && (is_word(text[from - 1]) || matches!(text[from - 1], b'.' | b':')) {
            continue;
        }
        if let Some(end) = north_american(text, start, opened) {
            found.add(from, end);
        }
    }
}

/// ITU-T E.164: at most fifteen digits, the first not zero.
fn international(text: &[u8], start: usize) -> Option<usize> {
    if !matches!(text.get(start)?, b'1'..=b'9') {
        return None;
    }
    let (mut digits, mut end, mut gap) = (0, None, 0);
    for (at, byte) in text.iter().enumerate().skip(start) {
        match byte {
            b'0'..=b'9' if digits < 15 => {
                digits += 1;
                gap = 0;
                // Another number may follow: what can end here might.
                if digits >= 8 && !is_word_at(text, at + 1) {
                    end = Some(at + 1);
                }
            }
            b' ' | b'-' | b'.' | b'(' | b')' | b'/' if gap < 2 => gap += 1,
            _ => break,
        }
    }
    end
}

/// `(212) 555-0123`, `212-555-0123`, `212.555.0123`.
fn north_american(text: &[u8], start: usize, opened: bool) -> Option<usize> {
    let digits = |at: usize, count: usize| -> Option<()> {
        let part = text.get(at..at + count)?;
        part.iter().all(u8::is_ascii_digit).then_some(())
    };
    digits(start, 3)?;
    let mut at = start + 3;
    let separator = if opened {
        if text.get(at) != Some(&b')') {
            return None;
        }
        at += 1;
        if text.get(at) == Some(&b' ') {
            at += 1;
        }
        b'-'
    } else {
        let separator = *text.get(at)?;
        at += 1;
        separator
    };
    // Area and exchange begin with 2 to 9.
    let begins = |at: usize| matches!(text.get(at), Some(b'2'..=b'9'));
    if !matches!(separator, b'-' | b'.') || !begins(start) || !begins(at) {
        return None;
    }
    digits(at, 3)?;
    if text.get(at + 3) != Some(&separator) {
        return None;
    }
    digits(at + 4, 4)?;
    let end = at + 8;
    let goes_on = matches!(text.get(end), Some(b'-' | b'.'))
        && text.get(end + 1).is_some_and(u8::is_ascii_alphanumeric);
    (!is_word_at(text, end) && !goes_on).then_some(end)
}

fn next_number(text: &[u8], from: usize) -> Option<usize> {
    let rest = text.get(from..)?;
    rest.iter().position(u8::is_ascii_digit).map(|at| from + at)
}

fn digits_end(text: &[u8], start: usize) -> usize {
    let len = text[start..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit());
    start + len.count()
}

fn is_word_at(text: &[u8], at: usize) -> bool {
    text.get(at).is_some_and(|byte| is_word(*byte))
}
