//! Settings of the Redis that pods share.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::kit::fields::Fields;

/// The `redis` block, with every value filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where to begin, as `host:port`; a cluster's other nodes are discovered from any of them. At least one.
    pub nodes: Vec<String>,
    /// Whether these are nodes of a cluster. Default: found out by asking.
    pub topology: Topology,
    /// How connections are encrypted; `None` is not at all, the default.
    pub tls: Option<Tls>,
    /// The name to log in with (Redis ACL). Default: the default user.
    pub username: Option<String>,
    /// Where the password is. Default: none. A file is read again when it changes.
    pub password: Option<Secret>,
    /// The longest that a call waits for Redis before it goes on without. Range: 1ms to 1s. Default: 5ms: a command inside a
    /// zone takes a fifth of a millisecond, and what is not there after 5 ms is fetched sooner from the upstream.
    pub deadline: Duration,
    /// How long a pod waits, before it says that it is ready, to hear of the others. `None` waits for nobody. Range: 1ms to
    /// 30s. Default: 500ms: a Redis that is there answers in a hundredth of it.
    pub warm: Option<Duration>,
    /// What all keys and channels begin with, followed by the service's name, so that services do not read one another's.
    /// Default: `outrider`.
    pub prefix: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            topology: Topology::Auto,
            tls: None,
            username: None,
            password: None,
            deadline: Duration::from_millis(5),
            warm: Some(Duration::from_millis(500)),
            prefix: "outrider".to_owned(),
        }
    }
}

impl Settings {
    /// The settings of a merged `redis` block that is not off.
    pub fn lift<F: Fields>(block: &F) -> Self {
        let built_in = Self::default();
        let owned = |key: &str| block.word(key).map(ToOwned::to_owned);
        Self {
            nodes: block
                .list("nodes")
                .unwrap_or_default()
                .into_iter()
                .map(ToOwned::to_owned)
                .collect(),
            topology: match block.word("topology") {
                Some("cluster") => Topology::Cluster,
                Some("single") => Topology::Single,
                _ => Topology::Auto,
            },
            tls: block.block("tls").map(Tls::lift),
            username: owned("username"),
            password: block.word("password").and_then(Secret::parse),
            deadline: block.duration("deadline").unwrap_or(built_in.deadline),
            warm: block.duration("warm"),
            prefix: owned("prefix").unwrap_or(built_in.prefix),
        }
    }
}

/// What the nodes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Topology {
    /// Asked at each dialling.
    #[default]
    Auto,
    /// A Redis Cluster.
    Cluster,
    /// One Redis; of several nodes the first that answers is used.
    Single,
}

/// `tls`: files are PEM and read again when they change.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Tls {
    /// The trust anchors. Default: those of the system.
    pub ca: Option<PathBuf>,
    /// The certificate chain that outrider shows, for a Redis that wants one. Default: none.
    pub cert: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
}

impl Tls {
    /// The settings of a merged `tls` block that is not off.
    pub fn lift<F: Fields>(block: &F) -> Self {
        let path = |key: &str| block.word(key).map(PathBuf::from);
        Self {
            ca: path("ca"),
            cert: path("cert"),
            key: path("key"),
        }
    }
}

/// Where a secret is; never the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    /// `file:/path`: the first line.
    File(PathBuf),
    /// `env:NAME`.
    Env(String),
}

impl Secret {
    /// `file:/path` or `env:NAME`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':')? {
            ("file", path) => Some(Self::File(path.into())),
            ("env", name) => Some(Self::Env(name.to_owned())),
            _ => None,
        }
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Env(name) => write!(f, "env:{name}"),
        }
    }
}
