//! Judgements about how calls are spread.

use crate::config::Surroundings;
use crate::config::build::Built;
use crate::config::build::rank;
use crate::config::fault::Sink;
use crate::config::fault::code;
use crate::config::layers::Merged;
use crate::config::lift;
use crate::config::spec::checks;
use crate::config::value::Value;
use crate::kit::fields::Fields;

/// Runs the lints of `balance` and of zones.
pub(super) fn run(built: &Built, around: &Surroundings, sink: &mut Sink) {
    let own = lift::zone(&built.root, around);
    idle_bound(&built.fallback, sink);
    for upstream in &built.upstreams {
        let merged = &upstream.merged;
        idle_bound(merged, sink);
        zones(merged, own.is_some(), sink);
        if merged.word("protocol") == Some("tcp") {
            tunnel(merged, &upstream.name, sink);
        }
    }
}

fn idle_bound(merged: &Merged, sink: &mut Sink) {
    let Some(block) = merged.block("balance") else {
        return;
    };
    if block.word("hash").is_none()
        && let Some(at) = block.place("bound")
    {
        let message = "`bound` bounds nothing: nothing is hashed";
        let hint = "add `hash`, or remove it".to_owned();
        sink.add(code::IDLE_BALANCE, at, message, Some(hint));
    }
}

fn zones(merged: &Merged, own_is_known: bool, sink: &mut Sink) {
    let Some((Value::Block(block), _)) = merged.value("endpoints") else {
        return;
    };
    let Some(zones) = block.entry("zones") else {
        return;
    };
    let Value::Named(all) = &zones.value else {
        return;
    };
    for (name, at, _) in all {
        if let Err(fault) = (checks::NAME.test)(name) {
            let message = format!("`zones`: {}", fault.message);
            sink.add(code::TEXT, *at, message, fault.hint);
        }
    }
    if all.is_empty() {
        let message = "`zones` is empty: there is nowhere to go";
        sink.add(code::RANGE, zones.key_at, message, None);
    } else if !own_is_known {
        let message = "zones make no difference: nobody says which one is ours";
        let hint = "write `zone` at the top of the file, or set OUTRIDER_ZONE".to_owned();
        sink.add(code::IDLE_BALANCE, zones.key_at, message, Some(hint));
    }
}

fn tunnel(merged: &Merged, name: &str, sink: &mut Sink) {
    let Some(block) = merged.block("balance") else {
        return;
    };
    for key in ["by", "hash"] {
        let Some((_, origin)) = block.value(key) else {
            continue;
        };
        if origin.rank == rank::UPSTREAM
            && let Some(at) = origin.place
        {
            let message =
                format!("`{key}` chooses for calls, not for tunnels: `{name}` has `protocol: tcp`");
            let hint = "tunnels go to the least busy endpoint; remove it".to_owned();
            sink.add(code::TUNNEL, at, message, Some(hint));
        }
    }
}
