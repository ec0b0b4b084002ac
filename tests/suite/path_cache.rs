//! The cache as RFC 9111 has it, over real sockets: what is kept, how old it is, when it is asked for again.
//!
//! Nothing here waits for an answer to grow old: the origin's `Age` says how old it is already.

use crate::support::call::Call;
use crate::support::call::Reply;
use crate::support::origin::Act;
use crate::support::origin::After;
use crate::support::origin::Answer;
use crate::support::origin::Asked;
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::setup::Setup;
use crate::support::until;
use crate::support::wire::latin1;

/// What else a policy says in tests of the cache.
pub const ALONE: &str = "retry: off\nbreaker: off\neject: off\n";

/// A proxy with this cache, before this origin.
pub async fn shop(
    cache: &str,
    script: impl Fn(&Asked<'_>) -> Act + Send + Sync + 'static,
) -> (Origin, Proxy) {
    let origin = Origin::start(script).await;
    let settings = format!("{ALONE}cache: {cache}\n");
    let proxy = Setup::shop(&[origin.addr], &settings).start().await;
    (origin, proxy)
}

/// An answer that says which request it was made for.
pub fn numbered(asked: &Asked<'_>, fields: &[(&str, &str)]) -> Act {
    let answer = Answer::ok(format!("{} of {}", asked.n, asked.target));
    Act::Answer(with(answer, fields))
}

/// An answer with these fields.
pub fn with(answer: Answer, fields: &[(&str, &str)]) -> Answer {
    let add = |answer: Answer, (name, value): &(&str, &str)| answer.field(name, value);
    fields.iter().fold(answer, add)
}

/// What outrider says of its part in an answer: the last member.
pub fn told(reply: &Reply) -> String {
    let all = reply.head.all("cache-status");
    let last = all.last().unwrap_or_else(|| {
        panic!("Cache-Status on every answer:\n{}", latin1(&reply.head.raw));
    });
    let member = last.rsplit(", ").next().unwrap_or_default();
    assert!(member.starts_with("outrider"), "{all:?}");
    member.to_owned()
}

/// # Panics
/// When the answer is not from the cache.
pub fn is_hit(reply: &Reply) -> &Reply {
    let told = told(reply);
    assert!(told.contains("; hit"), "{told}: {}", reply.text());
    reply
}

/// # Panics
/// When the answer is from the cache.
pub fn is_fetched(reply: &Reply) -> &Reply {
    let told = told(reply);
    assert!(!told.contains("; hit"), "{told}: {}", reply.text());
    reply
}

/// The value of a field that is a number.
pub fn number(reply: &Reply, name: &str) -> i64 {
    let value = reply.get(name).unwrap_or_else(|| panic!("{name}"));
    value.parse().unwrap_or_else(|_| panic!("{name}: {value}"))
}

#[tokio::test]
async fn a_fresh_answer_is_given_again_with_its_age() {
    let fields = [
        ("Cache-Control", "max-age=600"),
        ("Age", "100"),
        ("X-Own", "yes"),
    ];
    let (origin, proxy) = shop("{}", move |asked| numbered(asked, &fields)).await;
    let first = proxy.get("/a").await;
    first.is(200);
    let said = told(&first);
    assert!(
        said.contains("; fwd=uri-miss") && said.contains("; stored"),
        "{said}"
    );
    let second = proxy.get("/a").await;
    is_hit(second.is(200));
    assert_eq!((first.text(), origin.requests()), (second.text(), 1));
    let age = number(&second, "age");
    assert!((100..600).contains(&age), "{age}");
    // Both are told in whole seconds, and each is rounded down.
    let left = [600 - age, 599 - age];
    let said = told(&second);
    assert!(
        left.iter()
            .any(|left| said.ends_with(&format!("; ttl={left}"))),
        "{said}"
    );
    assert_eq!(second.get("x-own"), Some("yes"));
    assert_ne!(
        first.get("x-request-id"),
        second.get("x-request-id"),
        "each call its own"
    );
}

#[tokio::test]
async fn what_the_origin_is_silent_on_is_for_the_policy_to_say() {
    let (origin, proxy) = shop("{}", |asked| numbered(asked, &[])).await;
    for _ in 0..2 {
        is_fetched(proxy.get("/").await.is(200));
    }
    assert_eq!(origin.requests(), 2);
    let (origin, proxy) = shop("60s", |asked| numbered(asked, &[])).await;
    is_fetched(proxy.get("/").await.is(200));
    is_hit(proxy.get("/").await.is(200));
    assert_eq!(origin.requests(), 1);
}

#[tokio::test]
async fn what_must_not_be_kept_is_not_whatever_the_policy_says() {
    const FORBIDDEN: &[&[(&str, &str)]] = &[
        &[("Cache-Control", "no-store")],
        &[("Cache-Control", "max-age=60, NO-STORE")],
        &[
            ("Cache-Control", "max-age=60"),
            ("Cache-Control", "private"),
        ],
        &[("Cache-Control", "private, max-age=60")],
        &[("Cache-Control", "max-age=60"), ("Vary", "*")],
        &[("Cache-Control", "max-age=60"), ("Vary", "accept, *")],
        &[("Cache-Control", "max-age=60"), ("Set-Cookie", "sid=1")],
        &[
            ("CDN-Cache-Control", "no-store"),
            ("Cache-Control", "max-age=60"),
        ],
    ];
    let script = |asked: &Asked<'_>| {
        let at: usize = asked.target[1..].parse().expect("a row");
        numbered(asked, FORBIDDEN[at])
    };
    let cache = "{ get: 60s, ttl: { min: 60s }, heuristic: 50%, stale_if_error: 10m }";
    let (origin, proxy) = shop(cache, script).await;
    for (row, fields) in FORBIDDEN.iter().enumerate() {
        let target = format!("/{row}");
        let (first, second) = (proxy.get(&target).await, proxy.get(&target).await);
        assert_ne!(first.text(), second.text(), "{fields:?}");
        assert!(
            !told(&first).contains("stored"),
            "{fields:?}: {}",
            told(&first)
        );
    }
    assert_eq!(origin.requests(), 2 * FORBIDDEN.len());
    let stored = proxy.sum("outrider_cache_stored_total", &[]).await;
    assert_eq!(stored, 0.0);
    for why in ["no_store", "private", "vary", "set_cookie"] {
        let count = proxy
            .sum("outrider_cache_not_stored_total", &[("why", why)])
            .await;
        assert!(count >= 2.0, "{why}: {count}");
    }
}

#[tokio::test]
async fn freshness_is_found_where_rfc_9111_says() {
    // The origin's fields, and whether the second call is a hit.
    const ROWS: &[(&[(&str, &str)], bool)] = &[
        (&[("Cache-Control", "max-age=60")], true),
        (&[("Cache-Control", "MAX-AGE=60")], true),
        (&[("Cache-Control", "max-age=\"60\"")], true),
        (&[("Cache-Control", "max-age=0")], false),
        (&[("Cache-Control", "max-age=60"), ("Age", "60")], false),
        (&[("Cache-Control", "max-age=60"), ("Age", "59, 70")], true),
        (
            &[("Cache-Control", "max-age=1, s-maxage=60"), ("Age", "30")],
            true,
        ),
        (
            &[("Cache-Control", "max-age=60, s-maxage=1"), ("Age", "30")],
            false,
        ),
        (
            &[("Cache-Control", "max-age=60, max-age=10"), ("Age", "30")],
            false,
        ),
        (&[("Expires", "Fri, 01 Jan 2100 00:00:00 GMT")], true),
        (&[("Expires", "0")], false),
        (&[("Expires", "Thu, 01 Jan 1970 00:00:00 GMT")], false),
        (
            &[
                ("Cache-Control", "max-age=60"),
                ("Expires", "Thu, 01 Jan 1970 00:00:00 GMT"),
            ],
            true,
        ),
        (&[("Cache-Control", "unknown=\"max-age=60\"")], false),
        (&[("Cache-Control", ", ,max-age=60,")], true),
        (
            &[
                ("CDN-Cache-Control", "max-age=60"),
                ("Cache-Control", "no-store"),
            ],
            true,
        ),
        (
            &[
                ("Outrider-Cache-Control", "max-age=60"),
                ("CDN-Cache-Control", "no-store"),
            ],
            true,
        ),
        (
            &[
                ("CDN-Cache-Control", "max-age=60, &"),
                ("Cache-Control", "max-age=60"),
            ],
            true,
        ),
        (&[("Cache-Control", "no-cache, max-age=60")], false),
    ];
    let script = |asked: &Asked<'_>| {
        let at: usize = asked.target[1..].parse().expect("a row");
        numbered(asked, ROWS[at].0)
    };
    let (_origin, proxy) = shop("{}", script).await;
    for (row, (fields, hit)) in ROWS.iter().enumerate() {
        let target = format!("/{row}");
        let (first, second) = (proxy.get(&target).await, proxy.get(&target).await);
        assert_eq!(
            first.text() == second.text(),
            *hit,
            "{fields:?}: {}",
            told(&second)
        );
        assert_eq!(
            told(&second).contains("; hit"),
            *hit,
            "{fields:?}: {}",
            told(&second)
        );
    }
}

#[tokio::test]
async fn the_policys_bounds_go_over_and_under_the_origins() {
    let script = |asked: &Asked<'_>| match asked.target {
        "/short" => numbered(asked, &[("Cache-Control", "max-age=1"), ("Age", "30")]),
        _ => numbered(asked, &[("Cache-Control", "max-age=9999"), ("Age", "400")]),
    };
    let (_origin, proxy) = shop("{ ttl: { min: 60s, max: 5m } }", script).await;
    for (target, hit) in [("/short", true), ("/long", false)] {
        let (first, second) = (proxy.get(target).await, proxy.get(target).await);
        assert_eq!(
            first.text() == second.text(),
            hit,
            "{target}: {}",
            told(&second)
        );
    }
}

#[tokio::test]
async fn failures_are_kept_where_the_policy_says_so() {
    let script = |asked: &Asked<'_>| {
        let status = asked.target[1..].parse().expect("a status");
        Act::Answer(Answer::status(status).text(&asked.n.to_string()))
    };
    let (_origin, proxy) = shop("{ get: 60s, negative: 10s }", script).await;
    for (target, hit) in [
        ("/404", true),
        ("/410", true),
        ("/500", false),
        ("/403", false),
    ] {
        let (first, second) = (proxy.get(target).await, proxy.get(target).await);
        assert_eq!(
            first.text() == second.text(),
            hit,
            "{target}: {}",
            told(&second)
        );
    }
    let (_origin, proxy) = shop("60s", script).await;
    let (first, second) = (proxy.get("/404").await, proxy.get("/404").await);
    assert_ne!(
        first.text(),
        second.text(),
        "a failure is not what `get` is about"
    );
}

#[tokio::test]
async fn a_client_says_what_it_takes() {
    let script = |asked: &Asked<'_>| match asked.target {
        "/stale" => numbered(asked, &[("Cache-Control", "max-age=60"), ("Age", "100")]),
        "/bound" => numbered(
            asked,
            &[
                ("Cache-Control", "max-age=60, must-revalidate"),
                ("Age", "100"),
            ],
        ),
        _ => numbered(asked, &[("Cache-Control", "max-age=600"), ("Age", "100")]),
    };
    let (origin, proxy) = shop("{ stale_if_error: 10m }", script).await;
    let ask = async |target: &str, directive: &str| {
        let call = Call::get(target).field("Cache-Control", directive);
        proxy.call(&call).await
    };
    let none = ask("/never", "only-if-cached").await;
    assert_eq!((none.status, origin.requests()), (504, 0));
    for target in ["/fresh", "/stale", "/bound"] {
        proxy.get(target).await.is(200);
    }
    for (target, directive, hit) in [
        ("/fresh", "max-age=200", true),
        ("/fresh", "only-if-cached", true),
        ("/fresh", "min-fresh=10", true),
        ("/stale", "max-stale", true),
        ("/stale", "max-stale=500", true),
        ("/stale", "max-stale=10", false),
        ("/bound", "max-stale", false),
        ("/fresh", "max-age=50", false),
        ("/fresh", "min-fresh=550", false),
        ("/fresh", "no-cache", false),
    ] {
        let reply = ask(target, directive).await;
        let said = told(reply.is(200));
        assert_eq!(said.contains("; hit"), hit, "{target} {directive}: {said}");
    }
    let pragma = proxy
        .call(&Call::get("/fresh").field("Pragma", "no-cache"))
        .await;
    is_fetched(pragma.is(200));
    is_fetched(ask("/private", "no-store").await.is(200));
    is_fetched(proxy.get("/private").await.is(200));
}

#[tokio::test]
async fn a_success_of_an_unsafe_method_removes_what_is_kept() {
    let script = |asked: &Asked<'_>| {
        let fields = [("Cache-Control", "max-age=600")];
        let done = |status| Answer::status(status).text("done");
        match (asked.method, asked.target) {
            ("GET", _) => numbered(asked, &fields),
            (_, "/fails") => Act::Answer(done(500)),
            (_, "/refused") => Act::Answer(done(403)),
            (_, "/points") => Act::Answer(
                done(201)
                    .field("Location", "/made")
                    .field("Content-Location", "http://shop.test/listed"),
            ),
            (_, "/points-away") => {
                Act::Answer(done(201).field("Location", "http://other.test/kept"))
            }
            _ => Act::Answer(done(200)),
        }
    };
    let (_origin, proxy) = shop("{}", script).await;
    let away = Call::get("/kept").host("other.test");
    for (method, target, about, gone) in [
        ("POST", "/a", "/a", true),
        ("PUT", "/b?q=1", "/b?q=1", true),
        ("DELETE", "/c", "/c", true),
        ("UNHEARD-OF", "/d", "/d", true),
        ("POST", "/e", "/e?other", false),
        ("POST", "/fails", "/fails", false),
        ("POST", "/refused", "/refused", false),
        ("POST", "/points", "/made", true),
        ("POST", "/points", "/listed", true),
    ] {
        let before = proxy.get(about).await.text();
        proxy.call(&Call::new(method, target).body("x")).await;
        let after = proxy.get(about).await.text();
        assert_eq!(before != after, gone, "{method} {target}: {about}");
    }
    let before = proxy.get("/kept").await.text();
    proxy.call(&away).await;
    proxy.call(&Call::post("/points-away", "x")).await;
    assert_eq!(
        proxy.get("/kept").await.text(),
        before,
        "another origin's word"
    );
}

#[tokio::test]
async fn what_is_too_large_passes_and_is_not_kept() {
    let script = |asked: &Asked<'_>| {
        let (path, query) = asked.target.split_once('?').expect("a query");
        let whole = vec![b'x'; path[1..].parse().expect("a size")];
        let answer = Answer::ok(whole.clone()).field("Cache-Control", "max-age=600");
        let (one, other) = whole.split_at(whole.len() / 2);
        Act::Answer(match query {
            "chunked" => answer.chunked(&[one, other]),
            _ => answer,
        })
    };
    let (_origin, proxy) = shop("{ max_body: 1000B }", script).await;
    for (size, kept) in [(1000, true), (1001, false), (100_000, false)] {
        for framing in ["declared", "chunked"] {
            let target = format!("/{size}?{framing}");
            is_fetched(proxy.get(&target).await.is(200));
            let again = proxy.get(&target).await;
            assert_eq!(again.is(200).body.content.len(), size, "{target}");
            assert_eq!(
                told(&again).contains("; hit"),
                kept,
                "{target}: {}",
                told(&again)
            );
        }
    }
}

#[tokio::test]
async fn half_an_answer_is_not_kept() {
    let answer = Answer::ok("0123456789").field("Cache-Control", "max-age=600");
    let whole = answer.bytes(false).len();
    let chunked = answer.clone().chunked(&[b"01234", b"56789"]);
    let chunks = chunked.bytes(false).len();
    let acts = vec![
        Act::Cut(answer.clone(), whole - 3, After::Close),
        Act::Cut(answer.clone(), whole - 3, After::Reset),
        Act::Cut(chunked.clone(), chunks - 5, After::Close),
        Act::Answer(answer),
    ];
    let origin = Origin::sequence(acts).await;
    let setup = Setup::shop(&[origin.addr], &format!("{ALONE}cache: {{}}\n"));
    let proxy = setup.start().await;
    for _ in 0..3 {
        let mut raw = proxy.connect().await;
        raw.send(&Call::get("/").bytes()).await;
        let broken = raw.try_reply("GET").await;
        assert!(
            broken.is_err()
                || broken.is_ok_and(|reply| reply.is_none_or(|reply| reply.status >= 500))
        );
    }
    is_fetched(proxy.get("/").await.is(200));
    assert_eq!(is_hit(proxy.get("/").await.is(200)).text(), "0123456789");
}

#[tokio::test]
async fn what_belongs_to_one_exchange_is_not_kept() {
    let fields = [
        ("Cache-Control", "max-age=600, no-cache=\"x-once\""),
        ("Connection", "x-hop"),
        ("X-Hop", "1"),
        ("Keep-Alive", "timeout=5"),
        ("X-Once", "1"),
        ("Proxy-Status", "theirs; error=dns_error"),
        ("X-Kept", "1"),
    ];
    let (_origin, proxy) = shop("{}", move |asked| numbered(asked, &fields)).await;
    proxy.get("/").await;
    let kept = proxy.get("/").await;
    is_hit(&kept);
    assert_eq!(kept.get("x-kept"), Some("1"));
    for name in ["x-hop", "keep-alive", "x-once", "proxy-status"] {
        assert!(!kept.head.has(name), "{name}:\n{}", latin1(&kept.head.raw));
    }
    assert_eq!(kept.head.all("x-request-id").len(), 1);
    assert_eq!(kept.head.all("date").len(), 1);
}

#[tokio::test]
async fn nobody_waits_for_a_refresh() {
    let fields = [
        ("Cache-Control", "max-age=10, stale-while-revalidate=600"),
        ("Age", "20"),
    ];
    let script = move |asked: &Asked<'_>| match asked.n {
        0 => numbered(asked, &fields),
        _ => numbered(asked, &[("Cache-Control", "max-age=600")]),
    };
    let (origin, proxy) = shop("{}", script).await;
    let first = proxy.get("/").await.text();
    let stale = proxy.get("/").await;
    is_hit(stale.is(200));
    assert!(told(&stale).contains("ttl=-"), "{}", told(&stale));
    assert_eq!(stale.text(), first);
    until("the refreshed answer", || async {
        let now = proxy.get("/").await;
        is_hit(now.is(200));
        (now.text() != first).then_some(())
    })
    .await;
    assert_eq!(origin.requests(), 2, "one refresh, however many asked");
    let served = [("result", "stale_while_revalidate")];
    assert!(proxy.sum("outrider_cache_requests_total", &served).await >= 1.0);
}

#[tokio::test]
async fn what_others_said_of_their_caches_stands_first() {
    let fields = [
        ("Cache-Control", "max-age=600"),
        ("Cache-Status", "theirs; hit"),
    ];
    let (_origin, proxy) = shop("{}", move |asked| numbered(asked, &fields)).await;
    let reply = proxy.get("/").await;
    let all = reply.head.all("cache-status").join(", ");
    assert!(
        all.starts_with("theirs; hit, outrider; fwd=uri-miss"),
        "{all}"
    );
}
