//! What is said and what is recorded: `telemetry.redact` and `audit`. Defaults are those of the settings' `Default`; a test
//! holds the two together.

use super::Check;
use super::Key;
use super::Kind;
use super::Switch;
use super::Table;
use super::checks;
use crate::kit::units::Unfit;
use crate::redact;

pub(super) static SECRET_FILE: Check = Check {
    name: "a secret's file, `file:/path`",
    pattern: "^file:/.+$",
    test: secret_file,
};

static FIELD: Check = Check {
    name: "a name of a header, parameter or key",
    pattern: "^[^\\s]{1,128}$",
    test: field,
};

const NAMES: Kind = Kind::List(&Kind::Text(&FIELD), 0);

/// `telemetry.redact`.
pub static REDACT: Table = Table {
    name: "redact",
    doc: "What is kept back of everything that is told: logs, spans, answers, pages, records.",
    short: Some("headers"),
    switch: Switch::Mode,
    keys: &[
        Key::new(
            "mode",
            Kind::Words(&["enforce", "off"]),
            "enforce",
            "`off` tells everything as it is.",
        ),
        Key::new(
            "headers",
            Kind::Or(&[
                Kind::Words(&["default"]),
                Kind::List(&Kind::Text(&checks::HEADER), 0),
            ]),
            "default",
            "Headers kept back beside the built-in ones.",
        ),
        Key::new(
            "query",
            NAMES,
            "[]",
            "Query parameters kept back beside the built-in ones.",
        ),
        Key::new(
            "json",
            NAMES,
            "[]",
            "JSON keys kept back beside the built-in ones, with all below them.",
        ),
        Key::new(
            "allow",
            NAMES,
            "[]",
            "Names that are told as they are, whatever their value looks like.",
        ),
        Key::new(
            "detect",
            Kind::List(&Kind::Words(redact::DETECTORS), 0),
            "[email, card, iban, phone, jwt, bearer, key, pem, userinfo, pair]",
            "What is found by its look.",
        ),
        Key::new(
            "action",
            Kind::Words(&["drop", "mask", "hash"]),
            "mask",
            "What stands in its place: nothing, `***`, or an HMAC by which equal ones look equal.",
        ),
        Key::new(
            "key",
            Kind::Text(&SECRET_FILE),
            "",
            "The file with the key of the hash. Default: a random one for each start.",
        ),
    ],
};

/// `audit`.
pub static AUDIT: Table = Table {
    name: "audit",
    doc: "A record of what was changed and decided, in a chain that shows tampering.",
    short: Some("file"),
    switch: Switch::Present,
    keys: &[
        Key::new(
            "file",
            Kind::Text(&checks::FILE),
            "",
            "Where it is written; older files stand beside it.",
        )
        .required(),
        Key::new(
            "rotate",
            Kind::Size("4KiB", "16GiB"),
            "64MiB",
            "Bytes after which a new file is begun.",
        ),
        Key::new(
            "age",
            Kind::Or(&[Kind::Off, Kind::Duration("1m", "8760h")]),
            "off",
            "Age after which a new file is begun.",
        ),
        Key::new(
            "keep",
            Kind::Count(1, 10_000),
            "10",
            "Older files that are kept; the oldest goes first.",
        ),
        Key::new(
            "checkpoint",
            Kind::Duration("1s", "1h"),
            "1m",
            "Time between two signatures, and between two counts of what comes often.",
        ),
        Key::new(
            "key",
            Kind::Text(&SECRET_FILE),
            "",
            "The file with the Ed25519 key that signs checkpoints, in PEM. Without it there are none.",
        ),
    ],
};

fn secret_file(text: &str) -> Result<(), Unfit> {
    if text
        .strip_prefix("file:/")
        .is_some_and(|path| !path.is_empty())
    {
        return Ok(());
    }
    // The text itself may be the secret.
    Err(Unfit::new("a secret is never written in the policy").hint("name its file: `file:/path`"))
}

fn field(text: &str) -> Result<(), Unfit> {
    if (1..=128).contains(&text.len())
        && !text.contains(|c: char| c.is_whitespace() || c.is_control())
    {
        return Ok(());
    }
    Err(Unfit::new(format!("`{text}` is not {}", FIELD.name)))
}
