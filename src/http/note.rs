//! What was decided about one call, in the order in which it was decided.
//!
//! Each room notes its decision with the numbers it was taken by, and each try what became of it. The access log, the
//! span, the page and `outrider explain` are read off these notes, so that all of them tell the same story.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;

use smallvec::SmallVec;

use crate::http::Outcome;
use crate::http::Reason;
use crate::http::Sent;

/// Notes that a call keeps at most. A call that goes round for longer has said all there is to learn.
pub const MOST: usize = 64;
/// Notes that need no memory of their own: a call that is answered at its first try has fewer.
const INLINE: usize = 6;

/// What a room did with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Let it pass.
    Passed,
    /// Refused it.
    Refused,
    /// Let it pass in `mode: shadow`, and would have refused it.
    WouldRefuse,
}

impl Fate {
    /// As it stands in the record.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Refused => "refused",
            Self::WouldRefuse => "would_refuse",
        }
    }
}

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It has not, or nobody waited for it any more: another copy answered first, or the client left.
    Open,
    /// The upstream answered with this status.
    Answered(u16),
    /// There is no answer.
    Failed(Reason, Sent),
}

/// One try.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Try {
    /// Its span, eight bytes of the trace context; zero where the call has no trace.
    pub span: u64,
    /// Where it went; `None` if it never got that far.
    pub endpoint: Option<SocketAddr>,
    /// Whether it went over a connection that was open already.
    pub reused: bool,
    /// How long it took, to the response head.
    pub took: Option<Duration>,
    /// How it ended.
    pub end: End,
}

/// One decision, with the numbers it was taken by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Note {
    /// outrider itself had too much to do.
    Overload(Fate),
    /// A fault was made on purpose.
    Fault {
        /// What was done, such as `delay`.
        what: &'static str,
    },
    /// The cache was asked.
    Cache {
        /// What it did, the word of `cache` in the log.
        did: &'static str,
        /// Why the answer was not kept, or what it stands in for.
        why: Option<&'static str>,
    },
    /// The time of the call was fixed.
    Deadline {
        /// All of it, from the start.
        total: Duration,
        /// The caller had less time than policy gives.
        from_caller: bool,
    },
    /// The limit was asked.
    Limit {
        /// What it did.
        fate: Fate,
        /// Calls that would pass now.
        left: u64,
        /// Until one more would.
        more_in: Duration,
    },
    /// The bulkhead was asked.
    Bulkhead {
        /// What it did.
        fate: Fate,
        /// Calls in flight, this one not counted.
        in_flight: u32,
        /// How many may be.
        max: u32,
        /// Time in its queue.
        waited: Duration,
    },
    /// A key was put on the call, or its own was kept.
    Idempotency {
        /// It was made here.
        made: bool,
    },
    /// A second copy was sent or thought of.
    Hedge {
        /// What became of it, the word of `hedged` in the log; or why there is none.
        fate: &'static str,
        /// After how long.
        after: Duration,
    },
    /// A failed try was judged.
    Retry {
        /// Once more after this long; `None` is not.
        again_in: Option<Duration>,
        /// What it was judged by: the cause of the retry, or why there is none.
        why: &'static str,
        /// Retries left in the budget.
        budget: f32,
    },
    /// The policy has a secret for the call.
    Credential {
        /// What was done, in words such as `set`.
        did: &'static str,
    },
    /// The breaker was asked.
    Breaker {
        /// What it did.
        fate: Fate,
        /// Its state.
        state: &'static str,
        /// When it is worth asking again; zero where the call passed.
        more_in: Duration,
        /// An operator holds it there.
        by_hand: bool,
    },
    /// A try.
    Try(Try),
}

impl Note {
    /// The room that wrote it.
    #[must_use]
    pub const fn room(&self) -> &'static str {
        match self {
            Self::Overload(_) => "overload",
            Self::Fault { .. } => "fault",
            Self::Cache { .. } => "cache",
            Self::Deadline { .. } => "deadline",
            Self::Limit { .. } => "limit",
            Self::Bulkhead { .. } => "bulkhead",
            Self::Idempotency { .. } => "idempotency",
            Self::Hedge { .. } => "hedge",
            Self::Retry { .. } => "retry",
            Self::Credential { .. } => "credential",
            Self::Breaker { .. } => "breaker",
            Self::Try(_) => "try",
        }
    }
}

/// The sentence a person reads. A try says only how it ended: where and when are columns of their own.
impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overload(fate) => write!(f, "{}: the proxy has too much to do", said(*fate)),
            Self::Fault { what } => write!(f, "{what}, on purpose"),
            Self::Cache { did, why } => {
                f.write_str(did)?;
                why.map_or(Ok(()), |why| write!(f, " ({why})"))
            }
            Self::Deadline { total, from_caller } => {
                let whose = if *from_caller { ", the caller's" } else { "" };
                write!(f, "{}{whose}", Ms(*total))
            }
            Self::Limit {
                fate,
                left,
                more_in,
            } => match fate {
                Fate::Passed => write!(f, "passed, {left} left"),
                _ => write!(f, "{}, the next may pass in {}", said(*fate), Ms(*more_in)),
            },
            Self::Bulkhead {
                fate,
                in_flight,
                max,
                waited,
            } => {
                write!(f, "{}, {in_flight} of {max} in flight", said(*fate))?;
                if waited.is_zero() {
                    return Ok(());
                }
                write!(f, ", waited {}", Ms(*waited))
            }
            Self::Idempotency { made: true } => f.write_str("a key was added"),
            Self::Idempotency { made: false } => f.write_str("carries a key of its own"),
            Self::Hedge { fate, after } => write!(f, "after {}: {fate}", Ms(*after)),
            Self::Retry {
                again_in: Some(wait),
                why,
                budget,
            } => write!(
                f,
                "again in {} because of {why}, {budget:.1} left in the budget",
                Ms(*wait)
            ),
            Self::Retry {
                again_in: None,
                why,
                ..
            } => write!(f, "not again: {why}"),
            Self::Credential { did } => f.write_str(did),
            Self::Breaker {
                fate: Fate::Passed,
                state,
                ..
            } => write!(f, "{state}, passed as a probe"),
            Self::Breaker {
                fate,
                state,
                more_in,
                by_hand,
            } => {
                let whose = if *by_hand { " by hand" } else { "" };
                let (did, wait) = (said(*fate), Ms(*more_in));
                write!(f, "{state}{whose}, {did}, the next may pass in {wait}")
            }
            Self::Try(tried) => tried.fmt(f),
        }
    }
}

impl fmt::Display for Try {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.end {
            End::Open => f.write_str("given up"),
            End::Answered(status) => write!(f, "answered {status}"),
            End::Failed(reason, Sent::No) => write!(f, "{reason}, nothing was sent"),
            End::Failed(reason, Sent::Maybe) => write!(f, "{reason}"),
        }
    }
}

const fn said(fate: Fate) -> &'static str {
    match fate {
        Fate::Passed => "passed",
        Fate::Refused => "refused",
        Fate::WouldRefuse => "would refuse",
    }
}

/// A time as people read it: `1.25ms`, `2s`.
struct Ms(Duration);

impl fmt::Display for Ms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        if seconds >= 1.0 {
            write!(f, "{}s", (seconds * 1e3).round() / 1e3)
        } else {
            write!(f, "{}ms", (seconds * 1e5).round() / 1e2)
        }
    }
}

/// A note, when it was made and of which copy of the call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Noted {
    /// Since the start of the call.
    pub at: Duration,
    /// 0 is the call itself, 1 its first hedge.
    pub copy: u8,
    /// What was decided.
    pub note: Note,
}

/// The notes of one call and all its copies.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    list: SmallVec<[Noted; INLINE]>,
    lost: u32,
}

impl Notes {
    /// Adds one; gives its place, `None` if there is no room for more.
    pub(super) fn push(&mut self, noted: Noted) -> Option<usize> {
        if self.list.len() == MOST {
            self.lost += 1;
            return None;
        }
        self.list.push(noted);
        Some(self.list.len() - 1)
    }

    /// The try at `place`.
    pub(super) fn try_at(&mut self, place: usize) -> Option<&mut Try> {
        match &mut self.list.get_mut(place)?.note {
            Note::Try(tried) => Some(tried),
            _ => None,
        }
    }

    /// All of them, the earliest first.
    #[must_use]
    pub fn all(&self) -> &[Noted] {
        &self.list
    }

    /// How many there was no room for.
    #[must_use]
    pub fn lost(&self) -> u32 {
        self.lost
    }
}

impl End {
    /// The end that `outcome` is.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Self {
        match outcome {
            Ok(response) => Self::Answered(response.status().as_u16()),
            Err(fault) => Self::Failed(fault.reason, fault.sent),
        }
    }
}

/// How long after `started` something at `now` is.
pub(super) fn since(started: Instant, now: Instant) -> Duration {
    now.saturating_duration_since(started)
}
