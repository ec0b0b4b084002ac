//! The script of faults: which endpoint misbehaves how, and when. Pure: time comes in as the elapsed part of the play.

use std::time::Duration;

/// How many endpoints the demo's service has.
pub const ENDPOINTS: usize = 3;

/// How long a slow endpoint takes to answer: far beyond the policy's time for one try, and still inside what the
/// application itself waits, so that without outrider it is an answer, only a late one.
pub const SLOW: Duration = Duration::from_secs(1);

/// What one endpoint does with a request that arrives now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// 200 after a few milliseconds.
    Answer,
    /// 503 at once.
    Fail,
    /// 200 after [`SLOW`].
    Slow,
    /// The request is read, then the connection is reset (SO_LINGER 0, so the peer sees RST).
    Reset,
    /// Every connection is reset at the door; a request on an older connection is reset as well.
    Down,
}

impl Behaviour {
    /// Whether a caller that asks once, and waits, gets a success.
    #[must_use]
    pub fn answers_at_all(self) -> bool {
        matches!(self, Behaviour::Answer | Behaviour::Slow)
    }
}

/// One act of the play.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phase {
    /// Short title, shown in the table.
    pub name: &'static str,
    /// Percent of the whole duration.
    share: u32,
    /// What each endpoint does, by its number.
    pub endpoints: [Behaviour; ENDPOINTS],
}

/// The play, stretched over a duration.
#[derive(Clone, Debug)]
pub struct Script {
    total: Duration,
    phases: Vec<Phase>,
}

impl Script {
    /// Healthy, one failing, one slow, one resetting, all down, recovery. `seed` decides which endpoint plays which part.
    #[must_use]
    pub fn new(total: Duration, seed: u64) -> Script {
        use Behaviour::{Answer, Down, Fail, Reset, Slow};
        let cast = cast(seed);
        let one = |part: usize, behaviour: Behaviour| {
            let mut all = [Answer; ENDPOINTS];
            all[cast[part]] = behaviour;
            all
        };
        let phase = |name, share, endpoints| Phase {
            name,
            share,
            endpoints,
        };
        Script {
            total,
            phases: vec![
                phase("healthy", 12, [Answer; ENDPOINTS]),
                phase("one failing", 16, one(0, Fail)),
                phase("one slow", 16, one(1, Slow)),
                phase("one resetting", 16, one(2, Reset)),
                phase("all down", 16, [Down; ENDPOINTS]),
                phase("recovery", 24, [Answer; ENDPOINTS]),
            ],
        }
    }

    /// How long the play takes.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.total
    }

    /// The phases with the times they begin and end, in order.
    pub fn phases(&self) -> impl Iterator<Item = (Duration, Duration, &Phase)> {
        let mut percent = 0;
        self.phases.iter().map(move |phase| {
            let begin = self.at(percent);
            percent += phase.share;
            (begin, self.at(percent), phase)
        })
    }

    /// The phase that `elapsed` falls in; the last one after the end, so that stragglers meet a healthy service.
    #[must_use]
    pub fn phase_at(&self, elapsed: Duration) -> &Phase {
        self.phases()
            .find(|(_, end, _)| elapsed < *end)
            .map_or(&self.phases[self.phases.len() - 1], |(_, _, phase)| phase)
    }

    /// What `endpoint` does at `elapsed`.
    #[must_use]
    pub fn behaviour(&self, endpoint: usize, elapsed: Duration) -> Behaviour {
        self.phase_at(elapsed).endpoints[endpoint % ENDPOINTS]
    }

    /// When no endpoint can answer: from, to. `to` is the moment of recovery.
    #[must_use]
    pub fn outage(&self) -> (Duration, Duration) {
        self.phases()
            .find(|(_, _, phase)| phase.endpoints.iter().all(|b| *b == Behaviour::Down))
            .map_or((self.total, self.total), |(begin, end, _)| (begin, end))
    }

    /// The success share of a caller that goes round the endpoints in turn and asks once: what the faults alone give.
    #[must_use]
    pub fn expected_straight(&self) -> f64 {
        self.phases
            .iter()
            .map(|phase| {
                let up = phase
                    .endpoints
                    .iter()
                    .filter(|b| b.answers_at_all())
                    .count();
                f64::from(phase.share) / 100.0 * up as f64 / ENDPOINTS as f64
            })
            .sum()
    }

    fn at(&self, percent: u32) -> Duration {
        self.total * percent / 100
    }
}

/// A shuffle of the endpoint numbers.
fn cast(seed: u64) -> [usize; ENDPOINTS] {
    let mut cast = [0, 1, 2];
    for (turn, place) in (1..ENDPOINTS).rev().enumerate() {
        let draw = scramble(seed, turn as u64) % (place as u64 + 1);
        cast.swap(place, draw as usize);
    }
    cast
}

/// The `n`-th draw of a seed (SplitMix64), so that one seed always plays the same demo.
#[must_use]
pub fn scramble(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
