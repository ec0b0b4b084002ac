//! Lints of `hedge` and `idempotency`.

use super::super::build::BuiltRoute;
use super::super::build::BuiltUpstream;
use super::super::build::rank;
use super::super::fault::Place;
use super::super::fault::Sink;
use super::super::fault::code;
use super::super::layers::Merged;
use super::super::layers::Origin;
use super::super::value::Value;
use super::first_place;
use crate::http::MethodClass;
use crate::kit::fields::Fields;
use crate::kit::units;
use crate::policy::deadline::config as deadline;
use crate::policy::hedge::config as hedge;

/// Whether calls that may not be repeated by their method carry a key by which the upstream knows them again.
pub(super) fn has_key(merged: &Merged) -> bool {
    merged
        .block("idempotency")
        .is_some_and(|block| block.word("mode") == Some("enforce"))
}

/// `after` against the timeout, and the budget.
pub(super) fn delays(
    block: &Merged,
    deadline: &deadline::Settings,
    by: Option<&Origin>,
    sink: &mut Sink,
) {
    let settings = hedge::Settings::lift(block);
    large_budget(block, settings.budget.share, "copies", sink);
    let hedge::After::Fixed(after) = settings.after else {
        return;
    };
    if let Some(at) = block.place_over("after", by)
        && after >= deadline.total
    {
        let message = format!(
            "no copy is ever sent: the call ends at {}, before it has been given {}",
            units::format_duration(deadline.total),
            units::format_duration(after)
        );
        let hint = "use less than the timeout, or `p95`".to_owned();
        sink.add(code::IDLE_HEDGE, at, message, Some(hint));
    }
}

/// A budget that does not bound a storm, of `what`: retries or copies.
pub(super) fn large_budget(block: &Merged, share: f64, what: &str, sink: &mut Sink) {
    let Some(at) = block
        .inside("budget")
        .and_then(|budget| budget.place("share"))
        .filter(|_| share > 0.5)
    else {
        return;
    };
    let share = units::format_share(share);
    let (message, hint) = if what == "retries" {
        (
            format!(
                "a retry budget of {share} lets retries add {share} to the load of an upstream that is failing"
            ),
            "20% is enough for failures that come and go",
        )
    } else {
        (
            format!(
                "a hedge budget of {share} lets copies add {share} to the load of an upstream that is slow"
            ),
            "5% is what a percentile of 95 asks for",
        )
    };
    sink.add(code::LARGE_BUDGET, at, message, Some(hint.to_owned()));
}

/// A copy goes to another endpoint, so there must be one.
pub(super) fn endpoints(upstream: &BuiltUpstream, sink: &mut Sink) {
    let what = match upstream.merged.value("endpoints") {
        Some((Value::List(items), _)) if items.len() == 1 => {
            format!("`{}` has one endpoint", upstream.name)
        }
        _ if upstream.merged.word("endpoints") == Some("original") => {
            "`endpoints: original` is one endpoint, the one that the application dialled".to_owned()
        }
        _ => return,
    };
    let routes = upstream.routes.iter().map(|route| &route.merged);
    let places = routes
        .filter_map(|merged| written(merged, &[rank::ROUTE]))
        .chain(written(&upstream.merged, &[rank::PROFILE, rank::UPSTREAM]));
    for at in places {
        let message = format!("{what}, and a copy only ever goes to another");
        let hint = Some("`hedge: off` says so".to_owned());
        sink.add(code::IDLE_HEDGE, at, message, hint);
    }
}

/// A route of its own with a hedge of its own, for calls that are never sent twice.
pub(super) fn methods(route: &BuiltRoute, sink: &mut Sink) {
    let Some(at) = written(&route.merged, &[rank::ROUTE]) else {
        return;
    };
    let method = route.name.split_once(' ').map(|(method, _)| method);
    let Some(method) = method.and_then(|name| name.parse().ok()) else {
        return;
    };
    let (why, hint) = match MethodClass::of(&method) {
        MethodClass::Safe => return,
        MethodClass::Unsafe if has_key(&route.merged) => return,
        MethodClass::Unsafe => (
            "both copies might be carried out",
            "declare `idempotency: {}` if the upstream honours a key",
        ),
        MethodClass::Idempotent => (
            "a copy that was cut might still arrive, after whatever follows",
            "`hedge: off` says so",
        ),
    };
    let message = format!("{method} is never sent twice at once: {why}");
    sink.add(code::UNSAFE_HEDGE, at, message, Some(hint.to_owned()));
}

/// Where a layer of these ranks wrote the `hedge` block, if it is on.
fn written(merged: &Merged, ranks: &[usize]) -> Option<Place> {
    let block = merged.block("hedge")?;
    ranks.iter().find_map(|rank| first_place(block, *rank))
}
