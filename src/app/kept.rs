//! What operators ask of the cache: purges, and what it keeps.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use http::StatusCode;
use http::Uri;
use serde_json::Value;
use serde_json::json;

use crate::admin;
use crate::admin::Declined;
use crate::app::Shared;
use crate::app::told;
use crate::audit;
use crate::audit::Event;
use crate::clock;
use crate::policy::cache::Purge;
use crate::policy::cache::machine::key;
use crate::policy::cache::machine::key::Target;
use crate::policy::cache::metrics::PurgedBy;
use crate::policy::cache::metrics::StoreMetrics;
use crate::shared::What;

/// Purges, and tells the audit log.
///
/// # Errors
/// When there is no cache.
pub fn purge(
    shared: &Shared,
    what: &admin::Purge,
    soft: bool,
    who: SocketAddr,
) -> Result<Value, Declined> {
    let tree = shared.tree.load();
    let Some(store) = &tree.store else {
        return Err(Declined::new(
            StatusCode::CONFLICT,
            "There is nothing to purge: no upstream of the policy has a cache.",
        ));
    };
    let (by, name, named) = match what {
        admin::Purge::Url(url) => (PurgedBy::Url, Some(url.as_str()), Purge::Url(key_of(url)?)),
        admin::Purge::Tag(tag) => (
            PurgedBy::Tag,
            Some(tag.as_str()),
            Purge::Tag(tag.as_str().into()),
        ),
        admin::Purge::All => (PurgedBy::All, None, Purge::All),
    };
    let count = store.purge(&named, soft, clock::now());
    let tier = store.tier();
    if let Some(tier) = &tier {
        tier.order(in_fleet(&named), soft);
    }
    StoreMetrics::new(&shared.telemetry).purged(by, soft, count);
    audit::record(
        Event::new("purge")
            .by(told::who(who))
            .with("by", by.word())
            .with("name", name)
            .with("soft", soft)
            .with("count", count),
    );
    tracing::info!(
        target: "audit",
        %who,
        what = "cache",
        action = "purge",
        by = by.word(),
        name,
        soft,
        count,
        "an operator purges the cache"
    );
    Ok(json!({
        "by": by.word(),
        "name": name,
        "soft": soft,
        "purged": count,
        "fleet": tier.is_some(),
    }))
}

/// A purge as other pods are told of it.
fn in_fleet(purge: &Purge) -> What {
    match purge {
        Purge::All => What::All,
        Purge::Url(url) => What::Url(url.clone()),
        Purge::Tag(tag) => What::Tag(tag.clone()),
    }
}

/// A URL as it stands in keys.
fn key_of(url: &str) -> Result<Box<[u8]>, Declined> {
    let unreadable = || Declined::new(StatusCode::BAD_REQUEST, "`url` cannot be read as a URL");
    let uri: Uri = url.parse().map_err(|_| unreadable())?;
    let (scheme, authority) = uri
        .scheme_str()
        .zip(uri.authority())
        .ok_or_else(unreadable)?;
    let mut text = Vec::new();
    let target = Target {
        scheme,
        authority: authority.as_str(),
        path: uri.path_and_query().map_or("/", |path| path.as_str()),
    };
    key::url(target, &mut text);
    Ok(text.into())
}

/// The page `/cache`.
#[must_use]
pub fn describe(shared: &Shared) -> Value {
    let tree = shared.tree.load();
    let mut routes = Vec::new();
    // Destinations of one upstream count into the same series.
    let mut seen = HashSet::new();
    tree.each(|live| {
        for route in &live.routes {
            let Some(cache) = &route.cache else { continue };
            let name = &route.policy.name;
            if !seen.insert((live.name.clone(), name.clone())) {
                continue;
            }
            let mut line = cache.describe();
            line["upstream"] = live.name.as_str().into();
            line["route"] = name.as_str().into();
            line["mode"] = route
                .policy
                .cache
                .as_ref()
                .map(|cache| cache.mode.word())
                .into();
            routes.push(line);
        }
    });
    let store = tree.store.as_ref();
    json!({
        "entries": store.map_or(0, |store| store.len()),
        "bytes": store.map_or(0, |store| store.weight()),
        "capacity": store.map_or(tree.policy.cache.memory, |store| store.capacity()),
        "evictions": store.map_or(0, |store| store.evicted()),
        "shared": store.and_then(|store| store.tier()).map(|tier| tier.describe()),
        "routes": routes,
    })
}

/// Brings the gauges of the store up to date before each scrape.
pub fn keep_gauges(shared: &Arc<Shared>) {
    let metrics = StoreMetrics::new(&shared.telemetry);
    let shared_of_gauges = Arc::downgrade(shared);
    shared.telemetry.before_scrape(Box::new(move || {
        let Some(shared) = shared_of_gauges.upgrade() else {
            return;
        };
        if let Some(store) = &shared.tree.load().store {
            let entries = u64::try_from(store.len()).unwrap_or(u64::MAX);
            metrics.holds(store.weight(), entries, store.capacity(), store.evicted());
        }
    }));
}
