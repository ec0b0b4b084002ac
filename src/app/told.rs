//! What the policy wants kept back, and what it wants recorded: put in force, and told.

use std::collections::HashMap;
use std::net::SocketAddr;

use serde_json::Value;
use serde_json::json;

use crate::app::StartError;
use crate::audit;
use crate::audit::Event;
use crate::config::Effect;
use crate::config::Effective;
use crate::config::Fault;
use crate::config::Policy;
use crate::redact;
use crate::redact::Redactor;
use crate::telemetry::Telemetry;

/// Values of a policy that one record lists; what is beyond is a number.
const CHANGES_MAX: usize = 200;
/// Faults of a refused policy, likewise.
const FAULTS_MAX: usize = 20;

/// The first policy: what it asks for must be had.
pub fn begin(policy: &Policy, telemetry: &Telemetry) -> Result<(), StartError> {
    redact::install(Redactor::new(policy.redact.as_ref())?);
    audit::configure(policy.audit.as_ref(), &audit::Metrics::new(telemetry))?;
    audit::record(
        Event::new("policy_loaded")
            .with("revision", policy.revision.as_str())
            .with("upstreams", policy.upstreams.len()),
    );
    Ok(())
}

/// A policy that takes the place of another.
///
/// # Errors
/// If what it asks for cannot be had: then nothing was changed.
pub fn change(policy: &Policy, before: &Policy, telemetry: &Telemetry) -> Result<(), StartError> {
    // Left alone where it did not change: a random key lives as long as its settings.
    let redactor = if policy.redact == before.redact {
        None
    } else {
        Some(Redactor::new(policy.redact.as_ref())?)
    };
    audit::configure(policy.audit.as_ref(), &audit::Metrics::new(telemetry))?;
    if let Some(redactor) = redactor {
        redact::install(redactor);
    }
    Ok(())
}

/// The end of the process. Only whoever began a log ends it: a process may run several proxies.
pub fn end(policy: &Policy) {
    if policy.audit.is_some() {
        audit::stop();
    }
}

/// Tells that a policy is in force, and what is other than before.
pub fn loaded(revision: &str, before: &Effective, now: &Effective) {
    if !audit::is_on() {
        return;
    }
    let changes = changes(before, now);
    let beyond = changes.len().saturating_sub(CHANGES_MAX);
    let listed: Vec<Value> = changes.into_iter().take(CHANGES_MAX).collect();
    let mut event = Event::new("policy_loaded")
        .with("revision", revision)
        .with("changes", listed);
    if beyond > 0 {
        event = event.with("more_changes", beyond);
    }
    audit::record(event);
}

/// Tells that a policy was offered that does not load.
pub fn refused(faults: &[Fault]) {
    if audit::is_on() {
        let named: Vec<String> = faults
            .iter()
            .take(FAULTS_MAX)
            .map(ToString::to_string)
            .collect();
        audit::record(
            Event::new("policy_refused")
                .with("faults", faults.len())
                .with("named", named),
        );
    }
}

/// The values that differ, by path.
fn changes(before: &Effective, now: &Effective) -> Vec<Value> {
    let (before, now) = (by_path(before), by_path(now));
    let mut paths: Vec<&String> = before.keys().chain(now.keys()).collect();
    paths.sort();
    paths.dedup();
    let told = |path: &String| {
        let (from, to) = (before.get(path), now.get(path));
        (from != to).then(|| json!({ "at": path, "from": from, "to": to }))
    };
    paths.into_iter().filter_map(told).collect()
}

fn by_path(effective: &Effective) -> HashMap<String, &str> {
    let global = effective
        .global
        .iter()
        .map(|effect| (effect.path.clone(), effect));
    let routes = effective.routes.iter().flat_map(|route| {
        let of =
            move |effect: &Effect| format!("{} {} {}", route.upstream, route.route, effect.path);
        route.values.iter().map(move |effect| (of(effect), effect))
    });
    let all = global.chain(routes);
    all.map(|(path, effect)| (path, effect.value.as_str()))
        .collect()
}

/// Who gave an order, without the port: it is never the same twice.
pub fn who(who: SocketAddr) -> String {
    who.ip().to_canonical().to_string()
}
