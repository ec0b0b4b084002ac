//! The closed list of reason words.
//!
//! One word for one cause, the same in the response, the access log, the metric label and (later) the span. Adding a
//! word is adding a variant here; nothing else in the program spells one.

use std::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $word:literal, $status:literal, $title:literal;)*) => {
        /// Why outrider itself answered, or why it ended an exchange.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        impl Reason {
            /// Every reason, in declaration order; `reason as usize` is its place here.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)*];

            /// The stable word, as written in `proxy-status`, the log, and the `reason` label.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Reason::$variant => $word,)* }
            }

            /// The HTTP status code sent with it. 499 is only ever logged: the client has gone.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Reason::$variant => $status,)* }
            }

            /// One sentence for a person; the `title` of the RFC 9457 body.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Reason::$variant => $title,)* }
            }
        }
    };
}

reasons! {
    /// The parser could not read the request head (RFC 9112).
    MalformedRequest = "malformed_request", 400, "The request could not be parsed as HTTP.";
    /// Host is missing, repeated, or not a valid authority (RFC 9112 section 3.2).
    InvalidHost = "invalid_host", 400, "The Host header is missing, repeated or invalid.";
    /// The request target cannot be forwarded: userinfo, a foreign scheme, or it disagrees with Host.
    InvalidTarget = "invalid_target", 400, "The request target is invalid.";
    /// A field name or value that some parser on the way would read differently.
    InvalidHeader = "invalid_header", 400, "A header field is ambiguous or contains forbidden characters.";
    /// Body framing that two parsers may read differently (RFC 9112 section 6).
    InvalidFraming = "invalid_framing", 400, "The body framing of the request is ambiguous.";
    /// The client's body broke its own framing (bad chunk, short body).
    InvalidBody = "invalid_body", 400, "The request body broke its own framing.";
    /// The client did not finish the request head in time.
    HeadTimeout = "head_timeout", 408, "The request head was not received in time.";
    /// The client stopped sending the body.
    BodyTimeout = "body_timeout", 408, "The request body was not received in time.";
    /// The body is larger than `listen.limits.body`.
    BodyTooLarge = "body_too_large", 413, "The request body is larger than the limit.";
    /// The request target is longer than `listen.limits.uri`.
    UriTooLong = "uri_too_long", 414, "The request target is longer than the limit.";
    /// The head has more bytes or fields than `listen.limits` allows.
    HeadTooLarge = "head_too_large", 431, "The request head is larger than the limit.";
    /// A method form that this listener does not serve, such as CONNECT over HTTP/2.
    MethodUnsupported = "method_unsupported", 501, "The method is not supported here.";
    /// No policy matches and `unmatched: deny` is set.
    Unmatched = "unmatched", 403, "No policy allows this upstream.";
    /// Nobody allows this caller to make this request (`inbound.authorise`).
    NotAuthorised = "not_authorised", 403, "The caller is not authorised to make this request.";
    /// The request came in the clear to a listener that takes mutual TLS only.
    MtlsRequired = "mtls_required", 403, "This service is called over mutual TLS only.";
    /// The request would come back to outrider itself.
    LoopDetected = "loop_detected", 508, "The request would loop back to this proxy.";
    /// More connections than `listen.limits.connections`.
    ConnectionLimit = "connection_limit", 503, "The proxy has reached its connection limit.";
    /// The call came faster than `limit` allows.
    Limit = "limit", 429, "Too many calls in too short a time.";
    /// outrider itself has too much to do, and this call's priority is not high enough.
    Overloaded = "overloaded", 503, "The proxy has more to do than it can, and sheds calls of this priority.";
    /// As many calls as the bulkhead allows are in flight, and as many as it allows wait.
    BulkheadFull = "bulkhead_full", 503, "As many calls as allowed are at the upstream or wait for it.";
    /// The call waited for a permit of the bulkhead, in vain.
    BulkheadTimeout = "bulkhead_timeout", 503, "No call to the upstream ended in time to make room for this one.";
    /// The breaker of the upstream or route is open.
    BreakerOpen = "breaker_open", 503, "The circuit breaker is open.";
    /// The secret that the policy adds to the call is not there; without it the call does not go.
    Credential = "credential", 503, "The credential that this call needs is not available.";
    /// The upstream has no endpoint to send to.
    NoEndpoint = "no_endpoint", 503, "The upstream has no endpoint.";
    /// The name could not be resolved and no earlier answer is known.
    DnsFailed = "dns_failed", 503, "The upstream name could not be resolved.";
    /// No connection came free within the time of the try.
    PoolTimeout = "pool_timeout", 503, "No upstream connection was free in time.";
    /// The endpoint refused the connection.
    ConnectRefused = "connect_refused", 502, "The upstream refused the connection.";
    /// The endpoint did not accept the connection within `timeout.connect`.
    ConnectTimeout = "connect_timeout", 504, "The connection to the upstream timed out.";
    /// The connection failed in another way (unreachable, handshake).
    ConnectFailed = "connect_failed", 502, "The connection to the upstream failed.";
    /// TLS could not be agreed on: the other side does not speak it, or none of what we do.
    TlsHandshake = "tls_handshake", 502, "No TLS connection to the upstream could be agreed on.";
    /// The endpoint did not accept who we are.
    TlsRefused = "tls_refused", 502, "The upstream did not accept this proxy's certificate.";
    /// The endpoint's certificate is not valid.
    PeerCertificate = "peer_certificate", 502, "The upstream's certificate is not valid.";
    /// The endpoint is not who it should be.
    PeerIdentity = "peer_identity", 502, "The upstream is not who it should be.";
    /// mTLS is wanted, and this workload has no certificate.
    NoIdentity = "no_identity", 503, "This proxy has no identity to show to the upstream.";
    /// The connection ended before a response began.
    Reset = "reset", 502, "The upstream closed the connection before answering.";
    /// The endpoint refused the stream unprocessed (REFUSED_STREAM, GOAWAY).
    Refused = "refused", 502, "The upstream refused the request unprocessed.";
    /// The endpoint's answer is not HTTP.
    ProtocolError = "protocol_error", 502, "The upstream's answer is not valid HTTP.";
    /// One try took longer than its share of the timeout.
    TryTimeout = "try_timeout", 504, "The upstream did not answer within the time of one try.";
    /// The whole call took longer than `timeout`.
    Deadline = "deadline", 504, "The call did not finish within its timeout.";
    /// The client wanted an answer from the cache alone (`only-if-cached`, RFC 9111 section 5.2.1.7), and there is none.
    OnlyIfCached = "only_if_cached", 504, "Nothing suitable is cached, and the request asks for nothing else.";
    /// The response stopped part-way: reset or closed by the upstream.
    ResponseAborted = "response_aborted", 502, "The upstream ended the response part-way.";
    /// The response stopped flowing for longer than `timeout.idle`.
    IdleTimeout = "idle_timeout", 504, "The response stopped flowing.";
    /// The policy's `fault` block made it, on purpose; the status is that of `fault.abort`, and 503 stands for a reset.
    FaultInjected = "fault_injected", 503, "A fault was injected on purpose.";
    /// The client went away before the response was complete.
    ClientClosed = "client_closed", 499, "The client closed the request.";
    /// A bug in the proxy, caught and counted.
    Panic = "panic", 500, "The proxy failed while handling the request.";
}

impl Reason {
    /// Whether the client's connection cannot be used after it: nobody can tell where its next request begins.
    #[must_use]
    pub const fn ends_connection(self) -> bool {
        match self.status() {
            400 | 408 | 413 | 414 | 431 => true,
            _ => matches!(self, Self::ConnectionLimit),
        }
    }

    /// Whether the hops before us are told not to send the call again: it was refused to protect something, or its time is
    /// up, and another copy would only be one more of what is too many.
    #[must_use]
    pub fn forbids_retry(self) -> bool {
        matches!(
            self.word(),
            "breaker_open"
                | "deadline"
                | "try_timeout"
                | "pool_timeout"
                | "limit"
                | "bulkhead_full"
                | "bulkhead_timeout"
                | "overloaded"
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
