//! The admin side: what operators, Kubernetes and Prometheus ask the process.
//!
//! It has a thread and a runtime of its own, so that a scrape does not delay a request and a busy data path does not
//! fail a probe. Its port is for the pod and the scraper: whoever reaches it may read, and what it shows is masked. What
//! changes something is an order, taken from this machine only, or with a token only; see `orders`.

mod explain;
mod orders;
mod pages;
mod server;
#[cfg(test)]
mod tests;
mod token;

pub use orders::Action;
pub use orders::Declined;
pub use orders::Order;
pub use orders::Purge;
pub use server::AdminHandle;
pub use server::start;
pub use token::TokenPlace;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use std::time::Instant;

use parking_lot::Mutex;
use serde_json::Value;

use crate::audit;
use crate::audit::Event;
use crate::clock;
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
    /// The listener in front of the application; null if there is none.
    pub inbound: Source,
    /// Where the token is that orders must carry; `None`: they are taken from this machine only.
    pub token: Box<dyn Fn() -> Option<TokenPlace> + Send + Sync>,
    /// The Redis that pods share: whether it is there, and its nodes.
    pub shared: Source,
    /// Does what an operator orders.
    pub obey: Obey,
}

/// What the pages are made of.
pub struct AdminState {
    sources: Sources,
    telemetry: Arc<Telemetry>,
    readiness: AtomicU8,
    refusals: Mutex<Refusals>,
}

/// Orders that were not taken, as far as the audit log is concerned.
#[derive(Default)]
struct Refusals {
    told: Option<Instant>,
    untold: u64,
}

/// Time between two such lines: who may not give orders must not be able to fill the log.
const TELL_EVERY: Duration = Duration::from_secs(1);

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
            refusals: Mutex::default(),
        })
    }

    /// Notes that whoever asked may not give orders.
    fn tell_refused(&self, asked: &orders::Asked<'_>, declined: &Declined) {
        let now = clock::now();
        let mut refusals = self.refusals.lock();
        let is_early = refusals
            .told
            .is_some_and(|told| now.saturating_duration_since(told) < TELL_EVERY);
        if is_early {
            refusals.untold += 1;
            return;
        }
        refusals.told = Some(now);
        let untold = std::mem::take(&mut refusals.untold);
        drop(refusals);
        audit::record(
            Event::new("order_refused")
                .by(asked.peer.ip())
                .with("order", asked.uri.path())
                .with("status", declined.status.as_u16())
                .with("untold", untold),
        );
        tracing::info!(
            target: "audit",
            who = %asked.peer,
            what = "admin",
            order = asked.uri.path(),
            status = declined.status.as_u16(),
            untold,
            "an order was not taken"
        );
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
