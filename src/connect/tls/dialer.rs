//! Opens connections to the endpoints of one upstream.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::HandshakeKind;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout_at;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Broken;
use super::Inside;
use super::Metrics;
use super::Mtls;
use super::Originate;
use super::Protected;
use super::Roots;
use super::Settings;
use super::Want;
use super::Wire;
use crate::clock;
use crate::connect;
use crate::http::Fault;
use crate::identity::Current;
use crate::identity::Flaw;
use crate::identity::leaf::Leaf;
use crate::identity::tls;
use crate::identity::tls::Following;
use crate::identity::verify;

/// How long an endpoint that does not speak TLS is called in plaintext before TLS is tried again, and how long such a
/// connection is used (`preferred`); and the time between two handshakes tried beside plaintext (`shadow`).
const PLAIN_FOR: Duration = Duration::from_secs(60);

/// The longest that what a peer says of itself may be in a log.
const NAME_MAX: usize = 256;

/// What a dialer is made of.
pub struct Plan {
    /// How connections are secured.
    pub settings: Settings,
    /// Who we are.
    pub identity: Arc<Current>,
    /// Whom `originate` believes; `None` for `mtls`.
    pub roots: Option<Roots>,
    /// The host that calls are made to, for SNI; `None` where there is none.
    pub host: Option<String>,
    /// Counts.
    pub metrics: Metrics,
}

/// How one connection is secured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secured {
    /// `mtls`, `tls`, or `plaintext` where mutual TLS was preferred and could not be had.
    pub how: &'static str,
    /// Who is at the other end; `None` where it did not say.
    pub peer: Option<Arc<str>>,
    /// The generation that it was made with.
    pub generation: u64,
    /// When a certificate of either side ends, or plaintext is to be given up.
    pub until: Option<Instant>,
    /// Why its TLS broke, once it has.
    pub broken: Broken,
}

/// What happened last at an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A connection came to be.
    Secured(Secured),
    /// None did.
    Failed(Flaw),
}

/// Opens connections to the endpoints of one upstream. Shared by all workers.
pub struct Dialer {
    plan: Plan,
    configs: Configs,
    seen: Mutex<HashMap<SocketAddr, Note>>,
}

struct Note {
    seen: Seen,
    at: Instant,
}

/// Addresses that are remembered; an upstream with more is a glob.
const NOTES_MAX: usize = 1024;

enum Configs {
    Mutual {
        http1: Following<ClientConfig>,
        http2: Following<ClientConfig>,
        opaque: Following<ClientConfig>,
    },
    Web(ArcSwapOption<Web>),
}

struct Web {
    generation: u64,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
}

impl Dialer {
    /// A dialer; `None` where connections are plain.
    #[must_use]
    pub fn new(plan: Plan) -> Option<Arc<Self>> {
        let configs = match &plan.settings {
            Settings::Plain => return None,
            Settings::Mtls(mtls) => {
                let following = |alpn: &'static [&'static [u8]]| {
                    let peers = Arc::clone(&mtls.peers);
                    Following::new(Arc::clone(&plan.identity), move |identity| {
                        tls::client_config(identity, &peers, alpn)
                    })
                };
                Configs::Mutual {
                    http1: following(&[tls::HTTP1]),
                    http2: following(&[tls::H2]),
                    opaque: following(&[]),
                }
            }
            Settings::Originate(_) => Configs::Web(ArcSwapOption::empty()),
        };
        Some(Arc::new(Self {
            plan,
            configs,
            seen: Mutex::default(),
        }))
    }

    /// What it was made from.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.plan.settings
    }

    /// What a call over it is: `https` where the upstream sees TLS.
    #[must_use]
    pub fn is_web(&self) -> bool {
        matches!(self.plan.settings, Settings::Originate(_))
    }

    /// The generation that a new connection would be made with. One of another is not to be used again.
    #[must_use]
    pub fn generation(&self) -> u64 {
        match &self.plan.roots {
            Some(roots) => roots.generation(),
            None => self.plan.identity.generation(),
        }
    }

    /// What happened last at an endpoint.
    #[must_use]
    pub fn seen(&self, address: SocketAddr) -> Option<Seen> {
        let seen = self.seen.lock();
        seen.get(&address).map(|note| note.seen.clone())
    }

    /// Opens a connection to `address` within `within`, for what will be spoken `inside`.
    ///
    /// # Errors
    /// What [`connect::tcp`] says, or the reason of a [`Flaw`] with its word as the detail; all certainly unsent.
    pub async fn open(
        self: &Arc<Self>,
        address: SocketAddr,
        within: Duration,
        inside: Inside,
    ) -> Result<(Wire, Secured), Fault> {
        match &self.plan.settings {
            Settings::Mtls(mtls) if mtls.want == Want::Shadow => {
                let stream = connect::tcp(address, within).await?;
                self.try_beside(address, within, inside);
                return Ok((Wire::Plain(stream), self.plaintext()));
            }
            Settings::Mtls(mtls) if mtls.want == Want::Preferred && self.is_plain(address) => {
                let stream = connect::tcp(address, within).await?;
                return Ok((Wire::Plain(stream), self.plaintext()));
            }
            _ => {}
        }
        let before = clock::now();
        let flaw = match self.secure(address, within, inside).await? {
            Ok((stream, secured)) => {
                self.note(address, Seen::Secured(secured.clone()));
                let broken = Arc::clone(&secured.broken);
                return Ok((Wire::Tls(Box::new(Protected { stream, broken })), secured));
            }
            Err(flaw) => flaw,
        };
        if !self.may_fall_back(flaw) {
            self.note(address, Seen::Failed(flaw));
            return Err(Fault::unsent(flaw.reason()).unsecured(flaw.word()));
        }
        let spent = clock::now().saturating_duration_since(before);
        let stream = connect::tcp(address, within.saturating_sub(spent)).await?;
        self.plan.metrics.fell_back(flaw);
        let secured = self.plaintext();
        if self.note(address, Seen::Secured(secured.clone())) {
            tracing::warn!(%address, why = flaw.word(), "mutual TLS is preferred and cannot be had: plaintext");
        }
        Ok((Wire::Plain(stream), secured))
    }

    /// A handshake on a connection of its own, whatever the settings fall back to.
    async fn secure(
        &self,
        address: SocketAddr,
        within: Duration,
        inside: Inside,
    ) -> Result<Result<(TlsStream<TcpStream>, Secured), Flaw>, Fault> {
        let before = clock::now();
        let (config, generation) = match self.config(inside) {
            Ok(found) => found,
            Err(flaw) => {
                self.plan.metrics.failed(flaw);
                return Ok(Err(flaw));
            }
        };
        let stream = connect::tcp(address, within).await?;
        let connector = TlsConnector::from(config);
        let shaking = connector.connect(self.name(address), stream);
        // Boxed: a handshake's state is large, and a call's future holds room for it.
        let shaken = timeout_at((before + within).into(), Box::pin(shaking)).await;
        let result = match shaken {
            Err(_elapsed) => Err(Flaw::Timeout),
            Ok(Err(error)) => Err(self.flaw_of(&error)),
            Ok(Ok(stream)) => self
                .judge(&stream, generation, inside)
                .map(|secured| (stream, secured)),
        };
        match &result {
            Ok((stream, _)) => {
                let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
                self.plan.metrics.shaken(resumed);
            }
            Err(flaw) => {
                self.plan.metrics.failed(*flaw);
                tracing::debug!(%address, flaw = flaw.word(), "handshake failed");
            }
        }
        Ok(result)
    }

    fn flaw_of(&self, error: &io::Error) -> Flaw {
        if connect::is_our_own(error) {
            return Flaw::Timeout;
        }
        match Flaw::of_io(error) {
            // On the web this is about names, and an authority of one's own is one that is not known.
            Flaw::CaAsLeaf if self.is_web() => Flaw::UnknownIssuer,
            flaw => flaw,
        }
    }

    /// What a handshake that succeeded says; a resumed one is looked at as if it were new.
    fn judge(
        &self,
        stream: &TlsStream<TcpStream>,
        generation: u64,
        inside: Inside,
    ) -> Result<Secured, Flaw> {
        let (_, connection) = stream.get_ref();
        let chosen = connection.alpn_protocol();
        if inside == Inside::Http2 && chosen != Some(tls::H2) {
            return Err(Flaw::Protocol);
        }
        let (now, unix) = (clock::now(), clock::unix());
        let from_now = |not_after: u64| {
            let left = Duration::from_secs(not_after).saturating_sub(unix);
            now.checked_add(left)
        };
        let chain = connection.peer_certificates();
        let Settings::Mtls(mtls) = &self.plan.settings else {
            let leaf = chain.and_then(<[_]>::first).ok_or(Flaw::NoCertificate)?;
            let leaf = Leaf::read(leaf)?;
            if leaf.not_after < unix.as_secs() {
                return Err(Flaw::Expired);
            }
            leaf.check_key()?;
            return Ok(Secured {
                how: "tls",
                peer: Some(
                    leaf.subject
                        .chars()
                        .take(NAME_MAX)
                        .collect::<String>()
                        .into(),
                ),
                generation,
                until: from_now(leaf.not_after),
                broken: Broken::default(),
            });
        };
        let (id, leaf) = verify::peer_of(chain, unix)?;
        if !verify::is_accepted(&mtls.peers, &id) {
            return Err(Flaw::WrongId);
        }
        let own = self.plan.identity.get().map(|identity| identity.not_after);
        let ends = leaf.not_after.min(own.unwrap_or(u64::MAX));
        Ok(Secured {
            how: "mtls",
            peer: Some(id.shared()),
            generation,
            until: from_now(ends),
            broken: Broken::default(),
        })
    }

    fn plaintext(&self) -> Secured {
        Secured {
            how: "plaintext",
            peer: None,
            generation: self.generation(),
            until: Some(clock::now() + PLAIN_FOR),
            broken: Broken::default(),
        }
    }

    /// Never after a certificate was seen and not believed, nor where the other side did not believe ours.
    fn may_fall_back(&self, flaw: Flaw) -> bool {
        let is_preferred = matches!(
            &self.plan.settings,
            Settings::Mtls(Mtls {
                want: Want::Preferred,
                ..
            })
        );
        is_preferred && matches!(flaw, Flaw::NotTls | Flaw::Closed | Flaw::NoIdentity)
    }

    /// Whether it was found a while ago that this endpoint speaks no TLS.
    fn is_plain(&self, address: SocketAddr) -> bool {
        let seen = self.seen.lock();
        let Some(Note { seen, at }) = seen.get(&address) else {
            return false;
        };
        let is_recent = clock::now().saturating_duration_since(*at) < PLAIN_FOR;
        let same = self.generation();
        is_recent
            && matches!(seen, Seen::Secured(Secured { how: "plaintext", generation, .. }) if *generation == same)
    }

    /// Whether this is another thing than what was seen there before.
    fn note(&self, address: SocketAddr, seen: Seen) -> bool {
        let how = |seen: &Seen| match seen {
            Seen::Secured(secured) => secured.how,
            Seen::Failed(flaw) => flaw.word(),
        };
        let mut notes = self.seen.lock();
        if notes.len() >= NOTES_MAX && !notes.contains_key(&address) {
            notes.clear();
        }
        let now_is = how(&seen);
        let at = clock::now();
        let before = notes.insert(address, Note { seen, at });
        before.is_none_or(|before| how(&before.seen) != now_is)
    }

    /// `shadow`: a handshake beside the call, at most one a minute for each endpoint. What comes of it is counted, not used.
    fn try_beside(self: &Arc<Self>, address: SocketAddr, within: Duration, inside: Inside) {
        {
            let now = clock::now();
            let notes = self.seen.lock();
            let last = notes.get(&address).map(|note| note.at);
            if last.is_some_and(|at| now.saturating_duration_since(at) < PLAIN_FOR) {
                return;
            }
        }
        self.note(address, Seen::Secured(self.plaintext()));
        let this = Arc::clone(self);
        tokio::spawn(async move {
            match this.secure(address, within, inside).await {
                Ok(Ok((_, secured))) => this.note(address, Seen::Secured(secured)),
                Ok(Err(flaw)) => this.note(address, Seen::Failed(flaw)),
                Err(_not_connected) => false,
            };
        });
    }

    /// What is asked for by name, and what a host name is compared with.
    fn name(&self, address: SocketAddr) -> ServerName<'static> {
        let asked = match &self.plan.settings {
            Settings::Originate(Originate { sni: Some(sni), .. }) => Some(sni),
            _ => self.plan.host.as_ref(),
        };
        let of = |name: &String| {
            let bare = name.trim_matches(['[', ']']).trim_end_matches('.');
            ServerName::try_from(bare.to_owned()).ok()
        };
        asked
            .and_then(of)
            .unwrap_or(ServerName::IpAddress(address.ip().into()))
    }

    fn config(&self, inside: Inside) -> Result<(Arc<ClientConfig>, u64), Flaw> {
        match &self.configs {
            Configs::Mutual {
                http1,
                http2,
                opaque,
            } => match inside {
                Inside::Http1 => http1.get(),
                Inside::Http2 => http2.get(),
                Inside::Opaque => opaque.get(),
            },
            Configs::Web(held) => {
                let generation = self.generation();
                let made = held.load_full();
                let made = if let Some(made) = made.filter(|web| web.generation == generation) {
                    made
                } else {
                    let web = Arc::new(self.web(generation)?);
                    // Two workers may both get here; one of two equal configurations is then used for less than the other.
                    held.store(Some(Arc::clone(&web)));
                    web
                };
                let config = match inside {
                    Inside::Http2 => &made.http2,
                    Inside::Http1 | Inside::Opaque => &made.http1,
                };
                Ok((Arc::clone(config), generation))
            }
        }
    }

    fn web(&self, generation: u64) -> Result<Web, Flaw> {
        let roots = self.plan.roots.as_ref().ok_or(Flaw::UnknownIssuer)?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.store(), tls::provider());
        // Nobody is believed.
        let verifier = verifier.build().map_err(|_none| Flaw::UnknownIssuer)?;
        let config = |alpn: &[u8]| {
            tls::plain_client_config(verifier.clone(), None, &[alpn])
                .map_err(|error| Flaw::of(&error))
        };
        Ok(Web {
            generation,
            http1: config(tls::HTTP1)?,
            http2: config(tls::H2)?,
        })
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer")
            .field("settings", &self.plan.settings)
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}
