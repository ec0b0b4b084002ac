//! Blocks that are understood and checked, and refused by name until a version enforces them.

use super::Key;
use super::Kind;
use super::Switch;
use super::Table;
use super::checks;

/// `redis`.
pub static REDIS: Table = Table {
    name: "redis",
    doc: "The Redis Cluster that holds shared state.",
    short: Some("nodes"),
    switch: Switch::Present,
    keys: &[
        Key::new(
            "nodes",
            Kind::List(&Kind::Text(&checks::HOST_PORT), 1),
            "",
            "Where to begin; the rest is discovered.",
        )
        .required(),
        Key::new(
            "tls",
            Kind::Or(&[Kind::Off, Kind::Words(&["required"])]),
            "off",
            "Whether the connection is encrypted.",
        ),
        Key::new(
            "password",
            Kind::Text(&checks::SECRET),
            "",
            "Where the password is: `file:/path` or `env:NAME`.",
        ),
    ],
};
