//! Which endpoint gets the next request: the cheaper of two drawn at random (P2C), by peak EWMA of latency times load.
//!
//! Two choices, because always taking the cheapest of all sends every worker to the same endpoint at once, and one
//! random choice ignores what is known. The cost is an estimate of the wait: latency for each request already there.
//!
//! | usable endpoints | choice |
//! |---|---|
//! | none | none |
//! | one | that one |
//! | two and more | two different ones at random, the cheaper of them; on a tie the first drawn |

/// Below this an estimate is taken as this. An idle endpoint's latency fades towards zero, and zero times any number in
/// flight would be free: one endpoint would take all the traffic until its next answer.
pub const LATENCY_FLOOR_S: f64 = 1e-6;

/// What one more request costs at an endpoint that is being tried for the first time: more than anywhere else.
const UNKNOWN_S: f64 = 1e6;

/// Latency times the number that would be under way.
///
/// An endpoint of which nothing is known (`latency_s` is exactly zero) is the cheapest for one request and the dearest
/// while that one is under way: it is tried at once, but nobody follows before it has answered.
#[must_use]
pub fn cost(latency_s: f64, inflight: u32) -> f64 {
    if latency_s == 0.0 {
        return UNKNOWN_S * f64::from(inflight);
    }
    latency_s.max(LATENCY_FLOOR_S) * (f64::from(inflight) + 1.0)
}

/// The choice among those of `0..len` that are `usable` (not ejected, not tried before by this request). Asks for the
/// cost of two at most, and allocates nothing. None if nothing is usable.
#[must_use]
pub fn pick_among(
    len: usize,
    usable: impl Fn(usize) -> bool,
    cost: impl Fn(usize) -> f64,
    draws: (u64, u64),
) -> Option<usize> {
    let count = (0..len).filter(|i| usable(*i)).count();
    let (first, second) = pair(count, draws)?;
    let nth = |n: usize| (0..len).filter(|i| usable(*i)).nth(n);
    let (a, b) = (nth(first)?, nth(second)?);
    if a == b || cost(a).total_cmp(&cost(b)).is_le() {
        Some(a)
    } else {
        Some(b)
    }
}

/// Two different places in `0..count`, each pair as likely as any other; the same place twice if there is only one.
#[must_use]
pub fn pair(count: usize, draws: (u64, u64)) -> Option<(usize, usize)> {
    match count {
        0 => None,
        1 => Some((0, 0)),
        _ => {
            let first = below(count, draws.0);
            let second = below(count - 1, draws.1);
            // Skipping over the first leaves the others equally likely.
            Some((first, second + usize::from(second >= first)))
        }
    }
}

// The high half of a product: no division, and as even as a 64-bit draw can be.
fn below(n: usize, draw: u64) -> usize {
    ((u128::from(draw) * n as u128) >> 64) as usize
}
