//! `overload` and `priority`. Defaults here are the text of `Settings::default()` of the room; a test holds the two together.

use super::Key;
use super::Kind;
use super::Switch;
use super::Table;
use super::rooms::MODES;
use super::rooms::SHARE;

/// `priority` of an upstream or route, and of the layers under them.
pub const PRIORITY: Key = Key::new(
    "priority",
    Kind::Words(&["critical", "high", "normal", "low"]),
    "normal",
    "What is shed first when outrider itself is overloaded: low, then normal, then high; critical only at a hard bound.",
);

/// `overload`.
pub static OVERLOAD: Table = Table {
    name: "overload",
    doc: "When outrider itself has too much to do: calls are shed by priority, with 503 `overloaded`.",
    short: Some("in_flight"),
    switch: Switch::Mode,
    keys: &[
        Key::new(
            "mode",
            Kind::Words(MODES),
            "enforce",
            "`shadow` counts what it would shed, and lets every call through.",
        ),
        Key::new(
            "in_flight",
            Kind::Or(&[Kind::Off, Kind::Count(1, 1_000_000)]),
            "10000",
            "The most calls in flight in the process, of whatever priority. Low is shed from 60% of it on.",
        ),
        Key::new(
            "lag",
            Kind::Or(&[Kind::Off, Kind::Duration("1ms", "10s")]),
            "100ms",
            "How late a worker's event loop may run; at twice of it only critical calls are admitted.",
        ),
        Key::new(
            "memory",
            Kind::Or(&[Kind::Off, SHARE]),
            "90%",
            "The share of the control group's memory limit at which nothing is admitted. Without such a limit: no effect.",
        ),
        Key::new(
            "replay",
            Kind::Size("0B", "64GiB"),
            "64MiB",
            "The most memory for request bodies kept for another try, over all calls. Beyond: not kept, so not retried.",
        ),
    ],
};
