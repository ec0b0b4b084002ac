//! Which endpoint gets the next try. Pure: the state of the endpoints and the draws are arguments.
//!
//! First, who may be picked ([`among`]); the first row that leaves anybody holds:
//!
//! | serving endpoints | own zone | may be picked |
//! |---|---|---|
//! | none, or less than the panic threshold | whatever it is | all, also those known not to serve: the untried, else any |
//! | enough | no endpoint is in it, or none is elsewhere | the serving untried |
//! | enough | holds enough capacity for this draw ([`side`]) | its serving untried |
//! | enough | does not | the serving untried elsewhere |
//! | enough | that side has no untried left | the serving untried on the other side |
//! | enough, all tried | whatever it is | any serving: a second try at one that serves beats a first at one known to fail |
//!
//! Then which of them:
//!
//! | way | choice |
//! |---|---|
//! | [`two`], equal weights | two different ones at random, the cheaper of them; on a tie the first drawn |
//! | [`two`], other weights | two at random, each with the chance of its share, the cheaper of them; on a tie the first drawn |
//! | [`turn`] | the one with the most credit, which then pays for its turn (smooth weighted round robin, as in nginx) |
//! | [`bounded`] | the first in the order of the ring that has not reached its bound |
//!
//! Two choices, because always taking the cheapest of all sends every worker to the same endpoint at once, and one
//! random choice ignores what is known. The cost is an estimate of the wait: latency for each request already there.

use std::time::Duration;

/// Below this an estimate is taken as this. An idle endpoint's latency fades towards zero, and zero times any number in
/// flight would be free: one endpoint would take all the traffic until its next answer.
pub const LATENCY_FLOOR_S: f64 = 1e-6;

/// What one more request costs at an endpoint that is being tried for the first time: more than anywhere else.
const UNKNOWN_S: f64 = 1e6;

/// How much more than its plain share of the traffic a zone is trusted to carry: it keeps all of it while 72 % of its
/// weight serves. The over-provisioning factor of Envoy, with the same value.
pub const OVERPROVISION: f64 = 1.4;

/// The share of its weight with which an endpoint begins under slow start, as in Envoy: enough to learn its latency.
pub const RAMP_FLOOR: f64 = 0.1;

/// One endpoint, as much of it as a choice needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seat {
    /// It neither rests nor is it known to be ill.
    pub serves: bool,
    /// This call has tried it.
    pub tried: bool,
    /// It is in our own zone; `false` everywhere where no zone is preferred.
    pub near: bool,
    /// Its part of the traffic beside that of the others, at least 1.
    pub weight: u32,
    /// How much of the weight counts yet, [`RAMP_FLOOR`] to 1. See [`ramp`].
    pub ramp: f64,
    /// Requests being handled there by all workers.
    pub in_flight: u32,
}

impl Seat {
    /// The weight that counts now. Above zero.
    #[must_use]
    pub fn share(&self) -> f64 {
        f64::from(self.weight.max(1)) * self.ramp.clamp(RAMP_FLOOR, 1.0)
    }

    /// Requests in flight for each unit of weight.
    #[must_use]
    pub fn load(&self) -> f64 {
        f64::from(self.in_flight) / self.share()
    }
}

/// Who may be picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Among {
    /// Only those that serve. `false` is panic.
    pub serving: bool,
    /// Only those that this call has not tried.
    pub untried: bool,
    /// Only those in our own zone (`true`) or only those outside of it (`false`).
    pub near: Option<bool>,
}

impl Among {
    /// Whether this one may be picked.
    #[must_use]
    pub fn has(&self, seat: &Seat) -> bool {
        (seat.serves || !self.serving)
            && !(seat.tried && self.untried)
            && self.near.is_none_or(|near| near == seat.near)
    }

    /// So few serve that those known not to are asked too.
    #[must_use]
    pub fn panics(&self) -> bool {
        !self.serving
    }
}

/// Who may be picked, by the table on top. `panic` is the share of the endpoints that has to serve; `None`: one is enough.
/// `draw` decides which zone a call goes to while the own one cannot carry all.
#[must_use]
pub fn among(seats: &[Seat], panic: Option<f64>, draw: u64) -> Among {
    let serving = seats.iter().filter(|seat| seat.serves).count();
    let least = panic.unwrap_or(0.0) * seats.len() as f64;
    let calm = serving > 0 && serving as f64 >= least;
    let near = if calm { side(seats, draw) } else { None };
    let who = |untried, near| Among {
        serving: calm,
        untried,
        near,
    };
    [who(true, near), who(true, None), who(false, near)]
        .into_iter()
        .find(|among| seats.iter().any(|seat| among.has(seat)))
        .unwrap_or(who(false, None))
}

/// Whether a call stays in its own zone; `None` if zones make no difference.
///
/// It does while the serving part of the zone's weight, times [`OVERPROVISION`], is all of it. Below that only the part
/// that is left stays; the rest is spread over all the others, so that what is left is not overrun.
#[must_use]
pub fn side(seats: &[Seat], draw: u64) -> Option<bool> {
    let sum = |which: &dyn Fn(&Seat) -> bool| -> f64 {
        let chosen = seats.iter().filter(|seat| which(seat));
        chosen.map(|seat| f64::from(seat.weight.max(1))).sum()
    };
    let own = sum(&|seat| seat.near);
    if own == 0.0 || sum(&|seat| !seat.near && seat.serves) == 0.0 {
        return None;
    }
    let carries = OVERPROVISION * sum(&|seat| seat.near && seat.serves) / own;
    Some(unit(draw) < carries)
}

/// How much of an endpoint's weight counts that has served for `served`, when it takes `over` to get all of it: a straight
/// line from [`RAMP_FLOOR`] to 1. `None` has always been there.
#[must_use]
pub fn ramp(served: Option<Duration>, over: Duration) -> f64 {
    match served {
        Some(served) if served < over => {
            let part = served.as_secs_f64() / over.as_secs_f64();
            RAMP_FLOOR + (1.0 - RAMP_FLOOR) * part
        }
        _ => 1.0,
    }
}

/// Latency times the load that would be there: requests in flight (for each unit of weight) and this one.
///
/// An endpoint of which nothing is known (`latency_s` is exactly zero) is the cheapest for one request and the dearest
/// while that one is under way: it is tried at once, but nobody follows before it has answered.
#[must_use]
pub fn cost(latency_s: f64, load: f64) -> f64 {
    if latency_s == 0.0 {
        return UNKNOWN_S * load;
    }
    latency_s.max(LATENCY_FLOOR_S) * (load + 1.0)
}

/// The cheaper of two of `among`. Asks for the cost of two at most, and allocates nothing. None if nobody may be picked.
#[must_use]
pub fn two(
    seats: &[Seat],
    among: Among,
    cost: impl Fn(usize) -> f64,
    draws: (u64, u64),
) -> Option<usize> {
    let mut shares = seats.iter().filter(|seat| among.has(seat)).map(Seat::share);
    let first = shares.next()?;
    let (mut total, mut is_even) = (first, true);
    for share in shares {
        total += share;
        is_even &= share.total_cmp(&first).is_eq();
    }
    if is_even {
        let usable = |place: usize| among.has(&seats[place]);
        return pick_among(seats.len(), usable, cost, draws);
    }
    // With replacement: two different ones of two would be both of them each time, and their weights would not matter.
    let a = weighted(seats, among, unit(draws.0) * total)?;
    let b = weighted(seats, among, unit(draws.1) * total)?;
    Some(cheaper(a, b, cost))
}

/// The one of `among` in whose stretch `at` lies, when their shares are laid end to end.
fn weighted(seats: &[Seat], among: Among, mut at: f64) -> Option<usize> {
    let mut last = None;
    for (place, seat) in seats.iter().enumerate() {
        if among.has(seat) {
            last = Some(place);
            at -= seat.share();
            if at < 0.0 {
                break;
            }
        }
    }
    last
}

/// The next one of `among` in turn. Each gains credit by its share, and who has the most pays what all have gained: over
/// any time each gets its share to within one turn, and a heavy one is not taken several times in a row where another is
/// due. `credit` is the caller's, one for each seat.
#[must_use]
pub fn turn(seats: &[Seat], among: Among, credit: &mut [f64]) -> Option<usize> {
    let mut total = 0.0;
    let mut best: Option<usize> = None;
    for (place, seat) in seats.iter().enumerate() {
        if !among.has(seat) {
            continue;
        }
        total += seat.share();
        credit[place] += seat.share();
        if best.is_none_or(|best| credit[best] < credit[place]) {
            best = Some(place);
        }
    }
    credit[best?] -= total;
    best
}

/// What [`bounded`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which one.
    pub place: usize,
    /// The first in order was at its bound.
    pub passed_on: bool,
}

/// The first of `among` in the `order` of the ring whose load stays within its bound: `bound` (1.25 is 125 %) times its
/// share of everything that is in flight at them, this call included, rounded up.
///
/// Consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam, 2018). The bounds add up to more than is in
/// flight, so there always is one. `None` for `bound` takes the first.
#[must_use]
pub fn bounded(
    seats: &[Seat],
    among: Among,
    bound: Option<f64>,
    order: impl Iterator<Item = usize>,
) -> Option<Found> {
    let (mut in_flight, mut total) = (0.0, 0.0);
    for seat in seats.iter().filter(|seat| among.has(seat)) {
        in_flight += f64::from(seat.in_flight);
        total += seat.share();
    }
    let has_room = |seat: &Seat| {
        bound.is_none_or(|bound| {
            let most = (bound * (in_flight + 1.0) * seat.share() / total).ceil();
            f64::from(seat.in_flight) + 1.0 <= most
        })
    };
    let mut first = None;
    for place in order.filter(|place| seats.get(*place).is_some_and(|seat| among.has(seat))) {
        let home = *first.get_or_insert(place);
        if has_room(&seats[place]) {
            return Some(Found {
                place,
                passed_on: place != home,
            });
        }
    }
    first.map(|place| Found {
        place,
        passed_on: false,
    })
}

/// 64 bits made of a key, the same each time: what decides for a key where a draw decides for a call without one.
/// FNV-1a, and the last step of SplitMix64 to spread what it leaves in the low bits over the high ones.
#[must_use]
pub fn scatter(key: &[u8]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let mut z = key.iter().fold(0xcbf2_9ce4_8422_2325, fold);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The choice among those of `0..len` that are `usable`, as [`two`] with equal weights.
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
    Some(cheaper(nth(first)?, nth(second)?, cost))
}

fn cheaper(a: usize, b: usize, cost: impl Fn(usize) -> f64) -> usize {
    if a == b || cost(a).total_cmp(&cost(b)).is_le() {
        a
    } else {
        b
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

/// A draw in `[0, 1)`.
fn unit(draw: u64) -> f64 {
    (draw >> 11) as f64 / (1u64 << 53) as f64
}
