//! One worker's connections to one endpoint.
//!
//! No locks: a pool never leaves its worker. An HTTP/1 connection has no task of its own; whoever uses it drives it
//! (`exchange`), and while it rests here nobody does, so its health is asked for when it is taken out.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::ready;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use futures_util::future::Either;
use http::Version;
use tokio::sync::Notify;

use crate::clock;
use crate::connect;
use crate::connect::tls::Inside;
use crate::connect::tls::Secured;
use crate::connect::tls::Wire;
use crate::endpoint::Endpoint;
use crate::endpoint::exchange;
use crate::endpoint::exchange::H1;
use crate::endpoint::h2;
use crate::endpoint::h2::H2;
use crate::endpoint::upgrade;
use crate::http::Call;
use crate::http::Fault;
use crate::http::LocalFuture;
use crate::http::Outcome;
use crate::http::Reason;
use crate::http::Trail;
use crate::rng;
use crate::telemetry::Closed;
use crate::telemetry::Telemetry;
use crate::telemetry::UpstreamMetrics;

/// The longest a connection rests unused, until the endpoint teaches a shorter time by closing first.
const IDLE: Duration = Duration::from_secs(60);
/// The longest a connection is used, less up to a fifth by chance, so that a fleet does not reconnect in step and a
/// changed network path is found in the end.
const MAX_AGE: Duration = Duration::from_secs(600);
/// Connections of one worker to one endpoint; more calls wait for one to come free within their try.
const MAX_CONNECTIONS: u32 = 512;

/// How long the parts of an exchange may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// To open a connection.
    pub connect: Duration,
    /// Silence within a response body.
    pub idle: Duration,
}

/// The usual exchange in place, any other in a box of its own.
type Sending<F> = Either<F, LocalFuture<Outcome>>;

/// All pools of one worker, by endpoint.
pub struct Pools {
    by_endpoint: RefCell<HashMap<u64, Rc<Pool>>>,
    own: Vec<SocketAddr>,
    telemetry: Arc<Telemetry>,
}

impl Pools {
    /// `own` are the addresses this process listens on: it never connects to them.
    #[must_use]
    pub fn new(own: Vec<SocketAddr>, telemetry: Arc<Telemetry>) -> Rc<Self> {
        Rc::new(Self {
            by_endpoint: RefCell::new(HashMap::new()),
            own,
            telemetry,
        })
    }

    /// The pool of `endpoint` in this worker.
    #[must_use]
    pub fn of(&self, endpoint: &Arc<Endpoint>, metrics: &Arc<UpstreamMetrics>) -> Rc<Pool> {
        let mut pools = self.by_endpoint.borrow_mut();
        Rc::clone(pools.entry(endpoint.id).or_insert_with(|| {
            Rc::new(Pool::new(
                Arc::clone(endpoint),
                Arc::clone(metrics),
                Arc::clone(&self.telemetry),
                self.is_ourselves(endpoint.address),
            ))
        }))
    }

    /// Whether connecting to `address` would only come back to us.
    #[must_use]
    pub fn is_ourselves(&self, address: SocketAddr) -> bool {
        self.own.iter().any(|own| {
            own.port() == address.port()
                && (own.ip() == address.ip()
                    || own.ip().is_unspecified()
                    || (own.ip().is_loopback() && address.ip().is_loopback()))
        })
    }

    /// Closes connections that rested or lived too long or that the endpoint has closed, and forgets pools of
    /// endpoints that are gone. Called every few seconds.
    pub fn sweep(&self) {
        let now = clock::now();
        self.by_endpoint.borrow_mut().retain(|_, pool| {
            pool.sweep(now);
            // One count is the pool's own: nobody can choose this endpoint any more.
            Arc::strong_count(&pool.endpoint) > 1 || pool.open.get() > 0
        });
    }
}

/// One worker's connections to one endpoint.
pub struct Pool {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) metrics: Arc<UpstreamMetrics>,
    pub(super) telemetry: Arc<Telemetry>,
    #[expect(
        clippy::vec_box,
        reason = "a connection is moved with every call: one word, not twenty"
    )]
    h1: RefCell<Vec<Box<H1>>>,
    h2: RefCell<Vec<Rc<H2>>>,
    open: Cell<u32>,
    freed: Notify,
    rest_at_most: Cell<Duration>,
    is_ourselves: bool,
}

/// A place among the connections of a pool; dropping it frees the place.
pub(super) struct Slot {
    pool: Rc<Pool>,
    why: Cell<Closed>,
}

impl Slot {
    /// Says why the connection is about to close; an error of the exchange unless told otherwise.
    pub(super) fn closes_for(&self, why: Closed) {
        self.why.set(why);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.pool.open.set(self.pool.open.get() - 1);
        self.pool.metrics.closed(self.why.get());
        self.pool.freed.notify_one();
    }
}

impl Pool {
    fn new(
        endpoint: Arc<Endpoint>,
        metrics: Arc<UpstreamMetrics>,
        telemetry: Arc<Telemetry>,
        is_ourselves: bool,
    ) -> Self {
        Self {
            endpoint,
            metrics,
            telemetry,
            h1: RefCell::new(Vec::new()),
            h2: RefCell::new(Vec::new()),
            open: Cell::new(0),
            freed: Notify::new(),
            rest_at_most: Cell::new(IDLE),
            is_ourselves,
        }
    }

    /// Sends `call` and waits for the response head, over the protocol that its head names.
    ///
    /// # Errors
    /// Any connect fault, `reset`, `refused`, `protocol_error`, `loop_detected`, or the client's own fault.
    pub fn send(
        self: Rc<Self>,
        call: Call,
        patience: Patience,
    ) -> Sending<impl Future<Output = Outcome>> {
        if self.is_ourselves {
            Either::Right(Box::pin(ready(Err(Fault::unsent(Reason::LoopDetected)))))
        } else if call.head.version == Version::HTTP_2 {
            Either::Right(Box::pin(h2::send(self, call, patience)))
        } else if upgrade::is_wanted(&call.head.headers) {
            Either::Right(Box::pin(upgrade::send(self, call, patience)))
        } else {
            Either::Left(exchange::send(self, call, patience))
        }
    }

    /// A resting HTTP/1 connection that is still good.
    pub(super) fn take(&self, now: Instant) -> Option<Box<H1>> {
        loop {
            let mut h1 = self.h1.borrow_mut().pop()?;
            self.metrics.idle.down();
            match self.verdict(&mut h1, now) {
                None => return Some(h1),
                Some(why) => h1.slot.closes_for(why),
            }
        }
    }

    /// Puts a connection to rest, unless it is too old.
    pub(super) fn give(&self, mut h1: Box<H1>, now: Instant) {
        if self.endpoint.is_gone() {
            h1.slot.closes_for(Closed::Endpoint);
        } else if self.is_superseded(h1.secured.as_deref()) {
            h1.slot.closes_for(Closed::Identity);
        } else if h1.retires_at > now {
            h1.resting_since = now;
            self.h1.borrow_mut().push(h1);
            self.metrics.idle.up();
            self.freed.notify_one();
        } else {
            h1.slot.closes_for(Closed::Age);
        }
    }

    /// Why a resting connection must not be used again; `None` if it may.
    fn verdict(&self, h1: &mut H1, now: Instant) -> Option<Closed> {
        let rested = now.saturating_duration_since(h1.resting_since);
        if self.endpoint.is_gone() {
            Some(Closed::Endpoint)
        } else if self.is_superseded(h1.secured.as_deref()) {
            Some(Closed::Identity)
        } else if h1.retires_at <= now {
            Some(Closed::Age)
        } else if rested > self.rest_at_most.get() {
            Some(Closed::Idle)
        } else if h1.is_usable() {
            None
        } else {
            self.learn_rest(rested);
            Some(Closed::Peer)
        }
    }

    /// The endpoint closed a connection that had rested for `rested`: from now on ours rest shorter than that, so that
    /// a request no longer meets a connection just being closed.
    fn learn_rest(&self, rested: Duration) {
        const SHORTEST: Duration = Duration::from_secs(1);
        let learned = (rested * 4 / 5).max(SHORTEST);
        if learned < self.rest_at_most.get() {
            self.rest_at_most.set(learned);
        }
    }

    /// A place for one more connection.
    pub(super) fn slot(self: &Rc<Self>) -> Slot {
        self.open.set(self.open.get() + 1);
        self.metrics.opened();
        Slot {
            pool: Rc::clone(self),
            why: Cell::new(Closed::Error),
        }
    }

    /// Whether a call that waits for a slot should rather look for a connection given back meanwhile.
    pub(super) fn is_full(&self) -> bool {
        self.open.get() >= MAX_CONNECTIONS
    }

    /// Waits for a connection to come free or to close.
    pub(super) async fn freed(&self, trail: &Trail) {
        let _pending = self.metrics.pending.hold();
        trail.waits_for_connection.set(true);
        self.freed.notified().await;
        trail.waits_for_connection.set(false);
    }

    /// A connection for what will be spoken `inside`.
    pub(super) async fn connect(
        self: &Rc<Self>,
        within: Duration,
        inside: Inside,
        trail: &Trail,
    ) -> Result<(Wire, Option<Box<Secured>>), Fault> {
        let address = self.endpoint.address;
        let opened = match &self.endpoint.dialer {
            None => connect::tcp(address, within)
                .await
                .map(|stream| (Wire::Plain(stream), None)),
            // Boxed: the future of the usual turn has no room for a handshake.
            Some(dialer) => Box::pin(dialer.open(address, within, inside))
                .await
                .map(|(wire, secured)| (wire, Some(Box::new(secured)))),
        };
        opened.inspect_err(|fault| {
            self.metrics.connect_failed(fault.reason);
            if let Some(why) = fault.tls {
                trail.not_secured(why);
            }
        })
    }

    /// Whether a connection was made with an identity, or a trust, that is not in force any more.
    pub(super) fn is_superseded(&self, secured: Option<&Secured>) -> bool {
        match (secured, &self.endpoint.dialer) {
            (Some(secured), Some(dialer)) => secured.generation != dialer.generation(),
            _ => false,
        }
    }

    /// The HTTP/2 connections, the newest last.
    pub(super) fn h2(&self) -> &RefCell<Vec<Rc<H2>>> {
        &self.h2
    }

    /// Closes what should not rest any longer.
    pub fn sweep(&self, now: Instant) {
        self.h1.borrow_mut().retain_mut(|h1| {
            let why = self.verdict(h1, now);
            if let Some(why) = why {
                self.metrics.idle.down();
                h1.slot.closes_for(why);
            }
            why.is_none()
        });
        let gone = self.endpoint.is_gone();
        self.h2
            .borrow_mut()
            .retain(|h2| !gone && h2.keep(now, IDLE) && !self.is_superseded(h2.secured.as_deref()));
    }
}

/// When a connection opened now is to be retired: at its greatest age, or when a certificate ends.
pub(super) fn retirement(now: Instant, secured: Option<&Secured>) -> Instant {
    let aged = now + MAX_AGE.mul_f64(1.0 - rng::draw() / 5.0);
    let until = secured.and_then(|secured| secured.until);
    until.map_or(aged, |until| until.min(aged))
}
