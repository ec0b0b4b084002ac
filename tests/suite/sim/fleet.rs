//! An upstream of several endpoints: the balance and the endpoints themselves, without sockets.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use outrider::balance::machine;
use outrider::clock;
use outrider::endpoint::Cluster;
use outrider::endpoint::Endpoint;
use outrider::http::Call;
use outrider::http::Outcome;
use outrider::http::Trail;
use outrider::rng;

use super::Door;
use super::Draws;
use super::address;
use super::answer;
use super::takes;

#[derive(Clone, Copy)]
pub enum By {
    Ewma,
    RoundRobin,
}

/// How long an endpoint takes for one try, and what it answers.
pub type Manner = fn(endpoint: usize, draws: &mut Draws) -> (Duration, u16);

pub struct Fleet {
    pub cluster: Arc<Cluster>,
    /// Each try: when, and at which endpoint.
    pub sent: RefCell<Vec<(Instant, usize)>>,
    by: By,
    manner: Manner,
    draws: RefCell<Draws>,
    turn: RefCell<usize>,
}

impl Fleet {
    pub fn new(endpoints: u8, by: By, manner: Manner, draws: Draws) -> Rc<Self> {
        let addresses: Vec<_> = (0..endpoints).map(address).collect();
        Rc::new(Self {
            cluster: Cluster::fixed(&addresses, clock::now()),
            sent: RefCell::default(),
            by,
            manner,
            draws: RefCell::new(draws),
            turn: RefCell::new(0),
        })
    }

    pub fn door(self: &Rc<Self>) -> Door {
        let fleet = Rc::clone(self);
        Door::of(move |call| {
            let fleet = Rc::clone(&fleet);
            async move { fleet.send(call).await }
        })
    }

    fn choose(&self, endpoints: &[Arc<Endpoint>], trail: &Trail, now: Instant) -> usize {
        let serves = |at: usize| endpoints[at].serves(now) && !trail.was_tried(endpoints[at].id);
        match self.by {
            By::Ewma => {
                let cost = |at: usize| {
                    let endpoint: &Endpoint = &endpoints[at];
                    machine::cost(endpoint.latency_s(now), f64::from(endpoint.in_flight()))
                };
                let draws = (rng::bits(), rng::bits());
                machine::pick_among(endpoints.len(), serves, cost, draws).unwrap_or(0)
            }
            By::RoundRobin => loop {
                let mut turn = self.turn.borrow_mut();
                *turn = (*turn + 1) % endpoints.len();
                if serves(*turn) {
                    break *turn;
                }
            },
        }
    }

    async fn send(&self, call: Call) -> Outcome {
        let set = self.cluster.set().clone();
        let now = call.trail.now();
        let at = self.choose(&set.endpoints, &call.trail, now);
        let endpoint = &set.endpoints[at];
        call.trail.begin_try(endpoint.id, endpoint.address);
        self.sent.borrow_mut().push((now, at));
        let mut lease = endpoint.lease(now);
        let (time, status) = (self.manner)(at, &mut self.draws.borrow_mut());
        takes(time, &call.trail).await;
        let now = call.trail.now();
        if status < 500 {
            lease.answered(now);
        } else {
            lease.failed(None, now);
        }
        Ok(answer(status))
    }
}
