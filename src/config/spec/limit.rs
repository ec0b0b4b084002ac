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
    keys: &[
        Key::new(
            "mode",
            Kind::Words(MODES),
            "off",
            "`shadow` decides, counts and explains, but lets the call through.",
        ),
        Key::new(
            "rps",
            Kind::Count(1, 1_000_000),
            "",
            "Calls a second. This or `rate`; of two layers the later one's counts.",
        ),
        Key::new(
            "rate",
            Kind::Rate { max: 1e6 },
            "",
            "The same with its unit: `30/m`, `5/h`. At least `1/h`.",
        ),
        Key::new(
            "burst",
            Kind::Count(1, 1_000_000),
            "",
            "Calls at once after a rest. Default: those of one second, at least 1.",
        ),
        Key::new(
            "per",
            Kind::Or(&[
                Kind::Text(&checks::LIMIT_KEY),
                Kind::List(&Kind::Text(&checks::LIMIT_KEY), 1),
            ]),
            "",
            "A bucket for each value of `header:NAME`, `path`, `method`, `source` (the client's address) or `peer` (its identity, else its address), or of a list of them. Default: one for all.",
        ),
        Key::new(
            "keys",
            Kind::Count(1, 100_000),
            "10000",
            "The most buckets kept with `per`. Further keys are judged by an estimate that may refuse early and never admits more.",
        ),
        Key::new(
            "headers",
            Kind::Words(&["refused", "all", "off"]),
            "refused",
            "Answers that carry `RateLimit` and `RateLimit-Policy`.",
        ),
        Key::new(
            "scope",
            Kind::Words(&["pod", "global"]),
            "pod",
            "Counted here, or by all pods of this service together, in the policy's `redis`.",
        ),
        Key::new(
            "away",
            Kind::Words(&["local", "allow", "deny"]),
            "local",
            "With `scope: global`, while Redis cannot be asked: each pod counts its part by itself, every call passes, or none does.",
        ),
    ],
};
