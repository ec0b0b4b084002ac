//! Tokens by the client-credentials grant: asked for once, renewed in time, and what happens when there is none.

use std::time::Duration;

use tempfile::TempDir;

use crate::support::STEP;
use crate::support::call::Call;
use crate::support::oauth::Mood;
use crate::support::oauth::OAuth;
use crate::support::origin::Answer;
use crate::support::origin::Gate;
use crate::support::origin::Origin;
use crate::support::ports;
use crate::support::proxy::Proxy;
use crate::support::setup::Setup;
use crate::support::until;

const HOUR: Mood = Mood::Grants("\"expires_in\":3600");
/// With characters that a form, `Basic` and JSON would each read differently.
const SECRET: &str = "p@ss word:+/&=%";

struct Bench {
    origin: Origin,
    keys: TempDir,
}

impl Bench {
    async fn new() -> Self {
        let keys = TempDir::new().expect("a folder");
        std::fs::write(keys.path().join("shop"), SECRET).expect("a key");
        Self {
            origin: Origin::always(Answer::ok("x")).await,
            keys,
        }
    }

    /// `more`: further keys of `oauth2`.
    fn setup(&self, url: &str, more: &str, settings: &str) -> Setup {
        let secret = self.keys.path().join("shop");
        Setup::shop(
            &[self.origin.addr],
            &format!(
                "credential:\n  oauth2:\n    token_url: {url}\n    client_id: shop\n    client_secret: file:{}\n{more}\n{settings}",
                secret.display()
            ),
        )
    }

    async fn start(&self, oauth: &OAuth, more: &str) -> Proxy {
        self.setup(&oauth.url(), more, "").start().await
    }

    fn sent(&self) -> Vec<String> {
        let seen = self.origin.seen();
        let value = |seen: &crate::support::origin::Seen| {
            seen.head.get("authorization").unwrap_or("-").to_owned()
        };
        seen.iter().map(value).collect()
    }
}

async fn failed(proxy: &Proxy, error: &str) {
    let labels = [("error", error)];
    proxy
        .until_sum("outrider_credential_errors_total", &labels, |sum| {
            sum >= 1.0
        })
        .await;
}

#[tokio::test]
async fn calls_wait_for_the_first_token_and_one_request_serves_them_all() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    let oauth = OAuth::start(Mood::Waits(gate.clone())).await;
    let proxy = bench
        .start(&oauth, "    scope: [read, write]\n    audience: pay")
        .await;
    let call = Call::get("/");
    let calls = proxy.at_once(20, &call);
    let opening = async {
        until("the token is asked for", || async {
            (oauth.requests() > 0).then_some(())
        })
        .await;
        proxy
            .until_sum("outrider_requests_in_flight", &[], |sum| sum >= 20.0)
            .await;
        assert_eq!(bench.origin.requests(), 0, "none goes without it");
        gate.open();
    };
    let (replies, ()) = tokio::join!(calls, opening);
    for reply in &replies {
        reply.is(200);
    }
    assert_eq!(bench.sent(), ["Bearer token-1"; 20]);
    assert_eq!(oauth.requests(), 1);
    let asked = &oauth.seen()[0];
    assert_eq!(
        (asked.method.as_str(), asked.target.as_str()),
        ("POST", "/token")
    );
    assert_eq!(
        asked.head.get("authorization"),
        Some("Basic c2hvcDpwJTQwc3Mrd29yZCUzQSUyQiUyRiUyNiUzRCUyNQ==")
    );
    assert_eq!(
        String::from_utf8_lossy(&asked.body.content),
        "grant_type=client_credentials&scope=read+write&audience=pay"
    );
}

#[tokio::test]
async fn a_client_may_show_its_secret_in_the_form() {
    let bench = Bench::new().await;
    let oauth = OAuth::start(HOUR).await;
    let proxy = bench.start(&oauth, "    auth: form").await;
    proxy.get("/").await.is(200);
    let asked = &oauth.seen()[0];
    assert_eq!(asked.head.get("authorization"), None);
    assert_eq!(
        String::from_utf8_lossy(&asked.body.content),
        "grant_type=client_credentials&client_id=shop&client_secret=p%40ss+word%3A%2B%2F%26%3D%25"
    );
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends_and_no_call_notices() {
    let bench = Bench::new().await;
    let oauth = OAuth::start(Mood::Grants("\"expires_in\":\"2\"")).await;
    let proxy = bench.start(&oauth, "").await;
    until("a third token", || async {
        proxy.get("/").await.is(200);
        (bench.sent().last().map(String::as_str) == Some("Bearer token-3")).then_some(())
    })
    .await;
    let tokens = bench.sent();
    assert!(tokens.is_sorted(), "never an old one after a new one");
    assert_eq!(oauth.requests(), 3);
    let renewals = proxy.sum("outrider_credential_renewals_total", &[]).await;
    assert_eq!(renewals, 3.0);
    let expires = proxy
        .sum("outrider_credential_expires_timestamp_seconds", &[])
        .await;
    assert!(expires > 1e9);
    let page = proxy.page("/upstreams").await.text();
    assert!(page.contains("\"expires_in_s\":"), "{page}");
    assert!(page.contains("oauth2:shop@127.0.0.1"), "{page}");
}

#[tokio::test]
async fn a_refusal_is_told_and_asked_again_and_the_calls_go_on_as_soon_as_there_is_one() {
    let bench = Bench::new().await;
    let refusal = r#"{"error":"invalid_client","error_description":"p@ss is wrong"}"#;
    let oauth = OAuth::start(Mood::Says(401, refusal)).await;
    let proxy = bench.start(&oauth, "").await;
    failed(&proxy, "refused").await;
    let reply = proxy.get("/").await;
    reply.is_own(503, &["credential"]);
    assert!(reply.get("retry-after").is_some(), "it knows when");
    assert_eq!(bench.origin.requests(), 0);
    oauth.set(HOUR);
    until("a token", || async {
        (proxy.get("/").await.status == 200).then_some(())
    })
    .await;
    let errors = proxy.errors().join("\n");
    assert!(errors.contains("invalid_client"), "{errors}");
    assert!(!errors.contains("p@ss"), "{errors}");
}

#[tokio::test]
async fn what_is_no_bearer_token_is_not_used_and_not_quoted() {
    for (status, body) in [
        (200, "t0ken"),
        (200, r#"{"access_token":["t0ken"],"token_type":"bearer"}"#),
        (200, r#"{"access_token":"t0ken","token_type":"mac"}"#),
        (200, r#"{"access_token":"t0ken"}"#),
        (
            200,
            r#"{"access_token":"t0ken\r\nx-evil: 1","token_type":"bearer"}"#,
        ),
        (200, r#"{"access_token":"","token_type":"bearer"}"#),
        (302, "t0ken"),
        (500, r#"{"error":"t0ken"}"#),
    ] {
        let bench = Bench::new().await;
        let oauth = OAuth::start(Mood::Says(status, body)).await;
        let proxy = bench.start(&oauth, "").await;
        failed(&proxy, "answer").await;
        proxy.get("/").await.is_own(503, &["credential"]);
        assert_eq!(bench.origin.requests(), 0, "{body}");
        let errors = proxy.errors().join("\n");
        assert!(!errors.contains("t0ken"), "{errors}");
    }
}

#[tokio::test]
async fn a_call_waits_no_longer_than_its_own_time() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    let oauth = OAuth::start(Mood::Waits(gate)).await;
    let setup = bench.setup(&oauth.url(), "", "timeout: 150ms");
    let proxy = setup.start().await;
    proxy.get("/").await.is_own(503, &["credential"]);
    assert_eq!(oauth.requests(), 1);
}

#[tokio::test]
async fn an_endpoint_that_is_away_and_a_secret_that_is_not_there_have_their_words() {
    let bench = Bench::new().await;
    let url = format!("http://{}/token", ports::closed());
    let proxy = bench.setup(&url, "", "").start().await;
    failed(&proxy, "connect").await;
    std::fs::remove_file(bench.keys.path().join("shop")).expect("removed");
    let oauth = OAuth::start(HOUR).await;
    let proxy = bench.start(&oauth, "").await;
    failed(&proxy, "client_secret").await;
    proxy.get("/").await.is_own(503, &["credential"]);
    assert_eq!(oauth.requests(), 0);
    std::fs::write(bench.keys.path().join("shop"), SECRET).expect("it comes");
    until("a token", || async {
        (proxy.get("/").await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn over_tls_the_endpoint_has_to_be_who_it_should_be() {
    let bench = Bench::new().await;
    let ca = bench.keys.path().join("ca.pem");
    let oauth = OAuth::start_tls(HOUR, &ca).await;
    // Nobody on this machine vouches for it.
    let proxy = bench.start(&oauth, "").await;
    failed(&proxy, "tls").await;
    proxy.get("/").await.is_own(503, &["credential"]);
    assert_eq!(oauth.requests(), 0);
    let proxy = bench
        .start(&oauth, &format!("    ca: {}", ca.display()))
        .await;
    proxy.get("/").await.is(200);
    assert_eq!(bench.sent(), ["Bearer token-1"]);
    // The right anchor, and another name than the certificate has.
    let url = oauth.url().replace("localhost", "127.0.0.1");
    let more = format!("    ca: {}", ca.display());
    let proxy = bench.setup(&url, &more, "").start().await;
    failed(&proxy, "tls").await;
}

#[tokio::test]
async fn two_routes_share_a_token_and_a_reload_keeps_it() {
    let bench = Bench::new().await;
    let oauth = OAuth::start(HOUR).await;
    let routes = "routes:\n  - match: /a\n    timeout: 3s\n  - match: /b\n    credential: off";
    let proxy = bench.setup(&oauth.url(), "", routes).start().await;
    for path in ["/", "/a", "/b"] {
        proxy.get(path).await.is(200);
    }
    let text = proxy.setup.text().replace("timeout: 3s", "timeout: 4s");
    proxy.reload(&text).await;
    proxy.get("/a").await.is(200);
    assert_eq!(
        bench.sent(),
        ["Bearer token-1", "Bearer token-1", "-", "Bearer token-1"]
    );
    tokio::time::sleep(STEP.min(Duration::from_millis(50))).await;
    assert_eq!(oauth.requests(), 1);
}
