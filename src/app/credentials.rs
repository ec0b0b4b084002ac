//! The credentials that a policy adds to calls: one guard for each route, one source for each secret.
//!
//! Made where the policy is loaded and never by a call, so that no worker reads a file, and a token is asked for before the
//! first call wants it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use crate::config::Policy;
use crate::endpoint::discover::Resolver;
use crate::policy::credential::Ground;
use crate::policy::credential::Guard;
use crate::policy::credential::Source;
use crate::policy::credential::Spec;
use crate::telemetry::Telemetry;

/// Every route with a `credential` block that is on. Routes with the same secret share what keeps it up to date.
#[derive(Default)]
pub struct Credentials(Vec<Arc<Guard>>);

impl Credentials {
    /// Those of `policy`, with the guards and the secrets of those in `before` whose block did not change.
    #[must_use]
    pub fn new(
        policy: &Policy,
        telemetry: &Telemetry,
        resolver: &Resolver,
        before: Option<&Credentials>,
    ) -> Self {
        let old = before.map_or(&[][..], |before| &before.0);
        let ground = Ground {
            telemetry,
            resolver,
        };
        let mut sources: HashMap<Spec, Arc<Source>> = old
            .iter()
            .flat_map(|guard| guard.sources())
            .map(|source| (source.spec().clone(), Arc::clone(source)))
            .collect();
        let mut source = |spec: Spec| {
            let entry = sources.entry(spec);
            let spec = entry.key().clone();
            Arc::clone(entry.or_insert_with(|| Source::start(spec, ground)))
        };
        let mut all = Vec::new();
        for upstream in &policy.upstreams {
            for route in upstream.routes.iter().chain([&upstream.base]) {
                let Some(settings) = &route.credential else {
                    continue;
                };
                let (upstream, route) = (&upstream.name, &route.name);
                if let Some(same) = old.iter().find(|old| old.is(upstream, route, settings)) {
                    all.push(Arc::clone(same));
                    continue;
                }
                let Some((first, next)) = Guard::specs(settings) else {
                    continue;
                };
                let both = (source(first), next.map(&mut source));
                all.push(Guard::new(
                    upstream,
                    route,
                    settings.clone(),
                    both,
                    telemetry,
                ));
            }
        }
        Self(all)
    }

    /// That of a route.
    #[must_use]
    pub fn find(&self, upstream: &str, route: &str) -> Option<&Arc<Guard>> {
        self.0.iter().find(|known| known.is_of(upstream, route))
    }

    /// Brings the gauges up to date.
    pub fn refresh(&self) {
        let sources = self.0.iter().flat_map(|guard| guard.sources());
        sources.for_each(|source| source.refresh());
    }

    /// That of a route, for a person.
    #[must_use]
    pub fn describe(&self, upstream: &str, route: &str, now: Instant) -> Value {
        self.find(upstream, route)
            .map_or(Value::Null, |guard| guard.describe(now))
    }
}
