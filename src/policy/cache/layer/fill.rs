//! A response on its way into the store, read by everybody who asked for it meanwhile.
//!
//! One call fetches, the others wait for what it learns: a head to stream behind, an entry to use, or word that each has to
//! go by itself. Readers may live on other workers than the fetch.

use std::collections::HashMap;
use std::collections::hash_map;
use std::future::poll_fn;
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use parking_lot::Mutex;

use crate::http::Fault;
use crate::http::Reason;
use crate::policy::cache::layer::entry::Entry;
use crate::policy::cache::layer::entry::Head;
use crate::policy::cache::layer::store::Key;
use crate::policy::cache::layer::store::Stamp;

/// Shards of the register of fills.
const SHARDS: usize = 16;

/// What those who wait for a fill get to know.
#[derive(Clone, Debug)]
pub enum News {
    /// The head is here, and the body will follow and be as long as it says.
    Begun(Arc<Head>),
    /// All of it is here.
    Done(Arc<Entry>),
    /// The answer is nobody's but the fetcher's: each has to ask for itself.
    Released,
    /// The fetch ended without an answer, because of this; `None`: its client left.
    Failed(Option<&'static str>),
    /// It took longer than the one who waits wants to wait.
    Late,
}

#[derive(Debug)]
enum Phase {
    Waiting,
    Begun(Arc<Head>),
    Done(Arc<Entry>),
    Released,
    Failed(Option<&'static str>),
}

#[derive(Debug, Default)]
struct Wakers {
    slots: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Wakers {
    fn register(&mut self, slot: &mut Option<usize>, waker: &Waker) {
        let at = *slot.get_or_insert_with(|| {
            self.free.pop().unwrap_or_else(|| {
                self.slots.push(None);
                self.slots.len() - 1
            })
        });
        match &mut self.slots[at] {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    fn forget(&mut self, slot: Option<usize>) {
        if let Some(at) = slot {
            self.slots[at] = None;
            self.free.push(at);
        }
    }

    fn take(&mut self) -> Vec<Waker> {
        self.slots.iter_mut().filter_map(Option::take).collect()
    }
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// What was read of the body so far.
    chunks: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    /// The body is complete.
    ended: bool,
    /// It never will be.
    broken: Option<Reason>,
    wakers: Wakers,
}

/// See the module.
#[derive(Debug)]
pub struct Fill {
    /// What the store was like for this key when the fetch began.
    pub stamp: Stamp,
    state: Mutex<State>,
}

impl Fill {
    /// A fetch that begins.
    #[must_use]
    pub fn new(stamp: Stamp) -> Arc<Self> {
        Arc::new(Self {
            stamp,
            state: Mutex::new(State {
                phase: Phase::Waiting,
                chunks: Vec::new(),
                trailers: None,
                ended: false,
                broken: None,
                wakers: Wakers::default(),
            }),
        })
    }

    fn change(&self, f: impl FnOnce(&mut State)) {
        let woken = {
            let mut state = self.state.lock();
            f(&mut state);
            state.wakers.take()
        };
        // Outside the lock: a waker may run whatever it likes.
        woken.into_iter().for_each(Waker::wake);
    }

    /// The head is known and the body's length too.
    pub fn begin(&self, head: Arc<Head>) {
        self.change(|state| state.phase = Phase::Begun(head));
    }

    /// A part of the body.
    pub fn push(&self, chunk: Bytes) {
        self.change(|state| state.chunks.push(chunk));
    }

    /// The end of the body: there is an entry that serves.
    pub fn end(&self, entry: Arc<Entry>, trailers: Option<HeaderMap>) {
        self.change(|state| {
            state.phase = Phase::Done(entry);
            state.trailers = trailers;
            state.ended = true;
        });
    }

    /// The body ended part-way.
    pub fn break_off(&self, reason: Reason) {
        self.change(|state| {
            state.broken = Some(reason);
            state.phase = Phase::Failed(Some(reason.word()));
        });
    }

    /// There is an entry that serves.
    pub fn done(&self, entry: Arc<Entry>) {
        self.change(|state| state.phase = Phase::Done(entry));
    }

    /// Sends those who wait on their own way.
    pub fn release(&self) {
        self.change(|state| state.phase = Phase::Released);
    }

    /// The upstream failed.
    pub fn fail(&self, why: &'static str) {
        self.change(|state| state.phase = Phase::Failed(Some(why)));
    }

    /// Nobody fetches any more. Says nothing where all was said before.
    pub fn abandon(&self) {
        self.change(|state| match state.phase {
            Phase::Waiting => state.phase = Phase::Failed(None),
            Phase::Begun(_) => {
                state.broken = Some(Reason::ResponseAborted);
                state.phase = Phase::Failed(None);
            }
            Phase::Done(_) | Phase::Released | Phase::Failed(_) => {}
        });
    }

    /// What was read of the body so far, in one piece of its own: what came from the network is a part of a larger buffer
    /// and would keep it all.
    #[must_use]
    pub fn collect(&self) -> Bytes {
        let chunks = self.state.lock().chunks.clone();
        let mut body = Vec::with_capacity(chunks.iter().map(Bytes::len).sum());
        for chunk in &chunks {
            body.extend_from_slice(chunk);
        }
        body.into()
    }

    /// Waits until there is news, or until then.
    pub async fn news(&self, until: Instant) -> News {
        let mut watch = Watch {
            fill: self,
            slot: None,
        };
        let mut timer = pin!(tokio::time::sleep_until(until.into()));
        poll_fn(|cx| match watch.poll(cx) {
            Poll::Ready(news) => Poll::Ready(news),
            Poll::Pending => timer.as_mut().poll(cx).map(|()| News::Late),
        })
        .await
    }
}

/// One that waits.
struct Watch<'a> {
    fill: &'a Fill,
    slot: Option<usize>,
}

impl Watch<'_> {
    fn poll(&mut self, cx: &Context<'_>) -> Poll<News> {
        let mut state = self.fill.state.lock();
        match &state.phase {
            Phase::Done(entry) => Poll::Ready(News::Done(Arc::clone(entry))),
            Phase::Begun(head) => Poll::Ready(News::Begun(Arc::clone(head))),
            Phase::Released => Poll::Ready(News::Released),
            Phase::Failed(why) => Poll::Ready(News::Failed(*why)),
            Phase::Waiting => {
                state.wakers.register(&mut self.slot, cx.waker());
                Poll::Pending
            }
        }
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.fill.state.lock().wakers.forget(self.slot);
    }
}

/// What a reader is given.
#[derive(Debug)]
pub enum Part {
    /// A part of the body.
    Data(Bytes),
    /// What follows the body.
    Trailers(HeaderMap),
    /// The end.
    End,
    /// It ended part-way.
    Broken(Reason),
    /// There is no more here: the fetcher reads on by itself.
    Elsewhere,
}

impl Part {
    /// As a frame of a body; `None` is its end.
    #[must_use]
    pub fn into_frame(self) -> Option<Result<Frame<Bytes>, Fault>> {
        match self {
            Self::Data(bytes) => Some(Ok(Frame::data(bytes))),
            Self::Trailers(trailers) => Some(Ok(Frame::trailers(trailers))),
            Self::End => None,
            Self::Broken(reason) => Some(Err(Fault::maybe_sent(reason))),
            Self::Elsewhere => Some(Err(Fault::maybe_sent(Reason::ResponseAborted))),
        }
    }
}

/// Reads the body of a fill from its beginning, as it arrives.
#[derive(Debug)]
pub struct Reader {
    fill: Arc<Fill>,
    next: usize,
    taken: u64,
    length: Option<u64>,
    slot: Option<usize>,
    over: bool,
}

impl Reader {
    /// `length` is that of the whole body, where it is known.
    #[must_use]
    pub fn new(fill: Arc<Fill>, length: Option<u64>) -> Self {
        Self {
            fill,
            next: 0,
            taken: 0,
            length,
            slot: None,
            over: false,
        }
    }

    /// The next part.
    pub fn poll_part(&mut self, cx: &Context<'_>) -> Poll<Part> {
        let mut state = self.fill.state.lock();
        if let Some(chunk) = state.chunks.get(self.next) {
            self.next += 1;
            self.taken += chunk.len() as u64;
            return Poll::Ready(Part::Data(chunk.clone()));
        }
        if state.ended {
            let trailers = state.trailers.clone().filter(|_| !self.over);
            self.over = true;
            return Poll::Ready(trailers.map_or(Part::End, Part::Trailers));
        }
        if let Some(reason) = state.broken {
            self.over = true;
            return Poll::Ready(Part::Broken(reason));
        }
        if matches!(state.phase, Phase::Released) {
            return Poll::Ready(Part::Elsewhere);
        }
        state.wakers.register(&mut self.slot, cx.waker());
        Poll::Pending
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.fill.state.lock().wakers.forget(self.slot);
    }
}

impl Body for Reader {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = self.get_mut();
        if this.over {
            return Poll::Ready(None);
        }
        this.poll_part(cx).map(Part::into_frame)
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.length == Some(self.taken)
    }

    fn size_hint(&self) -> SizeHint {
        match self.length {
            Some(length) => SizeHint::with_exact(length.saturating_sub(self.taken)),
            None => SizeHint::default(),
        }
    }
}

/// A fill's name: the key, and what was known to distinguish its variants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Name(Key, u64);

/// The fills that may be joined.
#[derive(Debug)]
pub struct Register {
    shards: Box<[Mutex<HashMap<Name, Arc<Fill>>>]>,
}

impl Default for Register {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }
}

/// The part that a call plays in a fill.
#[derive(Debug)]
pub enum Role {
    /// It fetches.
    Lead(Lead),
    /// Another one does.
    Follow(Arc<Fill>),
}

impl Register {
    fn shard(&self, key: &Key) -> &Mutex<HashMap<Name, Arc<Fill>>> {
        &self.shards[key.hash() as usize % SHARDS]
    }

    /// Joins the fill of `key`, or begins it. One that began before the key was invalidated is not joined any more.
    #[must_use]
    pub fn join(self: &Arc<Self>, key: &Key, variant: u64, stamp: Stamp) -> Role {
        let name = Name(key.clone(), variant);
        let mut fills = self.shard(key).lock();
        let fill = match fills.entry(name.clone()) {
            hash_map::Entry::Occupied(known) if known.get().stamp == stamp => {
                return Role::Follow(Arc::clone(known.get()));
            }
            hash_map::Entry::Occupied(mut old) => {
                let fill = Fill::new(stamp);
                old.insert(Arc::clone(&fill));
                fill
            }
            hash_map::Entry::Vacant(free) => Arc::clone(free.insert(Fill::new(stamp))),
        };
        Role::Lead(Lead {
            fill,
            listed: Some((Arc::clone(self), name)),
        })
    }
}

/// The right to fetch, and the duty to say what became of it: dropping it says that nothing did.
#[derive(Debug)]
pub struct Lead {
    /// What the others wait at.
    pub fill: Arc<Fill>,
    listed: Option<(Arc<Register>, Name)>,
}

impl Lead {
    /// A fetch that nobody else waits for.
    #[must_use]
    pub fn alone(stamp: Stamp) -> Self {
        Self {
            fill: Fill::new(stamp),
            listed: None,
        }
    }

    /// From now on nobody joins any more.
    pub fn close(&mut self) {
        if let Some((register, name)) = self.listed.take() {
            let mut fills = register.shard(&name.0).lock();
            if fills
                .get(&name)
                .is_some_and(|fill| Arc::ptr_eq(fill, &self.fill))
            {
                fills.remove(&name);
            }
        }
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.close();
        self.fill.abandon();
    }
}
