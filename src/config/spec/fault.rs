//! `fault`: failures made on purpose. Defaults here are the text of `Settings::default()` of the room.

use super::Key;
use super::Kind;
use super::Switch;
use super::Table;
use super::checks;
use super::rooms::MODES;
use super::rooms::SHARE;

/// `fault`.
pub static FAULT: Table = Table {
    name: "fault",
    doc: "Faults made on purpose. Always with an end.",
    short: None,
    switch: Switch::Mode,
    keys: &[
        Key::new(
            "mode",
            Kind::Words(MODES),
            "off",
            "`shadow` counts the calls that would be met, and does nothing to them.",
        ),
        Key::new(
            "delay",
            Kind::Or(&[Kind::Off, Kind::Duration("1ms", "1h")]),
            "off",
            "Waited before anything else; it is spent of the timeout.",
        ),
        Key::new(
            "abort",
            Kind::Or(&[Kind::Off, Kind::Text(&checks::ABORT)]),
            "off",
            "Answered instead of calling: a status, or `grpc:unavailable`. Each kind of call gets its own form.",
        ),
        Key::new(
            "reset",
            Kind::Flag,
            "false",
            "The connection (HTTP/1) or stream (HTTP/2) is reset instead of calling.",
        ),
        Key::new(
            "bandwidth",
            Kind::Or(&[Kind::Off, Kind::Size("1KiB", "1GiB")]),
            "off",
            "How much of each response body reaches the client in a second.",
        ),
        Key::new(
            "share",
            SHARE,
            "100%",
            "The share of calls that are met, drawn for each one.",
        ),
        Key::new(
            "until",
            Kind::Text(&checks::TIMESTAMP),
            "",
            "When it ends, RFC 3339.",
        )
        .required(),
        Key::new(
            "stop_when",
            Kind::Or(&[Kind::Off, Kind::Text(&checks::GUARD)]),
            "off",
            "Ends it early: `errors > 5%` of the calls that it did not fail itself, over 10s and at least 20 calls.",
        ),
    ],
};
