//! One pass over a text: is there anything that could be a secret? Nearly always there is not.

use std::ops::BitAnd;
use std::ops::BitOr;

/// A set of detectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hints(u16);

impl Hints {
    pub const NONE: Self = Self(0);
    pub const EMAIL: Self = Self(1);
    pub const CARD: Self = Self(1 << 1);
    pub const IBAN: Self = Self(1 << 2);
    pub const PHONE: Self = Self(1 << 3);
    pub const JWT: Self = Self(1 << 4);
    pub const BEARER: Self = Self(1 << 5);
    pub const KEY: Self = Self(1 << 6);
    pub const PEM: Self = Self(1 << 7);
    pub const USERINFO: Self = Self(1 << 8);
    pub const PAIR: Self = Self(1 << 9);
    /// There are bytes behind percent signs: what they say is looked at once more.
    pub const ENCODED: Self = Self(1 << 10);

    /// The detector that a policy calls so.
    pub fn of_detector(word: &str) -> Self {
        match word {
            "email" => Self::EMAIL,
            "card" => Self::CARD,
            "iban" => Self::IBAN,
            "phone" => Self::PHONE,
            "jwt" => Self::JWT,
            "bearer" => Self::BEARER,
            "key" => Self::KEY,
            "pem" => Self::PEM,
            "userinfo" => Self::USERINFO,
            "pair" => Self::PAIR,
            _ => Self::NONE,
        }
    }

    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl BitOr for Hints {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Hints {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

const DIGIT: u8 = 1;
/// Letters, digits, `_` and `-`: what tokens are made of.
const WORD: u8 = 1 << 1;
const AT: u8 = 1 << 2;
const SPACE: u8 = 1 << 3;
const PERCENT: u8 = 1 << 4;
const EQUALS: u8 = 1 << 5;
/// Letters that no hexadecimal number has.
const BEYOND: u8 = 1 << 6;
/// What stands between the digits of one number.
const BETWEEN: u8 = 1 << 7;

const CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        class[byte] = match byte as u8 {
            b'0'..=b'9' => DIGIT | WORD,
            b'a'..=b'f' | b'A'..=b'F' => WORD,
            b'g'..=b'z' | b'G'..=b'Z' => WORD | BEYOND,
            b'_' | b'-' => WORD | BETWEEN,
            b'@' => AT,
            b' ' | b'+' => SPACE | BETWEEN,
            b'\t' => SPACE,
            b'%' => PERCENT,
            b'=' | b':' => EQUALS,
            b'.' | b'(' | b')' | b'/' => BETWEEN,
            _ => 0,
        };
        byte += 1;
    }
    class
};

/// The shortest card number is longer; a telephone number with its country is not shorter.
const DIGITS_MIN: u32 = 8;
/// The shortest card number.
const CARD_MIN: u32 = 13;
/// The shortest run in a token: what stands before the first dot of one, or `-----BEGIN`.
const RUN_MIN: u32 = 10;

/// Which detectors could find something. May say too much, never too little.
pub fn hints(text: &[u8]) -> Hints {
    let (mut seen, mut digits) = (0_u8, 0_u32);
    // Of a run: its length and what is in it; of the longest number, its digits.
    let (mut run, mut beyond, mut number, mut longest) = (0_u32, 0_u8, 0_u32, 0_u32);
    let mut token = false;
    for byte in text {
        let class = CLASS[usize::from(*byte)];
        let is_digit = u32::from(class & DIGIT);
        seen |= class;
        digits += is_digit;
        let goes_on = u32::from(class & WORD != 0);
        run = (run + 1) * goes_on;
        beyond = (beyond | class & BEYOND) * goes_on as u8;
        token |= run >= RUN_MIN && beyond != 0;
        number = (number + is_digit) * u32::from(class & (DIGIT | BETWEEN) != 0);
        longest = longest.max(number);
    }
    let when = |is: bool, hints: Hints| if is { hints } else { Hints::NONE };
    when(seen & AT != 0, Hints::EMAIL | Hints::USERINFO)
        | when(longest >= CARD_MIN, Hints::CARD)
        | when(longest >= DIGITS_MIN, Hints::PHONE)
        | when(digits >= DIGITS_MIN, Hints::IBAN)
        | when(token, Hints::JWT | Hints::KEY | Hints::PEM)
        | when(seen & (SPACE | PERCENT) != 0, Hints::BEARER)
        | when(seen & EQUALS != 0, Hints::PAIR)
        | when(seen & PERCENT != 0, Hints::ENCODED)
}
