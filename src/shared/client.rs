//! What the rest of outrider sees of the shared Redis: commands with a deadline, scripts, messages, and whether it is there.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use redis::Cmd;
use redis::ErrorKind;
use redis::Pipeline;
use redis::RedisError;
use redis::RedisResult;
use redis::ServerErrorKind;
use redis::Value;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::shared::Settings;
use crate::shared::Subscription;
use crate::shared::keeper;
use crate::shared::link::Link;
use crate::shared::machine::Gate;
use crate::shared::machine::Outcome;
use crate::shared::machine::Turn;
use crate::shared::metrics::Counts;
use crate::shared::metrics::Metrics;
use crate::shared::nodes::Node;
use crate::shared::subscription;
use crate::telemetry::Telemetry;

/// Commands of this process that wait for Redis at once. Beyond, somebody already waits too long.
const IN_FLIGHT_MAX: usize = 1024;

/// Why Redis was of no help. Nobody's call fails by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Away {
    /// There is no connection yet, or none any more.
    #[error("not connected")]
    Unconnected,
    /// Its breaker is open.
    #[error("its breaker is open")]
    Open,
    /// Too many commands wait already.
    #[error("too many commands wait")]
    Busy,
    /// The deadline passed.
    #[error("no answer in time")]
    Late,
    /// The connection broke, or a node cannot serve.
    #[error("the connection broke")]
    Broken,
    /// Redis answered with an error: a command that it does not take, or not now.
    #[error("refused")]
    Refused,
}

impl Away {
    /// Every one, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::Unconnected,
        Self::Open,
        Self::Busy,
        Self::Late,
        Self::Broken,
        Self::Refused,
    ];

    /// The label value.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unconnected => "unconnected",
            Self::Open => "open",
            Self::Busy => "busy",
            Self::Late => "late",
            Self::Broken => "broken",
            Self::Refused => "refused",
        }
    }
}

/// Whether calls ask Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// They do.
    Up,
    /// They go on without.
    Away(Away),
}

/// A script that runs inside Redis as one step.
#[derive(Debug)]
pub struct Script {
    code: &'static str,
    digest: String,
}

impl Script {
    /// Lua; keys as `KEYS`, arguments as `ARGV`.
    #[must_use]
    pub fn new(code: &'static str) -> Self {
        let digest = redis::Script::new(code).get_hash().to_owned();
        Self { code, digest }
    }
}

fn evaluate(name: &str, body: &str, keys: &[&[u8]], args: &[&[u8]]) -> Cmd {
    let mut cmd = redis::cmd(name);
    cmd.arg(body).arg(keys.len());
    keys.iter().chain(args).for_each(|arg| {
        cmd.arg(*arg);
    });
    cmd
}

/// What all clones of a client share.
pub(super) struct Inner {
    pub(super) settings: Settings,
    namespace: String,
    pub(super) handle: Handle,
    pub(super) link: ArcSwapOption<(u64, Link)>,
    gate: Mutex<Gate>,
    /// The gate's state, to be read without its lock.
    open: AtomicBool,
    in_flight: AtomicUsize,
    /// Counts connections, so that a straggler of an old one says nothing of the new one.
    eras: AtomicU64,
    /// A connection to a single Redis is dead, which nothing but dialling mends. A cluster's mends itself.
    pub(super) dead: AtomicBool,
    /// The keeper has something to do.
    pub(super) wake: Notify,
    pub(super) stop: CancellationToken,
    state: watch::Sender<State>,
    pub(super) metrics: Metrics,
    pub(super) nodes: Mutex<Vec<Node>>,
    pub(super) trouble: Mutex<Option<String>>,
}

impl Inner {
    /// A probe's or a command's outcome, told to the gate.
    fn told(&self, era: u64, tell: impl FnOnce(&mut Gate) -> Option<Turn>) {
        if self.link.load().as_ref().is_none_or(|link| link.0 != era) {
            return;
        }
        let (turn, wake) = {
            let mut gate = self.gate.lock();
            let turn = tell(&mut gate);
            self.open.store(gate.is_open(), Ordering::Release);
            (turn, turn.is_some() || gate.is_worn())
        };
        self.turned(turn);
        if wake {
            self.wake.notify_one();
        }
    }

    /// What a command failed by, on this connection.
    pub(super) fn failed(&self, link: &(u64, Link), error: &RedisError) {
        if matches!(link.1, Link::Single(..)) && error.is_unrecoverable_error() {
            self.dead.store(true, Ordering::Release);
            self.wake.notify_one();
        }
    }

    fn turned(&self, turn: Option<Turn>) {
        let Some(turn) = turn else { return };
        let is_up = turn == Turn::Closed;
        self.metrics.turned(is_up);
        if is_up {
            tracing::info!(namespace = %self.namespace, "the shared Redis is up");
            *self.trouble.lock() = None;
        } else {
            tracing::warn!(namespace = %self.namespace, "the shared Redis is away; calls go on without it");
        }
        self.state.send_replace(if is_up {
            State::Up
        } else {
            State::Away(Away::Open)
        });
    }

    pub(super) fn probed(&self, era: u64, outcome: Outcome) {
        self.told(era, |gate| gate.probed(outcome, clock::now()));
    }

    /// What the gate wants of the keeper.
    pub(super) fn gate<T>(&self, ask: impl FnOnce(&mut Gate) -> T) -> T {
        ask(&mut self.gate.lock())
    }

    /// A new connection takes the place of the old one.
    pub(super) fn connected(&self, link: Link) {
        let era = self.eras.fetch_add(1, Ordering::AcqRel) + 1;
        let turn = {
            let mut gate = self.gate.lock();
            let turn = gate.connected(clock::now());
            self.open.store(gate.is_open(), Ordering::Release);
            turn
        };
        self.link.store(Some(Arc::new((era, link))));
        self.turned(turn);
        self.state.send_if_modified(|state| {
            let is_new = *state == State::Away(Away::Unconnected);
            if is_new {
                *state = State::Away(Away::Open);
            }
            is_new
        });
    }

    fn admit(&self) -> Result<Arc<(u64, Link)>, Away> {
        if self.open.load(Ordering::Acquire) {
            return Err(if self.link.load().is_some() {
                Away::Open
            } else {
                Away::Unconnected
            });
        }
        self.link.load_full().ok_or(Away::Unconnected)
    }
}

/// Counts a command in flight for as long as it lives, dropped wherever.
struct Held<'a>(&'a AtomicUsize);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// How an error is judged: what the gate makes of it, and what the caller is told.
fn judge(error: &RedisError) -> (Outcome, Away) {
    if error.is_timeout() {
        return (Outcome::Late, Away::Late);
    }
    match error.kind() {
        ErrorKind::Io
        | ErrorKind::ClusterConnectionNotFound
        | ErrorKind::AuthenticationFailed
        | ErrorKind::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::Moved
            | ServerErrorKind::Ask
            | ServerErrorKind::TryAgain
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ReadOnly,
        ) => (Outcome::Broken, Away::Broken),
        _ => (Outcome::Answered, Away::Refused),
    }
}

/// See the module. Cheap to clone; may be called from any thread with a runtime that keeps time.
#[derive(Clone)]
pub struct Client {
    pub(super) inner: Arc<Inner>,
    counts: Arc<Counts>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("namespace", &self.inner.namespace)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Begins to dial, on the runtime of `handle`. Never waits.
    #[must_use]
    pub fn start(
        settings: Settings,
        service: &str,
        handle: &Handle,
        telemetry: &Telemetry,
    ) -> Owner {
        let metrics = Metrics::new(telemetry);
        let counts = Arc::new(metrics.purpose("other"));
        let inner = Arc::new(Inner {
            namespace: format!("{}:{service}", settings.prefix),
            settings,
            handle: handle.clone(),
            link: ArcSwapOption::empty(),
            gate: Mutex::default(),
            open: AtomicBool::new(true),
            in_flight: AtomicUsize::new(0),
            eras: AtomicU64::new(0),
            dead: AtomicBool::new(false),
            wake: Notify::new(),
            stop: CancellationToken::new(),
            state: watch::Sender::new(State::Away(Away::Unconnected)),
            metrics,
            nodes: Mutex::default(),
            trouble: Mutex::default(),
        });
        let client = Self { inner, counts };
        client.spawn(keeper::keep(Arc::clone(&client.inner)));
        Owner(client)
    }

    /// The same, counted under `purpose`: a word of the program, never of the wire.
    #[must_use]
    pub fn purpose(&self, purpose: &'static str) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            counts: Arc::new(self.inner.metrics.purpose(purpose)),
        }
    }

    /// Runs on the control runtime until it ends or the client's owner is gone.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.inner.stop.clone();
        self.inner.handle.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = work => {}
            }
        });
    }

    /// What it was made with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// What every key and channel begins with: `prefix:service`.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.inner.namespace
    }

    /// `redis.deadline`: the longest that a call may wait.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.inner.settings.deadline
    }

    /// Whether both go through the same connections.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Whether calls ask Redis now.
    #[must_use]
    pub fn state(&self) -> State {
        match self.inner.admit() {
            Ok(_) => State::Up,
            Err(away) => State::Away(away),
        }
    }

    /// The state, and when it changes.
    #[must_use]
    pub fn states(&self) -> watch::Receiver<State> {
        self.inner.state.subscribe()
    }

    /// One command.
    ///
    /// # Errors
    /// When Redis is of no help within `within`.
    pub async fn call(&self, cmd: &Cmd, within: Duration) -> Result<Value, Away> {
        let result = self
            .sent(within, |mut link| async move { link.command(cmd).await })
            .await;
        self.settled(result)
    }

    /// Several commands in one trip, of keys in one slot.
    ///
    /// # Errors
    /// As [`Self::call`]; if one is refused, so are all.
    pub async fn pipe(&self, pipeline: &Pipeline, within: Duration) -> Result<Vec<Value>, Away> {
        let result = self
            .sent(
                within,
                |mut link| async move { link.commands(pipeline).await },
            )
            .await;
        self.settled(result)
    }

    /// A script. Of a cluster all `keys` must be in one slot: give them one `{tag}`.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn run(
        &self,
        script: &Script,
        keys: &[&[u8]],
        args: &[&[u8]],
        within: Duration,
    ) -> Result<Value, Away> {
        let result = self
            .sent(within, |mut link| async move {
                let known = evaluate("EVALSHA", &script.digest, keys, args);
                match link.command(&known).await {
                    // A node that was restarted, or has just become a primary.
                    Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                        let whole = evaluate("EVAL", script.code, keys, args);
                        link.command(&whole).await
                    }
                    result => result,
                }
            })
            .await;
        self.settled(result)
    }

    /// Sends a message to all who listen on `channel`.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn publish(
        &self,
        channel: &str,
        message: &[u8],
        within: Duration,
    ) -> Result<(), Away> {
        let mut cmd = redis::cmd("PUBLISH");
        cmd.arg(channel).arg(message);
        self.call(&cmd, within).await.map(drop)
    }

    /// Listens on `channel`, until the subscription is dropped.
    #[must_use]
    pub fn subscribe(&self, channel: &str) -> Subscription {
        subscription::begin(self, channel.to_owned())
    }

    async fn sent<T, F>(&self, within: Duration, command: impl FnOnce(Link) -> F) -> Result<T, Away>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let inner = &*self.inner;
        let link = inner.admit()?;
        let before = inner.in_flight.fetch_add(1, Ordering::AcqRel);
        let _held = Held(&inner.in_flight);
        if before >= IN_FLIGHT_MAX {
            return Err(Away::Busy);
        }
        let began = clock::now();
        let command = Box::pin(command(link.1.clone()));
        let (outcome, result) = match tokio::time::timeout(within, command).await {
            Ok(Ok(value)) => (Outcome::Answered, Ok(value)),
            Ok(Err(error)) => {
                let (outcome, away) = judge(&error);
                tracing::debug!(%error, "a command to the shared Redis failed");
                inner.failed(&link, &error);
                (outcome, Err(away))
            }
            Err(_) => (Outcome::Late, Err(Away::Late)),
        };
        let now = clock::now();
        self.counts
            .seconds
            .record_here(now.saturating_duration_since(began));
        inner.told(link.0, |gate| gate.settle(outcome, now));
        result
    }

    fn settled<T>(&self, result: Result<T, Away>) -> Result<T, Away> {
        self.counts.settled(&result);
        result
    }

    /// For a person.
    #[must_use]
    pub fn describe(&self) -> serde_json::Value {
        let inner = &*self.inner;
        let (state, why) = match self.state() {
            State::Up => ("up", None),
            State::Away(away) => ("away", Some(away.word())),
        };
        let topology = inner.link.load().as_ref().map(|link| match link.1 {
            Link::Cluster(_) => "cluster",
            Link::Single(..) => "single",
        });
        let nodes = inner.nodes.lock();
        json!({
            "state": state,
            "why": why,
            "trouble": *inner.trouble.lock(),
            "topology": topology,
            "namespace": inner.namespace,
            "seeds": inner.settings.nodes,
            "deadline_ms": inner.settings.deadline.as_secs_f64() * 1e3,
            "nodes": nodes.iter().map(Node::describe).collect::<Vec<_>>(),
        })
    }
}

/// Holds the connections: when it is dropped they end, and every clone of the client is told `Away`.
#[derive(Debug)]
pub struct Owner(Client);

impl Owner {
    /// A client to keep.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.0
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let inner = &*self.0.inner;
        inner.stop.cancel();
        inner.open.store(true, Ordering::Release);
        inner.link.store(None);
    }
}
