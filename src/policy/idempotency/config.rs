//! Settings of idempotency: which header carries the key.

use http::HeaderName;

use crate::kit::fields::Fields;
use crate::kit::mode::Mode;

/// The `idempotency` block, with every value filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Shadow counts which calls would get a key, but sets none and unlocks nothing. Default: enforce.
    pub mode: Mode,
    /// The header that carries the key. Default: `Idempotency-Key`, as draft-ietf-httpapi-idempotency-key-header and the
    /// interfaces of payment services have it.
    pub header: HeaderName,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Enforce,
            header: HeaderName::from_static("idempotency-key"),
        }
    }
}

impl Settings {
    /// The settings of a merged `idempotency` block that is not off.
    pub fn lift<F: Fields>(block: &F) -> Self {
        let built_in = Self::default();
        Self {
            mode: match block.word("mode") {
                Some("shadow") => Mode::Shadow,
                _ => Mode::Enforce,
            },
            header: block
                .word("header")
                .and_then(|name| name.parse().ok())
                .unwrap_or(built_in.header),
        }
    }
}
