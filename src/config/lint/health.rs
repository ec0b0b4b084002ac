//! Lints of `health`.

use super::super::build::BuiltUpstream;
use super::super::build::rank;
use super::super::fault::Place;
use super::super::fault::Sink;
use super::super::fault::code;
use super::super::layers::Merged;
use crate::endpoint::health::config::Probe;
use crate::endpoint::health::config::Settings;
use crate::kit::fields::Fields;
use crate::kit::units;

/// What contradicts itself within the block, or between it and its upstream.
pub(super) fn lint(upstream: &BuiltUpstream, tcp: bool, sink: &mut Sink) {
    let Some(block) = upstream.merged.block("health") else {
        return;
    };
    // Written below, as under `defaults`, it is sound there: it is this upstream that it does not suit.
    let at = (block.origin.place)
        .filter(|_| block.origin.rank == rank::UPSTREAM)
        .unwrap_or(upstream.at);
    destinations(upstream, at, sink);
    times(block, sink);
    let settings = Settings::lift(block);
    questions(block, &settings.probe, sink);
    if let (true, Probe::Http { .. }) = (tcp, &settings.probe) {
        let message = format!(
            "the probe speaks HTTP, but `{}` has `protocol: tcp`",
            upstream.name
        );
        let hint = "`health: tcp` asks no more than a connection".to_owned();
        sink.add(code::TUNNEL, at, message, Some(hint));
    }
}

/// A probe needs an endpoint that policy knows: whoever calls could otherwise make outrider knock anywhere.
fn destinations(upstream: &BuiltUpstream, at: Place, sink: &mut Sink) {
    let why = if upstream.pattern.is_glob() {
        "a glob stands for any number of hosts"
    } else if upstream.merged.word("endpoints") == Some("original") {
        "with `endpoints: original` the application chooses the address"
    } else {
        return;
    };
    let message = format!("`{}` cannot be probed: {why}", upstream.name);
    let hint = "name the upstream and let it resolve, or write `health: off` here".to_owned();
    sink.add(code::CONFLICT, at, message, Some(hint));
}

fn times(block: &Merged, sink: &mut Sink) {
    let (every, timeout) = (block.duration("every"), block.duration("timeout"));
    if let (Some(every), Some(timeout), Some(at)) = (every, timeout, block.place("timeout"))
        && timeout > every
    {
        let message = format!(
            "a probe may take {}, but the next one is due after {}",
            units::format_duration(timeout),
            units::format_duration(every)
        );
        let hint = format!("at most `{}`", units::format_duration(every));
        sink.add(code::CONFLICT, at, message, Some(hint));
    }
}

/// A setting of one probe beside another probe, where the latter was not written later.
fn questions(block: &Merged, probe: &Probe, sink: &mut Sink) {
    let chosen = block.value("probe").map(|(_, origin)| origin);
    let spoken = match probe {
        Probe::Http { .. } => "http",
        Probe::Grpc { .. } => "grpc",
        Probe::Tcp => "tcp",
        Probe::Redis => "redis",
        Probe::Postgres => "postgres",
    };
    for (key, of) in [("get", "http"), ("expect", "http"), ("service", "grpc")] {
        let Some(at) = block.place_over(key, chosen).filter(|_| of != spoken) else {
            continue;
        };
        let message = format!("`{key}` belongs to `probe: {of}`, and this probe is `{spoken}`");
        sink.add(
            code::CONFLICT,
            at,
            message,
            Some("remove one of them".to_owned()),
        );
    }
}
