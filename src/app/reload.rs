//! A new policy while the proxy runs: the whole of it, or nothing.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::app::Shared;
use crate::app::told;
use crate::app::tree::Around;
use crate::app::tree::Tree;
use crate::clock;
use crate::config;
use crate::config::Effect;
use crate::telemetry::Reload;

/// Loads `sources` again. A policy that does not load changes nothing: the last good one keeps serving.
pub fn reload(shared: &Shared, sources: &[PathBuf]) {
    let result = match config::load_with(sources, &config::Surroundings::of_process()) {
        Ok(loaded) => apply(shared, loaded),
        Err(faults) => {
            for fault in &faults {
                tracing::error!("{fault}");
            }
            told::refused(&faults);
            tracing::error!(
                faults = faults.len(),
                "the policy does not load; the last good one keeps serving"
            );
            Reload::Refused
        }
    };
    shared.telemetry.process.reloaded(result);
}

fn apply(shared: &Shared, loaded: config::Loaded) -> Reload {
    let before = shared.tree.load_full();
    if loaded.policy.revision == before.policy.revision {
        return Reload::Unchanged;
    }
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    if let Err(error) = told::change(&loaded.policy, &before.policy, &shared.telemetry) {
        tracing::error!(%error, "the policy asks for what cannot be had; the last good one keeps serving");
        return Reload::Refused;
    }
    let mut policy = loaded.policy;
    let sockets = |listen: &config::Listen| {
        (
            listen.outbound,
            listen.explicit,
            listen.inbound,
            listen.admin,
        )
    };
    if sockets(&policy.listen) != sockets(&before.policy.listen) {
        tracing::warn!("changed ports under `listen` take effect at the next start");
        policy.listen = config::Listen {
            limits: policy.listen.limits,
            ..before.policy.listen.clone()
        };
    }
    // Before the tree: it may have upstreams that cannot be called without.
    shared.identity.follow(policy.identity.as_ref());
    let around = Around {
        telemetry: &shared.telemetry,
        resolver: &shared.resolver,
        identity: shared.identity.current(),
    };
    let tree = Tree::new(policy, &around, Some(&before));
    let names: HashSet<String> = tree
        .policy
        .upstreams
        .iter()
        .map(|upstream| upstream.name.clone())
        .collect();
    let revision = tree.policy.revision.clone();
    shared.put(Arc::clone(&tree));
    tree.forces.reconcile(&tree);
    told::loaded(&revision, &shared.effective.load(), &loaded.effective);
    shared.effective.store(Arc::new(loaded.effective));
    shared.telemetry.retain(&names);
    shared
        .telemetry
        .process
        .set_policy(&revision, clock::unix());
    tracing::info!(%revision, "policy loaded");
    Reload::Applied
}

/// The policy in force, for `/config`.
#[must_use]
pub fn describe(shared: &Shared) -> Value {
    let tree = shared.tree.load();
    let effective = shared.effective.load();
    let routes: Vec<_> = effective
        .routes
        .iter()
        .map(|route| {
            json!({
                "upstream": route.upstream,
                "route": route.route,
                "values": values(&route.values),
            })
        })
        .collect();
    json!({
        "revision": tree.policy.revision,
        "sources": tree.policy.sources,
        "service": tree.policy.service,
        "global": values(&effective.global),
        "routes": routes,
    })
}

fn values(effects: &[Effect]) -> Value {
    let values = effects.iter().map(|effect| {
        let value = json!({ "value": effect.value, "origin": effect.origin });
        (effect.path.clone(), value)
    });
    Value::Object(values.collect::<Map<_, _>>())
}
