//! The upstream, its routes, and the layers under them. The four tables repeat the same keys by name, so that a key is
//! described once; which keys a layer takes is the only thing that differs.

use super::Key;
use super::Kind;
use super::Switch;
use super::Table;
use super::balance;
use super::bulkhead;
use super::cache;
use super::checks;
use super::credential;
use super::endpoints;
use super::fault;
use super::health;
use super::hedge;
use super::limit;
use super::mtls;
use super::originate;
use super::overload::PRIORITY;
use super::rooms;

const TIMEOUT: Key = Key::new(
    "timeout",
    Kind::Block(&rooms::TIMEOUT),
    "",
    "The whole call, and its parts.",
);
const RETRY: Key = Key::new(
    "retry",
    Kind::Block(&rooms::RETRY),
    "",
    "Extra tries of failed calls.",
);
const BREAKER: Key = Key::new(
    "breaker",
    Kind::Block(&rooms::BREAKER),
    "",
    "Stops calling an upstream that fails.",
);
const EJECT: Key = Key::new(
    "eject",
    Kind::Block(&rooms::EJECT),
    "",
    "Leaves out an endpoint that fails, never the last one.",
);
const BALANCE: Key = Key::new(
    "balance",
    Kind::Block(&balance::BALANCE),
    "",
    "Which endpoint a try goes to.",
);
const PROTOCOL: Key = Key::new(
    "protocol",
    Kind::Words(&["auto", "tcp"]),
    "auto",
    "`tcp` tunnels at once without reading first bytes, for protocols in which the server speaks first.",
);
const IDEMPOTENCY: Key = Key::new(
    "idempotency",
    Kind::Block(&hedge::IDEMPOTENCY),
    "",
    "A key sent with unsafe calls so that they may be repeated.",
);
const HEDGE: Key = Key::new(
    "hedge",
    Kind::Block(&hedge::HEDGE),
    "",
    "A second copy of a slow call; the first answer wins.",
);
const BULKHEAD: Key = Key::new(
    "bulkhead",
    Kind::Block(&bulkhead::BULKHEAD),
    "",
    "A cap on calls in flight to the upstream.",
);
const LIMIT: Key = Key::new(
    "limit",
    Kind::Block(&limit::LIMIT),
    "",
    "A cap on the rate of calls.",
);
const CACHE: Key = Key::new(
    "cache",
    Kind::Block(&cache::CACHE),
    "",
    "Answers kept and served again, also when the upstream fails.",
);
const CREDENTIAL: Key = Key::new(
    "credential",
    Kind::Block(&credential::CREDENTIAL),
    "",
    "A secret of this service added to each call.",
);
const MTLS: Key = Key::new(
    "mtls",
    Kind::Block(&mtls::MTLS),
    "",
    "Mutual TLS with the upstream's sidecar.",
);
const ORIGINATE: Key = Key::new(
    "originate",
    Kind::Block(&originate::ORIGINATE),
    "",
    "The application speaks plain HTTP and outrider speaks TLS to the upstream.",
);
const HEALTH: Key = Key::new(
    "health",
    Kind::Block(&health::HEALTH),
    "",
    "Probes of each endpoint, with or without traffic.",
);
const FAULT: Key = Key::new(
    "fault",
    Kind::Block(&fault::FAULT),
    "",
    "Faults made on purpose, for a time.",
);

/// `defaults`.
pub static DEFAULTS: Table = Table {
    name: "defaults",
    doc: "Values under every upstream and for unmatched traffic.",
    short: None,
    switch: Switch::Always,
    keys: &[
        BALANCE,
        PROTOCOL,
        PRIORITY,
        TIMEOUT,
        RETRY,
        IDEMPOTENCY,
        HEDGE,
        BREAKER,
        EJECT,
        BULKHEAD,
        LIMIT,
        CACHE,
        MTLS,
        ORIGINATE,
        HEALTH,
        FAULT,
    ],
};

/// One of `profiles`.
pub static PROFILE: Table = Table {
    name: "a profile",
    doc: "Values that an upstream takes with `use`.",
    short: None,
    switch: Switch::Always,
    keys: &[
        BALANCE,
        PROTOCOL,
        PRIORITY,
        TIMEOUT,
        RETRY,
        IDEMPOTENCY,
        HEDGE,
        BREAKER,
        EJECT,
        BULKHEAD,
        LIMIT,
        CACHE,
        CREDENTIAL,
        MTLS,
        ORIGINATE,
        HEALTH,
        FAULT,
    ],
};

/// One of `upstreams`, or the whole file in its short form.
pub static UPSTREAM: Table = Table {
    name: "an upstream",
    doc: "One dependency: where it is, and what happens to calls to it.",
    short: None,
    switch: Switch::Always,
    keys: &[
        Key::new(
            "upstream",
            Kind::Text(&checks::UPSTREAM),
            "",
            "Which calls: `host`, `host:port`, `service.namespace` or `*.glob`. The most specific one wins.",
        )
        .required(),
        Key::new("use", Kind::Text(&checks::NAME), "", "The profile whose values lie under this upstream's."),
        Key::new(
            "endpoints",
            Kind::Or(&[
                Kind::Words(&["dns", "original"]),
                Kind::List(&Kind::Block(&endpoints::ENDPOINT), 1),
                Kind::Block(&endpoints::ENDPOINTS),
            ]),
            "dns",
            "Where connections go: the resolved name, the address the application dialled, or a fixed list, by zone or not.",
        ),
        BALANCE,
        PROTOCOL,
        PRIORITY,
        TIMEOUT,
        RETRY,
        IDEMPOTENCY,
        HEDGE,
        BREAKER,
        EJECT,
        BULKHEAD,
        LIMIT,
        CACHE,
        CREDENTIAL,
        MTLS,
        ORIGINATE,
        HEALTH,
        FAULT,
        Key::new(
            "routes",
            Kind::List(&Kind::Block(&ROUTE), 0),
            "[]",
            "Values for some of the calls. The most specific match wins, whatever the order.",
        ),
    ],
};

/// One of `routes`.
pub static ROUTE: Table = Table {
    name: "a route",
    doc: "Values for the calls that match, over the upstream's.",
    short: None,
    switch: Switch::Always,
    keys: &[
        Key::new(
            "match",
            Kind::Text(&checks::MATCH),
            "",
            "`METHOD /path` or `/path`; `*` stands for one segment, `**` at the end for any rest.",
        )
        .required(),
        PRIORITY,
        TIMEOUT,
        RETRY,
        IDEMPOTENCY,
        HEDGE,
        BREAKER,
        BULKHEAD,
        LIMIT,
        CACHE,
        CREDENTIAL,
        FAULT,
    ],
};
