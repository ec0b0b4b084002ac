//! What holds of every circuit, for the walks.

use std::time::Instant;

use super::Machine;
use super::Phase;

impl Machine {
    pub(in crate::policy::breaker) fn check_invariants(&self, now: Instant) {
        match &self.phase {
            Phase::Closed { counts, run } => {
                counts.check_invariants();
                assert_eq!(self.opened, 0, "closed, but the open time is not reset");
                let reached = self.settings.consecutive.is_some_and(|n| *run >= n.max(1));
                assert!(!reached, "a run of {run} left it closed");
            }
            Phase::Open { length, .. } => {
                assert!(self.opened > 0, "open without having opened");
                let most = self.settings.open_max.mul_f64(1.5);
                assert!(*length <= most, "open for {length:?}");
                assert!(self.open_left(now).is_none_or(|left| left <= most));
            }
            Phase::HalfOpen {
                leases,
                passed,
                slow,
                granted,
            } => {
                assert!(self.opened > 0, "half-open without having opened");
                assert!(
                    *passed < self.probes(),
                    "enough probes passed, yet half-open"
                );
                assert!(
                    leases.len() <= self.probes() as usize,
                    "too many probes at once"
                );
                assert!(slow <= passed);
                assert!(u64::from(*passed) + leases.len() as u64 <= *granted);
            }
            Phase::Forced { counts, length, .. } => {
                counts.check_invariants();
                assert!(self.forced_left(now).is_none_or(|left| left <= *length));
            }
        }
    }
}
