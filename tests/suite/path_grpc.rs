//! gRPC: trailers, statuses that stand for failures, and errors of our own in its form.

use bytes::Bytes;
use http::HeaderMap;

use crate::path_forward::PLAIN;
use crate::support::call::Call;
use crate::support::h2client;
use crate::support::h2client::H2;
use crate::support::h2origin::H2Act;
use crate::support::h2origin::H2Origin;
use crate::support::names;
use crate::support::origin::Answer;
use crate::support::origin::Origin;
use crate::support::ports;
use crate::support::setup::Setup;

const MESSAGE: &[u8] = b"\0\0\0\0\x03abc";
const RETRY: &str =
    "retry: { max: 2, when: [connect, refused, \"grpc:unavailable\"] }\nbreaker: off";

#[tokio::test]
async fn trailers_pass() {
    let origin = H2Origin::start(|_, _| H2Act::grpc(MESSAGE, 0)).await;
    let proxy = Setup::shop(&[origin.addr], PLAIN).start().await;
    let client = H2::connect(proxy.outbound).await;
    let reply = client.call(h2client::grpc("/shop.Cart/Get", MESSAGE)).await;
    assert_eq!(
        (reply.status, reply.grpc_status(), &reply.body[..]),
        (200, Some("0"), MESSAGE)
    );
    assert!(
        reply.trailers.contains_key("grpc-status"),
        "in the trailers, where it was"
    );
    let seen = &origin.seen()[0];
    assert_eq!(
        seen.headers.get("te").map(http::HeaderValue::as_bytes),
        Some(&b"trailers"[..])
    );
    assert_eq!(seen.uri, "http://shop.test/shop.Cart/Get");
    let mut trailers = HeaderMap::new();
    trailers.insert("x-check", http::HeaderValue::from_static("1"));
    let body = h2client::with_trailers(vec![Bytes::from_static(MESSAGE)], trailers);
    let request = h2client::request("POST", "/a.B/C").header("content-type", "application/grpc");
    assert_eq!(
        client
            .call(request.body(body).expect("a good request"))
            .await
            .grpc_status(),
        Some("0")
    );
}

#[tokio::test]
async fn unavailable_is_retried_wherever_its_status_stands() {
    for first in [H2Act::grpc(b"", 14), H2Act::grpc_only(14)] {
        let origin = H2Origin::start(move |n, _| {
            if n == 0 {
                first.clone()
            } else {
                H2Act::grpc(MESSAGE, 0)
            }
        })
        .await;
        let proxy = Setup::shop(&[origin.addr], RETRY).start().await;
        let client = H2::connect(proxy.outbound).await;
        let reply = client.call(h2client::grpc("/a.B/C", MESSAGE)).await;
        assert_eq!(
            (reply.grpc_status(), &reply.body[..], origin.requests()),
            (Some("0"), MESSAGE, 2)
        );
    }
}

#[tokio::test]
async fn a_status_behind_a_message_is_not_retried() {
    let origin = H2Origin::start(|_, _| H2Act::grpc(MESSAGE, 14)).await;
    let proxy = Setup::shop(&[origin.addr], RETRY).start().await;
    let client = H2::connect(proxy.outbound).await;
    let reply = client.call(h2client::grpc("/a.B/C", MESSAGE)).await;
    assert_eq!(
        (reply.grpc_status(), &reply.body[..], origin.requests()),
        (Some("14"), MESSAGE, 1)
    );
}

#[tokio::test]
async fn a_status_that_the_policy_does_not_name_is_not_retried() {
    let origin = H2Origin::start(|_, _| H2Act::grpc(b"", 5)).await;
    let proxy = Setup::shop(&[origin.addr], RETRY).start().await;
    let client = H2::connect(proxy.outbound).await;
    assert_eq!(
        client
            .call(h2client::grpc("/a.B/C", MESSAGE))
            .await
            .grpc_status(),
        Some("5")
    );
    assert_eq!(origin.requests(), 1);
}

#[tokio::test]
async fn our_own_errors_take_its_form() {
    let proxy = Setup::shop(&[ports::closed()], PLAIN).start().await;
    let client = H2::connect(proxy.outbound).await;
    let reply = client.call(h2client::grpc("/a.B/C", MESSAGE)).await;
    assert_eq!(
        (reply.status, reply.grpc_status(), reply.reason()),
        (200, Some("14"), Some("connect_refused"))
    );
    assert!(reply.get(names::REQUEST_ID).is_some() && reply.body.is_empty());
    assert_eq!(reply.get("content-type"), Some("application/grpc"));
    // The same over HTTP/1.1, as gRPC gateways and health checkers send it.
    let call = Call::post("/a.B/C", MESSAGE).field("Content-Type", "application/grpc");
    let reply = proxy.call(&call).await;
    assert_eq!(
        (reply.status, reply.get("grpc-status"), reply.reason()),
        (200, Some("14"), Some("connect_refused"))
    );
    let line = proxy.logged_path("/a.B/C").await;
    assert_eq!(line[names::log::REASON], "connect_refused");
}

#[tokio::test]
async fn failing_statuses_open_the_breaker() {
    let origin = H2Origin::start(|_, _| H2Act::grpc(b"", 14)).await;
    let settings = "retry: off\neject: off\nbreaker: { failures: 50%, min_calls: 5, open: 30s }";
    let proxy = Setup::shop(&[origin.addr], settings).start().await;
    let client = H2::connect(proxy.outbound).await;
    for _ in 0..5 {
        assert_eq!(
            client
                .call(h2client::grpc("/a.B/C", MESSAGE))
                .await
                .grpc_status(),
            Some("14")
        );
    }
    proxy
        .until_sum("outrider_breaker_state", &[], |state| {
            state == names::state::OPEN
        })
        .await;
    let reply = client.call(h2client::grpc("/a.B/C", MESSAGE)).await;
    assert_eq!(
        (reply.grpc_status(), reply.reason()),
        (Some("14"), Some("breaker_open"))
    );
    assert_eq!(origin.requests(), 5);
}

#[tokio::test]
async fn an_upstream_that_speaks_only_http1_is_told_apart_from_one_that_is_down() {
    let origin = Origin::always(Answer::status(400)).await;
    let proxy = Setup::shop(&[origin.addr], PLAIN).start().await;
    let client = H2::connect(proxy.outbound).await;
    let reply = client.get("/").await;
    assert_eq!(
        (reply.status, reply.reason()),
        (502, Some("protocol_error"))
    );
}
