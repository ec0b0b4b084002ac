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
const WORD: u8 = 1 << 1;
const AT: u8 = 1 << 2;
const SPACE: u8 = 1 << 3;
const PERCENT: u8 = 1 << 4;
const EQUALS: u8 = 1 << 5;

const CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        class[byte] = match byte as u8 {
            b'0'..=b'9' => DIGIT | WORD,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'-' => WORD,
            b'@' => AT,
            b' ' | b'\t' | b'+' => SPACE,
            b'%' => PERCENT,
            b'=' | b':' => EQUALS,
            _ => 0,
        };
        byte += 1;
    }
    class
};

/// The shortest card number is longer; a telephone number with its country is not shorter.
const DIGITS_MIN: u32 = 8;
/// The shortest run in a token: what stands before the first dot of one, or `-----BEGIN`.
const RUN_MIN: u32 = 10;

/// Which detectors could find something. May say too much, never too little.
pub fn hints(text: &[u8]) -> Hints {
    let (mut seen, mut digits, mut run, mut longest) = (0_u8, 0_u32, 0_u32, 0_u32);
    for byte in text {
        let class = CLASS[usize::from(*byte)];
        seen |= class;
        digits += u32::from(class & DIGIT);
        run = (run + 1) * u32::from(class & WORD != 0);
        longest = longest.max(run);
    }
    let mut hints = Hints::NONE;
    if seen & AT != 0 {
        hints = hints | Hints::EMAIL | Hints::USERINFO;
    }
    if digits >= DIGITS_MIN {
        hints = hints | Hints::CARD | Hints::IBAN | Hints::PHONE;
    }
    if longest >= RUN_MIN {
        hints = hints | Hints::JWT | Hints::KEY | Hints::PEM;
    }
    if seen & (SPACE | PERCENT) != 0 {
        hints = hints | Hints::BEARER;
    }
    if seen & EQUALS != 0 {
        hints = hints | Hints::PAIR;
    }
    if seen & PERCENT != 0 {
        hints = hints | Hints::ENCODED;
    }
    hints
}
