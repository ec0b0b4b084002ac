//! Settings of authorisation: the rules.

use crate::kit::mode::Mode;
use crate::policy::authorise::machine::Rule;

/// The `authorise` block, with every value filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Shadow judges and counts, but every call passes. Default: enforce.
    pub mode: Mode,
    /// What is allowed, in the order of the file, which decides nothing but the number that a rule is counted under.
    /// At least one in a policy; with none, nobody may call.
    pub rules: Vec<Rule>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Enforce,
            rules: Vec::new(),
        }
    }
}
