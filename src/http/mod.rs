//! The vocabulary that rooms share: the call on its way, its bodies, and the faults that can end it.
//!
//! Rooms never name each other. What one room must tell another travels in a [`Trail`].

mod answer;
mod call;
pub mod caller;
mod classify;
mod fault;
mod grpc;
pub mod hops;
mod kept;
mod method;
pub mod note;
mod reason;
pub mod replay;
mod request_body;
mod response_body;
pub mod strict;

#[cfg(test)]
mod tests;

pub use answer::answer;
pub use answer::grpc_status_of;
pub use call::Call;
pub use call::TraceMark;
pub use call::Trail;
pub use caller::Caller;
pub use classify::Health;
pub use fault::Code;
pub use fault::Cut;
pub use fault::Fault;
pub use fault::Sent;
pub use grpc::GRPC_STATUS;
pub use grpc::grpc_of_http;
pub use grpc::http_of_grpc;
pub use kept::Kept;
pub use method::MethodClass;
pub use reason::Reason;
pub use request_body::RequestBody;
pub use response_body::Ended;
pub use response_body::ResponseBody;

/// What a layer of the stack gives back: a response from the upstream, or the fault that prevented one.
pub type Outcome = Result<http::Response<ResponseBody>, Fault>;

/// A future of one worker; workers are single-threaded, so it need not be `Send`.
pub type LocalFuture<T> = std::pin::Pin<Box<dyn Future<Output = T>>>;

/// True for a gRPC call or answer: `content-type: application/grpc` and its `+proto`-style variants.
#[must_use]
pub fn is_grpc(headers: &http::HeaderMap) -> bool {
    headers
        .get(http::header::CONTENT_TYPE)
        .and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"))
        .is_some_and(|rest| rest.is_empty() || matches!(rest[0], b'+' | b';'))
}
