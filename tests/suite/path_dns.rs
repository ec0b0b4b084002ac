//! Names become endpoints by our own resolver, and a name server that fails takes nothing away.

use std::net::Ipv4Addr;
use std::net::SocketAddr;

use crate::path_forward::PLAIN;
use crate::support::call::Call;
use crate::support::dns::Dns;
use crate::support::dns::Zone;
use crate::support::load::Load;
use crate::support::origin::Act;
use crate::support::origin::Answer;
use crate::support::origin::Origin;
use crate::support::ports;
use crate::support::proxy::Proxy;
use crate::support::setup::Setup;
use crate::support::until;

const NAME: &str = "shop.test";
const FIRST: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 1);
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 2);
const THIRD: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 3);

async fn origin(addr: Ipv4Addr, port: u16) -> Origin {
    Origin::at(SocketAddr::from((addr, port)), move |_| {
        Act::Answer(Answer::ok(addr.to_string()))
    })
    .await
}

async fn start(dns: &Dns, settings: &str) -> Proxy {
    let block = format!("upstream: {NAME}\nendpoints: dns\n{settings}");
    Setup::new()
        .block(&block)
        .args(&["--dns", &dns.addr.to_string()])
        .start()
        .await
}

fn call(port: u16) -> Call {
    Call::get("/").host(&format!("{NAME}:{port}"))
}

#[tokio::test]
async fn a_name_is_resolved_and_its_addresses_share_the_load() {
    let port = ports::free();
    let (first, second) = (origin(FIRST, port).await, origin(SECOND, port).await);
    let dns = Dns::start(NAME, Zone::v4(&[FIRST, SECOND])).await;
    let proxy = start(&dns, PLAIN).await;
    until("both get calls", || async {
        proxy.call(&call(port)).await.is(200);
        (first.requests() > 0 && second.requests() > 0).then_some(())
    })
    .await;
    let page = proxy.page("/upstreams").await.text();
    for addr in [first.addr, second.addr] {
        assert!(page.contains(&addr.to_string()), "{page}");
    }
}

#[tokio::test]
async fn an_ipv6_address_will_do() {
    let port = ports::free();
    let six = Origin::at(
        SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port)),
        |_| Act::Answer(Answer::ok("six")),
    )
    .await;
    let zone = Zone::Addresses {
        v4: Vec::new(),
        v6: vec![std::net::Ipv6Addr::LOCALHOST],
        ttl: 1,
    };
    let dns = Dns::start(NAME, zone).await;
    let proxy = start(&dns, PLAIN).await;
    assert_eq!(proxy.call(&call(port)).await.is(200).text(), "six");
    assert_eq!(six.requests(), 1);
}

#[tokio::test]
async fn endpoints_come_and_go_under_load_and_nobody_notices() {
    let port = ports::free();
    let (first, second, third) = (
        origin(FIRST, port).await,
        origin(SECOND, port).await,
        origin(THIRD, port).await,
    );
    let dns = Dns::start(NAME, Zone::v4(&[FIRST])).await;
    let proxy = start(&dns, PLAIN).await;
    proxy.call(&call(port)).await.is(200);
    let load = Load::start(proxy.outbound, &call(port), 4);
    load.go_on(50).await;
    assert_eq!(second.requests() + third.requests(), 0);
    dns.set(Zone::v4(&[FIRST, SECOND, THIRD]));
    until("the new ones get calls", || async {
        (second.requests() > 0 && third.requests() > 0).then_some(())
    })
    .await;
    dns.set(Zone::v4(&[SECOND]));
    until("the old ones get no more", || async {
        let before = first.requests() + third.requests();
        load.go_on(50).await;
        (first.requests() + third.requests() == before).then_some(())
    })
    .await;
    load.stop_clean().await;
    until(
        "connections to endpoints that are gone are given up",
        || async { (first.open() + third.open() == 0).then_some(()) },
    )
    .await;
}

#[tokio::test]
async fn the_last_good_answer_is_kept() {
    let port = ports::free();
    let first = origin(FIRST, port).await;
    let dns = Dns::start(NAME, Zone::v4(&[FIRST])).await;
    let proxy = start(&dns, PLAIN).await;
    proxy.call(&call(port)).await.is(200);
    for zone in [Zone::ServerFailure, Zone::Silence, Zone::NoSuchName] {
        dns.set(zone.clone());
        let failures = proxy.sum("outrider_dns_failures_total", &[]).await;
        until("a look-up fails", || async {
            proxy.call(&call(port)).await.is(200);
            (proxy.sum("outrider_dns_failures_total", &[]).await > failures).then_some(())
        })
        .await;
        proxy.call(&call(port)).await.is(200);
        dns.set(Zone::v4(&[FIRST]));
        let queries = dns.queries();
        until("it is asked again", || async {
            (dns.queries() > queries).then_some(())
        })
        .await;
    }
    assert!(first.requests() > 3);
}

#[tokio::test]
async fn a_name_that_never_resolved_is_told_by_its_word() {
    for zone in [Zone::NoSuchName, Zone::ServerFailure] {
        let dns = Dns::start(NAME, zone).await;
        let proxy = start(&dns, PLAIN).await;
        proxy.call(&call(80)).await.is_own(503, &["dns_failed"]);
        // And it recovers by itself.
        let port = ports::free();
        let first = origin(FIRST, port).await;
        dns.set(Zone::v4(&[FIRST]));
        until("the name resolves", || async {
            let reply = proxy.call(&call(port)).await;
            (reply.status == 200).then_some(())
        })
        .await;
        drop(first);
    }
}

#[tokio::test]
async fn a_dead_address_among_live_ones_is_tried_around() {
    let port = ports::free();
    let second = origin(SECOND, port).await;
    // Nothing listens on the first address.
    let dns = Dns::start(NAME, Zone::v4(&[FIRST, SECOND])).await;
    let proxy = start(&dns, "breaker: off\nretry: { max: 1, budget: 100% }").await;
    for _ in 0..20 {
        proxy.call(&call(port)).await.is(200);
    }
    assert_eq!(second.requests(), 20);
}

#[tokio::test]
async fn an_endpoint_that_refuses_makes_the_name_be_asked_for_again_before_its_time() {
    let port = ports::free();
    let second = origin(SECOND, port).await;
    let zone = |addr| Zone::Addresses {
        v4: vec![addr],
        v6: Vec::new(),
        ttl: 300,
    };
    // Nobody listens on the first address.
    let dns = Dns::start(NAME, zone(FIRST)).await;
    let proxy = start(&dns, PLAIN).await;
    proxy
        .call(&call(port))
        .await
        .is_own(502, &["connect_refused"]);
    dns.set(zone(SECOND));
    until("the new address, long before the TTL is over", || async {
        (proxy.call(&call(port)).await.status == 200).then_some(())
    })
    .await;
    assert!(second.requests() > 0);
}
