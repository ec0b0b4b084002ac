//! SIGTERM: nothing new, everything begun is finished, and the exit is 0.

use crate::path_forward::PLAIN;
use crate::support::STEP;
use crate::support::call::Call;
use crate::support::client::Raw;
use crate::support::h2client::H2;
use crate::support::h2origin::H2Act;
use crate::support::h2origin::H2Origin;
use crate::support::load::Load;
use crate::support::origin::Act;
use crate::support::origin::Answer;
use crate::support::origin::Gate;
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::setup::Setup;
use crate::support::tcp::Manner;
use crate::support::tcp::Tcp;
use crate::support::until;

async fn refuses_new(proxy: &Proxy) {
    until("new connections are refused", || async {
        match Raw::try_connect(proxy.outbound).await {
            Err(_) => Some(()),
            Ok(mut raw) => {
                raw.offer(&Call::get("/new").bytes()).await;
                // A port that is still open but served by nobody would keep clients waiting.
                let reply = tokio::time::timeout(10 * STEP, raw.try_reply("GET"))
                    .await
                    .ok()?;
                let reply = reply.ok().flatten()?;
                (reply.reason() == Some("draining")).then_some(())
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_in_flight_is_finished() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |asked| match asked.target {
        "/held" => Act::Hold(held.clone(), Box::new(Act::Answer(Answer::ok("finished")))),
        _ => Act::Answer(Answer::ok("x")),
    })
    .await;
    let mut proxy = Setup::shop(&[origin.addr], &format!("{PLAIN}\ntimeout: 60s"))
        .args(&["--drain", "20s"])
        .start()
        .await;
    let mut resting = proxy.connect().await;
    resting.call(&Call::get("/")).await.is(200);
    let mut busy = proxy.connect().await;
    busy.send(&Call::get("/held").bytes()).await;
    until("the origin has it", || async {
        (origin.requests() == 2).then_some(())
    })
    .await;
    proxy.signal("TERM");
    refuses_new(&proxy).await;
    assert!(
        resting.end().await.1.is_empty(),
        "a connection at rest is closed"
    );
    gate.open();
    let reply = busy.reply("GET").await;
    assert_eq!(reply.is(200).text(), "finished");
    let status = proxy.ended().await;
    assert_eq!(status.code(), Some(0), "{status}");
    let paths: Vec<_> = proxy
        .log()
        .iter()
        .map(|line| line["path"].clone())
        .collect();
    assert!(
        paths.contains(&"/held".into()),
        "the access log is flushed: {paths:?}"
    );
}

#[tokio::test]
async fn http2_streams_are_finished_too() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = H2Origin::start(move |_, _| {
        H2Act::Hold(held.clone(), Box::new(H2Act::grpc(b"\0\0\0\0\x01a", 0)))
    })
    .await;
    let mut proxy = Setup::shop(&[origin.addr], &format!("{PLAIN}\ntimeout: 60s"))
        .args(&["--drain", "20s"])
        .start()
        .await;
    let client = H2::connect(proxy.outbound).await;
    let call = client.call(crate::support::h2client::grpc("/a.B/C", b"\0\0\0\0\0"));
    let drain = async {
        until("the origin has it", || async {
            (origin.requests() == 1).then_some(())
        })
        .await;
        proxy.signal("TERM");
        refuses_new(&proxy).await;
        gate.open();
    };
    let (reply, ()) = tokio::join!(call, drain);
    assert_eq!((reply.status, reply.grpc_status()), (200, Some("0")));
    assert_eq!(proxy.ended().await.code(), Some(0));
}

#[tokio::test]
async fn what_never_ends_is_cut_at_the_bound() {
    let origin = Origin::start(|_| Act::Silence).await;
    let server = Tcp::start(Manner::Echo).await;
    let mut proxy = Setup::shop(&[origin.addr], &format!("{PLAIN}\ntimeout: 60s"))
        .args(&["--drain", "200ms"])
        .start()
        .await;
    let mut raw = proxy.connect().await;
    raw.send(&Call::get("/never").bytes()).await;
    until("the origin has it", || async {
        (origin.requests() == 1).then_some(())
    })
    .await;
    let mut tunnel = Raw::connect(proxy.explicit).await;
    tunnel
        .send(format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", server.addr).as_bytes())
        .await;
    assert_eq!(tunnel.head("CONNECT").await.0, 200);
    tunnel.send(b"\0opaque").await;
    tunnel.expect(b"\0opaque").await;
    proxy.signal("TERM");
    let status = proxy.ended().await;
    assert_eq!(status.code(), Some(0), "{status}");
    let _ = tunnel.end().await;
    let _ = raw.end().await;
}

#[tokio::test]
async fn an_idle_proxy_ends_at_once() {
    let mut proxy = Setup::new().start().await;
    proxy.signal("TERM");
    assert_eq!(proxy.ended().await.code(), Some(0));
    let mut proxy = Setup::new().start().await;
    proxy.signal("INT");
    assert_eq!(proxy.ended().await.code(), Some(0));
}

#[tokio::test]
async fn no_answered_request_is_cut_under_load() {
    let origin = Origin::always(Answer::ok("x")).await;
    let mut proxy = Setup::shop(&[origin.addr], &format!("{PLAIN}\ntimeout: 60s"))
        .args(&["--drain", "20s"])
        .start()
        .await;
    let load = Load::start(proxy.outbound, &Call::get("/"), 4);
    load.go_on(50).await;
    proxy.signal("TERM");
    assert_eq!(proxy.ended().await.code(), Some(0));
    let (done, failed) = load.stop().await;
    // Once the port is shut a client meets a closed connection or a refused one, never half a response.
    let cut: Vec<_> = failed
        .iter()
        .filter(|text| {
            !["connect", "closed without", "connection:", "draining"]
                .iter()
                .any(|fine| text.contains(fine))
        })
        .collect();
    assert!(cut.is_empty(), "of {done}: {cut:?}");
    assert!(
        origin
            .seen()
            .iter()
            .all(|seen| seen.whole && seen.fault.is_none())
    );
}
