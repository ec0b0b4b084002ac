//! correlation: every call can be found again, in our log, in the upstream's, and in a trace.
//!
//! Stands outermost of the rooms, so that whatever answers a call, the cache of a later version or a refusal among
//! them, answers with its identity; and a second time inside `retry`, where every try becomes a span of its own.
//!
//! - `x-request-id` is kept where it is 1 to 128 visible ASCII characters, else begun as a UUIDv7 (RFC 9562). It goes to
//!   the upstream, and to the client, in place of one the upstream may send: one call, one name.
//! - `x-correlation-id` is kept likewise, else it is the request's identifier. It joins the calls of one transaction.
//! - `traceparent` (W3C Trace Context) is kept, else made of B3, else begun. `tracestate` stays only beside a valid
//!   `traceparent`, as its specification wants; `baggage` and B3 fields are never touched.

pub mod config;
mod layer;
pub mod machine;
pub mod metrics;

#[cfg(test)]
mod tests;

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use opentelemetry::trace::SpanId;
use opentelemetry::trace::TraceFlags;
use opentelemetry::trace::TraceId;

use machine::Incoming;
use machine::Origin;
use machine::Trace;

pub use config::Settings;
pub use layer::Correlation;
pub use layer::CorrelationLayer;
pub use layer::TryLayer;
pub use layer::TrySpan;

static REQUEST_ID: HeaderName = HeaderName::from_static(config::REQUEST_ID);
static CORRELATION_ID: HeaderName = HeaderName::from_static(config::CORRELATION_ID);
static TRACEPARENT: HeaderName = HeaderName::from_static(config::TRACEPARENT);
static TRACESTATE: HeaderName = HeaderName::from_static(config::TRACESTATE);

/// The identity of one call.
#[derive(Clone, Debug)]
pub struct Ids {
    /// `x-request-id` as sent on.
    pub request_id: HeaderValue,
    /// `x-correlation-id` as sent on.
    pub correlation_id: HeaderValue,
    /// Whether the application sent the request's identifier.
    pub request_id_kept: bool,
    /// The trace the call belongs to.
    pub trace_id: TraceId,
    /// The application's span; none when the trace begins here.
    pub parent: Option<SpanId>,
    /// Our span of the call; each try is a child of it.
    pub span: SpanId,
    /// Sampled or not.
    pub flags: TraceFlags,
    /// Where the trace comes from.
    pub origin: Origin,
}

/// What was found in the fields of a request, borrowed from them.
#[derive(Default)]
struct Found<'a> {
    incoming: Incoming<'a>,
    request_id: Option<&'a HeaderValue>,
    correlation_id: Option<&'a HeaderValue>,
    repeated_request_id: bool,
    repeated_correlation_id: bool,
    tracestate: bool,
}

impl<'a> Found<'a> {
    /// One pass over the names: nine look-ups, most of them in vain, would each hash a name.
    fn read(headers: &'a HeaderMap) -> Self {
        let mut found = Self::default();
        for (name, value) in headers {
            let name = name.as_str();
            match (name.len(), name.as_bytes()[0]) {
                (12, b'x') if name == config::REQUEST_ID => {
                    found.repeated_request_id |= found.request_id.is_some();
                    found.request_id.get_or_insert(value);
                }
                (16, b'x') if name == config::CORRELATION_ID => {
                    found.repeated_correlation_id |= found.correlation_id.is_some();
                    found.correlation_id.get_or_insert(value);
                }
                (11, b't') if name == config::TRACEPARENT => {
                    found.incoming.repeated |= found.incoming.traceparent.is_some();
                    found.incoming.traceparent = Some(value.as_bytes());
                }
                (10, b't') if name == config::TRACESTATE => found.tracestate = true,
                (2, b'b') if name == config::B3 => found.incoming.b3 = Some(value.as_bytes()),
                (12, b'x') if name == config::B3_TRACE_ID => {
                    found.incoming.b3_trace_id = Some(value.as_bytes());
                }
                (11, b'x') if name == config::B3_SPAN_ID => {
                    found.incoming.b3_span_id = Some(value.as_bytes());
                }
                (12, b'x') if name == config::B3_SAMPLED => {
                    found.incoming.b3_sampled = Some(value.as_bytes());
                }
                (10, b'x') if name == config::B3_FLAGS => {
                    found.incoming.b3_flags = Some(value.as_bytes());
                }
                _ => {}
            }
        }
        found
    }
}

/// Reads the identity of a call out of its fields, begins what is missing, and writes it back.
///
/// `traceparent` itself is left to [`stamp_try`], since every try has a span of its own. `sample` is the share of begun
/// traces that are marked as sampled ([`Settings::sample`]).
pub fn apply(headers: &mut HeaderMap, now_unix_ms: u64, draws: [u64; 4], sample: f64) -> Ids {
    let found = Found::read(headers);
    let trace = machine::trace(&found.incoming, [draws[1], draws[2], draws[3]], sample);
    let kept_id = kept(found.request_id);
    let kept_correlation = kept(found.correlation_id);
    let must_write_id = kept_id.is_none() || found.repeated_request_id;
    let must_write_correlation = kept_correlation.is_none() || found.repeated_correlation_id;
    let orphaned = found.tracestate && trace.origin != Origin::W3c;

    let request_id_kept = kept_id.is_some();
    let request_id =
        kept_id.unwrap_or_else(|| text(&machine::uuid_v7(now_unix_ms, draws[0], draws[1])));
    let correlation_id = kept_correlation.unwrap_or_else(|| request_id.clone());
    if must_write_id {
        headers.insert(&REQUEST_ID, request_id.clone());
    }
    if must_write_correlation {
        headers.insert(&CORRELATION_ID, correlation_id.clone());
    }
    if orphaned {
        headers.remove(&TRACESTATE);
    }
    Ids::new(request_id, correlation_id, request_id_kept, &trace)
}

impl Ids {
    fn new(
        request_id: HeaderValue,
        correlation_id: HeaderValue,
        request_id_kept: bool,
        trace: &Trace,
    ) -> Self {
        Self {
            request_id,
            correlation_id,
            request_id_kept,
            trace_id: TraceId::from_bytes(trace.trace_id),
            parent: trace.parent.map(SpanId::from_bytes),
            span: SpanId::from_bytes(trace.span),
            flags: TraceFlags::new(trace.flags),
            origin: trace.origin,
        }
    }
}

/// Writes the `traceparent` of one try: the trace of the call, and a span made of `draw`.
pub fn stamp_try(
    headers: &mut HeaderMap,
    trace_id: TraceId,
    flags: TraceFlags,
    draw: u64,
) -> SpanId {
    let span = machine::span(draw);
    let value = machine::traceparent(&trace_id.to_bytes(), &span, flags.to_u8());
    headers.insert(&TRACEPARENT, text(&value));
    SpanId::from_bytes(span)
}

/// Gives the client the identity of its call, in place of one the upstream may send: the log, the upstream and the client
/// must all know the call by one name.
pub fn stamp_response(headers: &mut HeaderMap, request_id: &HeaderValue) {
    headers.insert(&REQUEST_ID, request_id.clone());
}

fn kept(value: Option<&HeaderValue>) -> Option<HeaderValue> {
    value
        .filter(|value| machine::is_identifier(value.as_bytes()))
        .cloned()
}

fn text(ascii: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(ascii).expect("hexadecimal digits and dashes are visible ASCII")
}
