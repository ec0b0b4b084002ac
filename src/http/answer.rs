//! Errors speak: the response that outrider itself makes of a fault.
//!
//! HTTP gets `application/problem+json` (RFC 9457), gRPC a trailers-only response; both carry `proxy-status`
//! (RFC 9209) with the reason word, and `retry-after` where the fault knows when.

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::header;

use crate::http::Fault;
use crate::http::Reason;
use crate::http::ResponseBody;
use crate::redact;
use crate::redact::Clean;

/// The response to a client whose call ended in `fault`. `grpc` chooses the gRPC form.
#[must_use]
pub fn answer(
    fault: &Fault,
    request_id: Option<&HeaderValue>,
    grpc: bool,
) -> Response<ResponseBody> {
    let mut response = if grpc {
        grpc_answer(fault)
    } else {
        problem(fault, request_id)
    };
    let headers = response.headers_mut();
    headers.insert(
        "proxy-status",
        text(format!("outrider; error={}", fault.reason.word())),
    );
    if fault.reason.ends_connection() {
        // HTTP/2 has no such field and its encoder leaves it out: there the stream ends, and the connection may stay.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(id) = request_id {
        headers.insert("x-request-id", id.clone());
    }
    if let Some(wait) = fault.retry_after {
        // Rounded up: coming back early would only be refused again.
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    for (name, value) in &fault.fields {
        headers.append(name, value.clone());
    }
    response
}

fn problem(fault: &Fault, request_id: Option<&HeaderValue>) -> Response<ResponseBody> {
    let status = StatusCode::from_u16(fault.status()).unwrap_or(StatusCode::BAD_GATEWAY);
    let body = serde_json::json!({
        "type": "about:blank",
        "title": fault.reason.title(),
        "status": status.as_u16(),
        "reason": fault.reason.word(),
        "request_id": request_id.map(|id| redact::id(id.as_bytes()).to_text().into_owned()),
    });
    // Words of ours, and an identifier that was looked at.
    let body = Clean::vetted(body.to_string().into_bytes());
    let bytes = Bytes::from(body.into_bytes());
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    *response.body_mut() = ResponseBody::full(bytes);
    response
}

fn grpc_answer(fault: &Fault) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    headers.insert(
        "grpc-status",
        HeaderValue::from(u16::from(
            fault.code.map_or(grpc_code(fault.reason), |code| code.grpc),
        )),
    );
    headers.insert(
        "grpc-message",
        text(format!("outrider: {}", fault.reason.word())),
    );
    response
}

/// The gRPC code of a reason, after the HTTP-to-gRPC mapping of the gRPC project, with the two codes that say more.
fn grpc_code(reason: Reason) -> u8 {
    const DEADLINE_EXCEEDED: u8 = 4;
    const PERMISSION_DENIED: u8 = 7;
    const RESOURCE_EXHAUSTED: u8 = 8;
    const UNIMPLEMENTED: u8 = 12;
    const INTERNAL: u8 = 13;
    const UNAVAILABLE: u8 = 14;
    match reason.status() {
        504 | 408 => DEADLINE_EXCEEDED,
        403 => PERMISSION_DENIED,
        413 | 429 | 431 => RESOURCE_EXHAUSTED,
        501 => UNIMPLEMENTED,
        502 | 503 => UNAVAILABLE,
        _ => INTERNAL,
    }
}

/// `grpc-status` of a header or trailer section.
#[must_use]
pub fn grpc_status_of(headers: &HeaderMap) -> Option<u8> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

fn text(value: String) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from(value))
        .expect("reason words are visible ASCII, which every header value may hold")
}
