//! A policy made ready to serve: which upstream a host belongs to, and the state that its calls share.
//!
//! A tree is built whole at each load and replaced as one. Upstreams come to life when they are first called, for most
//! patterns stand for many host and port pairs. What a reload did not change (endpoints, breaker, budget, ejections) is
//! taken over from the tree before.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use dashmap::DashMap;
use serde_json::Value;
use serde_json::json;

use crate::app::credentials::Credentials;
use crate::app::faults::Faults;
use crate::app::fleet::Fleet;
use crate::app::inbound::Inbound;
use crate::app::orders::Forces;
use crate::app::upstream::Live;
use crate::app::upstream::Means;
use crate::clock;
use crate::config;
use crate::config::Endpoints;
use crate::config::Policy;
use crate::config::Protocol;
use crate::config::Unmatched;
use crate::config::Upstream;
use crate::endpoint::discover::Resolver;
use crate::http::Fault;
use crate::http::Reason;
use crate::identity::Current;
use crate::policy::cache::Store;
use crate::route::machine::Pattern;
use crate::shared;
use crate::telemetry::Telemetry;

/// Destinations that may be alive at once through globs and unmatched traffic. More are turned away until old ones are
/// swept: whoever calls this many hosts in a few minutes is a crawler or an attacker, and each one holds memory.
const DESTINATIONS_MAX: usize = 4096;

/// Which live upstream a call belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Place in [`Policy::upstreams`]; `None` for unmatched traffic.
    pub upstream: Option<usize>,
    /// Where its endpoints come from.
    pub destination: Destination,
}

/// Where endpoints come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    /// The list in the policy.
    Listed,
    /// A name to be resolved, and the port.
    Name(Box<str>, u16),
    /// The address that the application dialled.
    Dialled(SocketAddr),
}

impl Destination {
    /// The address, where the application has chosen it.
    #[must_use]
    pub fn dialled(&self) -> Option<SocketAddr> {
        match self {
            Self::Dialled(address) => Some(*address),
            Self::Listed | Self::Name(..) => None,
        }
    }
}

/// A policy and the upstreams that came to life under it.
pub struct Tree {
    /// Never given twice in one process, so that a worker sees at a glance that its copy is old.
    pub generation: u64,
    /// What was loaded.
    pub policy: Policy,
    /// Most specific first.
    order: Vec<(Pattern, usize)>,
    live: DashMap<Key, Arc<Live>>,
    /// What is injected on purpose.
    pub faults: Faults,
    /// What is added to calls so that upstreams take them.
    pub credentials: Credentials,
    /// What operators hold breakers at; the same for all trees of a process.
    pub forces: Arc<Forces>,
    /// What is kept of answers; the same for all trees of a process. `None` until a policy has a cache.
    pub store: Option<Arc<Store>>,
    /// The listener in front of the application; `None` is off.
    pub inbound: Option<Arc<Inbound>>,
    /// The Redis that pods share, kept over reloads that do not change how it is reached; `None` is off.
    pub shared: Option<Arc<shared::Owner>>,
    /// This pod among the others; the same for all trees of a process.
    pub fleet: Arc<Fleet>,
    telemetry: Arc<Telemetry>,
    resolver: Arc<Resolver>,
    identity: Arc<Current>,
}

/// What a tree finds around it, the same for all trees of a process.
pub struct Around<'a> {
    /// Counts.
    pub telemetry: &'a Arc<Telemetry>,
    /// Resolves names.
    pub resolver: &'a Arc<Resolver>,
    /// Who we are.
    pub identity: &'a Arc<Current>,
}

static GENERATION: AtomicU64 = AtomicU64::new(1);

impl Tree {
    /// Builds the tree of `policy`, taking over from `before` what did not change.
    #[must_use]
    pub fn new(policy: Policy, around: &Around<'_>, before: Option<&Tree>) -> Arc<Self> {
        let telemetry = around.telemetry;
        let mut order: Vec<_> = policy
            .upstreams
            .iter()
            .enumerate()
            .map(|(place, upstream)| (upstream.pattern.clone(), place))
            .collect();
        order.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.specificity()));
        let faults = Faults::new(&policy, telemetry, before.map(|before| &before.faults));
        let credentials = Credentials::new(
            &policy,
            telemetry,
            around.resolver,
            before.map(|before| &before.credentials),
        );
        let store = store(&policy, before);
        let inbound = policy.inbound.as_ref().map(|inbound| {
            let before = before.and_then(|before| before.inbound.as_deref());
            Inbound::new(inbound, telemetry, before)
        });
        let shared = connect(&policy, telemetry, around.resolver, before);
        let fleet = before.map_or_else(
            || Fleet::new(around.resolver.runtime()),
            |before| Arc::clone(&before.fleet),
        );
        fleet.reach(shared.as_ref().map(|shared| shared.client()));
        if let Some(store) = &store {
            share(&policy, store, shared.as_deref(), telemetry);
        }
        let tree = Self {
            faults,
            credentials,
            inbound,
            generation: GENERATION.fetch_add(1, Ordering::Relaxed),
            policy,
            order,
            live: DashMap::new(),
            store,
            shared,
            fleet,
            forces: before.map_or_else(Arc::default, |before| Arc::clone(&before.forces)),
            telemetry: Arc::clone(telemetry),
            resolver: Arc::clone(around.resolver),
            identity: Arc::clone(around.identity),
        };
        if let Some(before) = before {
            tree.take_over(before);
        }
        tree.wake_known();
        Arc::new(tree)
    }

    /// The upstream block for `host` and `port`, and the name under which it is counted.
    fn find(&self, host: &str, port: u16) -> Option<usize> {
        self.order
            .iter()
            .find(|(pattern, _)| pattern.matches(host, port))
            .map(|(_, place)| *place)
    }

    /// Whether traffic to `host` and `port` is declared as not HTTP.
    #[must_use]
    pub fn is_opaque(&self, host: &str, port: u16) -> bool {
        self.find(host, port)
            .is_some_and(|place| self.policy.upstreams[place].protocol == Protocol::Tcp)
    }

    /// The live upstream for a call to `host` and `port`. `dialled` is the address of a redirected connection.
    ///
    /// # Errors
    /// `unmatched` where policy denies what it does not name; `no_endpoint` beyond the bound on destinations.
    pub fn upstream(
        &self,
        host: &str,
        port: u16,
        dialled: Option<SocketAddr>,
    ) -> Result<Arc<Live>, Fault> {
        let key = self.key(host, port, dialled)?;
        if let Some(live) = self.live.get(&key) {
            return Ok(Arc::clone(&live));
        }
        if self.live.len() >= DESTINATIONS_MAX {
            self.sweep();
            if self.live.len() >= DESTINATIONS_MAX {
                return Err(Fault::unsent(Reason::NoEndpoint).because("too many destinations"));
            }
        }
        let entry = self.live.entry(key);
        let key = entry.key().clone();
        let live = entry.or_insert_with(|| self.wake(&key, None));
        Ok(Arc::clone(&live))
    }

    fn key(&self, host: &str, port: u16, dialled: Option<SocketAddr>) -> Result<Key, Fault> {
        let upstream = self.find(host, port);
        let by_name = || Destination::Name(host.into(), port);
        let destination = match upstream.map(|place| &self.policy.upstreams[place].endpoints) {
            None if self.policy.unmatched == Unmatched::Deny => {
                return Err(Fault::unsent(Reason::Unmatched));
            }
            // What no policy names goes where the application wanted it to go.
            None | Some(Endpoints::Original) => dialled.map_or_else(by_name, Destination::Dialled),
            // Of the ways in which a request can spell a host, `pay.shop.` may lead elsewhere than `pay.shop`, and the sender
            // chooses. A secret goes where the policy says.
            Some(Endpoints::Dns) => match upstream.map(|place| &self.policy.upstreams[place]) {
                Some(declared) if declared.has_credential() => {
                    Destination::Name(declared.pattern.host().into(), port)
                }
                _ => by_name(),
            },
            Some(Endpoints::Static(_)) => Destination::Listed,
        };
        Ok(Key {
            upstream,
            destination,
        })
    }

    fn wake(&self, key: &Key, before: Option<&Live>) -> Arc<Live> {
        let policy: Option<&Upstream> = key.upstream.map(|place| &self.policy.upstreams[place]);
        let means = Means {
            policy: &self.policy,
            around: &Around {
                telemetry: &self.telemetry,
                resolver: &self.resolver,
                identity: &self.identity,
            },
            store: self.store.as_ref(),
            fleet: &self.fleet,
        };
        let live = Live::new(key.clone(), policy, &means, before);
        self.forces.apply(&live, clock::now());
        live
    }

    /// Upstreams whose destination is known before the first call live from the start, so that names are resolved and
    /// series exist by then.
    fn wake_known(&self) {
        for (place, upstream) in self.policy.upstreams.iter().enumerate() {
            let Some(destination) = known(upstream) else {
                continue;
            };
            let key = Key {
                upstream: Some(place),
                destination,
            };
            if !self.live.contains_key(&key) {
                let live = self.wake(&key, None);
                self.live.insert(key, live);
            }
        }
    }

    fn take_over(&self, before: &Tree) {
        for old in &before.live {
            let Some(key) = self.moved(before, old.key()) else {
                continue;
            };
            let live = self.wake(&key, Some(old.value()));
            self.live.insert(key, live);
        }
    }

    /// The key that an old one has in this tree; `None` if the new policy has no such upstream or finds it elsewhere.
    fn moved(&self, before: &Tree, old: &Key) -> Option<Key> {
        let upstream = match old.upstream {
            None if self.policy.unmatched == Unmatched::Deny => return None,
            None => None,
            Some(place) => {
                let was = &before.policy.upstreams[place];
                let is = self.policy.upstreams.iter().position(|upstream| {
                    upstream.pattern.same(&was.pattern)
                        && upstream.endpoints.are_kin(&was.endpoints)
                });
                Some(is?)
            }
        };
        Some(Key {
            upstream,
            destination: old.destination.clone(),
        })
    }

    /// Lets destinations go that came to life by a call and are held by nobody else any more. Those that policy itself
    /// names stay: what is known of them, and what probes go on finding, is there for the first call after a quiet hour.
    pub fn sweep(&self) {
        self.live.retain(|key, live| {
            let upstream = key.upstream.map(|place| &self.policy.upstreams[place]);
            let is_named = upstream.and_then(known).as_ref() == Some(&key.destination);
            is_named || Arc::strong_count(live) > 1 || !live.has_rested()
        });
    }

    /// The page `/shared`.
    #[must_use]
    pub fn describe_shared(&self) -> Value {
        let shared = self.shared.as_ref();
        shared.map_or_else(
            || json!({ "state": "off" }),
            |shared| shared.client().describe(),
        )
    }

    /// Every live upstream.
    pub fn each(&self, mut f: impl FnMut(&Arc<Live>)) {
        for live in &self.live {
            f(live.value());
        }
    }
}

/// The store there is, with the budget of this policy, or a new one if this is the first policy with a cache.
fn store(policy: &Policy, before: Option<&Tree>) -> Option<Arc<Store>> {
    let memory = policy.cache.memory;
    if let Some(store) = before.and_then(|before| before.store.as_ref()) {
        store.resize(memory);
        return Some(Arc::clone(store));
    }
    let of = |upstream: &Upstream| {
        let mut routes = upstream.routes.iter().chain([&upstream.base]);
        routes.any(|route| route.cache.is_some())
    };
    let has_cache = policy.fallback.cache.is_some() || policy.upstreams.iter().any(of);
    has_cache.then(|| Store::new(memory))
}

/// Lets the cache share what it keeps, where policy wants that and there is a Redis; goes on with the tier there is if it is
/// on the same connection.
fn share(
    policy: &Policy,
    store: &Arc<Store>,
    shared: Option<&shared::Owner>,
    telemetry: &Telemetry,
) {
    let of = |upstream: &Upstream| {
        let mut routes = upstream.routes.iter().chain([&upstream.base]);
        routes.any(shares)
    };
    let wanted = shares(&policy.fallback) || policy.upstreams.iter().any(of);
    let Some(owner) = shared.filter(|_| wanted) else {
        return store.share(None);
    };
    let old = store.tier();
    if old.is_none_or(|old| !old.client().is_same(owner.client())) {
        let memory: Weak<dyn shared::Memory> = Arc::downgrade(store) as _;
        store.share(Some(shared::Tier::start(owner.client(), memory, telemetry)));
    }
}

fn shares(route: &config::Route) -> bool {
    route.cache.as_ref().is_some_and(|cache| cache.shared)
}

/// The client there is, if it would be made the same again.
fn connect(
    policy: &Policy,
    telemetry: &Telemetry,
    resolver: &Resolver,
    before: Option<&Tree>,
) -> Option<Arc<shared::Owner>> {
    let settings = policy.redis.as_ref()?;
    let same = before.and_then(|before| {
        let is_same = before.policy.service == policy.service;
        let shared = before.shared.as_ref().filter(|_| is_same)?;
        (shared.client().settings() == settings).then(|| Arc::clone(shared))
    });
    let anew = || {
        let handle = resolver.runtime();
        Arc::new(shared::Client::start(
            settings.clone(),
            &policy.service,
            handle,
            telemetry,
        ))
    };
    Some(same.unwrap_or_else(anew))
}

/// The destination that the policy of an upstream names by itself, whoever calls.
fn known(upstream: &Upstream) -> Option<Destination> {
    let pattern = &upstream.pattern;
    match (&upstream.endpoints, pattern.port()) {
        (Endpoints::Static(_), _) => Some(Destination::Listed),
        (Endpoints::Dns, Some(port)) if !pattern.is_glob() => {
            Some(Destination::Name(pattern.host().into(), port))
        }
        _ => None,
    }
}
