//! Secrets to plant: some by hand, most made from a seed, each of a kind that is found by its look or by its name.

/// What a secret is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Email,
    Card,
    Iban,
    Phone,
    Jwt,
    Key,
    Bearer,
    Pem,
    Url,
    Password,
}

impl Kind {
    pub fn is_number(self) -> bool {
        matches!(self, Kind::Card | Kind::Phone)
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

#[derive(Clone, Debug)]
pub struct Planted {
    pub kind: Kind,
    /// The name that it goes under where it has one.
    pub name: &'static str,
    pub secret: String,
    /// Whether it can be told from other texts without its name.
    pub by_look: bool,
}

pub const INNOCENTS: &[&str] = &[
    "0198f9a2-7c3d-7b1e-8d4f-1a2b3c4d5e6f",
    "550e8400-e29b-41d4-a716-446655440000",
    "4bf92f3577b34da6a3ce929d0e0e4736",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "2026-11-24T11:37:12.042+01:00",
    "1732448232042",
    "1732448232042123456",
    "10.0.0.1:4759",
    "orders/1234567890123456/items/42",
    "payments.shop.svc.cluster.local:8443",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "v1.29.3-rc.1+build.20261124",
    "files/report%20of%20may.pdf",
    "@scope/package@1.2.3",
    "18446744073709551615",
    "tokens/count",
    "a-very-long-name-of-something-with-dashes-in-it",
    "search;q=1;lang=de",
];

/// A stream of draws that a seed gives; SplitMix64.
struct Draws(u64);

impl Draws {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % n as u64) as usize
    }

    fn text(&mut self, alphabet: &str, len: usize) -> String {
        let alphabet: Vec<char> = alphabet.chars().collect();
        (0..len)
            .map(|_| alphabet[self.below(alphabet.len())])
            .collect()
    }
}

const LOWER: &str = "abcdefghijklmnopqrstuvwxyz";
const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const DIGITS: &str = "0123456789";
const BASE64URL: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn with_luhn(mut digits: String) -> String {
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(at, byte)| {
            let doubled = u32::from(byte - b'0') * if at % 2 == 0 { 2 } else { 1 };
            doubled / 10 + doubled % 10
        })
        .sum();
    digits.push(char::from(b'0' + ((10 - sum % 10) % 10) as u8));
    digits
}

fn iban(country: &str, account: &str) -> String {
    let rest = format!("{account}{country}00")
        .bytes()
        .fold(0_u32, |rest, byte| match byte {
            b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
            letter => (rest * 100 + u32::from(letter - b'A') + 10) % 97,
        });
    format!("{country}{:02}{account}", 98 - rest)
}

fn grouped(digits: &str, separator: &str) -> String {
    let groups: Vec<&str> = (0..digits.len())
        .step_by(4)
        .map(|at| &digits[at..digits.len().min(at + 4)])
        .collect();
    groups.join(separator)
}

/// A round of one of each kind.
fn made(draws: &mut Draws, round: usize, all: &mut Vec<Planted>) {
    let mut add = |kind, name, secret: String| all.push(planted_as(kind, name, secret));
    let (user, host) = (draws.text(LOWER, 7), draws.text(LOWER, 6));
    let tag = ["", "+shop", ".x", "_y"][round % 4];
    add(
        Kind::Email,
        "secret",
        format!(
            "{user}{tag}@{host}.{}",
            ["com", "co.uk", "de", "example"][round % 4]
        ),
    );
    let prefix = ["4", "51", "2221", "6011"][round % 4];
    let digits = draws.text(DIGITS, 15 - prefix.len());
    let card = with_luhn(format!("{prefix}{digits}"));
    add(Kind::Card, "cvv", card.clone());
    let card = with_luhn(format!("4{}", draws.text(DIGITS, 14)));
    add(Kind::Card, "pin", grouped(&card, ["-", " "][round % 2]));
    let account = draws.text(DIGITS, 18);
    add(Kind::Iban, "iban", iban("DE", &account));
    let bank = draws.text(UPPER, 4);
    let account = draws.text(DIGITS, 10);
    let gb = iban("NL", &format!("{bank}{account}"));
    add(Kind::Iban, "iban", grouped(&gb, " "));
    let number = draws.text("23456789", 10);
    add(Kind::Phone, "token", format!("+49{number}"));
    add(
        Kind::Phone,
        "token",
        format!("+1 {}-{}-{}", &number[..3], &number[3..6], &number[6..]),
    );
    made_texts(draws, round, &user, all);
}

fn planted_as(kind: Kind, name: &'static str, secret: String) -> Planted {
    Planted {
        kind,
        name,
        secret,
        by_look: kind != Kind::Password,
    }
}

fn made_texts(draws: &mut Draws, round: usize, user: &str, all: &mut Vec<Planted>) {
    let mut add = |kind, name, secret: String| all.push(planted_as(kind, name, secret));
    let parts = [
        draws.text(BASE64URL, 30),
        draws.text(BASE64URL, 40),
        draws.text(BASE64URL, 43),
    ];
    add(
        Kind::Jwt,
        "id_token",
        format!("eyJ{}.eyJ{}.{}", parts[0], parts[1], parts[2]),
    );
    let (body, tail) = (
        draws.text(&format!("{UPPER}{DIGITS}"), 16),
        draws.text(&BASE64URL[..62], 36),
    );
    let key = match round % 6 {
        0 => format!("AKIA{body}"),
        1 => format!("ghp_{tail}"),
        2 => format!("sk_live_{}", &tail[..24]),
        3 => format!("xoxb-{}-{}", draws.text(DIGITS, 12), &tail[..24]),
        4 => format!("glpat-{}7", &tail[..20]),
        _ => format!("AIza{}", &tail[..35]),
    };
    add(Kind::Key, "api_key", key);
    let token = draws.text(&BASE64URL[..62], 24);
    add(Kind::Bearer, "authorization", format!("Bearer {token}9"));
    let (password, port) = (draws.text(&BASE64URL[..62], 12), draws.below(60000));
    add(
        Kind::Url,
        "connection_string",
        format!("postgres://{user}:{password}@db:{port}/x"),
    );
    let names = [
        "password",
        "client_secret",
        "session_id",
        "passwd",
        "access_token",
        "signature",
    ];
    add(
        Kind::Password,
        names[round % names.len()],
        format!("Pw7{}", draws.text(&BASE64URL[..62], 14)),
    );
}

pub fn planted() -> Vec<Planted> {
    let mut all = Vec::new();
    let mut draws = Draws(0x0dd5_ec2e_75aa_1234);
    for round in 0..42 {
        made(&mut draws, round, &mut all);
    }
    let by_hand = [
        (Kind::Card, "pin", "4111111111111111"),
        (Kind::Card, "pin", "378282246310005"),
        (Kind::Card, "pin", "3782 822463 10005"),
        (Kind::Card, "pin", "30569309025904"),
        (Kind::Iban, "iban", "GB29NWBK60161331926819"),
        (Kind::Iban, "iban", "NO9386011117947"),
        (Kind::Email, "secret", "o'neil@sub.example.org"),
        (Kind::Email, "secret", "UPPER.CASE@EXAMPLE.COM"),
        (Kind::Phone, "token", "(212) 555-0123"),
        (Kind::Phone, "token", "212.555.0187"),
        (Kind::Bearer, "authorization", "Basic dXNlcjpwYXNzd29yZA=="),
        (
            Kind::Pem,
            "private_key",
            "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIHWq\n-----END PRIVATE KEY-----",
        ),
    ];
    all.extend(by_hand.map(|(kind, name, secret)| Planted {
        kind,
        name,
        secret: secret.to_owned(),
        by_look: true,
    }));
    all
}
