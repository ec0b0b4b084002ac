//! What may be sent twice, and when it is: `hedge` and `idempotency`.

use super::Key;
use super::Kind;
use super::Switch;
use super::Table;
use super::checks;
use super::rooms::MODES;
use super::rooms::SHARE;

const MODE: Key = Key::new(
    "mode",
    Kind::Words(MODES),
    "off",
    "`shadow` decides, counts and explains, but lets the call through.",
);

/// `idempotency`.
pub static IDEMPOTENCY: Table = Table {
    name: "idempotency",
    doc: "A key sent with calls that may not be repeated by their method, the same across tries and copies: only for an upstream that honours it.",
    short: Some("header"),
    switch: Switch::Mode,
    keys: &[
        MODE,
        Key::new(
            "header",
            Kind::Text(&checks::KEY_HEADER),
            "Idempotency-Key",
            "The header that carries the key: the application's, or one made for the call.",
        ),
    ],
};

/// `hedge`.
pub static HEDGE: Table = Table {
    name: "hedge",
    doc: "A second copy of a slow call, to another endpoint; safe methods, and calls with an idempotency key.",
    short: Some("after"),
    switch: Switch::Mode,
    keys: &[
        MODE,
        Key::new(
            "after",
            Kind::Or(&[Kind::Text(&checks::PERCENTILE), Kind::Duration("1ms", "1h")]),
            "p95",
            "How long a copy is given: a time, or a percentile of this route's latency.",
        ),
        Key::new("max", Kind::Count(1, 3), "1", "Copies beside the first."),
        Key::new(
            "budget",
            Kind::Block(&HEDGE_BUDGET),
            "",
            "The share of calls that may be sent again, apart from the budget of retries.",
        ),
    ],
};

/// `hedge.budget`.
pub static HEDGE_BUDGET: Table = Table {
    name: "budget",
    doc: "The share of calls that may be sent again.",
    short: Some("share"),
    switch: Switch::Always,
    keys: &[
        Key::new("share", SHARE, "5%", "Copies per call over the window."),
        Key::new("over", Kind::Duration("1s", "1h"), "10s", "The window."),
        Key::new(
            "floor",
            Kind::Rate { max: 1_000_000.0 },
            "0/s",
            "Copies that are always allowed, for a route that is called seldom.",
        ),
    ],
};
