mod orders;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use serde_json::Value;
use serde_json::json;

use super::*;
use crate::audit;
use crate::balance;
use crate::connect::tls;
use crate::endpoint::health;
use crate::identity;
use crate::kit::walk;
use crate::policy::authorise;
use crate::policy::breaker;
use crate::policy::bulkhead;
use crate::policy::cache;
use crate::policy::correlation;
use crate::policy::credential;
use crate::policy::deadline;
use crate::policy::eject;
use crate::policy::fault;
use crate::policy::hedge;
use crate::policy::idempotency;
use crate::policy::limit;
use crate::policy::overload;
use crate::policy::retry;
use crate::redact::always as mask;
use crate::shared;
use crate::telemetry::BuildInfo;

const BUILD: BuildInfo = BuildInfo {
    version: "1.2.3",
    commit: "abc",
};

/// An admin side on a free loopback port.
struct Admin {
    state: Arc<AdminState>,
    telemetry: Arc<Telemetry>,
    address: SocketAddr,
    handle: AdminHandle,
    broken: Arc<AtomicBool>,
}

struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

fn admin() -> Admin {
    let telemetry = Telemetry::new(BUILD, 1);
    let broken = Arc::new(AtomicBool::new(false));
    let config =
        json!({ "upstreams": [{ "upstream": "pay", "credential": { "from": "file:/k" } }] });
    let upstreams = Arc::clone(&broken);
    let state = AdminState::new(
        Arc::clone(&telemetry),
        Sources {
            config: Box::new(move || config.clone()),
            upstreams: Box::new(move || {
                assert!(!upstreams.load(Relaxed), "a bug in somebody's page");
                json!([{ "name": "pay", "breaker": "closed" }])
            }),
            faults: Box::new(|| json!([{ "upstream": "pay", "state": "running" }])),
            cache: Box::new(|| json!({ "entries": 7 })),
            inbound: Box::new(|| json!({ "mode": "strict" })),
            token: Box::new(|| None),
            shared: Box::new(|| json!({ "state": "off" })),
            obey: Box::new(|order, _| match order {
                Order::Breaker { upstream, .. } if upstream == "nobody" => Err(Declined::new(
                    http::StatusCode::NOT_FOUND,
                    "no such upstream",
                )),
                order => Ok(json!({ "obeyed": format!("{order:?}") })),
            }),
        },
    );
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let handle = start(vec![listener], Arc::clone(&state)).unwrap();
    Admin {
        state,
        telemetry,
        address,
        handle,
        broken,
    }
}

impl Admin {
    fn send(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        // The far side may refuse to read on; what it answered still counts.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn ask(&self, method: &str, path: &str) -> Reply {
        reply(
            &self.send(
                format!("{method} {path} HTTP/1.1\r\nhost: any\r\nconnection: close\r\n\r\n")
                    .as_bytes(),
            ),
        )
    }

    fn get(&self, path: &str) -> Reply {
        self.ask("GET", path)
    }
}

fn reply(text: &str) -> Reply {
    let (head, body) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("no head: {text:?}"));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .expect("a status");
    Reply {
        status,
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

#[test]
fn live_is_200_from_the_beginning() {
    let admin = admin();
    assert_eq!(admin.get("/live").status, 200);
    admin.state.set_draining();
    assert_eq!(admin.get("/live").status, 200);
}

#[test]
fn ready_follows_the_process() {
    let admin = admin();
    let told = || {
        let reply = admin.get("/ready");
        (reply.status, reply.json())
    };
    assert_eq!(
        told(),
        (503, json!({ "ready": false, "reason": "starting" }))
    );
    admin.state.set_ready();
    assert_eq!(told(), (200, json!({ "ready": true })));
    admin.state.set_draining();
    assert_eq!(
        told(),
        (503, json!({ "ready": false, "reason": "draining" }))
    );
    // A start that finishes late does not undo the drain.
    admin.state.set_ready();
    assert_eq!(told().0, 503);
}

#[test]
fn metrics_are_openmetrics() {
    let admin = admin();
    admin.telemetry.route("pay", "*").ended(1);
    let reply = admin.get("/metrics");
    assert_eq!(reply.status, 200);
    let expected = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(reply.header("content-type"), Some(expected));
    assert!(reply.body.ends_with("# EOF\n"));
    assert!(
        reply
            .body
            .contains("outrider_tries_total{upstream=\"pay\",route=\"*\"} 1\n")
    );
}

#[test]
fn config_is_shown_without_its_secrets() {
    let config = admin().get("/config").json();
    assert_eq!(
        config,
        json!({ "upstreams": [{ "upstream": "pay", "credential": { "from": "***" } }] })
    );
}

#[test]
fn upstreams_are_shown() {
    assert_eq!(
        admin().get("/upstreams").json(),
        json!([{ "name": "pay", "breaker": "closed" }])
    );
}

#[test]
fn the_index_names_every_page() {
    let admin = admin();
    let index = admin.get("/");
    assert_eq!(
        index.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    for page in [
        "/live",
        "/ready",
        "/metrics",
        "/config",
        "/upstreams",
        "/faults",
        "/faults/stop",
        "/cache",
    ] {
        assert!(index.body.contains(page), "{page}");
        let mut with_query = admin.get(&format!("{page}?x=1"));
        with_query.status = with_query.status.min(503);
        assert_ne!(with_query.status, 404, "{page}");
    }
}

#[test]
fn head_answers_as_get_without_the_body() {
    let admin = admin();
    let (get, head) = (admin.get("/config"), admin.ask("HEAD", "/config"));
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(head.header("content-length"), get.header("content-length"));
    assert_eq!(head.header("content-type"), get.header("content-type"));
}

#[test]
fn other_methods_are_refused_with_what_is_allowed() {
    let admin = admin();
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let reply = admin.ask(method, "/config");
        assert_eq!(
            (reply.status, reply.header("allow")),
            (405, Some("GET, HEAD")),
            "{method}"
        );
        assert_eq!(
            reply.header("content-type"),
            Some("application/problem+json")
        );
        assert_eq!(reply.json()["status"], 405);
    }
}

#[test]
fn an_unknown_page_tells_the_known_ones() {
    let admin = admin();
    for path in ["/nope", "/live/", "//live", "/metrics/x", "/%6cive", "*"] {
        let reply = admin.get(path);
        if path == "*" && reply.status == 400 {
            continue; // the parser may refuse asterisk-form with GET
        }
        assert_eq!(reply.status, 404, "{path}");
        let problem = reply.json();
        assert_eq!(problem["status"], 404);
        assert!(
            problem["pages"]
                .as_array()
                .unwrap()
                .contains(&json!("/metrics")),
            "{problem}"
        );
    }
}

#[test]
fn a_page_that_panics_is_a_500_and_the_rest_goes_on() {
    let admin = admin();
    admin.broken.store(true, Relaxed);
    let reply = admin.get("/upstreams");
    assert_eq!(reply.status, 500);
    assert_eq!(
        reply.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(admin.get("/live").status, 200);
    assert!(
        admin
            .get("/metrics")
            .body
            .contains("outrider_panics_total 1\n")
    );
    admin.broken.store(false, Relaxed);
    assert_eq!(admin.get("/upstreams").status, 200);
}

#[test]
fn one_connection_carries_several_requests() {
    let text = admin().send(b"GET /live HTTP/1.1\r\nhost: a\r\n\r\nGET /live HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 2, "{text}");
}

#[test]
fn garbage_harms_nobody_else() {
    let admin = admin();
    walk::seeds(|draws| {
        // A tenth of the walk's seeds: each one is a connection.
        if !draws.chance(0.1) {
            return;
        }
        let mut bytes: Vec<u8> = (0..draws.below(64)).map(|_| draws.bits() as u8).collect();
        // An end, so that the server need not wait for one.
        bytes.extend_from_slice(b"\r\n\r\n\r\n");
        let mut stream = TcpStream::connect(admin.address).unwrap();
        let _ = stream.write_all(&bytes);
    });
    assert_eq!(admin.get("/live").status, 200);
}

#[test]
fn a_head_without_end_is_refused() {
    let admin = admin();
    let mut request = b"GET /live HTTP/1.1\r\nhost: a\r\nx: ".to_vec();
    request.extend(std::iter::repeat_n(b'x', 64 * 1024));
    let text = admin.send(&request);
    assert!(
        text.is_empty() || text.starts_with("HTTP/1.1 431"),
        "{text}"
    );
    assert_eq!(admin.get("/live").status, 200);
}

#[test]
fn more_connections_than_places_wait_their_turn() {
    let admin = admin();
    let crowd: Vec<TcpStream> = (0..80)
        .map(|_| TcpStream::connect(admin.address).unwrap())
        .collect();
    let mut late = TcpStream::connect(admin.address).unwrap();
    late.write_all(b"GET /live HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .unwrap();
    drop(crowd);
    let mut answer = String::new();
    late.read_to_string(&mut answer).unwrap();
    assert_eq!(reply(&answer).status, 200);
}

#[test]
fn stop_closes_the_door_and_ends_the_thread() {
    let admin = admin();
    // A connection at rest must not hold up the stop.
    let resting = TcpStream::connect(admin.address).unwrap();
    assert_eq!(admin.get("/live").status, 200);
    let address = admin.address;
    admin.handle.stop();
    assert!(TcpStream::connect(address).is_err());
    drop(resting);
}

#[test]
fn secrets_are_masked_wherever_they_stand() {
    let mut value = json!({
        "redis": { "nodes": ["redis://user:p/a?s#s@10.0.0.1", "redis://h/x", "plain@mail"], "password": "p" },
        "upstreams": [{
            "idempotency": { "header": "Idempotency-Key" },
            "credential": { "header": "Authorization", "from": ["a", 1, true, null] },
            "keys": 1,
        }],
        "apiKey": "k",
        "API_TOKEN": { "deep": { "er": "t" } },
        "upstreams[0].credential.from": "f",
        "keyboard": "shown",
        "tokens_left": 3,
        "off": { "password": null },
    });
    mask(&mut value);
    assert_eq!(
        value,
        json!({
            "redis": { "nodes": ["redis://***@10.0.0.1", "redis://h/x", "plain@mail"], "password": "***" },
            "upstreams": [{
                "idempotency": { "header": "Idempotency-Key" },
                "credential": { "header": "***", "from": ["***", "***", "***", null] },
                "keys": 1,
            }],
            "apiKey": "***",
            "API_TOKEN": { "deep": { "er": "***" } },
            "upstreams[0].credential.from": "***",
            "keyboard": "shown",
            "tokens_left": 3,
            "off": { "password": null },
        })
    );
}

#[test]
fn any_text_can_be_masked() {
    walk::seeds(|draws| {
        let pool = ['a', 'B', ':', '/', '@', '?', 'é', '漢', '_', '\u{0}'];
        let mut text = || {
            (0..draws.below(20))
                .map(|_| draws.pick(&pool))
                .collect::<String>()
        };
        let (key, inner) = (text(), text());
        let mut value = json!({ key: [inner, "a://b:c@d"] });
        mask(&mut value);
        assert!(!value.to_string().contains("b:c@"), "{value}");
    });
}

/// Every family that the program can register, as after loading a policy with all rooms in it.
fn all_families() -> BTreeMap<&'static str, Vec<&'static str>> {
    let telemetry = Telemetry::new(BUILD, 1);
    let _ = telemetry.route("pay", "*");
    let _ = telemetry.upstream("pay");
    let _ = audit::Metrics::new(&telemetry);
    let _ = correlation::metrics::Metrics::new(&telemetry);
    let _ = deadline::metrics::Metrics::new(&telemetry, "pay", "*");
    let _ = cache::metrics::Metrics::new(&telemetry, "pay", "*");
    let _ = cache::metrics::StoreMetrics::new(&telemetry);
    let _ = credential::metrics::Metrics::new(&telemetry, "pay", "*", "env:KEY", None);
    let _ = credential::metrics::SourceMetrics::new(&telemetry, "env:KEY");
    let _ = idempotency::metrics::Metrics::new(&telemetry, "pay", "*");
    let _ = hedge::metrics::Metrics::new(&telemetry, "pay", "*");
    let _ = retry::metrics::Metrics::new(&telemetry, "pay", "*");
    let _ = breaker::metrics::Metrics::new(&telemetry, "pay", "*");
    let _ = overload::metrics::Metrics::new(&telemetry, 1);
    shared::metrics::register(&telemetry);
    let _ = bulkhead::metrics::Metrics::new(&telemetry, "pay", "*");
    let _ = balance::metrics::Metrics::new(&telemetry, "pay");
    let _ = eject::metrics::Metrics::new(&telemetry, "pay");
    let _ = fault::metrics::Metrics::new(&telemetry, "pay", "*");
    let _ = health::metrics::Metrics::new(&telemetry, "pay");
    let _ = limit::metrics::Metrics::new(&telemetry, "pay", "*");
    let _ = limit::metrics::keys(&telemetry, "pay", "*");
    let _ = identity::metrics::Metrics::new(&telemetry);
    let _ = tls::Metrics::new(&telemetry, "pay", false);
    let _ = authorise::metrics::Metrics::new(&telemetry, 1);
    let _ = telemetry.inbound("8080", "mtls");
    let _ = telemetry.handshakes();
    let _ = limit::metrics::Asks::new(&telemetry, "pay", "*");
    let _ = shared::roll::Metrics::new(&telemetry);
    telemetry.families().into_iter().collect()
}

#[test]
fn the_page_of_metrics_names_what_there_is() {
    let page = include_str!("../../docs/metrics.md");
    let rows = page.lines().filter(|line| line.starts_with("| `outrider_"));
    let told: BTreeMap<&str, Vec<&str>> = rows
        .map(|row| {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            // The labels of an info are its content, not known to the registry.
            let labels = if cells[2] == "info" { "" } else { cells[3] };
            let labels = labels
                .split(", ")
                .map(|label| label.trim_matches('`'))
                .filter(|label| !label.is_empty());
            (cells[1].trim_matches('`'), labels.collect())
        })
        .collect();
    let there = all_families();
    let missing: Vec<_> = there
        .keys()
        .filter(|name| !told.contains_key(*name))
        .collect();
    assert!(missing.is_empty(), "docs/metrics.md lacks {missing:?}");
    let stale: Vec<_> = told
        .keys()
        .filter(|name| !there.contains_key(*name))
        .collect();
    assert!(
        stale.is_empty(),
        "docs/metrics.md has {stale:?}, which nobody registers"
    );
    for (name, labels) in there {
        assert_eq!(told[name], labels, "labels of {name}");
    }
}

#[test]
fn a_breaker_tells_its_changes() {
    use breaker::machine::Cause;
    use breaker::machine::State;
    use breaker::machine::Transition;
    let telemetry = Telemetry::new(BUILD, 1);
    let metrics = breaker::metrics::Metrics::new(&telemetry, "pay", "*");
    let state = |wanted: u8| {
        telemetry.encode().contains(&format!(
            "outrider_breaker_state{{upstream=\"pay\",route=\"*\"}} {wanted}\n"
        ))
    };
    let step = |from, to, cause| Transition {
        from,
        to,
        cause,
        failures: 10,
        calls: 20,
        open_for: None,
    };
    assert!(state(0));
    metrics.observe(&step(State::Closed, State::Open, Cause::FailureRate));
    assert!(state(2));
    metrics.observe(&step(State::Open, State::HalfOpen, Cause::OpenElapsed));
    assert!(state(1));
    metrics.observe(&step(State::HalfOpen, State::Closed, Cause::ProbesPassed));
    assert!(state(0));
    metrics.refused();
    metrics.would_refuse();
    let text = telemetry.encode();
    let labels = r#"upstream="pay",route="*""#;
    for line in [
        format!(
            r#"outrider_breaker_transitions_total{{{labels},from="closed",to="open",cause="failure_rate"}} 1"#
        ),
        format!(
            r#"outrider_breaker_transitions_total{{{labels},from="open",to="half_open",cause="open_elapsed"}} 1"#
        ),
        format!(
            r#"outrider_breaker_transitions_total{{{labels},from="half_open",to="closed",cause="probes_passed"}} 1"#
        ),
        format!(
            r#"outrider_breaker_transitions_total{{{labels},from="half_open",to="open",cause="probe_failed"}} 0"#
        ),
        format!("outrider_breaker_refusals_total{{{labels}}} 1"),
        format!("outrider_breaker_shadow_refusals_total{{{labels}}} 1"),
    ] {
        assert!(text.contains(&line), "{line} in {text}");
    }
}
