//! The second tier: what other pods know, asked before the upstream is, and told what it answered.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Response;
use http::StatusCode;

use crate::clock;
use crate::http::ResponseBody;
use crate::policy::cache::layer::Fetches;
use crate::policy::cache::layer::entry::Entry;
use crate::policy::cache::layer::entry::Fields;
use crate::policy::cache::layer::entry::Head;
use crate::policy::cache::layer::fetch::Fetch;
use crate::policy::cache::layer::fetch::For;
use crate::policy::cache::layer::fill::Lead;
use crate::policy::cache::layer::serve;
use crate::policy::cache::layer::store::Purge;
use crate::policy::cache::layer::store::Store;
use crate::policy::cache::layer::wish;
use crate::policy::cache::machine::Stored;
use crate::policy::cache::machine::Use;
use crate::policy::cache::machine::reuse;
use crate::policy::cache::machine::status::Forward;
use crate::policy::cache::machine::status::Told;
use crate::policy::cache::machine::vary;
use crate::policy::cache::machine::wire;
use crate::policy::cache::machine::wire::Content;
use crate::policy::cache::machine::wire::Label;
use crate::policy::cache::machine::wire::Written;
use crate::policy::cache::metrics::Served;
use crate::rng;
use crate::shared::Lease;
use crate::shared::Memory;
use crate::shared::Place;
use crate::shared::Tier;
use crate::shared::Turn;
use crate::shared::What;
use crate::shared::metrics::Leased;
use crate::shared::metrics::Looked;

/// Between two looks while another pod fetches: this first, then twice as long each time up to the second.
const PAUSE: Duration = Duration::from_millis(4);
const PAUSE_MAX: Duration = Duration::from_millis(32);

/// What it takes to tell other pods of an answer that is fetched now.
pub struct Pass {
    tier: Arc<Tier>,
    place: Place,
    stamp: u64,
    era: u64,
    lease: Cell<Option<Lease>>,
}

impl Pass {
    /// Tells other pods of an entry that is kept.
    pub fn share(&self, entry: &Arc<Entry>, request: &HeaderMap) {
        let now = clock::now();
        let Some(life) = life(&entry.head.facts, now) else {
            return self.mark();
        };
        let selected = &entry.head.facts.selected;
        let mut by = Vec::new();
        let varies = (!selected.is_any()).then(|| {
            write_selected(selected.names(), request, &mut by);
            wire::varies(selected.names())
        });
        let (stamp, era) = (self.stamp, self.era);
        let bytes = entry.weight() as usize + wire::OVERHEAD;
        let entry = Arc::clone(entry);
        let encode = move |digest| {
            let label = Label {
                digest,
                stamp,
                era,
                life,
            };
            // It may have waited.
            encode(&entry, label, clock::now())
        };
        let lease = self.lease.take();
        let varies = varies.map(|note| (by.as_slice(), note));
        self.tier
            .put(&self.place, varies, life, bytes, encode, lease);
    }

    /// The answer is its fetcher's own.
    pub fn mark(&self) {
        if let Some(mut lease) = self.lease.take() {
            lease.mark();
        }
    }
}

/// How long an entry is of use to other pods; `None` if not at all.
fn life(facts: &Stored, now: Instant) -> Option<Duration> {
    if facts.part.is_some() {
        return None;
    }
    let gone = now.saturating_duration_since(facts.received);
    let left = facts.useful_for().saturating_sub(gone);
    let whole = Duration::from_millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
    (!whole.is_zero()).then(|| whole.min(crate::shared::LONGEST))
}

fn encode(entry: &Entry, label: Label, now: Instant) -> Vec<u8> {
    let fields = entry.head.fields.iter();
    let written = Written {
        label,
        facts: &entry.head.facts,
        fields: fields.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())),
        tags: entry.head.tags.iter().map(|tag| &**tag),
        body: &entry.body,
    };
    wire::entry(written, now)
}

fn write_selected<'n>(
    names: impl Iterator<Item = &'n str>,
    request: &HeaderMap,
    into: &mut Vec<u8>,
) {
    let fields = Fields(request);
    for name in names {
        into.extend_from_slice(name.as_bytes());
        into.push(b'=');
        let at = into.len();
        if !vary::normalise(name, &fields, into) {
            // Absent is not empty.
            into.truncate(at - 1);
        }
        into.push(b'\n');
    }
}

/// What an entry in Redis is good for.
enum Judged {
    /// It answers.
    Answer(Box<Response<ResponseBody>>),
    /// The answers stand beside its place.
    Beside(Place),
    /// Nothing, or only to be asked about.
    Useless,
}

/// A question to the other pods.
struct Asking<'a> {
    tier: &'a Arc<Tier>,
    lead: &'a Lead,
    /// Where the answer to the key stands, or a note that it stands beside.
    primary: Place,
    place: Place,
    /// The lease is taken under this name.
    token: Option<String>,
    waited: bool,
}

impl<S: Fetches> Fetch<S> {
    /// Whether other pods are asked: not for what only the upstream can say.
    pub fn may_consult(&self) -> bool {
        let guard = &*self.policy.guard;
        let wants = &self.work.asked.directives;
        guard.tier.is_some()
            && self.whom != For::Shadow
            && self.work.forward != Forward::Request
            && !(wants.no_cache || wants.no_store)
            && !guard
                .store
                .is_marked(self.work.key.hash(), self.trail.now())
    }

    /// Asks Redis. `None`: the upstream is to be asked, and what is left in `pass` says whether its answer can be shared.
    pub async fn consult(&mut self, lead: &Lead) -> Option<Response<ResponseBody>> {
        let policy = Rc::clone(&self.policy);
        let (tier, wait) = (policy.guard.tier.as_ref()?, policy.guard.wait);
        let (asked, key) = (&self.work.asked, &self.work.key);
        let collapses = !wait.is_zero() && !asked.head && !asked.range;
        let primary = tier.place(key.url(), key.text());
        let mut asking = Asking {
            tier,
            lead,
            place: primary.clone(),
            primary,
            token: collapses.then(|| format!("{:016x}", rng::bits())),
            waited: false,
        };
        let until = clock::now() + wait;
        let mut pause = PAUSE;
        loop {
            let turn = match self.look(&asking).await {
                Ok(Judged::Answer(answer)) => return Some(*answer),
                Ok(Judged::Beside(place)) => {
                    asking.place = place;
                    continue;
                }
                Ok(Judged::Useless) => {
                    let token = asking.token.as_deref()?;
                    tier.lease(&asking.place, token).await.ok()?
                }
                Err(turn) => turn?,
            };
            let token = asking.token.clone()?;
            match turn {
                Turn::Ours => {
                    tier.metrics.leased(Leased::Taken);
                    let lease = tier.taken(&asking.place, token, wait);
                    if let Some(pass) = &self.pass {
                        pass.lease.set(Some(lease));
                    }
                    return None;
                }
                Turn::Nobodys => return None,
                Turn::Theirs if clock::now() + pause > until => {
                    tier.metrics.leased(Leased::Alone);
                    return None;
                }
                Turn::Theirs => {
                    asking.waited = true;
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// One look. An error is that nothing is there, and whose turn it is; or that Redis is of no help.
    async fn look(&mut self, asking: &Asking<'_>) -> Result<Judged, Option<Turn>> {
        let tier = asking.tier;
        // Taken before the look: a purge in between is later than whatever is fetched after it.
        let stamp = tier.stamp();
        let looked = match stamp {
            Some(_) => tier.look(&asking.place, asking.token.as_deref()).await.ok(),
            None => None,
        };
        self.trail.stamp(clock::now());
        let Some((stamp, found)) = stamp.zip(looked) else {
            tier.metrics.looked(Looked::Away);
            return Err(None);
        };
        self.pass = Some(Pass {
            tier: Arc::clone(tier),
            place: asking.primary.clone(),
            stamp,
            era: found.era,
            lease: Cell::default(),
        });
        if let Some((bytes, left)) = found.entry {
            return Ok(self.judge(asking, &bytes, left, found.era));
        }
        if !asking.waited {
            tier.metrics.looked(Looked::Miss);
        }
        Err(Some(found.turn))
    }

    fn judge(&mut self, asking: &Asking<'_>, bytes: &Bytes, left: Duration, era: u64) -> Judged {
        let (tier, now) = (asking.tier, self.trail.now());
        let useless = |looked| {
            tier.metrics.looked(looked);
            Judged::Useless
        };
        let read = match wire::read(bytes, left, now) {
            Some(Content::Entry(read)) => *read,
            Some(Content::Varies(names)) if asking.place.digest == asking.primary.digest => {
                let mut by = Vec::new();
                write_selected(names.iter().map(|name| &**name), &self.request, &mut by);
                return Judged::Beside(asking.primary.selected(&by));
            }
            _ => return useless(Looked::Foreign),
        };
        let (label, tags) = (read.label, read.tags.iter().map(|tag| &**tag));
        if label.digest != asking.place.digest {
            return useless(Looked::Foreign);
        }
        if label.era != era || !tier.vouches(label.stamp, self.work.key.url(), tags) {
            return useless(Looked::Purged);
        }
        let Some(entry) = self.entry_of(read, bytes, asking) else {
            return useless(Looked::Foreign);
        };
        let entry = Arc::new(entry);
        let (asked, facts) = (&self.work.asked, &entry.head.facts);
        let is_newer = |old: &Arc<Entry>| vary::newer(facts, &old.head.facts).is_gt();
        match reuse::judge(asked, facts, &self.policy.guard.rules, now) {
            Use::Fresh | Use::Stale => {}
            Use::Bypass => return useless(Looked::Stale),
            _ => {
                if self.work.entry.as_ref().is_none_or(is_newer) {
                    self.work.entry = Some(entry);
                }
                return useless(Looked::Stale);
            }
        }
        let (key, lead) = (&self.work.key, asking.lead);
        // Refused if a purge came meanwhile; this call asked before it.
        let _ = self.policy.put(key, lead.fill.stamp, &entry, &self.request);
        lead.fill.done(Arc::clone(&entry));
        if asking.waited {
            tier.metrics.leased(Leased::Waited);
        }
        tier.metrics.looked(Looked::Hit);
        if self.whom == For::Client {
            self.policy.note(&self.trail, Served::Fresh, Some("shared"));
        }
        let told = Told {
            hit: true,
            ttl: Some(entry.head.facts.ttl(now)),
            detail: Some("shared"),
            ..Told::default()
        };
        let wish = wish(asked, &self.request, &self.trail, now);
        Judged::Answer(Box::new(serve::answer(&entry, &wish, &told)))
    }

    /// The entry that was read, if it is one that this request selects.
    fn entry_of(&self, read: wire::Read, bytes: &Bytes, asking: &Asking<'_>) -> Option<Entry> {
        let mut fields = HeaderMap::with_capacity(read.fields.len());
        for (name, value) in read.fields {
            let name = HeaderName::from_bytes(&bytes[name]).ok()?;
            let value = HeaderValue::from_maybe_shared(bytes.slice(value)).ok()?;
            fields.append(name, value);
        }
        let selected = vary::select(&Fields(&fields), &Fields(&self.request))?;
        let mut by = Vec::new();
        write_selected(selected.names(), &self.request, &mut by);
        let place = if selected.is_any() {
            asking.primary.digest
        } else {
            asking.primary.selected(&by).digest
        };
        if place != asking.place.digest {
            return None;
        }
        let head = Head {
            status: StatusCode::from_u16(read.facts.status).ok()?,
            fields,
            facts: Stored {
                selected,
                ..read.facts
            },
            tags: read.tags.into(),
        };
        Some(Entry {
            head: Arc::new(head),
            body: bytes.slice(read.body),
        })
    }
}

impl Store {
    /// What other pods know, where policy has them share.
    #[must_use]
    pub fn tier(&self) -> Option<Arc<Tier>> {
        self.tier.load_full()
    }

    /// Shares from now on through this one; who asks before goes on with the one it has.
    pub fn share(&self, tier: Option<Arc<Tier>>) {
        if let Some(old) = self.tier.swap(tier) {
            old.stop();
        }
    }
}

impl Memory for Store {
    fn purge(&self, what: &What, soft: bool) {
        let named = match what {
            What::All => Purge::All,
            What::Url(url) => Purge::Url(url.clone()),
            What::Tag(tag) => Purge::Tag(tag.clone()),
        };
        let _ = Store::purge(self, &named, soft, clock::now());
    }

    fn invalidate(&self, url: &[u8]) {
        let _ = Store::invalidate(self, &self.lookup(url));
    }
}
