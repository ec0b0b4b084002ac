//! What whoever asks Redis for a global limit needs of it. Nothing here is on a call's way.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use tokio::sync::Notify;

use super::Limiter;
use super::leases::Asking;
use super::leases::Leases;
use crate::policy::limit::machine::lease::Grant;

impl Limiter {
    /// Whether its buckets are shared with other pods.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.leases().is_some()
    }

    /// Rings when a lease wants something.
    #[must_use]
    pub fn bell(&self) -> Option<Arc<Notify>> {
        self.leases().map(Leases::bell)
    }

    /// The first ask, which asks for nothing, so that the first calls know how many pods there are.
    #[must_use]
    pub fn greet(&self, now: Instant) -> Option<Asking> {
        self.leases()?.greet(self.bucket(None), self.nanos(now))
    }

    /// At most so many asks that are due, and how long until the next one is.
    #[must_use]
    pub fn asks(&self, now: Instant, most: usize) -> (Vec<Asking>, Option<Duration>) {
        let Some(leases) = self.leases() else {
            return (Vec::new(), None);
        };
        let now = self.nanos(now);
        let (asks, due) = leases.asks(now, most);
        let wait = due.map(|due| Duration::from_nanos(due.saturating_sub(now)));
        (asks, wait)
    }

    /// What the bucket said; `None` if it could not be asked. Every ask must be answered.
    pub fn answered(&self, asked: &Asking, grant: Option<Grant>, now: Instant, draw: f64) {
        if let Some(leases) = self.leases() {
            leases.answered(asked, grant, self.nanos(now), draw);
        }
    }

    /// What leases that nobody uses any more give back.
    #[must_use]
    pub fn tidy(&self, now: Instant) -> Vec<Asking> {
        self.leases()
            .map_or_else(Vec::new, |leases| leases.tidy(self.nanos(now)))
    }
}
