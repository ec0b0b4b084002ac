//! Lints of `fault`.

use std::time::Duration;

use super::super::build::BuiltUpstream;
use super::super::fault::Sink;
use super::super::fault::code;
use super::super::layers::Merged;
use crate::clock;
use crate::kit::fields::Fields;
use crate::kit::units;
use crate::policy::fault::config::Settings;

/// A fault that lasts longer is forgotten before it ends.
const FAR: Duration = Duration::from_secs(30 * 86_400);

/// What one block says that it cannot do, or should not. `total` is the whole call's timeout.
pub(super) fn block(merged: &Merged, total: Duration, sink: &mut Sink) {
    let Some(block) = merged.block("fault") else {
        return;
    };
    let settings = Settings::lift(block);
    if let (Some(at), true) = (
        block.place("reset").or_else(|| block.place("abort")),
        settings.abort.is_some() && settings.reset,
    ) {
        let message =
            "a call that is answered cannot be reset too: `abort` and `reset` are both set";
        sink.add(code::CONFLICT, at, message, None);
    }
    if let (Some(at), false) = (block.origin.place, settings.does_something()) {
        let message = "this fault does nothing: it has no delay, abort, reset or bandwidth";
        let hint = "`fault: off` says so".to_owned();
        sink.add(code::IDLE_FAULT, at, message, Some(hint));
    }
    if let (Some(at), Some(delay)) = (block.place("delay"), settings.delay)
        && delay >= total
    {
        let message = format!(
            "the delay of {} uses up the timeout, {}: calls that it meets are never made",
            units::format_duration(delay),
            units::format_duration(total)
        );
        let hint = "`abort: 504` says so; a shorter delay tests more".to_owned();
        sink.add(code::IDLE_FAULT, at, message, Some(hint));
    }
    let left = settings.until.checked_sub(clock::unix());
    let judged = match left.filter(|left| !left.is_zero()) {
        None => Some((
            "this fault is over: nothing is injected any more",
            "remove it",
        )),
        Some(left) if left > FAR => Some((
            "this fault ends more than 30 days from now, when nobody will remember it",
            "choose a near end; it can be written anew",
        )),
        Some(_) => None,
    };
    if let (Some(at), Some((message, hint))) = (block.place("until"), judged) {
        sink.add(code::FAULT_END, at, message, Some(hint.to_owned()));
    }
}

/// A fault that meets all there is.
pub(super) fn reach(upstream: &BuiltUpstream, sink: &mut Sink) {
    let Some(block) = upstream.merged.block("fault") else {
        return;
    };
    let settings = Settings::lift(block);
    if settings.share < 1.0 || !upstream.routes.is_empty() || !settings.does_something() {
        return;
    }
    if let Some(at) = block.place("share").or(block.origin.place) {
        let message = format!("this fault meets every call to `{}`", upstream.name);
        let hint = "a small `share`, or a block on one of its `routes`, shows as much".to_owned();
        sink.add(code::WIDE_FAULT, at, message, Some(hint));
    }
}
