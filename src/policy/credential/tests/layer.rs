//! The layer, with secrets in real files, around a scripted upstream.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use http::HeaderValue;
use http::Request;
use http::Response;
use http::StatusCode;
use tempfile::TempDir;
use tokio::runtime::Handle;
use tower::Layer;
use tower::Service;

use crate::clock;
use crate::endpoint::discover::Resolver;
use crate::http::Call;
use crate::http::Fault;
use crate::http::LocalFuture;
use crate::http::Outcome;
use crate::http::Reason;
use crate::http::RequestBody;
use crate::http::ResponseBody;
use crate::http::Trail;
use crate::kit::mode::Mode;
use crate::kit::walk;
use crate::policy::credential::CredentialLayer;
use crate::policy::credential::Ground;
use crate::policy::credential::Guard;
use crate::policy::credential::Settings;
use crate::policy::credential::Source;
use crate::policy::credential::config::Origin;
use crate::policy::credential::config::Place;
use crate::telemetry::BuildInfo;
use crate::telemetry::Telemetry;

/// Answers with the statuses of a script, the last one for ever, and keeps what the header was.
#[derive(Clone, Default)]
struct Upstream {
    script: Rc<RefCell<VecDeque<u16>>>,
    seen: Rc<RefCell<Vec<Option<HeaderValue>>>>,
}

impl Upstream {
    fn answering(statuses: &[u16]) -> Self {
        Self {
            script: Rc::new(RefCell::new(statuses.iter().copied().collect())),
            ..Self::default()
        }
    }

    fn seen(&self) -> Vec<String> {
        let seen = self.seen.borrow();
        let text = |value: &Option<HeaderValue>| {
            let value = value.as_ref()?.to_str().ok()?;
            Some(value.to_owned())
        };
        seen.iter()
            .map(|value| text(value).unwrap_or_else(|| "-".to_owned()))
            .collect()
    }
}

impl Service<Call> for Upstream {
    type Response = Response<ResponseBody>;
    type Error = Fault;
    type Future = LocalFuture<Outcome>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let value = call.head.headers.get("authorization").cloned();
        self.seen.borrow_mut().push(value);
        let mut script = self.script.borrow_mut();
        let status = if script.len() > 1 {
            script.pop_front()
        } else {
            script.front().copied()
        };
        let mut response = Response::new(ResponseBody::empty());
        *response.status_mut() =
            StatusCode::from_u16(status.unwrap_or(200)).expect("a status of the test");
        Box::pin(std::future::ready(Ok(response)))
    }
}

struct Bench {
    telemetry: Arc<Telemetry>,
    resolver: Resolver,
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let build = BuildInfo {
            version: "",
            commit: "",
        };
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
        Self {
            telemetry: Telemetry::new(build, 1),
            resolver: Resolver::new(Handle::current(), Some(vec![nowhere])),
            folder: TempDir::new().expect("a folder"),
        }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).expect("the folder can be written");
        path
    }

    fn settings(&self, first: &str) -> Settings {
        let path = self.file("first", first);
        Settings {
            from: Some(Origin::Place(Place::File(path))),
            format: "Bearer {}".to_owned(),
            ..Settings::default()
        }
    }

    fn with_next(&self, first: &str, next: &str) -> Settings {
        let path = self.file("next", next);
        Settings {
            next: Some(Place::File(path)),
            ..self.settings(first)
        }
    }

    fn guard(&self, settings: Settings) -> Arc<Guard> {
        let ground = Ground {
            telemetry: &self.telemetry,
            resolver: &self.resolver,
        };
        let (first, next) = Guard::specs(&settings).expect("a place");
        let sources = (
            Source::start(first, ground),
            next.map(|next| Source::start(next, ground)),
        );
        Guard::new("u", "*", settings, sources, &self.telemetry)
    }
}

async fn send(guard: &Arc<Guard>, upstream: &Upstream, own: Option<&'static str>) -> Outcome {
    let mut request = Request::get("http://pay.shop/charges");
    if let Some(own) = own {
        request = request.header("authorization", own);
    }
    let (head, ()) = request.body(()).expect("a request").into_parts();
    let call = Call {
        head: Box::new(head),
        body: RequestBody::Empty,
        trail: Rc::new(Trail::new(clock::now())),
    };
    let layer = CredentialLayer::new(Some(Arc::clone(guard)), true);
    layer.layer(upstream.clone()).call(call).await
}

fn status(outcome: &Outcome) -> Result<u16, Reason> {
    match outcome {
        Ok(response) => Ok(response.status().as_u16()),
        Err(fault) => Err(fault.reason),
    }
}

#[tokio::test]
async fn the_secret_is_set_in_its_format_and_marked_as_one() {
    let bench = Bench::new();
    let guard = bench.guard(bench.settings("k3y\n"));
    let upstream = Upstream::default();
    assert_eq!(status(&send(&guard, &upstream, None).await), Ok(200));
    assert_eq!(upstream.seen(), ["Bearer k3y"]);
    let seen = upstream.seen.borrow();
    let value = seen[0].as_ref().expect("it is there");
    assert!(value.is_sensitive(), "no table of HPACK takes it");
    assert!(!format!("{value:?} {guard:?}").contains("k3y"));
    assert!(!guard.describe(clock::now()).to_string().contains("k3y"));
}

#[tokio::test]
async fn the_applications_own_goes_unless_it_is_to_be_replaced() {
    let bench = Bench::new();
    let upstream = Upstream::default();
    let guard = bench.guard(bench.settings("k3y"));
    let _ = send(&guard, &upstream, Some("Basic mine")).await;
    let _ = send(&guard, &upstream, Some("")).await;
    let guard = bench.guard(Settings {
        overwrite: true,
        ..bench.settings("k3y")
    });
    let _ = send(&guard, &upstream, Some("Basic mine")).await;
    assert_eq!(upstream.seen(), ["Basic mine", "", "Bearer k3y"]);
}

#[tokio::test]
async fn without_a_secret_nothing_goes_and_in_shadow_all_goes_as_it_is() {
    let bench = Bench::new();
    let upstream = Upstream::default();
    let guard = bench.guard(bench.settings("\n"));
    let outcome = send(&guard, &upstream, None).await;
    assert_eq!(status(&outcome), Err(Reason::Credential));
    assert_eq!(upstream.seen(), [""; 0]);
    for secret in ["\n", "k3y"] {
        let guard = bench.guard(Settings {
            mode: Mode::Shadow,
            ..bench.settings(secret)
        });
        assert_eq!(status(&send(&guard, &upstream, None).await), Ok(200));
    }
    assert_eq!(upstream.seen(), ["-", "-"]);
}

#[tokio::test]
async fn a_401_is_answered_with_the_next_key_once_which_then_goes_first() {
    let bench = Bench::new();
    let guard = bench.guard(bench.with_next("old", "new"));
    let upstream = Upstream::answering(&[401, 200]);
    assert_eq!(status(&send(&guard, &upstream, None).await), Ok(200));
    assert_eq!(status(&send(&guard, &upstream, None).await), Ok(200));
    assert_eq!(upstream.seen(), ["Bearer old", "Bearer new", "Bearer new"]);
    // An upstream that goes back is followed.
    let upstream = Upstream::answering(&[401, 200]);
    assert_eq!(status(&send(&guard, &upstream, None).await), Ok(200));
    let _ = send(&guard, &upstream, None).await;
    assert_eq!(upstream.seen(), ["Bearer new", "Bearer old", "Bearer old"]);
}

#[tokio::test]
async fn two_refusals_are_the_answer_and_there_is_no_third_try() {
    let bench = Bench::new();
    let guard = bench.guard(bench.with_next("old", "new"));
    let upstream = Upstream::answering(&[401]);
    assert_eq!(status(&send(&guard, &upstream, None).await), Ok(401));
    assert_eq!(upstream.seen(), ["Bearer old", "Bearer new"]);
}

#[tokio::test]
async fn the_same_key_twice_or_none_to_follow_is_one_key() {
    let bench = Bench::new();
    for next in ["old\n", ""] {
        let guard = bench.guard(bench.with_next("old", next));
        let upstream = Upstream::answering(&[401]);
        assert_eq!(status(&send(&guard, &upstream, None).await), Ok(401));
        assert_eq!(upstream.seen(), ["Bearer old"], "{next:?}");
    }
    let guard = bench.guard(bench.with_next("", "new"));
    let upstream = Upstream::default();
    let _ = send(&guard, &upstream, None).await;
    assert_eq!(upstream.seen(), ["Bearer new"], "the one that there is");
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_refuses_everything_does_not_get_twice_the_traffic() {
    let bench = Bench::new();
    let guard = bench.guard(bench.with_next("old", "new"));
    let upstream = Upstream::answering(&[401]);
    for _ in 0..1000 {
        assert_eq!(status(&send(&guard, &upstream, None).await), Ok(401));
    }
    let sent = upstream.seen().len();
    // A fifth of the calls, and the floor of ten a second over ten seconds.
    assert_eq!(sent, 1000 + 200 + 100);
}

#[tokio::test(start_paused = true)]
async fn walk_never_without_a_secret_and_never_three_times() {
    let bench = Bench::new();
    let guard = bench.guard(bench.with_next("old", "new"));
    let upstream = Upstream::default();
    let draws = &mut walk::Draws::new(7);
    for _ in 0..2000 {
        let statuses = [200, 401, 403, 500, 401, 401];
        let mut pick = || statuses[draws.below(6) as usize];
        *upstream.script.borrow_mut() = VecDeque::from([pick(), pick(), 200]);
        let before = upstream.seen.borrow().len();
        let outcome = send(&guard, &upstream, None).await;
        assert!(outcome.is_ok());
        let seen = upstream.seen().split_off(before);
        assert!(seen.len() <= 2, "{seen:?}");
        assert!(seen.iter().all(|value| value.starts_with("Bearer ")));
        assert!(seen.len() < 2 || seen[0] != seen[1]);
    }
}

#[tokio::test]
async fn routes_with_one_secret_share_it_and_off_is_nothing() {
    let bench = Bench::new();
    let upstream = Upstream::default();
    let (head, ()) = Request::get("http://pay.shop/")
        .body(())
        .expect("a request")
        .into_parts();
    let call = Call {
        head: Box::new(head),
        body: RequestBody::Empty,
        trail: Rc::new(Trail::new(clock::now())),
    };
    let mut off = CredentialLayer::new(None, true).layer(upstream.clone());
    assert!(off.call(call).await.is_ok());
    assert_eq!(upstream.seen(), ["-"]);
    let settings = bench.with_next("a", "b");
    let (first, next) = Guard::specs(&settings).expect("a place");
    assert_ne!(Some(&first), next.as_ref());
    let other_format = Settings {
        format: "{}".to_owned(),
        ..settings
    };
    assert_ne!(Guard::specs(&other_format).expect("a place").0, first);
}
