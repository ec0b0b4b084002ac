//! Which calls carry the secret, what a refusal of it leads to, and when a secret is replaced.
//!
//! What is done with a call before it is sent:
//!
//! | header as the application sent it | the secret | decision |
//! |---|---|---|
//! | there, and `overwrite: false` | any | keep: the application's own goes before ours |
//! | not there, or `overwrite: true` | held | set |
//! | | on its way | wait, within the deadline |
//! | | none | refuse: a call without it would only be refused by the upstream, or, worse, be obeyed as somebody else's |
//!
//! What is done with an answer to a call that carried it:
//!
//! | answer | other key | body | budget | decision |
//! |---|---|---|---|---|
//! | anything but 401 (gRPC: unauthenticated) | any | any | any | pass |
//! | 401 | none | any | any | pass, and ask for a fresh token where tokens are asked for |
//! | 401 | held | gone | any | pass |
//! | 401 | held | can be sent again | used up | pass |
//! | 401 | held | can be sent again | left | second: once more with the other key, and never a third time |
//!
//! What is done with what was read of a file:
//!
//! | read | before | decision |
//! |---|---|---|
//! | what is held | any | nothing |
//! | another secret | nothing held | take it |
//! | another secret | not seen before, or somebody still writes | look again: it may be half of one |
//! | another secret | the same was seen at the last look | take it |
//! | empty, malformed or gone | any | keep what is held, and count the error |

pub mod form;
pub mod token;

/// What there is of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holding {
    /// It can be sent.
    Held,
    /// It was asked for.
    Pending,
    /// There is none.
    Missing,
}

/// What to do with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It goes with what the application set.
    Keep,
    /// It gets the secret.
    Set,
    /// It waits for the secret.
    Wait,
    /// It does not go.
    Refuse,
}

/// Judges a call by the first table. `own`: the application has set the header.
#[must_use]
pub fn judge(own: bool, overwrite: bool, holding: Holding) -> Decision {
    match holding {
        _ if own && !overwrite => Decision::Keep,
        Holding::Held => Decision::Set,
        Holding::Pending => Decision::Wait,
        Holding::Missing => Decision::Refuse,
    }
}

/// What to do with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// It goes to the application.
    Pass,
    /// The secret may have been withdrawn: it is time for a fresh one. The answer goes to the application.
    Renew,
    /// The same call once more, with the other key.
    Second,
    /// It would have been sent once more, but the body is gone.
    BodyGone,
    /// It would have been sent once more, but too many were.
    NoBudget,
}

/// Judges an answer by the second table. `budget` is asked only where it is to be drawn on.
pub fn on_answer(
    refused: bool,
    other: bool,
    replayable: bool,
    budget: impl FnOnce() -> bool,
) -> After {
    match (refused, other, replayable) {
        (false, ..) => After::Pass,
        (true, false, _) => After::Renew,
        (true, true, false) => After::BodyGone,
        (true, true, true) if budget() => After::Second,
        (true, true, true) => After::NoBudget,
    }
}

/// Why there is no secret, or no new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// The file or variable is not there.
    Missing,
    /// It cannot be read, or is no file.
    Unreadable,
    /// There is nothing in it.
    Empty,
    /// It is larger than any secret.
    TooLarge,
    /// It cannot stand in a header: several lines, or control characters.
    Malformed,
    /// The secret of the client is not to be had, so no token can be asked for.
    ClientSecret,
    /// The token endpoint's name has no address, or none that it may have.
    Unresolved,
    /// The token endpoint cannot be reached.
    Connect,
    /// It is not who it should be, or speaks no TLS.
    Tls,
    /// It did not answer in time.
    Timeout,
    /// It did not give a token, and said why (RFC 6749 section 5.2).
    Refused,
    /// It answered with something else than a token.
    Answer,
}

impl Trouble {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::Missing,
        Self::Unreadable,
        Self::Empty,
        Self::TooLarge,
        Self::Malformed,
        Self::ClientSecret,
        Self::Unresolved,
        Self::Connect,
        Self::Tls,
        Self::Timeout,
        Self::Refused,
        Self::Answer,
    ];

    /// The word of the log and the metric.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Unreadable => "unreadable",
            Self::Empty => "empty",
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::ClientSecret => "client_secret",
            Self::Unresolved => "unresolved",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Refused => "refused",
            Self::Answer => "answer",
        }
    }
}

/// The longest secret that is taken. Servers refuse heads of more than 8 KiB to 64 KiB, so a longer one could not be used.
pub const SECRET_MAX: usize = 16 * 1024;

/// The secret in what a file or variable holds: without the end of its line, which editors and `echo` add.
///
/// # Errors
/// When it is empty, too long, or cannot stand in a header (RFC 9110 section 5.5).
pub fn secret(text: &[u8]) -> Result<&[u8], Trouble> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(Trouble::Empty);
    }
    if text.len() > SECRET_MAX {
        return Err(Trouble::TooLarge);
    }
    // Blanks around a value are no part of it (section 5.5), so the upstream would see another secret than the file holds.
    let bare = text.trim_ascii().len() == text.len();
    if !bare || !text.iter().all(|byte| matches!(byte, 0x20..=0x7e | 0x80..)) {
        return Err(Trouble::Malformed);
    }
    Ok(text)
}

/// What a look at a file found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// What is held.
    Held,
    /// A secret that is not held. `again`: the look before this one found the same.
    Other {
        /// It was there at the last look too.
        again: bool,
    },
    /// No secret.
    Nothing(Trouble),
}

/// What to do after a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Nothing.
    Rest,
    /// Look again soon.
    Again,
    /// From now on this one is sent.
    Take,
    /// What is held goes on; the error is counted.
    Count(Trouble),
}

/// Judges a look at a file by the third table. `held`: there is one already. `writing`: somebody was seen to write and not
/// to close.
#[must_use]
pub fn on_look(found: Found, held: bool, writing: bool) -> Look {
    match found {
        Found::Held => Look::Rest,
        Found::Nothing(trouble) => Look::Count(trouble),
        Found::Other { again } if held && (writing || !again) => Look::Again,
        Found::Other { .. } => Look::Take,
    }
}
