//! `balance`.

use super::Key;
use super::Kind;
use super::Switch;
use super::Table;
use super::checks;
use super::rooms::MODES;

/// `balance`.
pub static BALANCE: Table = Table {
    name: "balance",
    doc: "Which endpoint a try goes to. `off` is the built-in values.",
    short: Some("by"),
    switch: Switch::Mode,
    keys: &[
        Key::new(
            "mode",
            Kind::Words(MODES),
            "enforce",
            "`shadow` counts where it would have gone elsewhere, and chooses by the built-in values.",
        ),
        Key::new(
            "by",
            Kind::Words(&["ewma", "least", "round_robin"]),
            "ewma",
            "The cheaper of two drawn at random, by peak EWMA of latency or by requests in flight; or in turns.",
        ),
        Key::new(
            "hash",
            Kind::Or(&[Kind::Off, Kind::Text(&checks::HASH_KEY)]),
            "off",
            "Calls with the same `header:NAME`, `cookie:NAME`, `path` or `source` go to the same endpoint; those without go by `by`.",
        ),
        Key::new(
            "bound",
            Kind::Or(&[
                Kind::Off,
                Kind::Share {
                    min: 101.0,
                    max: 1000.0,
                    zero: false,
                },
            ]),
            "125%",
            "How much of its even share of the calls in flight a hash may give an endpoint; the rest goes to the next on the ring.",
        ),
        Key::new(
            "slow_start",
            Kind::Or(&[Kind::Off, Kind::Duration("100ms", "1h")]),
            "off",
            "An endpoint that is new or comes back gets its weight over this time, from a tenth of it.",
        ),
        Key::new(
            "panic",
            Kind::Or(&[
                Kind::Off,
                Kind::Share {
                    min: 0.0,
                    max: 100.0,
                    zero: false,
                },
            ]),
            "off",
            "While less than this share of the endpoints serves, all are used. `off`: only when none serves.",
        ),
    ],
};
