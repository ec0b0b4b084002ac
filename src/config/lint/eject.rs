//! `eject`: what takes out too much or nothing.

use super::super::fault::Sink;
use super::super::fault::code;
use super::super::layers::Merged;
use crate::kit::fields::Fields;

pub(super) fn run(merged: &Merged, sink: &mut Sink) {
    let Some(block) = merged.block("eject") else {
        return;
    };
    let share = block.share("max_share").unwrap_or_default();
    if let (Some(at), true) = (block.place("max_share"), share >= 1.0) {
        let message = "all endpoints but the last may be out at once, and that one then takes all the traffic";
        sink.add(
            code::EMPTY_POOL,
            at,
            message,
            Some("50% keeps half of them".to_owned()),
        );
    }
    if let (Some(at), true) = (block.place("max_share"), share <= 0.0) {
        sink.add(
            code::IDLE_EJECT,
            at,
            "`max_share: 0%` ejects nothing",
            Some("`eject: off` says so".to_owned()),
        );
    }
    if block.count("consecutive").is_none()
        && block.share("failures").is_none()
        && block.word("slow").is_none()
        && let Some(at) = block
            .place("failures")
            .or_else(|| block.place("consecutive"))
    {
        let message = "nothing ejects: `failures`, `consecutive` and `slow` are all off";
        sink.add(
            code::IDLE_EJECT,
            at,
            message,
            Some("`eject: off` says so".to_owned()),
        );
    }
}
