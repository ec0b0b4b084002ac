//! The audit log: who changed what, and what outrider decided by itself, in a chain that shows when it was tampered with.
//!
//! Whoever has something to tell calls [`record`]; without `audit` in the policy that costs one load and nothing is kept.
//! What can come in floods goes through [`often`], what happens at every call through a handle of [`counted`]. A thread
//! writes ([`docs/audit.md`](../../docs/audit.md) has the format); `outrider audit verify` reads.

mod chain;
mod config;
mod counted;
mod event;
mod key;
mod log;
mod metrics;
mod often;
mod trail;
pub mod verify;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

pub use chain::from_hex;
pub use chain::hex;
pub use config::Settings;
pub use counted::Counted;
pub use event::Event;
pub use key::KeyError;
pub use key::PublicKey;
pub use log::OpenError;
pub use metrics::Metrics;

use trail::Trail;

// One process, one log: rooms deep in the stack tell of what they did without being handed anything.
static TRAIL: ArcSwapOption<Trail> = ArcSwapOption::const_empty();
static TURN: Mutex<()> = Mutex::new(());

/// Whether anybody keeps what is told. Ask before making an event costs something.
#[must_use]
pub fn is_on() -> bool {
    TRAIL.load().is_some()
}

/// Tells of an event. Never waits.
pub fn record(event: Event) {
    if let Some(trail) = &*TRAIL.load() {
        trail.record(event);
    }
}

/// Tells of an event that may come in floods, such as a denial: the first of its kind (word, who and fields) in an interval
/// is a record at once, the others are a record with their count at its end. More than 256 kinds in an interval are a
/// count. Leave out of it what is never the same twice, such as ports and request IDs.
pub fn often(event: Event) {
    if let Some(trail) = &*TRAIL.load() {
        trail.often(event);
    }
}

/// A handle for what happens at every call, to be made when a policy is loaded.
#[must_use]
pub fn counted(event: Event) -> Counted {
    Counted::new(event)
}

/// Keeps a log from here on as `settings` say; `None` stops it. The same settings as before change nothing.
///
/// # Errors
/// If the new one cannot be opened; then what was before goes on.
pub fn configure(settings: Option<&Settings>, metrics: &Metrics) -> Result<(), OpenError> {
    let _turn = TURN.lock();
    let before = TRAIL.load_full();
    if before.as_ref().map(|trail| trail.settings()) == settings {
        return Ok(());
    }
    // The same file cannot be written by two: the old one lets go of it first, and is taken up again if the new one fails.
    let is_same = |settings: &Settings| {
        before
            .as_ref()
            .is_some_and(|before| before.settings().file == settings.file)
    };
    let start = |settings: &Settings| Trail::start(settings.clone(), metrics.clone()).map(Arc::new);
    match settings {
        Some(settings) if is_same(settings) => {
            if let Some(before) = &before {
                before.stop("reconfigured");
            }
            let started = match start(settings) {
                Ok(started) => started,
                Err(error) => {
                    // It was writing a moment ago; if it cannot now, that is said, and nothing more can be done.
                    let again = before.as_ref().map(|before| start(before.settings()));
                    let again = again.transpose().unwrap_or_else(|error| {
                        tracing::error!(%error, "there is no audit log any more");
                        None
                    });
                    TRAIL.store(again);
                    return Err(error);
                }
            };
            TRAIL.store(Some(started));
        }
        Some(settings) => {
            let started = start(settings)?;
            if let Some(before) = TRAIL.swap(Some(started)) {
                before.stop("reconfigured");
            }
        }
        None => {
            if let Some(before) = TRAIL.swap(None) {
                before.stop("switched off");
            }
        }
    }
    Ok(())
}

/// The end of the process: writes what there is.
pub fn stop() {
    let _turn = TURN.lock();
    if let Some(trail) = TRAIL.swap(None) {
        trail.stop("the process stops");
    }
}
