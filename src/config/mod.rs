//! The policy language: YAML in, one immutable [`Policy`] out, or every fault at once.
//!
//! The way of a file: `source` (read, unwrap ConfigMaps) -> `dom` (YAML with spans) -> `decode` (checked against the one
//! registry of keys in `spec`) -> `layers` and `build` (precedence and origin) -> `lint` and `lift` (typed settings).
//! Nothing on this way stops at its first fault, and nothing that is understood but not enforced is let through in silence.

mod build;
mod chain;
mod decode;
mod dom;
mod effective;
pub mod fault;
mod inbound;
mod layers;
mod lift;
mod lint;
mod schema;
mod source;
pub mod spec;
mod suggest;
mod value;
pub mod watch;
mod worst;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use crate::audit;
use crate::balance;
use crate::connect::tls;
use crate::endpoint::Member;
use crate::endpoint::health::config as health;
use crate::http::hops;
use crate::identity;
use crate::policy::breaker::config as breaker;
use crate::policy::bulkhead::config as bulkhead;
use crate::policy::cache::config as cache;
use crate::policy::credential::config as credential;
use crate::policy::deadline::config as deadline;
use crate::policy::eject::config as eject;
use crate::policy::fault::config as injection;
use crate::policy::hedge::config as hedge;
use crate::policy::idempotency::config as idempotency;
use crate::policy::limit::config as limit;
use crate::policy::overload;
use crate::policy::retry::config as retry;
use crate::redact;
use crate::route::machine::Matcher;
use crate::route::machine::Pattern;
use crate::shared;
use crate::telemetry::story;

pub use chain::Chain;
pub use chain::Hop;
pub use chain::Load;
pub use chain::chain;
pub use effective::Effect;
pub use effective::Effective;
pub use effective::EffectiveRoute;
pub use fault::Fault;
pub use fault::Severity;
pub use inbound::Inbound;
pub use inbound::SecretPlace;
pub use schema::schema;
pub use worst::WorstCase;
pub use worst::worst_case;

pub use crate::listen::Bind;
pub use crate::listen::Limits;

/// Everything the data path and the admin side read. Built whole by [`load`], never changed, replaced as one on reload.
#[derive(Clone, Debug)]
pub struct Policy {
    /// This workload's name: `client` in logs, `service.name` in telemetry.
    pub service: String,
    /// Where outrider listens.
    pub listen: Listen,
    /// What happens to a request whose host no upstream names.
    pub unmatched: Unmatched,
    /// In the order of the files. Which one a request takes is decided by [`Pattern`] specificity, not by place.
    pub upstreams: Vec<Upstream>,
    /// Built-in values under `defaults`: what unmatched traffic gets under `unmatched: pass`.
    pub fallback: Route,
    /// The zone that this workload runs in, if anybody said: `zone`, else `OUTRIDER_ZONE`.
    pub zone: Option<Arc<str>>,
    /// `balance` under built-in < `defaults`, for unmatched traffic.
    pub fallback_balance: balance::Settings,
    /// `eject` under built-in < `defaults`, for unmatched traffic.
    pub fallback_eject: Option<eject::Settings>,
    /// Where our own certificate comes from: `identity`, else `SPIFFE_ENDPOINT_SOCKET`; `None` is nowhere.
    pub identity: Option<identity::config::Settings>,
    /// `mtls` and `originate` under built-in < `defaults`, for unmatched traffic.
    pub fallback_tls: tls::Settings,
    /// What is shed when outrider itself has too much to do; `None` is off.
    pub overload: Option<overload::Settings>,
    /// What hops tell each other; `None` is off.
    pub hops: Option<hops::Settings>,
    /// What is behind the inbound listener; `None` is off.
    pub inbound: Option<Inbound>,
    /// Where the token is that orders must carry; `None`: orders are taken over loopback only.
    pub admin_token: Option<SecretPlace>,
    /// The store that all caches of this process share.
    pub cache: cache::StoreSettings,
    /// Which calls are remembered for `/explain` (`telemetry.explain`).
    pub explain: story::Settings,
    /// What is kept back of everything that is told (`telemetry.redact`); `None` is off.
    pub redact: Option<redact::Settings>,
    /// The record of what was done; `None` is off.
    pub audit: Option<audit::Settings>,
    /// The Redis that holds what pods share; `None` is off.
    pub redis: Option<shared::Settings>,
    /// Whether one JSON line a request is written (`telemetry.log`).
    pub access_log: bool,
    /// Sixteen hex digits naming the source text; equal text gives an equal revision on every machine.
    pub revision: String,
    /// The files that were read, in merge order.
    pub sources: Vec<PathBuf>,
}

/// The sockets outrider opens. `None` is `off`.
#[derive(Clone, Debug, PartialEq)]
pub struct Listen {
    /// Transparent outbound: redirected connections, or plain requests told apart by Host. Default 4750.
    pub outbound: Option<Bind>,
    /// Explicit proxy for `HTTP_PROXY`/`HTTPS_PROXY`: absolute-form and CONNECT. Default 4751.
    pub explicit: Option<Bind>,
    /// In front of the application. Default off.
    pub inbound: Option<Bind>,
    /// `/live`, `/ready`, `/metrics` and the rest. Default 4759.
    pub admin: Option<Bind>,
    /// What one client may ask of us.
    pub limits: Limits,
}

/// `unmatched`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmatched {
    /// Forward, with correlation, metrics and the defaults.
    Pass,
    /// Answer 403.
    Deny,
}

/// One `upstreams` entry with profile and defaults already merged in.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Which hosts it stands for.
    pub pattern: Pattern,
    /// The `upstream` text as written: the metric label and the name in logs.
    pub name: String,
    /// Where connections go.
    pub endpoints: Endpoints,
    /// Which endpoint a try goes to. Always one setting for the whole upstream.
    pub balance: balance::Settings,
    /// Endpoint ejection; `None` is off. Always one setting for the whole upstream.
    pub eject: Option<eject::Settings>,
    /// How its connections are secured: `mtls` or `originate`. Always one setting for the whole upstream.
    pub tls: tls::Settings,
    /// Active health checks; `None` is off. Off too wherever one upstream may stand for any number of destinations.
    pub health: Option<health::Settings>,
    /// The breaker on the upstream block. With `scope: upstream` all routes whose own `breaker.scope` is
    /// [`breaker::Scope::Upstream`] share one machine built from this.
    pub breaker: Option<breaker::Settings>,
    /// The bulkhead on the upstream block, shared by all routes that have none of their own.
    pub bulkhead: Option<bulkhead::Settings>,
    /// Whether bytes are read before dialling.
    pub protocol: Protocol,
    /// What a request gets that no route matches.
    pub base: Route,
    /// In the order of the file; the most specific match wins.
    pub routes: Vec<Route>,
}

impl Upstream {
    /// Whether a secret is put on some of its calls.
    #[must_use]
    pub fn has_credential(&self) -> bool {
        let mut routes = self.routes.iter().chain([&self.base]);
        routes.any(|route| route.credential.is_some())
    }
}

/// `endpoints`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoints {
    /// Dial the address the application dialled (known for redirected connections; else the name is resolved).
    Original,
    /// Resolve the name and keep it resolved.
    Dns,
    /// These and no others. Never empty.
    Static(Vec<Member>),
}

impl Endpoints {
    /// Whether what is known of the endpoints of one holds for those of the other: they are found in the same way, and of
    /// two lists something is in both.
    #[must_use]
    pub fn are_kin(&self, other: &Self) -> bool {
        let (Self::Static(mine), Self::Static(theirs)) = (self, other) else {
            return self == other;
        };
        let mine: HashSet<_> = mine.iter().map(|member| member.address).collect();
        theirs.iter().any(|member| mine.contains(&member.address))
    }
}

/// `protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Told from the first bytes.
    Auto,
    /// Server-first or unknown: tunnelled at once, no detection.
    Tcp,
}

/// What is done to one request: settings after all layers are merged.
#[derive(Clone, Debug)]
pub struct Route {
    /// `*` for the base of an upstream and for the fallback, else the `match` with one space: the metric label.
    pub name: String,
    /// `None` for a base.
    pub matcher: Option<Matcher>,
    /// `priority`.
    pub priority: overload::Priority,
    /// `timeout`.
    pub deadline: deadline::Settings,
    /// `retry`; `None` is off.
    pub retry: Option<retry::Settings>,
    /// `idempotency`; `None` is off.
    pub idempotency: Option<idempotency::Settings>,
    /// `hedge`; `None` is off.
    pub hedge: Option<hedge::Settings>,
    /// `cache`; `None` is off.
    pub cache: Option<cache::Settings>,
    /// `credential`; `None` is off.
    pub credential: Option<credential::Settings>,
    /// `limit`; `None` is off. A route that changes any field except `mode` has one of its own.
    pub limit: Option<limit::Settings>,
    /// `breaker`; `None` is off. `scope` says whose machine: a route that changes any breaker field except `mode` always
    /// has [`breaker::Scope::Route`], because one machine cannot follow two settings; one that changes only `mode` keeps the
    /// shared machine and applies its own mode to the answer.
    pub breaker: Option<breaker::Settings>,
    /// `bulkhead`; `None` is off.
    pub bulkhead: Option<RouteBulkhead>,
    /// `fault`; `None` is off.
    pub fault: Option<injection::Settings>,
}

/// `bulkhead` of a route.
#[derive(Clone, Debug)]
pub struct RouteBulkhead {
    /// What is written, after all layers.
    pub settings: bulkhead::Settings,
    /// The route changes more of it than `mode`, so it has a bulkhead of its own: one machine cannot follow two settings.
    pub is_own: bool,
}

/// A policy that loaded.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What to run.
    pub policy: Policy,
    /// Everything worth saying that does not keep it from running; sorted by file and place.
    pub warnings: Vec<Fault>,
    /// Every effective value with its origin.
    pub effective: Effective,
}

/// What a policy may take from outside its files.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// `OTEL_SERVICE_NAME`: the service's name if the policy has none.
    pub service: Option<String>,
    /// `OUTRIDER_ZONE`: the zone that this workload runs in, if the policy does not say.
    pub zone: Option<String>,
    /// `SPIFFE_ENDPOINT_SOCKET`: the Workload API, if the policy has no `identity`.
    pub spiffe: Option<String>,
}

impl Surroundings {
    /// What the environment of this process says.
    #[must_use]
    pub fn of_process() -> Self {
        let named = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
        Self {
            service: named("OTEL_SERVICE_NAME"),
            zone: named("OUTRIDER_ZONE"),
            spiffe: named("SPIFFE_ENDPOINT_SOCKET"),
        }
    }
}

/// Reads files and directories (their `*.yaml`, in name order) and merges them into one policy.
///
/// # Errors
/// Every fault of every file, warnings included, if at least one refuses the policy.
pub fn load(sources: &[PathBuf]) -> Result<Loaded, Vec<Fault>> {
    load_with(sources, &Surroundings::default())
}

/// [`load`] with what the environment has to say.
///
/// # Errors
/// As [`load`].
pub fn load_with(sources: &[PathBuf], around: &Surroundings) -> Result<Loaded, Vec<Fault>> {
    let mut sink = fault::Sink::default();
    let read = source::read(sources, &mut sink);
    finish(sink, read, around)
}

/// One policy from a text; `name` stands for the file in faults.
///
/// # Errors
/// As [`load`].
pub fn parse(name: &str, text: &str) -> Result<Loaded, Vec<Fault>> {
    let mut sink = fault::Sink::default();
    sink.files.push(fault::Shown {
        name: name.to_owned(),
        text: Some(text.to_owned()),
    });
    finish(sink, vec![PathBuf::from(name)], &Surroundings::default())
}

/// The revision that these sources would load as, without checking them. `None` if something cannot be read.
#[must_use]
pub fn fingerprint(sources: &[PathBuf]) -> Option<String> {
    let mut digest = source::Digest::new();
    for path in source::files(sources).ok()? {
        digest.add(&std::fs::read(path).ok()?);
    }
    Some(digest.hex())
}

fn finish(
    sink: fault::Sink,
    sources: Vec<PathBuf>,
    around: &Surroundings,
) -> Result<Loaded, Vec<Fault>> {
    match prepare(sink, sources, around) {
        (sink, Some(prepared)) => Ok(Loaded {
            policy: prepared.policy,
            warnings: sink.finish(),
            effective: effective::list(&prepared.built),
        }),
        (sink, None) => Err(sink.finish()),
    }
}

/// A policy that loads, with the origins of its values.
struct Prepared {
    built: build::Built,
    policy: Policy,
}

/// Makes a policy of what was read; `None` if a fault in the sink refuses it.
fn prepare(
    mut sink: fault::Sink,
    sources: Vec<PathBuf>,
    around: &Surroundings,
) -> (fault::Sink, Option<Prepared>) {
    let mut digest = source::Digest::new();
    let mut documents = Vec::new();
    for file in 0..sink.files.len() {
        if let Some(text) = sink.files.get(file).and_then(|shown| shown.text.as_deref()) {
            digest.add(text.as_bytes());
        }
        documents.extend(source::documents(file, &mut sink));
    }
    if sink.files.is_empty() {
        sink.files.push(fault::Shown {
            name: "outrider".to_owned(),
            text: None,
        });
        sink.add(
            fault::code::NOTHING,
            fault::Place::default(),
            "no policy file was named",
            None,
        );
    }
    let blocks: Vec<decode::Block> = documents
        .iter()
        .map(|document| decode::document(document, &mut sink))
        .collect();
    let built = build::build(&blocks, &mut sink);
    lint::run(&built, around, &mut sink);
    if sink.refuses() {
        return (sink, None);
    }
    let policy = lift::policy(&built, around, digest.hex(), sources);
    (sink, Some(Prepared { built, policy }))
}
