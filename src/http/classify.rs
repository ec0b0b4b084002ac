//! What an outcome says about the upstream's health. Asked by every room that judges an upstream.

use http::Response;
use http::StatusCode;

use crate::http::Ended;
use crate::http::Fault;
use crate::http::Outcome;
use crate::http::Reason;
use crate::http::ResponseBody;
use crate::http::Sent;
use crate::http::grpc_status_of;
use crate::http::is_grpc;
use crate::http::response_body::GRPC_DEADLINE_EXCEEDED;

/// The upstream's part in an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answered, and not with a server error. A 4xx is the caller's business.
    Good,
    /// It failed: 5xx, a failing gRPC status, no answer, a broken one, or one too late.
    Bad,
    /// It had no part in it: our own refusal, the client's fault, a call abandoned.
    Neutral,
}

impl Health {
    /// The health that `outcome` shows; `None` for a gRPC answer whose status is still to come in the trailers.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Option<Self> {
        match outcome {
            Ok(response) => Self::of_response(response),
            Err(fault) => Some(Self::of_fault(fault)),
        }
    }

    fn of_response(response: &Response<ResponseBody>) -> Option<Self> {
        let is_hurried = response.body().is_hurried();
        if response.status().is_server_error() {
            let is_late = response.status() == StatusCode::GATEWAY_TIMEOUT;
            return Some(if is_late && is_hurried {
                Self::Neutral
            } else {
                Self::Bad
            });
        }
        if !is_grpc(response.headers()) {
            return Some(Self::Good);
        }
        // A trailers-only response carries the status among the headers.
        let code = grpc_status_of(response.headers())?;
        Some(if code == GRPC_DEADLINE_EXCEEDED && is_hurried {
            Self::Neutral
        } else {
            Self::of_grpc(code)
        })
    }

    /// The health that a gRPC body shows once it has ended.
    #[must_use]
    pub fn of_end(ended: Ended) -> Self {
        match ended {
            Ended::Complete {
                grpc_status: Some(code),
            } => Self::of_grpc(code),
            // No status at all is a broken answer, by the gRPC protocol.
            Ended::Complete { grpc_status: None } | Ended::Failed(_) => Self::Bad,
            Ended::Hurried | Ended::Dropped => Self::Neutral,
        }
    }

    fn of_grpc(code: u8) -> Self {
        const INTERNAL: u8 = 13;
        const UNAVAILABLE: u8 = 14;
        const DATA_LOSS: u8 = 15;
        match code {
            GRPC_DEADLINE_EXCEEDED | INTERNAL | UNAVAILABLE | DATA_LOSS => Self::Bad,
            _ => Self::Good,
        }
    }

    fn of_fault(fault: &Fault) -> Self {
        match fault.reason {
            _ if fault.hurried => Self::Neutral,
            // Refused before it began: whatever time there was, this upstream did not have it.
            Reason::Deadline if fault.sent == Sent::No => Self::Neutral,
            Reason::ConnectRefused
            | Reason::ConnectTimeout
            | Reason::ConnectFailed
            | Reason::TlsHandshake
            | Reason::TlsRefused
            | Reason::PeerCertificate
            | Reason::PeerIdentity
            | Reason::Reset
            | Reason::Refused
            | Reason::ProtocolError
            | Reason::TryTimeout
            | Reason::Deadline
            | Reason::ResponseAborted
            | Reason::IdleTimeout => Self::Bad,
            _ => Self::Neutral,
        }
    }
}
