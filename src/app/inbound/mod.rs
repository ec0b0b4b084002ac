//! The listener in front of the application: who is let in, and the way to where the application listens.

mod accept;
mod handle;

pub use accept::serve;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;

use crate::balance;
use crate::balance::Balancer;
use crate::clock;
use crate::config;
use crate::endpoint::Cluster;
use crate::identity::Current;
use crate::listen::inbound::App;
use crate::listen::inbound::Settings;
use crate::policy::authorise;
use crate::policy::authorise::Authoriser;
use crate::policy::limit;
use crate::policy::limit::Limiter;
use crate::telemetry;
use crate::telemetry::ByWord;
use crate::telemetry::RouteMetrics;
use crate::telemetry::Telemetry;
use crate::telemetry::UpstreamMetrics;

/// How a call came, as far as it is counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Over mutual TLS.
    Mtls,
    /// In the clear, from whoever.
    Plain,
    /// In the clear, to ask how the application is.
    Probe,
}

impl Transport {
    /// Every one; `transport as usize` is its place here.
    pub const ALL: [Self; 3] = [Self::Mtls, Self::Plain, Self::Probe];

    /// The label value.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Mtls => "mtls",
            Self::Plain => "plain",
            Self::Probe => "probe",
        }
    }
}

/// What the calls to one application share, on whatever worker.
pub struct Site {
    /// Where it is, and what it speaks.
    pub app: App,
    /// Its one endpoint.
    pub cluster: Arc<Cluster>,
    /// Handles, by transport.
    pub metrics: [Arc<RouteMetrics>; Transport::ALL.len()],
}

/// The inbound listener of a policy.
pub struct Inbound {
    /// Which applications, and who is let in.
    pub settings: Settings,
    /// In the order of the settings.
    pub sites: Vec<Site>,
    /// Who may call; `None` is off.
    pub authoriser: Option<Arc<Authoriser>>,
    /// How often; `None` is off.
    pub limit: Option<limit::Guard>,
    /// Counts connections to the applications.
    pub upstream: Arc<UpstreamMetrics>,
    /// How the one endpoint of each is chosen.
    pub balancer: Arc<Balancer>,
    /// Counts handshakes, by what came of them.
    pub handshakes: ByWord,
}

impl Inbound {
    /// That of a policy, with what `before` has of the same.
    #[must_use]
    pub fn new(
        policy: &config::Inbound,
        telemetry: &Arc<Telemetry>,
        before: Option<&Self>,
    ) -> Arc<Self> {
        let now = clock::now();
        let site = |app: &App| {
            let text = app.address.port().to_string();
            let same = before.and_then(|before| {
                let mut sites = before.sites.iter();
                sites.find(|site| site.app.address == app.address)
            });
            Site {
                app: *app,
                cluster: same.map_or_else(
                    || Cluster::fixed(&[app.address], now),
                    |site| Arc::clone(&site.cluster),
                ),
                metrics: Transport::ALL.map(|transport| telemetry.inbound(&text, transport.word())),
            }
        };
        Arc::new(Self {
            sites: policy.settings.apps.iter().map(site).collect(),
            settings: policy.settings.clone(),
            authoriser: policy.authorise.as_ref().map(|settings| {
                let same = before
                    .and_then(|before| before.authoriser.as_ref())
                    .filter(|same| same.settings() == settings);
                let metrics = || authorise::metrics::Metrics::new(telemetry, settings.rules.len());
                same.map_or_else(|| Authoriser::new(settings.clone(), metrics()), Arc::clone)
            }),
            limit: policy
                .limit
                .as_ref()
                .map(|settings| guard(settings, telemetry, before, now)),
            upstream: telemetry.upstream(telemetry::INBOUND),
            balancer: Balancer::new(
                balance::Settings::default(),
                None,
                balance::metrics::Metrics::new(telemetry, telemetry::INBOUND),
            ),
            handshakes: telemetry.handshakes(),
        })
    }

    /// The application that a connection is for; `original` is where it was made to, if it was redirected.
    #[must_use]
    pub fn site(&self, original: Option<SocketAddr>) -> Option<&Site> {
        let app = self.settings.app(original.map(|address| address.port()))?;
        self.sites
            .iter()
            .find(|site| site.app.address == app.address)
    }

    /// Its page, `/inbound`.
    #[must_use]
    pub fn describe(&self, identity: &Current, now: Instant) -> Value {
        let apps: Vec<_> = self
            .sites
            .iter()
            .map(|site| {
                json!({
                    "address": site.app.address,
                    "protocol": site.app.protocol.word(),
                    "in_flight": site.cluster.set().endpoints.first().map(|one| one.in_flight()),
                })
            })
            .collect();
        let identity = identity.get();
        json!({
            "mode": self.settings.mode.word(),
            "apps": apps,
            "probes": self.settings.probes,
            "identity": identity.as_ref().map(|identity| json!({
                "id": identity.id.as_str(),
                "not_after": identity.not_after,
                "generation": identity.generation,
            })),
            "authorise": self.authoriser.as_ref().map(|authoriser| authoriser.describe()),
            "limit": self.limit.as_ref().map(|limit| limit.describe(now)),
        })
    }
}

fn guard(
    settings: &limit::Settings,
    telemetry: &Arc<Telemetry>,
    before: Option<&Inbound>,
    now: Instant,
) -> limit::Guard {
    let metrics = Arc::new(limit::metrics::Metrics::new(
        telemetry,
        telemetry::INBOUND,
        "*",
    ));
    let before = before
        .and_then(|before| before.limit.as_ref())
        .map(|guard| &guard.limiter);
    let limiter = match before.filter(|before| before.settings().same_buckets(settings)) {
        Some(same) => Arc::clone(same),
        None => Limiter::new(
            telemetry::INBOUND,
            settings.clone(),
            limit::metrics::keys(telemetry, telemetry::INBOUND, "*"),
            now,
            before.map(AsRef::as_ref),
        ),
    };
    limit::Guard {
        limiter,
        mode: settings.mode,
        headers: settings.headers,
        metrics,
    }
}
