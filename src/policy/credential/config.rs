//! Settings of a credential: where the secret comes from, and which header carries it.

use std::fmt;
use std::path::PathBuf;

use http::HeaderName;
use http::header;

use crate::kit::fields::Fields;
use crate::kit::mode::Mode;

/// The `credential` block, with every value filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Shadow counts which calls would carry the secret, but sets none and refuses none. Default: enforce.
    pub mode: Mode,
    /// The header that carries it. Default: `Authorization` (RFC 9110 section 11.6.2).
    pub header: HeaderName,
    /// Where the secret comes from: `from` or `oauth2`. `None` only as long as nobody has said it.
    pub from: Option<Origin>,
    /// What the secret is tried as where the upstream refuses the first: the key that is to come, or the one that was.
    /// Default: none.
    pub next: Option<Place>,
    /// The header's value; `{}` stands for the secret. Default: `{}`, and `Bearer {}` with `oauth2` (RFC 6750 section 2.1).
    pub format: String,
    /// Whether a header of that name which the application has set is replaced. Default: false, the application's own
    /// credential is the more specific one.
    pub overwrite: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Enforce,
            header: header::AUTHORIZATION,
            from: None,
            next: None,
            format: "{}".to_owned(),
            overwrite: false,
        }
    }
}

impl Settings {
    /// The settings of a merged `credential` block that is not off.
    pub fn lift<F: Fields>(block: &F) -> Self {
        let built_in = Self::default();
        let place = |key| block.word(key).and_then(Place::parse);
        let grant = block.block("oauth2").map(Grant::lift);
        let from = match grant {
            Some(grant) => Some(Origin::Grant(Box::new(grant))),
            None => place("from").map(Origin::Place),
        };
        let format = match (&from, block.word("format")) {
            (_, Some(format)) => format.to_owned(),
            (Some(Origin::Grant(_)), None) => "Bearer {}".to_owned(),
            (_, None) => built_in.format,
        };
        Self {
            mode: match block.word("mode") {
                Some("shadow") => Mode::Shadow,
                _ => Mode::Enforce,
            },
            header: block
                .word("header")
                .and_then(|name| name.parse().ok())
                .unwrap_or(built_in.header),
            from,
            next: place("next"),
            format,
            overwrite: block.flag("overwrite").unwrap_or(built_in.overwrite),
        }
    }
}

/// Where a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Origin {
    /// It is written somewhere.
    Place(Place),
    /// It is asked for.
    Grant(Box<Grant>),
}

/// As logs, metrics and pages call it: its place, never its content.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place(place) => place.fmt(f),
            Self::Grant(grant) => grant.fmt(f),
        }
    }
}

/// Where a secret is written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// A file, read again when it changes.
    File(PathBuf),
    /// A variable of the environment that this process was started with.
    Env(String),
}

impl Place {
    /// Reads `file:/path` or `env:NAME`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "file" => Some(Self::File(PathBuf::from(rest))),
            "env" => Some(Self::Env(rest.to_owned())),
            _ => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Env(name) => write!(f, "env:{name}"),
        }
    }
}

/// The `oauth2` block: the client-credentials grant (RFC 6749 section 4.4), with every value filled in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Grant {
    /// The token endpoint. Plain `http` only to loopback, or where `insecure` says so: the client's secret and the token
    /// go over it.
    pub token_url: String,
    /// The client's identifier. No secret (RFC 6749 section 2.2).
    pub client_id: String,
    /// Where the client's secret is. Read anew for each token, so that it can be changed at any time.
    pub client_secret: Option<Place>,
    /// How the client shows its secret. Default: basic.
    pub auth: ClientAuth,
    /// What the token is to be good for: words with a space between (RFC 6749 section 3.3). Default: what the server gives.
    pub scope: Option<String>,
    /// Whom the token is for: `audience`, which many servers want though RFC 6749 does not have it. Default: none.
    pub audience: Option<String>,
    /// Trust anchors in PEM for the token endpoint. Default: those of the system, or Mozilla's where it has none.
    pub ca: Option<PathBuf>,
    /// Plain `http` to another host than this one. Default: false.
    pub insecure: bool,
}

/// How a client shows its secret to the token endpoint (RFC 6749 section 2.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ClientAuth {
    /// In `Authorization: Basic`, which every server must take. Default.
    #[default]
    Basic,
    /// In the form, for servers that take nothing else.
    Form,
}

impl Grant {
    /// The settings of a merged `oauth2` block.
    pub fn lift<F: Fields>(block: &F) -> Self {
        let text = |key| block.word(key).map(str::to_owned);
        let scopes = block.list("scope").map(|words| words.join(" "));
        Self {
            token_url: text("token_url").unwrap_or_default(),
            client_id: text("client_id").unwrap_or_default(),
            client_secret: block.word("client_secret").and_then(Place::parse),
            auth: match block.word("auth") {
                Some("form") => ClientAuth::Form,
                _ => ClientAuth::Basic,
            },
            scope: scopes
                .or_else(|| text("scope"))
                .filter(|scope| !scope.is_empty()),
            audience: text("audience"),
            ca: text("ca").map(PathBuf::from),
            insecure: block.flag("insecure").unwrap_or(false),
        }
    }

    /// The host of the token endpoint, as `host` or `host:port`.
    #[must_use]
    pub fn authority(&self) -> &str {
        let rest = self
            .token_url
            .split_once("://")
            .map_or("", |(_, rest)| rest);
        rest.split(['/', '?', '#']).next().unwrap_or_default()
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "oauth2:{}@{}", self.client_id, self.authority())?;
        for (key, value) in [("scope", &self.scope), ("audience", &self.audience)] {
            if let Some(value) = value {
                write!(f, " {key}={value}")?;
            }
        }
        Ok(())
    }
}
