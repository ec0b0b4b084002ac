//! Whether a policy block acts or only watches.

use std::fmt;

/// How far a policy block goes. `mode: off` has no variant: a block that is off is absent from the route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Decide, count, explain, and act. The default.
    #[default]
    Enforce,
    /// Decide, count and explain, but let every request through: how a new policy is tried on live traffic.
    Shadow,
}

impl Mode {
    /// The word of the policy file, the metric label and the log.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Mode::Enforce => "enforce",
            Mode::Shadow => "shadow",
        }
    }

    /// True if a refusal must really refuse.
    #[must_use]
    pub const fn enforces(self) -> bool {
        matches!(self, Mode::Enforce)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
