//! Settings of correlation, and the names of its fields.
//!
//! The room cannot be turned off: a call without an identity cannot be found again in a log.

/// Identifies one call.
pub const REQUEST_ID: &str = "x-request-id";
/// Joins the calls of one transaction.
pub const CORRELATION_ID: &str = "x-correlation-id";
/// W3C Trace Context: trace, parent span and flags.
pub const TRACEPARENT: &str = "traceparent";
/// W3C Trace Context: what vendors add to a trace.
pub const TRACESTATE: &str = "tracestate";
/// B3, single-field form.
pub const B3: &str = "b3";
/// B3, multi-field form: the trace.
pub const B3_TRACE_ID: &str = "x-b3-traceid";
/// B3, multi-field form: the parent span.
pub const B3_SPAN_ID: &str = "x-b3-spanid";
/// B3, multi-field form: `1` or `0`.
pub const B3_SAMPLED: &str = "x-b3-sampled";
/// B3, multi-field form: `1` is debug, which is sampled.
pub const B3_FLAGS: &str = "x-b3-flags";

/// What correlation can be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The share of traces begun here that are marked as sampled. A trace that arrives keeps its own mark.
    /// Unit: share. Range: 0 to 1. Default: 0, as long as no spans of ours are exported: a sampled trace whose first
    /// span nobody recorded is a torso. Services with a parent-based sampler follow the mark, so with 0 they record
    /// nothing of a call that an uninstrumented application began.
    pub sample: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { sample: 0.0 }
    }
}
