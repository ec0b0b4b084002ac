//! How the connections of one live upstream are secured, and what `/upstreams` says of it.

use std::sync::Arc;

use serde_json::Value;
use serde_json::json;

use crate::app::tree::Destination;
use crate::app::tree::Key;
use crate::config;
use crate::connect::tls::Dialer;
use crate::connect::tls::Metrics;
use crate::connect::tls::Plan;
use crate::connect::tls::Roots;
use crate::connect::tls::Secured;
use crate::connect::tls::Seen;
use crate::connect::tls::Settings;
use crate::connect::tls::Want;
use crate::endpoint::Cluster;
use crate::endpoint::Endpoint;
use crate::endpoint::discover::Resolver;
use crate::identity::Current;
use crate::telemetry::Telemetry;

/// Makes the dialer of one live upstream.
pub struct Securing<'a> {
    /// How it is found.
    pub key: &'a Key,
    /// Its name in the policy.
    pub name: &'a str,
    /// Counts.
    pub telemetry: &'a Telemetry,
    /// Lends its runtime.
    pub resolver: &'a Resolver,
    /// Who we are.
    pub identity: &'a Arc<Current>,
}

impl Securing<'_> {
    /// The dialer of these settings; `None` where connections are plain.
    #[must_use]
    pub fn dialer(
        &self,
        settings: &Settings,
        upstream: Option<&config::Upstream>,
    ) -> Option<Arc<Dialer>> {
        let (roots, shadow) = match settings {
            Settings::Plain => return None,
            Settings::Mtls(mtls) => (None, mtls.want == Want::Shadow),
            Settings::Originate(originate) => {
                let roots = Roots::new(originate.ca.as_deref(), self.resolver.runtime());
                (Some(roots), false)
            }
        };
        let host = match &self.key.destination {
            Destination::Name(host, _) => Some(host.to_string()),
            Destination::Listed | Destination::Dialled(_) => upstream
                .filter(|upstream| !upstream.pattern.is_glob())
                .map(|upstream| upstream.pattern.host()),
        };
        Dialer::new(Plan {
            settings: settings.clone(),
            identity: Arc::clone(self.identity),
            roots,
            host,
            metrics: Metrics::new(self.telemetry, self.name, shadow),
        })
    }
}

/// Whether connections of a cluster are secured as `settings` want it.
#[must_use]
pub fn fits(cluster: &Cluster, settings: &Settings) -> bool {
    match cluster.dialer() {
        Some(dialer) => dialer.settings() == settings,
        None => *settings == Settings::Plain,
    }
}

/// How an upstream is secured, for `/upstreams`.
#[must_use]
pub fn describe(cluster: &Cluster) -> Value {
    match cluster.dialer().map(|dialer| dialer.settings()) {
        None | Some(Settings::Plain) => Value::Null,
        Some(Settings::Mtls(mtls)) => json!({
            "mtls": mtls.want.word(),
            "peers": mtls.peers.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }),
        Some(Settings::Originate(originate)) => json!({
            "originate": "tls",
            "ca": originate.ca,
            "sni": originate.sni,
        }),
    }
}

/// What was seen last at one endpoint, added to its entry.
pub fn describe_endpoint(endpoint: &Endpoint, entry: &mut Value) {
    let seen = endpoint
        .dialer
        .as_ref()
        .map(|dialer| dialer.seen(endpoint.address));
    match seen.flatten() {
        None => {}
        Some(Seen::Secured(Secured { how, peer, .. })) => {
            entry["tls"] = json!(how);
            entry["peer"] = json!(peer.as_deref());
        }
        Some(Seen::Failed(flaw)) => entry["tls"] = json!(flaw.word()),
    }
}
