//! The top of the file: who we are, where we listen, what applies to everything.

use super::Key;
use super::Kind;
use super::Switch;
use super::Table;
use super::cache;
use super::checks;
use super::hops;
use super::identity;
use super::inbound;
use super::overload;
use super::redact;
use super::redis;
use super::upstream;

/// The only `apiVersion` this program reads.
pub const API_VERSION: &str = "outrider.dev/v1";

/// The document.
pub static ROOT: Table = Table {
    name: "the policy",
    doc: "An outrider policy: what happens to the outbound calls of one workload.",
    short: None,
    switch: Switch::Always,
    keys: &[
        Key::new(
            "apiVersion",
            Kind::Words(&[API_VERSION]),
            API_VERSION,
            "The version of this language. May be left out.",
        ),
        Key::new(
            "kind",
            Kind::Words(&["Policy"]),
            "Policy",
            "May be left out.",
        ),
        Key::new(
            "service",
            Kind::Text(&checks::NAME),
            "",
            "This workload's name: `client` in logs. Default: OTEL_SERVICE_NAME, else `unknown_service`.",
        ),
        Key::new(
            "zone",
            Kind::Text(&checks::NAME),
            "",
            "The zone that this workload runs in: its endpoints are preferred. Default: OUTRIDER_ZONE, else none.",
        ),
        Key::new(
            "listen",
            Kind::Block(&LISTEN),
            "",
            "Where outrider listens: a port (loopback, both families) or `address:port`.",
        ),
        Key::new(
            "unmatched",
            Kind::Words(&["pass", "deny"]),
            "pass",
            "A request whose host no upstream names: forwarded with correlation, metrics and defaults, or refused with 403.",
        ),
        Key::new(
            "defaults",
            Kind::Block(&upstream::DEFAULTS),
            "",
            "Values under every upstream and for unmatched traffic.",
        ),
        Key::new(
            "profiles",
            Kind::Named(&upstream::PROFILE),
            "",
            "Named sets of values that an upstream takes with `use`.",
        ),
        Key::new(
            "upstreams",
            Kind::List(&Kind::Block(&upstream::UPSTREAM), 0),
            "[]",
            "One entry for each dependency.",
        ),
        Key::new(
            "hops",
            Kind::Block(&hops::HOPS),
            "",
            "What hops tell each other: how much time is left, and who is retrying already.",
        ),
        Key::new(
            "overload",
            Kind::Block(&overload::OVERLOAD),
            "",
            "What is shed when outrider itself has too much to do.",
        ),
        Key::new(
            "inbound",
            Kind::Block(&inbound::INBOUND),
            "",
            "What is behind the inbound listener, and who may call it.",
        ),
        Key::new(
            "admin",
            Kind::Block(&inbound::ADMIN),
            "",
            "Who may give orders through the admin port.",
        ),
        Key::new(
            "cache",
            Kind::Block(&cache::STORE),
            "",
            "The store that all caches of this process share.",
        ),
        Key::new(
            "redis",
            Kind::Block(&redis::REDIS),
            "",
            "The Redis, a cluster or a single one, that holds what the pods of this service share.",
        ),
        Key::new(
            "identity",
            Kind::Block(&identity::IDENTITY),
            "",
            "This workload's own certificate, for mTLS.",
        ),
        Key::new(
            "audit",
            Kind::Block(&redact::AUDIT),
            "",
            "A record of what was changed and decided, in a chain that shows tampering.",
        ),
        Key::new(
            "telemetry",
            Kind::Block(&TELEMETRY),
            "",
            "What is told to the outside.",
        ),
    ],
};

/// `listen`.
pub static LISTEN: Table = Table {
    name: "listen",
    doc: "Sockets that outrider opens.",
    short: None,
    switch: Switch::Always,
    keys: &[
        Key::new(
            "outbound",
            BIND,
            "4750",
            "Transparent outbound: redirected connections, or plain requests told apart by Host.",
        ),
        Key::new(
            "explicit",
            BIND,
            "4751",
            "Explicit proxy for HTTP_PROXY: absolute-form requests and CONNECT.",
        ),
        Key::new(
            "inbound",
            BIND,
            "off",
            "Mutual TLS in front of the application; `inbound` says what is behind it.",
        ),
        Key::new(
            "admin",
            BIND,
            "4759",
            "/live, /ready, /metrics, /config, /upstreams.",
        ),
        Key::new(
            "limits",
            Kind::Block(&LIMITS),
            "",
            "Bounds on what one client may send.",
        ),
    ],
};

const BIND: Kind = Kind::Or(&[Kind::Off, Kind::Text(&checks::BIND)]);

/// `listen.limits`.
pub static LIMITS: Table = Table {
    name: "limits",
    doc: "Bounds on what one client may send; each is answered with its own status and reason word.",
    short: None,
    switch: Switch::Always,
    keys: &[
        Key::new(
            "head",
            Kind::Size("1KiB", "1MiB"),
            "64KiB",
            "Bytes of a request head, request line included. Beyond: 431.",
        ),
        Key::new(
            "headers",
            Kind::Count(8, 1000),
            "100",
            "Header fields in a head. Beyond: 431.",
        ),
        Key::new(
            "uri",
            Kind::Size("256B", "64KiB"),
            "8KiB",
            "Bytes of a request target. Beyond: 414.",
        ),
        Key::new(
            "body",
            Kind::Or(&[Kind::Off, Kind::Size("0B", "1024GiB")]),
            "off",
            "Bytes of a request body; `off` is no bound. Beyond: 413.",
        ),
        Key::new(
            "connections",
            Kind::Count(1, 1_000_000),
            "10000",
            "Client connections open at once. Beyond: 503 and close.",
        ),
        Key::new(
            "head_read",
            Kind::Duration("100ms", "5m"),
            "10s",
            "Time to send a whole head. Beyond: 408.",
        ),
        Key::new(
            "idle",
            Kind::Duration("1s", "24h"),
            "5m",
            "How long a kept-alive connection rests between requests.",
        ),
        Key::new(
            "detect",
            Kind::Duration("10ms", "30s"),
            "1s",
            "How long to wait for bytes that tell the protocol.",
        ),
    ],
};

/// `telemetry.explain`. Defaults here are the text of `Settings::default()`; a test holds the two together.
pub static EXPLAIN: Table = Table {
    name: "explain",
    doc: "Calls that are remembered: all that failed, all that were slow, and a sample of the rest.",
    short: None,
    switch: Switch::Always,
    keys: &[
        Key::new(
            "keep",
            Kind::Count(10, 100_000),
            "1000",
            "How many of each kind: failed, slow, sampled. About 1 KiB each.",
        ),
        Key::new(
            "slow",
            Kind::Duration("1ms", "1h"),
            "1s",
            "A call that takes this long is slow.",
        ),
        Key::new(
            "sample",
            Kind::Share {
                min: 0.0,
                max: 100.0,
                zero: true,
            },
            "1%",
            "The share of calls that are remembered although they went well.",
        ),
    ],
};

/// `telemetry`.
pub static TELEMETRY: Table = Table {
    name: "telemetry",
    doc: "Logs and traces. Metrics are always on at the admin port.",
    short: None,
    switch: Switch::Always,
    keys: &[
        Key::new(
            "otlp",
            Kind::Or(&[Kind::Off, Kind::Text(&checks::URL)]),
            "off",
            "Where traces are sent, OTLP over HTTP.",
        )
        .later(&[]),
        Key::new(
            "sample",
            Kind::Share {
                min: 0.0,
                max: 100.0,
                zero: true,
            },
            "10%",
            "The share of traces begun here that is kept.",
        )
        .later(&[]),
        Key::new(
            "log",
            Kind::Or(&[Kind::Off, Kind::Words(&["json"])]),
            "json",
            "The access log, one JSON line a request on stdout.",
        ),
        Key::new(
            "explain",
            Kind::Block(&EXPLAIN),
            "",
            "Which calls are remembered, for `outrider explain` and /explain.",
        ),
        Key::new(
            "redact",
            Kind::Block(&redact::REDACT),
            "",
            "What is kept back of everything that is told.",
        ),
    ],
};
