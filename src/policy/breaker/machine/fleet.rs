//! What pods may tell one another about a circuit, and what one makes of it.
//!
//! | others that are not closed | this circuit | advice |
//! |---|---|---|
//! | fewer than a quorum | any | none |
//! | a quorum | Closed, HalfOpen | suspicious: it is judged by fewer calls, its own as ever |
//! | a quorum | Open, and its turn to probe | suspicious |
//! | a quorum | Open, and the turn of others | suspicious, and others probe |
//!
//! A quorum is a quarter of the other pods, and never fewer than two of them: a pod that is broken itself is one pod, however
//! much it complains, and moves nobody. Advice opens nothing either: a circuit whose own calls go well stays closed whatever
//! the whole fleet says.
//!
//! Whose turn it is to probe follows from the pods that are not closed and from the time, by rendezvous: all who see the same
//! pods draw the same [`PROBERS`], and each [`TURN`] others, so that pods without calls to probe with hold nobody up.

use std::time::Duration;

use super::SUSPECT_CALLS;
use super::State;

/// Fewer other pods than this are never a quorum.
pub const QUORUM_LEAST: usize = 2;

/// Pods that probe at a time, of all whose circuit is open. Two, so that one which is broken itself does not speak alone.
pub const PROBERS: usize = 2;

/// How long the same pods have their turn.
pub const TURN: Duration = Duration::from_secs(5);

/// What the fleet says of a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Advice {
    /// A quorum of other pods is not closed.
    pub suspicious: bool,
    /// It is the turn of others to probe.
    pub probes_elsewhere: bool,
}

/// One circuit as one pod sees it.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// This pod.
    pub me: u64,
    /// The circuit, named the same by all pods.
    pub circuit: u64,
    /// Where it stands here.
    pub state: State,
    /// Pods that have been heard of lately, this one included.
    pub pods: usize,
    /// Other pods that say it is not closed.
    pub troubled: &'a [u64],
    /// Time since a beginning that all pods share.
    pub time: Duration,
}

/// How many of so many pods, one of them asking, are enough to be believed.
#[must_use]
pub fn quorum(pods: usize) -> usize {
    pods.saturating_sub(1).div_ceil(4).max(QUORUM_LEAST)
}

/// The calls that a suspicious circuit is judged by.
#[must_use]
pub fn suspect_calls(min_calls: u32) -> u32 {
    min_calls.div_ceil(4).max(SUSPECT_CALLS).min(min_calls)
}

/// What a pod makes of what the others say.
#[must_use]
pub fn advice(view: &View<'_>) -> Advice {
    let mut troubled: Vec<u64> = view.troubled.to_vec();
    troubled.retain(|pod| *pod != view.me);
    troubled.sort_unstable();
    // Whoever says it twice is still one.
    troubled.dedup();
    if troubled.len() < quorum(view.pods) {
        return Advice::default();
    }
    let turn = view.time.as_secs() / TURN.as_secs();
    let weight = |pod: u64| (mixed(pod ^ mixed(view.circuit ^ mixed(turn))), pod);
    let mine = weight(view.me);
    let before = troubled.iter().filter(|pod| weight(**pod) < mine).count();
    Advice {
        suspicious: true,
        probes_elsewhere: view.state == State::Open && before >= PROBERS,
    }
}

// The finaliser of SplitMix64: every bit of the number moves every bit of the result.
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
