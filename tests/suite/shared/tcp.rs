//! A Redis that the application uses itself: captured, declared or through CONNECT, its bytes pass as they are and are counted.

use std::net::SocketAddr;

use futures_util::StreamExt;
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;

use crate::support::captured;
use crate::support::captured::V4;
use crate::support::client::End;
use crate::support::client::Raw;
use crate::support::names::log;
use crate::support::proxy::Proxy;
use crate::support::redis as server;
use crate::support::servers::Server;
use crate::support::setup::Setup;
use crate::support::until;

const TEST: &str = "shared::tcp::the_applications_own_redis_works_through_us";

#[tokio::test]
async fn the_applications_own_redis_works_through_us() {
    if captured::entered(TEST) {
        inside().await;
    }
}

/// A Redis on the address that is captured.
async fn redis() -> Server {
    let mut redis = Server::redis(&["--bind", "10.77.0.2", "--protected-mode", "no"]);
    redis.addr = captured::addr(V4, redis.addr.port());
    // Nothing is redirected yet.
    server::ready(redis.addr).await;
    redis
}

async fn inside() {
    let (mut undeclared, declared) = (redis().await, redis().await);
    let setup = Setup::new().block(&format!(
        "upstream: \"{}\"\nendpoints: original\nprotocol: tcp\nhealth: off",
        declared.addr
    ));
    captured::redirect_to(setup.outbound);
    let (proxy, _binary) = captured::start(setup).await;

    for redis in [&undeclared, &declared] {
        orders_are_answered(redis.addr).await;
        messages_are_pushed(redis.addr).await;
    }
    counted(&proxy, &declared).await;
    through_connect(&proxy, &declared).await;

    let mut open = server::open(undeclared.addr).await.expect("it is there");
    undeclared.kill();
    let gone: redis::RedisResult<String> = open.get("key").await;
    assert!(gone.is_err(), "the application is told that it is gone");
    let mut raw = Raw::connect(undeclared.addr).await;
    raw.offer(b"PING\r\n").await;
    assert!(raw.end().await.1.is_empty(), "nobody answers in its place");
    undeclared.start();
    until("it is back", || async {
        let mut open = server::open(undeclared.addr).await.ok()?;
        open.set::<_, _, ()>("key", "again").await.ok()
    })
    .await;
}

async fn orders_are_answered(addr: SocketAddr) {
    let mut open: MultiplexedConnection = server::open(addr).await.expect("it is there");
    let () = open.set("key", "value").await.expect("it is set");
    let value: String = open.get("key").await.expect("it is there");
    assert_eq!(value, "value");
    let mut many = redis::pipe();
    for number in 0..100 {
        many.cmd("INCRBY").arg("sum").arg(number);
    }
    let sums: Vec<i64> = many.query_async(&mut open).await.expect("all in one trip");
    assert_eq!(sums.last(), Some(&4950));
    let large = vec![7_u8; 1 << 20];
    let () = open.set("large", &large).await.expect("it fits");
    let back: Vec<u8> = open.get("large").await.expect("it is there");
    assert!(back == large, "a MiB comes back as it went");
    let () = open.del(&["key", "sum", "large"]).await.expect("cleared");
}

/// The server speaks by itself, and a client waits for it.
async fn messages_are_pushed(addr: SocketAddr) {
    let client = redis::Client::open((addr.ip().to_string(), addr.port())).expect("an address");
    let mut listener = client.get_async_pubsub().await.expect("it is there");
    listener.subscribe("news").await.expect("it listens");
    let mut open = server::open(addr).await.expect("it is there");
    let heard: i64 = open.publish("news", "hello").await.expect("it is sent");
    assert_eq!(heard, 1);
    let message = listener.on_message().next().await.expect("it comes");
    assert_eq!(message.get_payload::<String>().expect("text"), "hello");
}

async fn counted(proxy: &Proxy, declared: &Server) {
    let kind = |kind| [("kind", kind)];
    let opaque = proxy.sum("outrider_tunnels_total", &kind("opaque")).await;
    let first = proxy
        .sum("outrider_tunnels_total", &kind("server_first"))
        .await;
    assert!(
        opaque + first >= 6.0,
        "three connections to each: {opaque} + {first}"
    );
    let name = declared.addr.to_string();
    let of_it = proxy
        .sum("outrider_upstream_tunnels_total", &[("upstream", &name)])
        .await;
    assert!(of_it >= 3.0, "{of_it}");
    for direction in ["in", "out"] {
        let bytes = proxy
            .until_sum(
                "outrider_tunnel_bytes_total",
                &[("direction", direction)],
                |bytes| bytes > 2.0 * f64::from(1 << 20),
            )
            .await;
        assert!(bytes > 0.0);
    }
    proxy
        .logged("the tunnel's line", |line| {
            line[log::UPSTREAM] == name.as_str() && line[log::BYTES_OUT].as_u64() > Some(1 << 20)
        })
        .await;
}

async fn through_connect(proxy: &Proxy, declared: &Server) {
    let name = declared.addr;
    let mut raw = Raw::connect(proxy.explicit).await;
    raw.send(format!("CONNECT {name} HTTP/1.1\r\nHost: {name}\r\n\r\n").as_bytes())
        .await;
    assert_eq!(raw.head("CONNECT").await.0, 200);
    raw.send(b"PING\r\n").await;
    raw.expect(b"+PONG\r\n").await;
    raw.send(b"QUIT\r\n").await;
    raw.expect(b"+OK\r\n").await;
    assert_eq!(raw.end().await.0, End::Closed);
}
