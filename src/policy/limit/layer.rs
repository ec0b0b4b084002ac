//! The skin of the limit room: clock, digests, locks, and the fields of the answer.

mod leases;
mod shared;

use std::hash::BuildHasher;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;
use std::hash::RandomState;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use std::time::Instant;

use http::HeaderName;
use http::HeaderValue;
use parking_lot::Mutex;
use pin_project_lite::pin_project;
use pingora_limits::estimator::Estimator;
use serde_json::Value;
use serde_json::json;
use tower::Layer;
use tower::Service;

use crate::http::Call;
use crate::http::Fault;
use crate::http::Outcome;
use crate::http::Reason;
use crate::http::ResponseBody;
use crate::http::note::Fate;
use crate::http::note::Note;
use crate::kit::gcra::Bucket;
use crate::kit::gcra::Quota;
use crate::kit::gcra::Standing;
use crate::kit::gcra::Verdict;
use crate::kit::mode::Mode;
use crate::policy::limit::Settings;
use crate::policy::limit::config::Headers;
use crate::policy::limit::config::Scope;
use crate::policy::limit::config::Selector;
use crate::policy::limit::machine;
use crate::policy::limit::machine::Counts;
use crate::policy::limit::machine::Judged;
use crate::policy::limit::machine::Key;
use crate::policy::limit::machine::Light;
use crate::policy::limit::machine::Shard;
use crate::policy::limit::machine::lease::By;
use crate::policy::limit::machine::lease::Terms;
use crate::policy::limit::metrics::Metrics;
use crate::telemetry::Gauge;

use leases::Leases;
use leases::Name;

pub use leases::Asking;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");

/// Shards of the keys that have a bucket: workers seldom wait for one another, and a sweep holds up one in so many.
const SHARDS: usize = 16;
/// With fewer keys for each shard than this, chance would fill one long before the others.
const SHARD_LEAST: usize = 64;

/// The sketch behind the estimate: at worst, and in one of fifty keys, too high by about three calls for each `slots` calls
/// judged by it. 4 x 8192 counters of 8 bytes are 256 KiB a window, and there are none while every key has a bucket.
pub(super) struct Sketch {
    counts: Estimator,
    slots: u64,
}

impl Sketch {
    const HASHES: usize = 4;
    const SLOTS_LEAST: usize = 1024;
    const SLOTS_MOST: usize = 8192;
}

impl Counts for Sketch {
    fn sized(keys: usize) -> Self {
        let slots = keys.clamp(Self::SLOTS_LEAST, Self::SLOTS_MOST);
        Self {
            counts: Estimator::new(Self::HASHES, slots),
            slots: slots as u64,
        }
    }

    fn add(&self, key: Key, calls: u64) {
        self.counts
            .incr(key, isize::try_from(calls).unwrap_or(isize::MAX));
    }

    fn of(&self, key: Key) -> u64 {
        // Below zero is an overflow: more calls than anybody can make.
        u64::try_from(self.counts.get(key)).unwrap_or(u64::MAX / 4)
    }

    fn clear(&self) {
        self.counts.reset();
    }

    fn noise(&self, calls: u64) -> u64 {
        // A counter holds `calls / slots` on average. That the least of four is as far above it as this happens to fewer
        // than one key in four hundred.
        (4 * calls / self.slots).min(2 * calls / self.slots + 2)
    }
}

enum Buckets {
    /// In Redis, of all pods.
    Shared(Leases),
    One(Bucket),
    Many {
        shards: Box<[Mutex<Shard>]>,
        light: Mutex<Light<Sketch>>,
    },
}

/// The limit of one upstream or route, shared by all workers and carried over a reload.
pub struct Limiter {
    settings: Settings,
    quota: Quota,
    buckets: Buckets,
    /// Two hashers under random seeds; their digests side by side are the key.
    seeds: [RandomState; 2],
    epoch: Instant,
    /// The name as a structured-fields string.
    name: Box<str>,
    policy: HeaderValue,
    keys: Gauge,
}

impl Limiter {
    /// A limit with what `before`, the same limit under earlier settings, says of its callers. `name` is how answers call it;
    /// `keys` is told how many keys there are.
    #[must_use]
    pub fn new(
        name: &str,
        settings: Settings,
        keys: Gauge,
        now: Instant,
        before: Option<&Self>,
    ) -> Arc<Self> {
        let before = before.filter(|before| before.settings.per == settings.per);
        let name = quoted(name);
        let policy = format!(
            "{name};q={};w={}",
            settings.rate.calls,
            settings.rate.per.as_secs()
        );
        let limiter = Self {
            quota: settings.quota(),
            buckets: Buckets::of(&settings),
            seeds: before.map_or_else(
                || [RandomState::new(), RandomState::new()],
                |before| before.seeds.clone(),
            ),
            epoch: before.map_or(now, |before| before.epoch),
            policy: HeaderValue::from_str(&policy).expect("a quoted name is visible ASCII"),
            name,
            settings,
            keys,
        };
        match before {
            Some(before) => limiter.carried(before, now),
            None => Arc::new(limiter),
        }
    }

    fn carried(mut self, before: &Self, now: Instant) -> Arc<Self> {
        let now = self.nanos(now);
        match (&mut self.buckets, &before.buckets) {
            (Buckets::One(bucket), Buckets::One(old)) => {
                *bucket = Bucket::new(self.quota.carry(&before.quota, old.full_at(), now));
            }
            (Buckets::Many { shards, light }, Buckets::Many { shards: old, .. }) => {
                for shard in old {
                    shard.lock().each(|key, full_at| {
                        let full_at = self.quota.carry(&before.quota, full_at, now);
                        let place = shard_of(key, shards.len());
                        if !shards[place].get_mut().adopt(key, full_at) {
                            let left = self.quota.standing(full_at, now).left;
                            let used = self.quota.burst() - left;
                            light.get_mut().add(key, used, now);
                        }
                    });
                }
            }
            _ => {}
        }
        Arc::new(self)
    }

    /// What it was built from.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What an answer would say of it, for a person.
    #[must_use]
    pub fn describe(&self, now: Instant) -> Value {
        let now = self.nanos(now);
        match &self.buckets {
            Buckets::One(bucket) => json!({
                "remaining": self.quota.standing(bucket.full_at(), now).left,
                "burst": self.quota.burst(),
            }),
            Buckets::Shared(leases) => leases.describe(now),
            Buckets::Many { shards, light } => json!({
                "keys": shards.iter().map(|shard| shard.lock().len()).sum::<usize>(),
                "keys_max": self.settings.keys,
                "estimating": light.lock().is_used(now),
                "burst": self.quota.burst(),
            }),
        }
    }

    /// Forgets what is full again and brings the gauge up to date.
    pub fn refresh(&self, now: Instant) {
        if let Some(leases) = self.leases()
            && !self.settings.per.is_empty()
        {
            self.keys
                .set(i64::try_from(leases.len()).unwrap_or(i64::MAX));
        }
        if let Buckets::Many { shards, light } = &self.buckets {
            let now = self.nanos(now);
            light.lock().is_used(now);
            let mut kept = 0;
            for shard in shards {
                let mut shard = shard.lock();
                shard.sweep(now);
                kept += shard.len();
            }
            self.keys.set(i64::try_from(kept).unwrap_or(i64::MAX));
        }
    }

    /// Judges a call.
    pub(super) fn judge(&self, call: &Call) -> Judged {
        let now = self.nanos(call.trail.now());
        match &self.buckets {
            Buckets::One(bucket) => Judged {
                verdict: bucket.take(&self.quota, now),
                estimated: false,
                away: false,
            },
            Buckets::Many { shards, light } => {
                let key = self.key(call);
                let mut shard = shards[shard_of(key, shards.len())].lock();
                match shard.take(&self.quota, key, now) {
                    Some(verdict) => Judged {
                        verdict,
                        estimated: false,
                        away: false,
                    },
                    // Always in this order: the shard, then the estimate.
                    None => machine::newcomer(&mut shard, &mut light.lock(), &self.quota, key, now),
                }
            }
            Buckets::Shared(leases) => {
                let name = |is_own: bool| self.bucket(is_own.then_some(call));
                let (taken, is_crowded) = leases.take(|| self.key(call), name, now);
                Judged {
                    verdict: taken.verdict,
                    estimated: is_crowded,
                    away: taken.by == By::Away,
                }
            }
        }
    }

    fn key(&self, call: &Call) -> Key {
        let [one, other] = &self.seeds;
        let mut digest = Digest(one.build_hasher(), other.build_hasher());
        for selector in &self.settings.per {
            match selector {
                // Each value is told apart by its length, and an absent header by their number.
                Selector::Header(name) => {
                    let mut count = 0_usize;
                    for value in call.head.headers.get_all(name) {
                        value.as_bytes().hash(&mut digest);
                        count += 1;
                    }
                    count.hash(&mut digest);
                }
                Selector::Path => call.head.uri.path().hash(&mut digest),
                Selector::Method => call.head.method.as_str().hash(&mut digest),
                Selector::Source => call.trail.peer.get().hash(&mut digest),
                Selector::Peer => match call.trail.caller.borrow().as_deref() {
                    Some(caller) => caller.id.hash(&mut digest),
                    None => call.trail.peer.get().hash(&mut digest),
                },
            }
        }
        Key(digest.0.finish(), digest.1.finish())
    }

    fn bucket(&self, call: Option<&Call>) -> Name {
        leases::name(&self.name, &self.settings.per, call)
    }

    fn leases(&self) -> Option<&Leases> {
        match &self.buckets {
            Buckets::Shared(leases) => Some(leases),
            Buckets::One(_) | Buckets::Many { .. } => None,
        }
    }

    fn nanos(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.epoch);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    fn state(&self, standing: &Standing) -> HeaderValue {
        let text = format!(
            "{};r={};t={}",
            self.name,
            standing.left,
            whole_seconds(standing.more_in)
        );
        HeaderValue::from_str(&text).expect("a quoted name and digits are visible ASCII")
    }
}

impl std::fmt::Debug for Limiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limiter")
            .field("name", &self.name)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Buckets {
    fn of(settings: &Settings) -> Self {
        if let Scope::Global(away) = settings.scope {
            let quota = settings.quota();
            let is_keyed = !settings.per.is_empty();
            let terms = Terms { quota, away };
            return Self::Shared(Leases::new(terms, is_keyed, settings.keys as usize));
        }
        if settings.per.is_empty() {
            return Self::One(Bucket::default());
        }
        let most = settings.keys as usize;
        let count = (most / SHARD_LEAST).clamp(1, SHARDS);
        let shard = |at: usize| Shard::new(most / count + usize::from(at < most % count));
        let quota = settings.quota();
        Self::Many {
            shards: (0..count).map(|at| Mutex::new(shard(at))).collect(),
            light: Mutex::new(Light::new(&quota, most)),
        }
    }
}

fn shard_of(key: Key, count: usize) -> usize {
    (key.1 % count as u64) as usize
}

/// Both digests of the same bytes.
struct Digest(DefaultHasher, DefaultHasher);

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
        self.1.write(bytes);
    }

    fn finish(&self) -> u64 {
        self.0.finish()
    }
}

/// A string of structured fields (RFC 9651 section 3.3.3); what may not stand in one is left out.
fn quoted(name: &str) -> Box<str> {
    let mut text = String::with_capacity(name.len() + 2);
    text.push('"');
    for c in name.chars().filter(|c| matches!(c, ' '..='~')) {
        if matches!(c, '"' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('"');
    text.into_boxed_str()
}

/// Rounded up: coming back early would only be refused again.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// A limit, and how one route obeys it.
#[derive(Clone, Debug)]
pub struct Guard {
    /// The limit.
    pub limiter: Arc<Limiter>,
    /// The route's mode, which may only watch a limit that others obey.
    pub mode: Mode,
    /// Which of the route's answers tell of it.
    pub headers: Headers,
    /// What is counted about the route.
    pub metrics: Arc<Metrics>,
}

impl Guard {
    /// The limit as this route has it, for a person.
    #[must_use]
    pub fn describe(&self, now: Instant) -> Value {
        let mut told = self.limiter.describe(now);
        told["mode"] = self.mode.word().into();
        told
    }

    /// `None` if the call may pass; its standing if the answer is to tell it.
    fn admit(&self, call: &Call) -> Result<Option<Standing>, Fault> {
        let judged = self.limiter.judge(call);
        if judged.estimated {
            self.metrics.estimated();
        }
        self.note(call, &judged.verdict);
        if judged.away {
            self.metrics.away();
        }
        match judged.verdict {
            Verdict::Pass(standing) => {
                let is_told = self.headers == Headers::All && self.mode.enforces();
                Ok(is_told.then_some(standing))
            }
            Verdict::Refuse(_) if !self.mode.enforces() => {
                self.metrics.would_refuse();
                Ok(None)
            }
            Verdict::Refuse(standing) => {
                self.metrics.refused();
                let mut fault = Fault::unsent(Reason::Limit).after(standing.more_in);
                if self.headers != Headers::Off {
                    fault.fields = self.fields(&standing).into();
                }
                Err(fault)
            }
        }
    }

    fn note(&self, call: &Call, verdict: &Verdict) {
        let (fate, standing) = match verdict {
            Verdict::Pass(standing) => (Fate::Passed, standing),
            Verdict::Refuse(standing) if self.mode.enforces() => (Fate::Refused, standing),
            Verdict::Refuse(standing) => (Fate::WouldRefuse, standing),
        };
        call.trail.note(Note::Limit {
            fate,
            left: standing.left,
            more_in: standing.more_in,
        });
    }

    fn fields(&self, standing: &Standing) -> [(HeaderName, HeaderValue); 2] {
        [
            (POLICY, self.limiter.policy.clone()),
            (STATE, self.limiter.state(standing)),
        ]
    }

    fn tell(&self, standing: &Standing, outcome: &mut Outcome) {
        for (name, value) in self.fields(standing) {
            match outcome {
                // Behind what the upstream says of its own limits, as a further member of the list.
                Ok(response) => drop(response.headers_mut().append(name, value)),
                Err(fault) => fault.fields.push((name, value)),
            }
        }
    }
}

/// Holds calls to a limit; `None` is off.
#[derive(Clone, Debug)]
pub struct LimitLayer {
    guard: Option<Rc<Guard>>,
}

impl LimitLayer {
    /// Judges by `guard`.
    #[must_use]
    pub fn new(guard: Option<Guard>) -> Self {
        Self {
            guard: guard.map(Rc::new),
        }
    }
}

impl<S> Layer<S> for LimitLayer {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        Limited {
            inner,
            guard: self.guard.clone(),
        }
    }
}

/// See [`LimitLayer`].
#[derive(Clone, Debug)]
pub struct Limited<S> {
    inner: S,
    guard: Option<Rc<Guard>>,
}

impl<S> Service<Call> for Limited<S>
where
    S: Service<Call, Response = http::Response<ResponseBody>, Error = Fault>,
{
    type Response = S::Response;
    type Error = Fault;
    type Future = LimitFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let told = match &self.guard {
            None => None,
            Some(guard) => match guard.admit(&call) {
                Ok(standing) => standing.map(|standing| (Rc::clone(guard), standing)),
                Err(fault) => return LimitFuture::Refused { fault: Some(fault) },
            },
        };
        LimitFuture::Passed {
            inner: self.inner.call(call),
            told,
        }
    }
}

pin_project! {
    /// A call that was refused, or is on its way, perhaps with something to tell the client.
    #[project = LimitProj]
    pub enum LimitFuture<F> {
        Refused { fault: Option<Fault> },
        Passed { #[pin] inner: F, told: Option<(Rc<Guard>, Standing)> },
    }
}

impl<F: Future<Output = Outcome>> Future for LimitFuture<F> {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        match self.project() {
            LimitProj::Refused { fault } => {
                let fault = fault.take();
                Poll::Ready(Err(fault.expect("a future is not polled after it is ready")))
            }
            LimitProj::Passed { inner, told } => {
                let Poll::Ready(mut outcome) = inner.poll(cx) else {
                    return Poll::Pending;
                };
                if let Some((guard, standing)) = told.take() {
                    guard.tell(&standing, &mut outcome);
                }
                Poll::Ready(outcome)
            }
        }
    }
}
