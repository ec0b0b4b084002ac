//! The admin port under people who should not give orders, and under clients that do not behave.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::support::call::Call;
use crate::support::call::HOST;
use crate::support::call::Reply;
use crate::support::client::Raw;
use crate::support::origin::Answer;
use crate::support::origin::Origin;
use crate::support::proxy::BINARY;
use crate::support::proxy::Proxy;
use crate::support::setup::Setup;
use crate::support::setup::write;
use crate::support::until;

const TOKEN: &str = "2b1c8d7e-first-token-of-the-operator";
const NEXT: &str = "9f0e4a3b-the-one-after-the-rotation";
const ORDER: &str = "/breaker/open?upstream=shop.test";

async fn guarded(dir: &Path) -> Proxy {
    let token = dir.join("token");
    write(&token, &format!("{TOKEN}\n"));
    let setup = Setup::shop(&["127.0.0.1:9".parse().expect("an address")], "breaker: {}");
    let line = format!("admin: {{ token: \"file:{}\" }}", token.display());
    setup.top(&line).start().await
}

async fn order(proxy: &Proxy, fields: &[(&str, &str)]) -> Reply {
    let mut call = Call::post(ORDER, "").host("outrider.shop:4759");
    for (name, value) in fields {
        call = call.field(name, value);
    }
    call.to(proxy.admin).await
}

#[tokio::test]
async fn with_a_token_orders_are_taken_from_whoever_carries_it_and_from_nobody_else() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let proxy = guarded(dir.path()).await;
    let right = format!("Bearer {TOKEN}");
    for fields in [
        &[][..],
        &[("Authorization", "Bearer")],
        &[("Authorization", "Bearer ")],
        &[("Authorization", "Bearer wrong")],
        &[("Authorization", TOKEN)],
        &[("Authorization", "Basic MmIxYzhkN2U=")],
        &[("Authorization", &right[..right.len() - 1])],
        &[("Authorization", &format!("{right}x"))],
        &[("Authorization", &right), ("Authorization", &right)],
    ] {
        let reply = order(&proxy, fields).await;
        assert_eq!(reply.status, 401, "{fields:?}: {}", reply.text());
        assert_eq!(
            reply.get("www-authenticate"),
            Some("Bearer realm=\"outrider\"")
        );
        assert!(!reply.text().contains(TOKEN));
    }
    let local = Call::post(ORDER, "")
        .host("127.0.0.1")
        .to(proxy.admin)
        .await;
    assert_eq!(local.status, 401, "loopback alone is not enough any more");
    let reply = order(&proxy, &[("Authorization", &right), ("Via", "1.1 a")]).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(
        order(&proxy, &[("authorization", &format!("bearer {TOKEN}"))])
            .await
            .status,
        200
    );
    let told: Vec<Value> = proxy
        .errors()
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["what"] == "admin")
        .collect();
    assert!(
        (1..4).contains(&told.len()),
        "told, and not each time: {told:?}"
    );
    assert!(!proxy.errors().concat().contains(TOKEN));
    for page in ["/", "/config", "/upstreams", "/metrics", "/live"] {
        let reply = proxy.page(page).await;
        assert_eq!(reply.status, 200, "reading needs no token: {page}");
        assert!(!reply.text().contains(TOKEN), "{page}");
    }
}

#[tokio::test]
async fn a_token_that_is_rotated_holds_at_once_and_one_that_cannot_be_read_lets_nobody_in() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let proxy = guarded(dir.path()).await;
    let with = |token: &str| format!("Bearer {token}");
    write(&dir.path().join("token"), NEXT);
    assert_eq!(
        order(&proxy, &[("Authorization", &with(TOKEN))])
            .await
            .status,
        401
    );
    assert_eq!(
        order(&proxy, &[("Authorization", &with(NEXT))])
            .await
            .status,
        200
    );
    for content in ["", "  \n", "short"] {
        write(&dir.path().join("token"), content);
        for token in ["", content.trim(), NEXT] {
            let reply = order(&proxy, &[("Authorization", &with(token))]).await;
            assert!(
                matches!(reply.status, 401 | 503),
                "{content:?} {token:?}: {}",
                reply.status
            );
        }
    }
    std::fs::remove_file(dir.path().join("token")).expect("it is there");
    let reply = order(&proxy, &[("Authorization", &with(NEXT))]).await;
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert_eq!(proxy.page("/live").await.status, 200);
}

#[tokio::test]
async fn commands_carry_the_token() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let proxy = guarded(dir.path()).await;
    let admin = proxy.admin.to_string();
    let file = dir.path().join("token").display().to_string();
    let run = |args: Vec<String>, token: Option<&'static str>| {
        let admin = admin.clone();
        tokio::task::spawn_blocking(move || {
            let mut command = std::process::Command::new(BINARY);
            command
                .args(["breaker", "open", HOST, "--admin", &admin])
                .args(args);
            command
                .env_remove("OUTRIDER_ADMIN_TOKEN")
                .stdin(Stdio::null());
            if let Some(token) = token {
                command.env("OUTRIDER_ADMIN_TOKEN", token);
            }
            command.output().expect("start outrider")
        })
    };
    let code = |output: std::process::Output| output.status.code();
    assert_eq!(run(vec![], None).await.map(code).ok(), Some(Some(1)));
    assert_eq!(run(vec![], Some(TOKEN)).await.map(code).ok(), Some(Some(0)));
    let by_file = vec!["--token-file".to_owned(), file];
    assert_eq!(run(by_file, None).await.map(code).ok(), Some(Some(0)));
}

#[tokio::test]
async fn no_page_shows_a_secret() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let secrets = [
        "s3cret-of-the-admin-0123456789",
        "s3cret-in-the-query",
        "s3cret-in-a-header",
    ];
    write(&dir.path().join("token"), secrets[0]);
    let origin = Origin::always(Answer::ok("x")).await;
    let setup = Setup::shop(&[origin.addr], "cache: {}\nretry: {}")
        .inbound(&format!("app: {}, mode: permissive", origin.addr.port()))
        .top(&format!(
            "admin: \"file:{}\"",
            dir.path().join("token").display()
        ));
    let proxy = setup.start().await;
    let call = Call::get("/a?token=s3cret-in-the-query")
        .field("Authorization", "Bearer s3cret-in-a-header")
        .field("Cookie", "sid=s3cret-in-a-header")
        .field("X-Api-Key", "s3cret-in-a-header");
    call.to(proxy.outbound).await.is(200);
    call.to(proxy.inbound).await.is(200);
    order(&proxy, &[("Authorization", "Bearer s3cret-in-a-header")]).await;
    proxy
        .logged("both", |line| line["direction"] == "inbound")
        .await;
    let pages = [
        "/",
        "/config",
        "/upstreams",
        "/inbound",
        "/faults",
        "/cache",
        "/metrics",
        "/nothing",
    ];
    let mut shown = proxy.errors().concat();
    for line in proxy.log() {
        shown.push_str(&line.to_string());
    }
    for page in pages {
        shown.push_str(&proxy.page(page).await.text());
    }
    for secret in secrets {
        assert!(!shown.contains(secret), "{secret}");
    }
    let config: Value = serde_json::from_str(&proxy.page("/config").await.text()).expect("JSON");
    let token = &config["global"]["admin.token"]["value"];
    assert_eq!(token, "***", "it says that there is one");
}

#[tokio::test]
async fn clients_that_do_not_behave_do_not_shut_others_out() {
    let proxy = Setup::shop(&["127.0.0.1:9".parse().expect("an address")], "")
        .start()
        .await;
    let mut huge = Raw::connect(proxy.admin).await;
    huge.offer(
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
            "y".repeat(20_000)
        )
        .as_bytes(),
    )
    .await;
    let refused = huge.try_reply("GET").await.ok().flatten();
    assert!(refused.is_none_or(|reply| reply.status == 431));
    let many = "X-Y: z\r\n".repeat(100);
    let mut many_fields = Raw::connect(proxy.admin).await;
    many_fields
        .offer(format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n").as_bytes())
        .await;
    let refused = many_fields.try_reply("GET").await.ok().flatten();
    assert!(refused.is_none_or(|reply| reply.status == 431));
    // More than there are places, none of which says a whole head.
    let mut slow = Vec::new();
    for _ in 0..80 {
        let mut raw = Raw::connect(proxy.admin).await;
        raw.offer(b"GET /live HTTP/1.1\r\nHost: a\r\n").await;
        slow.push(raw);
    }
    until("a probe gets through", || async {
        let mut raw = Raw::try_connect(proxy.admin).await.ok()?;
        raw.offer(b"GET /live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .await;
        let reply = raw.try_reply("GET").await.ok()??;
        (reply.status == 200).then_some(())
    })
    .await;
}
