//! Secrets by the name they go under.

/// A name with one of these words in it holds a secret.
const WORDS: &[&str] = &[
    "accesskey",
    "accesstoken",
    "apikey",
    "authorization",
    "authtoken",
    "bearer",
    "clientsecret",
    "cookie",
    "cookies",
    "credential",
    "credentials",
    "csrf",
    "csrftoken",
    "cvc",
    "cvv",
    "iban",
    "idtoken",
    "jsessionid",
    "jwt",
    "otp",
    "passcode",
    "passphrase",
    "passwd",
    "password",
    "phpsessid",
    "privatekey",
    "pwd",
    "refreshtoken",
    "secret",
    "secretkey",
    "secrets",
    "sessionid",
    "signature",
    "ssn",
    "token",
    "xsrf",
];

/// Two words in a row that mean a secret, though neither does alone.
const PAIRS: &[(&str, &str)] = &[
    ("access", "key"),
    ("account", "key"),
    ("api", "key"),
    ("auth", "code"),
    ("auth", "key"),
    ("connection", "string"),
    ("encryption", "key"),
    ("master", "key"),
    ("private", "key"),
    ("session", "id"),
    ("shared", "key"),
    ("signing", "key"),
    ("subscription", "key"),
];

/// Names that mean a secret when they are all there is.
const WHOLE: &[&str] = &["auth", "pass", "pin", "session", "sid", "sig"];

/// The same for query parameters only: elsewhere `code` is what went wrong.
const WHOLE_QUERY: &[&str] = &["code", "key"];

/// Names that hold one of the words and no secret.
const HARMLESS: &[&str] = &["idempotency-key", "sec-websocket-key", "x-idempotency-key"];

/// What a policy adds.
#[derive(Clone, Debug, Default)]
pub struct Names {
    pub headers: Vec<String>,
    pub query: Vec<String>,
    pub json: Vec<String>,
    pub allow: Vec<String>,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Told as it is.
    Allowed,
    /// Kept back.
    Secret,
    /// The name says nothing: the value has to.
    Unknown,
}

impl Names {
    pub fn header(&self, name: &str) -> Verdict {
        self.judge(&self.headers, name, has_key)
    }

    pub fn query(&self, name: &str) -> Verdict {
        let whole = |name: &str| has_key(name) || WHOLE_QUERY.iter().any(|known| same(known, name));
        self.judge(&self.query, name, whole)
    }

    pub fn json(&self, name: &str) -> Verdict {
        self.judge(&self.json, name, has_key)
    }

    fn judge(&self, own: &[String], name: &str, more: impl Fn(&str) -> bool) -> Verdict {
        let any = |names: &[String]| names.iter().any(|known| same(known, name));
        if any(&self.allow) {
            return Verdict::Allowed;
        }
        let harmless = HARMLESS.iter().any(|known| same(known, name));
        if any(own) || (!harmless && (is_secret(name) || more(name))) {
            Verdict::Secret
        } else {
            Verdict::Unknown
        }
    }

    /// A name in running text, where a word alone is only a word.
    pub fn in_text(&self, name: &str) -> Verdict {
        let any = |names: &[String]| names.iter().any(|known| same(known, name));
        if any(&self.allow) {
            Verdict::Allowed
        } else if any(&self.headers) || any(&self.query) || any(&self.json) || by_words(name) {
            Verdict::Secret
        } else {
            Verdict::Unknown
        }
    }
}

/// `X-Api-Key`, `x_api_key` and `xApiKey` are one name.
fn same(one: &str, other: &str) -> bool {
    let folded = |text: &str| -> Vec<u8> {
        let kept = text.bytes().filter(|byte| !matches!(byte, b'-' | b'_'));
        kept.map(|byte| byte.to_ascii_lowercase()).collect()
    };
    one.eq_ignore_ascii_case(other) || folded(one) == folded(other)
}

fn is_secret(name: &str) -> bool {
    by_words(name) || WHOLE.iter().any(|known| known.eq_ignore_ascii_case(name))
}

fn by_words(name: &str) -> bool {
    let mut before = "";
    words(name).any(|word| {
        let pair = PAIRS.iter().any(|(first, second)| {
            first.eq_ignore_ascii_case(before) && second.eq_ignore_ascii_case(word)
        });
        before = word;
        pair || WORDS.iter().any(|known| known.eq_ignore_ascii_case(word))
    })
}

fn has_key(name: &str) -> bool {
    words(name).any(|word| word.eq_ignore_ascii_case("key"))
}

/// `upstreams[0].apiKey` is `upstreams`, `0`, `api`, `Key`.
fn words(name: &str) -> impl Iterator<Item = &str> {
    let parts = name.split(|c: char| !c.is_ascii_alphanumeric());
    parts.flat_map(|part| Humps { rest: part })
}

struct Humps<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Humps<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let bytes = self.rest.as_bytes();
        let hump = (1..bytes.len())
            .find(|at| bytes[*at].is_ascii_uppercase() && bytes[*at - 1].is_ascii_lowercase());
        let (word, rest) = self.rest.split_at(hump.unwrap_or(bytes.len()));
        self.rest = rest;
        Some(word)
    }
}
