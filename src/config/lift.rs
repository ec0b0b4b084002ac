//! Merged blocks to one typed policy: each block becomes the settings of its room.

mod identity;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::Bind;
use super::Endpoints;
use super::Limits;
use super::Listen;
use super::Policy;
use super::Protocol;
use super::Route;
use super::Surroundings;
use super::Unmatched;
use super::Upstream;
use super::build::Built;
use super::build::BuiltUpstream;
use super::build::rank;
use super::decode::Block;
use super::fault::Place;
use super::inbound;
use super::layers::Merged;
use super::value::Value;
use crate::audit;
use crate::balance;
use crate::connect::tls;
use crate::endpoint::Member;
use crate::endpoint::health::config as health;
use crate::http::hops;
use crate::kit::fields::Fields;
use crate::policy::breaker::config as breaker;
use crate::policy::bulkhead::config as bulkhead;
use crate::policy::cache::config as cache;
use crate::policy::credential::config as credential;
use crate::policy::deadline::config as deadline;
use crate::policy::eject::config as eject;
use crate::policy::fault::config as fault;
use crate::policy::hedge::config as hedge;
use crate::policy::idempotency::config as idempotency;
use crate::policy::limit::config as limit;
use crate::policy::overload;
use crate::policy::retry::config as retry;
use crate::redact;
use crate::route::machine::Matcher;
use crate::shared;
use crate::telemetry::story;

pub(super) use identity::identity;

/// The typed policy. Only called when no fault refuses it.
pub(crate) fn policy(
    built: &Built,
    around: &Surroundings,
    revision: String,
    sources: Vec<PathBuf>,
) -> Policy {
    let own = built
        .root
        .word("service")
        .or(around.service.as_deref())
        .unwrap_or("unknown_service");
    Policy {
        service: own.to_owned(),
        listen: listen(&built.root),
        unmatched: if built.root.word("unmatched") == Some("deny") {
            Unmatched::Deny
        } else {
            Unmatched::Pass
        },
        upstreams: built.upstreams.iter().map(lift_upstream).collect(),
        fallback: lift_route("*", None, &built.fallback),
        zone: zone(&built.root, around),
        fallback_balance: lift_balance(&built.fallback),
        fallback_eject: built.fallback.block("eject").map(eject::Settings::lift),
        identity: identity(&built.root, around),
        fallback_tls: tls::Settings::lift(&built.fallback),
        overload: built.root.block("overload").map(overload::Settings::lift),
        hops: built.root.block("hops").map(hops::Settings::lift),
        inbound: inbound::inbound(&built.root),
        admin_token: inbound::admin_token(&built.root),
        cache: built
            .root
            .block("cache")
            .map(cache::StoreSettings::lift)
            .unwrap_or_default(),
        explain: built
            .root
            .block("telemetry")
            .and_then(|telemetry| telemetry.block("explain"))
            .map(story::Settings::lift)
            .unwrap_or_default(),
        redact: built
            .root
            .block("telemetry")
            .and_then(|telemetry| telemetry.block("redact"))
            .map(redact::Settings::lift),
        audit: built.root.block("audit").map(audit::Settings::lift),
        redis: built.root.block("redis").map(shared::Settings::lift),
        access_log: built
            .root
            .block("telemetry")
            .is_some_and(|telemetry| telemetry.word("log") == Some("json")),
        revision,
        sources,
    }
}

fn lift_upstream(built: &BuiltUpstream) -> Upstream {
    let merged = &built.merged;
    Upstream {
        pattern: built.pattern.clone(),
        name: built.name.clone(),
        endpoints: endpoints(merged),
        balance: lift_balance(merged),
        eject: merged.block("eject").map(eject::Settings::lift),
        tls: tls::Settings::lift(merged),
        health: merged.block("health").map(health::Settings::lift),
        breaker: merged.block("breaker").map(breaker::Settings::lift),
        bulkhead: merged.block("bulkhead").map(bulkhead::Settings::lift),
        protocol: if merged.word("protocol") == Some("tcp") {
            Protocol::Tcp
        } else {
            Protocol::Auto
        },
        base: lift_route("*", None, merged),
        routes: built
            .routes
            .iter()
            .map(|route| lift_route(&route.name, Some(&route.matcher), &route.merged))
            .collect(),
    }
}

/// The zone that this workload runs in.
pub(super) fn zone(root: &Merged, around: &Surroundings) -> Option<Arc<str>> {
    root.word("zone").or(around.zone.as_deref()).map(Arc::from)
}

fn lift_balance(merged: &Merged) -> balance::Settings {
    merged
        .block("balance")
        .map(balance::Settings::lift)
        .unwrap_or_default()
}

fn endpoints(merged: &Merged) -> Endpoints {
    match listed(merged) {
        Some(list) => Endpoints::Static(list.into_iter().map(|(member, _)| member).collect()),
        None if merged.word("endpoints") == Some("original") => Endpoints::Original,
        None => Endpoints::Dns,
    }
}

/// The endpoints that are written down, each with its place; `None` if they are found by other means.
pub(super) fn listed(merged: &Merged) -> Option<Vec<(Member, Place)>> {
    match merged.value("endpoints")?.0 {
        Value::List(items) => Some(members(items, None).collect()),
        Value::Block(block) => {
            let Value::Named(zones) = &block.entry("zones")?.value else {
                return None;
            };
            let of_zone = |(name, _, zone): &(String, Place, Block)| {
                let items = match zone.entry("endpoints").map(|entry| &entry.value) {
                    Some(Value::List(items)) => items.as_slice(),
                    _ => &[],
                };
                members(items, Some(Arc::from(name.as_str()))).collect::<Vec<_>>()
            };
            Some(zones.iter().flat_map(of_zone).collect())
        }
        _ => None,
    }
}

fn members(
    items: &[(Value, Place)],
    zone: Option<Arc<str>>,
) -> impl Iterator<Item = (Member, Place)> {
    items.iter().filter_map(move |(item, at)| {
        let Value::Block(block) = item else {
            return None;
        };
        let Value::Text(address) = &block.entry("address")?.value else {
            return None;
        };
        let weight = match block.entry("weight").map(|entry| &entry.value) {
            Some(Value::Count(weight)) => u32::try_from(*weight).unwrap_or(1),
            _ => 1,
        };
        let member = Member {
            address: address.parse().ok()?,
            weight,
            zone: zone.clone(),
        };
        Some((member, *at))
    })
}

fn lift_route(name: &str, matcher: Option<&Matcher>, merged: &Merged) -> Route {
    let breaker = merged.block("breaker").map(|block| {
        let settings = breaker::Settings::lift(block);
        // One machine cannot follow two settings, so a route that changes them gets its own.
        let scope = if block.written_by(rank::ROUTE) {
            breaker::Scope::Route
        } else {
            settings.scope
        };
        breaker::Settings { scope, ..settings }
    });
    let credential = merged.block("credential").map(credential::Settings::lift);
    Route {
        name: name.to_owned(),
        matcher: matcher.cloned(),
        priority: overload::Priority::lift(merged),
        deadline: merged
            .block("timeout")
            .map(deadline::Settings::lift)
            .unwrap_or_default(),
        cache: merged.block("cache").map(|block| cache::Settings {
            vouched: vouched(credential.as_ref()),
            ..cache::Settings::lift(block)
        }),
        credential,
        limit: merged.block("limit").map(|block| limit::Settings {
            own: block.written_by(rank::ROUTE),
            ..limit::Settings::lift(block)
        }),
        retry: merged.block("retry").map(retry::Settings::lift),
        idempotency: merged.block("idempotency").map(idempotency::Settings::lift),
        hedge: merged.block("hedge").map(hedge::Settings::lift),
        breaker,
        bulkhead: merged.block("bulkhead").map(|block| super::RouteBulkhead {
            settings: bulkhead::Settings::lift(block),
            is_own: block.written_by(rank::ROUTE),
        }),
        fault: merged.block("fault").map(fault::Settings::lift),
    }
}

/// What the cache has to know of the credential that is put on a call behind its back.
fn vouched(credential: Option<&credential::Settings>) -> Option<cache::Vouched> {
    let enforced = credential.filter(|credential| credential.mode.enforces())?;
    Some(cache::Vouched {
        header: enforced.header.clone(),
        overwrite: enforced.overwrite,
    })
}

/// `listen` of a merged root.
pub(crate) fn listen(root: &Merged) -> Listen {
    let block = root.block("listen");
    let bind = |key: &str| block.and_then(|block| block.word(key)).and_then(bind);
    Listen {
        outbound: bind("outbound"),
        explicit: bind("explicit"),
        inbound: bind("inbound"),
        admin: bind("admin"),
        limits: block
            .and_then(|block| block.block("limits"))
            .map(Limits::lift)
            .unwrap_or_default(),
    }
}

fn bind(text: &str) -> Option<Bind> {
    text.parse::<u16>()
        .map(Bind::Loopback)
        .or_else(|_| text.parse::<SocketAddr>().map(Bind::Address))
        .ok()
}

impl Limits {
    fn lift<F: Fields>(block: &F) -> Self {
        let built_in = Self::default();
        Self {
            head: block.size("head").unwrap_or(built_in.head),
            headers: block.count("headers").unwrap_or(built_in.headers),
            uri: block.size("uri").unwrap_or(built_in.uri),
            body: block.size("body"),
            connections: block.count("connections").unwrap_or(built_in.connections),
            head_read: block.duration("head_read").unwrap_or(built_in.head_read),
            idle: block.duration("idle").unwrap_or(built_in.idle),
            detect: block.duration("detect").unwrap_or(built_in.detect),
        }
    }
}
