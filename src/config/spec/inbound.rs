//! `inbound` and `admin`. Defaults here are the text of what `Settings::default()` of their owners say; a test holds the two
//! together.

use std::net::SocketAddr;

use super::Check;
use super::Key;
use super::Kind;
use super::Switch;
use super::Table;
use super::checks;
use super::limit;
use super::rooms::MODES;
use crate::kit::units::Unfit;
use crate::listen::inbound::App;
use crate::policy::authorise::machine::Who;

/// `inbound`.
pub static INBOUND: Table = Table {
    name: "inbound",
    doc: "Mutual TLS in front of the application: who may call it, and how often. `listen.inbound` opens the port.",
    short: Some("app"),
    switch: Switch::Present,
    keys: &[
        Key::new(
            "app",
            Kind::Or(&[
                Kind::Text(&APP_PORT),
                Kind::List(&Kind::Block(&APP), 1),
            ]),
            "",
            "Where the application listens on loopback: a port, `address:port`, or a list. A redirected connection goes to the one of its port, any other to the first.",
        )
        .required(),
        Key::new(
            "mode",
            Kind::Words(&["strict", "permissive"]),
            "strict",
            "`permissive` lets plaintext in too, on the same port, without an identity.",
        ),
        Key::new(
            "probes",
            Kind::List(&Kind::Text(&checks::PATH), 0),
            "[]",
            "Paths that may be asked for by GET or HEAD in the clear and without any rule: what the kubelet probes.",
        ),
        Key::new(
            "limit",
            Kind::Block(&limit::INBOUND),
            "",
            "A cap on the rate of calls to the application; `per: peer` gives each caller a bucket.",
        ),
        Key::new(
            "authorise",
            Kind::Block(&AUTHORISE),
            "",
            "Who may call what. What no rule allows is refused with 403 `not_authorised`.",
        ),
    ],
};

/// One of `inbound.app`.
pub static APP: Table = Table {
    name: "an app",
    doc: "Where an application listens, and what it speaks.",
    short: Some("port"),
    switch: Switch::Always,
    keys: &[
        Key::new(
            "port",
            Kind::Text(&APP_PORT),
            "",
            "A port on 127.0.0.1, or `[::1]:port`.",
        )
        .required(),
        Key::new(
            "protocol",
            Kind::Words(&["auto", "http1", "http2", "tcp"]),
            "auto",
            "`auto`: HTTP/1.1, and HTTP/2 for gRPC. `tcp`: bytes are passed on and not looked into.",
        ),
    ],
};

/// `inbound.authorise`.
pub static AUTHORISE: Table = Table {
    name: "authorise",
    doc: "Rules that allow; what none of them allows is denied.",
    short: Some("rules"),
    switch: Switch::Mode,
    keys: &[
        Key::new(
            "mode",
            Kind::Words(MODES),
            "off",
            "`shadow` counts and tells what it would deny, and lets every call through.",
        ),
        Key::new(
            "rules",
            Kind::List(&Kind::Block(&RULE), 1),
            "",
            "What is allowed, to whom. Their order makes no difference.",
        )
        .required(),
    ],
};

/// One of `inbound.authorise.rules`.
pub static RULE: Table = Table {
    name: "a rule",
    doc: "What is allowed to whom.",
    short: Some("from"),
    switch: Switch::Always,
    keys: &[
        Key::new(
            "from",
            Kind::Or(&[
                Kind::Text(&CALLER),
                Kind::List(&Kind::Text(&CALLER), 1),
            ]),
            "",
            "Callers: a SPIFFE ID, all below one (`spiffe://td/ns/shop/*`), `any` with an identity, `anonymous`; or a list.",
        )
        .required(),
        Key::new(
            "to",
            Kind::Or(&[
                Kind::Text(&checks::MATCH),
                Kind::List(&Kind::Text(&checks::MATCH), 1),
            ]),
            "",
            "Requests as in `match` of a route: `GET /rates/**`; or a list. Default: all.",
        ),
    ],
};

/// `admin`.
pub static ADMIN: Table = Table {
    name: "admin",
    doc: "Who may give orders through the admin port.",
    short: Some("token"),
    switch: Switch::Present,
    keys: &[Key::new(
        "token",
        Kind::Text(&checks::SECRET),
        "",
        "Where the token is that orders must carry as `Authorization: Bearer`: `file:/path` (read anew for each order) or `env:NAME`. Without one, orders are taken over loopback only.",
    )
    .required()],
};

static APP_PORT: Check = Check {
    name: "a port, or an `address:port` on loopback",
    pattern: "^([0-9]{1,5}|[^\\s/]+:[0-9]{1,5})$",
    test: app,
};
static CALLER: Check = Check {
    name: "a caller: a SPIFFE ID, one that ends in `/*`, `any` or `anonymous`",
    pattern: "^(any|anonymous|spiffe://[^\\s/]+(/\\S+)?)$",
    test: caller,
};

fn app(text: &str) -> Result<(), Unfit> {
    let fault = Unfit::new(format!("`{text}` is not {}", APP_PORT.name));
    match text.parse::<SocketAddr>() {
        _ if App::address(text).is_some() => Ok(()),
        Ok(address) if !address.ip().is_loopback() => Err(fault.hint(
            "the application is behind this listener only if nobody else reaches it: let it listen on loopback",
        )),
        _ => Err(fault.hint("write its port such as `8080`, or `[::1]:8080`")),
    }
}

fn caller(text: &str) -> Result<(), Unfit> {
    Who::parse(text).map(drop)
}
