//! Judgements of `bulkhead`.

use super::super::fault::Sink;
use super::super::fault::code;
use super::super::layers::Merged;
use super::super::layers::Origin;
use crate::kit::units;
use crate::policy::bulkhead::config::Settings;
use crate::policy::deadline::config as deadline;

pub(super) fn run(
    block: &Merged,
    deadline: &deadline::Settings,
    by: Option<&Origin>,
    sink: &mut Sink,
) {
    let settings = Settings::lift(block);
    if let Some(at) = block.place_over("wait", by)
        && settings.wait > deadline.total
        && settings.queue > 0
    {
        let (wait, total) = (
            units::format_duration(settings.wait),
            units::format_duration(deadline.total),
        );
        let message = format!("wait {wait} is longer than the whole call, {total}");
        let note = "the total ends it first".to_owned();
        sink.add(code::IDLE_TIMEOUT, at, message, Some(note));
    }
    let (Some(bounds), Some(adaptive)) = (settings.adaptive, block.inside("adaptive")) else {
        return;
    };
    if let Some(at) = adaptive.place("min").or_else(|| adaptive.place("max"))
        && bounds.min > bounds.max
    {
        let message = format!(
            "adaptive min {} is above its max {}",
            bounds.min, bounds.max
        );
        sink.add(code::CONFLICT, at, message, None);
    }
    if let Some(at) = block.place_over("max", Some(&adaptive.origin)) {
        let message = "`max` and `adaptive` are two ways to set one limit";
        let hint = "bound it with `adaptive: { max: ... }`, or remove one of the two".to_owned();
        sink.add(code::CONFLICT, at, message, Some(hint));
    }
}
