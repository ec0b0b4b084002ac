//! Authorisation, in the clear: what rules allow to whom has no identity. With identities: `path_inbound_mtls`.

use serde_json::Value;

use crate::support::call::Call;
use crate::support::client::Raw;
use crate::support::h2client;
use crate::support::h2client::H2;
use crate::support::origin::Answer;
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::setup::Setup;

const DENIED: &str = "outrider_authorise_denied_total";

async fn behind(origin: &Origin, authorise: &str) -> Proxy {
    let port = origin.addr.port();
    let inside = format!("app: {port}, mode: permissive, authorise: {authorise}");
    Setup::new().inbound(&inside).start().await
}

async fn app() -> Origin {
    Origin::always(Answer::ok("from the app")).await
}

const PUBLIC: &str =
    "[\"spiffe://td/ns/*\", { from: anonymous, to: [GET /public/**, POST /charges] }]";

fn audit(proxy: &Proxy) -> Vec<Value> {
    let lines = proxy.errors();
    let parsed = lines
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    parsed.filter(|line| line["target"] == "audit").collect()
}

#[tokio::test]
async fn what_no_rule_allows_is_denied() {
    let origin = app().await;
    let proxy = behind(&origin, PUBLIC).await;
    Call::get("/public/rates").to(proxy.inbound).await.is(200);
    Call::post("/charges", "x").to(proxy.inbound).await.is(200);
    for call in [
        Call::get("/private"),
        Call::get("/charges"),
        Call::new("DELETE", "/public/rates"),
        Call::new("OPTIONS", "*"),
    ] {
        call.to(proxy.inbound)
            .await
            .is_own(403, &["not_authorised"]);
    }
    assert_eq!(origin.requests(), 2);
    assert_eq!(proxy.sum(DENIED, &[("why", "request")]).await, 4.0);
    assert_eq!(
        proxy
            .sum("outrider_authorise_allowed_total", &[("rule", "2")])
            .await,
        2.0
    );
    let line = proxy.logged_path("/private").await;
    assert_eq!(line["reason"], "not_authorised", "{line}");
    let told = audit(&proxy);
    assert_eq!(
        told.len(),
        1,
        "the same denial is told once in a while: {told:?}"
    );
    let fields = &told[0];
    assert_eq!(
        (
            &fields["what"],
            &fields["caller"],
            &fields["path"],
            &fields["why"]
        ),
        (
            &"authorise".into(),
            &"anonymous".into(),
            &"/private".into(),
            &"request".into()
        ),
        "{told:?}"
    );
}

#[tokio::test]
async fn no_spelling_of_a_path_leads_out_of_what_is_allowed() {
    let origin = app().await;
    let proxy = behind(&origin, PUBLIC).await;
    for target in [
        "/public/../private",
        "/public/%2e%2e/private",
        "/public/.%2E/private",
        "/public/%252e%252e/private",
        "/public/..;/private",
        "/public/..%2fprivate",
        "/public/..%5cprivate",
        "/public/..\\private",
        "/public//private",
        "/public/;/private",
        "/public/%c0%ae%c0%ae/private",
        "http://shop.test/public/../private",
        "/public/./private",
        "//public/rates",
    ] {
        let mut raw = Raw::connect(proxy.inbound).await;
        let reply = raw.call(&Call::get(target)).await;
        assert!(
            matches!(
                reply.reason(),
                Some("not_authorised" | "malformed_request" | "invalid_target")
            ),
            "{target}: {} {:?}",
            reply.status,
            reply.reason()
        );
    }
    let h2 = H2::connect(proxy.inbound).await;
    let reply = h2.get("/public/%2e%2e/private").await;
    assert_eq!(
        (reply.status, reply.reason()),
        (403, Some("not_authorised"))
    );
    assert_eq!(origin.requests(), 0);
    assert!(proxy.sum(DENIED, &[("why", "ambiguous")]).await > 5.0);
}

#[tokio::test]
async fn no_field_leads_out_of_it_either() {
    let origin = app().await;
    let proxy = behind(&origin, PUBLIC).await;
    for field in [
        "X-HTTP-Method-Override",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Method-Override",
    ] {
        let call = Call::post("/charges", "x").field(field, "DELETE");
        call.to(proxy.inbound)
            .await
            .is_own(403, &["not_authorised"]);
    }
    assert_eq!(origin.requests(), 0);
}

#[tokio::test]
async fn grpc_is_denied_in_its_own_words() {
    let origin = app().await;
    let proxy = behind(&origin, PUBLIC).await;
    let h2 = H2::connect(proxy.inbound).await;
    let reply = h2.call(h2client::grpc("/pay.Rates/Get", b"")).await;
    assert_eq!((reply.status, reply.grpc_status()), (200, Some("7")));
    assert_eq!(reply.reason(), Some("not_authorised"));
}

#[tokio::test]
async fn in_shadow_everything_passes_and_is_told() {
    let origin = app().await;
    let rules = "{ mode: shadow, rules: [\"spiffe://td/ns/*\"] }";
    let proxy = behind(&origin, rules).await;
    Call::get("/private").to(proxy.inbound).await.is(200);
    let shadow = "outrider_authorise_shadow_denied_total";
    assert_eq!(proxy.sum(shadow, &[("why", "caller")]).await, 1.0);
    assert_eq!(proxy.sum(DENIED, &[]).await, 0.0);
    assert_eq!(audit(&proxy)[0]["mode"], "shadow");
}

#[tokio::test]
async fn rules_are_changed_by_a_reload() {
    let origin = app().await;
    let proxy = behind(&origin, "[any]").await;
    let mut raw = Raw::connect(proxy.inbound).await;
    raw.call(&Call::get("/"))
        .await
        .is_own(403, &["not_authorised"]);
    let text = proxy.setup.text();
    proxy
        .reload(&text.replace("[any]", "[any, anonymous]"))
        .await;
    raw.call(&Call::get("/")).await.is(200);
}

#[tokio::test]
async fn a_flood_of_denials_is_counted_and_told_in_a_few_lines() {
    let origin = app().await;
    let proxy = behind(&origin, PUBLIC).await;
    let mut raw = Raw::connect(proxy.inbound).await;
    for n in 0..300 {
        raw.call(&Call::get(&format!("/private/{n}")))
            .await
            .is_own(403, &["not_authorised"]);
    }
    assert_eq!(proxy.sum(DENIED, &[]).await, 300.0);
    assert!(audit(&proxy).len() < 10, "{}", audit(&proxy).len());
}
