//! Judgements of `limit`.

use super::super::build::Built;
use super::super::fault::Sink;
use super::super::fault::code;
use super::super::layers::Merged;
use crate::kit::fields::Fields;

/// Less than a call an hour, per second.
const TOO_SLOW: f64 = 0.999_999 / 3600.0;

/// Lints of limits that pods share.
pub(super) fn run(built: &Built, sink: &mut Sink) {
    let has_redis = built.root.block("redis").is_some();
    let bases = built.upstreams.iter().map(|upstream| &upstream.merged);
    let routes = built.upstreams.iter().flat_map(|upstream| &upstream.routes);
    let routes = routes.map(|route| &route.merged);
    for merged in [&built.fallback].into_iter().chain(bases).chain(routes) {
        if let Some(limit) = merged.block("limit") {
            shared(limit, has_redis, sink);
        }
    }
}

fn shared(block: &Merged, has_redis: bool, sink: &mut Sink) {
    let at = |key: &str| block.place(key);
    let is_global = block.word("scope") == Some("global");
    match (at("scope"), at("away")) {
        (Some(scope), _) if is_global && !has_redis => {
            let message = "`scope: global` needs `redis`, where the pods count together";
            let hint = "add `redis: [host:6379]` at the top of the file; with `scope: pod` each pod counts for itself";
            sink.add(code::NEEDS_REDIS, scope, message, Some(hint.to_owned()));
        }
        (Some(scope), None) if is_global => {
            let message = "nothing says what happens to this limit while Redis is away; each pod then counts its part by itself";
            let hint = "add `away: local`, `away: allow` or `away: deny`".to_owned();
            sink.add(code::AWAY_UNSAID, scope, message, Some(hint));
        }
        (_, Some(away)) if !is_global => {
            let message = "`away` has no meaning with `scope: pod`: nothing is asked of Redis";
            let hint = "add `scope: global`, or remove it".to_owned();
            sink.add(code::IDLE_AWAY, away, message, Some(hint));
        }
        _ => {}
    }
}

/// Lints of a limit that is on.
pub(super) fn limit(block: &Merged, sink: &mut Sink) {
    let at = |key: &str| block.place(key);
    match (at("rps"), at("rate")) {
        (Some(_), Some(rate)) => {
            let hint = "keep one: `rps` counts calls a second, `rate` carries its unit".to_owned();
            let message = "`rps` and `rate` both say how fast";
            sink.add(code::CONFLICT, rate, message, Some(hint));
        }
        (None, None) => {
            let place = block.origin.place.unwrap_or_default();
            let hint = "add `rps: 100` or `rate: 30/m`".to_owned();
            sink.add(
                code::MISSING_KEY,
                place,
                "limit needs `rps` or `rate`",
                Some(hint),
            );
        }
        _ => {}
    }
    if let (Some(at), Some(rate)) = (at("rate"), block.rate("rate"))
        && rate < TOO_SLOW
    {
        let message = "`rate` in limit: out of range: at least 1/h";
        let hint = "`limit: off` lets every call pass".to_owned();
        sink.add(code::RANGE, at, message, Some(hint));
    }
}
