//! Blocks that are understood and checked, and refused by name until a version enforces them.

use super::Key;
use super::Kind;
use super::Switch;
use super::Table;
use super::checks;

/// `mtls`.
pub static MTLS: Table = Table {
    name: "mtls",
    doc: "Mutual TLS with the upstream's sidecar.",
    short: Some("mode"),
    switch: Switch::Mode,
    keys: &[
        Key::new(
            "mode",
            Kind::Words(&["required", "preferred", "shadow", "off"]),
            "off",
            "Whether a call without mTLS is refused.",
        ),
        Key::new(
            "peers",
            Kind::List(&Kind::Text(&checks::SPIFFE_ID), 0),
            "[]",
            "Identities that are accepted. Empty: any of the trust domain.",
        ),
    ],
};

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

/// `identity`.
pub static IDENTITY: Table = Table {
    name: "identity",
    doc: "This workload's own certificate.",
    short: None,
    switch: Switch::Present,
    keys: &[
        Key::new(
            "spiffe",
            Kind::Text(&checks::SOCKET),
            "",
            "The SPIFFE Workload API: `unix:///path`.",
        ),
        Key::new(
            "files",
            Kind::Block(&IDENTITY_FILES),
            "",
            "Files instead, read again when they change.",
        ),
    ],
};

/// `identity.files`.
pub static IDENTITY_FILES: Table = Table {
    name: "files",
    doc: "Certificate, key and trust anchors as PEM files.",
    short: None,
    switch: Switch::Present,
    keys: &[
        Key::new(
            "cert",
            Kind::Text(&checks::FILE),
            "",
            "The certificate chain.",
        )
        .required(),
        Key::new("key", Kind::Text(&checks::FILE), "", "The private key.").required(),
        Key::new("ca", Kind::Text(&checks::FILE), "", "The trust anchors.").required(),
    ],
};
