//! Hiding secrets in what the admin side shows.

use serde_json::Value;

/// What stands in place of a secret.
const MASK: &str = "***";

/// A key with one of these words in it holds a secret, and so does everything below it.
const SECRET_WORDS: [&str; 9] = [
    "authorization",
    "credential",
    "credentials",
    "key",
    "passphrase",
    "password",
    "secret",
    "secrets",
    "token",
];

/// Replace every value under a key that names a secret, at any depth, and the user part of every URL.
pub fn mask(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (key, below) in fields.iter_mut() {
                if names_secret(key) {
                    hide(below);
                } else {
                    mask(below);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask),
        Value::String(text) => mask_user(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Keys may be dotted paths (`upstreams[0].credential.from`) or words in any spelling (`api_key`, `apiKey`).
fn names_secret(key: &str) -> bool {
    let mut words = key.to_owned();
    // `apiKey` is two words.
    for at in (1..key.len()).rev() {
        if key.is_char_boundary(at)
            && key.as_bytes()[at].is_ascii_uppercase()
            && key.as_bytes()[at - 1].is_ascii_lowercase()
        {
            words.insert(at, '_');
        }
    }
    words.split(|c: char| !c.is_alphanumeric()).any(|word| {
        SECRET_WORDS
            .iter()
            .any(|secret| word.eq_ignore_ascii_case(secret))
    })
}

/// The shape stays, so that a reader still sees that something is set.
fn hide(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(hide),
        Value::Array(items) => items.iter_mut().for_each(hide),
        Value::Null => {}
        Value::String(_) | Value::Bool(_) | Value::Number(_) => *value = MASK.into(),
    }
}

/// `redis://user:pass@host` becomes `redis://***@host`. A password may hold any character in spite of RFC 3986, so all up
/// to the last `@` goes: better a path too little than a password too much.
fn mask_user(text: &mut String) {
    let Some(scheme) = text.find("://") else {
        return;
    };
    let start = scheme + "://".len();
    if let Some(at) = text[start..].rfind('@') {
        text.replace_range(start..start + at, MASK);
    }
}
