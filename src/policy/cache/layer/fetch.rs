//! Fetching from the upstream: for one, for all who ask meanwhile, or for nobody who waits.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::HeaderMap;
use http::HeaderValue;
use http::Method;
use http::Response;
use http::StatusCode;
use http::header;
use http_body::Body;

use crate::clock;
use crate::http::Call;
use crate::http::Fault;
use crate::http::LocalFuture;
use crate::http::Outcome;
use crate::http::RequestBody;
use crate::http::ResponseBody;
use crate::http::Trail;
use crate::policy::cache::layer::Fetches;
use crate::policy::cache::layer::Policy;
use crate::policy::cache::layer::entry::Entry;
use crate::policy::cache::layer::entry::Fields;
use crate::policy::cache::layer::entry::Head;
use crate::policy::cache::layer::fill::Fill;
use crate::policy::cache::layer::fill::Lead;
use crate::policy::cache::layer::fill::News;
use crate::policy::cache::layer::fill::Reader;
use crate::policy::cache::layer::fill::Role;
use crate::policy::cache::layer::known;
use crate::policy::cache::layer::select;
use crate::policy::cache::layer::serve;
use crate::policy::cache::layer::store::Key;
use crate::policy::cache::layer::store::Refresh;
use crate::policy::cache::layer::tier::Pass;
use crate::policy::cache::layer::wish;
use crate::policy::cache::machine::Asked;
use crate::policy::cache::machine::Times;
use crate::policy::cache::machine::Use;
use crate::policy::cache::machine::reuse;
use crate::policy::cache::machine::status::Forward;
use crate::policy::cache::machine::status::Told;
use crate::policy::cache::machine::validate;
use crate::policy::cache::metrics::Refreshed;
use crate::policy::cache::metrics::Served;

/// Fetches of others that a call waits for before it fetches by itself.
const ROUNDS: usize = 3;

/// What has to be fetched, and what is kept of it already.
pub struct Work {
    pub asked: Asked,
    pub key: Key,
    /// What is kept and cannot be used as it is.
    pub entry: Option<Arc<Entry>>,
    /// Why the upstream is asked.
    pub forward: Forward,
    /// See [`Policy::variant`].
    pub variant: u64,
}

/// For whom a fetch is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// A client that waits.
    Client,
    /// A client that gets just what the upstream answers.
    Shadow,
    /// Nobody who waits: a stale answer is refreshed.
    Later,
}

pub struct Fetch<S> {
    inner: S,
    pub policy: Rc<Policy>,
    pub work: Work,
    /// The request's fields as the client sent them.
    pub request: HeaderMap,
    pub trail: Rc<Trail>,
    pub whom: For,
    /// What it takes to tell other pods of the answer.
    pub pass: Option<Pass>,
}

/// Fetches an answer to `call`, or waits for one who does.
pub fn fetch<S: Fetches>(
    inner: S,
    policy: &Rc<Policy>,
    call: Call,
    work: Work,
) -> LocalFuture<Outcome> {
    let is_shadow = !policy.guard.settings.mode.enforces();
    let fetch = Fetch {
        inner,
        policy: Rc::clone(policy),
        work,
        request: call.head.headers.clone(),
        trail: Rc::clone(&call.trail),
        whom: if is_shadow { For::Shadow } else { For::Client },
        pass: None,
    };
    Box::pin(fetch.run(call))
}

/// Refreshes what `call` was just answered with, behind its back, unless somebody does so already.
pub fn refresh<S: Fetches>(inner: S, policy: &Rc<Policy>, call: &Call, work: Work) {
    let store = &policy.guard.store;
    let Some(right) = store.refresh() else {
        return;
    };
    let stamp = store.stamp(&work.key.as_lookup());
    let Role::Lead(lead) = store.fills.join(&work.key, work.variant, stamp) else {
        return;
    };
    let now = clock::now();
    let trail = Trail::new(now);
    trail.peer.set(call.trail.peer.get());
    trail.trace.set(call.trail.trace.get());
    let request_id = call.trail.request_id.borrow().clone();
    trail.request_id.replace(request_id);
    let trail = Rc::new(trail);
    let mut head = call.head.clone();
    head.method = Method::GET;
    for name in validate::CONDITIONS {
        head.headers.remove(name);
    }
    head.headers.remove(header::RANGE);
    head.extensions.clear();
    let call = Call {
        head,
        body: RequestBody::Empty,
        trail: Rc::clone(&trail),
    };
    let mut fetch = Fetch {
        inner,
        policy: Rc::clone(policy),
        request: call.head.headers.clone(),
        work,
        trail,
        whom: For::Later,
        pass: None,
    };
    fetch.work.asked = Asked {
        head: false,
        conditional: false,
        range: false,
        directives: <_>::default(),
        ..fetch.work.asked
    };
    tokio::task::spawn_local(later(fetch, call, lead, right));
}

async fn later<S: Fetches>(fetch: Fetch<S>, call: Call, lead: Lead, right: Refresh) {
    // What is kept of the outcome is in the store by now, or a task of its own puts it there.
    drop(fetch.lead(call, lead).await);
    drop(right);
}

impl<S: Fetches> Fetch<S> {
    async fn run(mut self, call: Call) -> Outcome {
        let policy = Rc::clone(&self.policy);
        let guard = &*policy.guard;
        let lookup = self.work.key.as_lookup();
        let stamp = guard.store.stamp(&lookup);
        if !self.may_wait() {
            return self.lead(call, Lead::alone(stamp)).await;
        }
        let until = self.trail.now() + guard.wait;
        for _ in 0..ROUNDS {
            let stamp = guard.store.stamp(&self.work.key.as_lookup());
            let fill = match guard
                .store
                .fills
                .join(&self.work.key, self.work.variant, stamp)
            {
                Role::Follow(fill) => fill,
                Role::Lead(lead) => {
                    if let Some(answer) = self.look_again(&lead) {
                        return Ok(answer);
                    }
                    return self.lead(call, lead).await;
                }
            };
            let news = fill.news(until).await;
            self.trail.stamp(clock::now());
            match self.hear(news, fill) {
                Heard::Answer(answer) => return Ok(*answer),
                Heard::Join => {}
                Heard::Alone => break,
            }
        }
        let stamp = guard.store.stamp(&self.work.key.as_lookup());
        self.lead(call, Lead::alone(stamp)).await
    }

    /// Whether another call's answer would do, for all that the request says.
    fn may_wait(&self) -> bool {
        let guard = &*self.policy.guard;
        let asked = &self.work.asked;
        let wants = &asked.directives;
        self.whom == For::Client
            && !guard.wait.is_zero()
            && !(asked.head || asked.range || wants.no_cache || wants.no_store)
            // Without a copy of ours it is the client's own that is asked about.
            && (!asked.conditional || self.work.entry.is_some())
            && !guard.store.is_marked(self.work.key.hash(), self.trail.now())
    }

    /// Somebody may have fetched it between the look into the store and now.
    fn look_again(&self, lead: &Lead) -> Option<Response<ResponseBody>> {
        let policy = &*self.policy;
        let found = policy.guard.store.get(&self.work.key.as_lookup())?;
        let entry = select(&found, Fields(&self.request), &mut Vec::new())?;
        let is_known = self
            .work
            .entry
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, entry));
        if is_known {
            return None;
        }
        let answer = self.use_of_other(entry)?;
        lead.fill.done(Arc::clone(entry));
        Some(answer)
    }

    /// The answer that another call's entry gives, if it may be used.
    fn use_of_other(&self, entry: &Entry) -> Option<Response<ResponseBody>> {
        if !self.is_usable(&entry.head) {
            return None;
        }
        let (asked, request) = (&self.work.asked, &self.request);
        let (trail, now) = (&self.trail, self.trail.now());
        self.policy.note(trail, Served::Collapsed, None);
        self.know(&entry.head, true);
        let told = Told {
            forward: Some(self.work.forward),
            ttl: Some(entry.head.facts.ttl(now)),
            collapsed: true,
            ..Told::default()
        };
        Some(serve::answer(
            entry,
            &wish(asked, request, trail, now),
            &told,
        ))
    }

    fn is_usable(&self, head: &Head) -> bool {
        let (fields, rules) = (Fields(&self.request), &self.policy.guard.rules);
        let now = self.trail.now();
        head.facts.selected.by(&fields, &mut Vec::new())
            && reuse::judge(&self.work.asked, &head.facts, rules, now) == Use::Fresh
    }

    /// Notes what there is to know of an answer. `stored`: it is kept.
    pub fn know(&self, head: &Head, stored: bool) {
        let (key, now) = (self.work.key.hash(), self.trail.now());
        self.trail
            .kept
            .set(Some(known(&head.facts, key, now, stored)));
    }

    fn hear(&mut self, news: News, fill: Arc<Fill>) -> Heard {
        let head = match news {
            News::Released | News::Late => return Heard::Alone,
            News::Failed(why) => {
                let stale = why.and_then(|why| self.stand_in(why, None));
                return stale.map_or(Heard::Join, |stale| Heard::Answer(Box::new(stale)));
            }
            News::Done(entry) => match self.use_of_other(&entry) {
                Some(answer) => return Heard::Answer(Box::new(answer)),
                None => Arc::clone(&entry.head),
            },
            News::Begun(head) if !self.work.asked.conditional && self.is_usable(&head) => {
                return Heard::Answer(Box::new(self.read_along(&head, fill)));
            }
            News::Begun(head) => head,
        };
        let is_ours = head
            .facts
            .selected
            .by(&Fields(&self.request), &mut Vec::new());
        if is_ours {
            return Heard::Alone;
        }
        // It is another variant's fetch. Those who want this one wait for one another.
        let probe = Entry {
            head,
            body: <_>::default(),
        };
        self.work.variant = self.policy.variant(&probe, &self.request);
        Heard::Join
    }

    /// An answer that goes on arriving.
    fn read_along(&self, head: &Arc<Head>, fill: Arc<Fill>) -> Response<ResponseBody> {
        let now = self.trail.now();
        self.policy.note(&self.trail, Served::Collapsed, None);
        self.know(head, false);
        let told = Told {
            forward: Some(self.work.forward),
            ttl: Some(head.facts.ttl(now)),
            collapsed: true,
            ..Told::default()
        };
        let reader = Reader::new(fill, length_of(&head.fields));
        serve::whole(head, ResponseBody::driven(reader), now, &told)
    }

    /// Fetches.
    async fn lead(mut self, mut call: Call, lead: Lead) -> Outcome {
        if self.may_consult()
            && let Some(answer) = Box::pin(self.consult(&lead)).await
        {
            return Ok(answer);
        }
        let again = self.ask(&mut call);
        let requested = clock::now();
        let outcome = self.inner.call(call).await;
        let times = self.times(requested);
        match outcome {
            Err(fault) => self.failed(lead, Err(fault)),
            Ok(response) if self.is_failure(&response, times) => self.failed(lead, Ok(response)),
            Ok(response) if response.status() == StatusCode::NOT_MODIFIED && again.is_some() => {
                if let Some(outcome) = self.validated(&response, &lead, times) {
                    return outcome;
                }
                // It is about none of ours: what is kept is worth nothing, and the client has to have something.
                let Some(again) = again else {
                    return Ok(response);
                };
                drop(response);
                let requested = clock::now();
                let outcome = self.inner.call(again).await;
                let times = self.times(requested);
                match outcome {
                    Ok(response) if !self.is_failure(&response, times) => {
                        self.keep(lead, response, times).await
                    }
                    outcome => self.failed(lead, outcome),
                }
            }
            Ok(response) => {
                if again.is_some() {
                    let metrics = &self.policy.guard.metrics;
                    metrics.revalidation(Refreshed::Changed);
                }
                self.keep(lead, response, times).await
            }
        }
    }

    fn times(&self, requested: Instant) -> Times {
        let received = clock::now();
        self.trail.stamp(received);
        Times {
            requested,
            received,
            received_unix: clock::unix().as_secs(),
        }
    }

    /// Puts the validators of what is kept into a request. The same without them is given back, should it be needed.
    fn ask(&self, call: &mut Call) -> Option<Call> {
        let entry = self
            .work
            .entry
            .as_ref()
            .filter(|_| self.whom != For::Shadow)?;
        let question = entry.head.facts.question();
        if !question.asks() {
            return None;
        }
        let fields = &mut call.head.headers;
        for name in validate::CONDITIONS {
            fields.remove(name);
        }
        // What comes in place of the kept answer is wanted whole.
        fields.remove(header::RANGE);
        let again = call.fork();
        let fields = &mut call.head.headers;
        let mut put = |name, text: Option<&[u8]>| {
            if let Some(value) = text.and_then(|text| HeaderValue::from_bytes(text).ok()) {
                fields.insert(name, value);
            }
        };
        put(header::IF_NONE_MATCH, question.etag);
        put(header::IF_MODIFIED_SINCE, question.last_modified);
        Some(again)
    }
}

/// What a call does that waited for another.
enum Heard {
    /// It answers.
    Answer(Box<Response<ResponseBody>>),
    /// It waits on, or fetches for those who wait on.
    Join,
    /// It fetches for itself.
    Alone,
}

fn length_of(fields: &HeaderMap) -> Option<u64> {
    let text = fields.get(header::CONTENT_LENGTH)?.to_str().ok()?;
    text.parse().ok()
}

/// Reads the next part of a body.
pub(super) async fn next(
    body: &mut ResponseBody,
) -> Option<Result<http_body::Frame<bytes::Bytes>, Fault>> {
    poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
}
