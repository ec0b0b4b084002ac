//! The faults that a policy injects: one state for each route, whatever destinations its upstream stands for.

use std::net::SocketAddr;
use std::sync::Arc;

use http::StatusCode;
use serde_json::Value;
use serde_json::json;

use crate::admin::Declined;
use crate::app::Shared;
use crate::app::orders;
use crate::app::told;
use crate::audit;
use crate::audit::Event;
use crate::config;
use crate::config::Policy;
use crate::policy::fault;
use crate::policy::fault::Injection;
use crate::policy::fault::machine::State;
use crate::telemetry;
use crate::telemetry::Telemetry;

/// Every route with a `fault` block that is on.
#[derive(Default)]
pub struct Faults(Vec<Arc<Injection>>);

impl Faults {
    /// Those of `policy`, with the state of those in `before` whose block did not change.
    #[must_use]
    pub fn new(policy: &Policy, telemetry: &Telemetry, before: Option<&Faults>) -> Self {
        let old = before.map_or(&[][..], |before| &before.0);
        // First, for what takes the place of one shares its gauge.
        old.iter()
            .filter(|old| !routes(policy).any(|(upstream, route)| is_same(old, upstream, route)))
            .for_each(|gone| gone.retire());
        let make = |(upstream, route): (&str, &config::Route)| {
            let settings = route.fault.as_ref()?;
            if let Some(same) = old.iter().find(|old| is_same(old, upstream, route)) {
                return Some(Arc::clone(same));
            }
            let metrics = fault::metrics::Metrics::new(telemetry, upstream, &route.name);
            let injection = Injection::new(upstream, &route.name, settings.clone(), metrics);
            if injection.state() == State::Running {
                let does = injection.describe();
                tracing::warn!(%upstream, route = %route.name, %does, "faults are injected on purpose");
            }
            Some(injection)
        };
        Self(routes(policy).filter_map(make).collect())
    }

    /// That of a route.
    #[must_use]
    pub fn find(&self, upstream: &str, route: &str) -> Option<&Arc<Injection>> {
        self.0
            .iter()
            .find(|known| known.upstream() == upstream && known.route() == route)
    }

    /// Brings the gauges up to date.
    pub fn refresh(&self) {
        for injection in &self.0 {
            injection.refresh();
        }
    }

    /// All of them, for `/faults`.
    #[must_use]
    pub fn describe(&self) -> Value {
        self.0
            .iter()
            .map(|injection| injection.describe())
            .collect()
    }
}

fn is_same(old: &Injection, upstream: &str, route: &config::Route) -> bool {
    old.upstream() == upstream
        && old.route() == route.name
        && route.fault.as_ref() == Some(old.settings())
}

fn routes(policy: &Policy) -> impl Iterator<Item = (&str, &config::Route)> {
    let named = policy.upstreams.iter().flat_map(|upstream| {
        let all = std::iter::once(&upstream.base).chain(&upstream.routes);
        all.map(|route| (upstream.name.as_str(), route))
    });
    named.chain([(telemetry::UNMATCHED, &policy.fallback)])
}

/// Stops faults, or lets stopped ones go on: those of one upstream, or all.
///
/// # Errors
/// If the policy has no such upstream, or no faults for it.
pub fn obey(
    shared: &Shared,
    go_on: bool,
    upstream: Option<&str>,
    who: SocketAddr,
) -> Result<Value, Declined> {
    let tree = shared.tree.load_full();
    let is_meant =
        |injection: &&Arc<Injection>| upstream.is_none_or(|name| injection.upstream() == name);
    let meant: Vec<_> = tree.faults.0.iter().filter(is_meant).collect();
    if let Some(upstream) = upstream {
        orders::known(&tree.policy, upstream)?;
        if meant.is_empty() {
            return Err(Declined::new(
                StatusCode::CONFLICT,
                format!("There are no faults for `{upstream}`."),
            ));
        }
    }
    let mut faults = Vec::new();
    for injection in meant {
        let before = if go_on {
            injection.resume()
        } else {
            injection.stop()
        };
        let (route, now) = (injection.route(), injection.state());
        audit::record(
            Event::new("faults")
                .by(told::who(who))
                .with("action", if go_on { "resume" } else { "stop" })
                .with("upstream", injection.upstream())
                .with("route", route)
                .with("before", before.word())
                .with("now", now.word()),
        );
        tracing::info!(
            target: "audit",
            %who,
            what = "fault",
            action = if go_on { "resume" } else { "stop" },
            upstream = injection.upstream(),
            route,
            before = before.word(),
            now = now.word(),
            "an operator overrides faults"
        );
        faults.push(json!({
            "upstream": injection.upstream(),
            "route": route,
            "before": before.word(),
            "now": now.word(),
        }));
    }
    Ok(json!({
        "action": if go_on { "resume" } else { "stop" },
        "faults": faults,
    }))
}
