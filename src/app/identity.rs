//! Keeps the own identity as the policy wants it.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::identity::Current;
use crate::identity::config::Settings;
use crate::identity::metrics::Metrics;
use crate::telemetry::Telemetry;

/// The identity in force and the task that keeps it so.
pub struct Keeper {
    current: Arc<Current>,
    runtime: Handle,
    following: Mutex<Option<(Settings, AbortHandle)>>,
}

impl Keeper {
    /// Nobody yet. Sources are followed on `runtime`, which belongs to no worker.
    #[must_use]
    pub fn new(telemetry: &Telemetry, runtime: Handle) -> Self {
        Self {
            current: Current::new(Some(Metrics::new(telemetry))),
            runtime,
            following: Mutex::new(None),
        }
    }

    /// The identity in force.
    #[must_use]
    pub fn current(&self) -> &Arc<Current> {
        &self.current
    }

    /// Reads and follows the source of these settings, unless it is followed already. What was in force stays until the new source
    /// has something: a policy that moves the files must not stop the calls.
    pub fn follow(&self, settings: Option<&Settings>) {
        let mut following = self.following.lock();
        if following.as_ref().map(|(settings, _)| settings) == settings {
            return;
        }
        if let Some((_, task)) = following.take() {
            task.abort();
        }
        if let Some(settings) = settings {
            let source = settings.source();
            source.begin(&self.current);
            let task = self.runtime.spawn(source.follow(Arc::clone(&self.current)));
            *following = Some((settings.clone(), task.abort_handle()));
        }
    }
}
