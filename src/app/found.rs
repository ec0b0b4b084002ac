//! Where the endpoints of one live upstream come from.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::app::secure::Securing;
use crate::app::tree::Around;
use crate::app::tree::Destination;
use crate::app::tree::Key;
use crate::clock;
use crate::config;
use crate::config::Endpoints;
use crate::connect::tls;
use crate::endpoint::Cluster;
use crate::endpoint::discover::Resolver;
use crate::endpoint::discover::Update;
use crate::endpoint::discover::WatchHandle;
use crate::http::Reason;
use crate::telemetry::UpstreamMetrics;

/// A cluster of endpoints whose connections are secured as `tls` says, and the watch that feeds it.
#[must_use]
pub fn find(
    key: &Key,
    name: &str,
    upstream: Option<&config::Upstream>,
    tls: &tls::Settings,
    around: &Around<'_>,
    metrics: &Arc<UpstreamMetrics>,
) -> (Arc<Cluster>, Option<Arc<WatchHandle>>) {
    let securing = Securing {
        key,
        name,
        telemetry: around.telemetry,
        resolver: around.resolver,
        identity: around.identity,
    };
    let cluster = Cluster::secured(securing.dialer(tls, upstream));
    let watch = discover(key, upstream, tls, around.resolver, metrics, &cluster);
    (cluster, watch)
}

/// Fills the cluster, now or when its name is resolved.
fn discover(
    key: &Key,
    upstream: Option<&config::Upstream>,
    tls: &tls::Settings,
    resolver: &Arc<Resolver>,
    metrics: &Arc<UpstreamMetrics>,
    cluster: &Arc<Cluster>,
) -> Option<Arc<WatchHandle>> {
    let now = clock::now();
    match (
        &key.destination,
        upstream.map(|upstream| &upstream.endpoints),
    ) {
        (Destination::Listed, Some(Endpoints::Static(members))) => {
            metrics.set_endpoints(members.len());
            cluster.replace(members, now);
            None
        }
        (Destination::Dialled(address), _) => {
            let port = tls.port(address.port());
            cluster.update(&[SocketAddr::new(address.ip(), port)], now);
            None
        }
        (Destination::Name(host, port), _) => {
            let watched = Arc::clone(cluster);
            let metrics = Arc::clone(metrics);
            let watch = resolver.watch(host, tls.port(*port), move |update| {
                apply(&watched, &metrics, update);
            });
            let watch = Arc::new(watch);
            cluster.fed_by(&watch);
            Some(watch)
        }
        // A key is made from the policy beside it, so a listed destination has its list.
        (Destination::Listed, _) => {
            cluster.update(&[], now);
            None
        }
    }
}

fn apply(cluster: &Cluster, metrics: &UpstreamMetrics, update: Update) {
    match update {
        Update::Endpoints(addresses) => {
            metrics.resolved();
            metrics.set_endpoints(addresses.len());
            cluster.update(&addresses, clock::now());
        }
        Update::Confirmed => metrics.resolved(),
        Update::Failed(failure) => {
            metrics.lookup_failed(failure.kept > 0);
            cluster.fail(Reason::DnsFailed);
        }
        Update::Gone => {
            metrics.set_endpoints(0);
            cluster.clear(Reason::DnsFailed);
        }
    }
}
