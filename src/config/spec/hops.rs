//! What hops tell each other. Defaults here are the text of `hops::Settings::default()`; a test holds the two together.

use super::Key;
use super::Kind;
use super::Switch;
use super::Table;
use super::checks;
use super::rooms::MODES;

/// `off`, or the one word for on that YAML 1.1 does not read as a boolean.
const HONOUR: Kind = Kind::Or(&[Kind::Off, Kind::Words(&["honour"])]);

/// `hops`.
pub static HOPS: Table = Table {
    name: "hops",
    doc: "What hops tell each other: how much time is left, and who is retrying already.",
    short: Some("trust"),
    switch: Switch::Mode,
    keys: &[
        Key::new(
            "mode",
            Kind::Words(MODES),
            "enforce",
            "`shadow` reads and counts, but changes no request and no answer. `off` passes the headers on as any other.",
        ),
        Key::new(
            "trust",
            Kind::List(&Kind::Text(&checks::TRUST), 0),
            "[local]",
            "Whose requests may shorten a deadline or stop retries: `local` (whoever connects from this pod or host), addresses, networks. The headers of others are taken out.",
        ),
        Key::new(
            "deadline",
            HONOUR,
            "honour",
            "`grpc-timeout` and `x-request-deadline` shorten the timeout, and every try tells its time onwards.",
        ),
        Key::new(
            "retry",
            HONOUR,
            "honour",
            "`retry-attempt` and `outrider-no-retry`: of all hops of a call, one retries.",
        ),
    ],
};
