//! Carrying connections that are not HTTP, or whose HTTP is hidden in TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;

use crate::app::upstream::Live;
use crate::app::worker::Worker;
use crate::clock;
use crate::connect;
use crate::http::Fault;
use crate::http::Reason;
use crate::listen::TunnelIo;
use crate::listen::Way;
use crate::telemetry::TunnelKind;
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
pub async fn carry(worker: &Worker, mut io: TunnelIo, way: &Way) {
    let began = clock::unix();
    let started = clock::now();
    let Some((host, port)) = named(way, io.sni.as_deref()) else {
        return;
    };
    let tunnel = worker.shared.telemetry.process.tunnel(io.kind);
    let mut upstream_name = crate::telemetry::UNMATCHED.to_owned();
    let mut endpoint = None;
    let mut bytes = (0, 0);
    let reason = match open(worker, way, io.kind, (&host, port), &mut upstream_name).await {
        Ok((mut upstream, address)) => {
            endpoint = Some(address);
            let first = io.first.len() as u64;
            let joined = join(&mut io, &mut upstream).await;
            let (out, back) = joined.unwrap_or_default();
            bytes = (out + first, back);
            None
        }
        Err(fault) => Some(fault.reason),
    };
    tunnel.bytes(bytes.0, bytes.1);
    let tree = worker.tree();
    if tree.policy.access_log {
        let place = Place::new(&tree.policy.service, &upstream_name, "");
        worker.log.line(&Line {
            host: host.as_bytes(),
            reason,
            endpoint,
            duration: clock::now().saturating_duration_since(started),
            bytes_in: bytes.0,
            bytes_out: bytes.1,
            sni: io.sni.as_deref().map(str::as_bytes),
            tunnel: Some(io.kind.word()),
            ..Line::new(Kind::Tunnel, began, &place)
        });
    }
}

async fn join(io: &mut TunnelIo, upstream: &mut TcpStream) -> std::io::Result<(u64, u64)> {
    upstream.write_all(&io.first).await?;
    copy_bidirectional(&mut io.stream, upstream).await
}

async fn open(
    worker: &Worker,
    way: &Way,
    kind: TunnelKind,
    (host, port): (&str, u16),
    name: &mut String,
) -> Result<(TcpStream, SocketAddr), Fault> {
    let live = Arc::clone(&worker.upstream(host, port, way.original)?.live);
    name.clone_from(&live.name);
    live.metrics.tunnelled(kind);
    let base = live.routes.last();
    let patience = base
        .map(|base| base.policy.deadline.clone())
        .unwrap_or_default();
    let known = tokio::time::timeout(patience.total, live.cluster.known());
    if known.await.is_err() {
        return Err(Fault::unsent(Reason::DnsFailed));
    }
    let address = choose(&live)?;
    if worker.pools.is_ourselves(address) {
        return Err(Fault::unsent(Reason::LoopDetected));
    }
    let stream = connect::tcp(address, patience.connect).await?;
    Ok((stream, address))
}

/// The endpoint with the fewest requests in flight that serves; tunnels say nothing of latency.
fn choose(live: &Live) -> Result<SocketAddr, Fault> {
    let now = clock::now();
    let set = live.cluster.set();
    let serving = set
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.resting_until(now).is_none())
        .min_by_key(|endpoint| endpoint.in_flight());
    serving
        .or_else(|| set.endpoints.first())
        .map(|endpoint| endpoint.address)
        .ok_or_else(|| Fault::unsent(set.failed.unwrap_or(Reason::NoEndpoint)))
}
