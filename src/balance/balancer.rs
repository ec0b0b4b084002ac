//! What all workers share about the balance of one upstream.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use serde_json::Value;
use serde_json::json;

use crate::balance::Settings;
use crate::balance::key::Key;
use crate::balance::machine;
use crate::balance::metrics::Metrics;
use crate::balance::ring::Ring;
use crate::endpoint::Endpoint;
use crate::endpoint::Set;
use crate::kit::units;

/// How one upstream's calls are spread over its endpoints.
#[derive(Debug)]
pub struct Balancer {
    pub(super) settings: Settings,
    /// Our own zone; its endpoints are preferred.
    zone: Option<Arc<str>>,
    /// The ring of the set that it was made of.
    ring: Mutex<Option<(Arc<Set>, Arc<Ring>)>>,
    pub(super) metrics: Metrics,
}

impl Balancer {
    /// Spreads as `settings` say, preferring endpoints in `zone`.
    #[must_use]
    pub fn new(settings: Settings, zone: Option<Arc<str>>, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            settings,
            zone,
            ring: Mutex::new(None),
            metrics,
        })
    }

    /// Whether an endpoint of this zone is in ours.
    #[must_use]
    pub fn is_near(&self, zone: Option<&Arc<str>>) -> bool {
        self.zone.is_some() && self.zone.as_ref() == zone
    }

    /// The ring of a set, if anything is hashed. Made by the first worker that asks for it, while the others wait: one
    /// ring for all of them, and for a hundred endpoints it takes a millisecond.
    pub(super) fn ring(&self, set: &Arc<Set>) -> Option<Arc<Ring>> {
        self.settings.hash.as_ref()?;
        let mut held = self.ring.lock();
        if let Some((of, ring)) = &*held
            && Arc::ptr_eq(of, set)
        {
            return Some(Arc::clone(ring));
        }
        let ring = Arc::new(Ring::new(&set.members));
        *held = Some((Arc::clone(set), Arc::clone(&ring)));
        Some(ring)
    }

    /// How much of an endpoint's weight counts yet, a tenth to 1.
    #[must_use]
    pub fn ramp(&self, endpoint: &Endpoint, now: Instant) -> f64 {
        let Some(over) = self.settings.slow_start else {
            return 1.0;
        };
        let served = |since| now.saturating_duration_since(since);
        machine::ramp(endpoint.back_since().map(served), over)
    }

    /// Its place in `/upstreams`.
    #[must_use]
    pub fn describe(&self) -> Value {
        json!({
            "by": self.settings.by.word(),
            "hash": self.settings.hash.as_ref().map(Key::word),
            "bound": self.settings.bound.filter(|_| self.settings.hash.is_some()).map(units::format_share),
            "mode": self.settings.mode.word(),
            "zone": self.zone.as_deref(),
        })
    }
}
