//! `mtls`. Defaults here are the text of `Mtls::default()` of `connect::tls`; a test holds the two together.

use super::Key;
use super::Kind;
use super::Switch;
use super::Table;
use super::checks;

/// `mtls`.
pub static MTLS: Table = Table {
    name: "mtls",
    doc: "Mutual TLS with the upstream's sidecar, by SPIFFE identities; needs `identity`.",
    short: Some("mode"),
    switch: Switch::Mode,
    keys: &[
        Key::new(
            "mode",
            Kind::Words(&["required", "preferred", "shadow", "off"]),
            "off",
            "`required`: or the call fails. `preferred`: plaintext where the other side speaks no TLS or we have no identity, never past a wrong peer. `shadow`: plaintext, and a handshake beside it is counted.",
        ),
        Key::new(
            "peers",
            Kind::List(&Kind::Text(&checks::SPIFFE_ID), 0),
            "[]",
            "Identities that are accepted: exact, or all below `spiffe://td/ns/shop/*`. Empty: any of a trust domain that we know.",
        ),
    ],
};
