//! The skin of the cache room: keys, the store, the fetches, and what is told of them. What may be kept and used, the
//! machine says.

pub mod entry;
mod fetch;
pub mod fill;
mod index;
mod invalidating;
mod keys;
mod parts;
mod pump;
pub mod serve;
mod settle;
pub mod store;
mod tier;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;
use std::time::Instant;

use http::HeaderMap;
use http::Response;
use http::request::Parts;
use http_body::Body;
use pin_project_lite::pin_project;
use serde_json::Value;
use serde_json::json;
use tower::Layer;
use tower::Service;

use crate::http::Call;
use crate::http::Fault;
use crate::http::Kept;
use crate::http::LocalFuture;
use crate::http::Outcome;
use crate::http::Reason;
use crate::http::ResponseBody;
use crate::http::Trail;
use crate::http::note::Note;
use crate::policy::cache::Settings;
use crate::policy::cache::config::Cookies;
use crate::policy::cache::config::Credentialed;
use crate::policy::cache::layer::entry::Entry;
use crate::policy::cache::layer::entry::Fields;
use crate::policy::cache::layer::fetch::Work;
use crate::policy::cache::layer::invalidating::Invalidating;
use crate::policy::cache::layer::serve::Wish;
use crate::policy::cache::layer::store::Key;
use crate::policy::cache::layer::store::Resource;
use crate::policy::cache::layer::store::Store;
use crate::policy::cache::machine::Asked;
use crate::policy::cache::machine::Intake;
use crate::policy::cache::machine::Rules;
use crate::policy::cache::machine::Stored;
use crate::policy::cache::machine::Use;
use crate::policy::cache::machine::ask;
use crate::policy::cache::machine::reuse;
use crate::policy::cache::machine::reuse::Why;
use crate::policy::cache::machine::status::Forward;
use crate::policy::cache::machine::status::Told;
use crate::policy::cache::machine::vary;
use crate::policy::cache::metrics::Metrics;
use crate::policy::cache::metrics::Served;
use crate::shared::Tier;

/// What the calls of one route share.
#[derive(Debug)]
pub struct Guard {
    settings: Settings,
    rules: Rules,
    store: Arc<Store>,
    metrics: Metrics,
    /// Where calls go whatever their host says: a part of their keys.
    dialled: Option<SocketAddr>,
    /// What other pods know, where this route shares; `None` asks nobody.
    tier: Option<Arc<Tier>>,
    /// The longest that a call waits for another's fetch; zero is not at all.
    wait: Duration,
    /// The route has no cache, but another one of its upstream has: its calls make untrue what that one keeps.
    only_invalidates: bool,
}

impl Guard {
    /// `total` is the time that a call of the route has.
    #[must_use]
    pub fn new(
        settings: Settings,
        store: Arc<Store>,
        metrics: Metrics,
        dialled: Option<SocketAddr>,
        total: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            rules: rules(&settings),
            wait: settings.collapse.unwrap_or_default().min(total),
            tier: store.tier().filter(|_| settings.shared),
            settings,
            store,
            metrics,
            dialled,
            only_invalidates: false,
        })
    }

    /// For a route without a cache beside one that has: a POST to what another route answers from the store.
    #[must_use]
    pub fn watching(store: Arc<Store>, metrics: Metrics) -> Arc<Self> {
        let settings = Settings::default();
        Arc::new(Self {
            rules: rules(&settings),
            settings,
            store,
            metrics,
            dialled: None,
            tier: None,
            wait: Duration::ZERO,
            only_invalidates: true,
        })
    }

    /// What is changed or said of a call.
    fn enforces(&self) -> bool {
        self.settings.mode.enforces() && !self.only_invalidates
    }

    /// Whether a credential of the service will be put on the call further in. Its answer is then one to credentials (RFC 9111
    /// section 3.5), whatever the header is called: the field that carries it is our policy's choice, not HTTP's.
    fn is_vouched(&self, head: &Parts) -> bool {
        let settings = &self.settings;
        settings.vouched.as_ref().is_some_and(|vouched| {
            settings.credentialed != Credentialed::Own
                && (vouched.overwrite || !head.headers.contains_key(&vouched.header))
        })
    }

    /// What its calls came to, for a person.
    #[must_use]
    pub fn describe(&self) -> Value {
        if self.only_invalidates {
            return Value::Null;
        }
        let figures = self.metrics.figures();
        json!({
            "calls": figures.calls,
            "hits": figures.hits,
            "hit_ratio": figures.hit_ratio(),
            "saved": figures.saved,
        })
    }
}

fn rules(settings: &Settings) -> Rules {
    let negative = settings.negative.iter().flat_map(|negative| {
        let each = negative.statuses.iter();
        each.map(|status| (*status, negative.lasting))
    });
    Rules {
        default_ttl: settings.get,
        ttl_min: settings.ttl.min,
        ttl_max: settings.ttl.max,
        heuristic: settings.heuristic,
        negative: negative.collect(),
        stale_while_revalidate: settings.stale_while_revalidate.unwrap_or_default(),
        stale_if_error: settings.stale_if_error.unwrap_or_default(),
        cookies: settings.cookies == Cookies::Ignore,
        credentialed: settings.credentialed != Credentialed::Off,
    }
}

/// What a worker needs to know of a route's cache.
#[derive(Debug)]
pub struct Policy {
    guard: Arc<Guard>,
    /// Room for a key, and for one value of a field.
    scratch: RefCell<(Vec<u8>, Vec<u8>)>,
}

/// Answers calls out of the store; `None` passes all on.
#[derive(Clone, Debug)]
pub struct CacheLayer {
    policy: Option<Rc<Policy>>,
}

impl CacheLayer {
    /// A cache that goes by `guard`.
    #[must_use]
    pub fn new(guard: Option<Arc<Guard>>) -> Self {
        Self {
            policy: guard.map(|guard| {
                Rc::new(Policy {
                    guard,
                    scratch: RefCell::default(),
                })
            }),
        }
    }
}

impl<S> Layer<S> for CacheLayer {
    type Service = Cache<S>;

    fn layer(&self, inner: S) -> Cache<S> {
        Cache {
            inner,
            policy: self.policy.clone(),
        }
    }
}

/// See [`CacheLayer`].
#[derive(Clone, Debug)]
pub struct Cache<S> {
    inner: S,
    policy: Option<Rc<Policy>>,
}

/// What stands inside.
pub trait Fetches:
    Service<Call, Response = Response<ResponseBody>, Error = Fault, Future: 'static> + Clone + 'static
{
}

impl<S> Fetches for S where
    S: Service<Call, Response = Response<ResponseBody>, Error = Fault, Future: 'static>
        + Clone
        + 'static
{
}

impl<S: Fetches> Service<Call> for Cache<S> {
    type Response = Response<ResponseBody>;
    type Error = Fault;
    type Future = CacheFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let Some(policy) = &self.policy else {
            return CacheFuture::Passed {
                inner: self.inner.call(call),
            };
        };
        match policy.begin(&call) {
            Step::Unseen => CacheFuture::Passed {
                inner: self.inner.call(call),
            },
            Step::Pass(forward, why) => CacheFuture::Told {
                inner: self.inner.call(call),
                told: Told {
                    forward: Some(forward),
                    detail: Some(why),
                    ..Told::default()
                },
            },
            Step::Invalidates => {
                let policy = Rc::clone(policy);
                let calling = Invalidating::of(&call);
                let future = self.inner.call(call);
                CacheFuture::Working {
                    work: Box::pin(calling.run(policy, future)),
                }
            }
            Step::Answer(outcome) => CacheFuture::Ready {
                outcome: Some(outcome),
            },
            Step::Refresh(outcome, work) => {
                fetch::refresh(self.inner.clone(), policy, &call, work);
                CacheFuture::Ready {
                    outcome: Some(outcome),
                }
            }
            Step::Fetch(work) => CacheFuture::Working {
                work: fetch::fetch(self.inner.clone(), policy, call, work),
            },
        }
    }
}

pin_project! {
    /// A call that is answered, passed on, or fetched for all who ask.
    #[project = CacheProj]
    pub enum CacheFuture<F> {
        Passed { #[pin] inner: F },
        Told { #[pin] inner: F, told: Told },
        Ready { outcome: Option<Outcome> },
        Working { work: LocalFuture<Outcome> },
    }
}

impl<F: Future<Output = Outcome>> Future for CacheFuture<F> {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        match self.project() {
            CacheProj::Passed { inner } => inner.poll(cx),
            CacheProj::Told { inner, told } => {
                let mut outcome = ready!(inner.poll(cx));
                serve::tell(&mut outcome, told);
                Poll::Ready(outcome)
            }
            CacheProj::Ready { outcome } => Poll::Ready(
                outcome
                    .take()
                    .expect("a future is not polled after it is ready"),
            ),
            CacheProj::Working { work } => work.as_mut().poll(cx),
        }
    }
}

/// What is done with a call.
enum Step {
    /// Passed on, and nothing is said of it.
    Unseen,
    /// Passed on, and that is said.
    Pass(Forward, &'static str),
    /// Passed on; what it does to the upstream makes kept answers untrue.
    Invalidates,
    /// Answered.
    Answer(Outcome),
    /// Answered, and refreshed behind the client's back.
    Refresh(Outcome, Work),
    /// Fetched.
    Fetch(Work),
}

impl Policy {
    fn begin(&self, call: &Call) -> Step {
        let guard = &*self.guard;
        let head = &*call.head;
        let fields = Fields(&head.headers);
        let mut asked = match ask::read(head.method.as_str(), !call.body.is_end_stream(), &fields) {
            Intake::Serve(asked) => asked,
            Intake::Invalidates => return Step::Invalidates,
            _ if guard.only_invalidates => return Step::Unseen,
            Intake::Pass(why) => return self.pass(&call.trail, why.word()),
        };
        let scratch = &mut *self.scratch.borrow_mut();
        let (text, value) = (&mut scratch.0, &mut scratch.1);
        text.clear();
        self.write_key(head, &mut asked, text);
        asked.authorization |= guard.is_vouched(head);
        if asked.authorization && !guard.rules.credentialed {
            return self.pass(&call.trail, "authorization");
        }
        let lookup = guard.store.lookup(text);
        let found = guard.store.get(&lookup);
        let now = call.trail.now();
        let selected = found
            .as_ref()
            .and_then(|found| select(found, fields, value));
        if asked.range
            && selected.is_none()
            && let Some(found) = &found
            && let Some(step) = self.by_part(found, lookup.hash(), &asked, call, value)
        {
            return step;
        }
        let decision = match selected {
            Some(entry) => Some(reuse::judge(&asked, &entry.head.facts, &guard.rules, now)),
            None => reuse::missing(&asked),
        };
        let work = |forward| {
            let variant = found.as_ref().and_then(|found| found.variants.first());
            Work {
                asked,
                key: lookup.to_key(),
                entry: selected.cloned(),
                forward,
                variant: variant.map_or(0, |entry| self.variant(entry, &head.headers)),
            }
        };
        let served = match decision {
            Some(Use::Fresh) => Served::Fresh,
            Some(Use::Stale) => Served::MaxStale,
            Some(Use::Revalidating) => Served::StaleWhileRevalidate,
            Some(Use::GatewayTimeout) => return self.refuse(&call.trail),
            Some(Use::Bypass) => return self.pass(&call.trail, "personal"),
            Some(Use::Validate(Why::Request)) => return self.fetch(work(Forward::Request)),
            Some(Use::Validate(Why::Stale)) => return self.fetch(work(Forward::Stale)),
            None => return self.fetch(work(missed(found.as_deref()))),
        };
        if !guard.settings.mode.enforces() {
            guard.metrics.would_serve(served);
            return Step::Unseen;
        }
        let entry = selected.expect("only a kept answer can be used");
        let answer = self.answer(entry, &asked, &head.headers, &call.trail, now, served);
        call.trail
            .kept
            .set(Some(known(&entry.head.facts, lookup.hash(), now, true)));
        if served == Served::StaleWhileRevalidate {
            return Step::Refresh(Ok(answer), work(Forward::Stale));
        }
        Step::Answer(Ok(answer))
    }

    /// A call that only the upstream can answer. In shadow nobody waits for it, and no word of it is changed.
    fn fetch(&self, work: Work) -> Step {
        if !self.guard.settings.mode.enforces() {
            self.guard.metrics.would_serve(Served::Miss);
        }
        Step::Fetch(work)
    }

    fn pass(&self, trail: &Trail, why: &'static str) -> Step {
        let metrics = &self.guard.metrics;
        if !self.guard.settings.mode.enforces() {
            metrics.would_serve(Served::Bypass);
            return Step::Unseen;
        }
        self.note(trail, Served::Bypass, Some(why));
        Step::Pass(Forward::Bypass, why)
    }

    fn refuse(&self, trail: &Trail) -> Step {
        if !self.guard.settings.mode.enforces() {
            self.guard.metrics.would_serve(Served::OnlyIfCached);
            return Step::Unseen;
        }
        self.note(trail, Served::OnlyIfCached, None);
        let mut outcome = Err(Fault::unsent(Reason::OnlyIfCached));
        serve::tell(&mut outcome, &Told::default());
        Step::Answer(outcome)
    }

    /// Counts what was done with a call, and notes it for the log.
    fn note(&self, trail: &Trail, served: Served, why: Option<&'static str>) {
        self.guard.metrics.served(served);
        trail.cache.set(Some(served.word()));
        trail.cache_why.set(why);
        let did = served.word();
        trail.note(Note::Cache { did, why });
    }

    fn stored(&self, key: &Key) {
        self.guard.metrics.stored();
        self.guard.store.unmark(key.hash());
    }

    fn not_stored(&self, why: &'static str) {
        self.guard.metrics.not_stored(why);
    }

    fn mark(&self, key: &Key, now: Instant) {
        self.guard.store.mark(key.hash(), now);
    }

    /// The largest body that is kept.
    fn largest(&self) -> u64 {
        self.guard.settings.max_body.min(self.guard.store.largest())
    }

    fn answer(
        &self,
        entry: &Entry,
        asked: &Asked,
        request: &HeaderMap,
        trail: &Trail,
        now: Instant,
        served: Served,
    ) -> Response<ResponseBody> {
        self.note(trail, served, None);
        let told = Told {
            hit: true,
            ttl: Some(entry.head.facts.ttl(now)),
            ..Told::default()
        };
        serve::answer(entry, &wish(asked, request, trail, now), &told)
    }

    /// Which of the answers to one key a request would get, as a digest: fetches of different ones do not wait for one
    /// another.
    fn variant(&self, entry: &Entry, request: &HeaderMap) -> u64 {
        let selected = &entry.head.facts.selected;
        if selected.is_any() {
            return 0;
        }
        let (mut text, fields) = (Vec::new(), Fields(request));
        for name in selected.names() {
            let has = vary::normalise(name, &fields, &mut text);
            text.extend_from_slice(if has { b"\n=" } else { b"\n-" });
        }
        self.guard.store.digest(text) | 1
    }
}

/// What is known of an answer at `now`, for whoever tells of the call.
fn known(facts: &Stored, key: u64, now: Instant, stored: bool) -> Kept {
    Kept {
        key,
        age: facts.age(now),
        lifetime: facts.lifetime,
        source: facts.source.word(),
        stored,
    }
}

fn wish<'a>(asked: &Asked, request: &'a HeaderMap, trail: &Trail, now: Instant) -> Wish<'a> {
    let since = now.saturating_duration_since(trail.started);
    Wish {
        request,
        head: asked.head,
        conditional: asked.conditional,
        range: asked.range,
        now,
        now_unix: (trail.began + since).as_secs(),
    }
}

/// Why there is nothing to answer with.
fn missed(found: Option<&Resource>) -> Forward {
    let is_part = |entry: &Arc<Entry>| entry.head.facts.part.is_some();
    match found {
        None => Forward::UriMiss,
        Some(found) if found.variants.iter().all(is_part) => Forward::Partial,
        Some(_) => Forward::VaryMiss,
    }
}

/// The whole entry that a request selects, the more recent one of several.
fn select<'a>(
    found: &'a Resource,
    request: Fields<'_>,
    scratch: &mut Vec<u8>,
) -> Option<&'a Arc<Entry>> {
    let mut best: Option<&Arc<Entry>> = None;
    for entry in &found.variants {
        let facts = &entry.head.facts;
        if facts.part.is_none()
            && facts.selected.by(&request, scratch)
            && best.is_none_or(|best| vary::newer(facts, &best.head.facts).is_gt())
        {
            best = Some(entry);
        }
    }
    best
}

impl Policy {
    /// Puts an entry in the place of those that the same request selects.
    fn put(&self, key: &Key, stamp: store::Stamp, entry: &Arc<Entry>, request: &HeaderMap) -> bool {
        if entry.head.facts.part.is_some() {
            return self.put_part(key, stamp, entry, request);
        }
        let (fields, mut scratch) = (Fields(request), Vec::new());
        self.guard.store.change(key, Some(stamp), |old| {
            let others = old.iter().filter(|old| {
                let selected = &old.head.facts.selected;
                *selected != entry.head.facts.selected && !selected.by(&fields, &mut scratch)
            });
            let first = std::iter::once(Arc::clone(entry));
            Some(first.chain(others.cloned()).collect())
        })
    }

    /// Lets an entry go that its upstream has taken back.
    fn take_out(&self, key: &Key, stamp: store::Stamp, entry: &Arc<Entry>) {
        self.guard.store.change(key, Some(stamp), |old| {
            let kept = old.iter().filter(|old| !Arc::ptr_eq(old, entry));
            Some(kept.cloned().collect())
        });
    }
}
