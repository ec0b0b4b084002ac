//! The layer: who fetches, who waits, and what is left in the store.

use super::bench::*;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderName;
use http_body_util::BodyExt;
use tower::Layer;
use tower::Service;

use crate::clock;
use crate::http::Call;
use crate::http::Fault;
use crate::http::Reason;
use crate::http::RequestBody;
use crate::http::ResponseBody;
use crate::http::Trail;
use crate::kit::mode::Mode;
use crate::policy::cache::CacheLayer;
use crate::policy::cache::Guard;
use crate::policy::cache::Purge;
use crate::policy::cache::Settings;
use crate::policy::cache::config::Principal;
use crate::policy::cache::metrics::Metrics;
use crate::telemetry::BuildInfo;
use crate::telemetry::Telemetry;

#[tokio::test(start_paused = true)]
async fn off_passes_on_and_says_nothing() {
    let upstream = Upstream::default();
    upstream.answers(ok("a", FRESH));
    let (head, ()) = request("GET", "/", &[]).into_parts();
    let call = Call {
        head: Box::new(head),
        body: RequestBody::Empty,
        trail: Rc::new(Trail::new(clock::now())),
    };
    let got = read(CacheLayer::new(None).layer(upstream).call(call).await).await;
    assert_eq!((got.text.as_str(), got.told.as_str()), ("a", ""));
}

#[tokio::test(start_paused = true)]
async fn what_was_fetched_answers_the_next() {
    locally(async {
        let bench = Bench::new(Settings::default());
        bench.upstream.answers(ok("a", FRESH));
        assert_eq!(
            bench.get("/", &[]).await.told,
            "outrider; fwd=uri-miss; stored"
        );
        tokio::time::advance(Duration::from_secs(20)).await;
        let got = bench.get("/", &[]).await;
        assert_eq!(
            (got.text.as_str(), got.told.as_str()),
            ("a", "outrider; hit; ttl=40")
        );
        assert_eq!(bench.upstream.count(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_get_what_one_fetched() {
    locally(async {
        let bench = Bench::new(Settings::default());
        let say = bench.upstream.waits();
        let waiting: Vec<_> = (0..100).map(|_| bench.send("/")).collect();
        settle().await;
        tell(say, ok("a", FRESH));
        for got in waiting {
            assert_eq!(got.await.expect("no panic").text, "a");
        }
        assert_eq!(bench.upstream.count(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn they_read_along_while_it_arrives_whoever_reads_slowly_or_leaves() {
    locally(async {
        let bench = Bench::new(Settings::default());
        let (pen, body) = body_of(Some(6));
        bench.upstream.answers(with(body, 200, FRESH));
        // Whoever fetches never reads its body, and then leaves.
        let first = bench
            .begin(request("GET", "/", &[]))
            .await
            .expect("a response");
        let second = bench
            .begin(request("GET", "/", &[]))
            .await
            .expect("a response");
        let mut second = second.into_body();
        pen.try_send(Ok(Bytes::from_static(b"abc")))
            .expect("there is room");
        let frame = second.frame().await.expect("a part").expect("whole");
        assert_eq!(frame.into_data().ok().as_deref(), Some(&b"abc"[..]));
        drop(first);
        pen.try_send(Ok(Bytes::from_static(b"def")))
            .expect("there is room");
        drop(pen);
        let rest = second.collect().await.expect("whole").to_bytes();
        assert_eq!(rest, "def");
        settle().await;
        assert!(bench.get("/", &[]).await.told.contains("hit"));
        assert_eq!(bench.upstream.count(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn another_takes_over_where_the_fetcher_leaves_before_the_head() {
    locally(async {
        let bench = Bench::new(Settings::default());
        let _never = bench.upstream.waits();
        let first = bench.send("/");
        settle().await;
        let others: Vec<_> = (0..10).map(|_| bench.send("/")).collect();
        settle().await;
        bench.upstream.answers(ok("a", FRESH));
        first.abort();
        for got in others {
            assert_eq!(got.await.expect("no panic").text, "a");
        }
        assert_eq!(bench.upstream.count(), 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_fetch_fails_nobody_else() {
    locally(async {
        let bench = Bench::new(Settings::default());
        let say = bench.upstream.waits();
        let first = bench.send("/");
        settle().await;
        let others: Vec<_> = (0..10).map(|_| bench.send("/")).collect();
        settle().await;
        bench.upstream.answers(ok("a", FRESH));
        let fault = Fault::maybe_sent(Reason::Reset);
        assert!(say.send(Err(fault)).is_ok());
        assert_eq!(first.await.expect("no panic").text, "reset");
        for got in others {
            assert_eq!(got.await.expect("no panic").text, "a");
        }
        assert_eq!(bench.upstream.count(), 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_not_for_others_releases_them_and_is_remembered_for_a_while() {
    const OWN: &[(&str, &str)] = &[("cache-control", "no-store")];
    locally(async {
        let bench = Bench::new(Settings::default());
        let say = bench.upstream.waits();
        let first = bench.send("/");
        settle().await;
        let second = bench.send("/");
        settle().await;
        assert_eq!(bench.upstream.count(), 1);
        bench.upstream.answers(ok("b", OWN));
        // The body of the first is still to come when the second is let go.
        let (pen, body) = body_of(None);
        tell(say, with(body, 200, OWN));
        assert_eq!(second.await.expect("no panic").text, "b");
        pen.try_send(Ok(Bytes::from_static(b"a")))
            .expect("there is room");
        drop(pen);
        assert_eq!(first.await.expect("no panic").text, "a");

        let _says = [bench.upstream.waits(), bench.upstream.waits()];
        let _waiting = [bench.send("/"), bench.send("/")];
        settle().await;
        assert_eq!(bench.upstream.count(), 4, "nobody waits for another");
        tokio::time::advance(Duration::from_secs(31)).await;
        let _say = bench.upstream.waits();
        let _waiting = [bench.send("/"), bench.send("/")];
        settle().await;
        assert_eq!(bench.upstream.count(), 5, "it was forgotten");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_policy_says() {
    locally(async {
        let bench = Bench::new(Settings {
            collapse: Some(Duration::from_secs(2)),
            ..Settings::default()
        });
        let _never = bench.upstream.waits();
        let _first = bench.send("/");
        settle().await;
        bench.upstream.answers(ok("b", FRESH));
        let began = clock::now();
        assert_eq!(bench.get("/", &[]).await.text, "b");
        assert_eq!(clock::now() - began, Duration::from_secs(2));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn other_variants_do_not_wait_for_this_one() {
    const VARIES: &[(&str, &str)] = &[("cache-control", "max-age=60"), ("vary", "x-lang")];
    locally(async {
        let bench = Bench::new(Settings::default());
        let say = bench.upstream.waits();
        let say_en = bench.upstream.waits();
        let get = |lang| {
            let future = bench.begin(request("GET", "/", &[("x-lang", lang)]));
            tokio::task::spawn_local(async move { read(future.await).await })
        };
        let de = [get("de"), get("de")];
        let en = [get("en"), get("en")];
        settle().await;
        assert_eq!(bench.upstream.count(), 1, "nothing is known of variants");
        tell(say, ok("de", VARIES));
        settle().await;
        assert_eq!(bench.upstream.count(), 2, "one fetch for the other variant");
        tell(say_en, ok("en", VARIES));
        for (calls, text) in [(de, "de"), (en, "en")] {
            for got in calls {
                assert_eq!(got.await.expect("no panic").text, text);
            }
        }
        assert_eq!(bench.upstream.count(), 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn half_a_body_is_not_kept_and_breaks_for_all_who_read_it() {
    locally(async {
        let bench = Bench::new(Settings::default());
        let (pen, body) = body_of(Some(6));
        bench.upstream.answers(with(body, 200, FRESH));
        let calls = [bench.send("/"), bench.send("/")];
        pen.try_send(Ok(Bytes::from_static(b"abc")))
            .expect("there is room");
        let fault = Fault::maybe_sent(Reason::ResponseAborted);
        pen.try_send(Err(fault)).expect("there is room");
        for got in calls {
            assert!(got.await.expect("no panic").broke);
        }
        // The half that came answers who wants no more than that.
        let range = [("range", "bytes=1-2")];
        assert_eq!(bench.get("/", &range).await.text, "bc");
        assert_eq!(bench.upstream.count(), 1);
        bench.upstream.answers(ok("abcdef", FRESH));
        assert_eq!(bench.get("/", &[]).await.text, "abcdef");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_grows_too_large_goes_on_to_its_fetcher_alone() {
    locally(async {
        let bench = Bench::new(Settings {
            max_body: 4,
            ..Settings::default()
        });
        let (pen, body) = body_of(None);
        bench.upstream.answers(with(body, 200, FRESH));
        let first = bench.send("/");
        settle().await;
        let second = bench.send("/");
        settle().await;
        assert_eq!(bench.upstream.count(), 1);
        bench.upstream.answers(ok("own", FRESH));
        for part in ["abc", "def", "ghi"] {
            pen.try_send(Ok(Bytes::from_static(part.as_bytes())))
                .expect("there is room");
            settle().await;
        }
        drop(pen);
        assert_eq!(first.await.expect("no panic").text, "abcdefghi");
        assert_eq!(second.await.expect("no panic").text, "own");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_was_fetched_before_a_change_is_not_kept_after_it() {
    for purge in [false, true] {
        locally(async {
            let bench = Bench::new(Settings::default());
            let say = bench.upstream.waits();
            let old = bench.send("/");
            settle().await;
            if purge {
                bench
                    .store
                    .purge(&Purge::Tag("any".into()), false, clock::now());
            } else {
                bench.upstream.answers(ok("", &[]));
                read(bench.begin(request("POST", "/", &[])).await).await;
            }
            let later = bench.upstream.waits();
            let new = bench.send("/");
            settle().await;
            tell(say, ok("old", FRESH));
            assert_eq!(old.await.expect("no panic").text, "old");
            tell(later, ok("new", FRESH));
            assert_eq!(new.await.expect("no panic").text, "new");
            assert_eq!(bench.get("/", &[]).await.text, "new", "{purge}");
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_is_one_for_all_principals_and_so_is_a_purge() {
    locally(async {
        let bench = Bench::new(Settings {
            per: vec![Principal::parse("header:x-user").expect("it is one")],
            ..Settings::default()
        });
        let keep = async |text: &'static str| {
            for user in ["a", "b"] {
                bench.upstream.answers(ok(text, FRESH));
                assert_eq!(bench.get("/x", &[("x-user", user)]).await.text, text);
                assert!(
                    bench
                        .get("/x", &[("x-user", user)])
                        .await
                        .told
                        .contains("hit")
                );
            }
        };
        keep("1").await;
        bench.upstream.answers(ok("", &[]));
        read(bench.begin(request("POST", "/x", &[("x-user", "a")])).await).await;
        keep("2").await;
        let url = Purge::Url(b"http://shop/x".as_slice().into());
        assert_eq!(bench.store.purge(&url, false, clock::now()), 2);
        keep("3").await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_soft_purge_asks_the_upstream_again() {
    const TAGGED: &[(&str, &str)] = &[
        ("cache-control", "max-age=60"),
        ("etag", "\"a\""),
        ("surrogate-key", "shoes red"),
    ];
    locally(async {
        let bench = Bench::new(Settings {
            tags: Some(HeaderName::from_static("surrogate-key")),
            strip_tags: true,
            ..Settings::default()
        });
        bench.upstream.answers(ok("a", TAGGED));
        bench.get("/", &[]).await;
        let blue = Purge::Tag("blue".into());
        assert_eq!(bench.store.purge(&blue, true, clock::now()), 0);
        let red = Purge::Tag("red".into());
        assert_eq!(bench.store.purge(&red, true, clock::now()), 1);
        bench
            .upstream
            .answers(with(ResponseBody::empty(), 304, &[("etag", "\"a\"")]));
        let got = bench.get("/", &[]).await;
        assert_eq!((got.status, got.text.as_str()), (200, "a"));
        assert!(got.told.contains("fwd-status=304"), "{}", got.told);
        // The tags outlive the validation, though no client sees them.
        assert_eq!(bench.store.purge(&red, false, clock::now()), 1);
        assert!(bench.store.is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stale_answer_stands_in_for_every_fault() {
    const STALE: &[(&str, &str)] = &[("cache-control", "max-age=0"), ("etag", "\"a\"")];
    locally(async {
        let bench = Bench::new(Settings {
            stale_if_error: Some(Duration::from_secs(60)),
            ..Settings::default()
        });
        bench.upstream.answers(ok("a", STALE));
        bench.get("/", &[]).await;
        for reason in [
            Reason::BreakerOpen,
            Reason::Deadline,
            Reason::TryTimeout,
            Reason::BulkheadFull,
            Reason::Limit,
            Reason::ConnectRefused,
            Reason::NoEndpoint,
            Reason::DnsFailed,
            Reason::Reset,
        ] {
            bench.upstream.fails(reason);
            let got = bench.get("/", &[]).await;
            let detail = format!("detail={}", reason.word());
            assert_eq!((got.status, got.text.as_str()), (200, "a"), "{reason}");
            assert!(got.told.ends_with(&detail), "{}", got.told);
        }
        tokio::time::advance(Duration::from_secs(61)).await;
        bench.upstream.fails(Reason::BreakerOpen);
        assert_eq!(bench.get("/", &[]).await.text, "breaker_open");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn one_refreshes_behind_the_backs_of_all() {
    locally(async {
        let bench = Bench::new(Settings {
            stale_while_revalidate: Some(Duration::from_secs(60)),
            ..Settings::default()
        });
        bench
            .upstream
            .answers(ok("old", &[("cache-control", "max-age=1")]));
        bench.get("/", &[]).await;
        tokio::time::advance(Duration::from_secs(5)).await;
        let say = bench.upstream.waits();
        for _ in 0..10 {
            assert_eq!(bench.get("/", &[]).await.text, "old");
        }
        settle().await;
        assert_eq!(bench.upstream.count(), 2);
        tell(say, ok("new", FRESH));
        settle().await;
        assert_eq!(bench.get("/", &[]).await.text, "new");
        assert_eq!(bench.upstream.count(), 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_304_that_means_another_answer_is_asked_again_without_condition() {
    locally(async {
        let bench = Bench::new(Settings::default());
        let fields = &[("cache-control", "max-age=0"), ("etag", "\"a\"")];
        bench.upstream.answers(ok("a", fields));
        bench.get("/", &[]).await;
        bench
            .upstream
            .answers(with(ResponseBody::empty(), 304, &[("etag", "\"z\"")]));
        bench.upstream.answers(ok("z", fields));
        assert_eq!(bench.get("/", &[]).await.text, "z");
        let asked = bench.upstream.asked.borrow();
        let conditions = asked
            .iter()
            .map(|head| head.headers.contains_key("if-none-match"));
        assert_eq!(conditions.collect::<Vec<_>>(), [false, true, false]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn shadow_asks_the_upstream_each_time_and_changes_nothing() {
    locally(async {
        let bench = Bench::new(Settings {
            mode: Mode::Shadow,
            ..Settings::default()
        });
        for text in ["1", "2", "3"] {
            bench.upstream.answers(ok(text, FRESH));
            let got = bench.get("/", &[("if-none-match", "\"c\"")]).await;
            assert_eq!((got.text.as_str(), got.told.as_str()), (text, ""));
        }
        let asked = bench.upstream.asked.borrow();
        let own = |head: &http::request::Parts| head.headers.get("if-none-match").cloned();
        assert!(
            asked
                .iter()
                .all(|head| own(head).is_some_and(|tag| tag == "\"c\""))
        );
        let described = bench.guard.describe();
        assert_eq!(
            (&described["calls"], &described["hits"]),
            (&3.into(), &2.into())
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_route_without_a_cache_lets_go_what_its_neighbours_keep() {
    locally(async {
        let bench = Bench::new(Settings::default());
        bench.upstream.answers(ok("a", FRESH));
        bench.get("/", &[]).await;
        let telemetry = Telemetry::new(
            BuildInfo {
                version: "",
                commit: "",
            },
            1,
        );
        let metrics = Metrics::new(&telemetry, "shop", "POST /");
        let guard = Guard::watching(Arc::clone(&bench.store), metrics);
        let mut neighbour = CacheLayer::new(Some(guard)).layer(bench.upstream.clone());
        bench.upstream.answers(ok("posted", &[]));
        let (head, ()) = request("POST", "/", &[]).into_parts();
        let got = neighbour.call(Call {
            head: Box::new(head),
            body: RequestBody::Empty,
            trail: Rc::new(Trail::new(clock::now())),
        });
        let got = read(got.await).await;
        assert_eq!((got.text.as_str(), got.told.as_str()), ("posted", ""));
        assert!(bench.store.is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_trail_has_the_arithmetic_of_what_was_answered() {
    locally(async {
        let bench = Bench::new(Settings::default());
        let aged = [("cache-control", "max-age=60"), ("age", "20")];
        bench.upstream.answers(ok("a", &aged));
        let (fetched, trail) = bench.traced("/");
        read(fetched.await).await;
        let first = trail.kept.get().expect("it may be kept");
        assert_eq!(
            (first.age, first.lifetime, first.source, first.stored),
            (
                Duration::from_secs(20),
                Duration::from_secs(60),
                "max-age",
                true
            )
        );
        tokio::time::advance(Duration::from_secs(10)).await;
        let (hit, trail) = bench.traced("/");
        read(hit.await).await;
        let second = trail.kept.get().expect("it is kept");
        assert_eq!(
            (second.key, second.age, second.is_fresh()),
            (first.key, Duration::from_secs(30), true)
        );
        bench
            .upstream
            .answers(ok("b", &[("cache-control", "no-store")]));
        let (passed, trail) = bench.traced("/other");
        read(passed.await).await;
        assert_eq!(trail.kept.get(), None);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn that_it_is_kept_is_not_said_before_it_is_certain() {
    locally(async {
        let bench = Bench::new(Settings::default());
        for (length, certain) in [(Some(3), true), (None, false)] {
            let (pen, body) = body_of(length);
            bench.upstream.answers(with(body, 200, FRESH));
            let path = format!("/{certain}");
            let call = bench.send(&path);
            pen.send(Ok(Bytes::from_static(b"abc")))
                .await
                .expect("read");
            drop(pen);
            let got = call.await.expect("no panic");
            assert_eq!(got.told.contains("; stored"), certain, "{}", got.told);
            assert!(bench.get(&path, &[]).await.told.contains("; hit"));
        }
    })
    .await;
}
