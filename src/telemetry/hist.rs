//! A duration histogram without a lock: one padded shard a worker, added up when scraped.
//!
//! The crate's own histogram is a mutex around a vector; two workers that record through it wait for each other.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use prometheus_client::encoding::EncodeMetric;
use prometheus_client::encoding::MetricEncoder;
use prometheus_client::encoding::NoLabelSet;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::TypedMetric;

use super::cells::this_worker;
use super::registry::Metric;

/// Upper bounds in nanoseconds, inclusive, as `le` is. The low end is fine because a sidecar's neighbours answer in
/// fractions of a millisecond; the top is twice the default `timeout`, so that a breach shows as a bucket of its own.
const BOUNDS_NS: [u64; 16] = [
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

const BUCKETS: usize = BOUNDS_NS.len() + 1;

#[derive(Default)]
#[repr(align(128))]
struct Shard {
    counts: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
}

/// A histogram of durations, in seconds on the wire.
#[derive(Clone)]
pub struct Hist(Arc<[Shard]>);

impl Hist {
    /// Record one duration in the shard of `worker`.
    pub fn record(&self, worker: usize, elapsed: Duration) {
        let index = if worker < self.0.len() {
            worker
        } else {
            worker % self.0.len()
        };
        let shard = &self.0[index];
        let ns = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_NS.partition_point(|bound| *bound < ns);
        shard.counts[bucket].fetch_add(1, Relaxed);
        shard.sum_ns.fetch_add(ns, Relaxed);
    }

    /// Record one duration in the shard of this thread's worker.
    pub fn record_here(&self, elapsed: Duration) {
        self.record(this_worker(), elapsed);
    }

    /// How many durations were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts().iter().sum()
    }

    /// The sum of all durations in seconds.
    #[must_use]
    pub fn sum_seconds(&self) -> f64 {
        let ns: u64 = self
            .0
            .iter()
            .fold(0, |sum, shard| sum.wrapping_add(shard.sum_ns.load(Relaxed)));
        Duration::from_nanos(ns).as_secs_f64()
    }

    fn counts(&self) -> [u64; BUCKETS] {
        let mut counts = [0; BUCKETS];
        for shard in &*self.0 {
            for (total, count) in counts.iter_mut().zip(&shard.counts) {
                *total += count.load(Relaxed);
            }
        }
        counts
    }
}

impl fmt::Debug for Hist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hist")
            .field("count", &self.count())
            .field("sum", &self.sum_seconds())
            .finish()
    }
}

impl TypedMetric for Hist {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Hist {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        // The count is the sum of the buckets as read, so the two agree even while workers go on recording.
        let counts = self.counts();
        let mut buckets = [(f64::INFINITY, 0); BUCKETS];
        for (slot, (index, count)) in buckets.iter_mut().zip(counts.iter().enumerate()) {
            let bound = BOUNDS_NS
                .get(index)
                .map_or(f64::INFINITY, |ns| Duration::from_nanos(*ns).as_secs_f64());
            *slot = (bound, *count);
        }
        encoder.encode_histogram::<NoLabelSet>(
            self.sum_seconds(),
            counts.iter().sum(),
            &buckets,
            None,
        )
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }

    /// A route that saw no request would otherwise print nineteen lines of zeros.
    fn is_empty(&self) -> bool {
        self.count() == 0
    }
}

impl Metric for Hist {
    fn make(shards: usize) -> Self {
        Self((0..shards.max(1)).map(|_| Shard::default()).collect())
    }
}
