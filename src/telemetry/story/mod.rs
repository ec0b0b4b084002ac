//! What happened to calls worth asking about: all that failed, all that were slow, and a sample of the rest.
//!
//! A [`Story`] is made of the notes that the rooms left on a call's trail, when the call is over. The newest of each kind
//! are kept in memory and shown at `/explain`; traces are told from the same ones.

mod json;
mod kept;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::Method;

pub use kept::Ask;
pub use kept::Stories;

use crate::http::Kept;
use crate::http::Reason;
use crate::http::TraceMark;
use crate::http::note::Noted;
use crate::kit::fields::Fields;

/// Which calls are remembered: `telemetry.explain` of a policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How many of each kind. Range: 10 to 100,000. Default: 1,000, about 1 KiB each.
    pub keep: u32,
    /// A call that takes this long is slow. Default: 1 s.
    pub slow: Duration,
    /// The share of calls that are remembered although they went well. Range: 0 to 1. Default: 0.01.
    pub sample: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keep: 1000,
            slow: Duration::from_secs(1),
            sample: 0.01,
        }
    }
}

impl Settings {
    /// The settings of a merged `telemetry.explain` block.
    pub fn lift<F: Fields>(block: &F) -> Self {
        let built_in = Self::default();
        Self {
            keep: block.count("keep").unwrap_or(built_in.keep),
            slow: block.duration("slow").unwrap_or(built_in.slow),
            sample: block.share("sample").unwrap_or(built_in.sample),
        }
    }
}

/// Why a story is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The call failed: outrider answered or ended it, or the upstream answered with 5xx.
    Failed,
    /// The call was slow.
    Slow,
    /// Neither: drawn.
    Sampled,
}

impl Kind {
    /// What a call is remembered as, if it is; `draw` is uniform in [0, 1).
    #[must_use]
    pub fn of(
        settings: &Settings,
        status: u16,
        reason: Option<Reason>,
        took: Duration,
        draw: impl FnOnce() -> f64,
    ) -> Option<Self> {
        if reason.is_some() || status >= 500 {
            Some(Self::Failed)
        } else if took >= settings.slow {
            Some(Self::Slow)
        } else {
            (settings.sample > 0.0 && draw() < settings.sample).then_some(Self::Sampled)
        }
    }

    /// As it stands at `/explain`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Slow => "slow",
            Self::Sampled => "sampled",
        }
    }
}

/// The names of a route, shared by the stories of its calls.
#[derive(Clone, Debug)]
pub struct Names {
    /// The upstream in the policy.
    pub upstream: Arc<str>,
    /// The match text of the route; `*` is the upstream itself.
    pub route: Arc<str>,
    /// The policy's revision.
    pub revision: Arc<str>,
}

/// One call, from its end backwards.
#[derive(Clone, Debug)]
pub struct Story {
    /// Place in the order of all that are remembered, from 1. Set when it is kept.
    pub number: u64,
    /// Why it is remembered.
    pub kind: Kind,
    /// What was matched.
    pub names: Names,
    /// `x-request-id`.
    pub request_id: Option<HeaderValue>,
    /// The trace.
    pub trace: Option<TraceMark>,
    /// When the request head was complete, since 1970-01-01T00:00:00Z.
    pub began: Duration,
    /// Who asked.
    pub peer: Option<IpAddr>,
    /// What was asked.
    pub method: Method,
    /// Of whom.
    pub host: Option<HeaderValue>,
    /// Without query: that may carry secrets.
    pub path: Box<str>,
    /// The application's side, such as `HTTP/1.1`.
    pub protocol: &'static str,
    /// What was answered.
    pub status: u16,
    /// The word when outrider answered or ended it.
    pub reason: Option<Reason>,
    /// Until the last byte.
    pub took: Duration,
    /// Until the response head.
    pub head: Option<Duration>,
    /// Body bytes from the application.
    pub bytes_in: u64,
    /// Body bytes to it.
    pub bytes_out: u64,
    /// Tries begun.
    pub tries: u32,
    /// The endpoint whose answer or failure it is.
    pub endpoint: Option<SocketAddr>,
    /// The arithmetic of the cache, where it had part in the call.
    pub kept: Option<Kept>,
    /// What was decided, in order.
    pub notes: Box<[Noted]>,
    /// Notes there was no room for.
    pub lost: u32,
}
