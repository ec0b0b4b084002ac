//! What can be seen from outside: metrics, the access log, identities, the admin pages.

use serde_json::Value;

use crate::path_forward::PLAIN;
use crate::support::call::Call;
use crate::support::call::HOST;
use crate::support::names;
use crate::support::names::label;
use crate::support::names::log;
use crate::support::origin::Act;
use crate::support::origin::Answer;
use crate::support::origin::Origin;
use crate::support::ports;
use crate::support::proxy::Proxy;
use crate::support::setup::Setup;
use crate::support::until;

/// Traffic in which everything happens that has a family: retries, an open breaker, an ejection.
async fn eventful() -> (Vec<Origin>, Proxy) {
    let flaky = Origin::start(|asked| {
        Act::Answer(Answer::status(if asked.n % 2 == 0 { 503 } else { 200 }))
    })
    .await;
    let failing = Origin::always(Answer::status(500)).await;
    // Slow, so that the balance does not keep calls away from the one that fails.
    let good = Origin::start(|_| Act::Drip(Answer::ok("x"), 16)).await;
    let proxy = Setup::shop(&[flaky.addr], "breaker: off\nretry: { max: 1 }")
        .upstream(
            "failing.test",
            &[failing.addr],
            "retry: off\nbreaker: { failures: 50%, min_calls: 3, open: 30s }",
        )
        .upstream(
            "pair.test",
            &[good.addr, failing.addr],
            "retry: off\nbreaker: off\neject: { consecutive: 2, base: 30s }",
        )
        .start()
        .await;
    proxy.get("/retried").await.is(200);
    for _ in 0..3 {
        proxy
            .call(&Call::get("/").host("failing.test"))
            .await
            .is(500);
    }
    proxy
        .call(&Call::get("/").host("failing.test"))
        .await
        .is_own(503, &["breaker_open"]);
    until("an ejection", || async {
        proxy.at_once(6, &Call::get("/").host("pair.test")).await;
        (proxy.sum("outrider_ejections_total", &[]).await >= 1.0).then_some(())
    })
    .await;
    (vec![flaky, failing, good], proxy)
}

#[tokio::test]
async fn every_family_is_there_in_openmetrics() {
    let (_origins, proxy) = eventful().await;
    let page = proxy.page("/metrics").await;
    let media = page.get("content-type").unwrap_or_default();
    assert!(media.starts_with("application/openmetrics-text"), "{media}");
    assert!(page.text().ends_with("# EOF\n"));
    let metrics = proxy.metrics().await;
    let families = metrics.families();
    for name in names::FAMILIES {
        let family = name.trim_end_matches("_total").trim_end_matches("_info");
        assert!(
            families.contains(&family) || families.contains(name),
            "{name} among {families:?}"
        );
        let sample = |sample: &crate::support::metrics::Sample| {
            sample.name == *name
                || sample.name == format!("{name}_count")
                || sample.name == format!("{name}_total")
        };
        assert!(metrics.samples.iter().any(sample), "a sample of {name}");
    }
    for name in [
        "outrider_build_info",
        "outrider_pool_connections",
        "outrider_endpoints",
        "outrider_retry_budget_left",
    ] {
        assert!(
            metrics.samples.iter().any(|sample| sample.name == name),
            "a sample of {name}"
        );
    }
    for family in &families {
        assert_eq!(
            families.iter().filter(|other| *other == family).count(),
            1,
            "{family} is declared once"
        );
    }
}

#[tokio::test]
async fn requests_are_told_apart_by_closed_lists_of_words() {
    let origin = Origin::start(|asked| {
        Act::Answer(Answer::status(asked.target[1..4].parse().unwrap_or(200)))
    })
    .await;
    let proxy = Setup::shop(
        &[origin.addr],
        &format!("{PLAIN}\nroutes:\n  - match: GET /404/*\n    timeout: 4s"),
    )
    .start()
    .await;
    for call in [
        Call::get("/200"),
        Call::get("/404/a"),
        Call::post("/200", "x"),
        Call::new("PUT", "/503").body("x"),
    ] {
        proxy.call(&call).await;
    }
    let metrics = proxy.metrics().await;
    let count = |route, method, status| {
        let labels = [
            (label::UPSTREAM, HOST),
            (label::ROUTE, route),
            (label::METHOD, method),
            (label::STATUS, status),
            (label::REASON, ""),
        ];
        metrics.sum("outrider_requests_total", &labels)
    };
    assert_eq!(count("*", "safe", "2xx"), 1.0);
    assert_eq!(count("GET /404/*", "safe", "4xx"), 1.0);
    assert_eq!(count("*", "unsafe", "2xx"), 1.0);
    assert_eq!(count("*", "idempotent", "5xx"), 1.0);
    assert_eq!(
        metrics.sum(
            "outrider_request_duration_seconds_count",
            &[(label::UPSTREAM, HOST)]
        ),
        4.0
    );
    assert_eq!(
        metrics.sum(
            "outrider_request_duration_seconds_bucket",
            &[("le", "+Inf")]
        ),
        4.0
    );
}

#[tokio::test]
async fn the_wire_makes_no_series() {
    let origin = Origin::always(Answer::ok("x")).await;
    let proxy = Setup::shop(&[origin.addr], PLAIN).start().await;
    let closed = ports::closed();
    let some = |n: usize| async move {
        let call =
            Call::new(&format!("METHOD{n}"), &format!("/path/{n}")).field("X-N", &n.to_string());
        (call.clone(), call.host(&format!("host{n}.invalid")))
    };
    let one = some(0).await;
    proxy.call(&one.0).await;
    proxy.call(&one.1.clone().host(&closed.to_string())).await;
    let before = proxy.metrics().await.samples.len();
    for n in 1..50 {
        proxy.call(&some(n).await.0).await.is(200);
        let other = some(n).await.1;
        proxy
            .call(&other.host(&format!("127.0.0.{}:{}", n + 1, closed.port())))
            .await;
    }
    let after = proxy.metrics().await.samples.len();
    assert!(after <= before + 5, "{before} series became {after}");
}

#[tokio::test]
async fn a_line_tells_the_request() {
    let origin = Origin::always(Answer::ok("12345")).await;
    let proxy = Setup::shop(
        &[origin.addr],
        &format!("{PLAIN}\nroutes:\n  - match: POST /a/**\n    timeout: 4s"),
    )
    .start()
    .await;
    let reply = proxy
        .call(&Call::post("/a/b%20c?token=secret", "123").field("Authorization", "Bearer secret"))
        .await;
    let line = proxy.logged_path("/a/b%20c").await;
    let text = |key: &str| line[key].as_str().map(str::to_owned);
    assert_eq!(text(log::METHOD).as_deref(), Some("POST"));
    assert_eq!(text(log::UPSTREAM).as_deref(), Some(HOST));
    assert_eq!(text(log::ROUTE).as_deref(), Some("POST /a/**"));
    assert_eq!(text(log::HOST).as_deref(), Some(HOST));
    assert_eq!(text(log::ENDPOINT), Some(origin.addr.to_string()));
    assert_eq!(
        text(log::REQUEST_ID).as_deref(),
        reply.get(names::REQUEST_ID)
    );
    assert_eq!(text("client").as_deref(), Some("test"));
    assert_eq!(line[log::STATUS], 200);
    assert_eq!(line[log::TRIES], 1);
    assert_eq!(
        (line[log::BYTES_IN].as_u64(), line[log::BYTES_OUT].as_u64()),
        (Some(3), Some(5))
    );
    assert!(
        line[log::DURATION].as_f64().is_some_and(|ms| ms >= 0.0),
        "{line}"
    );
    assert!(
        text(log::TIME).is_some_and(|time| time.ends_with('Z') && time.contains('T')),
        "{line}"
    );
    assert!(
        line.get(log::REASON).is_none_or(Value::is_null),
        "the upstream answered: {line}"
    );
    assert!(
        !line.to_string().contains("secret"),
        "queries and fields are not logged: {line}"
    );
}

#[tokio::test]
async fn lines_stay_lines_whatever_the_request_holds() {
    let origin = Origin::always(Answer::ok("x")).await;
    let proxy = Setup::shop(&[origin.addr], PLAIN).start().await;
    for path in [
        "/%0a{\"forged\":true}",
        "/\"quoted\"",
        "/back\\slash",
        "/long",
    ] {
        let path = if path == "/long" {
            format!("/{}", "l".repeat(5000))
        } else {
            path.to_owned()
        };
        proxy
            .call(&Call::get(&path).field("User-Agent", "\u{1f}"))
            .await;
        proxy.call(&Call::get(&path)).await;
    }
    // Each line is one JSON object, which `log` asserts, and none was made by a client.
    until("the lines are written", || async {
        (proxy.log().len() >= 5).then_some(())
    })
    .await;
    assert!(
        proxy
            .log()
            .iter()
            .all(|line| line.get("forged").is_none() && line.to_string().len() < 8192)
    );
}

fn is_uuid_v7(id: &str) -> bool {
    let parts: Vec<&str> = id.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    lengths == [8, 4, 4, 4, 12]
        && id
            .bytes()
            .all(|b| b == b'-' || b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        && parts[2].starts_with('7')
        && parts[3].starts_with(['8', '9', 'a', 'b'])
}

#[tokio::test]
async fn a_request_has_one_id_everywhere() {
    let origin = Origin::always(Answer::ok("x")).await;
    let proxy = Setup::shop(&[origin.addr], PLAIN).start().await;
    let reply = proxy.get("/begun").await;
    let id = reply.is(200).head.all(names::REQUEST_ID);
    assert!(id.len() == 1 && is_uuid_v7(id[0]), "{id:?}");
    let seen = origin.seen();
    assert_eq!(seen[0].head.all(names::REQUEST_ID), id);
    assert!(seen[0].head.has(names::CORRELATION_ID));
    assert_eq!(proxy.logged_path("/begun").await[log::REQUEST_ID], id[0]);

    let call = Call::get("/kept")
        .field("X-Request-ID", "order-42")
        .field("X-Correlation-ID", "basket-7");
    let reply = proxy.call(&call).await;
    assert_eq!(reply.head.all(names::REQUEST_ID), ["order-42"]);
    let head = &origin.seen()[1].head;
    assert_eq!(
        (head.all(names::REQUEST_ID), head.all(names::CORRELATION_ID)),
        (vec!["order-42"], vec!["basket-7"])
    );
    assert_eq!(
        proxy.logged_path("/kept").await[log::REQUEST_ID],
        "order-42"
    );

    // What is no identifier is replaced: it would end in logs and headers of others.
    for odd in ["", "a b", &"z".repeat(1000)] {
        let reply = proxy
            .call(&Call::get("/odd").field("X-Request-ID", odd))
            .await;
        assert!(
            reply.get(names::REQUEST_ID).is_some_and(is_uuid_v7),
            "{odd:?}"
        );
    }
    let unique: std::collections::BTreeSet<_> = origin
        .seen()
        .iter()
        .map(|seen| seen.head.get(names::REQUEST_ID).map(str::to_owned))
        .collect();
    assert_eq!(unique.len(), 5);
}

fn traceparent(origin: &Origin) -> Vec<String> {
    let seen = origin.seen();
    let all = seen
        .last()
        .expect("a request")
        .head
        .all("traceparent")
        .join(",");
    let parts: Vec<String> = all.split('-').map(str::to_owned).collect();
    let lengths: Vec<usize> = parts.iter().map(String::len).collect();
    assert_eq!(lengths, [2, 32, 16, 2], "{all}");
    parts
}

#[tokio::test]
async fn a_trace_goes_on_or_begins() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let origin = Origin::always(Answer::ok("x")).await;
    let proxy = Setup::shop(&[origin.addr], PLAIN).start().await;
    let sent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let call = Call::get("/w3c")
        .field("traceparent", &sent)
        .field("tracestate", "a=1,b=2")
        .field("baggage", "user=7");
    proxy.call(&call).await.is(200);
    let parts = traceparent(&origin);
    assert_eq!(
        (parts[0].as_str(), parts[1].as_str(), parts[3].as_str()),
        ("00", TRACE, "01")
    );
    let head = &origin.seen()[0].head;
    assert_eq!(
        (head.get("tracestate"), head.get("baggage")),
        (Some("a=1,b=2"), Some("user=7"))
    );
    assert_eq!(proxy.logged_path("/w3c").await[log::TRACE_ID], TRACE);

    proxy.get("/begun").await.is(200);
    let begun = traceparent(&origin);
    assert!(begun[1] != TRACE && begun[1] != "0".repeat(32) && begun[2] != "0".repeat(16));
    assert_eq!(proxy.logged_path("/begun").await[log::TRACE_ID], begun[1]);

    for (name, value) in [
        ("b3", format!("{TRACE}-00f067aa0ba902b7-1")),
        ("b3", "a3ce929d0e0e4736-00f067aa0ba902b7-1".to_owned()),
    ] {
        proxy
            .call(&Call::get("/b3").field(name, &value))
            .await
            .is(200);
        let parts = traceparent(&origin);
        assert!(
            parts[1].ends_with("a3ce929d0e0e4736") && parts[3] == "01",
            "{value} became {parts:?}"
        );
    }
    let several = Call::get("/b3s")
        .field("X-B3-TraceId", TRACE)
        .field("X-B3-SpanId", "00f067aa0ba902b7")
        .field("X-B3-Sampled", "1");
    proxy.call(&several).await.is(200);
    assert_eq!(traceparent(&origin)[1], TRACE);
    for odd in [
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "ff-x",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
    ] {
        proxy
            .call(&Call::get("/odd").field("traceparent", odd))
            .await
            .is(200);
        assert_ne!(traceparent(&origin)[1].to_lowercase(), TRACE, "{odd}");
    }
}

#[tokio::test]
async fn each_try_is_a_span_of_its_own() {
    let origin = Origin::sequence(vec![
        Act::Answer(Answer::status(503)),
        Act::Answer(Answer::ok("x")),
    ])
    .await;
    let proxy = Setup::shop(&[origin.addr], "retry: { max: 1 }")
        .start()
        .await;
    proxy.get("/").await.is(200);
    let parents: Vec<_> = origin
        .seen()
        .iter()
        .map(|seen| seen.head.get("traceparent").map(str::to_owned))
        .collect();
    let parts = |at: usize| parents[at].clone().unwrap_or_default();
    assert_eq!(parts(0)[..35], parts(1)[..35], "one trace");
    assert_ne!(parts(0)[36..52], parts(1)[36..52], "two spans");
}

#[tokio::test]
async fn the_admin_side_tells_its_state() {
    let origin = Origin::always(Answer::ok("x")).await;
    let proxy = Setup::shop(&[origin.addr], "timeout: 1234ms").start().await;
    proxy.get("/").await.is(200);
    for path in ["/live", "/ready"] {
        assert_eq!(proxy.page(path).await.status, 200, "{path}");
    }
    let config = proxy.page("/config").await;
    let value: Value = serde_json::from_slice(&config.body.content).expect("/config is JSON");
    let text = value.to_string();
    assert!(
        text.contains(HOST) && text.contains("1234ms") || text.contains("1.234s"),
        "{text}"
    );
    let page = proxy.page("/upstreams").await;
    let value: Value = serde_json::from_slice(&page.body.content).expect("/upstreams is JSON");
    let text = value.to_string();
    assert!(
        text.contains(HOST) && text.contains(&origin.addr.to_string()),
        "{text}"
    );
    assert_eq!(proxy.page("/nothing").await.status, 404);
    // Nothing can be changed from outside.
    let post = Call::post("/config", "x")
        .host("localhost")
        .to(proxy.admin)
        .await;
    assert_eq!(post.status, 405);
}

#[tokio::test]
async fn the_log_and_other_parts_can_be_switched_off() {
    let origin = Origin::always(Answer::ok("x")).await;
    let setup = Setup::shop(&[origin.addr], PLAIN).top("telemetry: { log: off }");
    let proxy = setup.start().await;
    for _ in 0..5 {
        proxy.get("/").await.is(200);
    }
    proxy.signal("TERM");
    let mut proxy = proxy;
    assert_eq!(proxy.ended().await.code(), Some(0));
    assert!(proxy.log().is_empty(), "{:?}", proxy.log());
}
