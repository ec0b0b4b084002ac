//! Why a call has no response, and whether repeating it is safe.

use std::fmt;
use std::time::Duration;

use http::HeaderName;
use http::HeaderValue;

use crate::http::Reason;

/// Whether any byte of the request may have reached the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Certainly none: repeating is safe for every method.
    No,
    /// Perhaps some, so the upstream may have acted on it.
    Maybe,
}

/// Statuses to answer in place of the reason's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// To an HTTP call. Range: 400 to 599.
    pub http: u16,
    /// To a gRPC call. Range: 1 to 16.
    pub grpc: u8,
}

/// Marks a response that must not be sent: the client's connection (HTTP/1) or stream (HTTP/2) is reset instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("reset on purpose")
    }
}

impl std::error::Error for Cut {}

/// A call that ended without a response from the upstream.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The stable word.
    pub reason: Reason,
    /// Whether a retry can do harm.
    pub sent: Sent,
    /// A kept connection died before any byte of an answer: most likely the endpoint closed it while we wrote. Sending
    /// again on a fresh one is part of using kept connections (RFC 9112 section 9.3.1), not a retry.
    pub stale: bool,
    /// The caller had left the upstream much less time than policy gives, so that being late says nothing about its health.
    pub hurried: bool,
    /// Why the hops before us must not send the call again, where the reason alone does not say it.
    pub no_retry: Option<&'static str>,
    /// When to come back, for a refusal that knows it (sent as `Retry-After`).
    pub retry_after: Option<Duration>,
    /// Fields that the answer carries besides; none costs nothing.
    pub fields: Vec<(HeaderName, HeaderValue)>,
    /// What is answered, where it is not what the reason says.
    pub code: Option<Code>,
    /// Why the connection could not be secured, where that is what failed; `tls` in the log.
    pub tls: Option<&'static str>,
    /// What the operating system or a library said; for logs, never needed to understand the reason.
    pub detail: Option<Box<str>>,
}

impl Fault {
    /// A fault before any byte went out.
    #[must_use]
    pub fn unsent(reason: Reason) -> Self {
        Self {
            reason,
            sent: Sent::No,
            stale: false,
            hurried: false,
            no_retry: None,
            retry_after: None,
            fields: Vec::new(),
            code: None,
            tls: None,
            detail: None,
        }
    }

    /// A fault after bytes may have gone out.
    #[must_use]
    pub fn maybe_sent(reason: Reason) -> Self {
        Self {
            sent: Sent::Maybe,
            ..Self::unsent(reason)
        }
    }

    /// Adds what a library said of it.
    #[must_use]
    pub fn because(mut self, detail: impl fmt::Display) -> Self {
        self.detail = Some(detail.to_string().into_boxed_str());
        self
    }

    /// Says why the connection could not be secured.
    #[must_use]
    pub fn unsecured(mut self, why: &'static str) -> Self {
        self.tls = Some(why);
        self.because(why)
    }

    /// Answers this in place of the reason's own status.
    #[must_use]
    pub fn coded(mut self, code: Code) -> Self {
        self.code = Some(code);
        self
    }

    /// The HTTP status to answer.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.code.map_or(self.reason.status(), |code| code.http)
    }

    /// Adds the time after which asking again makes sense.
    #[must_use]
    pub fn after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason.word())?;
        match &self.detail {
            Some(detail) => write!(f, " ({detail})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Fault {}
