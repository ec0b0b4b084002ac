//! `limit`. Defaults here are the text of `limit::Settings::default()`; a test holds the two together.

use super::Key;
use super::Kind;
use super::Switch;
use super::Table;
use super::checks;
use super::rooms::MODES;

/// `limit`.
pub static LIMIT: Table = Table {
    name: "limit",
    doc: "A cap on the rate of calls. Tries are not counted.",
    short: None,
    switch: Switch::Mode,
    keys: &[MODE, RPS, RATE, BURST, PER, KEYS, HEADERS, SCOPE, AWAY],
};

/// `inbound.limit`: of this pod's application, so that other pods have no part in it.
pub static INBOUND: Table = Table {
    name: "limit",
    doc: "A cap on the rate of calls that come in.",
    short: None,
    switch: Switch::Mode,
    keys: &[MODE, RPS, RATE, BURST, PER, KEYS, HEADERS],
};

const MODE: Key = Key::new(
    "mode",
    Kind::Words(MODES),
    "off",
    "`shadow` decides, counts and explains, but lets the call through.",
);

const RPS: Key = Key::new(
    "rps",
    Kind::Count(1, 1_000_000),
    "",
    "Calls a second. This or `rate`; of two layers the later one's counts.",
);

const RATE: Key = Key::new(
    "rate",
    Kind::Rate { max: 1e6 },
    "",
    "The same with its unit: `30/m`, `5/h`. At least `1/h`.",
);

const BURST: Key = Key::new(
    "burst",
    Kind::Count(1, 1_000_000),
    "",
    "Calls at once after a rest. Default: those of one second, at least 1.",
);

const BY: &[Kind] = &[
    Kind::Text(&checks::LIMIT_KEY),
    Kind::List(&Kind::Text(&checks::LIMIT_KEY), 1),
];

const PER: Key = Key::new(
    "per",
    Kind::Or(BY),
    "",
    "A bucket for each value of `header:NAME`, `path`, `method`, `source` (the client's address) or `peer` (its identity, else its address), or of a list of them. Default: one for all.",
);

const KEYS: Key = Key::new(
    "keys",
    Kind::Count(1, 100_000),
    "10000",
    "The most buckets kept with `per`. Further keys are judged by an estimate that may refuse early and never admits more.",
);

const HEADERS: Key = Key::new(
    "headers",
    Kind::Words(&["refused", "all", "off"]),
    "refused",
    "Answers that carry `RateLimit` and `RateLimit-Policy`.",
);

const SCOPE: Key = Key::new(
    "scope",
    Kind::Words(&["pod", "global"]),
    "pod",
    "Counted here, or by all pods of this service together, in the policy's `redis`.",
);

const AWAY: Key = Key::new(
    "away",
    Kind::Words(&["local", "allow", "deny"]),
    "local",
    "With `scope: global`, while Redis cannot be asked: each pod counts its part by itself, every call passes, or none does.",
);
