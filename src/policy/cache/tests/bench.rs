//! A cache around an upstream whose answers and bodies come when the test says so.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderName;
use http::HeaderValue;
use http::Request;
use http::Response;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::task::LocalSet;
use tower::Layer;
use tower::Service;

use crate::clock;
use crate::http::Call;
use crate::http::Fault;
use crate::http::LocalFuture;
use crate::http::Outcome;
use crate::http::Reason;
use crate::http::RequestBody;
use crate::http::ResponseBody;
use crate::http::Trail;
use crate::policy::cache::Cache;
use crate::policy::cache::CacheLayer;
use crate::policy::cache::Guard;
use crate::policy::cache::Settings;
use crate::policy::cache::Store;
use crate::policy::cache::metrics::Metrics;
use crate::telemetry::BuildInfo;
use crate::telemetry::Telemetry;

pub const FRESH: &[(&str, &str)] = &[("cache-control", "max-age=60")];
/// Longer than anything in these tests takes.
const TOTAL: Duration = Duration::from_secs(30);

/// A body that comes piece by piece.
pub struct Pieces {
    from: mpsc::Receiver<Result<Bytes, Fault>>,
    length: Option<u64>,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let piece = self.from.poll_recv(cx);
        piece.map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        self.length
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

pub type Pen = mpsc::Sender<Result<Bytes, Fault>>;

pub fn body_of(length: Option<u64>) -> (Pen, ResponseBody) {
    let (pen, from) = mpsc::channel(16);
    (pen, ResponseBody::driven(Pieces { from, length }))
}

pub fn with(body: ResponseBody, status: u16, fields: &[(&str, &str)]) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(status).expect("a status");
    if let Some(length) = response.body().size_hint().exact() {
        let value = HeaderValue::from(length);
        response.headers_mut().insert("content-length", value);
    }
    for (name, value) in fields {
        response.headers_mut().append(
            HeaderName::try_from(*name).expect("a name"),
            HeaderValue::try_from(*value).expect("a value"),
        );
    }
    response
}

pub fn ok(text: &'static str, fields: &[(&str, &str)]) -> Response<ResponseBody> {
    with(
        ResponseBody::full(Bytes::from_static(text.as_bytes())),
        200,
        fields,
    )
}

pub enum Step {
    Now(Box<Outcome>),
    When(oneshot::Receiver<Outcome>),
}

/// An upstream with a script; what it was asked is kept.
#[derive(Clone, Default)]
pub struct Upstream {
    steps: Rc<RefCell<VecDeque<Step>>>,
    pub asked: Rc<RefCell<Vec<http::request::Parts>>>,
}

impl Upstream {
    pub fn answers(&self, response: Response<ResponseBody>) {
        self.will(Ok(response));
    }

    pub fn fails(&self, reason: Reason) {
        self.will(Err(Fault::unsent(reason)));
    }

    fn will(&self, outcome: Outcome) {
        let step = Step::Now(Box::new(outcome));
        self.steps.borrow_mut().push_back(step);
    }

    pub fn waits(&self) -> oneshot::Sender<Outcome> {
        let (say, when) = oneshot::channel();
        self.steps.borrow_mut().push_back(Step::When(when));
        say
    }

    /// The rest of the script.
    pub fn forget(&self) {
        self.steps.borrow_mut().clear();
    }

    pub fn count(&self) -> usize {
        self.asked.borrow().len()
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
        self.asked.borrow_mut().push(*call.head);
        let step = self.steps.borrow_mut().pop_front();
        Box::pin(async move {
            match step.expect("the script is long enough") {
                Step::Now(outcome) => *outcome,
                Step::When(when) => when.await.expect("the test says it"),
            }
        })
    }
}

pub struct Bench {
    pub store: Arc<Store>,
    pub guard: Arc<Guard>,
    pub upstream: Upstream,
    pub cache: Cache<Upstream>,
}

pub struct Got {
    pub status: u16,
    pub told: String,
    pub text: String,
    pub broke: bool,
}

impl Bench {
    pub fn new(settings: Settings) -> Self {
        let build = BuildInfo {
            version: "",
            commit: "",
        };
        let telemetry = Telemetry::new(build, 1);
        let store = Store::new(16 << 20);
        let metrics = Metrics::new(&telemetry, "shop", "*");
        let guard = Guard::new(settings, Arc::clone(&store), metrics, None, TOTAL);
        let upstream = Upstream::default();
        let cache = CacheLayer::new(Some(Arc::clone(&guard))).layer(upstream.clone());
        Self {
            store,
            guard,
            upstream,
            cache,
        }
    }

    pub fn begin(&self, request: Request<()>) -> <Cache<Upstream> as Service<Call>>::Future {
        self.begin_on(request, &Rc::new(Trail::new(clock::now())))
    }

    /// A GET, and what is noted of it.
    pub fn traced(&self, path: &str) -> (<Cache<Upstream> as Service<Call>>::Future, Rc<Trail>) {
        let trail = Rc::new(Trail::new(clock::now()));
        (self.begin_on(request("GET", path, &[]), &trail), trail)
    }

    fn begin_on(
        &self,
        request: Request<()>,
        trail: &Rc<Trail>,
    ) -> <Cache<Upstream> as Service<Call>>::Future {
        let (head, ()) = request.into_parts();
        self.cache.clone().call(Call {
            head: Box::new(head),
            body: RequestBody::Empty,
            trail: Rc::clone(trail),
        })
    }

    pub async fn get(&self, path: &str, fields: &[(&str, &str)]) -> Got {
        read(self.begin(request("GET", path, fields)).await).await
    }

    /// Begins a GET that goes on by itself.
    pub fn send(&self, path: &str) -> JoinHandle<Got> {
        let future = self.begin(request("GET", path, &[]));
        tokio::task::spawn_local(async move { read(future.await).await })
    }
}

pub fn request(method: &str, path: &str, fields: &[(&str, &str)]) -> Request<()> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "shop");
    let add = |request: http::request::Builder, (name, value): &(&str, &str)| {
        request.header(*name, *value)
    };
    let request = fields.iter().fold(request, add);
    request.body(()).expect("a request")
}

pub async fn read(outcome: Outcome) -> Got {
    match outcome {
        Ok(response) => {
            let (head, body) = response.into_parts();
            let told = head.headers.get("cache-status");
            let told = told.map_or("", |value| value.to_str().expect("text"));
            let body = body.collect().await;
            Got {
                status: head.status.as_u16(),
                told: told.to_owned(),
                broke: body.is_err(),
                text: body.map_or(String::new(), |body| {
                    String::from_utf8(body.to_bytes().to_vec()).expect("text")
                }),
            }
        }
        Err(fault) => Got {
            status: fault.reason.status(),
            told: String::new(),
            text: fault.reason.word().to_owned(),
            broke: false,
        },
    }
}

/// Says how a call ends that waits for it.
pub fn tell(to: oneshot::Sender<Outcome>, response: Response<ResponseBody>) {
    assert!(to.send(Ok(response)).is_ok(), "somebody fetches");
}

/// Lets everything run that can.
pub async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

pub async fn locally<T>(test: impl Future<Output = T>) -> T {
    LocalSet::new().run_until(test).await
}
