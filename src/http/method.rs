//! Method classes of RFC 9110 section 9.2.

use http::Method;

/// How far a method may be repeated, and the `method` label of the request metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MethodClass {
    /// GET, HEAD, OPTIONS, TRACE (RFC 9110 section 9.2.1).
    Safe,
    /// PUT and DELETE: unsafe, but repeating one changes nothing more (section 9.2.2).
    Idempotent,
    /// All others, unknown methods among them.
    Unsafe,
}

impl MethodClass {
    /// Every class; `class as usize` is its place here.
    pub const ALL: [MethodClass; 3] = [
        MethodClass::Safe,
        MethodClass::Idempotent,
        MethodClass::Unsafe,
    ];

    /// The class of `method`.
    #[must_use]
    pub fn of(method: &Method) -> Self {
        match *method {
            Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE => Self::Safe,
            Method::PUT | Method::DELETE => Self::Idempotent,
            _ => Self::Unsafe,
        }
    }

    /// The label value.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Safe => "safe",
            Self::Idempotent => "idempotent",
            Self::Unsafe => "unsafe",
        }
    }

    /// Whether repeating the request is allowed by its method alone.
    #[must_use]
    pub const fn is_idempotent(self) -> bool {
        matches!(self, Self::Safe | Self::Idempotent)
    }
}
