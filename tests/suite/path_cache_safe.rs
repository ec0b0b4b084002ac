//! Whose an answer is: what is made for one caller, or provoked by one, is never given to another.
//!
//! Each test of a trick first shows that the origin falls for it, and then that the cache does not spread it.

use crate::path_cache::is_fetched;
use crate::path_cache::is_hit;
use crate::path_cache::numbered;
use crate::path_cache::shop;
use crate::path_cache::told;
use crate::support::call::Call;
use crate::support::origin::Act;
use crate::support::origin::Answer;
use crate::support::origin::Asked;

const MAX_AGE: [(&str, &str); 1] = [("Cache-Control", "max-age=600")];

/// An origin that repeats these request fields in its body and lets itself be cached.
fn reflecting(asked: &Asked<'_>, names: &[&str]) -> Act {
    let value = |name: &&str| asked.head.get(name).unwrap_or("-").to_owned();
    let values: Vec<String> = names.iter().map(value).collect();
    let text = format!("{} {}", asked.target, values.join(" "));
    Act::Answer(Answer::ok(text).field("Cache-Control", "max-age=600"))
}

fn as_user(target: &str, user: &str) -> Call {
    Call::get(target).field("Authorization", user)
}

#[tokio::test]
async fn answers_to_credentials_are_shared_only_on_the_origins_word() {
    let script = |asked: &Asked<'_>| match asked.target {
        "/public" => numbered(asked, &[("Cache-Control", "public, max-age=600")]),
        "/shared" => numbered(asked, &[("Cache-Control", "s-maxage=600")]),
        "/silent" => numbered(asked, &[]),
        _ => numbered(asked, &MAX_AGE),
    };
    let (_origin, proxy) = shop("{ get: 60s, ttl: { min: 60s } }", script).await;
    for (target, shared) in [
        ("/public", true),
        ("/shared", true),
        ("/own", false),
        ("/silent", false),
    ] {
        let ann = proxy.call(&as_user(target, "ann")).await.text();
        let bob = proxy.call(&as_user(target, "bob")).await.text();
        let nobody = proxy.get(target).await.text();
        assert_eq!((ann == bob, ann == nobody), (shared, shared), "{target}");
    }
    // What the policy alone calls fresh was kept for those without credentials, and is not given to those with.
    let kept = proxy.get("/silent").await;
    is_hit(&kept);
    assert_ne!(
        proxy.call(&as_user("/silent", "ann")).await.text(),
        kept.text()
    );
}

#[tokio::test]
async fn credentialed_off_leaves_credentials_alone_altogether() {
    let script = |asked: &Asked<'_>| numbered(asked, &[("Cache-Control", "public, max-age=600")]);
    let (_origin, proxy) = shop("{ credentialed: off }", script).await;
    let kept = proxy.get("/").await.text();
    for user in ["ann", "ann"] {
        let own = proxy.call(&as_user("/", user)).await;
        is_fetched(&own);
        assert_ne!(own.text(), kept);
    }
}

#[tokio::test]
async fn with_per_each_principal_has_a_cache_of_its_own() {
    let script = |asked: &Asked<'_>| reflecting(asked, &["authorization", "cookie"]);
    let (origin, proxy) = shop(
        "{ per: [\"header:authorization\", \"cookie:sid\"] }",
        script,
    )
    .await;
    for round in 0..2 {
        for user in ["ann", "bob"] {
            let reply = proxy.call(&as_user("/", user)).await;
            assert_eq!(reply.text(), format!("/ {user} -"), "{round}");
            let cookie = format!("theme=dark; sid={user}");
            let reply = proxy.call(&Call::get("/").field("Cookie", &cookie)).await;
            assert_eq!(reply.text(), format!("/ - {cookie}"), "{round}");
        }
        assert_eq!(proxy.get("/").await.text(), "/ - -", "{round}");
    }
    assert_eq!(origin.requests(), 5, "each once");
}

#[tokio::test]
async fn a_cookie_set_for_one_is_never_set_for_another() {
    let script = |asked: &Asked<'_>| {
        let session = format!("sid={}", asked.n);
        let fields = match asked.target {
            "/public" => "public, max-age=600",
            _ => "max-age=600",
        };
        numbered(
            asked,
            &[("Cache-Control", fields), ("Set-Cookie", &session)],
        )
    };
    let (_origin, proxy) = shop("{ get: 60s }", script).await;
    let (first, second) = (proxy.get("/").await, proxy.get("/").await);
    assert_ne!(first.get("set-cookie"), second.get("set-cookie"));
    let (_origin, proxy) = shop("{ cookies: ignore }", script).await;
    let (first, second) = (proxy.get("/").await, proxy.get("/").await);
    assert_eq!(first.get("set-cookie"), Some("sid=0"), "for who caused it");
    is_hit(&second);
    assert_eq!(
        (second.text(), second.get("set-cookie")),
        (first.text(), None)
    );
}

#[tokio::test]
async fn a_page_behind_a_cookie_is_not_kept_for_its_name() {
    // Deception: the application ignores what follows /account, and says nothing of caching.
    let script = |asked: &Asked<'_>| {
        let user = asked.head.get("cookie").unwrap_or("a stranger").to_owned();
        let answer = Answer::ok(format!("account of {user}"));
        Act::Answer(match asked.target {
            "/account/private.css" => answer.field("Cache-Control", "private"),
            _ => answer,
        })
    };
    let cache = "{ get: 60s, heuristic: 10%, negative: 10s, ttl: { min: 60s } }";
    let (_origin, proxy) = shop(cache, script).await;
    for target in [
        "/account/x.css",
        "/account/private.css",
        "/account;x.css",
        "/account%2Fx.js",
        "/account%00.png",
        "/account?x.ico",
    ] {
        let victim = Call::get(target).field("Cookie", "sid=ann");
        assert_eq!(
            proxy.call(&victim).await.text(),
            "account of sid=ann",
            "{target}"
        );
        assert_eq!(
            proxy.get(target).await.text(),
            "account of a stranger",
            "{target}"
        );
        assert_eq!(
            proxy.call(&victim).await.text(),
            "account of sid=ann",
            "{target}"
        );
    }
}

#[tokio::test]
async fn fields_that_frameworks_build_urls_from_are_in_the_key() {
    const TRICKS: [&str; 9] = [
        "X-Forwarded-Host",
        "X-Forwarded-Scheme",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Host",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Forwarded-Server",
        "X-HTTP-Host-Override",
    ];
    let script = |asked: &Asked<'_>| reflecting(asked, &TRICKS);
    let (_origin, proxy) = shop("{ get: 60s }", script).await;
    for (at, name) in TRICKS.iter().enumerate() {
        let target = format!("/{at}");
        let poison = Call::get(&target).field(name, "evil.example");
        let poisoned = proxy.call(&poison).await.text();
        let clean = proxy.get(&target).await.text();
        assert!(
            poisoned == clean || poisoned.contains("evil.example"),
            "{name}"
        );
        assert!(!clean.contains("evil.example"), "{name}: {clean}");
        is_hit(&proxy.get(&target).await);
    }
}

#[tokio::test]
async fn a_get_that_is_something_else_does_not_touch_what_is_kept() {
    let script = |asked: &Asked<'_>| {
        let method = asked
            .head
            .get("x-http-method-override")
            .unwrap_or(asked.method);
        let length = asked.head.get("content-length").unwrap_or("0");
        let text = format!("{method} {length}");
        Act::Answer(Answer::ok(text).field("Cache-Control", "max-age=600"))
    };
    let (_origin, proxy) = shop("{}", script).await;
    for name in [
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
    ] {
        is_fetched(&proxy.call(&Call::get("/").field(name, "POST")).await);
    }
    let fat = proxy.call(&Call::get("/").body("q=evil")).await;
    is_fetched(&fat);
    assert_eq!(fat.text(), "GET 6");
    let mut chunked = proxy.connect().await;
    chunked
        .send(b"GET / HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n")
        .await;
    is_fetched(&chunked.reply("GET").await);
    let clean = proxy.get("/").await;
    is_fetched(&clean);
    assert_eq!(clean.text(), "GET 0");
    // And what is kept is not given to one that asks with a body.
    is_fetched(&proxy.call(&Call::get("/").body("q=evil")).await);
}

#[tokio::test]
async fn urls_that_look_alike_are_not_the_same() {
    let script = |asked: &Asked<'_>| reflecting(asked, &["host"]);
    let (origin, proxy) = shop("{}", script).await;
    let targets = [
        "/a/b",
        "/a%2Fb",
        "/a%2fb",
        "/A/b",
        "/a//b",
        "/a/b/",
        "/a/b?",
        "/a/b?x=1&y=2",
        "/a/b?y=2&x=1",
        "/a/b;v=1",
        "/a/b%3Fx=1",
        "/a/b?x=%31",
    ];
    let mut fetched = Vec::new();
    for target in targets {
        fetched.push(proxy.get(target).await.text());
    }
    for (target, text) in targets.iter().zip(&fetched) {
        let again = proxy.get(target).await;
        is_hit(&again);
        assert_eq!(again.text(), *text, "{target}");
        assert!(text.starts_with(&format!("{target} ")), "{target}: {text}");
    }
    assert_eq!(origin.requests(), targets.len());
}

#[tokio::test]
async fn hosts_are_told_apart_by_port_and_not_by_case() {
    let script = |asked: &Asked<'_>| reflecting(asked, &["host"]);
    let (_origin, proxy) = shop("{}", script).await;
    let ask = async |host: &str| proxy.call(&Call::get("/").host(host)).await;
    let plain = ask("shop.test").await.text();
    for same in ["SHOP.test", "shop.test:80", "Shop.Test:80"] {
        let reply = ask(same).await;
        is_hit(reply.is(200));
        assert_eq!(reply.text(), plain, "{same}");
    }
    let other = ask("shop.test:8080").await;
    if other.status == 200 {
        assert_ne!(other.text(), plain);
    }
    assert_eq!(ask("shop.test").await.text(), plain);
}

#[tokio::test]
async fn a_refusal_that_one_request_provoked_is_not_kept() {
    // The origin has a smaller limit than we have, and says that its refusal may be cached.
    let script = |asked: &Asked<'_>| {
        let size = asked.head.get("x-oversized").map_or(0, str::len);
        let status = if size > 4000 { 400 } else { 200 };
        let answer = Answer::status(status).text(&status.to_string());
        Act::Answer(answer.field("Cache-Control", "public, max-age=600"))
    };
    let (_origin, proxy) = shop("{ get: 60s }", script).await;
    let oversized = Call::get("/").field("X-Oversized", &"x".repeat(5000));
    assert_eq!(proxy.call(&oversized).await.status, 400);
    assert_eq!(proxy.get("/").await.status, 200);
    let script = |asked: &Asked<'_>| {
        let status = asked
            .head
            .get("x-want")
            .map_or(200, |text| text.parse().expect("a status"));
        let answer = Answer::status(status).text(&status.to_string());
        Act::Answer(answer.field("Cache-Control", "public, max-age=600"))
    };
    let (_origin, proxy) = shop("{ get: 60s }", script).await;
    for status in ["412", "413", "416", "431"] {
        let target = format!("/{status}");
        let provoked = proxy
            .call(&Call::get(&target).field("X-Want", status))
            .await;
        assert_eq!(provoked.status.to_string(), status);
        assert_eq!(proxy.get(&target).await.status, 200, "{status}");
    }
}

#[tokio::test]
async fn the_headers_of_the_policy_are_in_the_key() {
    let script = |asked: &Asked<'_>| reflecting(asked, &["accept"]);
    let (origin, proxy) = shop("{ vary: [accept] }", script).await;
    for _ in 0..2 {
        for accept in ["text/html", "application/json"] {
            let reply = proxy.call(&Call::get("/").field("Accept", accept)).await;
            assert_eq!(reply.text(), format!("/ {accept}"));
        }
    }
    assert_eq!(origin.requests(), 2);
}

#[tokio::test]
async fn what_outrider_answers_itself_is_never_kept() {
    let script = |asked: &Asked<'_>| match asked.n {
        0 => Act::Silence,
        _ => numbered(asked, &MAX_AGE),
    };
    let cache = "{ get: 60s, negative: { statuses: [504, 503] } }\ntimeout: 200ms";
    let (_origin, proxy) = shop(cache, script).await;
    proxy
        .get("/")
        .await
        .is_own(504, &["deadline", "try_timeout"]);
    let reply = proxy.get("/").await;
    is_fetched(reply.is(200));
    assert!(told(&reply).contains("stored"), "{}", told(&reply));
}
