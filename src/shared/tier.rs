//! The second tier of the cache: answers in Redis that every pod of the service can use, and who of them fetches what is not
//! there.
//!
//! What belongs to one URL stands in one slot: its entries, the leases of those who fetch them, and its era, a number that
//! changes when a call makes the URL's answers untrue. Purges are the [`ledger`](super::ledger)'s.

use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use redis::Value;
use serde_json::json;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;

use crate::rng;
use crate::shared::Away;
use crate::shared::Client;
use crate::shared::Script;
use crate::shared::ledger::machine::Id;
use crate::shared::ledger::machine::Ledger;
use crate::shared::ledger::machine::What;
use crate::shared::ledger::machine::name;
use crate::shared::metrics::TierMetrics;
use crate::shared::metrics::Write;
use crate::shared::place::Place;
use crate::shared::sync;
use crate::telemetry::Telemetry;

/// Larger answers stay in the memory of their pod.
pub const LARGEST: usize = 1 << 20;
/// Nothing is kept longer, whatever its freshness: eras must outlive entries.
pub const LONGEST: Duration = Duration::from_hours(24);
/// How long an era is remembered.
const ERA: Duration = Duration::from_hours(25);
/// Writes that wait, and their bytes.
const QUEUE: usize = 1024;
const QUEUE_BYTES: usize = 32 << 20;
/// The longest that one write may take. Nobody waits for it.
const WRITE: Duration = Duration::from_millis(250);
/// How long a lease lasts that is not renewed: so long pods wait for one that died, or whose write Redis lost.
const LEASE_FOR: Duration = Duration::from_secs(1);
/// From one renewal to the next.
const RENEW_EVERY: Duration = Duration::from_millis(250);
/// How long pods know that an answer was its fetcher's own.
const MARKED: Duration = Duration::from_secs(5);

const LOOK: &str = "\
local era = redis.call('GET', KEYS[3]) or ''
local entry = redis.call('GET', KEYS[1])
if entry then return {entry, redis.call('PTTL', KEYS[1]), era} end
if ARGV[1] == '' then return {false, 0, era} end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return {false, 1, era} end
if redis.call('GET', KEYS[2]) == '-' then return {false, 2, era} end
return {false, 0, era}";
const LEASE: &str = "\
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
if redis.call('GET', KEYS[1]) == '-' then return 2 end
return 0";
const RENEW: &str = "\
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0";
const PUT: &str = "\
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if ARGV[4] ~= '' then redis.call('SET', KEYS[3], ARGV[4], 'PX', ARGV[2]) end
if ARGV[3] ~= '' and redis.call('GET', KEYS[2]) == ARGV[3] then redis.call('DEL', KEYS[2]) end
return 1";
const RELEASE: &str = "\
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], '-', 'PX', ARGV[2]) end
return 1";
const TURN: &str = "\
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('PUBLISH', ARGV[3], ARGV[4])
return 1";

/// What the tier purges when another pod says so.
pub trait Memory: Send + Sync {
    /// Lets go, or makes stale, what is named.
    fn purge(&self, what: &What, soft: bool);
    /// Lets go what is kept of a URL.
    fn invalidate(&self, url: &[u8]);
}

/// Whether this pod is the one that fetches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is, until the lease runs out.
    Ours,
    /// Another pod is.
    Theirs,
    /// The last answer was its fetcher's own: each for itself.
    Nobodys,
}

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// The entry, and how long Redis still keeps it.
    pub entry: Option<(Bytes, Duration)>,
    /// The era of its URL now.
    pub era: u64,
    /// Without an entry: who fetches.
    pub turn: Turn,
}

/// The right to fetch for all pods. Dropped, it is given back; with the entry it is given back when that is written.
#[derive(Debug)]
pub struct Lease {
    tier: Arc<Tier>,
    key: String,
    token: String,
    mark: bool,
    over: bool,
    /// Ends the renewals.
    _renewed: DropGuard,
}

impl Lease {
    /// The answer is nobody else's: those who wait need not.
    pub fn mark(&mut self) {
        self.mark = true;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let mark = if self.mark { MARKED } else { Duration::ZERO };
        self.tier.queue(Job::Release {
            key: std::mem::take(&mut self.key),
            token: std::mem::take(&mut self.token),
            mark,
        });
    }
}

/// Makes the bytes of an entry, on another thread than a worker.
pub type Encode = Box<dyn FnOnce() -> Vec<u8> + Send>;

pub(super) enum Job {
    Put {
        keys: [String; 3],
        encode: Encode,
        varies: Vec<u8>,
        life: Duration,
        token: String,
        bytes: usize,
    },
    Release {
        key: String,
        token: String,
        mark: Duration,
    },
}

struct Scripts {
    look: Script,
    lease: Script,
    renew: Script,
    put: Script,
    release: Script,
    turn: Script,
}

/// See the module.
pub struct Tier {
    client: Client,
    /// The same for purges.
    pub(super) chain: Client,
    memory: Weak<dyn Memory>,
    stop: CancellationToken,
    pub(super) ledger: Mutex<Ledger>,
    in_step: AtomicBool,
    /// The ledger has something to submit.
    pub(super) wake: Notify,
    pub(super) channel: String,
    /// This process, so that it knows its own messages.
    pub(super) me: u64,
    scripts: Scripts,
    jobs: mpsc::Sender<Job>,
    waiting: AtomicUsize,
    /// What is counted.
    pub metrics: TierMetrics,
}

impl std::fmt::Debug for Tier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tier")
            .field("in_step", &self.is_in_step())
            .finish_non_exhaustive()
    }
}

impl Tier {
    /// A tier for `memory`, which other pods' purges reach from now on.
    #[must_use]
    pub fn start(client: &Client, memory: Weak<dyn Memory>, telemetry: &Telemetry) -> Arc<Self> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let client = client.purpose("cache");
        let tier = Arc::new(Self {
            channel: format!("{}:purges", client.namespace()),
            memory,
            stop: CancellationToken::new(),
            ledger: Mutex::default(),
            in_step: AtomicBool::new(false),
            wake: Notify::new(),
            me: rng::bits() | 1,
            scripts: Scripts {
                look: Script::new(LOOK),
                lease: Script::new(LEASE),
                renew: Script::new(RENEW),
                put: Script::new(PUT),
                release: Script::new(RELEASE),
                turn: Script::new(TURN),
            },
            jobs,
            waiting: AtomicUsize::new(0),
            metrics: TierMetrics::new(telemetry),
            chain: client.purpose("purges"),
            client,
        });
        let (stop, syncing) = (tier.stop.clone(), sync::keep(Arc::clone(&tier)));
        let writing = write(Arc::clone(&tier), queue);
        tier.client.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                ((), ()) = futures_util::future::join(syncing, writing) => {}
            }
        });
        tier
    }

    /// It is not asked any more, and asks nobody.
    pub fn stop(&self) {
        self.stop.cancel();
        self.ledger.lock().lost();
        self.in_step.store(false, Ordering::Release);
        self.metrics.in_step(false);
    }

    /// The client that it goes through.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn memory(&self, f: impl FnOnce(&dyn Memory)) {
        if let Some(memory) = self.memory.upgrade() {
            f(&*memory);
        }
    }

    /// Whether what is in Redis can be judged: this pod knows of every purge.
    #[must_use]
    pub fn is_in_step(&self) -> bool {
        self.in_step.load(Ordering::Acquire)
    }

    pub(super) fn tell_step(&self, ledger: &Ledger) {
        self.in_step.store(ledger.is_in_step(), Ordering::Release);
        self.metrics.in_step(ledger.is_in_step());
    }

    /// What an entry carries whose fetch begins now; `None` while it would not be believed.
    #[must_use]
    pub fn stamp(&self) -> Option<Id> {
        self.ledger.lock().stamp()
    }

    /// Whether an entry was purged by nothing that is known.
    #[must_use]
    pub fn vouches<'a>(
        &self,
        stamp: Id,
        url: &[u8],
        tags: impl IntoIterator<Item = &'a str>,
    ) -> bool {
        self.ledger.lock().vouches(stamp, url, tags)
    }

    /// Where the answer to a key stands; `url` is the part of it that is one.
    #[must_use]
    pub fn place(&self, url: &[u8], key: &[u8]) -> Place {
        Place::new(self.client.namespace(), url, key)
    }

    /// Looks, and where nothing is there takes the lease under `token` if nobody has it.
    ///
    /// # Errors
    /// When Redis is of no help within its deadline.
    pub async fn look(&self, place: &Place, token: Option<&str>) -> Result<Found, Away> {
        let (entry, lease, era) = (place.key("e"), place.key("l"), place.era());
        let keys = [entry.as_bytes(), lease.as_bytes(), era.as_bytes()];
        let lasting = LEASE_FOR.as_millis().to_string();
        let args = [token.unwrap_or_default().as_bytes(), lasting.as_bytes()];
        let within = self.client.deadline();
        let answer = self
            .client
            .run(&self.scripts.look, &keys, &args, within)
            .await?;
        found(answer).ok_or(Away::Refused)
    }

    /// Takes the lease, if nobody has it.
    ///
    /// # Errors
    /// As [`Self::look`].
    pub async fn lease(&self, place: &Place, token: &str) -> Result<Turn, Away> {
        let (key, lasting) = (place.key("l"), LEASE_FOR.as_millis().to_string());
        let args = [token.as_bytes(), lasting.as_bytes()];
        let within = self.client.deadline();
        let answer = self
            .client
            .run(&self.scripts.lease, &[key.as_bytes()], &args, within)
            .await?;
        Ok(turn(&answer))
    }

    /// A lease that was taken. It is renewed for `lasting`, which is as long as anybody waits.
    #[must_use]
    pub fn taken(self: &Arc<Self>, place: &Place, token: String, lasting: Duration) -> Lease {
        let key = place.key("l");
        let over = CancellationToken::new();
        let (tier, renewed) = (Arc::clone(self), (key.clone(), token.clone()));
        let ended = over.clone();
        self.client.spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                () = tier.renew(renewed, lasting) => {}
            }
        });
        Lease {
            tier: Arc::clone(self),
            key,
            token,
            mark: false,
            over: false,
            _renewed: over.drop_guard(),
        }
    }

    async fn renew(&self, (key, token): (String, String), lasting: Duration) {
        let millis = LEASE_FOR.as_millis().to_string();
        let mut left = lasting.saturating_sub(LEASE_FOR);
        while !left.is_zero() {
            tokio::time::sleep(RENEW_EVERY).await;
            left = left.saturating_sub(RENEW_EVERY);
            let args = [token.as_bytes(), millis.as_bytes()];
            let key = [key.as_bytes()];
            // Not renewed, it runs out, and another pod fetches too.
            let _ = self
                .client
                .run(&self.scripts.renew, &key, &args, WRITE)
                .await;
        }
    }

    /// Writes an entry some time soon: at `place`, or, where its selecting fields are `by`, beside it with a note in its
    /// place. Nobody waits for it; what does not fit is dropped and counted.
    pub fn put(
        &self,
        place: &Place,
        by: Option<(&[u8], Vec<u8>)>,
        life: Duration,
        bytes: usize,
        encode: impl FnOnce([u8; 32]) -> Vec<u8> + Send + 'static,
        lease: Option<Lease>,
    ) {
        if bytes > LARGEST {
            self.metrics.wrote(Write::TooLarge);
            // Nobody need wait for what will not come.
            if let Some(mut lease) = lease {
                lease.mark();
            }
            return;
        }
        let (at, varies) = match by {
            Some((by, varies)) => (place.selected(by), varies),
            None => (place.clone(), Vec::new()),
        };
        let of_lease = lease
            .as_ref()
            .map_or_else(|| at.key("l"), |lease| lease.key.clone());
        let keys = [at.key("e"), of_lease, place.key("e")];
        let digest = at.digest;
        let token = lease
            .as_ref()
            .map_or_else(String::new, |lease| lease.token.clone());
        let queued = self.queue(Job::Put {
            keys,
            encode: Box::new(move || encode(digest)),
            varies,
            life: life.min(LONGEST),
            token,
            bytes,
        });
        if let Some(mut lease) = lease {
            // Given back with the write.
            lease.over = queued;
        }
    }

    fn queue(&self, job: Job) -> bool {
        let bytes = match &job {
            Job::Put { bytes, .. } => *bytes,
            Job::Release { .. } => 0,
        };
        let is_put = bytes > 0;
        let before = self.waiting.fetch_add(bytes, Ordering::AcqRel);
        if before + bytes > QUEUE_BYTES || self.jobs.try_send(job).is_err() {
            self.waiting.fetch_sub(bytes, Ordering::AcqRel);
            if is_put {
                self.metrics.wrote(Write::Dropped);
            }
            return false;
        }
        true
    }

    /// A call has made the answers of a URL untrue: those in Redis, and those in the memory of other pods. Waits for Redis
    /// no longer than its deadline; what it does not take becomes a purge that is not lost.
    ///
    /// May be dropped while it waits: what was begun is done to its end.
    pub async fn invalidate(self: &Arc<Self>, url: &[u8]) {
        let (done, is_done) = oneshot::channel();
        let (tier, url): (_, Box<[u8]>) = (Arc::clone(self), url.into());
        self.client.spawn(async move {
            tier.turn(&url).await;
            let _ = done.send(());
        });
        let _ = tokio::time::timeout(self.client.deadline(), is_done).await;
    }

    async fn turn(&self, url: &[u8]) {
        let key = self.place(url, url).era();
        let era = name(rng::bits() | 1);
        let millis = ERA.as_millis().to_string();
        let message = sync::Message::Invalidate(self.me, url.into()).write();
        let args = [
            era.as_bytes(),
            millis.as_bytes(),
            self.channel.as_bytes(),
            &message,
        ];
        let key = [key.as_bytes()];
        let turned = self.chain.run(&self.scripts.turn, &key, &args, WRITE).await;
        if turned.is_err() {
            self.order(What::Url(url.into()), false);
        }
    }

    /// A purge for every pod. The memory of this one is purged already.
    pub fn order(&self, what: What, soft: bool) {
        let mut ledger = self.ledger.lock();
        let _ = ledger.order(rng::bits() | 1, soft, what);
        self.tell_step(&ledger);
        drop(ledger);
        self.wake.notify_one();
    }

    /// For a person.
    #[must_use]
    pub fn describe(&self) -> serde_json::Value {
        let ledger = self.ledger.lock();
        json!({
            "in_step": ledger.is_in_step(),
            "purges_pending": ledger.pending_count(),
            "head": name(ledger.head()),
            "bytes_to_write": self.waiting.load(Ordering::Acquire),
        })
    }
}

fn turn(value: &Value) -> Turn {
    match value {
        Value::Int(1) => Turn::Ours,
        Value::Int(2) => Turn::Nobodys,
        _ => Turn::Theirs,
    }
}

/// What the script answers: the entry or nothing, its time or whose turn it is, the era.
fn found(answer: Value) -> Option<Found> {
    let Value::Array(parts) = answer else {
        return None;
    };
    let [entry, number, era] = <[Value; 3]>::try_from(parts).ok()?;
    let era = match era {
        Value::BulkString(text) if text.is_empty() => 0,
        Value::BulkString(text) => {
            u64::from_str_radix(std::str::from_utf8(&text).ok()?, 16).ok()?
        }
        _ => return None,
    };
    Some(match (entry, number) {
        (Value::BulkString(bytes), Value::Int(left)) => Found {
            entry: Some((
                bytes.into(),
                Duration::from_millis(u64::try_from(left).ok()?),
            )),
            era,
            turn: Turn::Theirs,
        },
        (Value::Nil | Value::Boolean(false), number) => Found {
            entry: None,
            era,
            turn: turn(&number),
        },
        _ => return None,
    })
}

/// Writes what is queued, one after the other.
async fn write(tier: Arc<Tier>, mut queue: mpsc::Receiver<Job>) {
    while let Some(job) = queue.recv().await {
        match job {
            Job::Put {
                keys,
                encode,
                varies,
                life,
                token,
                bytes,
            } => {
                let value = encode();
                let millis = life.as_millis().to_string();
                let keys = [keys[0].as_bytes(), keys[1].as_bytes(), keys[2].as_bytes()];
                let args = [&value, millis.as_bytes(), token.as_bytes(), &varies[..]];
                let put = tier
                    .client
                    .run(&tier.scripts.put, &keys, &args, WRITE)
                    .await;
                tier.waiting.fetch_sub(bytes, Ordering::AcqRel);
                tier.metrics.wrote(match put {
                    Ok(_) => Write::Written,
                    Err(_) => Write::Failed,
                });
            }
            Job::Release { key, token, mark } => {
                let millis = mark.as_millis().to_string();
                let args = [token.as_bytes(), millis.as_bytes()];
                let key = [key.as_bytes()];
                // Not given back, it runs out by itself.
                let _ = tier
                    .client
                    .run(&tier.scripts.release, &key, &args, WRITE)
                    .await;
            }
        }
    }
}
