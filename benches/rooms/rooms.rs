//! The rooms as a policy turns them on, each alone and all in the order of the stack.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use http::header;
use outrider::clock;
use outrider::endpoint::Cluster;
use outrider::http::Trail;
use outrider::http::hops::Terms;
use outrider::kit::mode::Mode;
use outrider::policy::breaker;
use outrider::policy::bulkhead;
use outrider::policy::cache;
use outrider::policy::correlation;
use outrider::policy::deadline;
use outrider::policy::eject;
use outrider::policy::fault;
use outrider::policy::hedge;
use outrider::policy::idempotency;
use outrider::policy::limit;
use outrider::policy::overload;
use outrider::policy::retry;
use outrider::redact;
use outrider::telemetry::BuildInfo;
use outrider::telemetry::Telemetry;
use tower::ServiceBuilder;

use crate::measure::Figure;
use crate::measure::cost;
use crate::measure::cost_beside;

/// The row of an answer out of the store.
pub const HIT: &str = "cache hit";
/// The row of an answer that the cache looked for, had fetched, and did not keep.
pub const MISS: &str = "cache miss";
/// The name of the last row.
pub const TOGETHER: &str = "all together";

/// Each row and how it is measured.
pub const ALL: &[(&str, fn() -> Figure)] = &[
    ("correlation", || cost(correlation, 1, terms)),
    ("overload", || cost(overload, 1, terms)),
    ("fault", || cost(fault, 1, terms)),
    (HIT, || cost(|| cache(Some(FOR_YEARS)), 1, terms)),
    (MISS, || cost(|| cache(None), 1, terms)),
    ("deadline", || cost(deadline, 1, terms)),
    ("limit", || cost(|| limit(Vec::new()), 1, terms)),
    ("limit by key", || {
        let tenant = HeaderName::from_static("x-tenant");
        let per = limit::config::Selector::Header(tenant);
        cost(move || limit(vec![per.clone()]), 1, terms)
    }),
    ("limit of all pods", || cost(limit_of_all_pods, 1, terms)),
    ("bulkhead", || cost(|| bulkhead(None), 1, terms)),
    ("bulkhead found", || {
        cost(
            || bulkhead(Some(bulkhead::config::Adaptive::default())),
            1,
            terms,
        )
    }),
    ("idempotency", || cost(idempotency, 1, terms)),
    ("hedge", cost_of_hedge),
    ("retry", || cost(retry, 1, terms)),
    ("try span", || cost(correlation::TryLayer::new, 1, traced)),
    ("breaker", || cost(breaker, 1, terms)),
    ("eject", || cost_of_eject(None)),
    ("eject slow", || cost_of_eject(Some(3.0))),
    ("try timeout", || cost(try_timeout, 1, terms)),
    ("redact", redaction),
    (TOGETHER, all),
];

/// What a usual request has in the access log, looked at: identifier, host, method, path.
fn redaction() -> Figure {
    const ROUNDS: u32 = 200_000;
    let fields: [&[u8]; 3] = [
        b"payments.shop.svc.cluster.local:8443",
        b"POST",
        b"/v1/customers/0198f9a2-7c3d-7b1e-8d4f-1a2b3c4d5e6f/charges/1234567890123",
    ];
    let mut best = f64::MAX;
    for _ in 0..9 {
        let began = std::time::Instant::now();
        for _ in 0..ROUNDS {
            std::hint::black_box(redact::id(std::hint::black_box(
                b"0198f9a2-7c3d-7b1e-8d4f-1a2b3c4d5e6f",
            )));
            for field in fields {
                std::hint::black_box(redact::text(std::hint::black_box(field)));
            }
        }
        best = best.min(began.elapsed().as_nanos() as f64 / f64::from(ROUNDS));
    }
    Figure {
        ready: best,
        waits: best,
    }
}

/// What the listener knows of the hop before: the application itself, which is believed.
fn terms(trail: &Trail) {
    trail.terms.set(Terms {
        trusted: true,
        deadline: Some(Mode::Enforce),
        retry: Some(Mode::Enforce),
    });
}

/// As behind the correlation room.
fn traced(trail: &Trail) {
    terms(trail);
    trail.trace.set(Some(outrider::http::TraceMark {
        trace_id: [7; 16],
        span: 1,
        parent: None,
        flags: 1,
    }));
}

fn telemetry() -> Arc<Telemetry> {
    let build = BuildInfo {
        version: "",
        commit: "",
    };
    Telemetry::new(build, 1)
}

fn correlation() -> correlation::CorrelationLayer {
    let metrics = correlation::metrics::Metrics::new(&telemetry());
    correlation::CorrelationLayer::new(correlation::Settings::default(), metrics)
}

fn expiries() -> Arc<deadline::metrics::Metrics> {
    Arc::new(deadline::metrics::Metrics::new(&telemetry(), "u", "*"))
}

fn deadline() -> deadline::DeadlineLayer {
    deadline::DeadlineLayer::new(deadline::Settings::default(), expiries())
}

fn try_timeout() -> deadline::TryLayer {
    deadline::TryLayer::new(deadline::Settings::default(), expiries())
}

fn overload() -> overload::OverloadLayer {
    let metrics = overload::metrics::Metrics::new(&telemetry(), 1);
    overload::OverloadLayer::new(Some(overload::Gate {
        load: overload::Load::new(1, metrics),
        worker: 0,
        settings: overload::Settings::default(),
        priority: overload::Priority::default(),
    }))
}

/// An injection that is running, and meets none of the bench's calls.
fn fault() -> fault::FaultLayer {
    let settings = fault::Settings {
        mode: Mode::Enforce,
        delay: Some(Duration::from_millis(1)),
        abort: None,
        reset: false,
        bandwidth: None,
        share: 1e-15,
        until: clock::unix() + Duration::from_secs(3600),
        stop_when: None,
    };
    let metrics = fault::metrics::Metrics::new(&telemetry(), "u", "*");
    let injection = fault::Injection::new("u", "*", settings, metrics);
    fault::FaultLayer::new(Some(injection))
}

/// Longer than it is since the answers' date.
const FOR_YEARS: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A cache of the caller's own, for the call has an `Authorization`. Its answers say nothing of how long they are fresh:
/// without `get` none is kept.
fn cache(get: Option<Duration>) -> cache::CacheLayer {
    let settings = cache::Settings {
        get,
        per: vec![cache::config::Principal::Header(header::AUTHORIZATION)],
        ..cache::Settings::default()
    };
    let metrics = cache::metrics::Metrics::new(&telemetry(), "u", "*");
    let store = cache::Store::new(64 << 20);
    let total = Duration::from_secs(30);
    cache::CacheLayer::new(Some(cache::Guard::new(
        settings, store, metrics, None, total,
    )))
}

/// A lease that the bench does not use up.
fn limit_of_all_pods() -> limit::LimitLayer {
    let guard = guard(limit::Settings {
        scope: limit::config::Scope::Global(limit::machine::lease::Away::Local),
        ..never_reached()
    });
    let now = clock::now();
    let ask = guard.limiter.greet(now).expect("nothing was asked yet");
    let grant = limit::machine::lease::Grant {
        calls: u64::MAX / 2,
        left: 0,
        pods: 5,
        next: 0,
    };
    guard.limiter.answered(&ask, Some(grant), now, 0.5);
    limit::LimitLayer::new(Some(guard))
}

/// A limit that the bench does not reach.
fn limit(per: Vec<limit::config::Selector>) -> limit::LimitLayer {
    let settings = limit::Settings {
        per,
        ..never_reached()
    };
    limit::LimitLayer::new(Some(guard(settings)))
}

fn never_reached() -> limit::Settings {
    limit::Settings {
        rate: limit::config::Rate::per_second(1_000_000),
        burst: 1_000_000,
        ..limit::Settings::default()
    }
}

fn guard(settings: limit::Settings) -> limit::Guard {
    let telemetry = telemetry();
    let (mode, headers) = (settings.mode, settings.headers);
    let keys = limit::metrics::keys(&telemetry, "u", "*");
    let metrics = limit::metrics::Metrics::new(&telemetry, "u", "*");
    limit::Guard {
        limiter: limit::Limiter::new("u", settings, keys, clock::now(), None),
        mode,
        headers,
        metrics: Arc::new(metrics),
    }
}

fn bulkhead(adaptive: Option<bulkhead::config::Adaptive>) -> bulkhead::BulkheadLayer {
    let settings = bulkhead::Settings {
        adaptive,
        ..bulkhead::Settings::default()
    };
    let metrics = bulkhead::metrics::Metrics::new(&telemetry(), "u", "*");
    let bulkhead = bulkhead::Bulkhead::new(settings, metrics);
    bulkhead::BulkheadLayer::new(Some((bulkhead, Mode::Enforce)))
}

fn idempotency() -> idempotency::IdempotencyLayer {
    let metrics = idempotency::metrics::Metrics::new(&telemetry(), "u", "*");
    let settings = idempotency::Settings::default();
    idempotency::IdempotencyLayer::new(Some((settings, Arc::new(metrics))))
}

fn hedge(cluster: &Arc<Cluster>) -> hedge::HedgeLayer {
    let metrics = hedge::metrics::Metrics::new(&telemetry(), "u", "*");
    let hedger = hedge::Hedger::new(hedge::Settings::default(), metrics);
    hedge::HedgeLayer::new(Some((hedger, Mode::Enforce)), Arc::clone(cluster))
}

/// It stands outside retry and hands its calls over in a way that only retry takes.
fn cost_of_hedge() -> Figure {
    let cluster = cluster();
    let first = cluster.set().endpoints[0].id;
    let both = || ServiceBuilder::new().layer(hedge(&cluster)).layer(retry());
    cost_beside(retry, both, first, terms)
}

fn retry() -> retry::RetryLayer {
    let settings = retry::Settings::default();
    let budget = retry::Budget::new(settings.budget.clone());
    let metrics = retry::metrics::Metrics::new(&telemetry(), "u", "*");
    retry::RetryLayer::new(Some((settings, budget, Arc::new(metrics))))
}

fn breaker() -> breaker::BreakerLayer {
    let metrics = breaker::metrics::Metrics::new(&telemetry(), "u", "*");
    let breaker = breaker::Breaker::new("u *".to_owned(), breaker::Settings::default(), metrics);
    breaker::BreakerLayer::new(Some((breaker, Mode::Enforce)))
}

/// Three endpoints, of which the first is called.
fn cluster() -> Arc<Cluster> {
    let addresses = [1, 2, 3].map(|last| SocketAddr::from(([10, 0, 0, last], 80)));
    Cluster::fixed(&addresses, clock::now())
}

fn eject(slow: Option<f64>, cluster: &Arc<Cluster>) -> eject::EjectLayer {
    let settings = eject::Settings {
        slow,
        ..eject::Settings::default()
    };
    let metrics = eject::metrics::Metrics::new(&telemetry(), "u");
    let ejector = eject::Ejector::new("u".to_owned(), settings, Arc::clone(cluster), metrics);
    eject::EjectLayer::new(Some(ejector))
}

fn cost_of_eject(slow: Option<f64>) -> Figure {
    let cluster = cluster();
    let first = cluster.set().endpoints[0].id;
    cost(|| eject(slow, &cluster), first, terms)
}

fn all() -> Figure {
    let cluster = cluster();
    let first = cluster.set().endpoints[0].id;
    let stack = || {
        ServiceBuilder::new()
            .layer(correlation())
            .layer(overload())
            .layer(fault())
            .layer(deadline())
            .layer(limit(Vec::new()))
            .layer(bulkhead(None))
            .layer(idempotency())
            .layer(hedge(&cluster))
            .layer(retry())
            .layer(correlation::TryLayer::new())
            .layer(breaker())
            .layer(eject(None, &cluster))
            .layer(try_timeout())
    };
    cost(stack, first, terms)
}
