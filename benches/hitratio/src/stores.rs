//! The caches that are asked. The bare ones keep no bodies, only what they weigh: as much as an answer weighs in ours.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::Request;
use http::Response;
use http_body_util::BodyExt;
use outrider::clock;
use outrider::http::Call;
use outrider::http::Fault;
use outrider::http::Outcome;
use outrider::http::RequestBody;
use outrider::http::ResponseBody;
use outrider::http::Trail;
use outrider::policy::cache;
use outrider::telemetry::BuildInfo;
use outrider::telemetry::Telemetry;
use tokio::runtime::LocalRuntime;
use tower::Layer;
use tower::Service;

use crate::traffic::Ask;
use crate::traffic::KEYS;

/// The name of ours.
pub const OURS: &str = "outrider";
/// What an answer weighs beside its body, in ours: head, key and what they take in memory. `Ours` checks it.
const BESIDE: u64 = 1484;
/// The share of its body that is added for the allocator's gaps, likewise.
const GAPS: u64 = 16;

/// Something that keeps answers.
pub trait Contender {
    /// Whether it had the answer; if not, it is given it.
    fn ask(&mut self, ask: Ask) -> bool;
}

type Make = fn(u64) -> Box<dyn Contender>;

/// All of them, ours first.
pub const ALL: &[(&str, Make)] = &[
    (OURS, |budget| Box::new(Ours::new(budget))),
    ("quick_cache", |budget| Box::new(quick(budget))),
    ("moka", |budget| Box::new(moka(budget))),
    ("foyer lru", |budget| {
        Box::new(foyer(budget, foyer_memory::LruConfig::default().into()))
    }),
    ("foyer s3-fifo", |budget| {
        Box::new(foyer(budget, foyer_memory::S3FifoConfig::default().into()))
    }),
    ("foyer w-tinylfu", |budget| {
        Box::new(foyer(budget, foyer_memory::LfuConfig::default().into()))
    }),
    ("foyer sieve", |budget| {
        Box::new(foyer(budget, foyer_memory::SieveConfig::default().into()))
    }),
];

/// Bytes of an answer.
type Size = u32;

fn weight(size: Size) -> u64 {
    u64::from(size) + u64::from(size) / GAPS + BESIDE
}

#[derive(Clone)]
struct BySize;

impl quick_cache::Weighter<u64, Size> for BySize {
    fn weight(&self, _: &u64, size: &Size) -> u64 {
        weight(*size)
    }
}

struct Quick(quick_cache::sync::Cache<u64, Size, BySize>);

fn quick(budget: u64) -> Quick {
    Quick(quick_cache::sync::Cache::with_weighter(
        KEYS / 10,
        budget,
        BySize,
    ))
}

impl Contender for Quick {
    fn ask(&mut self, ask: Ask) -> bool {
        let has = self.0.get(&ask.key).is_some();
        if !has {
            self.0.insert(ask.key, ask.size as Size);
        }
        has
    }
}

struct Moka(moka::sync::Cache<u64, Size>);

fn moka(budget: u64) -> Moka {
    let builder = moka::sync::Cache::builder().max_capacity(budget);
    Moka(builder.weigher(|_, size| weight(*size) as u32).build())
}

impl Contender for Moka {
    fn ask(&mut self, ask: Ask) -> bool {
        let has = self.0.get(&ask.key).is_some();
        if !has {
            self.0.insert(ask.key, ask.size as Size);
        }
        has
    }
}

struct Foyer(foyer_memory::Cache<u64, Size>);

fn foyer(budget: u64, eviction: foyer_memory::EvictionConfig) -> Foyer {
    let builder = foyer_memory::CacheBuilder::new(budget as usize)
        .with_eviction_config(eviction)
        .with_weighter(|_: &u64, size: &Size| weight(*size) as usize);
    Foyer(builder.build())
}

impl Contender for Foyer {
    fn ask(&mut self, ask: Ask) -> bool {
        let has = self.0.get(&ask.key).is_some();
        if !has {
            self.0.insert(ask.key, ask.size as Size);
        }
        has
    }
}

/// The room as a route has it, with an upstream that answers at once.
struct Ours {
    runtime: LocalRuntime,
    cache: cache::Cache<Upstream>,
    store: Arc<cache::Store>,
    upstream: Upstream,
}

/// Answers with a body of this many bytes, and counts.
#[derive(Clone)]
struct Upstream {
    size: Rc<Cell<usize>>,
    asked: Rc<Cell<u64>>,
}

impl Service<Call> for Upstream {
    type Response = Response<ResponseBody>;
    type Error = Fault;
    type Future = Pin<Box<dyn Future<Output = Outcome>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Call) -> Self::Future {
        self.asked.set(self.asked.get() + 1);
        let body = Bytes::from(vec![b'x'; self.size.get()]);
        let mut response = Response::new(ResponseBody::full(body));
        let fields = response.headers_mut();
        fields.insert("content-length", HeaderValue::from(self.size.get()));
        for (name, value) in [
            ("date", "Tue, 24 Nov 2026 10:00:00 GMT"),
            ("content-type", "application/json"),
            ("cache-control", "max-age=86400"),
        ] {
            fields.insert(name, HeaderValue::from_static(value));
        }
        Box::pin(std::future::ready(Ok(response)))
    }
}

impl Ours {
    fn new(budget: u64) -> Self {
        let build = BuildInfo {
            version: "",
            commit: "",
        };
        let telemetry = Telemetry::new(build, 1);
        let store = cache::Store::new(budget);
        let metrics = cache::metrics::Metrics::new(&telemetry, "u", "*");
        let total = Duration::from_secs(30);
        let settings = cache::Settings::default();
        let guard = cache::Guard::new(settings, Arc::clone(&store), metrics, None, total);
        let upstream = Upstream {
            size: Rc::default(),
            asked: Rc::default(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build_local(tokio::runtime::LocalOptions::default());
        let mut ours = Self {
            cache: cache::CacheLayer::new(Some(guard)).layer(upstream.clone()),
            runtime: runtime.expect("a runtime"),
            store,
            upstream,
        };
        // A key that the traffic does not have.
        let (key, size) = (9_999_999_999, 1600);
        ours.ask(Ask { key, size });
        assert_eq!(
            ours.store.weight(),
            weight(size as Size),
            "the others are given another budget than ours"
        );
        ours
    }
}

impl Contender for Ours {
    fn ask(&mut self, ask: Ask) -> bool {
        let asked = self.upstream.asked.get();
        self.upstream.size.set(ask.size);
        let request = Request::get(format!("http://shop/things/{:010}", ask.key));
        let request = request.body(()).expect("a request");
        let call = Call {
            head: Box::new(request.into_parts().0),
            body: RequestBody::Empty,
            trail: Rc::new(Trail::new(clock::now())),
        };
        let answering = self.cache.call(call);
        let got: Result<usize, Infallible> = self.runtime.block_on(async {
            let response = answering.await.expect("nothing fails here");
            let body = response.into_body().collect().await.expect("nor here");
            Ok(body.to_bytes().len())
        });
        assert_eq!(got, Ok(ask.size));
        self.upstream.asked.get() == asked
    }
}
