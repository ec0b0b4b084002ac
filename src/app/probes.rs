//! Which destinations are probed, and what `/upstreams` says of it.

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;

use crate::app::tree::Destination;
use crate::app::tree::Key;
use crate::config;
use crate::endpoint::Cluster;
use crate::endpoint::Endpoint;
use crate::endpoint::discover::Resolver;
use crate::endpoint::health;
use crate::endpoint::health::Health;
use crate::telemetry::Telemetry;

/// Starts, keeps or stops the probes of one live upstream.
pub struct Probes<'a> {
    /// How it is found.
    pub key: &'a Key,
    /// Its name in the policy.
    pub name: &'a str,
    /// Counts.
    pub telemetry: &'a Telemetry,
    /// Lends its runtime: probes belong to no worker.
    pub resolver: &'a Resolver,
    /// Those under the policy before.
    pub before: Option<&'a Arc<Health>>,
}

impl Probes<'_> {
    /// The probes of `cluster` as this policy wants them; `None` is off.
    #[must_use]
    pub fn of(
        &self,
        upstream: Option<&config::Upstream>,
        cluster: &Arc<Cluster>,
    ) -> Option<Arc<Health>> {
        let settings = upstream.and_then(|upstream| upstream.health.as_ref());
        let host = upstream.and_then(|upstream| host(self.key, upstream));
        let now = settings.zip(host).map(|(settings, host)| {
            let same = self.before.filter(|health| health.settings() == settings);
            same.map_or_else(|| self.start(settings, host, cluster), Arc::clone)
        });
        if let Some(before) = self.before
            && !now.as_ref().is_some_and(|now| Arc::ptr_eq(now, before))
        {
            // The tree before lives on for as long as a call holds it; two would probe meanwhile.
            before.stop();
        }
        now
    }

    fn start(
        &self,
        settings: &health::Settings,
        host: String,
        cluster: &Arc<Cluster>,
    ) -> Arc<Health> {
        let plan = health::Plan {
            name: self.name.into(),
            host,
            settings: settings.clone(),
            cluster: Arc::clone(cluster),
            metrics: health::metrics::Metrics::new(self.telemetry, self.name),
        };
        Health::start(plan, self.before.map(Arc::as_ref), self.resolver.runtime())
    }
}

/// What a probe over HTTP says in Host: the name that calls are made to. `None` where there is no such name, and where
/// whoever calls could make up destinations: a load error, seen from here.
fn host(key: &Key, upstream: &config::Upstream) -> Option<String> {
    let pattern = &upstream.pattern;
    let (host, port) = match &key.destination {
        Destination::Dialled(_) => return None,
        _ if pattern.is_glob() => return None,
        Destination::Name(host, port) => (host.to_string(), Some(*port)),
        Destination::Listed => (pattern.host(), pattern.port()),
    };
    let host = if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]")
    } else {
        host
    };
    Some(match port.filter(|port| *port != 80) {
        Some(port) => format!("{host}:{port}"),
        None => host,
    })
}

/// What is probed, for `/upstreams`.
#[must_use]
pub fn describe(health: Option<&Health>) -> Value {
    let Some(settings) = health.map(Health::settings) else {
        return Value::Null;
    };
    json!({
        "probe": settings.probe.to_string(),
        "mode": settings.mode.word(),
        "every_ms": settings.every.as_millis() as u64,
    })
}

/// What was found about one endpoint, added to its entry.
pub fn describe_endpoint(
    health: Option<&Health>,
    endpoint: &Endpoint,
    now: Instant,
    entry: &mut Value,
) {
    let Some(told) = health.and_then(|health| health.told(endpoint.id)) else {
        return;
    };
    let ago = |at: Instant| now.saturating_duration_since(at).as_millis() as u64;
    entry["health"] = json!(told.state.word());
    entry["health_changed_ms_ago"] = json!(told.changed.map(ago));
    entry["health_probed_ms_ago"] = json!(told.probed.map(ago));
    let (failure, at) = told.failed.unzip();
    entry["health_error"] = json!(failure.map(|failure| failure.to_string()));
    entry["health_failed_ms_ago"] = json!(at.map(ago));
}
