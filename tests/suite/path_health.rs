//! Active health checks: endpoints are asked how they are, with and without traffic.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use serde_json::Value;

use crate::support::call::Call;
use crate::support::call::HOST;
use crate::support::dns::Dns;
use crate::support::dns::Zone;
use crate::support::h2origin::H2Act;
use crate::support::h2origin::H2Origin;
use crate::support::origin::Act;
use crate::support::origin::Answer;
use crate::support::origin::Origin;
use crate::support::ports;
use crate::support::proxy::Proxy;
use crate::support::servers::Server;
use crate::support::setup::Setup;
use crate::support::tcp::Manner;
use crate::support::tcp::Tcp;
use crate::support::until;

const PROBES: &str = "outrider_health_probes_total";
const UNHEALTHY: &str = "outrider_endpoints_unhealthy";
/// What keeps everything else out of the way.
const ALONE: &str = "retry: off\nbreaker: off\neject: off\n";
/// The time of a probe is at most `every`: three in a row is more than a busy machine makes us wait.
const OFTEN: &str = "every: 200ms, healthy: 2, unhealthy: 3";

fn settings(health: &str) -> String {
    format!("{ALONE}health: {{ {health}, {OFTEN} }}")
}

/// An origin whose `/healthz` answers as told, and everything else 200.
async fn with_health(status: u16) -> (Origin, Arc<AtomicU16>, Arc<AtomicUsize>) {
    let (mood, probes) = (Arc::new(AtomicU16::new(status)), Arc::default());
    let (now, count) = (Arc::clone(&mood), Arc::<AtomicUsize>::clone(&probes));
    let origin = Origin::start(move |asked| {
        if asked.target != "/healthz" {
            return Act::Answer(Answer::ok("served"));
        }
        count.fetch_add(1, Ordering::SeqCst);
        Act::Answer(Answer::status(now.load(Ordering::SeqCst)))
    });
    (origin.await, mood, probes)
}

/// The calls that an origin has got: all but the probes.
fn calls(origin: &Origin) -> usize {
    let seen = origin.seen();
    seen.iter().filter(|seen| seen.target != "/healthz").count()
}

/// What `/upstreams` says about one endpoint.
async fn told(proxy: &Proxy, addr: SocketAddr) -> Value {
    let page = proxy.page("/upstreams").await.text();
    let page: Value = serde_json::from_str(&page).expect("JSON");
    let upstreams = page.as_array().expect("a list").iter();
    let mut endpoints = upstreams.flat_map(|one| one["endpoints"].as_array().expect("a list"));
    let found = endpoints.find(|endpoint| endpoint["address"] == addr.to_string());
    found.cloned().unwrap_or_default()
}

async fn until_told(proxy: &Proxy, addr: SocketAddr, state: &str) -> Value {
    until(&format!("{addr} is {state}"), || async {
        let told = told(proxy, addr).await;
        (told["health"] == state).then_some(told)
    })
    .await
}

/// Waits until an endpoint is unhealthy in these words. What a probe meets of a server that does not speak as it should
/// depends on which of the two is faster, so not every probe has the same words.
async fn until_blamed(proxy: &Proxy, addr: SocketAddr, words: &str) {
    until(&format!("{addr} is unhealthy: {words}"), || async {
        let told = told(proxy, addr).await;
        (told["health"] == "unhealthy" && told["health_error"] == words).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_that_says_it_is_ill_is_left_out_and_comes_back() {
    let ((well, _, _), (ill, mood, _)) = (with_health(200).await, with_health(503).await);
    let health = settings("get: /healthz");
    let proxy = Setup::shop(&[well.addr, ill.addr], &health).start().await;
    // Without a single call.
    let found = until_told(&proxy, ill.addr, "unhealthy").await;
    assert_eq!(found["health_error"], "answered 503");
    assert!(found["health_failed_ms_ago"].is_u64() && found["health_changed_ms_ago"].is_u64());
    until_told(&proxy, well.addr, "healthy").await;
    assert_eq!(proxy.sum(UNHEALTHY, &[("upstream", HOST)]).await, 1.0);
    for reply in proxy.at_once(40, &Call::get("/")).await {
        reply.is(200);
    }
    assert_eq!((calls(&well), calls(&ill)), (40, 0));
    mood.store(302, Ordering::SeqCst);
    until_told(&proxy, ill.addr, "healthy").await;
    proxy.until_sum(UNHEALTHY, &[], |count| count == 0.0).await;
    until("it gets calls", || async {
        proxy.at_once(6, &Call::get("/")).await;
        (calls(&ill) > 0).then_some(())
    })
    .await;
    let (lines, who) = (proxy.errors(), ill.addr.to_string());
    let about_it = || lines.iter().filter(|line| line.contains(&who));
    let about = |what: &str| about_it().filter(|line| line.contains(what)).count();
    assert_eq!(
        (about("endpoint unhealthy"), about("healthy again")),
        (1, 1)
    );
}

#[tokio::test]
async fn a_probe_says_who_it_is_and_counts_as_no_call() {
    let (well, _, probes) = with_health(200).await;
    let health = settings("get: /healthz");
    let proxy = Setup::shop(&[well.addr], &health).start().await;
    until("some probes", || async {
        (probes.load(Ordering::SeqCst) >= 3).then_some(())
    })
    .await;
    let seen = well.seen().first().cloned().expect("a probe");
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        ("GET", "/healthz")
    );
    assert_eq!(seen.head.get("host"), Some(HOST));
    assert!(
        seen.head
            .get("user-agent")
            .is_some_and(|who| who.starts_with("outrider-health/"))
    );
    assert!(well.connections() >= 3, "each on a connection of its own");
    let metrics = proxy.metrics().await;
    assert!(metrics.sum(PROBES, &[("upstream", HOST), ("result", "ok")]) >= 3.0);
    for family in [
        "outrider_requests_total",
        "outrider_tries_total",
        "outrider_pool_opened_total",
    ] {
        assert_eq!(metrics.sum(family, &[]), 0.0, "{family}");
    }
    assert_eq!(told(&proxy, well.addr).await["ewma_ms"], 0.0);
}

#[tokio::test]
async fn only_what_is_expected_passes() {
    let ((right, _, _), (wrong, _, _)) = (with_health(204).await, with_health(200).await);
    let health = settings("get: /healthz, expect: [204, 5xx]");
    let proxy = Setup::shop(&[right.addr, wrong.addr], &health)
        .start()
        .await;
    until_told(&proxy, right.addr, "healthy").await;
    let found = until_told(&proxy, wrong.addr, "unhealthy").await;
    assert_eq!(found["health_error"], "answered 200");
}

#[tokio::test]
async fn when_all_are_ill_all_are_used() {
    let ((one, _, _), (other, _, _)) = (with_health(500).await, with_health(404).await);
    let health = settings("get: /healthz");
    let proxy = Setup::shop(&[one.addr, other.addr], &health).start().await;
    proxy.until_sum(UNHEALTHY, &[], |count| count == 2.0).await;
    for reply in proxy.at_once(40, &Call::get("/")).await {
        reply.is(200);
    }
    assert!(calls(&one) > 0 && calls(&other) > 0);
}

#[tokio::test]
async fn shadow_leaves_everyone_in() {
    let ((well, _, _), (ill, _, _)) = (with_health(200).await, with_health(503).await);
    let health = settings("get: /healthz, mode: shadow");
    let proxy = Setup::shop(&[well.addr, ill.addr], &health).start().await;
    until_told(&proxy, ill.addr, "unhealthy").await;
    assert_eq!(proxy.sum(UNHEALTHY, &[]).await, 1.0);
    until("it still gets calls", || async {
        proxy.at_once(6, &Call::get("/")).await;
        (calls(&ill) > 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_ejection_is_over_ahead_of_time_where_probes_had_failed_too() {
    let (calls_get, probes_get) = (Arc::new(AtomicU16::new(500)), Arc::new(AtomicU16::new(200)));
    let (of_calls, of_probes) = (Arc::clone(&calls_get), Arc::clone(&probes_get));
    let ill = Origin::start(move |asked| {
        let mood = if asked.target == "/healthz" {
            &of_probes
        } else {
            &of_calls
        };
        Act::Answer(Answer::status(mood.load(Ordering::SeqCst)))
    })
    .await;
    let well = Origin::start(|_| Act::Drip(Answer::ok("slow"), 16)).await;
    let rooms = "retry: off\nbreaker: off\neject: { consecutive: 2, base: 300s }\n";
    let health = format!("{rooms}health: {{ get: /healthz, {OFTEN} }}");
    let proxy = Setup::shop(&[well.addr, ill.addr], &health).start().await;
    let ejected = async |count: f64| {
        until("ejected", || async {
            proxy.at_once(6, &Call::get("/")).await;
            (proxy.sum("outrider_ejections_total", &[]).await >= count).then_some(())
        })
        .await;
    };
    ejected(1.0).await;
    // Probes that pass do not see what ejected it.
    let ok = proxy.sum(PROBES, &[]).await;
    proxy.until_sum(PROBES, &[], |now| now >= ok + 8.0).await;
    let found = told(&proxy, ill.addr).await;
    assert_eq!(found["health"], "healthy");
    assert!(found["ejected_for_ms"].is_u64(), "{found}");
    probes_get.store(503, Ordering::SeqCst);
    until_told(&proxy, ill.addr, "unhealthy").await;
    probes_get.store(200, Ordering::SeqCst);
    let found = until_told(&proxy, ill.addr, "healthy").await;
    assert_eq!(found["ejected_for_ms"], Value::Null);
    // And ejection has heard of it: what fails still is ejected again.
    ejected(2.0).await;
}

#[tokio::test]
async fn the_last_that_serves_is_not_ejected_where_probes_took_the_others_out() {
    let failing = Origin::start(|asked| {
        let status = if asked.target == "/healthz" { 200 } else { 500 };
        Act::Answer(Answer::status(status))
    })
    .await;
    let (ill, _, _) = with_health(503).await;
    let rooms =
        "retry: off\nbreaker: off\neject: { consecutive: 2, base: 300s, max_share: 100% }\n";
    let health = format!("{rooms}health: {{ get: /healthz, {OFTEN} }}");
    let proxy = Setup::shop(&[failing.addr, ill.addr], &health)
        .start()
        .await;
    until_told(&proxy, ill.addr, "unhealthy").await;
    for _ in 0..10 {
        proxy.get("/").await.is(500);
    }
    assert_eq!(proxy.sum("outrider_ejections_total", &[]).await, 0.0);
    assert!(proxy.sum("outrider_ejections_kept_total", &[]).await > 0.0);
    assert_eq!(calls(&ill), 0);
}

/// HealthCheckResponse { status } in its frame.
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];
const NOT_SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 2];

#[tokio::test]
async fn grpc_servers_are_asked_by_their_own_protocol() {
    let mood = Arc::new(AtomicU8::new(1));
    let now = Arc::clone(&mood);
    let server = H2Origin::start(move |_, _| match now.load(Ordering::SeqCst) {
        1 => H2Act::grpc(SERVING, 0),
        2 => H2Act::grpc(NOT_SERVING, 0),
        status => H2Act::grpc_only(status),
    })
    .await;
    let health = settings("service: shop.v1.Orders");
    let proxy = Setup::shop(&[server.addr], &health).start().await;
    until_told(&proxy, server.addr, "healthy").await;
    let seen = server.seen().first().cloned().expect("a probe");
    assert_eq!(seen.method, "POST");
    assert!(
        seen.uri.ends_with("/grpc.health.v1.Health/Check"),
        "{}",
        seen.uri
    );
    assert_eq!(seen.headers["te"], "trailers");
    for (status, words) in [
        (2, "NOT_SERVING"),
        (
            12,
            "it has no grpc.health.v1.Health; add it to the server, or probe with `tcp`",
        ),
        (5, "it does not know the service asked for"),
    ] {
        mood.store(status, Ordering::SeqCst);
        let found = until_told(&proxy, server.addr, "unhealthy").await;
        assert_eq!(found["health_error"], words);
        mood.store(1, Ordering::SeqCst);
        until_told(&proxy, server.addr, "healthy").await;
    }
}

#[tokio::test]
async fn a_server_of_another_protocol_is_told_by_its_answer() {
    let web = Tcp::start(Manner::Banner(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())).await;
    for (probe, words) in [
        ("redis", "what it answers is not Redis"),
        ("postgres", "what it answers is not PostgreSQL"),
        ("grpc", "what it answers is not HTTP/2"),
    ] {
        let health = settings(&format!("probe: {probe}"));
        let proxy = Setup::shop(&[web.addr], &health).start().await;
        until_blamed(&proxy, web.addr, words).await;
    }
    // A banner for ever, as a tarpit has it.
    let tarpit = Tcp::start(Manner::Banner(vec![b'-'; 1 << 20])).await;
    let health = settings("get: /healthz");
    let proxy = Setup::shop(&[tarpit.addr], &health).start().await;
    until_blamed(&proxy, tarpit.addr, "what it answers is not HTTP/1.1").await;
    let health = settings("probe: redis");
    let proxy = Setup::shop(&[tarpit.addr], &health).start().await;
    until_blamed(&proxy, tarpit.addr, "what it answers is not Redis").await;
}

#[tokio::test]
async fn a_port_that_opens_is_enough_for_tcp_and_tunnels_go_past_one_that_does_not() {
    let port = ports::free();
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    let echo = Tcp::start(Manner::Echo).await;
    let health = format!("protocol: tcp\n{ALONE}health: {{ probe: tcp, {OFTEN} }}");
    let proxy = Setup::shop(&[addr, echo.addr], &health).start().await;
    let found = until_told(&proxy, addr, "unhealthy").await;
    assert_eq!(found["health_error"], "connect_refused");
    until_told(&proxy, echo.addr, "healthy").await;
    let late = Tcp::at(addr, Manner::Echo).await;
    until_told(&proxy, addr, "healthy").await;
    assert!(
        late.connections() > 0 && late.received().is_empty(),
        "nothing is said"
    );
}

#[tokio::test]
async fn a_real_redis_is_asked_to_ping() {
    let mut open = Server::redis(&[]);
    let locked = Server::redis(&["--requirepass", "secret"]);
    let nobody = ports::free().to_string();
    let lost = Server::redis(&[
        "--replicaof",
        &format!("127.0.0.1 {nobody}"),
        "--replica-serve-stale-data",
        "no",
    ]);
    let all = [open.addr, locked.addr, lost.addr];
    let health = format!("protocol: tcp\n{ALONE}health: {{ probe: redis, {OFTEN} }}");
    let proxy = Setup::shop(&all, &health).start().await;
    until_told(&proxy, open.addr, "healthy").await;
    until_told(&proxy, locked.addr, "healthy").await;
    let found = until_told(&proxy, lost.addr, "unhealthy").await;
    let words = found["health_error"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(words.starts_with("MASTERDOWN"), "{words}");
    // Stopped, it still accepts: the kernel does so for it.
    open.signal("STOP");
    until_blamed(&proxy, open.addr, "no answer in time").await;
    assert!(proxy.sum(PROBES, &[("result", "timeout")]).await >= 2.0);
    open.signal("CONT");
    until_told(&proxy, open.addr, "healthy").await;
    open.stop();
    until_blamed(&proxy, open.addr, "connect_refused").await;
    open.start();
    until_told(&proxy, open.addr, "healthy").await;
}

#[tokio::test]
async fn a_redis_that_loads_is_not_ready() {
    let loading = b"-LOADING Redis is loading the dataset in memory\r\n".to_vec();
    let fake = Tcp::start(Manner::Banner(loading)).await;
    let health = settings("probe: redis");
    let proxy = Setup::shop(&[fake.addr], &health).start().await;
    let found = until_told(&proxy, fake.addr, "unhealthy").await;
    assert_eq!(
        found["health_error"],
        "LOADING Redis is loading the dataset in memory"
    );
}

#[tokio::test]
async fn a_real_postgres_is_asked_to_begin_a_session() {
    let mut server = Server::postgres(true);
    let health = format!("protocol: tcp\n{ALONE}health: {{ probe: postgres, {OFTEN} }}");
    let proxy = Setup::shop(&[server.addr], &health).start().await;
    until("it is up, and takes no sessions", || async {
        let found = told(&proxy, server.addr).await;
        let words = found["health_error"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        (found["health"] == "unhealthy" && words.starts_with("57P03")).then_some(())
    })
    .await;
    server.stop();
    until("it is away", || async {
        let found = told(&proxy, server.addr).await;
        (found["health_error"] == "connect_refused").then_some(())
    })
    .await;
    std::fs::remove_file(server.data().join("standby.signal")).expect("it was there");
    server.start();
    // It asks for a password that the probe does not have, and that is enough.
    until_told(&proxy, server.addr, "healthy").await;
    let asked = proxy.sum(PROBES, &[("result", "ok")]).await;
    proxy
        .until_sum(PROBES, &[("result", "ok")], |ok| ok >= asked + 3.0)
        .await;
    let log = server.log();
    let complaint = |line: &&str| {
        let own = ["not accepting", "starting up", "shutting down"];
        line.contains("FATAL") && !own.iter().any(|words| line.contains(words))
    };
    assert_eq!(
        log.lines().find(complaint),
        None,
        "probes leave no trace in its log"
    );
}

#[tokio::test]
async fn a_postgres_without_room_for_sessions_is_not_ready() {
    let fields = b"SFATAL\0VFATAL\0C53300\0Msorry, too many clients already\0\0";
    let length = u32::try_from(fields.len() + 4)
        .expect("short")
        .to_be_bytes();
    let message = [b"E", &length[..], fields].concat();
    let fake = Tcp::start(Manner::Banner(message)).await;
    let health = settings("probe: postgres");
    let proxy = Setup::shop(&[fake.addr], &health).start().await;
    let found = until_told(&proxy, fake.addr, "unhealthy").await;
    assert_eq!(
        found["health_error"],
        "53300 sorry, too many clients already"
    );
    let sent = fake.received();
    assert!(
        sent.windows(8)
            .any(|part| part == [0, 3, 0, 0, b'u', b's', b'e', b'r'])
    );
}

#[tokio::test]
async fn a_reload_keeps_what_was_found_and_off_forgets_it() {
    let ((well, _, _), (ill, _, probes)) = (with_health(200).await, with_health(503).await);
    let policy = |health: &str| Setup::shop(&[well.addr, ill.addr], &format!("{ALONE}{health}"));
    let first = policy(&format!("health: {{ get: /healthz, {OFTEN} }}"));
    let text = first.text();
    let proxy = first.start().await;
    until_told(&proxy, ill.addr, "unhealthy").await;

    let same = text.replace("retry: off", "retry: { max: 1 }");
    proxy.reload(&same).await;
    assert_eq!(told(&proxy, ill.addr).await["health"], "unhealthy");
    // The same question less often: the answer is still known.
    let seldom = text.replace("every: 200ms", "every: 1h");
    proxy.reload(&seldom).await;
    assert_eq!(told(&proxy, ill.addr).await["health"], "unhealthy");
    assert_eq!(proxy.sum(UNHEALTHY, &[]).await, 1.0);
    let before = calls(&ill);
    for reply in proxy.at_once(20, &Call::get("/")).await {
        reply.is(200);
    }
    assert_eq!(calls(&ill), before, "it stays out");

    let off = text.replace(
        &format!("health: {{ get: /healthz, {OFTEN} }}"),
        "health: off",
    );
    proxy.reload(&off).await;
    assert_eq!(told(&proxy, ill.addr).await["health"], Value::Null);
    assert_eq!(proxy.sum(UNHEALTHY, &[]).await, 0.0);
    until("it gets calls", || async {
        proxy.at_once(6, &Call::get("/")).await;
        (calls(&ill) > before).then_some(())
    })
    .await;
    let asked = probes.load(Ordering::SeqCst);
    proxy.at_once(20, &Call::get("/")).await;
    assert_eq!(probes.load(Ordering::SeqCst), asked, "nobody asks any more");
}

#[tokio::test]
async fn names_are_probed_as_they_resolve_and_no_longer() {
    let port = ports::free();
    let at = |last: u8| SocketAddr::from(([127, 9, 1, last], port));
    let well = |addr| Origin::at(addr, |_| Act::Answer(Answer::ok("well")));
    let first = well(at(1)).await;
    let dns = Dns::start("shop.test", Zone::v4(&[[127, 9, 1, 1].into()])).await;
    let block = format!(
        "upstream: shop.test:{port}\nendpoints: dns\n{}",
        settings("get: /ready")
    );
    let dns_at = dns.addr.to_string();
    let setup = Setup::new().block(&block).args(&["--dns", &dns_at]);
    let proxy = setup.start().await;
    // Without a call: the name has a port, so it is known what to probe.
    until_told(&proxy, first.addr, "healthy").await;
    let host = format!("shop.test:{port}");
    let seen = first.seen();
    assert!(
        seen.iter()
            .all(|seen| seen.head.get("host") == Some(host.as_str()))
    );
    dns.set(Zone::v4(&[[127, 9, 1, 2].into()]));
    // Nobody listens there.
    until_told(&proxy, at(2), "unhealthy").await;
    let asked = first.requests();
    let second = well(at(2)).await;
    until_told(&proxy, second.addr, "healthy").await;
    assert!(first.requests() <= asked + 1, "who has left is left alone");
    proxy.until_sum(UNHEALTHY, &[], |count| count == 0.0).await;
}

#[tokio::test]
async fn what_no_policy_names_is_not_probed() {
    let origin = Origin::always(Answer::ok("hello")).await;
    let health = format!("defaults: {{ health: {{ get: /healthz, {OFTEN} }} }}");
    let (listed, _, probes) = with_health(200).await;
    let setup = Setup::new()
        .top(&health)
        .upstream(HOST, &[listed.addr], ALONE);
    let proxy = setup.start().await;
    let elsewhere = Call::get("/").host(&format!("127.0.0.1:{}", origin.addr.port()));
    proxy.call(&elsewhere).await.is(200);
    until("the listed one is probed", || async {
        (probes.load(Ordering::SeqCst) >= 5).then_some(())
    })
    .await;
    assert_eq!(origin.requests(), 1, "the call and nothing else");
}

#[tokio::test]
async fn a_probe_that_hangs_holds_up_neither_calls_nor_the_end() {
    let silent = Origin::start(|asked| {
        if asked.target == "/healthz" {
            Act::Hold(crate::support::origin::Gate::new(), Box::new(Act::Echo))
        } else {
            Act::Answer(Answer::ok("served"))
        }
    })
    .await;
    let health = format!("{ALONE}health: {{ get: /healthz, every: 1h, timeout: 1m }}");
    let mut proxy = Setup::shop(&[silent.addr], &health).start().await;
    until("a probe is under way", || async {
        (silent.requests() > 0).then_some(())
    })
    .await;
    proxy.get("/").await.is(200);
    assert_eq!(told(&proxy, silent.addr).await["health"], "unknown");
    proxy.signal("TERM");
    assert!(proxy.ended().await.success());
}
