//! Which upstream a host belongs to ([`Pattern`]), and which route a request takes ([`Matcher`]).
//!
//! The most specific wins, whatever the order in the file. What a match stands for is in [`crate::kit::matcher`].

use std::fmt;
use std::net::Ipv6Addr;

use crate::kit::units::Unfit;

pub use crate::kit::matcher::Matcher;
pub use crate::kit::matcher::SEGMENTS_MAX;

/// Which hosts an upstream block is about: `payments.shop`, `payments.shop:8080`, `*.example.com`, `10.0.0.1`, `[::1]:80`.
///
/// Case and a trailing dot do not count. A name of two labels is taken for `service.namespace` too, so it also matches
/// `service.namespace.svc` and `service.namespace.svc.cluster.local`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    host: Host,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Host {
    Name(String),
    /// What follows the `*`, with its dot: `.example.com`.
    Glob(String),
    V6(Ipv6Addr),
}

/// How narrow a pattern is; the greater wins. Of two patterns that match the same host and port, the specificities differ
/// unless the patterns are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PatternRank {
    exact: bool,
    labels: usize,
    port: bool,
}

impl Pattern {
    /// Parses the text of an `upstream:` key.
    ///
    /// # Errors
    /// If it is not a host name, an IPv4 address, a bracketed IPv6 address, or `*.` and a name; with an optional port.
    pub fn parse(text: &str) -> Result<Self, Unfit> {
        let text = text.trim();
        if text.is_empty() {
            return Err(
                Unfit::new("the upstream is empty").hint("write a host such as `payments.shop`")
            );
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let message =
                format!("`{text}` is a URL: an upstream is a host, without `{scheme}://`");
            return Err(Unfit::new(message).hint(format!("did you mean `{host}`?")));
        }
        if let Some((host, _)) = text.split_once('/') {
            let message = format!("`{text}` has a path: an upstream is a host");
            return Err(Unfit::new(message).hint(format!(
                "write `{host}` here and the path as `match:` under `routes:`"
            )));
        }
        if text.contains('@') {
            return Err(Unfit::new(format!(
                "`{text}` has user information: an upstream is a host"
            )));
        }
        let (host, port) = split_port(text)?;
        let host = parse_host(host)?;
        Ok(Self { host, port })
    }

    /// Whether a request to `host` (as in Host or `:authority`, without the port) and `port` belongs here.
    #[must_use]
    pub fn matches(&self, host: &str, port: u16) -> bool {
        self.port.is_none_or(|own| own == port) && self.matches_host(host)
    }

    fn matches_host(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        match &self.host {
            Host::Name(name) => {
                let Some((head, tail)) = host.split_at_checked(name.len()) else {
                    return false;
                };
                head.eq_ignore_ascii_case(name)
                    && (tail.is_empty() || (is_service(name) && is_cluster_suffix(tail)))
            }
            Host::Glob(suffix) => {
                let Some(at) = host.len().checked_sub(suffix.len()) else {
                    return false;
                };
                !host.starts_with('.')
                    && host
                        .get(at..)
                        .is_some_and(|tail| tail.eq_ignore_ascii_case(suffix))
            }
            Host::V6(address) => {
                let bare = host
                    .strip_prefix('[')
                    .and_then(|host| host.strip_suffix(']'));
                bare.unwrap_or(host)
                    .parse::<Ipv6Addr>()
                    .is_ok_and(|host| host == *address)
            }
        }
    }

    /// How narrow this is: a name before a glob, then more labels, then with a port.
    #[must_use]
    pub fn specificity(&self) -> PatternRank {
        let (exact, labels) = match &self.host {
            Host::Name(name) => (true, name.split('.').count()),
            Host::Glob(suffix) => (false, suffix.split('.').count()),
            Host::V6(_) => (true, 1),
        };
        PatternRank {
            exact,
            labels,
            port: self.port.is_some(),
        }
    }

    /// Whether both say the same, however they are written.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        self == other
    }

    /// Whether some host and port would match both. What the tests measure the ranks by.
    #[cfg(test)]
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let ports = match (self.port, other.port) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        ports
            && match (&self.host, &other.host) {
                (Host::Glob(a), Host::Glob(b)) => {
                    a.ends_with(b.as_str()) || b.ends_with(a.as_str())
                }
                (Host::Glob(_), _) => other.hosts().any(|host| self.matches_host(&host)),
                (_, Host::Glob(_)) => self.hosts().any(|host| other.matches_host(&host)),
                _ => self.hosts().any(|host| other.matches_host(&host)),
            }
    }

    // Every host that a pattern without a glob matches.
    #[cfg(test)]
    fn hosts(&self) -> impl Iterator<Item = String> {
        let (host, more) = match &self.host {
            Host::Name(name) => (name.clone(), is_service(name)),
            Host::Glob(suffix) => (format!("*{suffix}"), false),
            Host::V6(address) => (address.to_string(), false),
        };
        let suffixes = if more {
            &["", ".svc", ".svc.cluster.local"][..]
        } else {
            &[""][..]
        };
        suffixes.iter().map(move |suffix| format!("{host}{suffix}"))
    }

    /// The host in lower case, without brackets; a glob with its `*`. For a name, this is what is resolved.
    #[must_use]
    pub fn host(&self) -> String {
        match &self.host {
            Host::Name(name) => name.clone(),
            Host::Glob(suffix) => format!("*{suffix}"),
            Host::V6(address) => address.to_string(),
        }
    }

    /// The port, if the pattern names one; otherwise it matches every port.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// True for `*.name`: there is no one host to resolve.
    #[must_use]
    pub fn is_glob(&self) -> bool {
        matches!(self.host, Host::Glob(_))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) => f.write_str(name)?,
            Host::Glob(suffix) => write!(f, "*{suffix}")?,
            Host::V6(address) => write!(f, "[{address}]")?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

fn is_service(name: &str) -> bool {
    name.bytes().filter(|b| *b == b'.').count() == 1
}

fn is_cluster_suffix(tail: &str) -> bool {
    tail.eq_ignore_ascii_case(".svc") || tail.eq_ignore_ascii_case(".svc.cluster.local")
}

fn split_port(text: &str) -> Result<(&str, Option<u16>), Unfit> {
    let colon = match text.rfind(']') {
        Some(bracket) => text[bracket..].find(':').map(|at| bracket + at),
        None if text.starts_with('[') => None,
        None if text.matches(':').count() > 1 => {
            let fault = Unfit::new(format!("`{text}` is not a host"));
            return Err(match text.parse::<Ipv6Addr>() {
                Ok(_) => fault.hint(format!("did you mean `[{text}]`?")),
                Err(_) => fault.hint("write a host, and a port after one colon"),
            });
        }
        None => text.find(':'),
    };
    let Some(colon) = colon else {
        return Ok((text, None));
    };
    let (host, port) = (&text[..colon], &text[colon + 1..]);
    let number = port
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| port.parse::<u16>().ok());
    match number.flatten() {
        Some(number) if number > 0 => Ok((host, Some(number))),
        _ => Err(Unfit::new(format!("`{port}` in `{text}` is not a port"))
            .hint("a port is a number from 1 to 65535")),
    }
}

fn parse_host(text: &str) -> Result<Host, Unfit> {
    if let Some(inner) = text.strip_prefix('[') {
        let address = inner.strip_suffix(']').and_then(|inner| inner.parse().ok());
        return address
            .map(Host::V6)
            .ok_or_else(|| Unfit::new(format!("`{text}` is not an IPv6 address")));
    }
    let lower = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if lower == "*" {
        let hint = "settings for every host belong under `defaults:`; `unmatched:` says what becomes of the others";
        return Err(Unfit::new("`*` would match every host").hint(hint));
    }
    let (glob, name) = match lower.strip_prefix("*.") {
        Some(name) => (true, name),
        None => (false, lower.as_str()),
    };
    if name.contains('*') {
        let message = format!("`{text}` has a `*` that is not the whole first label");
        return Err(Unfit::new(message).hint("write it such as `*.example.com`"));
    }
    if name.len() > 253 {
        return Err(Unfit::new(format!(
            "`{text}` is longer than a host name may be (253)"
        )));
    }
    for label in name.split('.') {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if label.is_empty() || label.len() > 63 || !label.bytes().all(fits) {
            return Err(Unfit::new(format!(
                "`{text}` is not a host: `{label}` is not a label"
            )));
        }
    }
    Ok(if glob {
        Host::Glob(format!(".{name}"))
    } else {
        Host::Name(name.to_owned())
    })
}
