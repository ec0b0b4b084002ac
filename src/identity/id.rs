//! SPIFFE IDs, and patterns of them. Pure: text in, text out.
//!
//! The grammar is that of the SPIFFE ID standard, sections 2.1 to 2.3, read strictly: what two readers could take for two
//! different names (percent encoding, capitals in the trust domain, `..`, a trailing slash) is no ID at all.

use std::fmt;
use std::sync::Arc;

/// Longest ID, in bytes (SPIFFE ID, section 2.3).
pub const ID_MAX: usize = 2048;
/// Longest trust domain, in bytes (SPIFFE ID, section 2.3).
pub const DOMAIN_MAX: usize = 255;

const SCHEME: &str = "spiffe://";

/// The name of an authority that issues identities.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// `example.org`; lower case letters, digits, `.`, `-` and `_`. `None` is anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = !text.is_empty() && text.len() <= DOMAIN_MAX;
        let sound = |c: u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
        (fits && text.bytes().all(sound)).then(|| Self(text.into()))
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a workload: `spiffe://trust.domain/path`. The path is never empty: an ID without one names the authority
/// itself, which answers no calls.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    text: Arc<str>,
    domain: TrustDomain,
}

impl SpiffeId {
    /// Reads an ID; `None` if it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (domain, path) = split(text)?;
        is_path(path).then(|| Self {
            text: text.into(),
            domain,
        })
    }

    /// The whole ID.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The whole ID, shared.
    #[must_use]
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.text)
    }

    /// Who issued it.
    #[must_use]
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// What stands behind the trust domain, with its leading slash.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.text[SCHEME.len() + self.domain.as_str().len()..]
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The trust domain and what follows it, of a text within the bounds.
fn split(text: &str) -> Option<(TrustDomain, &str)> {
    if text.len() > ID_MAX {
        return None;
    }
    let rest = text.strip_prefix(SCHEME)?;
    let end = rest.find('/').unwrap_or(rest.len());
    Some((TrustDomain::parse(&rest[..end])?, &rest[end..]))
}

/// Whether it is `/segment/segment`, of letters, digits, `.`, `-` and `_`, no segment empty, `.` or `..`.
fn is_path(path: &str) -> bool {
    let sound = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_');
    let mut segments = path.split('/');
    let leads = segments.next() == Some("");
    let mut any = false;
    let all = segments.all(|segment| {
        any = true;
        !matches!(segment, "" | "." | "..") && segment.bytes().all(sound)
    });
    leads && any && all
}

/// Which peers are accepted: one ID, or all below a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Exactly this one.
    Exact(SpiffeId),
    /// Every ID of the trust domain whose path begins with these whole segments and goes on.
    Below {
        /// The trust domain.
        domain: TrustDomain,
        /// Ends in a slash.
        path: Box<str>,
    },
}

impl Peer {
    /// Reads `spiffe://td/ns/shop/sa/pay` or `spiffe://td/ns/shop/*`. A star stands at the end, for one segment or more, and
    /// nowhere else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let Some(stem) = text.strip_suffix("/*") else {
            return SpiffeId::parse(text).map(Self::Exact);
        };
        let (domain, path) = split(stem)?;
        (path.is_empty() || is_path(path)).then(|| Self::Below {
            domain,
            path: format!("{path}/").into(),
        })
    }

    /// Whether `id` is meant.
    #[must_use]
    pub fn accepts(&self, id: &SpiffeId) -> bool {
        match self {
            Self::Exact(exact) => exact == id,
            Self::Below { domain, path } => domain == id.domain() && id.path().starts_with(&**path),
        }
    }

    /// The trust domain of all that it accepts.
    #[must_use]
    pub fn domain(&self) -> &TrustDomain {
        match self {
            Self::Exact(id) => id.domain(),
            Self::Below { domain, .. } => domain,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(id) => id.fmt(f),
            Self::Below { domain, path } => write!(f, "{SCHEME}{domain}{path}*"),
        }
    }
}
