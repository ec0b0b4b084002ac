//! What a client asks of a kept answer, and what is asked about it: validators, conditions, HEAD, ranges, and `Vary`.

use crate::path_cache::is_fetched;
use crate::path_cache::is_hit;
use crate::path_cache::numbered;
use crate::path_cache::shop;
use crate::path_cache::told;
use crate::path_cache::with;
use crate::support::call::Call;
use crate::support::origin::Act;
use crate::support::origin::Answer;
use crate::support::origin::Asked;

#[tokio::test]
async fn a_stale_answer_is_asked_for_by_its_validators() {
    let script = |asked: &Asked<'_>| {
        let old = [("Cache-Control", "max-age=1"), ("Age", "9")];
        match asked.head.get("if-none-match") {
            None => Act::Answer(
                with(Answer::ok("body"), &old)
                    .field("ETag", "\"v1\"")
                    .field("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
                    .field("X-Round", "0"),
            ),
            Some(_) => Act::Answer(
                Answer::status(304)
                    .field("ETag", "\"v1\"")
                    .field("Cache-Control", "max-age=600")
                    .field("X-Round", "1"),
            ),
        }
    };
    let (origin, proxy) = shop("{}", script).await;
    proxy.get("/").await.is(200);
    let second = proxy.get("/").await;
    second.is(200);
    let said = told(&second);
    assert!(
        said.contains("fwd=stale") && said.contains("fwd-status=304"),
        "{said}"
    );
    assert_eq!(
        (second.text().as_str(), second.get("x-round")),
        ("body", Some("1"))
    );
    let seen = origin.seen();
    assert_eq!(seen[1].head.get("if-none-match"), Some("\"v1\""));
    assert_eq!(
        seen[1].head.get("if-modified-since"),
        Some("Thu, 01 Jan 2026 00:00:00 GMT")
    );
    let third = proxy.get("/").await;
    is_hit(third.is(200));
    assert_eq!((third.text().as_str(), origin.requests()), ("body", 2));
    let counted = [("result", "not_modified")];
    assert_eq!(
        proxy
            .sum("outrider_cache_revalidations_total", &counted)
            .await,
        1.0
    );
}

#[tokio::test]
async fn another_answer_takes_the_place_of_a_stale_one() {
    let fields = [
        ("Cache-Control", "max-age=1"),
        ("Age", "9"),
        ("ETag", "\"v\""),
    ];
    let (origin, proxy) = shop("{}", move |asked| numbered(asked, &fields)).await;
    let (first, second) = (proxy.get("/").await, proxy.get("/").await);
    assert_ne!(first.text(), second.text());
    assert_eq!(origin.seen()[1].head.get("if-none-match"), Some("\"v\""));
}

#[tokio::test]
async fn a_clients_own_condition_is_answered_from_what_is_kept() {
    let fields = [
        ("Cache-Control", "max-age=600"),
        ("ETag", "\"v1\""),
        ("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT"),
    ];
    let (origin, proxy) = shop("{}", move |asked| numbered(asked, &fields)).await;
    proxy.get("/").await.is(200);
    for (name, value, status) in [
        ("If-None-Match", "\"v1\"", 304),
        ("If-None-Match", "W/\"v1\"", 304),
        ("If-None-Match", "\"x\", \"v1\"", 304),
        ("If-None-Match", "*", 304),
        ("If-None-Match", "\"v2\"", 200),
        ("If-Modified-Since", "Thu, 01 Jan 2026 00:00:00 GMT", 304),
        ("If-Modified-Since", "Wed, 31 Dec 2025 00:00:00 GMT", 200),
    ] {
        let reply = proxy.call(&Call::get("/").field(name, value)).await;
        is_hit(reply.is(status));
        assert_eq!(reply.get("etag"), Some("\"v1\""), "{name}: {value}");
        assert_eq!(
            reply.body.content.is_empty(),
            status == 304,
            "{name}: {value}"
        );
    }
    let both = Call::get("/")
        .field("If-None-Match", "\"v2\"")
        .field("If-Modified-Since", "Thu, 01 Jan 2026 00:00:00 GMT");
    is_hit(proxy.call(&both).await.is(200));
    assert_eq!(origin.requests(), 1);
    let precondition = Call::get("/").field("If-Match", "\"v1\"");
    is_fetched(proxy.call(&precondition).await.is(200));
}

#[tokio::test]
async fn head_is_answered_from_a_kept_get_and_never_the_other_way_round() {
    let fields = [("Cache-Control", "max-age=600")];
    let (origin, proxy) = shop("{}", move |asked| numbered(asked, &fields)).await;
    proxy.call(&Call::new("HEAD", "/")).await.is(200);
    let get = proxy.get("/").await;
    is_fetched(get.is(200));
    let head = proxy.call(&Call::new("HEAD", "/")).await;
    is_hit(head.is(200));
    assert!(head.body.content.is_empty());
    assert_eq!(head.get("content-length"), get.get("content-length"));
    assert_eq!(origin.requests(), 2);
}

#[tokio::test]
async fn a_range_is_cut_from_a_kept_whole() {
    let script = |_: &Asked<'_>| {
        let fields = [("Cache-Control", "max-age=600"), ("ETag", "\"v1\"")];
        Act::Answer(with(Answer::ok("0123456789"), &fields))
    };
    let (origin, proxy) = shop("{}", script).await;
    proxy.get("/").await.is(200);
    for (range, status, text, content_range) in [
        ("bytes=0-3", 206, "0123", Some("bytes 0-3/10")),
        ("bytes=8-", 206, "89", Some("bytes 8-9/10")),
        ("bytes=-3", 206, "789", Some("bytes 7-9/10")),
        ("bytes=5-99", 206, "56789", Some("bytes 5-9/10")),
        ("bytes=0-1,4-5", 200, "0123456789", None),
        ("lines=0-1", 200, "0123456789", None),
        ("bytes=5-2", 200, "0123456789", None),
    ] {
        let reply = proxy.call(&Call::get("/").field("Range", range)).await;
        is_hit(reply.is(status));
        assert_eq!(
            (reply.text().as_str(), reply.get("content-range")),
            (text, content_range),
            "{range}"
        );
    }
    let beyond = proxy
        .call(&Call::get("/").field("Range", "bytes=10-"))
        .await;
    assert_eq!(
        (beyond.status, beyond.get("content-range")),
        (416, Some("bytes */10"))
    );
    for (tag, status) in [("\"v1\"", 206), ("\"v2\"", 200), ("W/\"v1\"", 200)] {
        let call = Call::get("/")
            .field("Range", "bytes=0-3")
            .field("If-Range", tag);
        is_hit(proxy.call(&call).await.is(status));
    }
    assert_eq!(origin.requests(), 1);
}

#[tokio::test]
async fn a_part_is_never_kept_as_the_whole() {
    let script = |asked: &Asked<'_>| match asked.head.get("range") {
        Some(_) => Act::Answer(
            Answer::status(206)
                .text("0123")
                .field("Content-Range", "bytes 0-3/10")
                .field("Cache-Control", "max-age=600"),
        ),
        None => numbered(asked, &[("Cache-Control", "max-age=600")]),
    };
    let (_origin, proxy) = shop("{ get: 60s }", script).await;
    let part = proxy
        .call(&Call::get("/").field("Range", "bytes=0-3"))
        .await;
    assert_eq!((part.status, part.text().as_str()), (206, "0123"));
    let whole = proxy.get("/").await;
    is_fetched(whole.is(200));
    assert_ne!(whole.text(), "0123");
}

#[tokio::test]
async fn variants_are_told_apart_by_what_the_origin_varies_on() {
    let script = |asked: &Asked<'_>| {
        let language = asked.head.get("accept-language").unwrap_or("none");
        Act::Answer(
            Answer::ok(format!("in {language}"))
                .field("Cache-Control", "max-age=600")
                .field("Vary", "Accept-Language"),
        )
    };
    let (origin, proxy) = shop("{}", script).await;
    let ask = async |language: Option<&str>| match language {
        Some(language) => {
            proxy
                .call(&Call::get("/").field("Accept-Language", language))
                .await
        }
        None => proxy.get("/").await,
    };
    for language in [Some("de"), Some("en"), None] {
        is_fetched(ask(language).await.is(200));
    }
    for (language, text) in [
        (Some("de"), "in de"),
        (Some("en"), "in en"),
        (None, "in none"),
    ] {
        let reply = ask(language).await;
        is_hit(reply.is(200));
        assert_eq!(reply.text(), text);
    }
    assert_eq!(origin.requests(), 3);
    let other = ask(Some("fr")).await;
    assert!(told(&other).contains("fwd=vary-miss"), "{}", told(&other));
    // The same said otherwise.
    for alike in ["de", " de", "DE"] {
        is_hit(ask(Some(alike)).await.is(200));
    }
}
