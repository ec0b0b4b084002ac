//! Obeys what an operator orders through the admin port, and tells the audit log of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use http::StatusCode;
use parking_lot::Mutex;
use serde_json::Value;
use serde_json::json;

use crate::admin::Action;
use crate::admin::Declined;
use crate::admin::Order;
use crate::app::Shared;
use crate::app::faults;
use crate::app::kept;
use crate::app::told;
use crate::app::tree::Tree;
use crate::app::upstream::Live;
use crate::app::upstream::same_machine;
use crate::audit;
use crate::audit::Event;
use crate::clock;
use crate::config;
use crate::config::Policy;
use crate::kit::mode::Mode;
use crate::policy::breaker;
use crate::policy::breaker::Breaker;
use crate::policy::breaker::Force;
use crate::policy::breaker::config::Scope;
use crate::policy::breaker::machine::Forced;
use crate::policy::breaker::machine::State;
use crate::telemetry;

/// The forces in effect. They outlive trees and destinations: one that comes to life while its upstream is forced is
/// forced too, and a reload that leaves a breaker's settings alone leaves its force alone.
#[derive(Default)]
pub struct Forces {
    kept: Mutex<Vec<Kept>>,
    // Orders and reloads take turns, so that neither undoes the half of the other. Taken before any other lock.
    turn: Mutex<()>,
}

struct Kept {
    breaker: String,
    settings: breaker::Settings,
    force: Arc<Force>,
}

impl Forces {
    /// Forces what `live` has of breakers that are to be forced.
    pub fn apply(&self, live: &Live, now: Instant) {
        for breaker in live.breakers() {
            if let Some(force) = self.of(breaker) {
                breaker.force(&force, now);
            }
        }
    }

    /// Makes a tree that has just been put in force agree: what was ordered while it was built holds in it too, and what
    /// its policy shapes anew is let go.
    pub fn reconcile(&self, tree: &Tree) {
        let _turn = self.turn.lock();
        let now = clock::now();
        self.kept.lock().retain(|kept| {
            let is_there = every(&tree.policy)
                .any(|found| found.name() == kept.breaker && found.same(&kept.settings));
            if !is_there {
                tracing::info!(
                    target: "audit",
                    breaker = %kept.breaker,
                    "the new policy has another breaker, which is not forced"
                );
            }
            is_there && kept.force.until > now
        });
        tree.each(|live| {
            for breaker in live.breakers() {
                match self.of(breaker) {
                    Some(force) => breaker.force(&force, now),
                    None => breaker.release(now),
                };
            }
        });
    }

    fn of(&self, breaker: &Breaker) -> Option<Arc<Force>> {
        let kept = self.kept.lock();
        let kept = kept.iter().find(|kept| {
            kept.breaker == breaker.name() && same_machine(&kept.settings, breaker.settings())
        });
        kept.map(|kept| Arc::clone(&kept.force))
    }

    fn keep(&self, targets: &[Declared<'_>], force: Option<&Arc<Force>>, now: Instant) {
        let mut kept = self.kept.lock();
        kept.retain(|kept| {
            kept.force.until > now && !targets.iter().any(|target| target.name() == kept.breaker)
        });
        let Some(force) = force else { return };
        kept.extend(targets.iter().map(|target| Kept {
            breaker: target.name(),
            settings: target.settings.clone(),
            force: Arc::clone(force),
        }));
    }
}

/// A breaker that the policy asks for, whether or not anything has brought it to life.
#[derive(Clone, Copy)]
struct Declared<'a> {
    upstream: &'a str,
    /// The route that obeys it.
    route: &'a str,
    mode: Mode,
    /// The route that it is built for; `*` is shared by those that have none of their own.
    owner: &'a str,
    settings: &'a breaker::Settings,
}

impl Declared<'_> {
    fn name(&self) -> String {
        breaker_name(self.upstream, self.owner)
    }

    fn same(&self, settings: &breaker::Settings) -> bool {
        same_machine(self.settings, settings)
    }
}

/// How a breaker is called in logs.
#[must_use]
pub fn breaker_name(upstream: &str, route: &str) -> String {
    format!("{upstream} {route}")
}

/// Name, shared settings, and routes (the base first) of every upstream, that of unmatched traffic included.
fn upstreams(
    policy: &Policy,
) -> impl Iterator<
    Item = (
        &str,
        Option<&breaker::Settings>,
        &config::Route,
        &[config::Route],
    ),
> {
    let named = policy.upstreams.iter().map(|upstream| {
        let shared = upstream.breaker.as_ref();
        let (name, base) = (upstream.name.as_str(), &upstream.base);
        (name, shared, base, upstream.routes.as_slice())
    });
    let fallback = &policy.fallback;
    let unmatched = (
        telemetry::UNMATCHED,
        fallback.breaker.as_ref(),
        fallback,
        [].as_slice(),
    );
    named.chain([unmatched])
}

fn every(policy: &Policy) -> impl Iterator<Item = Declared<'_>> {
    upstreams(policy).flat_map(|(upstream, shared, base, routes)| {
        std::iter::once(base)
            .chain(routes)
            .filter_map(move |route| {
                let own = route.breaker.as_ref()?;
                let (owner, settings) = match (own.scope, shared) {
                    (Scope::Upstream, Some(shared)) => ("*", shared),
                    _ => (route.name.as_str(), own),
                };
                Some(Declared {
                    upstream,
                    route: &route.name,
                    mode: own.mode,
                    owner,
                    settings,
                })
            })
    })
}

/// Does what was ordered.
///
/// # Errors
/// With what to answer when it cannot be done.
pub fn obey(shared: &Shared, order: Order, who: SocketAddr) -> Result<Value, Declined> {
    match order {
        Order::Breaker {
            action,
            upstream,
            route,
            lasting,
        } => breaker(shared, action, (upstream, route), lasting, who),
        Order::Purge { what, soft } => kept::purge(shared, &what, soft, who),
        Order::Faults { go_on, upstream } => faults::obey(shared, go_on, upstream.as_deref(), who),
    }
}

fn breaker(
    shared: &Shared,
    action: Action,
    (upstream, route): (String, Option<String>),
    lasting: Duration,
    who: SocketAddr,
) -> Result<Value, Declined> {
    let forces = Arc::clone(&shared.tree.load().forces);
    let _turn = forces.turn.lock();
    // Loaded under the turn: a tree that comes later agrees with what is kept below.
    let tree = shared.tree.load_full();
    let targets = targets(&tree.policy, &upstream, route.as_deref())?;
    let now = clock::now();
    let force = force(action, lasting, now);
    forces.keep(&targets, force.as_ref(), now);
    let mut found: Vec<Found> = Vec::new();
    for (at, target) in targets.iter().enumerate() {
        // What was forced for one route is the same breaker for the next: its state before is what it was for the first.
        let known = targets[..at]
            .iter()
            .position(|known| known.owner == target.owner);
        let known = known.map(|known| found[known]);
        found.push(known.unwrap_or_else(|| apply(&tree, target, force.as_ref(), now)));
    }
    breaker::metrics::overridden(&shared.telemetry, &upstream, action.word());
    let until = force.as_ref().map(|force| force.until_text.as_str());
    let before = found.iter().filter_map(|found| found.before);
    audit::record(
        Event::new("breaker_override")
            .by(told::who(who))
            .with("action", action.word())
            .with("upstream", upstream.as_str())
            .with("route", route.as_deref().unwrap_or("*"))
            .with("until", until),
    );
    tracing::info!(
        target: "audit",
        %who,
        what = "breaker",
        action = action.word(),
        %upstream,
        route = route.as_deref().unwrap_or("*"),
        until,
        before = before.reduce(worse).map_or("unknown", State::word),
        "an operator overrides a breaker"
    );
    let breakers = targets.iter().zip(&found);
    let breakers: Vec<_> = breakers
        .map(|(target, found)| {
            json!({
                "route": target.route,
                "breaker": target.owner,
                "mode": target.mode.word(),
                "before": found.before.map(State::word),
                "destinations": found.destinations,
            })
        })
        .collect();
    Ok(json!({
        "action": action.word(),
        "upstream": upstream,
        "until": until,
        "for_ms": force.is_some().then(|| u64::try_from(lasting.as_millis()).unwrap_or(u64::MAX)),
        "breakers": breakers,
    }))
}

/// What an order met among the destinations that are alive.
#[derive(Clone, Copy, Default)]
struct Found {
    /// The worst state; none if there was no destination.
    before: Option<State>,
    destinations: u32,
}

fn apply(tree: &Tree, target: &Declared<'_>, force: Option<&Arc<Force>>, now: Instant) -> Found {
    let name = target.name();
    let mut found = Found::default();
    tree.each(|live| {
        for breaker in live.breakers().filter(|breaker| breaker.name() == name) {
            let state = match force {
                Some(force) => breaker.force(force, now),
                None => breaker.release(now),
            };
            found.before = Some(found.before.map_or(state, |before| worse(before, state)));
            found.destinations += 1;
        }
    });
    found
}

fn force(action: Action, lasting: Duration, now: Instant) -> Option<Arc<Force>> {
    let to = match action {
        Action::Open => Forced::Open,
        Action::Close => Forced::Closed,
        Action::Auto => return None,
    };
    Some(Arc::new(Force {
        to,
        until: now + lasting,
        until_text: text_of(clock::unix() + lasting),
    }))
}

fn text_of(unix: Duration) -> String {
    let millis = i64::try_from(unix.as_millis()).ok();
    let stamp = millis.and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
    stamp.unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// The breakers that an order is about, one for each route that obeys one of them.
fn targets<'a>(
    policy: &'a Policy,
    upstream: &str,
    route: Option<&str>,
) -> Result<Vec<Declared<'a>>, Declined> {
    let routes = known(policy, upstream)?;
    let declared = every(policy).filter(|declared| declared.upstream == upstream);
    let targets: Vec<_> = match route {
        None => declared.collect(),
        // One that is shared is only meant by its own name: whoever says `POST /charges` does not mean the others.
        Some(route) => declared
            .filter(|found| found.owner == route || found.route == route)
            .collect(),
    };
    if let Some(route) = route {
        let names: Vec<&str> = std::iter::once("*")
            .chain(routes.iter().map(|route| route.name.as_str()))
            .collect();
        if !names.contains(&route) {
            return Err(declined(
                StatusCode::NOT_FOUND,
                format!("`{upstream}` has no route `{route}`."),
                json!({ "routes": names }),
            ));
        }
        if targets.iter().any(|found| found.owner != route) {
            return Err(declined(
                StatusCode::CONFLICT,
                format!(
                    "`{route}` shares the breaker of `{upstream}`; leave out the route to mean all, or give it a breaker \
                     of its own by `scope: route`."
                ),
                json!({ "routes": names }),
            ));
        }
    }
    if targets.is_empty() {
        return Err(declined(
            StatusCode::CONFLICT,
            format!("There is no breaker on `{upstream}`: it is off."),
            json!({}),
        ));
    }
    Ok(targets)
}

/// The routes of an upstream, without the base.
///
/// # Errors
/// If the policy has no such upstream; names those it has.
pub fn known<'a>(policy: &'a Policy, upstream: &str) -> Result<&'a [config::Route], Declined> {
    let found = upstreams(policy).find(|(name, ..)| *name == upstream);
    found.map(|(.., routes)| routes).ok_or_else(|| {
        let names: Vec<&str> = upstreams(policy).map(|(name, ..)| name).collect();
        declined(
            StatusCode::NOT_FOUND,
            format!("The policy has no upstream `{upstream}`."),
            json!({ "upstreams": names }),
        )
    })
}

fn declined(status: StatusCode, detail: String, more: Value) -> Declined {
    Declined {
        status,
        detail,
        more,
    }
}

fn worse(one: State, other: State) -> State {
    let rank = |state| match state {
        State::Closed => 0,
        State::HalfOpen => 1,
        State::Open => 2,
    };
    if rank(one) >= rank(other) { one } else { other }
}
