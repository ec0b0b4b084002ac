//! The skin around a mock.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http::HeaderValue;
use http::Request;
use http::Response;
use tower::Layer;
use tower::Service;
use tower::service_fn;

use crate::clock;
use crate::http::Call;
use crate::http::Fault;
use crate::http::Outcome;
use crate::http::Reason;
use crate::http::RequestBody;
use crate::http::ResponseBody;
use crate::http::Trail;
use crate::kit::mode::Mode;
use crate::policy::limit::Guard;
use crate::policy::limit::LimitLayer;
use crate::policy::limit::Limiter;
use crate::policy::limit::Settings;
use crate::policy::limit::config::Headers;
use crate::policy::limit::config::Rate;
use crate::policy::limit::config::Selector;
use crate::policy::limit::metrics;
use crate::telemetry::BuildInfo;
use crate::telemetry::Telemetry;

fn settings(rps: u32, burst: u32) -> Settings {
    Settings {
        rate: Rate::per_second(rps),
        burst,
        ..Settings::default()
    }
}

fn telemetry() -> Arc<Telemetry> {
    let (version, commit) = ("", "");
    Telemetry::new(BuildInfo { version, commit }, 1)
}

fn guard(settings: Settings) -> Guard {
    let telemetry = telemetry();
    let (mode, headers) = (settings.mode, settings.headers);
    let keys = metrics::keys(&telemetry, "u", "*");
    let name = "pay \"ments\".shop\u{e9}";
    Guard {
        limiter: Limiter::new(name, settings, keys, clock::now(), None),
        mode,
        headers,
        metrics: Arc::new(metrics::Metrics::new(&telemetry, "u", "*")),
    }
}

fn call(path: &str, fields: &[(&'static str, &'static str)]) -> Call {
    let mut request = Request::get(format!("http://u{path}"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let request = request.body(()).expect("a test's request is valid");
    Call {
        head: Box::new(request.into_parts().0),
        body: RequestBody::Empty,
        trail: Rc::new(Trail::new(clock::now())),
    }
}

/// Sends a call through the room to an upstream that tells of a limit of its own.
async fn send(guard: &Guard, call: Call) -> Outcome {
    let upstream = service_fn(|_: Call| async {
        let mut response = Response::new(ResponseBody::empty());
        let own = HeaderValue::from_static("\"theirs\";r=9");
        response.headers_mut().insert("ratelimit", own);
        Ok::<_, Fault>(response)
    });
    LimitLayer::new(Some(guard.clone()))
        .layer(upstream)
        .call(call)
        .await
}

async fn passes(guard: &Guard, path: &str, fields: &[(&'static str, &'static str)]) -> bool {
    send(guard, call(path, fields)).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_when_to_come_back_and_what_the_limit_is() {
    let guard = guard(Settings {
        rate: Rate::of(30.0 / 60.0),
        burst: 1,
        ..Settings::default()
    });
    assert!(passes(&guard, "/", &[]).await);
    tokio::time::advance(Duration::from_millis(500)).await;
    let fault = send(&guard, call("/", &[]))
        .await
        .err()
        .expect("a burst of one");
    assert_eq!(fault.reason, Reason::Limit);
    assert_eq!(fault.retry_after, Some(Duration::from_millis(1500)));
    let told: Vec<_> = fault
        .fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().expect("visible ASCII")))
        .collect();
    assert_eq!(
        told,
        [
            ("ratelimit-policy", "\"pay \\\"ments\\\".shop\";q=30;w=60"),
            ("ratelimit", "\"pay \\\"ments\\\".shop\";r=0;t=2"),
        ]
    );
    tokio::time::advance(Duration::from_millis(1500)).await;
    assert!(passes(&guard, "/", &[]).await);
}

#[tokio::test(start_paused = true)]
async fn only_where_policy_says_so_do_other_answers_tell_of_it() {
    let seen = |headers| async move {
        let guard = guard(Settings {
            headers,
            ..settings(10, 5)
        });
        let response = send(&guard, call("/", &[])).await.expect("it passes");
        let all = response.headers().get_all("ratelimit").iter();
        all.map(|value| value.to_str().expect("visible ASCII").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(seen(Headers::Refused).await, ["\"theirs\";r=9"]);
    assert_eq!(seen(Headers::Off).await, ["\"theirs\";r=9"]);
    assert_eq!(
        seen(Headers::All).await,
        ["\"theirs\";r=9", "\"pay \\\"ments\\\".shop\";r=4;t=1"],
        "behind the upstream's own"
    );
    let silent = guard(Settings {
        headers: Headers::Off,
        ..settings(10, 1)
    });
    assert!(passes(&silent, "/", &[]).await);
    let fault = send(&silent, call("/", &[])).await.err().expect("one only");
    assert!(fault.fields.is_empty() && fault.retry_after.is_some());
}

#[tokio::test(start_paused = true)]
async fn shadow_lets_everything_through_untouched() {
    let guard = guard(Settings {
        mode: Mode::Shadow,
        headers: Headers::All,
        ..settings(10, 2)
    });
    for _ in 0..5 {
        let response = send(&guard, call("/", &[])).await.expect("it passes");
        assert_eq!(response.headers().get_all("ratelimit").iter().count(), 1);
        assert!(!response.headers().contains_key("ratelimit-policy"));
    }
}

#[tokio::test(start_paused = true)]
async fn keys_are_told_apart_by_all_that_the_policy_names() {
    let per = |texts: &[&str]| {
        let per = texts.iter().filter_map(|text| Selector::parse(text));
        guard(Settings {
            per: per.collect(),
            ..settings(1, 1)
        })
    };
    let user = per(&["header:x-user"]);
    assert!(passes(&user, "/", &[("x-user", "a")]).await);
    assert!(!passes(&user, "/other", &[("x-user", "a")]).await);
    assert!(passes(&user, "/", &[("x-user", "b")]).await);
    assert!(passes(&user, "/", &[("x-user", "a"), ("x-user", "b")]).await);
    assert!(
        passes(&user, "/", &[("x-user", "")]).await,
        "an empty value is a value"
    );
    assert!(passes(&user, "/", &[]).await);
    assert!(
        !passes(&user, "/", &[("x-other", "c")]).await,
        "those without it share one"
    );

    let path = per(&["path"]);
    assert!(passes(&path, "/a?x=1", &[]).await);
    assert!(!passes(&path, "/a?x=2", &[]).await, "the query is left out");
    assert!(passes(&path, "/b", &[]).await);

    let both = per(&["header:x-user", "header:x-org"]);
    assert!(passes(&both, "/", &[("x-user", "ab"), ("x-org", "c")]).await);
    assert!(passes(&both, "/", &[("x-user", "a"), ("x-org", "bc")]).await);
    assert!(passes(&both, "/", &[("x-user", "abc")]).await);
    assert!(!passes(&both, "/", &[("x-user", "ab"), ("x-org", "c")]).await);

    let source = per(&["source"]);
    let from = |address: Option<[u8; 4]>| {
        let call = call("/", &[]);
        call.trail.peer.set(address.map(Into::into));
        call
    };
    assert!(send(&source, from(Some([10, 0, 0, 1]))).await.is_ok());
    assert!(send(&source, from(Some([10, 0, 0, 1]))).await.is_err());
    assert!(send(&source, from(Some([10, 0, 0, 2]))).await.is_ok());
    assert!(send(&source, from(None)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn more_keys_than_buckets_are_counted_as_judged_by_estimate() {
    let guard = guard(Settings {
        per: vec![Selector::Path],
        keys: 64,
        ..settings(1, 4)
    });
    for at in 0..1000 {
        assert!(passes(&guard, &format!("/{at}"), &[]).await);
    }
    let told = guard.describe(clock::now());
    assert_eq!(told["estimating"], true, "{told}");
    assert_eq!(told["keys"], 48, "three quarters: {told}");
    let hot = [(); 20].map(|()| passes(&guard, "/hot", &[]));
    let hot = join_all(hot).await.into_iter().filter(|one| *one).count();
    assert!((1..=4).contains(&hot), "{hot} of a burst of 4");
    tokio::time::advance(Duration::from_secs(10)).await;
    guard.limiter.refresh(clock::now());
    let told = guard.describe(clock::now());
    assert_eq!(
        (&told["keys"], &told["estimating"]),
        (&0.into(), &false.into()),
        "{told}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_limit_is_carried_over_when_its_settings_change() {
    let carried = |before: &Guard, settings: Settings| {
        let keys = metrics::keys(&telemetry(), "u", "*");
        let limiter = Limiter::new("u", settings, keys, clock::now(), Some(&before.limiter));
        Guard {
            limiter,
            ..before.clone()
        }
    };
    let before = guard(settings(1, 10));
    for _ in 0..10 {
        assert!(passes(&before, "/", &[]).await);
    }
    assert!(!passes(&carried(&before, settings(2, 10)), "/", &[]).await);
    let larger = carried(&before, settings(1, 12));
    let more = [0, 1, 2].map(|_| passes(&larger, "/", &[]));
    let more = join_all(more).await;
    assert_eq!(more, [true, true, false]);

    let by_path = |rps, keys| Settings {
        per: vec![Selector::Path],
        keys,
        ..settings(rps, 2)
    };
    let before = guard(by_path(1, 200));
    for at in 0..100 {
        for _ in 0..2 {
            assert!(passes(&before, &format!("/{at}"), &[]).await);
        }
    }
    // To fewer buckets than there are keys: the rest is taken over by the estimate.
    let after = carried(&before, by_path(2, 10));
    for at in 0..100 {
        assert!(
            !passes(&after, &format!("/{at}"), &[]).await,
            "{at} had used up its burst"
        );
    }
}

#[test]
fn what_shapes_the_buckets_is_told_from_what_does_not() {
    let one = settings(10, 5);
    let with = |change: fn(&mut Settings)| {
        let mut other = one.clone();
        change(&mut other);
        one.same_buckets(&other)
    };
    assert!(with(|other| other.mode = Mode::Shadow));
    assert!(with(|other| other.headers = Headers::All));
    assert!(!with(|other| other.burst = 6));
    assert!(!with(|other| other.rate = Rate::per_second(11)));
    assert!(!with(|other| other.own = true));
}
