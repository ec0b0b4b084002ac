//! One call on its way through the stack.

use std::cell::Cell;
use std::cell::RefCell;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use http::HeaderValue;
use http::request::Parts;

use crate::clock;
use crate::http::Caller;
use crate::http::Kept;
use crate::http::Reason;
use crate::http::RequestBody;
use crate::http::hops::Terms;
use crate::http::note;
use crate::http::note::End;
use crate::http::note::Note;
use crate::http::note::Noted;
use crate::http::note::Notes;
use crate::http::note::Try;

/// The request that a layer passes on, and the trail of the call it belongs to.
///
/// `head` is the outgoing head: already checked by [`crate::http::strict`], hop-by-hop fields removed.
pub struct Call {
    /// Method, target, version and fields as they will be sent. Boxed: a call is handed on by every layer.
    pub head: Box<Parts>,
    /// The body, replayable within its bound.
    pub body: RequestBody,
    /// Facts shared by every layer and every try of this call.
    pub trail: Rc<Trail>,
}

impl Call {
    /// The same call for one more try: head copied, body rewound, trail shared.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self {
            head: self.head.clone(),
            body: self.body.rewind(),
            trail: Rc::clone(&self.trail),
        }
    }

    /// A second copy of the same call, to be under way beside it: head copied, body rewound, a trail of its own.
    #[must_use]
    pub fn branch(&self, now: Instant) -> Self {
        Self {
            head: self.head.clone(),
            body: self.body.rewind(),
            trail: self.trail.branch(now),
        }
    }
}

/// The trace that a call belongs to (W3C Trace Context).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceMark {
    /// 16 bytes, never all zero.
    pub trace_id: [u8; 16],
    /// Our span of the call; each try is a child of it.
    pub span: u64,
    /// The application's span; `None` where the trace begins here.
    pub parent: Option<u64>,
    /// `trace-flags`; bit 0 is `sampled`.
    pub flags: u8,
}

/// What happened to one call so far. Shared by all tries; single-threaded, hence cells.
#[derive(Debug)]
pub struct Trail {
    /// When the request head was complete.
    pub started: Instant,
    /// The same by the wall clock, since 1970-01-01T00:00:00Z.
    pub began: Duration,
    /// The client's address, one of IPv4 never in its IPv6 form; `None` for a call that came by no connection.
    pub peer: Cell<Option<IpAddr>>,
    /// Who has proved to be the client; `None` where nobody asked, as for the calls of the application itself.
    pub caller: RefCell<Option<Rc<Caller>>>,
    /// When this call last woke up; see [`Trail::now`].
    seen: Cell<Instant>,
    /// What holds between this call and the hops beside it. Set where the request comes in.
    pub terms: Cell<Terms>,
    /// Which retry of the hop before us this call is; 0 for a first try. Set by the deadline room, which reads the head.
    pub attempt: Cell<u32>,
    /// When the caller's own `grpc-timeout` ends the RPC. Set by the deadline room.
    pub grpc_ends: Cell<Option<Instant>>,
    /// The call must end by then. Set by the deadline room.
    pub deadline: Cell<Option<Instant>>,
    /// Tries begun so far.
    pub tries: Cell<u32>,
    /// Tries that may still follow the current one. Set by the retry room, used to share out the time.
    pub tries_left: Cell<u32>,
    /// The endpoint of the last try.
    pub endpoint: Cell<Option<SocketAddr>>,
    /// Identifiers of endpoints tried so far, the last one first, so that a retry goes elsewhere; zero is none. More than
    /// four need not be remembered.
    pub tried: Cell<[u64; 4]>,
    /// The current try waits for a connection to come free, so nothing of it was sent. Set by the pool.
    pub waits_for_connection: Cell<bool>,
    /// Why a failed try was not repeated; `retry_skipped` in the log.
    pub retry_skipped: Cell<Option<&'static str>>,
    /// The client's own fault, seen while its body was read, so that the upstream is not blamed for it.
    pub client_fault: Cell<Option<Reason>>,
    /// What was done to this call on purpose, such as `delay`; in the log and a header of the answer. Set by the fault room.
    pub injected: Cell<Option<&'static str>>,
    /// The client's connection or stream is to be reset instead of answered. Set by the fault room.
    pub reset_client: Cell<bool>,
    /// From the start to the response head.
    pub head_after: Cell<Option<Duration>>,
    /// `x-request-id` of the call. Set by the correlation room.
    pub request_id: RefCell<Option<HeaderValue>>,
    /// The trace of the call. Set by the correlation room.
    pub trace: Cell<Option<TraceMark>>,
    /// A fault settled before the call was routed; the leaf of the refusing stack gives it back.
    pub refusal: RefCell<Option<crate::http::Fault>>,
    /// The call may be carried out twice although its method does not say so: it carries a key that the upstream is
    /// declared to honour. Set by the idempotency room.
    pub idempotent: Cell<bool>,
    /// What became of a second copy; `hedged` in the log. Set by the hedge room.
    pub hedged: Cell<Option<&'static str>>,
    /// What the cache did with the call; `cache` in the log. Set by the cache room.
    pub cache: Cell<Option<&'static str>>,
    /// Why the answer was not kept, or what it stands in for; `cache_why` in the log. Set by the cache room.
    pub cache_why: Cell<Option<&'static str>>,
    /// The arithmetic behind that: of the answer that was given or fetched, where it may be kept. Set by the cache room.
    pub kept: Cell<Option<Kept>>,
    /// How the last try's connection was secured, or why it could not be; `tls` in the log. `None`: nobody asked for that. Set by
    /// the pool.
    pub tls: Cell<Option<&'static str>>,
    /// Who was at the other end of it; `peer` in the log. Set by the pool.
    pub tls_peer: RefCell<Option<Arc<str>>>,
    /// Another copy answered first, so nobody waits for this one any more. Set by the hedge room before it drops it.
    pub cut: Cell<bool>,
    /// The trail of the call that this one is a second copy of.
    copy_of: Option<Rc<Trail>>,
    /// Which copy of the call it is; 0 is the call itself.
    copy: u8,
    /// Copies made so far.
    copies: Cell<u8>,
    /// What was decided, by all copies; see [`Trail::note`].
    notes: RefCell<Notes>,
    /// Where the note of the try under way is.
    trying: Cell<Option<usize>>,
}

impl Trail {
    /// A trail that begins at `started`.
    #[must_use]
    pub fn new(started: Instant) -> Self {
        Self {
            started,
            began: clock::unix(),
            peer: Cell::new(None),
            caller: RefCell::new(None),
            seen: Cell::new(started),
            terms: Cell::new(Terms::default()),
            attempt: Cell::new(0),
            grpc_ends: Cell::new(None),
            deadline: Cell::new(None),
            tries: Cell::new(0),
            tries_left: Cell::new(0),
            endpoint: Cell::new(None),
            tried: Cell::new([0; 4]),
            waits_for_connection: Cell::new(false),
            retry_skipped: Cell::new(None),
            client_fault: Cell::new(None),
            injected: Cell::new(None),
            reset_client: Cell::new(false),
            head_after: Cell::new(None),
            request_id: RefCell::new(None),
            trace: Cell::new(None),
            refusal: RefCell::new(None),
            idempotent: Cell::new(false),
            hedged: Cell::new(None),
            cache: Cell::new(None),
            cache_why: Cell::new(None),
            tls: Cell::new(None),
            tls_peer: RefCell::new(None),
            kept: Cell::new(None),
            cut: Cell::new(false),
            copy_of: None,
            copy: 0,
            copies: Cell::new(0),
            notes: RefCell::default(),
            trying: Cell::new(None),
        }
    }

    /// The trail of a second copy, which is under way at the same time. It begins with what is known of the call and goes
    /// its own way from there: what one copy learns about its endpoint must not be taken for what the other did.
    #[must_use]
    pub fn branch(self: &Rc<Self>, now: Instant) -> Rc<Self> {
        let mut tried = self.tried.get();
        tried.rotate_right(1);
        tried[0] = 0;
        let copy = self.copies.get().saturating_add(1);
        self.copies.set(copy);
        // Every field by name: whoever adds one has to say whether it is the call's or a copy's.
        Rc::new(Self {
            started: self.started,
            began: self.began,
            peer: self.peer.clone(),
            caller: self.caller.clone(),
            seen: Cell::new(now),
            terms: self.terms.clone(),
            attempt: self.attempt.clone(),
            grpc_ends: self.grpc_ends.clone(),
            deadline: self.deadline.clone(),
            tries: Cell::new(0),
            tries_left: Cell::new(0),
            endpoint: Cell::new(None),
            tried: Cell::new(tried),
            waits_for_connection: Cell::new(false),
            retry_skipped: Cell::new(None),
            client_fault: self.client_fault.clone(),
            injected: self.injected.clone(),
            reset_client: self.reset_client.clone(),
            head_after: Cell::new(None),
            request_id: self.request_id.clone(),
            trace: self.trace.clone(),
            refusal: RefCell::new(None),
            idempotent: self.idempotent.clone(),
            hedged: Cell::new(None),
            cache: Cell::new(None),
            cache_why: Cell::new(None),
            tls: Cell::new(None),
            tls_peer: RefCell::new(None),
            kept: Cell::new(None),
            cut: Cell::new(false),
            copy_of: Some(Rc::clone(self)),
            copy,
            copies: Cell::new(0),
            notes: RefCell::default(),
            trying: Cell::new(None),
        })
    }

    /// Takes over what the copy with the trail `branch` learnt, because its outcome is that of the call.
    pub fn adopt(&self, branch: &Self) {
        self.seen.set(branch.seen.get());
        self.endpoint.set(branch.endpoint.get());
        self.retry_skipped.set(branch.retry_skipped.get());
        self.client_fault.set(branch.client_fault.get());
        self.tls.set(branch.tls.get());
        self.tls_peer.replace(branch.tls_peer.take());
    }

    /// The current try goes over a connection that is secured so, with `peer` at its other end.
    pub fn secured(&self, how: &'static str, peer: Option<&Arc<str>>) {
        self.tls.set(Some(how));
        self.tls_peer.replace(peer.cloned());
    }

    /// The current try has no connection, because it could not be secured.
    pub fn not_secured(&self, why: &'static str) {
        self.tls.set(Some(why));
        self.tls_peer.replace(None);
    }

    /// Whether this is the trail of a second copy; the call itself is counted elsewhere.
    #[must_use]
    pub fn is_copy(&self) -> bool {
        self.copy_of.is_some()
    }

    /// The time at which this call last woke up. Between two waits all that happens to a call happens at one time, so the
    /// rooms that a try passes on its way need not each read the clock.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.seen.get()
    }

    /// Notes that the call has woken up.
    pub fn stamp(&self, now: Instant) {
        self.seen.set(now);
    }

    /// Time left until the deadline; `None` when the call has none.
    #[must_use]
    pub fn remaining(&self, now: Instant) -> Option<Duration> {
        self.deadline
            .get()
            .map(|deadline| deadline.saturating_duration_since(now))
    }

    /// A try at endpoint `id` (never zero) at `address` begins. The call counts the tries of all its copies, and none of
    /// them goes where another has been.
    pub fn begin_try(&self, id: u64, address: SocketAddr) {
        self.tries.set(self.tries.get() + 1);
        self.endpoint.set(Some(address));
        self.with_try(|tried| tried.endpoint = Some(address));
        let mut tried = self.tried.get();
        if tried[0] != 0 {
            tried.rotate_right(1);
        }
        tried[0] = id;
        self.tried.set(tried);
        if let Some(call) = &self.copy_of {
            call.tries.set(call.tries.get() + 1);
            let mut tried = call.tried.get();
            // Its first place is that of the endpoint which it is at itself.
            tried[1..].rotate_right(1);
            tried[1] = id;
            call.tried.set(tried);
        }
    }

    /// Notes a decision. Those of a copy stand among those of the call, and say that they are a copy's.
    pub fn note(&self, note: Note) {
        self.noted(note);
    }

    fn noted(&self, note: Note) -> Option<usize> {
        let noted = Noted {
            at: note::since(self.started, self.now()),
            copy: self.copy,
            note,
        };
        self.call().notes.borrow_mut().push(noted)
    }

    /// Notes that a try begins, whose span this is. Gives its place for [`Trail::end_try`].
    #[must_use]
    pub fn note_try(&self, span: u64) -> Option<usize> {
        let place = self.noted(Note::Try(Try {
            span,
            endpoint: None,
            reused: false,
            took: None,
            end: End::Open,
        }));
        self.trying.set(place);
        place
    }

    /// Notes that the try under way goes over a connection that was open already, or over a new one.
    pub fn note_connection(&self, reused: bool) {
        self.with_try(|tried| tried.reused = reused);
    }

    /// Notes how the try at `place` ended.
    pub fn end_try(&self, place: Option<usize>, end: End) {
        let Some(place) = place else { return };
        let mut notes = self.call().notes.borrow_mut();
        let Some(began) = notes.all().get(place).map(|noted| noted.at) else {
            return;
        };
        if let Some(tried) = notes.try_at(place) {
            tried.end = end;
            tried.took = Some(note::since(self.started, self.now()).saturating_sub(began));
        }
    }

    /// What was noted of the call so far.
    pub fn notes<T>(&self, read: impl FnOnce(&Notes) -> T) -> T {
        read(&self.call().notes.borrow())
    }

    fn with_try(&self, change: impl FnOnce(&mut Try)) {
        if let Some(place) = self.trying.get()
            && let Some(tried) = self.call().notes.borrow_mut().try_at(place)
        {
            change(tried);
        }
    }

    /// The trail of the call itself.
    fn call(&self) -> &Self {
        self.copy_of.as_deref().unwrap_or(self)
    }

    /// Whether endpoint `id` was among the last four tried.
    #[must_use]
    pub fn was_tried(&self, id: u64) -> bool {
        self.tried.get().contains(&id)
    }
}
