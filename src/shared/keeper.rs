//! Keeps the shared Redis connected: dials, dials again what is worn, probes while the breaker is open, looks after the nodes
//! and after secrets that change. Runs on the control runtime.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use tokio::time::timeout;

use crate::clock;
use crate::kit::backoff::BackoffSettings;
use crate::kit::backoff::Jitter;
use crate::rng;
use crate::shared::client::Inner;
use crate::shared::link;
use crate::shared::link::Credentials;
use crate::shared::link::Link;
use crate::shared::machine::Outcome;
use crate::shared::nodes;

/// Between two looks at the nodes.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Between two looks at the files of secrets.
const SECRETS_EVERY: Duration = Duration::from_secs(1);

const REDIAL: BackoffSettings = BackoffSettings {
    base: Duration::from_millis(50),
    max: Duration::from_secs(2),
    jitter: Jitter::Equal,
};

/// When what is due.
struct Keeper {
    inner: Arc<Inner>,
    credentials: Option<Credentials>,
    failures: u32,
    dial_at: Option<Instant>,
    look_at: Instant,
    secrets_at: Instant,
}

/// Works until it is dropped.
pub async fn keep(inner: Arc<Inner>) {
    let now = clock::now();
    let mut keeper = Keeper {
        inner,
        credentials: None,
        failures: 0,
        dial_at: Some(now),
        look_at: now,
        secrets_at: now + SECRETS_EVERY,
    };
    loop {
        keeper.work().await;
        let next = keeper.next();
        let inner = Arc::clone(&keeper.inner);
        tokio::select! {
            () = tokio::time::sleep_until(next.into()) => {}
            () = inner.wake.notified() => {}
        }
    }
}

impl Keeper {
    fn next(&self) -> Instant {
        let probe = self.inner.gate(|gate| gate.probe_at());
        let probe = probe.filter(|_| self.inner.link.load().is_some());
        [self.dial_at, probe]
            .into_iter()
            .flatten()
            .fold(self.look_at.min(self.secrets_at), Instant::min)
    }

    async fn work(&mut self) {
        let now = clock::now();
        let is_dead = self.inner.dead.swap(false, Ordering::AcqRel);
        if self.dial_at.is_none() && (is_dead || self.inner.gate(|gate| gate.is_worn())) {
            self.dial_at = Some(now);
        }
        if now >= self.secrets_at {
            self.secrets_at = now + SECRETS_EVERY;
            self.check_secrets().await;
        }
        if self.dial_at.is_some_and(|at| clock::now() >= at) {
            self.dial().await;
        }
        self.probe().await;
        if clock::now() >= self.look_at {
            self.look().await;
            self.look_at = clock::now() + LOOK_EVERY;
        }
    }

    /// The old connection serves until the new one is there.
    async fn dial(&mut self) {
        let settings = &self.inner.settings;
        let dialled = match Credentials::read(settings).await {
            Ok(read) => {
                let link = link::dial(settings, &read).await;
                self.credentials = Some(read);
                link
            }
            Err(error) => Err(error),
        };
        self.inner.metrics.dialled(dialled.is_ok());
        match dialled {
            Ok(link) => {
                self.failures = 0;
                self.dial_at = None;
                self.look_at = clock::now();
                self.inner.connected(link);
                self.inner.dead.store(false, Ordering::Release);
            }
            Err(error) => {
                let told = error.to_string();
                // Once for each trouble, not once for each try.
                if self.inner.trouble.lock().replace(told.clone()) != Some(told) {
                    tracing::warn!(%error, "the shared Redis cannot be dialled");
                }
                self.failures = self.failures.saturating_add(1);
                self.inner.gate(crate::shared::machine::Gate::not_connected);
                let wait = REDIAL.delay(self.failures, Duration::ZERO, rng::draw());
                self.dial_at = Some(clock::now() + wait);
            }
        }
    }

    /// Redis lets a connection be that has logged in, so a change is no hurry; but the next one needs the new secret, and
    /// an old certificate ends some day.
    async fn check_secrets(&mut self) {
        let Some(known) = &self.credentials else {
            return;
        };
        match Credentials::read(&self.inner.settings).await {
            Ok(read) if read != *known => {
                tracing::info!("a secret of the shared Redis has changed");
                self.dial_at = Some(clock::now());
            }
            // Half written, or about to be replaced: what was read before is still good.
            Ok(_) | Err(_) => {}
        }
    }

    async fn probe(&self) {
        let due = self.inner.gate(|gate| gate.probe_at());
        if due.is_none_or(|at| clock::now() < at) {
            return;
        }
        let Some(link) = self.inner.link.load_full() else {
            return;
        };
        let mut command = redis::cmd("GET");
        // Another slot each time, so that every shard has its turn.
        command.arg(format!(
            "{}:probe:{}",
            self.inner.settings.prefix,
            rng::bits()
        ));
        let mut to = link.1.clone();
        let outcome = match timeout(self.inner.settings.deadline, to.command(&command)).await {
            Ok(Ok(_)) => Outcome::Answered,
            Ok(Err(error)) => {
                *self.inner.trouble.lock() = Some(error.to_string());
                self.inner.failed(&link, &error);
                // An ACL that keeps us from reading is found out here too, and says so on the admin page.
                Outcome::Broken
            }
            Err(_) => Outcome::Late,
        };
        self.inner.probed(link.0, outcome);
    }

    async fn look(&self) {
        let Some(link) = self.inner.link.load_full() else {
            return;
        };
        let nodes = nodes::look(&link.1).await;
        if nodes.is_empty() {
            // Nobody says who is there; what was known goes on being shown, as down.
            let mut known = self.inner.nodes.lock();
            known.iter_mut().for_each(|node| node.is_up = false);
            self.tell(&known);
            return;
        }
        if nodes.iter().all(|node| !node.is_up) && matches!(link.1, Link::Single(..)) {
            // Nobody may have asked for hours.
            self.inner.dead.store(true, Ordering::Release);
            self.inner.wake.notify_one();
        }
        self.tell(&nodes);
        *self.inner.nodes.lock() = nodes;
    }

    fn tell(&self, nodes: &[nodes::Node]) {
        let all: Vec<_> = nodes
            .iter()
            .map(|node| (node.name.as_str(), node.role(), node.is_up, node.latency))
            .collect();
        self.inner.metrics.nodes(&all);
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.inner.metrics.stopped();
    }
}
