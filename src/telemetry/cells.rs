//! Counters and levels that workers bump without touching each other's cache lines.
//!
//! A plain atomic shared by two busy workers costs about seven times what a private one does, because the line
//! travels at every increment. Each worker therefore owns a padded cell; only a scrape adds them up.

use std::cell::Cell as ThreadCell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use prometheus_client::encoding::EncodeMetric;
use prometheus_client::encoding::MetricEncoder;
use prometheus_client::encoding::NoLabelSet;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::TypedMetric;

use super::registry::Metric;

thread_local! {
    static WORKER: ThreadCell<usize> = const { ThreadCell::new(0) };
}

/// Tell this thread which worker it is, once, at its start. A thread that never does counts into cell 0, which is
/// slower but not wrong.
pub fn enter_worker(worker: usize) {
    WORKER.with(|cell| cell.set(worker));
}

pub(super) fn this_worker() -> usize {
    WORKER.with(ThreadCell::get)
}

// 128, not 64: the adjacent-line prefetcher of x86 pulls lines in pairs, and some arm64 parts have 128-byte lines.
#[derive(Default)]
#[repr(align(128))]
struct Padded(AtomicU64);

#[derive(Clone)]
struct Cells(Arc<[Padded]>);

impl Cells {
    fn new(shards: usize) -> Self {
        Self((0..shards.max(1)).map(|_| Padded::default()).collect())
    }

    fn at(&self, worker: usize) -> &AtomicU64 {
        // A worker index beyond the cells can only cost speed, so wrap rather than fail.
        let index = if worker < self.0.len() {
            worker
        } else {
            worker % self.0.len()
        };
        &self.0[index].0
    }

    /// Wrapping, so that a level raised on one worker and lowered on another still sums up right.
    fn sum(&self) -> u64 {
        self.0
            .iter()
            .fold(0, |sum, cell| sum.wrapping_add(cell.0.load(Relaxed)))
    }
}

/// A counter with a cell a worker.
#[derive(Clone)]
pub struct Tally(Cells);

impl Tally {
    /// One more, in the cell of this thread's worker.
    pub fn inc(&self) {
        self.inc_on(this_worker());
    }

    /// One more, in the cell of `worker`.
    pub fn inc_on(&self, worker: usize) {
        self.0.at(worker).fetch_add(1, Relaxed);
    }

    /// `n` more, in the cell of this thread's worker.
    pub fn add(&self, n: u64) {
        self.0.at(this_worker()).fetch_add(n, Relaxed);
    }

    /// The sum over all workers.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.sum()
    }
}

/// A number that goes up and down, with a cell a worker.
#[derive(Clone)]
pub struct Level(Cells);

impl Level {
    /// One more.
    pub fn up(&self) {
        self.0.at(this_worker()).fetch_add(1, Relaxed);
    }

    /// One less. It need not happen on the thread that went up.
    pub fn down(&self) {
        self.0.at(this_worker()).fetch_sub(1, Relaxed);
    }

    /// One more until the guard is dropped.
    #[must_use = "dropping the guard at once lowers the level again"]
    pub fn hold(&self) -> Held {
        self.up();
        Held(self.clone())
    }

    /// The sum over all workers.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.sum().cast_signed()
    }
}

/// Keeps a [`Level`] raised by one; lowers it when dropped, however the request ends.
#[derive(Debug)]
pub struct Held(Level);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.down();
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tally").field(&self.get()).finish()
    }
}

impl fmt::Debug for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Level").field(&self.get()).finish()
    }
}

impl TypedMetric for Tally {
    const TYPE: MetricType = MetricType::Counter;
}

impl TypedMetric for Level {
    const TYPE: MetricType = MetricType::Gauge;
}

impl EncodeMetric for Tally {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_counter::<NoLabelSet, _, u64>(&self.get(), None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl EncodeMetric for Level {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_gauge(&self.get())
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl Metric for Tally {
    fn make(shards: usize) -> Self {
        Self(Cells::new(shards))
    }
}

impl Metric for Level {
    fn make(shards: usize) -> Self {
        Self(Cells::new(shards))
    }
}
