//! Judgements of `cache`.

use super::first_place;
use crate::config::build::Built;
use crate::config::build::BuiltRoute;
use crate::config::build::rank;
use crate::config::fault::Place;
use crate::config::fault::Sink;
use crate::config::fault::code;
use crate::config::layers::Merged;
use crate::config::value::Value;
use crate::kit::fields::Fields;
use crate::kit::units;
use crate::policy::cache::config::Credentialed;
use crate::policy::cache::config::Settings;
use crate::policy::cache::config::StoreSettings;

/// Request headers that say who is asking.
const CREDENTIALS: &[&str] = &[
    "authorization",
    "cookie",
    "x-api-key",
    "api-key",
    "x-auth-token",
    "x-user",
    "x-user-id",
];

/// Runs the lints of all caches.
pub(super) fn run(built: &Built, sink: &mut Sink) {
    let store = built.root.block("cache").map(StoreSettings::lift);
    let store = store.unwrap_or_default();
    let has_redis = built.root.block("redis").is_some();
    block(&built.fallback, store, has_redis, sink);
    for upstream in &built.upstreams {
        if upstream.merged.word("protocol") == Some("tcp") {
            continue;
        }
        block(&upstream.merged, store, has_redis, sink);
        for route in &upstream.routes {
            block(&route.merged, store, has_redis, sink);
            method(route, sink);
        }
    }
}

fn block(merged: &Merged, store: StoreSettings, has_redis: bool, sink: &mut Sink) {
    let Some(cache) = merged.inside("cache") else {
        return;
    };
    if !cache.on {
        switched_off(cache, sink);
        return;
    }
    let settings = Settings::lift(cache);
    if let Some(at) = cache.place("shared")
        && settings.shared
        && !has_redis
    {
        let message = "`shared: true` shares nothing: the policy has no `redis`";
        let hint = "add `redis: [redis-0:6379]` at the top of the file".to_owned();
        sink.add(code::IDLE_CACHE, at, message, Some(hint));
    }
    principals(merged, cache, &settings, sink);
    times(cache, &settings, sink);
    if let Some(at) = cache.place("max_body")
        && settings.max_body > store.memory
    {
        let message = format!(
            "max_body {} is more than the whole store, {}",
            units::format_size(settings.max_body),
            units::format_size(store.memory)
        );
        let hint = "raise `memory` of `cache` at the top of the file".to_owned();
        sink.add(code::IDLE_CACHE, at, message, Some(hint));
    }
    if let Some(at) = cache.place("strip_tags")
        && settings.strip_tags
        && settings.tags.is_none()
    {
        let message = "`strip_tags` takes nothing off: no header is named by `tags`";
        let hint = "add `tags: surrogate-key`, or remove it".to_owned();
        sink.add(code::IDLE_CACHE, at, message, Some(hint));
    }
}

/// What was written for the day on which the upstream fails, and then nobody keeps anything.
fn switched_off(cache: &Merged, sink: &mut Sink) {
    for key in ["stale_if_error", "stale_while_revalidate"] {
        let Some((value, origin)) = cache.value(key) else {
            continue;
        };
        // One that a later layer switched off says what it means.
        let by_itself = cache.origin.rank <= origin.rank;
        if let (Value::Duration(_), Some(at), true) = (value, origin.place, by_itself) {
            let message = format!("`{key}` without a cache: nothing is kept that could be stale");
            let hint = "remove `mode: off`, or this".to_owned();
            sink.add(code::IDLE_CACHE, at, message, Some(hint));
        }
    }
}

/// Whether the policy itself says that callers are told apart by credentials, and then lets them share.
fn principals(merged: &Merged, cache: &Merged, settings: &Settings, sink: &mut Sink) {
    if !settings.per.is_empty() || settings.credentialed == Credentialed::Off {
        return;
    }
    let keyed = |name: &str| {
        let mut names = settings.vary.iter();
        names.any(|vary| vary.as_str().eq_ignore_ascii_case(name))
    };
    let Some((what, name)) = told_apart(merged).filter(|(_, name)| !keyed(name)) else {
        return;
    };
    let Some(at) = written(cache) else { return };
    let message = format!(
        "`{what}` tells callers apart by `{name}`, and the cache gives one caller what it kept for another"
    );
    let hint =
        format!("`per: {name}` gives each its own, `credentialed: off` keeps nothing of theirs");
    let hint = hint.replace(
        "per: ",
        if name.contains(':') {
            "per: "
        } else {
            "per: header:"
        },
    );
    sink.add(code::SHARED_CREDENTIALS, at, message, Some(hint));
}

/// A block that names a credential, and the credential as `per` would name it.
fn told_apart(merged: &Merged) -> Option<(&'static str, String)> {
    let places = [("limit", "limit", "per"), ("balance", "balance", "hash")];
    for (what, block, key) in places {
        let Some(block) = merged.block(block) else {
            continue;
        };
        let listed = block.list(key).unwrap_or_default();
        let texts = block.word(key).into_iter().chain(listed);
        for text in texts {
            let is_credential = match text.split_once(':') {
                Some(("header", name)) => CREDENTIALS.contains(&name.to_ascii_lowercase().as_str()),
                Some(("cookie", _)) => true,
                _ => false,
            };
            if is_credential {
                return Some((what, text.to_owned()));
            }
        }
    }
    None
}

fn times(cache: &Merged, settings: &Settings, sink: &mut Sink) {
    let text = units::format_duration;
    let bounds = cache.inside("ttl");
    let bound = |key: &str| bounds.and_then(|block| block.place(key));
    if let (Some(min), Some(max), Some(at)) = (
        settings.ttl.min,
        settings.ttl.max,
        bound("min").or_else(|| bound("max")),
    ) && min > max
    {
        let message = format!("ttl min {} is above its max {}", text(min), text(max));
        sink.add(code::CONFLICT, at, message, None);
    }
    if let (Some(get), Some(max), Some(at)) = (
        settings.get,
        settings.ttl.max,
        cache.place("get").or_else(|| bound("max")),
    ) && get > max
    {
        let message = format!(
            "what says nothing of its freshness is kept for {}, longer than what does: ttl max is {}",
            text(get),
            text(max)
        );
        let hint = format!("`get: {}` or less", text(max));
        sink.add(code::ODD_TTL, at, message, Some(hint));
    }
    let negative = settings.negative.as_ref().map(|negative| negative.lasting);
    let at = cache
        .inside("negative")
        .and_then(|block| block.place("ttl"));
    if let (Some(lasting), Some(get), Some(at)) = (negative, settings.get, at)
        && lasting > get
    {
        let message = format!(
            "a failure is kept for {}, longer than an answer: get is {}",
            text(lasting),
            text(get)
        );
        let hint = format!("`negative: {}` or less", text(get));
        sink.add(code::ODD_TTL, at, message, Some(hint));
    }
    if let (Some(revalidate), Some(error), Some(at)) = (
        settings.stale_while_revalidate,
        settings.stale_if_error,
        cache.place("stale_if_error"),
    ) && error < revalidate
    {
        let message = format!(
            "stale_if_error {} ends before stale_while_revalidate {}: an answer is stale for longer while all is well",
            text(error),
            text(revalidate)
        );
        let hint = format!("`stale_if_error: {}` or more", text(revalidate));
        sink.add(code::ODD_TTL, at, message, Some(hint));
    }
}

/// A route of its own for a method that is never answered from a cache.
fn method(route: &BuiltRoute, sink: &mut Sink) {
    let Some(cache) = route.merged.block("cache") else {
        return;
    };
    let Some((method, _)) = route.name.split_once(' ') else {
        return;
    };
    if matches!(method, "GET" | "HEAD") {
        return;
    }
    if let Some(at) = first_place(cache, rank::ROUTE) {
        let message =
            format!("{method} is never answered from a cache, and its answers are not kept");
        let hint = "write it on the route of the GET".to_owned();
        sink.add(code::IDLE_CACHE, at, message, Some(hint));
    }
}

/// Where the last layer wrote into the block.
fn written(cache: &Merged) -> Option<Place> {
    [rank::ROUTE, rank::UPSTREAM, rank::PROFILE, rank::DEFAULTS]
        .into_iter()
        .find_map(|rank| first_place(cache, rank))
}
