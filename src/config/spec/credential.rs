//! `credential`. Defaults here are the text of `credential::Settings::default()`; a test holds the two together.

use super::Check;
use super::Key;
use super::Kind;
use super::Switch;
use super::Table;
use super::checks;
use super::rooms::MODES;
use crate::kit::units::Unfit;

/// `credential`.
pub static CREDENTIAL: Table = Table {
    name: "credential",
    doc: "A secret of this service added to each call, so that no application holds it. Without it a call does not go.",
    short: Some("from"),
    switch: Switch::Mode,
    keys: &[
        Key::new(
            "mode",
            Kind::Words(MODES),
            "off",
            "`shadow` decides, counts and explains, but sets and refuses nothing.",
        ),
        Key::new(
            "header",
            Kind::Text(&HEADER),
            "Authorization",
            "The header that carries it.",
        ),
        Key::new(
            "from",
            Kind::Text(&checks::SECRET),
            "",
            "Where the secret is: `file:/path`, read again when it changes, or `env:NAME`. This or `oauth2`.",
        ),
        Key::new(
            "oauth2",
            Kind::Block(&OAUTH2),
            "",
            "A token instead, asked for and renewed by itself.",
        ),
        Key::new(
            "next",
            Kind::Text(&checks::SECRET),
            "",
            "Another key, sent once where the upstream answers 401 to the first: for the time in which keys are changed.",
        ),
        Key::new(
            "format",
            Kind::Text(&checks::FORMAT),
            "",
            "The header's value; `{}` stands for the secret. Default: `{}`, and `Bearer {}` with `oauth2`.",
        ),
        Key::new(
            "overwrite",
            Kind::Flag,
            "false",
            "Whether a header of that name which the application has set is replaced.",
        ),
    ],
};

/// `credential.oauth2`.
pub static OAUTH2: Table = Table {
    name: "oauth2",
    doc: "The client-credentials grant (RFC 6749 section 4.4).",
    short: None,
    switch: Switch::Present,
    keys: &[
        Key::new(
            "token_url",
            Kind::Text(&TOKEN_URL),
            "",
            "The token endpoint. Plain `http` only to loopback, or with `insecure`.",
        )
        .required(),
        Key::new(
            "client_id",
            Kind::Text(&VISIBLE),
            "",
            "The client's identifier.",
        )
        .required(),
        Key::new(
            "client_secret",
            Kind::Text(&checks::SECRET),
            "",
            "Where the client's secret is: `file:/path` or `env:NAME`. Read anew for each token.",
        )
        .required(),
        Key::new(
            "auth",
            Kind::Words(&["basic", "form"]),
            "basic",
            "How the secret is shown: in `Authorization: Basic`, or in the form.",
        ),
        Key::new(
            "scope",
            Kind::Or(&[Kind::Text(&VISIBLE), Kind::List(&Kind::Text(&VISIBLE), 1)]),
            "",
            "What the token is to be good for: one word, or a list of them.",
        ),
        Key::new(
            "audience",
            Kind::Text(&VISIBLE),
            "",
            "Whom the token is for, where the server wants to know.",
        ),
        Key::new(
            "ca",
            Kind::Text(&checks::FILE),
            "",
            "Trust anchors of the token endpoint in PEM. Default: those of the system.",
        ),
        Key::new(
            "insecure",
            Kind::Flag,
            "false",
            "Plain `http` to another host: whoever is on the way reads the client's secret and the token.",
        ),
    ],
};

static HEADER: Check = Check {
    name: "a header name",
    pattern: checks::TOKEN,
    test: header,
};
pub(super) static TOKEN_URL: Check = Check {
    name: "a URL such as `https://auth.example.com/token`",
    pattern: "^https?://[^\\s/@]+(/[^\\s#]*)?$",
    test: token_url,
};
static VISIBLE: Check = Check {
    name: "text of visible ASCII characters",
    pattern: "^[!-~]([ -~]*[!-~])?$",
    test: visible,
};

/// Headers that frame, route or name a message: a secret in their place would break every call, or go where it is logged.
const TAKEN: &[&str] = &[
    "host",
    "connection",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "trailer",
    "te",
    "upgrade",
    "expect",
    "via",
    "date",
    "keep-alive",
    "proxy-connection",
    "x-request-id",
    "traceparent",
    "tracestate",
    "grpc-timeout",
    "idempotency-key",
];

fn header(text: &str) -> Result<(), Unfit> {
    (checks::HEADER.test)(text)?;
    if TAKEN.iter().any(|name| text.eq_ignore_ascii_case(name)) {
        return Err(Unfit::new(format!("`{text}` has a meaning of its own"))
            .hint("name the header that the upstream reads its credential from"));
    }
    Ok(())
}

fn token_url(text: &str) -> Result<(), Unfit> {
    if text.contains('@') {
        // What stands before it may be a password, so the text is not repeated.
        return Err(Unfit::new("a URL with a user in it is not taken")
            .hint("`client_id` and `client_secret` say who asks"));
    }
    let parsed = text.parse::<http::Uri>().ok();
    let fits = parsed.is_some_and(|url| {
        let scheme = url.scheme_str();
        matches!(scheme, Some("http" | "https")) && url.host().is_some_and(|host| !host.is_empty())
    });
    if fits && !text.contains('#') {
        return Ok(());
    }
    Err(Unfit::new(format!("`{text}` is not {}", TOKEN_URL.name)))
}

fn visible(text: &str) -> Result<(), Unfit> {
    let all = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if all && !text.is_empty() && text.trim() == text {
        return Ok(());
    }
    Err(Unfit::new(format!("`{text}` is not {}", VISIBLE.name)))
}
