//! One test for each row of the table in `machine.rs`, what a key looks like, and the layer around a mock.

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use http::HeaderName;
use http::HeaderValue;
use http::Request;
use tower::Layer;
use tower::Service;

use super::IdempotencyLayer;
use super::Settings;
use super::machine::Decision;
use super::machine::judge;
use super::machine::key;
use super::metrics::Metrics;
use crate::clock;
use crate::http::Call;
use crate::http::Fault;
use crate::http::RequestBody;
use crate::http::Trail;
use crate::kit::mode::Mode;
use crate::kit::walk;
use crate::telemetry::BuildInfo;
use crate::telemetry::Telemetry;

fn decide(needs_key: bool, values: &[&str]) -> Decision {
    judge(needs_key, values.iter().map(|value| value.as_bytes()))
}

#[test]
fn may_be_repeated_by_itself_is_left() {
    assert_eq!(decide(false, &[]), Decision::Leave);
    assert_eq!(decide(false, &["a"]), Decision::Leave);
}

#[test]
fn none_is_injected() {
    assert_eq!(decide(true, &[]), Decision::Inject);
}

#[test]
fn one_that_is_not_empty_is_kept() {
    assert_eq!(decide(true, &["\"8e03978e\""]), Decision::Keep);
}

#[test]
fn empty_or_several_are_left() {
    for values in [&[""][..], &[" \t"], &["a", "b"], &["a", "a"], &["", "a"]] {
        assert_eq!(decide(true, values), Decision::Leave, "{values:?}");
    }
}

#[test]
fn walk_every_key_is_a_uuid_of_chance_and_another_one() {
    let mut seen = HashSet::new();
    walk::seeds(|draws| {
        let text = key(draws.bits(), draws.bits());
        let text = std::str::from_utf8(&text).expect("ASCII");
        let uuid: uuid::Uuid = text.parse().expect("a UUID");
        assert_eq!(uuid.get_version_num(), 4);
        assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
        assert_eq!(uuid.to_string(), text, "lower case, with hyphens");
        assert!(seen.insert(text.to_owned()));
    });
}

/// Gives back the call that it got.
#[derive(Clone)]
struct Keep;

impl Service<Call> for Keep {
    type Response = Call;
    type Error = Fault;
    type Future = std::future::Ready<Result<Call, Fault>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        std::future::ready(Ok(call))
    }
}

struct Given {
    values: Vec<String>,
    idempotent: bool,
    metrics: String,
}

fn through(settings: Settings, method: &str, values: &[&str]) -> Given {
    let build = BuildInfo {
        version: "",
        commit: "",
    };
    let telemetry = Telemetry::new(build, 1);
    let header = settings.header.clone();
    let request = Request::builder().method(method).uri("/pay").body(());
    let (mut head, ()) = request.expect("a good request").into_parts();
    for value in values {
        let value = HeaderValue::from_str(value).expect("a header value");
        head.headers.append(&header, value);
    }
    let call = Call {
        head: Box::new(head),
        body: RequestBody::Empty,
        trail: Rc::new(Trail::new(clock::now())),
    };
    let metrics = Arc::new(Metrics::new(&telemetry, "pay", "*"));
    let mut service = IdempotencyLayer::new(Some((settings, metrics))).layer(Keep);
    let call = service.call(call).into_inner().expect("passed on");
    let values = call.head.headers.get_all(&header).iter();
    Given {
        values: values
            .map(|value| value.to_str().expect("text").to_owned())
            .collect(),
        idempotent: call.trail.idempotent.get(),
        metrics: telemetry.encode(),
    }
}

#[test]
fn a_post_gets_a_key_of_its_own() {
    let mut keys = HashSet::new();
    for method in ["POST", "PATCH", "PURGE"] {
        let given = through(Settings::default(), method, &[]);
        assert_eq!(given.values.len(), 1);
        assert!(given.idempotent);
        assert!(keys.insert(given.values[0].clone()));
        let counted =
            r#"outrider_idempotency_keys_total{upstream="pay",route="*",source="injected"} 1"#;
        assert!(given.metrics.contains(counted), "{}", given.metrics);
    }
}

#[test]
fn the_key_of_the_application_stays_as_it_is() {
    let given = through(Settings::default(), "POST", &["\"mine\""]);
    assert_eq!(given.values, ["\"mine\""]);
    assert!(given.idempotent);
    let counted = r#"outrider_idempotency_keys_total{upstream="pay",route="*",source="client"} 1"#;
    assert!(given.metrics.contains(counted), "{}", given.metrics);
}

#[test]
fn what_needs_no_key_or_has_a_doubtful_one_stays_as_it_is() {
    for (method, values) in [
        ("GET", &[][..]),
        ("PUT", &[]),
        ("DELETE", &["x"]),
        ("CONNECT", &[]),
        ("POST", &["a", "b"]),
        ("POST", &[""]),
    ] {
        let given = through(Settings::default(), method, values);
        assert_eq!(given.values, values, "{method}");
        assert!(!given.idempotent, "{method} {values:?}");
    }
}

#[test]
fn another_header_carries_it_if_the_policy_says_so() {
    let settings = Settings {
        header: HeaderName::from_static("x-request-key"),
        ..Settings::default()
    };
    assert_eq!(through(settings, "POST", &[]).values.len(), 1);
}

#[test]
fn shadow_counts_and_unlocks_nothing() {
    let settings = Settings {
        mode: Mode::Shadow,
        ..Settings::default()
    };
    for (values, source) in [(&[][..], "injected"), (&["x"], "client")] {
        let given = through(settings.clone(), "POST", values);
        assert_eq!(given.values, values);
        assert!(!given.idempotent);
        let counted = format!(
            r#"outrider_idempotency_shadow_keys_total{{upstream="pay",route="*",source="{source}"}} 1"#
        );
        assert!(given.metrics.contains(&counted), "{}", given.metrics);
    }
}

#[test]
fn off_costs_nothing_and_does_nothing() {
    let request = Request::post("/pay").body(()).expect("a good request");
    let call = Call {
        head: Box::new(request.into_parts().0),
        body: RequestBody::Empty,
        trail: Rc::new(Trail::new(clock::now())),
    };
    let call = IdempotencyLayer::new(None).layer(Keep).call(call);
    let call = call.into_inner().expect("passed on");
    assert!(call.head.headers.is_empty() && !call.trail.idempotent.get());
}
