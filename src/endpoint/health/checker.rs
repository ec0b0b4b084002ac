//! The skin of the health checks: tasks, clock and chance. It decides nothing.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::task::JoinSet;

use super::config::Settings;
use super::machine;
use super::machine::Machine;
use super::machine::State;
use super::machine::Transition;
use super::metrics::Metrics;
use super::probe;
use super::probe::Failure;
use crate::clock;
use crate::endpoint::Cluster;
use crate::endpoint::Endpoint;
use crate::rng;

/// Probes of one upstream that may be under way at once: a hundred endpoints that answer nothing must not hold a hundred
/// sockets. The others wait their turn, in order.
pub(super) const AT_ONCE: usize = 32;

/// What a checker is made of.
#[derive(Debug)]
pub struct Plan {
    /// How logs call the upstream.
    pub name: String,
    /// What Host says in a probe over HTTP.
    pub host: String,
    /// The `health` block.
    pub settings: Settings,
    /// Whose endpoints are probed.
    pub cluster: Arc<Cluster>,
    /// Counts.
    pub metrics: Metrics,
}

/// Probes the endpoints of one upstream for as long as it lives.
#[derive(Debug)]
#[must_use = "dropping it ends the probes"]
pub struct Health {
    checker: Arc<Checker>,
    task: AbortHandle,
}

/// What is known of one endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// The verdict.
    pub state: State,
    /// When it was reached; `None`: never.
    pub changed: Option<Instant>,
    /// When the last probe ended; `None`: none has.
    pub probed: Option<Instant>,
    /// The last failure and when it was.
    pub failed: Option<(Failure, Instant)>,
}

#[derive(Debug)]
struct Checker {
    /// Tells its verdicts from those of another that probes the same endpoints, as around a reload.
    number: u64,
    plan: Plan,
    turns: Semaphore,
    notes: Mutex<Notes>,
}

/// What was found so far, by the id of the endpoint.
#[derive(Debug, Default)]
struct Notes {
    of: HashMap<u64, Note>,
    /// A probe that ends after the checker has stopped says nothing any more.
    stopped: bool,
}

#[derive(Debug)]
struct Note {
    endpoint: Arc<Endpoint>,
    machine: Machine,
    told: Told,
}

static NEXT: AtomicU64 = AtomicU64::new(1);

impl Health {
    /// Begins to probe on `runtime`. `before` probed the same endpoints under earlier settings: what it found holds on if
    /// it asked the same question. It goes on until it is told to [`stop`](Self::stop) or dropped.
    pub fn start(plan: Plan, before: Option<&Health>, runtime: &Handle) -> Arc<Self> {
        let checker = Arc::new(Checker {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            turns: Semaphore::new(AT_ONCE),
            notes: Mutex::default(),
            plan,
        });
        if let Some(before) = before.filter(|before| checker.asks_as(&before.checker)) {
            let known = before.checker.notes.lock();
            let states: Vec<_> = known.of.values().map(Note::state).collect();
            drop(known);
            for (endpoint, told) in states {
                checker.adopt(endpoint, told);
            }
        }
        let task = runtime.spawn(Arc::clone(&checker).run()).abort_handle();
        Arc::new(Self { checker, task })
    }

    /// What it was built from.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.checker.plan.settings
    }

    /// What is known of the endpoint with this id.
    #[must_use]
    pub fn told(&self, endpoint: u64) -> Option<Told> {
        let notes = self.checker.notes.lock();
        notes.of.get(&endpoint).map(|note| note.told.clone())
    }

    /// Ends the probes and takes back what they found.
    pub fn stop(&self) {
        self.task.abort();
        let mut notes = self.checker.notes.lock();
        notes.stopped = true;
        for note in std::mem::take(&mut notes.of).into_values() {
            self.checker.forget(note);
        }
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Note {
    fn state(&self) -> (Arc<Endpoint>, Told) {
        (Arc::clone(&self.endpoint), self.told.clone())
    }
}

impl Checker {
    fn asks_as(&self, other: &Self) -> bool {
        self.plan.settings.probe == other.plan.settings.probe && self.plan.host == other.plan.host
    }

    fn adopt(&self, endpoint: Arc<Endpoint>, told: Told) {
        if told.state == State::Unhealthy {
            self.plan.metrics.one_more();
            if self.plan.settings.mode.enforces() {
                endpoint.found_unhealthy(self.number);
            }
        }
        let note = Note {
            machine: Machine::new(&self.plan.settings, told.state),
            endpoint: Arc::clone(&endpoint),
            told,
        };
        self.notes.lock().of.insert(endpoint.id, note);
    }

    fn forget(&self, note: Note) {
        note.endpoint.lift_verdict(self.number);
        if note.told.state == State::Unhealthy {
            self.plan.metrics.one_less();
        }
    }

    /// One task for each endpoint, in step with the set.
    async fn run(self: Arc<Self>) {
        let mut tasks = JoinSet::new();
        let mut probing: HashMap<u64, AbortHandle> = HashMap::new();
        loop {
            let generation = self.plan.cluster.generation();
            let set = Arc::clone(&self.plan.cluster.set());
            let ids: HashSet<u64> = set.endpoints.iter().map(|endpoint| endpoint.id).collect();
            probing.retain(|id, task| {
                let stays = ids.contains(id);
                if !stays {
                    task.abort();
                }
                stays
            });
            self.keep_only(&ids);
            for endpoint in &set.endpoints {
                probing.entry(endpoint.id).or_insert_with(|| {
                    self.begin(endpoint);
                    tasks.spawn(Arc::clone(&self).watch(Arc::clone(endpoint)))
                });
            }
            self.plan.cluster.changed_since(generation).await;
            while tasks.try_join_next().is_some() {}
        }
    }

    fn keep_only(&self, ids: &HashSet<u64>) {
        let mut notes = self.notes.lock();
        let gone = notes.of.extract_if(|id, _| !ids.contains(id));
        gone.for_each(|(_, note)| self.forget(note));
    }

    fn begin(&self, endpoint: &Arc<Endpoint>) {
        let mut notes = self.notes.lock();
        if notes.stopped {
            return;
        }
        notes.of.entry(endpoint.id).or_insert_with(|| Note {
            endpoint: Arc::clone(endpoint),
            machine: Machine::new(&self.plan.settings, State::Unknown),
            told: Told {
                state: State::Unknown,
                changed: None,
                probed: None,
                failed: None,
            },
        });
    }

    async fn watch(self: Arc<Self>, endpoint: Arc<Endpoint>) {
        let settings = &self.plan.settings;
        let state = |id: u64| self.notes.lock().of.get(&id).map(|note| note.told.state);
        let Some(first) = state(endpoint.id) else {
            return;
        };
        tokio::time::sleep(machine::first_in(settings.every, first, rng::draw())).await;
        let mut before = first;
        loop {
            let Ok(turn) = self.turns.acquire().await else {
                return;
            };
            let began = clock::now();
            let host = &self.plan.host;
            let result = probe::ask(&settings.probe, host, &endpoint, settings.timeout).await;
            drop(turn);
            let Some(state) = self.record(&endpoint, result, clock::now()) else {
                return;
            };
            let wait = machine::next_in(settings.every, (before, state), rng::draw());
            before = state;
            tokio::time::sleep_until((began + wait).into()).await;
        }
    }

    /// The state after this result; `None` if the endpoint or the checker is gone.
    fn record(
        &self,
        endpoint: &Endpoint,
        result: Result<(), Failure>,
        now: Instant,
    ) -> Option<State> {
        let (state, transition, last) = {
            let mut notes = self.notes.lock();
            let note = notes.of.get_mut(&endpoint.id)?;
            self.plan.metrics.probed(&result);
            let transition = note.machine.record(probe::heard(&result));
            note.told.probed = Some(now);
            if let Err(failure) = result {
                note.told.failed = Some((failure, now));
            }
            if let Some(transition) = transition {
                note.told.state = transition.to;
                note.told.changed = Some(now);
                self.apply(endpoint, transition, now);
            }
            let last = transition.and(note.told.failed.clone());
            (note.told.state, transition, last)
        };
        if let Some(transition) = transition {
            self.tell(endpoint, transition, last.map(|(failure, _)| failure));
        }
        Some(state)
    }

    /// Under the lock of the notes, so that a verdict never outlives the checker.
    fn apply(&self, endpoint: &Endpoint, transition: Transition, now: Instant) {
        let enforces = self.plan.settings.mode.enforces();
        match (transition.from, transition.to) {
            (_, State::Unhealthy) => {
                self.plan.metrics.one_more();
                if enforces {
                    endpoint.found_unhealthy(self.number);
                }
            }
            (State::Unhealthy, _) => {
                self.plan.metrics.one_less();
                if enforces {
                    endpoint.found_healthy(self.number, now);
                }
            }
            _ => {}
        }
    }

    fn tell(&self, endpoint: &Endpoint, transition: Transition, last: Option<Failure>) {
        let (upstream, endpoint) = (&self.plan.name, endpoint.address);
        let shadow = !self.plan.settings.mode.enforces();
        let run = transition.run;
        match (transition.from, transition.to) {
            (_, State::Unhealthy) => {
                let why = last.map(|failure| failure.to_string()).unwrap_or_default();
                tracing::warn!(%upstream, %endpoint, failures = run, %why, shadow, "endpoint unhealthy");
            }
            (State::Unhealthy, _) => {
                tracing::info!(%upstream, %endpoint, successes = run, shadow, "endpoint healthy again");
            }
            // As it is for every endpoint at start.
            _ => tracing::debug!(%upstream, %endpoint, "endpoint healthy"),
        }
    }
}
