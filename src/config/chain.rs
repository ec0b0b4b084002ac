//! What several policies do to one another: outrider before a service, before the service that it calls, and so on.
//!
//! Retries multiply over hops, and a time-out above a longer one leaves work behind that nobody waits for. Neither shows in
//! a single policy.

use std::path::PathBuf;
use std::time::Duration;

use super::Fault;
use super::Policy;
use super::Prepared;
use super::Route;
use super::Surroundings;
use super::Unmatched;
use super::build::Built;
use super::fault;
use super::fault::Place;
use super::fault::Sink;
use super::fault::code;
use super::layers::Merged;
use super::prepare;
use super::source;
use super::worst;
use super::worst::WorstCase;
use crate::kit::budget::BudgetSettings;
use crate::kit::units;
use crate::route::machine::Pattern;

/// More calls at the end of a chain for one at its beginning than this are worth a warning: what one hop's `max: 3` makes.
const MOST: u64 = 4;

/// The chain as declared, the outermost caller first.
#[derive(Clone, Debug)]
pub struct Chain {
    /// One for each policy; empty if any was refused or the chain does not hold together.
    pub hops: Vec<Hop>,
    /// Findings of each policy by itself, and of the chain.
    pub findings: Vec<Fault>,
    /// Files that were read.
    pub files: usize,
}

/// What one caller in the chain does to the next service.
#[derive(Clone, Debug)]
pub struct Hop {
    /// `service` of the policy, or the name of its file.
    pub caller: String,
    /// Each route to the next service; at the last hop, all routes.
    pub routes: Vec<HopRoute>,
    /// Whether it tells the others who retries, and hears them (docs/hops.md).
    pub tells: bool,
}

/// One route of a hop.
#[derive(Clone, Debug)]
pub struct HopRoute {
    /// The upstream, as written.
    pub upstream: String,
    /// The route, `*` for the base.
    pub name: String,
    /// For one call.
    pub worst: WorstCase,
    /// For all calls together.
    pub load: Load,
    /// The part of it that hedging has.
    pub hedges: Load,
    /// Copies of one call, the first included; `worst` has the tries of all of them.
    pub copies: u32,
    /// For how long the caller waits for one try.
    pub patience: Duration,
}

/// A bound on what leaves a hop: `factor` times what came in, and `extra` a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// 1 is what came in.
    pub factor: f64,
    /// The floors of budgets, so that a quiet service may retry at all.
    pub extra_per_s: f64,
}

impl Load {
    /// What came in, unchanged.
    pub const ONE: Self = Self {
        factor: 1.0,
        extra_per_s: 0.0,
    };

    /// The load of one route at its upstream: each budget bounds it, and so does each `max`. A copy pays for no retry, so
    /// that the two shares add up.
    fn of(route: &Route) -> Self {
        let retry = route.retry.as_ref().filter(|retry| retry.mode.enforces());
        match retry.map(|retry| (retry.max, &retry.budget)) {
            Some((max, budget)) => Self::of_hedges(route).plus(max, budget),
            None => Self::of_hedges(route),
        }
    }

    fn of_hedges(route: &Route) -> Self {
        let hedge = route.hedge.as_ref().filter(|hedge| hedge.mode.enforces());
        hedge.map_or(Self::ONE, |hedge| Self::ONE.plus(hedge.max, &hedge.budget))
    }

    fn plus(self, max: u32, budget: &BudgetSettings) -> Self {
        if max == 0 {
            return self;
        }
        Self {
            factor: self.factor + budget.share.min(f64::from(max)),
            extra_per_s: self.extra_per_s + budget.floor_per_s,
        }
    }

    /// This load, sent through `next`.
    #[must_use]
    pub fn through(self, next: Self) -> Self {
        Self {
            factor: self.factor * next.factor,
            extra_per_s: self.extra_per_s * next.factor + next.extra_per_s,
        }
    }

    fn larger(self, other: Self) -> Self {
        Self {
            factor: self.factor.max(other.factor),
            extra_per_s: self.extra_per_s.max(other.extra_per_s),
        }
    }
}

impl Hop {
    /// The largest number of tries that one call makes here.
    #[must_use]
    pub fn tries(&self) -> u32 {
        let tries = self.routes.iter().map(|route| route.worst.tries);
        tries.max().unwrap_or(1)
    }

    /// The heaviest load that leaves here.
    #[must_use]
    pub fn load(&self) -> Load {
        let loads = self.routes.iter().map(|route| route.load);
        loads.fold(Load::ONE, Load::larger)
    }

    fn hedges(&self) -> Load {
        let loads = self.routes.iter().map(|route| route.hedges);
        loads.fold(Load::ONE, Load::larger)
    }

    fn copies(&self) -> u32 {
        let copies = self.routes.iter().map(|route| route.copies);
        copies.max().unwrap_or(1)
    }
}

impl Chain {
    /// Tries at the end for one call at the beginning, if every hop makes all it may: what unlucky single calls see.
    #[must_use]
    pub fn worst(&self) -> u64 {
        let tries = self.hops.iter().map(|hop| u64::from(hop.tries()));
        tries.fold(1, u64::saturating_mul)
    }

    /// Load at the end for the load at the beginning while everything fails: what budgets leave of it, and what holds
    /// without any help of the services between.
    #[must_use]
    pub fn load(&self) -> Load {
        let loads = self.hops.iter().map(Hop::load);
        loads.fold(Load::ONE, Load::through)
    }

    /// Tries for one call if one hop only retries it: whichever makes the most of it. A hedge is nobody's retry, and each
    /// hop sends its own.
    #[must_use]
    pub fn worst_of_one(&self) -> u64 {
        let with = |retries: usize| {
            let factors = self.hops.iter().enumerate().map(|(at, hop)| {
                let alone = if at == retries {
                    hop.tries()
                } else {
                    hop.copies()
                };
                u64::from(alone)
            });
            factors.fold(1, u64::saturating_mul)
        };
        (0..self.hops.len()).map(with).max().unwrap_or(1)
    }

    /// Load if one hop only retries each call.
    #[must_use]
    pub fn load_of_one(&self) -> Load {
        let with = |retries: usize| {
            let loads = self.hops.iter().enumerate().map(|(at, hop)| {
                if at == retries {
                    hop.load()
                } else {
                    hop.hedges()
                }
            });
            loads.fold(Load::ONE, Load::through)
        };
        (0..self.hops.len()).map(with).fold(Load::ONE, Load::larger)
    }
}

/// Reads a chain: each source is one whole policy, the outermost caller's first.
#[must_use]
pub fn chain(sources: &[PathBuf]) -> Chain {
    let mut policies: Vec<(Sink, Option<Prepared>)> = sources
        .iter()
        .map(|source| {
            let mut sink = Sink::default();
            let read = source::read(std::slice::from_ref(source), &mut sink);
            prepare(sink, read, &Surroundings::default())
        })
        .collect();
    let files = policies.iter().map(|(sink, _)| sink.files.len()).sum();
    let hops = join(&mut policies);
    let findings = policies.into_iter().flat_map(|(sink, _)| sink.finish());
    Chain {
        hops: hops.unwrap_or_default(),
        findings: findings.collect(),
        files,
    }
}

fn join(policies: &mut [(Sink, Option<Prepared>)]) -> Option<Vec<Hop>> {
    let mut ways = Vec::new();
    for at in 0..policies.len() {
        let (callers, callees) = policies.split_at_mut(at + 1);
        let callee = callees.first_mut();
        let (caller_sink, caller) = callers.last()?;
        // One that is refused has said why, and the others are still to be looked at.
        let Some(caller) = caller else { continue };
        match callee {
            None => ways.push(Way::all(caller)),
            Some((_, None)) => {}
            Some((sink, Some(callee))) => match Way::between(caller_sink, caller, sink, callee) {
                Ok(way) => ways.push(way),
                Err(lost) => lost.tell(sink, callee),
            },
        }
    }
    if ways.len() < policies.len() {
        return None;
    }
    let prepared: Vec<&Prepared> = policies
        .iter()
        .filter_map(|(_, all)| all.as_ref())
        .collect();
    let hops: Vec<Hop> = prepared
        .iter()
        .zip(&ways)
        .map(|(prepared, way)| way.hop(prepared))
        .collect();
    let mut found = Vec::new();
    found.extend(amplification(&hops, &prepared, &ways));
    for (at, pair) in hops.windows(2).enumerate() {
        let [caller, callee] = pair else { continue };
        let place = ways[at].place(&prepared[at].built, "timeout", "total");
        for (message, hint) in for_nobody(caller, callee) {
            found.push((at, code::WORKS_FOR_NOBODY, place, message, hint));
        }
    }
    for (at, code, place, message, hint) in found {
        policies[at].0.add(code, place, message, Some(hint));
    }
    Some(hops)
}

/// The upstreams of one policy that stand for the next service: several where they differ in the port only.
struct Way {
    upstreams: Vec<usize>,
}

/// Why there is no way from one policy to the next.
struct Lost {
    message: String,
    hint: String,
}

impl Lost {
    fn tell(self, sink: &mut Sink, callee: &Prepared) {
        let place = callee.built.root.place("service");
        let place = place.unwrap_or_default();
        sink.add(code::BROKEN_CHAIN, place, self.message, Some(self.hint));
    }
}

impl Way {
    fn all(prepared: &Prepared) -> Self {
        Self {
            upstreams: (0..prepared.policy.upstreams.len()).collect(),
        }
    }

    fn between(
        caller_sink: &Sink,
        caller: &Prepared,
        callee_sink: &Sink,
        callee: &Prepared,
    ) -> Result<Self, Lost> {
        let all = &caller.policy.upstreams;
        if all.is_empty() && caller.policy.unmatched == Unmatched::Pass {
            return Ok(Self::all(caller));
        }
        let service = callee.built.root.place("service");
        let service = service.map(|_| callee.policy.service.as_str());
        let mut found: Vec<usize> = Vec::new();
        if let Some(service) = service {
            let by = |fits: fn(&Pattern, &str) -> bool| -> Vec<usize> {
                let fitting = |at: &usize| fits(&all[*at].pattern, service);
                (0..all.len()).filter(fitting).collect()
            };
            found = [is_named, is_short_for, is_covered]
                .into_iter()
                .map(by)
                .find(|found| !found.is_empty())
                .unwrap_or_default();
        }
        if found.is_empty() && all.len() == 1 {
            found.push(0);
        }
        let hosts = |at: &usize| all[*at].pattern.host();
        let same = found.windows(2).all(|two| hosts(&two[0]) == hosts(&two[1]));
        if !found.is_empty() && same {
            return Ok(Self { upstreams: found });
        }
        let (caller, callee) = (shown(caller_sink), shown(callee_sink));
        let names = |of: &[usize]| {
            let names = of.iter().map(|at| format!("`{}`", all[*at].name));
            super::spec::join_or(&names.collect::<Vec<_>>())
        };
        let every: Vec<usize> = (0..all.len()).collect();
        let message = match service {
            _ if all.is_empty() => format!("{caller} calls nothing, so nothing leads to {callee}"),
            Some(service) if found.is_empty() => {
                format!("no upstream of {caller} stands for `{service}`")
            }
            Some(service) => format!("`{service}` could be {} of {caller}", names(&found)),
            None => format!("{callee} does not say which upstream of {caller} it is"),
        };
        let known = if found.is_empty() { &every } else { &found };
        let hint = format!("write `service:` in {callee}, as one of {}", names(known));
        Err(Lost { message, hint })
    }

    fn hop(&self, prepared: &Prepared) -> Hop {
        let policy: &Policy = &prepared.policy;
        let route = |upstream: &str, route: &Route| HopRoute {
            upstream: upstream.to_owned(),
            name: route.name.clone(),
            worst: worst::worst_case(route),
            load: Load::of(route),
            hedges: Load::of_hedges(route),
            copies: worst::copies(route),
            patience: patience(route),
        };
        let mut routes: Vec<HopRoute> = self
            .upstreams
            .iter()
            .map(|at| &policy.upstreams[*at])
            .flat_map(|upstream| {
                let all = upstream.routes.iter().chain([&upstream.base]);
                all.map(|each| route(&upstream.name, each))
            })
            .collect();
        if routes.is_empty() {
            routes.push(route("(unmatched)", &policy.fallback));
        }
        let named = prepared.built.root.place("service");
        let caller = named.map_or_else(|| prepared.policy.sources.first(), |_| None::<&PathBuf>);
        Hop {
            caller: caller
                .map_or_else(|| policy.service.clone(), |path| path.display().to_string()),
            routes,
            tells: policy
                .hops
                .as_ref()
                .is_some_and(|hops| hops.retry && hops.mode.enforces()),
        }
    }

    /// Where a file says `key` of `block` for this way, or else where it names the upstream.
    fn place(&self, built: &Built, block: &str, key: &str) -> Place {
        let upstream = self
            .upstreams
            .first()
            .and_then(|at| built.upstreams.get(*at));
        let merged = upstream.map_or(&built.fallback, |upstream| &upstream.merged);
        let written = merged
            .inside(block)
            .and_then(|block: &Merged| block.place(key));
        written
            .or_else(|| upstream.map(|upstream| upstream.at))
            .unwrap_or_default()
    }
}

fn shown(sink: &Sink) -> &str {
    sink.files.first().map_or("", |file| file.name.as_str())
}

/// How long the caller waits for one try of this route.
fn patience(route: &Route) -> Duration {
    let total = route.deadline.total;
    route.deadline.per_try.map_or(total, |try_| try_.min(total))
}

/// `payments.shop` for `service: payments.shop`, or the same with a cluster's ending.
fn is_named(pattern: &Pattern, service: &str) -> bool {
    !pattern.is_glob() && pattern.matches(service, pattern.port().unwrap_or_default())
}

/// `payments.shop` for `service: payments`, and `payments` for `service: payments.shop`.
fn is_short_for(pattern: &Pattern, service: &str) -> bool {
    let host = pattern.host();
    let first = |name: &str| name.split('.').next().unwrap_or_default().to_lowercase();
    let one_is_short = !host.contains('.') || !service.contains('.');
    !pattern.is_glob() && one_is_short && first(&host) == first(service)
}

/// `*.shop` for `service: payments.shop`.
fn is_covered(pattern: &Pattern, service: &str) -> bool {
    pattern.is_glob() && pattern.matches(service, pattern.port().unwrap_or_default())
}

type Found = (usize, fault::Code, Place, String, String);

/// A chain in which one call can become more than [`MOST`] is told where the product passes it.
fn amplification(hops: &[Hop], prepared: &[&Prepared], ways: &[Way]) -> Option<Found> {
    let mut product = 1_u64;
    let at = hops.iter().position(|hop| {
        product = product.saturating_mul(u64::from(hop.tries()));
        product > MOST
    })?;
    let chain = Chain {
        hops: hops.to_vec(),
        findings: Vec::new(),
        files: 0,
    };
    let factors: Vec<String> = hops.iter().map(|hop| hop.tries().to_string()).collect();
    let load = chain.load();
    let message = format!(
        "one call can become {} at the end of this chain: {} tries; budgets bound the load there to {}",
        chain.worst(),
        factors.join(" x "),
        times(load),
    );
    let hint = "retry at one hop, best the last, and write `retry: off` at the others".to_owned();
    let place = ways[at].place(&prepared[at].built, "retry", "max");
    Some((at, code::AMPLIFIES, place, message, hint))
}

/// `1.73 times`, and the floors if there are any.
pub(crate) fn times(load: Load) -> String {
    let factor = (load.factor * 100.0).round() / 100.0;
    if load.extra_per_s > 0.0 {
        let extra = (load.extra_per_s * 10.0).round() / 10.0;
        format!("{factor} times and {extra}/s")
    } else {
        format!("{factor} times")
    }
}

/// Where a callee works for longer than its caller waits. The base is held against the base, for nobody can tell which of
/// the caller's routes lead to which of the callee's; a route is told if no caller at all waits for it.
fn for_nobody(caller: &Hop, callee: &Hop) -> Vec<(String, String)> {
    let longest = |routes: &mut dyn Iterator<Item = &HopRoute>| {
        routes.map(|route| route.patience).max().unwrap_or_default()
    };
    let base = longest(&mut caller.routes.iter().filter(|route| route.name == "*"));
    let any = longest(&mut caller.routes.iter());
    let next = caller.routes.first().map_or("", |route| &route.upstream);
    let told = callee.routes.iter().filter_map(|route| {
        let (waits, name) = if route.name == "*" {
            (base, route.upstream.clone())
        } else {
            (any, format!("{} {}", route.upstream, route.name))
        };
        let left = route.worst.latency.checked_sub(waits)?;
        let text = units::format_duration;
        let message = format!(
            "a try at `{next}` ends after {}, but its own calls to `{name}` may take {}: it works for nobody for up to {}",
            text(waits),
            text(route.worst.latency),
            text(left),
        );
        let hint = format!(
            "wait longer here, or give `{name}` less than {} there; a service that passes `x-request-deadline` on ends in time",
            text(waits)
        );
        (!left.is_zero()).then_some((message, hint))
    });
    told.collect()
}
