//! The admin side: what operators, Kubernetes and Prometheus ask the process.
//!
//! It has a thread and a runtime of its own, so that a scrape does not delay a request and a busy data path does not
//! fail a probe. Its port is for the pod and the scraper: there is no authentication, and what it shows is masked. What
//! changes something is an order, taken from this machine only; see `orders`.

mod explain;
mod orders;
mod pages;
mod server;
#[cfg(test)]
mod tests;

pub use orders::Action;
pub use orders::Declined;
pub use orders::Order;
pub use orders::Purge;
pub use server::AdminHandle;
pub use server::start;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::Relaxed;

use serde_json::Value;

use crate::telemetry::Telemetry;

/// Makes a page's JSON when it is asked for.
pub type Source = Box<dyn Fn() -> Value + Send + Sync>;

/// Obeys an order of whoever connects from this address; gives what the answer tells.
pub type Obey = Box<dyn Fn(Order, SocketAddr) -> Result<Value, Declined> + Send + Sync>;

/// What the pages tell of, and who obeys. All of it runs on the admin thread and must not block.
pub struct Sources {
    /// The effective policy; its secrets are masked here.
    pub config: Source,
    /// What is known of each upstream.
    pub upstreams: Source,
    /// The faults that are injected.
    pub faults: Source,
    /// What is kept of answers, and how often it helped.
    pub cache: Source,
    /// Does what an operator orders.
    pub obey: Obey,
}

/// What the pages are made of.
pub struct AdminState {
    sources: Sources,
    telemetry: Arc<Telemetry>,
    readiness: AtomicU8,
}

/// Whether the process wants new work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Listeners or policy do not stand yet.
    Starting,
    /// Requests are served.
    Ready,
    /// The process is going away.
    Draining,
}

impl AdminState {
    /// A process that is starting.
    #[must_use]
    pub fn new(telemetry: Arc<Telemetry>, sources: Sources) -> Arc<Self> {
        let readiness = AtomicU8::new(Readiness::Starting as u8);
        Arc::new(Self {
            sources,
            telemetry,
            readiness,
        })
    }

    /// Listeners and policy stand: `/ready` answers 200. Without effect once draining.
    pub fn set_ready(&self) {
        let (starting, ready) = (Readiness::Starting as u8, Readiness::Ready as u8);
        // A start that finishes after the order to stop must not call traffic in again.
        let _ = self
            .readiness
            .compare_exchange(starting, ready, Relaxed, Relaxed);
    }

    /// The process is going away: `/ready` answers 503 from here on.
    pub fn set_draining(&self) {
        self.readiness.store(Readiness::Draining as u8, Relaxed);
    }

    /// Whether the process wants new work.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        match self.readiness.load(Relaxed) {
            ready if ready == Readiness::Ready as u8 => Readiness::Ready,
            draining if draining == Readiness::Draining as u8 => Readiness::Draining,
            _ => Readiness::Starting,
        }
    }
}

impl fmt::Debug for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminState")
            .field("readiness", &self.readiness())
            .finish_non_exhaustive()
    }
}
