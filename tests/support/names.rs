//! Every name that these tests expect to see from outside, in one place.
//!
//! The metric families and the first headers are fixed by the contract; a change of any of these is a change for users.

pub const REQUEST_ID: &str = "x-request-id";
pub const CORRELATION_ID: &str = "x-correlation-id";
pub const PROXY_STATUS: &str = "proxy-status";

/// Metric families that must be there after one request.
pub const FAMILIES: &[&str] = &[
    "outrider_requests_total",
    "outrider_request_duration_seconds",
    "outrider_tries_total",
    "outrider_retries_total",
    "outrider_breaker_state",
    "outrider_breaker_transitions_total",
    "outrider_ejections_total",
    "outrider_policy_info",
    "outrider_policy_reload_success",
];

/// Labels of the metrics.
pub mod label {
    pub const UPSTREAM: &str = "upstream";
    pub const ROUTE: &str = "route";
    pub const METHOD: &str = "method";
    pub const STATUS: &str = "status";
    pub const REASON: &str = "reason";
    pub const FROM: &str = "from";
    pub const TO: &str = "to";
    pub const REVISION: &str = "revision";
}

/// Values of `outrider_breaker_state`.
pub mod state {
    pub const CLOSED: f64 = 0.0;
    pub const OPEN: f64 = 2.0;
}

/// Keys of an access log line.
pub mod log {
    pub const TIME: &str = "time";
    pub const METHOD: &str = "method";
    pub const HOST: &str = "host";
    pub const PATH: &str = "path";
    pub const STATUS: &str = "status";
    pub const REASON: &str = "reason";
    pub const UPSTREAM: &str = "upstream";
    pub const ROUTE: &str = "route";
    pub const ENDPOINT: &str = "endpoint";
    pub const TRIES: &str = "tries";
    pub const HEDGED: &str = "hedged";
    pub const RETRY_SKIPPED: &str = "retry_skipped";
    pub const REQUEST_ID: &str = "request_id";
    pub const TRACE_ID: &str = "trace_id";
    pub const DURATION: &str = "duration_ms";
    pub const SNI: &str = "sni";
    pub const BYTES_IN: &str = "bytes_in";
    pub const BYTES_OUT: &str = "bytes_out";
}
