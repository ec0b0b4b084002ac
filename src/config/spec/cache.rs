//! `cache`, of an upstream and at the top. Defaults here are the text of `cache::Settings::default()`; a test holds the two
//! together.

use super::Key;
use super::Kind;
use super::Switch;
use super::Table;
use super::checks;
use super::rooms::MODES;
use super::rooms::SHARE;

/// A time that is kept or served; nothing is worth keeping longer than a month without asking.
const SPAN: Kind = Kind::Or(&[Kind::Off, Kind::Duration("0ms", "720h")]);

/// `cache` of an upstream.
pub static CACHE: Table = Table {
    name: "cache",
    doc: "Answers kept and served again (RFC 9111), and served stale when the upstream fails. `{}` lets the origin's fields rule.",
    short: Some("get"),
    switch: Switch::Mode,
    keys: &[
        Key::new(
            "mode",
            Kind::Words(MODES),
            "off",
            "`shadow` decides, keeps and counts, but every call goes to the upstream.",
        ),
        Key::new(
            "get",
            SPAN,
            "off",
            "How long the answer to a GET is fresh where the origin does not say.",
        ),
        Key::new(
            "ttl",
            Kind::Block(&TTL),
            "",
            "Bounds on the freshness that the origin states.",
        ),
        Key::new(
            "heuristic",
            Kind::Or(&[Kind::Off, SHARE]),
            "off",
            "The share of an answer's age since Last-Modified for which it is fresh where nobody says, at most a day.",
        ),
        Key::new(
            "negative",
            Kind::Block(&NEGATIVE),
            "",
            "Failures kept for a while where the origin does not say.",
        ),
        Key::new(
            "stale_while_revalidate",
            SPAN,
            "off",
            "Served stale while one call refreshes it; the origin's own value goes before it.",
        ),
        Key::new(
            "stale_if_error",
            SPAN,
            "off",
            "Served stale when the upstream fails, is not called (breaker, limit, bulkhead) or is too slow.",
        ),
        Key::new(
            "max_body",
            Kind::Size("1B", "1GiB"),
            "1MiB",
            "Larger answers are not kept.",
        ),
        Key::new(
            "vary",
            Kind::List(&Kind::Text(&checks::HEADER), 0),
            "[]",
            "Request headers that are part of the key, whether or not the origin names them in Vary.",
        ),
        Key::new(
            "per",
            Kind::Or(&[
                Kind::Off,
                Kind::Text(&checks::PRINCIPAL),
                Kind::List(&Kind::Text(&checks::PRINCIPAL), 1),
            ]),
            "off",
            "A cache of its own for each value of `header:NAME` or `cookie:NAME`, or of a list of them.",
        ),
        Key::new(
            "credentialed",
            Kind::Words(&["standard", "off", "own"]),
            "standard",
            "Answers to requests with Authorization, or with a `credential` of the policy: as RFC 9111 section 3.5 has it, or never kept. `own`: as standard, but the policy's credential is the service's own and changes nothing.",
        ),
        Key::new(
            "cookies",
            Kind::Words(&["careful", "ignore"]),
            "careful",
            "`careful`: with cookies only what the origin makes cacheable itself. `ignore`: they change nothing here; Set-Cookie is not kept.",
        ),
        Key::new(
            "tags",
            Kind::Or(&[Kind::Off, Kind::Text(&checks::HEADER)]),
            "off",
            "The response header that names tags to purge by, such as `surrogate-key`.",
        ),
        Key::new(
            "strip_tags",
            Kind::Flag,
            "false",
            "Whether that header is taken off what is answered.",
        ),
        Key::new(
            "collapse",
            Kind::Or(&[Kind::Off, Kind::Duration("1ms", "1m")]),
            "5s",
            "How long a call waits for another that fetches the same; `off` never waits.",
        ),
        Key::new(
            "shared",
            Kind::Flag,
            "false",
            "Whether it is kept in Redis too, for all pods of the service, and fetched once for all of them.",
        ),
    ],
};

/// `cache.ttl`.
pub static TTL: Table = Table {
    name: "ttl",
    doc: "Bounds on the freshness that the origin states. What it forbids to keep stays forbidden.",
    short: None,
    switch: Switch::Always,
    keys: &[
        Key::new(
            "min",
            SPAN,
            "off",
            "A shorter freshness is lengthened to this.",
        ),
        Key::new("max", SPAN, "off", "A longer freshness is cut to this."),
    ],
};

/// `cache.negative`.
pub static NEGATIVE: Table = Table {
    name: "negative",
    doc: "Failures kept for a while where the origin does not say.",
    short: Some("ttl"),
    switch: Switch::Present,
    keys: &[
        Key::new("ttl", Kind::Duration("1ms", "1h"), "10s", "How long."),
        Key::new(
            "statuses",
            Kind::List(&Kind::Text(&checks::NEGATIVE), 1),
            "[404, 410]",
            "Which: 400 to 599, without those that concern one request or one moment, such as 401 and 429.",
        ),
    ],
};

/// `cache` at the top.
pub static STORE: Table = Table {
    name: "cache",
    doc: "The store that all caches of this process share.",
    short: Some("memory"),
    switch: Switch::Always,
    keys: &[Key::new(
        "memory",
        Kind::Size("1MiB", "64GiB"),
        "64MiB",
        "The most memory that kept answers take.",
    )],
};
