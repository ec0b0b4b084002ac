//! Colour, where a person looks at it.

use std::io::IsTerminal;

/// Whether to colour. Off unless the stream is a terminal and `NO_COLOR` is unset or empty (no-color.org).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint(pub bool);

impl Paint {
    /// For this stream.
    #[must_use]
    pub fn to(stream: &impl IsTerminal) -> Paint {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Paint(stream.is_terminal() && !refused && !dumb)
    }

    /// Headings and names.
    #[must_use]
    pub fn bold(self, text: &str) -> String {
        self.code("1", text)
    }

    /// What is less worth reading.
    #[must_use]
    pub fn dim(self, text: &str) -> String {
        self.code("2", text)
    }

    /// Good news.
    #[must_use]
    pub fn green(self, text: &str) -> String {
        self.code("32", text)
    }

    /// Warnings.
    #[must_use]
    pub fn yellow(self, text: &str) -> String {
        self.code("33", text)
    }

    /// Errors.
    #[must_use]
    pub fn red(self, text: &str) -> String {
        self.code("31", text)
    }

    fn code(self, code: &str, text: &str) -> String {
        if self.0 {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}
