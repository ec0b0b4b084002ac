//! Who asks for what: a few things often, most of them rarely, and a tenth never again.

/// Things that are asked for more than once.
pub const KEYS: usize = 200_000;
/// One of so many requests is for something that nobody asks for again.
const SCAN: u64 = 10;
/// The middle size of a body, and how far sizes spread around it.
const MEDIAN: f64 = 4096.0;
const SPREAD: f64 = 1.2;
/// The largest: what is kept of outrider's own accord.
const LARGEST: f64 = 1048576.0;

/// One request.
#[derive(Clone, Copy)]
pub struct Ask {
    pub key: u64,
    /// Bytes of the answer's body; the same for each request of a key.
    pub size: usize,
}

/// See the module.
pub struct Traffic {
    /// The share of requests up to each rank.
    shares: Vec<f64>,
    dice: Dice,
    scanned: u64,
}

impl Traffic {
    pub fn new(exponent: f64, seed: u64) -> Self {
        let mut shares = Vec::with_capacity(KEYS);
        let mut sum = 0.0;
        for rank in 1..=KEYS {
            sum += (rank as f64).powf(-exponent);
            shares.push(sum);
        }
        shares.iter_mut().for_each(|share| *share /= sum);
        Self {
            shares,
            dice: Dice(seed),
            scanned: 0,
        }
    }

    pub fn next(&mut self) -> Ask {
        let key = if self.dice.next() % SCAN == 0 {
            self.scanned += 1;
            KEYS as u64 + self.scanned
        } else {
            let at = self.dice.share();
            self.shares.partition_point(|share| *share < at) as u64
        };
        Ask {
            key,
            size: size(key),
        }
    }

    pub fn mean_size(&self) -> usize {
        (0..KEYS as u64).map(size).sum::<usize>() / KEYS
    }
}

/// Log-normal, by the key alone: what is asked for often is no smaller than the rest.
pub fn size(key: u64) -> usize {
    let mut dice = Dice(key.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    // Box and Muller.
    let (one, other) = (dice.share().max(1e-12), dice.share());
    let normal = (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * other).cos();
    (MEDIAN * (SPREAD * normal).exp()).clamp(16.0, LARGEST - 1.0) as usize
}

/// SplitMix64: the same draws on every machine.
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}
