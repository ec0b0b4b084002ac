//! `bulkhead`. Defaults here are the text of `Settings::default()` of the room; a test holds the two together.

use super::Key;
use super::Kind;
use super::Switch;
use super::Table;
use super::rooms::MODES;

/// `bulkhead`.
pub static BULKHEAD: Table = Table {
    name: "bulkhead",
    doc: "A cap on calls in flight to the upstream, over all workers, with a short queue.",
    short: Some("max"),
    switch: Switch::Mode,
    keys: &[
        Key::new(
            "mode",
            Kind::Words(MODES),
            "off",
            "`shadow` counts what it would refuse, and lets every call through at once.",
        ),
        Key::new(
            "max",
            Kind::Count(1, 1_000_000),
            "100",
            "Calls in flight; a call is in flight until its response body has ended.",
        ),
        Key::new(
            "queue",
            Kind::Count(0, 1_000_000),
            "50",
            "Calls that may wait for one in flight to end. Beyond: 503 `bulkhead_full`.",
        ),
        Key::new(
            "wait",
            Kind::Duration("0ms", "1m"),
            "100ms",
            "How long a call may wait, never past its timeout. Then: 503 `bulkhead_timeout`.",
        ),
        Key::new(
            "adaptive",
            Kind::Block(&ADAPTIVE),
            "",
            "Finds the cap from latency, instead of `max`.",
        ),
    ],
};

/// `bulkhead.adaptive`.
pub static ADAPTIVE: Table = Table {
    name: "adaptive",
    doc: "Finds the cap from latency: up while answers come as fast as they do without load, down when they queue.",
    short: None,
    switch: Switch::Present,
    keys: &[
        Key::new(
            "min",
            Kind::Count(1, 1_000_000),
            "4",
            "The cap never falls below this.",
        ),
        Key::new(
            "max",
            Kind::Count(1, 1_000_000),
            "1000",
            "The cap never rises above this.",
        ),
    ],
};
