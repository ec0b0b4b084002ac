//! The rooms that this version enforces. Defaults here are the text of `Settings::default()` of each room; a test holds
//! the two together.

use super::Key;
use super::Kind;
use super::Switch;
use super::Table;
use super::checks;

pub(super) const MODES: &[&str] = &["enforce", "shadow", "off"];

/// `mode` of a block that is on unless switched off.
const MODE: Key = Key::new(
    "mode",
    Kind::Words(MODES),
    "enforce",
    "`shadow` decides, counts and explains, but lets the call through.",
);

/// A share above zero.
pub(super) const SHARE: Kind = Kind::Share {
    min: 0.0,
    max: 100.0,
    zero: false,
};

/// `timeout`.
pub static TIMEOUT: Table = Table {
    name: "timeout",
    doc: "How long a call, a try, a connect and a silence may last.",
    short: Some("total"),
    switch: Switch::Always,
    keys: &[
        Key::new(
            "total",
            Kind::Duration("1ms", "24h"),
            "5s",
            "The whole call: all tries and the back-off between them, up to the response head.",
        ),
        Key::new(
            "try",
            Kind::Or(&[Kind::Words(&["auto"]), Kind::Duration("1ms", "24h")]),
            "auto",
            "One try. `auto`: all the time that remains; where `retry.when` names `try_timeout`, that time divided by the tries left, at least 100ms.",
        ),
        Key::new(
            "connect",
            Kind::Duration("1ms", "1m"),
            "1s",
            "One connection attempt.",
        ),
        Key::new(
            "idle",
            Kind::Duration("1ms", "24h"),
            "5m",
            "The longest silence inside a body.",
        ),
    ],
};

/// `retry`.
pub static RETRY: Table = Table {
    name: "retry",
    doc: "Extra tries of failed calls, within a budget.",
    short: Some("max"),
    switch: Switch::Mode,
    keys: &[
        MODE,
        Key::new(
            "max",
            Kind::Count(0, 10),
            "2",
            "Extra tries after the first: 3 means up to 4 tries.",
        ),
        Key::new(
            "budget",
            Kind::Block(&BUDGET),
            "",
            "The share of the traffic that may be retries.",
        ),
        Key::new(
            "backoff",
            Kind::Block(&BACKOFF),
            "",
            "The wait before each retry.",
        ),
        Key::new(
            "when",
            Kind::List(&Kind::Text(&checks::CONDITION), 0),
            "[connect, refused, reset, 429, 502, 503, 504]",
            "Outcomes that are tried again. A 429 only with Retry-After. Naming a gRPC status says that its calls may be repeated although they are POST. Replaces the list below it as a whole.",
        ),
        Key::new(
            "methods",
            Kind::Or(&[
                Kind::Words(&["safe", "idempotent", "all"]),
                Kind::List(&Kind::Text(&checks::METHOD), 1),
            ]),
            "safe",
            "Methods that may be sent twice. A try of which nothing was sent is repeated whatever the method.",
        ),
        Key::new(
            "replay",
            Kind::Size("0B", "16MiB"),
            "64KiB",
            "The largest request body kept for another try.",
        ),
        Key::new(
            "retry_after",
            Kind::Or(&[Kind::Off, Kind::Words(&["honour"])]),
            "honour",
            "Wait as long as Retry-After asks, capped by the deadline.",
        ),
    ],
};

/// `retry.budget`.
pub static BUDGET: Table = Table {
    name: "budget",
    doc: "The share of the traffic that may be retries.",
    short: Some("share"),
    switch: Switch::Always,
    keys: &[
        Key::new(
            "share",
            Kind::Share {
                min: 0.0,
                max: 100.0,
                zero: true,
            },
            "20%",
            "Retries per request over the window.",
        ),
        Key::new("over", Kind::Duration("1s", "1h"), "10s", "The window."),
        Key::new(
            "floor",
            Kind::Rate { max: 1_000_000.0 },
            "10/s",
            "Retries that are always allowed, so that a quiet service may retry at all.",
        ),
    ],
};

/// `retry.backoff`.
pub static BACKOFF: Table = Table {
    name: "backoff",
    doc: "The wait before each retry.",
    short: None,
    switch: Switch::Always,
    keys: &[
        Key::new(
            "base",
            Kind::Duration("1ms", "1m"),
            "25ms",
            "The first wait; doubled each time.",
        ),
        Key::new(
            "max",
            Kind::Duration("1ms", "1m"),
            "250ms",
            "The longest wait.",
        ),
        Key::new(
            "jitter",
            Kind::Words(&["full", "equal", "decorrelated", "none"]),
            "full",
            "How chance spreads the waits, so that clients do not retry in step.",
        ),
    ],
};

/// `breaker`.
pub static BREAKER: Table = Table {
    name: "breaker",
    doc: "Stops calling an upstream that fails: any of `failures`, `slow` and `consecutive` opens it.",
    short: None,
    switch: Switch::Mode,
    keys: &[
        MODE,
        Key::new(
            "failures",
            Kind::Or(&[Kind::Off, SHARE]),
            "50%",
            "The share of failed calls in the window that opens it.",
        ),
        Key::new(
            "over",
            Kind::Duration("1s", "1h"),
            "10s",
            "The sliding window.",
        ),
        Key::new(
            "min_calls",
            Kind::Count(1, 1_000_000),
            "20",
            "Fewer calls than this in the window never open it by rate.",
        ),
        Key::new("slow", Kind::Block(&SLOW), "", "Opens on slowness alone."),
        Key::new(
            "consecutive",
            Kind::Or(&[Kind::Off, Kind::Count(1, 1_000_000)]),
            "off",
            "This many failures in a row open it.",
        ),
        Key::new(
            "open",
            Kind::Duration("10ms", "1h"),
            "5s",
            "How long it stays open at first; doubled each time a probe fails, +-50% jitter.",
        ),
        Key::new(
            "open_max",
            Kind::Duration("10ms", "1h"),
            "60s",
            "The longest it stays open, before the jitter.",
        ),
        Key::new(
            "probes",
            Kind::Count(1, 1000),
            "3",
            "Calls let through half-open; all must succeed to close it.",
        ),
        Key::new(
            "scope",
            Kind::Words(&["upstream", "route"]),
            "upstream",
            "Whether the routes share one breaker. A route that changes its settings always has its own.",
        ),
        Key::new(
            "fleet",
            Kind::Or(&[Kind::Off, Kind::Words(&["hints"])]),
            "hints",
            "Where the policy has `redis`: pods that have it open make the others open it by fewer calls of their own, and probe in turns.",
        ),
    ],
};

/// `breaker.slow`.
pub static SLOW: Table = Table {
    name: "slow",
    doc: "When slowness alone opens the breaker.",
    short: None,
    switch: Switch::Present,
    keys: &[
        Key::new(
            "over",
            Kind::Duration("1ms", "24h"),
            "2s",
            "A call that takes longer is slow, whether it succeeded or not.",
        ),
        Key::new(
            "share",
            SHARE,
            "80%",
            "The share of slow calls in the window that opens it.",
        ),
    ],
};

/// `eject`.
pub static EJECT: Table = Table {
    name: "eject",
    doc: "Leaves out an endpoint that fails, never the last one: any of `consecutive`, `failures` and `slow` ejects.",
    short: None,
    switch: Switch::Mode,
    keys: &[
        MODE,
        Key::new(
            "consecutive",
            Kind::Or(&[Kind::Off, Kind::Count(1, 1_000_000)]),
            "5",
            "This many failures in a row eject the endpoint.",
        ),
        Key::new(
            "failures",
            Kind::Or(&[Kind::Off, SHARE]),
            "50%",
            "The share of failed calls (10s, at least 10 calls) that ejects it.",
        ),
        Key::new(
            "slow",
            Kind::Or(&[Kind::Off, Kind::Text(&checks::FACTOR)]),
            "off",
            "How many times as long as its peers' its answers may take, where it has two peers or more.",
        ),
        Key::new(
            "base",
            Kind::Duration("10ms", "300s"),
            "5s",
            "The first ejection; the n-th lasts n times as long, at most 300s.",
        ),
        Key::new(
            "max_share",
            Kind::Share {
                min: 0.0,
                max: 100.0,
                zero: true,
            },
            "50%",
            "The largest share of the endpoints that may be out at once.",
        ),
    ],
};
