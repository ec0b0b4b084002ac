//! Carrying connections that are not HTTP, or whose HTTP is hidden in TLS.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::io::copy_bidirectional;

use crate::app::upstream::Live;
use crate::app::worker::Worker;
use crate::clock;
use crate::connect;
use crate::connect::tls::Inside;
use crate::connect::tls::Wire;
use crate::endpoint::Endpoint;
use crate::endpoint::Lease;
use crate::http::Fault;
use crate::http::Reason;
use crate::listen::TunnelIo;
use crate::listen::Way;
use crate::redact;
use crate::rng;
use crate::telemetry::Metered;
use crate::telemetry::TunnelKind;
use crate::telemetry::UNMATCHED;
use crate::telemetry::access_log::Kind;
use crate::telemetry::access_log::Line;
use crate::telemetry::access_log::Place;

/// Host and port that the way of a connection names.
fn named(way: &Way, sni: Option<&str>) -> Option<(String, u16)> {
    if let Some(authority) = &way.connect {
        let host = authority
            .host()
            .trim_matches(['[', ']'])
            .to_ascii_lowercase();
        return Some((host, way.default_port()));
    }
    let original = way.original?;
    let host = sni.map_or_else(|| original.ip().to_string(), str::to_owned);
    Some((host, original.port()))
}

/// Whether policy declares what comes this way as not HTTP.
pub fn is_opaque(worker: &Worker, way: &Way) -> bool {
    named(way, None).is_some_and(|(host, port)| worker.tree().is_opaque(&host, port))
}

/// Joins the client with the upstream until either side ends, and tells of it.
pub async fn carry(worker: &Worker, io: TunnelIo, way: &Way) {
    let began = clock::unix();
    let started = clock::now();
    let Some((host, port)) = named(way, io.sni.as_deref()) else {
        return;
    };
    let tunnel = worker.shared.telemetry.process.tunnel(io.kind);
    let mut client = Metered::new(io.stream, tunnel);
    let mut upstream_name = UNMATCHED.to_owned();
    let mut endpoint = None;
    let opened = open(worker, way, io.kind, (&host, port), &mut upstream_name).await;
    let reason = match opened {
        Ok((mut upstream, lease)) => {
            endpoint = Some(lease.address());
            // Either side going away ends the tunnel; there is nobody left to tell.
            let _ = join(&mut client, &io.first, &mut upstream).await;
            None
        }
        Err(fault) => Some(fault.reason),
    };
    let tree = worker.tree();
    if tree.policy.access_log {
        let (bytes_in, bytes_out) = client.bytes();
        let place = Place::new(&tree.policy.service, &upstream_name, "");
        worker.log.line(&Line {
            host: redact::text(host.as_bytes()),
            reason,
            endpoint,
            duration: clock::now().saturating_duration_since(started),
            bytes_in,
            bytes_out,
            sni: io.sni.as_deref().map(|sni| redact::text(sni.as_bytes())),
            tunnel: Some(io.kind.word()),
            ..Line::new(Kind::Tunnel, began, &place)
        });
    }
}

async fn join<S>(client: &mut Metered<S>, first: &[u8], upstream: &mut Wire) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    upstream.write_all(first).await?;
    client.sent_ahead(first.len() as u64);
    copy_bidirectional(client, upstream).await?;
    Ok(())
}

async fn open(
    worker: &Worker,
    way: &Way,
    kind: TunnelKind,
    (host, port): (&str, u16),
    name: &mut String,
) -> Result<(Wire, Lease), Fault> {
    let live = Arc::clone(&worker.upstream(host, port, way.original)?.live);
    name.clone_from(&live.name);
    live.metrics.tunnelled(kind);
    let base = live.routes.last();
    let patience = base
        .map(|base| base.policy.deadline.clone())
        .unwrap_or_default();
    let opening = tokio::time::timeout(patience.total, async {
        live.cluster.known().await;
        connect_any(worker, &live, patience.connect).await
    });
    opening
        .await
        .unwrap_or_else(|_late| Err(Fault::unsent(Reason::ConnectTimeout)))
}

/// A connection to the first endpoint that takes one. Nothing was sent to those that did not, so asking the next is safe
/// whatever the bytes mean.
async fn connect_any(
    worker: &Worker,
    live: &Live,
    within: Duration,
) -> Result<(Wire, Lease), Fault> {
    let mut last = Fault::unsent(live.cluster.set().failed.unwrap_or(Reason::NoEndpoint));
    for endpoint in in_order(live) {
        if worker.pools.is_ourselves(endpoint.address) {
            return Err(Fault::unsent(Reason::LoopDetected));
        }
        // Held as long as the tunnel, so that the next one goes elsewhere.
        let mut lease = endpoint.lease(clock::now());
        lease.unmeasured();
        let connected = dial(&endpoint, within).await;
        if let Some(ejector) = &live.ejector {
            ejector.record(endpoint.id, connected.is_ok(), clock::now());
        }
        match connected {
            Ok(stream) => return Ok((stream, lease)),
            Err(fault) => {
                live.metrics.connect_failed(fault.reason);
                live.cluster.suspect();
                last = fault;
            }
        }
    }
    Err(last)
}

/// What `mtls` protects is protected whatever the bytes mean, those of the application's own TLS too. `originate` is for an
/// application that speaks plain HTTP: what is tunnelled is none.
async fn dial(endpoint: &Endpoint, within: Duration) -> Result<Wire, Fault> {
    let dialer = endpoint.dialer.as_ref();
    match dialer.filter(|dialer| !dialer.is_web()) {
        None => connect::tcp(endpoint.address, within)
            .await
            .map(Wire::Plain),
        Some(dialer) => Box::pin(dialer.open(endpoint.address, within, Inside::Opaque))
            .await
            .map(|(wire, _)| wire),
    }
}

/// The endpoints: those that serve first, of these our own zone's, of these the least busy for their weight; equals in an
/// order drawn anew.
fn in_order(live: &Live) -> Vec<Arc<Endpoint>> {
    let now = clock::now();
    let set = live.cluster.set();
    let mut all: Vec<_> = set.endpoints.iter().zip(&set.members).collect();
    all.sort_by_cached_key(|(endpoint, member)| {
        let is_far = !live.balancer.is_near(member.zone.as_ref());
        // In hundredths, the finest that weights up to 100 can tell apart.
        let load = u64::from(endpoint.in_flight()) * 100 / u64::from(member.weight.max(1));
        (!endpoint.serves(now), is_far, load, rng::bits())
    });
    all.into_iter().map(|(one, _)| Arc::clone(one)).collect()
}
