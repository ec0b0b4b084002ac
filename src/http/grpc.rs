//! gRPC status codes, and what they are in HTTP.

/// gRPC status names by code (the gRPC specification, `statuscodes`).
pub const GRPC_STATUS: [&str; 17] = [
    "ok",
    "cancelled",
    "unknown",
    "invalid_argument",
    "deadline_exceeded",
    "not_found",
    "already_exists",
    "permission_denied",
    "resource_exhausted",
    "failed_precondition",
    "aborted",
    "out_of_range",
    "unimplemented",
    "internal",
    "unavailable",
    "data_loss",
    "unauthenticated",
];

/// The HTTP status of each gRPC code, by the mapping of `google.rpc.Code`.
const HTTP_STATUS: [u16; 17] = [
    200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401,
];

/// The HTTP status that says what a gRPC code says; 500 for what is no code.
#[must_use]
pub fn http_of_grpc(code: u8) -> u16 {
    HTTP_STATUS.get(usize::from(code)).copied().unwrap_or(500)
}

/// The code that a gRPC client takes an HTTP status for (the gRPC project, `http-grpc-status-mapping`).
#[must_use]
pub const fn grpc_of_http(status: u16) -> u8 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}
