//! `endpoints`, where they are written down.

use super::Key;
use super::Kind;
use super::Switch;
use super::Table;
use super::checks;

/// `endpoints: { zones: ... }`.
pub static ENDPOINTS: Table = Table {
    name: "endpoints",
    doc: "A fixed list by zone; those in our own `zone` are preferred as long as they can carry the load.",
    short: None,
    switch: Switch::Always,
    keys: &[Key::new(
        "zones",
        Kind::Named(&ZONE),
        "",
        "The endpoints of each zone: `zones: { eu-1a: [10.0.0.1:8080], eu-1b: [10.0.1.1:8080] }`.",
    )
    .required()],
};

/// One of `endpoints.zones`.
pub static ZONE: Table = Table {
    name: "a zone",
    doc: "The endpoints of one zone.",
    short: Some("endpoints"),
    switch: Switch::Always,
    keys: &[Key::new(
        "endpoints",
        Kind::List(&Kind::Block(&ENDPOINT), 1),
        "",
        "As in a list without zones.",
    )
    .required()],
};

/// One endpoint of a list.
pub static ENDPOINT: Table = Table {
    name: "an endpoint",
    doc: "An address, and its part of the traffic.",
    short: Some("address"),
    switch: Switch::Always,
    keys: &[
        Key::new(
            "address",
            Kind::Text(&checks::ADDRESS),
            "",
            "The literal `address:port`.",
        )
        .required(),
        Key::new(
            "weight",
            Kind::Count(1, 100),
            "1",
            "Its part of the traffic beside that of the others.",
        ),
    ],
};
