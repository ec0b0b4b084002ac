//! The endpoints of an upstream: who they are, how they do, and the connections to them.
//!
//! An [`Endpoint`] and its [`Cluster`] are shared by all workers; a [`pool::Pool`] belongs to one worker.

mod cluster;
pub mod discover;
mod exchange;
mod gate;
mod h2;
pub mod health;
mod idle;
pub mod pool;
mod upgrade;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use parking_lot::Mutex;

use crate::clock;
use crate::connect::tls::Dialer;
use crate::kit::ewma;
use crate::kit::ewma::PeakEwma;

pub use cluster::Cluster;
pub use cluster::Member;
pub use cluster::Set;
pub use h2::LocalExec;

/// One address that an upstream can be reached at.
#[derive(Debug)]
pub struct Endpoint {
    /// Never zero, never given twice in one process.
    pub id: u64,
    /// Where it listens.
    pub address: SocketAddr,
    /// How connections to it are secured; `None`: not at all.
    pub dialer: Option<Arc<Dialer>>,
    in_flight: AtomicU32,
    latency: Mutex<PeakEwma>,
    resting_until: Mutex<Option<Instant>>,
    resting: AtomicBool,
    recalled: AtomicBool,
    /// The checker that found it unhealthy; 0 is none.
    unhealthy_by: AtomicU64,
    born: Instant,
    /// Nanoseconds from `born` to when it last came back, at least 1; 0 is never.
    back_after: AtomicU64,
    gone: AtomicBool,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Endpoint {
    /// A fresh endpoint; `now` starts its latency estimate.
    #[must_use]
    pub fn new(address: SocketAddr, now: Instant) -> Arc<Self> {
        Self::secured(address, None, now)
    }

    /// The same, for connections that are secured.
    #[must_use]
    pub fn secured(address: SocketAddr, dialer: Option<Arc<Dialer>>, now: Instant) -> Arc<Self> {
        Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            address,
            dialer,
            in_flight: AtomicU32::new(0),
            latency: Mutex::new(PeakEwma::new(ewma::DECAY, now)),
            resting_until: Mutex::new(None),
            resting: AtomicBool::new(false),
            recalled: AtomicBool::new(false),
            unhealthy_by: AtomicU64::new(0),
            born: now,
            back_after: AtomicU64::new(0),
            gone: AtomicBool::new(false),
        })
    }

    /// The latency estimate in seconds; zero while nothing is known.
    #[must_use]
    pub fn latency_s(&self, now: Instant) -> f64 {
        self.latency.lock().seconds(now)
    }

    /// Requests being handled here by all workers.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Takes the endpoint out of the rotation until `until` (ejection).
    ///
    /// What was known of its latency is forgotten: it may come back as another, and is tried at once then.
    pub fn rest(&self, until: Instant) {
        *self.latency.lock() = PeakEwma::new(ewma::DECAY, until);
        self.recalled.store(false, Ordering::Relaxed);
        *self.resting_until.lock() = Some(until);
        self.resting.store(true, Ordering::Release);
    }

    /// When the endpoint comes back; `None` while it serves.
    #[must_use]
    pub fn resting_until(&self, now: Instant) -> Option<Instant> {
        // The flag spares the lock on the path of every request, where nearly nobody rests.
        if !self.resting.load(Ordering::Acquire) {
            return None;
        }
        let mut until = self.resting_until.lock();
        if let Some(end) = until.filter(|end| *end <= now) {
            *until = None;
            self.resting.store(false, Ordering::Release);
            self.came_back(end);
        }
        *until
    }

    /// Whether calls may be sent here: it does not rest, and probes do not find it unhealthy.
    #[must_use]
    pub fn serves(&self, now: Instant) -> bool {
        !self.is_unhealthy() && self.resting_until(now).is_none()
    }

    /// Whether probes found it unhealthy, in mode enforce.
    #[must_use]
    pub fn is_unhealthy(&self) -> bool {
        self.unhealthy_by.load(Ordering::Acquire) != 0
    }

    /// Takes the endpoint out of the rotation until the checker of this number says otherwise.
    pub fn found_unhealthy(&self, checker: u64) {
        self.unhealthy_by.store(checker, Ordering::Release);
    }

    /// Puts it back. A rest ends too: probes had failed and pass again, so what ejected it is over.
    pub fn found_healthy(&self, checker: u64, now: Instant) {
        if !self.lift_verdict(checker) {
            return;
        }
        *self.latency.lock() = PeakEwma::new(ewma::DECAY, now);
        if self.resting_until.lock().take().is_some() {
            self.resting.store(false, Ordering::Release);
            self.recalled.store(true, Ordering::Release);
        }
        self.came_back(now);
    }

    /// Forgets what that checker found, because it stops. Another one's verdict stays. Whether there was one.
    pub fn lift_verdict(&self, checker: u64) -> bool {
        let (is, done) = (Ordering::AcqRel, Ordering::Relaxed);
        self.unhealthy_by
            .compare_exchange(checker, 0, is, done)
            .is_ok()
    }

    /// Whether its rest was ended ahead of time since this was last asked.
    #[must_use]
    pub fn take_recall(&self) -> bool {
        self.recalled.load(Ordering::Relaxed) && self.recalled.swap(false, Ordering::AcqRel)
    }

    fn came_back(&self, now: Instant) {
        let after = now.saturating_duration_since(self.born).as_nanos();
        let after = u64::try_from(after).unwrap_or(u64::MAX).max(1);
        self.back_after.store(after, Ordering::Release);
    }

    /// When it last came into the rotation while others were in it: from a rest, because probes pass again, or because it
    /// is new. `None`: it was there from the start and never left.
    #[must_use]
    pub fn back_since(&self) -> Option<Instant> {
        let after = self.back_after.load(Ordering::Acquire);
        (after > 0).then(|| self.born + Duration::from_nanos(after))
    }

    /// Says that no set has it any more: its connections are not to be kept.
    pub(crate) fn leave(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }

    /// Whether no set has it any more.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// Counts a request in, for as long as the lease lives.
    #[must_use]
    pub fn lease(self: &Arc<Self>, now: Instant) -> Lease {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Lease {
            endpoint: Arc::clone(self),
            began: now,
            observed: false,
        }
    }
}

/// A request in flight at an endpoint. Dropping it counts the request out, whatever became of it.
#[derive(Debug)]
pub struct Lease {
    endpoint: Arc<Endpoint>,
    began: Instant,
    observed: bool,
}

impl Lease {
    /// Where that endpoint listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.endpoint.address
    }

    /// The identifier of the endpoint that it counts at.
    #[must_use]
    pub fn endpoint(&self) -> u64 {
        self.endpoint.id
    }

    /// Feeds the time to the response head into the latency estimate.
    pub fn answered(&mut self, now: Instant) {
        self.observed = true;
        let took = now.saturating_duration_since(self.began);
        self.endpoint.latency.lock().observe(took, now);
    }

    /// Leaves the latency estimate as it is: what was carried has no answer to be measured.
    pub fn unmeasured(&mut self) {
        self.observed = true;
    }

    /// Feeds a failure into it. `typical_s` is what answers take at the other endpoints.
    pub fn failed(&mut self, typical_s: Option<f64>, now: Instant) {
        self.observed = true;
        let took = now.saturating_duration_since(self.began);
        let mut latency = self.endpoint.latency.lock();
        latency.observe_failure(took, typical_s, now);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.endpoint.in_flight.fetch_sub(1, Ordering::Relaxed);
        if !self.observed {
            let now = clock::now();
            let waited = now.saturating_duration_since(self.began);
            // Given up on: it may have taken much longer, but not less.
            let mut latency = self.endpoint.latency.lock();
            latency.observe_failure(waited, Some(0.0), now);
        }
    }
}
