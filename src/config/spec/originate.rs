//! `originate`. Defaults here are the text of `Originate::default()` of `connect::tls`; a test holds the two together.

use super::Key;
use super::Kind;
use super::Switch;
use super::Table;
use super::checks;

/// `originate`.
pub static ORIGINATE: Table = Table {
    name: "originate",
    doc: "The application speaks plain HTTP and outrider speaks TLS to the upstream, as a browser would.",
    short: Some("mode"),
    switch: Switch::Mode,
    keys: &[
        Key::new(
            "mode",
            Kind::Words(&["tls", "off"]),
            "off",
            "`tls`: 1.3, or 1.2 where the server has no better.",
        ),
        Key::new(
            "ca",
            Kind::Text(&checks::FILE),
            "",
            "A PEM file with the authorities that are believed, read again when it changes. Default: those of the system.",
        ),
        Key::new(
            "sni",
            Kind::Text(&checks::SERVER_NAME),
            "",
            "The name that is asked for and that the certificate must be for. Default: the host of the call.",
        ),
        Key::new(
            "port",
            Kind::Count(1, 65535),
            "",
            "The port that is dialled. Default: 443 for calls to port 80, else the port of the call.",
        ),
    ],
};
