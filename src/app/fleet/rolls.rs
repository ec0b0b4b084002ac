//! Calls the roll: tells other pods which breakers are not closed here, and breakers what other pods say of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;

use aws_lc_rs::digest::SHA256;
use aws_lc_rs::digest::digest;

use crate::app::Shared;
use crate::app::tree::Destination;
use crate::app::tree::Tree;
use crate::app::upstream::Live;
use crate::clock;
use crate::policy::breaker::Breaker;
use crate::policy::breaker::machine::State;
use crate::policy::breaker::machine::fleet::View;
use crate::policy::breaker::machine::fleet::advice;
use crate::rng;
use crate::shared;
use crate::shared::Client;
use crate::shared::roll;
use crate::shared::roll::Called;

/// Between two rolls of a small fleet; a large one calls less often, so that Redis has as much to do.
const EVERY: Duration = Duration::from_millis(500);
/// Pods for which each further one makes rolls rarer.
const PODS_SMALL: u32 = 50;
/// How long an answer is waited for.
const WITHIN: Duration = Duration::from_millis(250);
/// Rolls that a pod may miss before it counts as gone, and that advice outlives.
const MISSED: u32 = 8;

/// The caller of rolls.
#[derive(Debug)]
pub struct Rolls {
    shared: Weak<Shared>,
    metrics: roll::Metrics,
    /// Others at the last roll.
    others: u32,
    /// Whether something was advised that may have to be taken back.
    advised: bool,
}

impl Rolls {
    /// One for the life of the process.
    #[must_use]
    pub fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::downgrade(shared),
            metrics: roll::Metrics::new(&shared.telemetry),
            others: 0,
            advised: false,
        }
    }

    /// Before this pod says that it is ready: hears how the breakers of the others stand, so that the first calls to what is
    /// down are already judged by fewer. Takes no longer than `redis.warm`, and no time at all without `redis`.
    pub async fn warm(&mut self) {
        let Some(client) = self.client() else { return };
        let Some(bound) = client.settings().warm else {
            return;
        };
        let mut states = client.states();
        let roll = async {
            if states
                .wait_for(|state| *state == shared::State::Up)
                .await
                .is_ok()
            {
                self.call().await;
            }
        };
        if tokio::time::timeout(bound, roll).await.is_err() {
            tracing::info!(
                ?bound,
                "ready without the fleet: the shared Redis was not there in time"
            );
        }
    }

    /// Calls it again and again, as long as the process runs.
    pub async fn keep(mut self) {
        loop {
            let rest = self.every().mul_f64(0.8 + 0.4 * rng::draw());
            tokio::time::sleep(rest).await;
            if self.shared.strong_count() == 0 {
                return;
            }
            self.call().await;
        }
    }

    fn every(&self) -> Duration {
        EVERY * (1 + self.others / PODS_SMALL)
    }

    fn client(&self) -> Option<Arc<Client>> {
        self.shared.upgrade()?.tree.load().fleet.client.load_full()
    }

    async fn call(&mut self) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        let (tree, me) = (shared.tree.load_full(), shared.tree.load().fleet.id);
        drop(shared);
        let Some(client) = tree.fleet.client.load_full() else {
            self.metrics.heard(0);
            return;
        };
        let open = open(&tree);
        let keep = self.every() * MISSED;
        match roll::call(&client, me, &open, keep, WITHIN).await {
            Ok(called) => {
                self.others = u32::try_from(called.others.len()).unwrap_or(u32::MAX);
                self.metrics.answered();
                self.metrics.heard(self.others.saturating_add(1));
                self.heard(&tree, me, &called);
            }
            // What was advised lapses by itself.
            Err(_) => self.metrics.failed(),
        }
    }

    fn heard(&mut self, tree: &Tree, me: u64, called: &Called) {
        let mut troubled: HashMap<u64, Vec<u64>> = HashMap::new();
        for pod in &called.others {
            for circuit in &pod.open {
                troubled.entry(*circuit).or_default().push(pod.id);
            }
        }
        if troubled.is_empty() && !self.advised {
            return;
        }
        self.advised = !troubled.is_empty();
        let (now, holds) = (clock::now(), self.every() * MISSED);
        each(tree, |live, breaker| {
            let circuit = name(live, breaker);
            let view = View {
                me,
                circuit,
                state: breaker.state(now),
                pods: called.others.len() + 1,
                troubled: troubled.get(&circuit).map_or(&[], Vec::as_slice),
                time: called.time,
            };
            breaker.advise(advice(&view), now + holds);
        });
    }
}

/// The breakers that take part.
fn each(tree: &Tree, mut f: impl FnMut(&Live, &Breaker)) {
    tree.each(|live| {
        let breakers = live.breakers();
        for breaker in breakers.filter(|breaker| breaker.settings().fleet) {
            f(live, breaker);
        }
    });
}

/// Those that are not closed. What an operator holds open says nothing of the upstream.
fn open(tree: &Tree) -> Vec<u64> {
    let now = clock::now();
    let mut open = Vec::new();
    each(tree, |live, breaker| {
        if breaker.state(now) != State::Closed && !breaker.is_forced(now) {
            open.push(name(live, breaker));
        }
    });
    open
}

/// The name of a circuit that all pods give it: what it watches, and where that is.
fn name(live: &Live, breaker: &Breaker) -> u64 {
    let place = match &live.key.destination {
        Destination::Listed => String::new(),
        Destination::Name(host, port) => format!("{host}:{port}"),
        Destination::Dialled(address) => address.to_string(),
    };
    let whole = digest(&SHA256, format!("{}\0{place}", breaker.name()).as_bytes());
    let mut eighth = [0; 8];
    eighth.copy_from_slice(&whole.as_ref()[..8]);
    u64::from_be_bytes(eighth)
}
