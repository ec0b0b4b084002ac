//! What hops tell each other: the time that is left, who is retrying, and that a retry is of no use.

use std::net::SocketAddr;

use crate::support::call::Call;
use crate::support::call::Reply;
use crate::support::h2client;
use crate::support::h2client::H2;
use crate::support::h2origin::H2Act;
use crate::support::h2origin::H2Origin;
use crate::support::names::log;
use crate::support::names::state;
use crate::support::origin::Act;
use crate::support::origin::After;
use crate::support::origin::Answer;
use crate::support::origin::Gate;
use crate::support::origin::Origin;
use crate::support::origin::Seen;
use crate::support::ports;
use crate::support::proxy::Proxy;
use crate::support::setup::Setup;
use crate::support::until;

const DEADLINE: &str = "x-request-deadline";
const ATTEMPT: &str = "retry-attempt";
const NO_RETRY: &str = "outrider-no-retry";
const PUSHBACK: &str = "grpc-retry-pushback-ms";
const SKIPPED: &str = "outrider_retries_skipped_total";

fn answer(status: u16) -> Act {
    Act::Answer(Answer::status(status).text("scripted"))
}

/// Retries at once, with nothing beside it that could end them.
fn shop(addr: SocketAddr, retry: &str) -> Setup {
    let backoff = "backoff: { base: 1ms, max: 1ms, jitter: none }";
    Setup::shop(
        &[addr],
        &format!("breaker: off\neject: off\nretry: {{ {retry}, {backoff} }}"),
    )
}

fn millis(seen: &Seen) -> u64 {
    let text = seen.head.get(DEADLINE).expect("the time left goes out");
    let digits = text.strip_suffix("ms").expect("in milliseconds");
    digits.parse().expect("as a number")
}

fn attempts(origin: &Origin) -> Vec<Option<String>> {
    let seen = origin.seen();
    let attempt = |seen: &Seen| seen.head.get(ATTEMPT).map(str::to_owned);
    seen.iter().map(attempt).collect()
}

fn forbids(reply: &Reply, status: u16) -> Option<&str> {
    assert_eq!(reply.status, status, "{}", reply.text());
    reply.get(NO_RETRY)
}

#[tokio::test]
async fn every_try_says_how_long_it_is_waited_for() {
    let origin = Origin::sequence(vec![answer(503), answer(503), answer(200)]).await;
    let proxy = shop(origin.addr, "max: 2").start().await;
    proxy
        .call(&Call::get("/").field(DEADLINE, "4s"))
        .await
        .is(200);
    let seen = origin.seen();
    let left: Vec<u64> = seen.iter().map(millis).collect();
    assert!(
        left.is_sorted_by(|a, b| a > b) && left[0] <= 4000 && left[2] > 0,
        "each try has less: {left:?}"
    );
    assert!(seen.iter().all(|seen| seen.head.all(DEADLINE).len() == 1));
    // Who sends none gets ours all the same, for the next hop; a `try` of its own is what the next hop has.
    let proxy = Setup::shop(&[origin.addr], "timeout: { total: 9s, try: 700ms }")
        .start()
        .await;
    proxy.get("/").await.is(200);
    let last = millis(origin.seen().last().expect("it came"));
    assert!((1..=700).contains(&last), "{last}");
}

#[tokio::test]
async fn grpc_keeps_its_own_field_and_none_is_made_up() {
    let origin = H2Origin::start(|_, _| H2Act::grpc(b"", 0)).await;
    let proxy = Setup::shop(&[origin.addr], "timeout: 2s").start().await;
    let client = H2::connect(proxy.outbound).await;
    // A stream may go on for days after its head came: a bound that the client never set would cut it.
    client.call(h2client::grpc("/a.B/Watch", b"")).await;
    let mut request = h2client::grpc("/a.B/Get", b"");
    let value = http::HeaderValue::from_static("30S");
    request.headers_mut().insert("grpc-timeout", value);
    client.call(request).await;
    let get = |at: usize, name: &str| {
        let seen = &origin.seen()[at];
        let value = seen.headers.get(name).map(|value| value.to_str().unwrap());
        value.map(str::to_owned)
    };
    assert_eq!(get(0, "grpc-timeout"), None);
    assert!(get(0, DEADLINE).is_some());
    let left = get(1, "grpc-timeout").expect("the client's own goes on");
    let left: u64 = left.strip_suffix('u').expect("in us").parse().unwrap();
    assert!((1..=30_000_000).contains(&left), "{left}");
    let left = get(1, DEADLINE).expect("ours beside it");
    let left: u64 = left.strip_suffix("ms").expect("in ms").parse().unwrap();
    assert!((1..=2000).contains(&left), "{left}");
}

#[tokio::test]
async fn an_impatient_caller_ends_its_call_and_blames_nobody() {
    let origin = Origin::start(|_| Act::Silence).await;
    let judges = "breaker: { consecutive: 2 }\neject: { consecutive: 2 }\nretry: off";
    let settings = format!("timeout: 600ms\n{judges}");
    let proxy = Setup::shop(&[origin.addr], &settings).start().await;
    let opened = || async { proxy.sum("outrider_breaker_state", &[]).await };
    for n in 0..6 {
        let hurry = Call::get(&format!("/{n}")).field(DEADLINE, "60ms");
        let reply = proxy.call(&hurry).await;
        assert_eq!(
            forbids(reply.is_own(504, &["deadline"]), 504),
            Some("deadline")
        );
    }
    assert_eq!(proxy.sum("outrider_tries_total", &[]).await, 6.0);
    assert_eq!(opened().await, state::CLOSED);
    let shortened = proxy.sum("outrider_deadline_shortened_total", &[]).await;
    assert_eq!(shortened, 6.0);
    // The policy's own patience is another matter, and so is a caller who waits nearly as long.
    proxy.get("/own").await.is_own(504, &["deadline"]);
    proxy
        .call(&Call::get("/nearly").field(DEADLINE, "550ms"))
        .await
        .is_own(504, &["deadline"]);
    assert_eq!(opened().await, state::OPEN);
}

#[tokio::test]
async fn a_grpc_server_that_was_hurried_is_not_blamed_either() {
    for act in [H2Act::grpc(b"", 4), H2Act::grpc_only(4)] {
        let origin = H2Origin::start(move |_, _| act.clone()).await;
        let settings = "timeout: 24h\nretry: off\nbreaker: { consecutive: 2 }";
        let proxy = Setup::shop(&[origin.addr], settings).start().await;
        let client = H2::connect(proxy.outbound).await;
        let call = |timeout: Option<&'static str>| {
            let mut request = h2client::grpc("/a.B/C", b"");
            if let Some(text) = timeout {
                let value = http::HeaderValue::from_static(text);
                request.headers_mut().insert("grpc-timeout", value);
            }
            client.call(request)
        };
        for _ in 0..6 {
            assert_eq!(call(Some("1H")).await.grpc_status(), Some("4"));
        }
        assert_eq!(origin.requests(), 6);
        for _ in 0..2 {
            assert_eq!(call(None).await.grpc_status(), Some("4"));
        }
        assert_eq!(call(None).await.reason(), Some("breaker_open"));
    }
}

#[tokio::test]
async fn what_cannot_be_done_in_time_is_not_begun() {
    let origin = Origin::always(Answer::ok("x")).await;
    let proxy = Setup::shop(&[origin.addr], "").start().await;
    for value in ["0ms", "0.5ms", "2001-01-01T00:00:00Z"] {
        let call = Call::get("/late").field(DEADLINE, value);
        let reply = proxy.call(&call).await;
        reply.is_own(504, &["deadline"]);
    }
    assert_eq!(origin.requests(), 0);
    let line = proxy.logged_path("/late").await;
    assert_eq!(line[log::TRIES], 0, "{line}");
    let refused = proxy.sum("outrider_deadline_refused_total", &[]).await;
    assert_eq!(refused, 3.0);
    // Nobody can lengthen it, and what cannot be read is passed over.
    for value in ["9999h", "2099-01-01T00:00:00Z", "soon", "5000"] {
        let call = Call::get("/").field(DEADLINE, value);
        proxy.call(&call).await.is(200);
    }
    assert!(origin.seen().iter().all(|seen| millis(seen) <= 5000));
    let malformed = [("why", "malformed")];
    assert_eq!(
        proxy.sum("outrider_hops_ignored_total", &malformed).await,
        2.0
    );
}

#[tokio::test]
async fn a_stranger_is_not_believed() {
    let origin = Origin::sequence(vec![answer(503), answer(200)]).await;
    let setup = shop(origin.addr, "max: 1").top("hops: [10.0.0.0/8]");
    let proxy = setup.start().await;
    let call = Call::get("/")
        .field(DEADLINE, "0ms")
        .field("grpc-timeout", "1n")
        .field(ATTEMPT, "1");
    proxy.call(&call).await.is(200);
    let seen = origin.seen();
    assert!(seen.iter().all(|seen| !seen.head.has("grpc-timeout")));
    assert!(seen.iter().all(|seen| millis(seen) > 0));
    assert_eq!(attempts(&origin), [None, Some("1".to_owned())]);
    let ignored = [("why", "untrusted")];
    assert_eq!(
        proxy.sum("outrider_hops_ignored_total", &ignored).await,
        3.0
    );
}

#[tokio::test]
async fn trust_follows_a_reload_on_the_connections_there_are() {
    let origin = Origin::always(Answer::ok("x")).await;
    let setup = Setup::shop(&[origin.addr], "");
    let strict = setup.clone().top("hops: []").text();
    let proxy = setup.start().await;
    let mut raw = proxy.connect().await;
    let call = Call::get("/").field(DEADLINE, "0ms");
    raw.call(&call).await.is_own(504, &["deadline"]);
    proxy.reload(&strict).await;
    raw.call(&call).await.is(200);
}

#[tokio::test]
async fn retries_are_numbered_over_all_hops() {
    let origin = Origin::always(Answer::status(503)).await;
    let proxy = shop(origin.addr, "max: 2").start().await;
    proxy.get("/").await;
    let numbers = [None, Some("1".to_owned()), Some("2".to_owned())];
    assert_eq!(attempts(&origin), numbers);
    // What the hop before counts goes on with what was never sent.
    let endpoints = [ports::closed(), origin.addr];
    let settings = "breaker: off\neject: off\nretry: { max: 2, budget: 100% }";
    let proxy = Setup::shop(&endpoints, settings).start().await;
    for _ in 0..20 {
        let marked = proxy.call(&Call::get("/").field(ATTEMPT, "3")).await;
        assert_eq!(marked.status, 503);
    }
    let seen = &attempts(&origin)[3..];
    assert_eq!(seen.len(), 20, "none was retried at the origin");
    assert!(
        seen.iter()
            .flatten()
            .any(|number| number != "3" && number != "0")
            && seen.iter().flatten().count() == 20,
        "{seen:?}"
    );
    let skipped = proxy.sum(SKIPPED, &[("why", "hop_retries")]).await;
    assert_eq!(skipped, 20.0);
}

#[tokio::test]
async fn no_retry_is_honoured_and_passed_on() {
    let acts = vec![
        Act::Answer(Answer::status(503).field(NO_RETRY, "limit")),
        Act::Answer(Answer::status(503).field("retry-after", "3600")),
    ];
    let origin = Origin::sequence(acts).await;
    let proxy = shop(origin.addr, "max: 2").start().await;
    let reply = proxy.get("/told").await;
    assert_eq!(forbids(reply.is(503), 503), Some("limit"));
    assert_eq!(
        proxy.logged_path("/told").await[log::RETRY_SKIPPED],
        "forbidden"
    );
    let reply = proxy.get("/later").await;
    assert_eq!(forbids(reply.is(503), 503), Some("no_time"));
    assert_eq!(origin.requests(), 2);
}

#[tokio::test]
async fn who_gives_up_says_so() {
    let origin = Origin::always(Answer::status(503)).await;
    let proxy = shop(origin.addr, "max: 1").start().await;
    assert_eq!(forbids(&proxy.get("/").await, 503), Some("exhausted"));
    // Not ours to say: nothing was retried here, so the hop before may try.
    for (call, status) in [
        (Call::post("/", "x"), 503),
        (Call::get("/").field(ATTEMPT, "1"), 503),
    ] {
        assert_eq!(forbids(&proxy.call(&call).await, status), None);
    }
    let none = "max: 1, budget: { share: 0%, floor: 0/s }";
    let proxy = shop(origin.addr, none).start().await;
    assert_eq!(forbids(&proxy.get("/").await, 503), Some("retry_budget"));
    let proxy = Setup::shop(&[origin.addr], "retry: off\nbreaker: { consecutive: 1 }")
        .start()
        .await;
    assert_eq!(forbids(&proxy.get("/").await, 503), None);
    let refused = proxy.get("/").await;
    assert_eq!(
        forbids(refused.is_own(503, &["breaker_open"]), 503),
        Some("breaker_open")
    );
    // A fault that retries did not help against.
    let origin = Origin::start(|_| Act::Cut(Answer::ok(""), 0, After::Reset)).await;
    let proxy = shop(origin.addr, "max: 1").start().await;
    let reply = proxy.get("/").await;
    assert_eq!(
        forbids(reply.is_own(502, &["reset"]), 502),
        Some("exhausted")
    );
}

#[tokio::test]
async fn who_refuses_to_protect_something_says_so() {
    let gate = Gate::new();
    let held = Act::Hold(gate.clone(), Box::new(answer(200)));
    let origin = Origin::start(move |_| held.clone()).await;
    let full = "retry: { max: 2 }\nbulkhead: { max: 1, queue: 0 }";
    let proxy = Setup::shop(&[origin.addr], full).start().await;
    let mut first = proxy.connect().await;
    first.send(&Call::get("/first").bytes()).await;
    until("the first call is with the origin", || async {
        (origin.requests() == 1).then_some(())
    })
    .await;
    let refused = proxy.get("/second").await;
    assert_eq!(
        forbids(refused.is_own(503, &["bulkhead_full"]), 503),
        Some("bulkhead_full")
    );
    gate.open();
    assert_eq!(forbids(first.reply("GET").await.is(200), 200), None);
}

fn grpc_answer(pushback: &'static str, in_trailers: bool) -> H2Act {
    let H2Act::Answer {
        status,
        mut fields,
        pieces,
        mut trailers,
    } = (if in_trailers {
        H2Act::grpc(b"", 14)
    } else {
        H2Act::grpc_only(14)
    })
    else {
        unreachable!("both are answers")
    };
    let told = if in_trailers {
        &mut trailers
    } else {
        &mut fields
    };
    told.push((PUSHBACK, pushback.to_owned()));
    H2Act::Answer {
        status,
        fields,
        pieces,
        trailers,
    }
}

#[tokio::test]
async fn grpc_pushback_says_when_or_never() {
    let retry = "max: 2, when: [\"grpc:unavailable\"]";
    for (pushback, in_trailers, tries) in [
        ("-1", true, 1),
        ("-1", false, 1),
        ("soon", true, 1),
        ("1", true, 3),
        ("3600000", false, 1),
    ] {
        let origin = H2Origin::start(move |_, _| grpc_answer(pushback, in_trailers)).await;
        let proxy = shop(origin.addr, retry).start().await;
        let client = H2::connect(proxy.outbound).await;
        let reply = client.call(h2client::grpc("/a.B/C", b"")).await;
        let seen = (reply.grpc_status(), origin.requests());
        assert_eq!(seen, (Some("14"), tries), "{pushback}");
        assert!(reply.get(NO_RETRY).is_some(), "{pushback}: {reply:?}");
    }
    // Our own refusal is one that a gRPC client understands.
    let proxy = Setup::shop(
        &[ports::closed()],
        "retry: off\nbreaker: { consecutive: 1 }",
    )
    .start()
    .await;
    let client = H2::connect(proxy.outbound).await;
    client.call(h2client::grpc("/a.B/C", b"")).await;
    let reply = client.call(h2client::grpc("/a.B/C", b"")).await;
    assert_eq!(
        (reply.reason(), reply.get(PUSHBACK), reply.get(NO_RETRY)),
        (Some("breaker_open"), Some("-1"), Some("breaker_open"))
    );
}

#[tokio::test]
async fn off_is_as_if_there_were_no_such_headers() {
    let told = Answer::status(503).field(NO_RETRY, "limit");
    let origin = Origin::always(told).await;
    let setup = shop(origin.addr, "max: 1").top("hops: off");
    let proxy = setup.start().await;
    let call = Call::get("/").field(DEADLINE, "0ms").field(ATTEMPT, "7");
    assert_eq!(forbids(&proxy.call(&call).await, 503), Some("limit"));
    assert_eq!(
        attempts(&origin),
        [Some("7".to_owned()), Some("7".to_owned())]
    );
    assert!(
        origin
            .seen()
            .iter()
            .all(|seen| seen.head.get(DEADLINE) == Some("0ms"))
    );
    let closed = Setup::shop(
        &[ports::closed()],
        "retry: off\nbreaker: { consecutive: 1 }",
    );
    let proxy = closed.top("hops: { retry: off }").start().await;
    for _ in 0..2 {
        assert_eq!(proxy.get("/").await.get(NO_RETRY), None);
    }
}

#[tokio::test]
async fn shadow_counts_and_changes_nothing() {
    let told = Answer::status(503).field(NO_RETRY, "limit");
    let origin = Origin::always(told).await;
    let setup = shop(origin.addr, "max: 1").top("hops: { mode: shadow }");
    let proxy = setup.start().await;
    let call = Call::get("/").field(DEADLINE, "0ms").field(ATTEMPT, "7");
    assert_eq!(forbids(&proxy.call(&call).await, 503), Some("limit"));
    assert_eq!(
        attempts(&origin),
        [Some("7".to_owned()), Some("7".to_owned())]
    );
    let mode = [("mode", "shadow")];
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum("outrider_deadline_shortened_total", &mode), 1.0);
    assert_eq!(metrics.sum("outrider_deadline_refused_total", &mode), 1.0);
    let would = metrics.sum("outrider_retries_shadow_skipped_total", &[]);
    assert!(would > 0.0);
}

/// Three proxies, each the next one's client, and a leaf that is down. Gives what the leaf got for each call.
async fn chain(calls: usize, retry: &str, hops: &str) -> (f64, Vec<Proxy>) {
    let leaf = Origin::always(Answer::status(503)).await;
    let mut proxies: Vec<Proxy> = Vec::new();
    for _ in 0..3 {
        let next = proxies.last().map_or(leaf.addr, |proxy| proxy.outbound);
        let setup = shop(next, retry).top(hops).args(&["--workers", "1"]);
        proxies.push(setup.start().await);
    }
    let first = proxies.last().expect("three").outbound;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..4 {
        clients.spawn(async move {
            let mut raw = crate::support::client::Raw::connect(first).await;
            for n in 0..calls / 4 {
                raw.call(&Call::get(&format!("/{n}"))).await.is(503);
            }
        });
    }
    while let Some(done) = clients.join_next().await {
        done.expect("every call got the leaf's own answer");
    }
    (leaf.requests() as f64 / calls as f64, proxies)
}

#[tokio::test]
async fn a_dead_leaf_gets_no_more_than_a_quarter_on_top() {
    const BUDGET: &str = "max: 3, budget: { share: 20%, over: 10s, floor: 0/s }";
    let (load, proxies) = chain(1000, BUDGET, "hops: { mode: enforce }").await;
    assert!(
        load > 1.0 && load <= 1.25,
        "{load} tries a call at the leaf"
    );
    let forbidden = [("why", "forbidden")];
    let (leaf, above) = proxies.split_first().expect("three");
    assert_eq!(leaf.sum(SKIPPED, &forbidden).await, 0.0);
    for proxy in above {
        assert_eq!(proxy.sum(SKIPPED, &forbidden).await, 1000.0);
        assert_eq!(proxy.sum("outrider_retries_total", &[]).await, 0.0);
    }
    // Budgets alone bound each hop, and multiply.
    let (load, _) = chain(1000, BUDGET, "hops: off").await;
    assert!(
        load > 1.5 && load <= 1.73,
        "{load} tries a call at the leaf"
    );
}

#[tokio::test]
async fn without_budgets_and_markers_tries_multiply() {
    const NAIVE: &str = "max: 3, budget: { share: 100%, floor: 1000000/s }";
    let (load, _) = chain(20, NAIVE, "hops: off").await;
    assert!(
        (load - 64.0).abs() < 1e-9,
        "{load} tries a call at the leaf"
    );
    // With markers alone one hop retries, the last.
    let (load, _) = chain(20, NAIVE, "hops: {}").await;
    assert!((load - 4.0).abs() < 1e-9, "{load} tries a call at the leaf");
}
