//! Settings of TLS to an upstream.

use std::path::PathBuf;
use std::sync::Arc;

use crate::identity::PeerPattern;
use crate::kit::fields::Fields;

/// How connections to an upstream are secured. Default: not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Settings {
    /// What the application sends is sent.
    #[default]
    Plain,
    /// `mtls`: both sides show who they are.
    Mtls(Mtls),
    /// `originate`: the server shows who it is, as on the web.
    Originate(Originate),
}

/// What happens to a call for which mutual TLS cannot be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Want {
    /// It fails.
    #[default]
    Required,
    /// It goes in plaintext, if and only if the other side does not speak TLS, or we have no identity to show. A peer that is not
    /// who it should be is never spoken to.
    Preferred,
    /// All calls go in plaintext; now and then a handshake is tried beside them, and counted.
    Shadow,
}

impl Want {
    /// Its word in the policy.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Preferred => "preferred",
            Self::Shadow => "shadow",
        }
    }
}

/// The `mtls` block, with every value filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mtls {
    /// Default: required.
    pub want: Want,
    /// Identities that are accepted: exact, or all below a path (`spiffe://shop.test/ns/shop/*`). Default: none named, which
    /// accepts every identity of a trust domain that we know.
    pub peers: Arc<[PeerPattern]>,
}

impl Default for Mtls {
    fn default() -> Self {
        Self {
            want: Want::Required,
            peers: Arc::new([]),
        }
    }
}

impl Mtls {
    /// The settings of a merged `mtls` block that is not off.
    pub fn lift<F: Fields>(block: &F) -> Self {
        let peers = block.list("peers").unwrap_or_default();
        Self {
            want: match block.word("mode") {
                Some("preferred") => Want::Preferred,
                Some("shadow") => Want::Shadow,
                _ => Want::Required,
            },
            peers: peers.into_iter().filter_map(PeerPattern::parse).collect(),
        }
    }
}

/// The `originate` block, with every value filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Originate {
    /// A PEM file with the authorities that are believed, read again when it changes. Default: those of the system, and those of
    /// Mozilla where it has none.
    pub ca: Option<PathBuf>,
    /// The name that is asked for (SNI) and that the certificate must be for. Default: the host of the call.
    pub sni: Option<String>,
    /// The port that is dialled. Range: 1 to 65535. Default: 443 for calls to port 80, else the port of the call. Endpoints that
    /// are listed have their own.
    pub port: Option<u16>,
}

impl Originate {
    /// The settings of a merged `originate` block that is not off.
    pub fn lift<F: Fields>(block: &F) -> Self {
        Self {
            ca: block.word("ca").map(PathBuf::from),
            sni: block.word("sni").map(str::to_ascii_lowercase),
            port: block
                .count("port")
                .and_then(|port| u16::try_from(port).ok()),
        }
    }

    /// The port to dial for a call to `port`.
    #[must_use]
    pub fn port(&self, port: u16) -> u16 {
        let secure = if port == 80 { 443 } else { port };
        self.port.unwrap_or(secure)
    }
}

impl Settings {
    /// The settings of a merged upstream. Both blocks on is a load error, seen from here.
    pub fn lift<F: Fields>(upstream: &F) -> Self {
        if let Some(block) = upstream.block("mtls") {
            return Self::Mtls(Mtls::lift(block));
        }
        match upstream.block("originate") {
            Some(block) => Self::Originate(Originate::lift(block)),
            None => Self::Plain,
        }
    }

    /// The port to dial for a call to `port`.
    #[must_use]
    pub fn port(&self, port: u16) -> u16 {
        match self {
            Self::Originate(originate) => originate.port(port),
            Self::Plain | Self::Mtls(_) => port,
        }
    }
}
