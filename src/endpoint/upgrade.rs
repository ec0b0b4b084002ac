//! Protocol upgrades (RFC 9110 section 7.8), WebSocket above all.
//!
//! An upgrade takes its connection away for good, so it gets a fresh one that never enters the pool. After 101 the two
//! sides are joined byte for byte.

use std::rc::Rc;

use http::HeaderMap;
use http::Request;
use http::Response;
use http::StatusCode;
use http::header;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use crate::clock;
use crate::connect::tls::Inside;
use crate::endpoint::exchange;
use crate::endpoint::idle::Silence;
use crate::endpoint::pool::Patience;
use crate::endpoint::pool::Pool;
use crate::http::Call;
use crate::http::Outcome;
use crate::http::ResponseBody;
use crate::telemetry::Metered;
use crate::telemetry::Tunnel;
use crate::telemetry::TunnelKind;

/// Whether the checked request asks for an upgrade; `strict` removes the field where it may not.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE)
}

pub(super) async fn send(pool: Rc<Pool>, call: Call, patience: Patience) -> Outcome {
    let Call {
        mut head,
        body,
        trail,
    } = call;
    let client = head.extensions.remove::<OnUpgrade>();
    let slot = pool.slot();
    let (stream, secured) = pool
        .connect(patience.connect, Inside::Http1, &trail)
        .await?;
    if let Some(secured) = &secured {
        trail.secured(secured.how, secured.peer.as_ref());
    }
    let (mut sender, connection) = exchange::builder()
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| exchange::fault_of(&error, &trail))?;
    tokio::task::spawn_local(async move {
        // Its error reaches whoever waits for the response or reads the body.
        let _ = connection.with_upgrades().await;
        drop(slot);
    });
    let mut response = sender
        .send_request(Request::from_parts(*head, body))
        .await
        .map_err(|error| exchange::fault_of(&error, &trail))?;
    trail.stamp(clock::now());
    let upstream = hyper::upgrade::on(&mut response);
    let (mut head, incoming) = response.into_parts();
    exchange::receive(&mut head)?;
    if head.status == StatusCode::SWITCHING_PROTOCOLS
        && let Some(client) = client
    {
        let tunnel = pool.telemetry.process.tunnel(TunnelKind::Upgrade);
        tokio::task::spawn_local(join(client, upstream, tunnel));
        return Ok(Response::from_parts(head, ResponseBody::empty()));
    }
    let body = ResponseBody::driven(super::h2::Plain::new(
        incoming,
        Silence::new(patience.idle),
        sender,
    ));
    Ok(Response::from_parts(head, body))
}

async fn join(client: OnUpgrade, upstream: OnUpgrade, tunnel: Tunnel) {
    if let (Ok(client), Ok(upstream)) = (client.await, upstream.await) {
        let mut client = Metered::new(TokioIo::new(client), tunnel);
        let mut upstream = TokioIo::new(upstream);
        // Either side going away ends the tunnel; there is nobody left to tell.
        let _ = copy_bidirectional(&mut client, &mut upstream).await;
    }
}
