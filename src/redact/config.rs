//! `telemetry.redact`: what is kept back, and how.

use std::path::Path;

use aws_lc_rs::hmac;

use super::hints::Hints;
use super::names::Names;
use crate::kit::fields::Fields;
use crate::rng;

/// What stands in the place of a secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Drop,
    /// `***`.
    #[default]
    Mask,
    /// `hash_` and sixteen hex digits of an HMAC-SHA-256: equal secrets look equal, and nobody without the key can try
    /// candidates.
    Hash,
}

/// Each detector and its word in the policy.
pub const DETECTORS: &[&str] = &[
    "email", "card", "iban", "phone", "jwt", "bearer", "key", "pem", "userinfo", "pair",
];

/// `telemetry.redact`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Headers kept back beside the built-in ones, by name. Default: none.
    pub headers: Vec<String>,
    /// Query parameters kept back beside the built-in ones. Default: none.
    pub query: Vec<String>,
    /// JSON keys kept back beside the built-in ones, with all below them. Default: none.
    pub json: Vec<String>,
    /// Names (of headers, parameters and keys alike) that are told as they are, whatever their value looks like. Default:
    /// none.
    pub allow: Vec<String>,
    /// What is found by its look; words of [`DETECTORS`]. Default: all.
    pub detect: Vec<String>,
    /// What stands in the place of a secret. Default: mask.
    pub action: Action,
    /// The file with the key of [`Action::Hash`]; `None`: a random one for each start, so that hashes of one run can be
    /// compared with each other and with nothing else.
    pub key: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            headers: Vec::new(),
            query: Vec::new(),
            json: Vec::new(),
            allow: Vec::new(),
            detect: DETECTORS.iter().map(|word| (*word).to_owned()).collect(),
            action: Action::Mask,
            key: None,
        }
    }
}

impl Settings {
    /// From the policy's block.
    #[must_use]
    pub fn lift<F: Fields>(block: &F) -> Self {
        let built_in = Self::default();
        let names = |key: &str| -> Vec<String> {
            let list = block.list(key).unwrap_or_default();
            list.into_iter().map(str::to_owned).collect()
        };
        Self {
            headers: names("headers"),
            query: names("query"),
            json: names("json"),
            allow: names("allow"),
            detect: block.list("detect").map_or(built_in.detect, |words| {
                words.into_iter().map(str::to_owned).collect()
            }),
            action: match block.word("action") {
                Some("drop") => Action::Drop,
                Some("hash") => Action::Hash,
                _ => Action::Mask,
            },
            key: block
                .word("key")
                .and_then(|place| place.strip_prefix("file:"))
                .map(str::to_owned),
        }
    }

    pub(super) fn hints(&self) -> Hints {
        let of = |word: &String| Hints::of_detector(word);
        self.detect
            .iter()
            .map(of)
            .fold(Hints::NONE, |all, one| all | one)
    }

    pub(super) fn names(&self) -> Names {
        Names {
            headers: self.headers.clone(),
            query: self.query.clone(),
            json: self.json.clone(),
            allow: self.allow.clone(),
        }
    }
}

/// Why the key of the hash is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read {0}: {1}")]
    Read(String, std::io::Error),
    /// Too little to be a secret.
    #[error("{0} has {1} bytes; a key needs at least 16")]
    Short(String, usize),
}

/// The key in a file. White space around it is not part of it: editors and `echo` add line ends.
///
/// # Errors
/// If there is none that is worth the name.
pub(super) fn read_key(path: &str) -> Result<hmac::Key, KeyError> {
    let bytes =
        std::fs::read(Path::new(path)).map_err(|error| KeyError::Read(path.to_owned(), error))?;
    let bytes = bytes.trim_ascii();
    if bytes.len() < 16 {
        return Err(KeyError::Short(path.to_owned(), bytes.len()));
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, bytes))
}

pub(super) fn random_key() -> hmac::Key {
    let mut bytes = [0; 32];
    for chunk in bytes.chunks_exact_mut(8) {
        chunk.copy_from_slice(&rng::bits().to_ne_bytes());
    }
    hmac::Key::new(hmac::HMAC_SHA256, &bytes)
}
