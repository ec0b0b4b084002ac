//! One live upstream: the state that all its calls share, on whatever worker.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;

use crate::app::credentials::Credentials;
use crate::app::faults::Faults;
use crate::app::fleet::Fleet;
use crate::app::found;
use crate::app::orders::breaker_name;
use crate::app::probes;
use crate::app::probes::Probes;
use crate::app::secure;
use crate::app::tree::Around;
use crate::app::tree::Destination;
use crate::app::tree::Key;
use crate::balance;
use crate::balance::Balancer;
use crate::clock;
use crate::config;
use crate::config::Endpoints;
use crate::config::Policy;
use crate::endpoint::Cluster;
use crate::endpoint::discover::WatchHandle;
use crate::endpoint::health::Health;
use crate::http::Reason;
use crate::kit::mode::Mode;
use crate::policy::breaker;
use crate::policy::breaker::Breaker;
use crate::policy::breaker::config::Scope;
use crate::policy::bulkhead;
use crate::policy::bulkhead::Bulkhead;
use crate::policy::cache;
use crate::policy::deadline;
use crate::policy::eject;
use crate::policy::eject::Ejector;
use crate::policy::hedge;
use crate::policy::hedge::Hedger;
use crate::policy::idempotency;
use crate::policy::limit;
use crate::policy::limit::Limiter;
use crate::policy::retry;
use crate::policy::retry::Budget;
use crate::route::machine::Matcher;
use crate::telemetry;
use crate::telemetry::RouteMetrics;
use crate::telemetry::Telemetry;
use crate::telemetry::UpstreamMetrics;

/// How long a destination that a call brought to life stays after its last use.
const REST: Duration = Duration::from_secs(300);

/// An upstream that is being called.
pub struct Live {
    /// How it is found.
    pub key: Key,
    /// The upstream's name in the policy, the `upstream` label.
    pub name: String,
    /// Its endpoints.
    pub cluster: Arc<Cluster>,
    /// How calls are spread over them. Without a history, so that each load makes it anew.
    pub balancer: Arc<Balancer>,
    /// Ejection; `None` is off.
    pub ejector: Option<Arc<Ejector>>,
    /// Probes of the endpoints; `None` is off.
    pub health: Option<Arc<Health>>,
    /// Handles.
    pub metrics: Arc<UpstreamMetrics>,
    /// Routes, the most specific first; the base is the last and matches everything.
    pub routes: Vec<Route>,
    watch: Option<Arc<WatchHandle>>,
    born: Instant,
    used_after_ms: AtomicU64,
}

/// What the calls of one route share.
pub struct Route {
    /// Settings and name.
    pub policy: config::Route,
    /// `None` for the base.
    pub matcher: Option<Matcher>,
    /// The breaker and this route's mode of obeying it.
    pub breaker: Option<(Arc<Breaker>, Mode)>,
    /// The bulkhead and this route's mode of obeying it.
    pub bulkhead: Option<(Arc<Bulkhead>, Mode)>,
    /// The cache, and how this route uses it; `None` is off.
    pub cache: Option<Arc<cache::Guard>>,
    /// The limit, and how this route obeys it.
    pub limit: Option<limit::Guard>,
    /// The budget that its retries are taken from.
    pub budget: Option<Arc<Budget>>,
    /// What its hedges are judged by, and its mode of hedging; `None` is off.
    pub hedger: Option<(Arc<Hedger>, Mode)>,
    /// What is counted about its idempotency keys; `None` is off.
    pub keys: Option<Arc<idempotency::metrics::Metrics>>,
    /// What is counted about its retries.
    pub retries: Arc<retry::metrics::Metrics>,
    /// What is counted about its timeouts.
    pub expiries: Arc<deadline::metrics::Metrics>,
    /// Handles.
    pub metrics: Arc<RouteMetrics>,
}

/// What an upstream is brought to life with.
#[derive(Clone, Copy)]
pub struct Means<'a> {
    /// The whole policy.
    pub policy: &'a Policy,
    /// What the tree finds around it.
    pub around: &'a Around<'a>,
    /// What is kept of answers.
    pub store: Option<&'a Arc<cache::Store>>,
    /// The other pods.
    pub fleet: &'a Arc<Fleet>,
}

impl Live {
    /// Brings an upstream to life, with what `before` has of the same settings.
    #[must_use]
    pub fn new(
        key: Key,
        upstream: Option<&config::Upstream>,
        means: &Means<'_>,
        before: Option<&Live>,
    ) -> Arc<Self> {
        let Means {
            policy,
            around,
            store,
            fleet,
        } = *means;
        let (telemetry, resolver) = (around.telemetry, around.resolver);
        let name = upstream.map_or(telemetry::UNMATCHED, |upstream| &upstream.name);
        let metrics = telemetry.upstream(name);
        let tls = upstream.map_or(&policy.fallback_tls, |upstream| &upstream.tls);
        // What was made with another TLS, or none, is not to be used again, and nothing that was found out there holds.
        let same = before.filter(|before| secure::fits(&before.cluster, tls));
        let (cluster, watch) = if let Some(before) = same {
            (before.kept(upstream, &metrics), before.watch.clone())
        } else {
            if let Some(health) = before.and_then(|before| before.health.as_ref()) {
                // The tree before lives on for as long as a call holds it; two would probe meanwhile.
                health.stop();
            }
            found::find(&key, name, upstream, tls, around, &metrics)
        };
        let balancer = balancer(name, upstream, policy, telemetry);
        let eject = upstream.map_or(&policy.fallback_eject, |upstream| &upstream.eject);
        let ejector = eject.as_ref().map(|settings| {
            let old = same.and_then(|before| before.ejector.as_ref());
            ejector(name, settings, &cluster, telemetry, old)
        });
        let health = Probes {
            key: &key,
            name,
            telemetry,
            resolver,
            before: same.and_then(|before| before.health.as_ref()),
        }
        .of(upstream, &cluster);
        let routes = Routes {
            name,
            telemetry,
            store,
            fleet,
            dialled: key.destination.dialled(),
            before,
        }
        .all(upstream, &policy.fallback);
        Arc::new(Self {
            key,
            name: name.into(),
            cluster,
            balancer,
            ejector,
            health,
            metrics,
            routes,
            watch,
            born: clock::now(),
            used_after_ms: AtomicU64::new(0),
        })
    }

    /// Its cluster, for the same upstream in a new policy: a changed list is put into it, so that what is known of the
    /// endpoints that stay is kept.
    fn kept(
        &self,
        upstream: Option<&config::Upstream>,
        metrics: &Arc<UpstreamMetrics>,
    ) -> Arc<Cluster> {
        let endpoints = upstream.map(|upstream| &upstream.endpoints);
        if let (Destination::Listed, Some(Endpoints::Static(members))) =
            (&self.key.destination, endpoints)
        {
            metrics.set_endpoints(members.len());
            self.cluster.replace(members, clock::now());
        }
        Arc::clone(&self.cluster)
    }

    /// Notes that it is in use; asked by the workers now and then, not at each call.
    pub fn touch(&self) {
        let after = clock::now().saturating_duration_since(self.born);
        self.used_after_ms.store(
            u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
    }

    /// Whether it has not been used for a while.
    #[must_use]
    pub fn has_rested(&self) -> bool {
        let used = Duration::from_millis(self.used_after_ms.load(Ordering::Relaxed));
        clock::now().saturating_duration_since(self.born + used) > REST
    }

    /// Its breakers, each one once.
    pub fn breakers(&self) -> impl Iterator<Item = &Arc<Breaker>> {
        let all = || {
            let breakers = self.routes.iter().map(|route| route.breaker.as_ref());
            breakers.enumerate()
        };
        all().filter_map(move |(at, breaker)| {
            let (breaker, _) = breaker?;
            let is_known = all().take(at).any(|(_, earlier)| {
                earlier.is_some_and(|(earlier, _)| Arc::ptr_eq(earlier, breaker))
            });
            (!is_known).then_some(breaker)
        })
    }

    /// Brings the gauges up to date that no event moves.
    pub fn refresh_gauges(&self, now: Instant) {
        if let Some(ejector) = &self.ejector {
            ejector.refresh(now);
        }
        for route in &self.routes {
            if let Some((breaker, _)) = &route.breaker {
                breaker.refresh(now);
            }
            if let Some((bulkhead, _)) = &route.bulkhead {
                bulkhead.refresh();
            }
            if let Some(budget) = &route.budget {
                route.retries.budget_left(budget.left());
            }
            if let Some((hedger, _)) = &route.hedger {
                hedger.refresh(now);
            }
            if let Some(guard) = &route.limit {
                guard.limiter.refresh(now);
            }
        }
    }

    /// Its line in `/upstreams`.
    #[must_use]
    pub fn describe(&self, faults: &Faults, credentials: &Credentials, now: Instant) -> Value {
        let set = self.cluster.set();
        let endpoints: Vec<_> = set
            .endpoints
            .iter()
            .zip(&set.members)
            .map(|(endpoint, member)| {
                let ramp = self.balancer.ramp(endpoint, now);
                let left = endpoint
                    .resting_until(now)
                    .map(|until| until.saturating_duration_since(now).as_millis() as u64);
                let mut entry = json!({
                    "address": endpoint.address,
                    "weight": member.weight,
                    "zone": member.zone.as_deref(),
                    "ramp": (ramp < 1.0).then_some(ramp),
                    "ejected_for_ms": left,
                    "in_flight": endpoint.in_flight(),
                    "ewma_ms": endpoint.latency_s(now) * 1e3,
                });
                secure::describe_endpoint(endpoint, &mut entry);
                probes::describe_endpoint(self.health.as_deref(), endpoint, now, &mut entry);
                entry
            })
            .collect();
        let routes: Vec<_> = self
            .routes
            .iter()
            .map(|route| {
                let breaker = route.breaker.as_ref();
                json!({
                    "route": route.policy.name,
                    "breaker": breaker.map(|(breaker, _)| breaker.describe(now)),
                    "bulkhead": route.bulkhead.as_ref().map(|(bulkhead, _)| bulkhead.describe()),
                    "fault": faults
                        .find(&self.name, &route.policy.name)
                        .map(|injection| injection.state().word()),
                    "adds": credentials.describe(&self.name, &route.policy.name, now),
                    "cache": route.cache.as_ref().map(|cache| cache.describe()),
                    "retry_budget_left": route.budget.as_deref().map(Budget::left),
                    "hedge": route.hedger.as_ref().map(|(hedger, _)| hedger.describe(now)),
                    "limit": route.limit.as_ref().map(|guard| guard.describe(now)),
                })
            })
            .collect();
        let destination = match &self.key.destination {
            Destination::Listed => None,
            Destination::Name(host, port) => Some(format!("{host}:{port}")),
            Destination::Dialled(address) => Some(address.to_string()),
        };
        let base = self.routes.last().and_then(|base| base.breaker.as_ref());
        json!({
            "upstream": self.name,
            "destination": destination,
            "breaker": base.map(|(breaker, _)| breaker.state(now).word()),
            "tls": secure::describe(&self.cluster),
            "health": probes::describe(self.health.as_deref()),
            "balance": self.balancer.describe(),
            "unresolved": set.failed.map(Reason::word),
            "endpoints": endpoints,
            "routes": routes,
        })
    }
}

fn balancer(
    name: &str,
    upstream: Option<&config::Upstream>,
    policy: &Policy,
    telemetry: &Telemetry,
) -> Arc<Balancer> {
    let balance = match upstream {
        Some(upstream) => &upstream.balance,
        None => &policy.fallback_balance,
    };
    Balancer::new(
        balance.clone(),
        policy.zone.clone(),
        balance::metrics::Metrics::new(telemetry, name),
    )
}

/// The one there was, if its settings are the same.
fn ejector(
    name: &str,
    settings: &eject::Settings,
    cluster: &Arc<Cluster>,
    telemetry: &Telemetry,
    old: Option<&Arc<Ejector>>,
) -> Arc<Ejector> {
    let anew = || {
        let metrics = eject::metrics::Metrics::new(telemetry, name);
        Ejector::new(name.into(), settings.clone(), Arc::clone(cluster), metrics)
    };
    let same = old.filter(|ejector| ejector.settings() == settings);
    same.map_or_else(anew, Arc::clone)
}

/// What the routes of one upstream share, unless one has its own.
struct Common {
    breaker: Option<Arc<Breaker>>,
    budget: Option<Arc<Budget>>,
    bulkhead: Option<Arc<Bulkhead>>,
    limiter: Option<Arc<Limiter>>,
    /// One of them has a cache.
    is_cached: bool,
}

/// Makes the routes of one upstream.
struct Routes<'a> {
    name: &'a str,
    telemetry: &'a Arc<Telemetry>,
    store: Option<&'a Arc<cache::Store>>,
    fleet: &'a Arc<Fleet>,
    /// Where its calls go whatever their host says.
    dialled: Option<SocketAddr>,
    before: Option<&'a Live>,
}

impl Routes<'_> {
    fn all(&self, upstream: Option<&config::Upstream>, fallback: &config::Route) -> Vec<Route> {
        let base = upstream.map_or(fallback, |upstream| &upstream.base);
        let own: &[config::Route] = upstream.map_or(&[], |upstream| &upstream.routes);
        let shared_settings = upstream.map_or(&fallback.breaker, |upstream| &upstream.breaker);
        let shared = shared_settings
            .as_ref()
            .map(|settings| self.breaker("*", settings));
        let base_budget = base.retry.as_ref().map(|retry| self.budget("*", retry));
        let shared_limit = match upstream {
            Some(upstream) => upstream.bulkhead.as_ref(),
            None => fallback
                .bulkhead
                .as_ref()
                .map(|bulkhead| &bulkhead.settings),
        };
        let room = shared_limit.map(|settings| self.bulkhead("*", settings));
        let common = Common {
            breaker: shared,
            budget: base_budget,
            bulkhead: room,
            is_cached: own.iter().chain([base]).any(|route| route.cache.is_some()),
            limiter: base.limit.as_ref().map(|limit| self.limiter("*", limit)),
        };
        let mut routes: Vec<_> = own.iter().map(|route| self.one(route, &common)).collect();
        routes.sort_by_key(|route| {
            std::cmp::Reverse(route.matcher.as_ref().map(Matcher::specificity))
        });
        routes.push(self.one(base, &common));
        routes
    }

    fn one(&self, route: &config::Route, common: &Common) -> Route {
        let breaker = route.breaker.as_ref().map(|settings| {
            let breaker = match (settings.scope, &common.breaker) {
                (Scope::Upstream, Some(shared)) => Arc::clone(shared),
                _ => self.breaker(&route.name, settings),
            };
            (breaker, settings.mode)
        });
        let budget = route.retry.as_ref().map(|retry| match &common.budget {
            Some(base) if *base.settings() == retry.budget => Arc::clone(base),
            _ => self.budget(&route.name, retry),
        });
        let bulkhead = route.bulkhead.as_ref().map(|own| {
            let bulkhead = match &common.bulkhead {
                Some(shared) if !own.is_own => Arc::clone(shared),
                _ => self.bulkhead(&route.name, &own.settings),
            };
            (bulkhead, own.settings.mode)
        });
        Route {
            matcher: route.matcher.clone(),
            policy: route.clone(),
            breaker,
            bulkhead,
            cache: self.cache(route, common.is_cached),
            limit: self.guard(route, common.limiter.as_ref()),
            budget,
            hedger: route
                .hedge
                .as_ref()
                .map(|settings| (self.hedger(&route.name, settings), settings.mode)),
            keys: route.idempotency.as_ref().map(|_| {
                let metrics =
                    idempotency::metrics::Metrics::new(self.telemetry, self.name, &route.name);
                Arc::new(metrics)
            }),
            retries: Arc::new(retry::metrics::Metrics::new(
                self.telemetry,
                self.name,
                &route.name,
            )),
            expiries: Arc::new(deadline::metrics::Metrics::new(
                self.telemetry,
                self.name,
                &route.name,
            )),
            metrics: self.telemetry.route(self.name, &route.name),
        }
    }

    fn breaker(&self, route: &str, settings: &breaker::Settings) -> Arc<Breaker> {
        let old = self.old(route).and_then(|old| old.breaker.as_ref());
        if let Some((breaker, _)) = old
            && same_machine(breaker.settings(), settings)
        {
            return Arc::clone(breaker);
        }
        let metrics = breaker::metrics::Metrics::new(self.telemetry, self.name, route);
        Breaker::new(breaker_name(self.name, route), settings.clone(), metrics)
    }

    /// Always the one that was there: the calls that hold its permits are at the upstream whatever the settings say now.
    fn bulkhead(&self, route: &str, settings: &bulkhead::Settings) -> Arc<Bulkhead> {
        let old = self.old(route).filter(|old| {
            let own = old.policy.bulkhead.as_ref();
            // One that the route shared is that of `*`, and others go on sharing it.
            route == "*" || own.is_some_and(|own| own.is_own)
        });
        if let Some((bulkhead, _)) = old.and_then(|old| old.bulkhead.as_ref()) {
            bulkhead.reconfigure(settings);
            return Arc::clone(bulkhead);
        }
        let metrics = bulkhead::metrics::Metrics::new(self.telemetry, self.name, route);
        Bulkhead::new(settings.clone(), metrics)
    }

    fn cache(&self, route: &config::Route, is_used: bool) -> Option<Arc<cache::Guard>> {
        let store = Arc::clone(self.store.filter(|_| is_used)?);
        let metrics = cache::metrics::Metrics::new(self.telemetry, self.name, &route.name);
        let Some(settings) = route.cache.clone() else {
            return Some(cache::Guard::watching(store, metrics));
        };
        Some(cache::Guard::new(
            settings,
            store,
            metrics,
            self.dialled,
            route.deadline.total,
        ))
    }

    fn guard(&self, route: &config::Route, base: Option<&Arc<Limiter>>) -> Option<limit::Guard> {
        let settings = route.limit.as_ref()?;
        let metrics = limit::metrics::Metrics::new(self.telemetry, self.name, &route.name);
        Some(limit::Guard {
            limiter: match base {
                Some(base) if !settings.own => Arc::clone(base),
                _ => self.limiter(&route.name, settings),
            },
            mode: settings.mode,
            headers: settings.headers,
            metrics: Arc::new(metrics),
        })
    }

    fn limiter(&self, route: &str, settings: &limit::Settings) -> Arc<Limiter> {
        let old = self.old(route).and_then(|old| old.limit.as_ref());
        let old = old.map(|guard| &guard.limiter);
        if let Some(old) = old
            && old.settings().same_buckets(settings)
        {
            return Arc::clone(old);
        }
        let name = match route {
            "*" => self.name.to_owned(),
            route => format!("{} {route}", self.name),
        };
        let keys = limit::metrics::keys(self.telemetry, self.name, route);
        let old = old.map(|old| &**old);
        let limiter = Limiter::new(&name, settings.clone(), keys, clock::now(), old);
        if limiter.is_shared() {
            let asks = limit::metrics::Asks::new(self.telemetry, self.name, route);
            self.fleet.serve(&limiter, asks);
        }
        limiter
    }

    fn budget(&self, route: &str, retry: &retry::Settings) -> Arc<Budget> {
        match self.old(route).and_then(|old| old.budget.as_ref()) {
            Some(budget) if *budget.settings() == retry.budget => Arc::clone(budget),
            _ => Budget::new(retry.budget.clone()),
        }
    }

    /// Each route has its own: the percentile is that of its calls.
    fn hedger(&self, route: &str, settings: &hedge::Settings) -> Arc<Hedger> {
        match self.old(route).and_then(|old| old.hedger.as_ref()) {
            Some((hedger, _)) if hedger.settings().same_machine(settings) => Arc::clone(hedger),
            _ => {
                let metrics = hedge::metrics::Metrics::new(self.telemetry, self.name, route);
                Hedger::new(settings.clone(), metrics)
            }
        }
    }

    fn old(&self, route: &str) -> Option<&Route> {
        let routes = &self.before?.routes;
        routes.iter().find(|old| old.policy.name == route)
    }
}

/// Whether one machine can follow both. The mode is the route's, not the machine's.
#[must_use]
pub fn same_machine(a: &breaker::Settings, b: &breaker::Settings) -> bool {
    breaker::Settings {
        mode: b.mode,
        ..a.clone()
    } == *b
}
