//! Answers to what cannot be read as a request.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;

use crate::clock;
use crate::http::Reason;
use crate::listen::Refusal;
use crate::listen::Refuse;
use crate::policy::correlation::machine::uuid_v7;
use crate::rng;

/// Makes a whole HTTP/1.1 response for a connection on which nothing more can be understood.
#[must_use]
pub fn maker() -> Refuse {
    Arc::new(|reason| {
        let unix_ms = u64::try_from(clock::unix().as_millis()).unwrap_or(u64::MAX);
        let id = uuid_v7(unix_ms, rng::bits(), rng::bits());
        let request_id =
            HeaderValue::from_bytes(&id).expect("hexadecimal digits and dashes are visible ASCII");
        Refusal {
            reason,
            bytes: response(reason, &String::from_utf8_lossy(&id)),
            request_id,
        }
    })
}

fn response(reason: Reason, request_id: &str) -> Bytes {
    let status = reason.status();
    let phrase = http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Error");
    let body = serde_json::json!({
        "type": "about:blank",
        "title": reason.title(),
        "status": status,
        "reason": reason.word(),
        "request_id": request_id,
    })
    .to_string();
    Bytes::from(format!(
        "HTTP/1.1 {status} {phrase}\r\n\
         content-type: application/problem+json\r\n\
         content-length: {}\r\n\
         cache-control: no-store\r\n\
         proxy-status: outrider; error={}\r\n\
         x-request-id: {request_id}\r\n\
         connection: close\r\n\r\n{body}",
        body.len(),
        reason.word(),
    ))
}
