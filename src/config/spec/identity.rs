//! `identity`.

use super::Key;
use super::Kind;
use super::Switch;
use super::Table;
use super::checks;

/// `identity`.
pub static IDENTITY: Table = Table {
    name: "identity",
    doc: "This workload's own certificate, and whom it believes: one of `spiffe`, `files` and `bundle`.",
    short: None,
    switch: Switch::Present,
    keys: &[
        Key::new(
            "spiffe",
            Kind::Text(&checks::SOCKET),
            "",
            "The SPIFFE Workload API: `unix:///path`. Default of the whole block: SPIFFE_ENDPOINT_SOCKET, if that is set.",
        ),
        Key::new(
            "files",
            Kind::Block(&FILES),
            "",
            "PEM files, read again when they change.",
        ),
        Key::new(
            "bundle",
            Kind::Block(&BUNDLE),
            "",
            "Key and chain in one PEM file, read again when it changes.",
        ),
        Key::new(
            "trust",
            Kind::Named(&TRUST),
            "",
            "Trust domains other than our own: `trust: { partner.example: /etc/outrider/partner.pem }`. The Workload API has its own.",
        ),
    ],
};

/// `identity.files`.
pub static FILES: Table = Table {
    name: "files",
    doc: "Certificate, key and authorities as PEM files.",
    short: None,
    switch: Switch::Present,
    keys: &[
        Key::new(
            "cert",
            Kind::Text(&checks::FILE),
            "",
            "The certificate chain, our own first.",
        )
        .required(),
        Key::new("key", Kind::Text(&checks::FILE), "", "Our private key.").required(),
        Key::new(
            "ca",
            Kind::Text(&checks::FILE),
            "",
            "The authorities of our own trust domain.",
        )
        .required(),
    ],
};

/// `identity.bundle`.
pub static BUNDLE: Table = Table {
    name: "bundle",
    doc: "Key and chain in one PEM file; certificates in it that issued themselves are authorities.",
    short: Some("pem"),
    switch: Switch::Present,
    keys: &[
        Key::new("pem", Kind::Text(&checks::FILE), "", "The file.").required(),
        Key::new(
            "ca",
            Kind::Text(&checks::FILE),
            "",
            "The authorities of our own trust domain, beside those in the file.",
        ),
    ],
};

/// One of `identity.trust`.
pub static TRUST: Table = Table {
    name: "a trust domain",
    doc: "A trust domain other than our own.",
    short: Some("ca"),
    switch: Switch::Always,
    keys: &[Key::new(
        "ca",
        Kind::Text(&checks::FILE),
        "",
        "A PEM file with its authorities.",
    )
    .required()],
};
