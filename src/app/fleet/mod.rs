//! What this pod has to do with the others of its service, by way of the shared Redis: limits that all draw on, and word of
//! open breakers. All of it runs on the control thread; a call never waits for it.

mod limits;
mod rolls;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::runtime::Handle;

use crate::policy::limit;
use crate::policy::limit::Limiter;
use crate::rng;
use crate::shared::Client;
use crate::shared::State;

pub use rolls::Rolls;

/// This pod among the others. The same for all trees of a process.
#[derive(Debug)]
pub struct Fleet {
    /// Its name, drawn anew each time it begins.
    id: u64,
    handle: Handle,
    /// The way to the others; none while the policy has no `redis`.
    client: ArcSwapOption<Client>,
}

impl Fleet {
    /// A pod without a way to others yet, whose work is done on the runtime of `handle`.
    #[must_use]
    pub fn new(handle: &Handle) -> Arc<Self> {
        Arc::new(Self {
            id: rng::bits(),
            handle: handle.clone(),
            client: ArcSwapOption::empty(),
        })
    }

    /// The policy's `redis` from now on.
    pub fn reach(&self, client: Option<&Client>) {
        let client = client.map(|client| Arc::new(client.purpose("fleet")));
        self.client.store(client);
    }

    /// Waits until Redis can be asked, and no longer than this.
    pub async fn reached(&self, within: Duration) {
        let Some(client) = self.client.load_full() else {
            return;
        };
        let mut states = client.states();
        let up = states.wait_for(|state| *state == State::Up);
        // Whoever asks in vain is told so.
        let _ = tokio::time::timeout(within, up).await;
    }

    /// Asks Redis for a limit whenever its leases want something, until it is gone.
    pub fn serve(self: &Arc<Self>, limiter: &Arc<Limiter>, counts: limit::metrics::Asks) {
        let limiter = Arc::downgrade(limiter);
        let work = limits::serve(Arc::clone(self), limiter, counts);
        self.handle.spawn(work);
    }
}
