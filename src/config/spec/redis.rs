//! `redis`. Defaults here are the text of `shared::Settings::default()`; a test holds the two together.

use super::Key;
use super::Kind;
use super::Switch;
use super::Table;
use super::checks;

/// `redis`.
pub static REDIS: Table = Table {
    name: "redis",
    doc: "The Redis, a cluster or a single one, that holds what the pods of this service share.",
    short: Some("nodes"),
    switch: Switch::Present,
    keys: &[
        Key::new(
            "nodes",
            Kind::List(&Kind::Text(&checks::HOST_PORT), 1),
            "",
            "Where to begin; the rest of a cluster is discovered.",
        )
        .required(),
        Key::new(
            "topology",
            Kind::Words(&["auto", "cluster", "single"]),
            "auto",
            "Whether the nodes are a Redis Cluster; `auto` asks them.",
        ),
        Key::new(
            "tls",
            Kind::Block(&TLS),
            "",
            "Whether and how connections are encrypted.",
        ),
        Key::new(
            "username",
            Kind::Text(&checks::NAME),
            "",
            "The user to log in as (Redis ACL). Default: Redis' default user.",
        ),
        Key::new(
            "password",
            Kind::Text(&checks::SECRET),
            "",
            "Where the password is: `file:/path`, read again when it changes, or `env:NAME`.",
        ),
        Key::new(
            "deadline",
            Kind::Duration("1ms", "1s"),
            "5ms",
            "The longest that a call waits for Redis before it goes on without.",
        ),
        Key::new(
            "warm",
            Kind::Or(&[Kind::Off, Kind::Duration("1ms", "30s")]),
            "500ms",
            "How long a new pod waits for word of the others before it is ready; it never waits longer.",
        ),
        Key::new(
            "prefix",
            Kind::Text(&checks::NAME),
            "outrider",
            "What all keys and channels begin with; the service's name comes after it.",
        ),
    ],
};

/// `redis.tls`.
pub static TLS: Table = Table {
    name: "tls",
    doc: "Encryption of the connections to Redis; the files are read again when they change.",
    short: Some("mode"),
    switch: Switch::Mode,
    keys: &[
        Key::new(
            "mode",
            Kind::Words(&["required", "off"]),
            "off",
            "`required`: TLS or no connection.",
        ),
        Key::new(
            "ca",
            Kind::Text(&checks::FILE),
            "",
            "The trust anchors, PEM. Default: those of the system.",
        ),
        Key::new(
            "cert",
            Kind::Text(&checks::FILE),
            "",
            "The certificate chain to show, PEM.",
        ),
        Key::new(
            "key",
            Kind::Text(&checks::FILE),
            "",
            "Its private key, PEM.",
        ),
    ],
};
