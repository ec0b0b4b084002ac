//! What a cache is good for when the upstream is slow, busy or gone: stale answers in place of errors, and one fetch for all
//! that want the same.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use crate::path_cache::ALONE;
use crate::path_cache::numbered;
use crate::path_cache::shop;
use crate::path_cache::told;
use crate::support::call::Call;
use crate::support::h2client;
use crate::support::h2client::H2;
use crate::support::h2origin::H2Act;
use crate::support::h2origin::H2Origin;
use crate::support::load::Load;
use crate::support::names::log;
use crate::support::origin::Act;
use crate::support::origin::After;
use crate::support::origin::Answer;
use crate::support::origin::Asked;
use crate::support::origin::Gate;
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::setup::Setup;
use crate::support::until;

/// Kept, and stale from the start.
const STALE: [(&str, &str); 2] = [("Cache-Control", "max-age=10"), ("Age", "20")];

fn stale() -> Answer {
    let add = |answer: Answer, (name, value): &(&str, &str)| answer.field(name, value);
    STALE.iter().fold(Answer::ok("kept"), add)
}

/// An origin that answers well at first, and then as told.
async fn failing(settings: &str, then: Act) -> (Origin, Proxy) {
    let origin = Origin::sequence(vec![Act::Answer(stale()), then]).await;
    let setup = Setup::shop(&[origin.addr], &format!("eject: off\n{settings}"));
    (origin, setup.start().await)
}

/// The kept answer comes, and says in place of what.
async fn stands_in(proxy: &Proxy, reason: &str) {
    let reply = proxy.get("/").await;
    reply.is(200);
    let said = told(&reply);
    assert_eq!(reply.text(), "kept", "{reason}: {said}");
    assert!(
        said.contains(&format!("; detail={reason}")) && said.contains("; ttl=-"),
        "{reason}: {said}"
    );
    let counted = [("reason", reason)];
    let stale = proxy.sum("outrider_cache_stale_total", &counted).await;
    assert!(stale >= 1.0, "{reason}: {stale}");
}

#[tokio::test]
async fn a_stale_answer_stands_in_for_whatever_the_upstream_does() {
    for (then, reason) in [
        (Act::Answer(Answer::status(500)), "upstream_status"),
        (Act::Answer(Answer::status(502)), "upstream_status"),
        (Act::Answer(Answer::status(503)), "upstream_status"),
        (Act::Answer(Answer::status(504)), "upstream_status"),
        (Act::Raw(Vec::new(), After::Reset), "reset"),
        (Act::Silence, "deadline"),
    ] {
        let settings = "retry: off\nbreaker: off\ntimeout: 300ms\ncache: { stale_if_error: 10m }\n";
        let (_origin, proxy) = failing(settings, then.clone()).await;
        proxy.get("/").await.is(200);
        stands_in(&proxy, reason).await;
        let line = proxy
            .logged("the stale answer", |line| line["cache"] == "stale_if_error")
            .await;
        assert_eq!(
            (&line["cache_why"], &line[log::STATUS]),
            (&reason.into(), &200.into()),
            "{line}"
        );
    }
}

#[tokio::test]
async fn and_for_an_upstream_that_is_not_called() {
    let limited = "breaker: off\nretry: off\nlimit: { rate: 1/h, burst: 1 }\ncache: { stale_if_error: 10m }\n";
    let (origin, proxy) = failing(limited, Act::Silence).await;
    proxy.get("/").await.is(200);
    stands_in(&proxy, "limit").await;
    assert_eq!(origin.requests(), 1);

    let broken = "retry: off\nbreaker: { consecutive: 1, open: 1h, open_max: 1h }\ncache: { stale_if_error: 10m }\n";
    let (origin, proxy) = failing(broken, Act::Answer(Answer::status(503))).await;
    proxy.get("/").await.is(200);
    stands_in(&proxy, "upstream_status").await;
    stands_in(&proxy, "breaker_open").await;
    assert_eq!(origin.requests(), 2);

    let gone = "retry: off\nbreaker: off\ncache: { stale_if_error: 10m }\n";
    let (origin, proxy) = failing(gone, Act::Silence).await;
    proxy.get("/").await.is(200);
    drop(origin);
    stands_in(&proxy, "connect_refused").await;
}

#[tokio::test]
async fn not_where_the_origin_forbids_it_or_it_is_too_old() {
    const ROWS: [&[(&str, &str)]; 6] = [
        &[
            ("Cache-Control", "max-age=10, must-revalidate"),
            ("Age", "20"),
        ],
        &[
            ("Cache-Control", "max-age=10, proxy-revalidate"),
            ("Age", "20"),
        ],
        &[("Cache-Control", "s-maxage=10"), ("Age", "20")],
        &[("Cache-Control", "no-cache"), ("ETag", "\"v\"")],
        &[("Cache-Control", "max-age=10"), ("Age", "700")],
        &[("Cache-Control", "no-store")],
    ];
    let up = Arc::new(AtomicBool::new(true));
    let is_up = Arc::clone(&up);
    let script = move |asked: &Asked<'_>| {
        if !is_up.load(Ordering::SeqCst) {
            return Act::Answer(Answer::status(503).text("down"));
        }
        let at: usize = asked.target[1..].parse().expect("a row");
        numbered(asked, ROWS[at])
    };
    let (_origin, proxy) = shop("{ stale_if_error: 10m }", script).await;
    for row in 0..ROWS.len() {
        proxy.get(&format!("/{row}")).await.is(200);
    }
    up.store(false, Ordering::SeqCst);
    for (row, fields) in ROWS.iter().enumerate() {
        let reply = proxy.get(&format!("/{row}")).await;
        assert_eq!(
            (reply.status, reply.text().as_str()),
            (503, "down"),
            "{fields:?}"
        );
    }
    assert_eq!(proxy.sum("outrider_cache_stale_total", &[]).await, 0.0);
}

#[tokio::test]
async fn the_origins_own_stale_if_error_holds_without_a_policy() {
    let up = Arc::new(AtomicBool::new(true));
    let is_up = Arc::clone(&up);
    let fields = [
        ("Cache-Control", "max-age=10, stale-if-error=600"),
        ("Age", "20"),
    ];
    let script = move |asked: &Asked<'_>| {
        if is_up.load(Ordering::SeqCst) {
            numbered(asked, &fields)
        } else {
            Act::Answer(Answer::status(500))
        }
    };
    let (_origin, proxy) = shop("{}", script).await;
    proxy.get("/").await.is(200);
    up.store(false, Ordering::SeqCst);
    let said = told(proxy.get("/").await.is(200));
    assert!(said.contains("; fwd=stale; fwd-status=500"), "{said}");
}

#[tokio::test]
async fn an_origin_that_dies_under_load_fails_no_request() {
    let script =
        |asked: &Asked<'_>| numbered(asked, &[("Cache-Control", "max-age=10"), ("Age", "20")]);
    let origin = Origin::start(script).await;
    let settings = "timeout: 2s\nretry: { max: 2 }\nbreaker: { consecutive: 3 }\ncache: { stale_if_error: 10m }\n";
    let proxy = Setup::shop(&[origin.addr], settings).start().await;
    proxy.get("/").await.is(200);
    let load = Load::start(proxy.outbound, &Call::get("/"), 4);
    load.go_on(50).await;
    drop(origin);
    load.go_on(500).await;
    load.stop_clean().await;
    let counted = proxy.sum("outrider_cache_stale_total", &[]).await;
    assert!(counted >= 400.0, "{counted}");
}

#[tokio::test]
async fn a_thousand_clients_on_one_cold_key_are_one_request() {
    const CLIENTS: usize = 1000;
    let gate = Gate::new();
    let held = gate.clone();
    let script = move |_: &Asked<'_>| {
        let answer = Answer::ok("x".repeat(50_000)).field("Cache-Control", "max-age=600");
        Act::Hold(held.clone(), Box::new(Act::Answer(answer)))
    };
    // Time for a machine on which a thousand clients, origin and proxy share two cores.
    let cache = "{ collapse: 1m }\ntimeout: { total: 1m, connect: 1m }";
    let (origin, proxy) = shop(cache, script).await;
    let get = Call::get("/cold");
    let (replies, ()) = tokio::join!(proxy.at_once(CLIENTS, &get), async {
        let all = CLIENTS as f64;
        proxy
            .until_sum("outrider_requests_in_flight", &[], |sum| sum == all)
            .await;
        gate.open();
    });
    for reply in &replies {
        assert_eq!(reply.is(200).body.content.len(), 50_000);
    }
    assert_eq!((replies.len(), origin.requests()), (CLIENTS, 1));
    let others = (CLIENTS - 1) as f64;
    let collapsed = [("result", "collapsed")];
    let collapsed = proxy.sum("outrider_cache_requests_total", &collapsed).await;
    let saved = proxy.sum("outrider_cache_saved_calls_total", &[]).await;
    assert_eq!((collapsed, saved), (others, others));
}

#[tokio::test]
async fn a_fetch_that_fails_does_not_fail_those_who_wait_for_it() {
    let gate = Gate::new();
    let held = gate.clone();
    let script = move |asked: &Asked<'_>| match asked.n {
        0 => Act::Hold(held.clone(), Box::new(Act::Raw(Vec::new(), After::Reset))),
        _ => numbered(asked, &[("Cache-Control", "max-age=600")]),
    };
    let (origin, proxy) = shop("{ collapse: 1m }", script).await;
    let get = Call::get("/");
    let (replies, ()) = tokio::join!(proxy.at_once(20, &get), async {
        proxy
            .until_sum("outrider_requests_in_flight", &[], |sum| sum == 20.0)
            .await;
        gate.open();
    });
    let good = replies.iter().filter(|reply| reply.status == 200).count();
    assert_eq!(good, 19, "only the one whose fetch it was fails");
    assert!(origin.requests() >= 2);
}

#[tokio::test]
async fn a_client_that_leaves_does_not_take_the_fetch_along() {
    let gate = Gate::new();
    let held = gate.clone();
    let script = move |asked: &Asked<'_>| {
        let act = numbered(asked, &[("Cache-Control", "max-age=600")]);
        Act::Hold(held.clone(), Box::new(act))
    };
    let (origin, proxy) = shop("{ collapse: 1m }", script).await;
    let mut first = proxy.connect().await;
    first.send(&Call::get("/").bytes()).await;
    until("the fetch", || async {
        (origin.requests() == 1).then_some(())
    })
    .await;
    let get = Call::get("/");
    let (replies, ()) = tokio::join!(proxy.at_once(5, &get), async {
        proxy
            .until_sum("outrider_requests_in_flight", &[], |sum| sum == 6.0)
            .await;
        drop(first);
        proxy
            .until_sum("outrider_requests_in_flight", &[], |sum| sum == 5.0)
            .await;
        gate.open();
    });
    for reply in &replies {
        reply.is(200);
    }
    assert!(origin.requests() <= 2, "{}", origin.requests());
}

#[tokio::test]
async fn what_is_not_for_others_releases_those_who_wait_and_is_remembered() {
    const CROWD: usize = 20;
    let inside = Arc::new(AtomicUsize::new(0));
    let (gate, crowd) = (Gate::new(), Gate::new());
    let (held, all_in) = (gate.clone(), crowd.clone());
    let script = move |asked: &Asked<'_>| {
        let act = numbered(asked, &[("Cache-Control", "private")]);
        if asked.n == 0 {
            return Act::Hold(held.clone(), Box::new(act));
        }
        // Each waits for all the others, as none could who stood in a queue behind one.
        if inside.fetch_add(1, Ordering::SeqCst) + 1 == CROWD - 1 {
            all_in.open();
        }
        Act::Hold(all_in.clone(), Box::new(act))
    };
    let (origin, proxy) = shop("{ collapse: 1m }", script).await;
    let get = Call::get("/");
    let (replies, ()) = tokio::join!(proxy.at_once(CROWD, &get), async {
        proxy
            .until_sum("outrider_requests_in_flight", &[], |sum| {
                sum == CROWD as f64
            })
            .await;
        assert_eq!(origin.requests(), 1, "they wait for the first");
        gate.open();
    });
    let mut texts: Vec<_> = replies.iter().map(|reply| reply.is(200).text()).collect();
    texts.sort();
    texts.dedup();
    assert_eq!(
        (texts.len(), origin.requests()),
        (CROWD, CROWD),
        "to each their own"
    );
}

#[tokio::test]
async fn those_who_wait_read_along_while_it_arrives() {
    let gate = Gate::new();
    let held = gate.clone();
    let script = move |_: &Asked<'_>| {
        let body = crate::support::origin::pattern(3000);
        let answer = Answer::ok(body).field("Cache-Control", "max-age=600");
        Act::Hold(held.clone(), Box::new(Act::Drip(answer, 700)))
    };
    let (origin, proxy) = shop("{ collapse: 1m }", script).await;
    let get = Call::get("/");
    let (replies, ()) = tokio::join!(proxy.at_once(10, &get), async {
        proxy
            .until_sum("outrider_requests_in_flight", &[], |sum| sum == 10.0)
            .await;
        gate.open();
    });
    for reply in &replies {
        assert_eq!(
            reply.is(200).body.content,
            crate::support::origin::pattern(3000)
        );
    }
    assert_eq!(origin.requests(), 1);
    let kept = h2client::request("GET", "/")
        .body(h2client::empty())
        .expect("a request");
    let kept = H2::connect(proxy.outbound).await.call(kept).await;
    assert_eq!(kept.body.len(), 3000, "over HTTP/2 as well");
    assert_eq!(origin.requests(), 1);
}

#[tokio::test]
async fn streams_of_one_connection_wait_for_one_another_too() {
    const STREAMS: usize = 50;
    let gate = Gate::new();
    let held = gate.clone();
    let origin = H2Origin::start(move |n, _| {
        let answer = H2Act::Answer {
            status: 200,
            fields: vec![("cache-control", "max-age=600".to_owned())],
            pieces: vec![format!("{n}").into(), "x".repeat(50_000).into()],
            trailers: Vec::new(),
        };
        H2Act::Hold(held.clone(), Box::new(answer))
    })
    .await;
    let settings = format!("{ALONE}cache: {{ collapse: 1m }}\ntimeout: {{ total: 1m }}\n");
    let proxy = Setup::shop(&[origin.addr], &settings).start().await;
    let client = H2::connect(proxy.outbound).await;
    let calls = futures_util::future::join_all((0..STREAMS).map(|_| client.get("/cold")));
    let (replies, ()) = tokio::join!(calls, async {
        let all = STREAMS as f64;
        proxy
            .until_sum("outrider_requests_in_flight", &[], |sum| sum == all)
            .await;
        gate.open();
    });
    for reply in &replies {
        assert_eq!((reply.status, reply.body.len()), (200, 50_001));
        assert!(reply.body.starts_with(b"0x"), "all have the first answer");
    }
    assert_eq!(origin.requests(), 1);
    let again = client.get("/cold").await;
    let told = again.get("cache-status").unwrap_or_default().to_owned();
    assert!(told.contains("; hit"), "{told}");
}
