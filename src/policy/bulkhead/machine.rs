//! Who may call now, who waits, and who is turned away.
//!
//! `limit` is `max`, or what [`Gradient`] finds.
//!
//! | event | guard | effect |
//! |---|---|---|
//! | `admit` | in flight below `limit`, nobody waits who still could go | in flight grows: pass, with a ticket |
//! | `admit` | else, waiters below `queue`, and `wait` is not zero | joins the queue: wait, with a number |
//! | `admit` | else | refused: full |
//! | `observe` | | a waiting or running call's latency, drop or departure moves an adaptive `limit` |
//! | `release`, `next` | in flight below `limit` after it, somebody waits | a waiter is chosen and has its ticket: in flight grows again |
//! | `release`, `next` | else | in flight shrinks, or nothing |
//! | `leave` | the number is in the queue | the waiter is gone: it came to nothing |
//! | `leave` | the number is not in the queue | it was chosen already; its ticket is its own to release |
//! | `reconfigure` | | other settings from now on; who is in flight or waits stays so, though they be too many |
//! | `admit_anyway` | mode shadow | in flight grows, past `limit` too; tells whether it would have been refused |
//!
//! The chosen waiter is the oldest, as long as the oldest has waited less than half of `wait`. When it has waited longer, the
//! queue is not a burst but overload, and the newest is chosen: the old ones are about to leave in vain anyway, and serving
//! them in order would make everyone late (adaptive LIFO: B. Maurer, "Fail at Scale", ACM Queue 13/8, 2015). A waiter whose
//! time is up is never chosen.

use std::collections::VecDeque;
use std::time::Duration;
use std::time::Instant;

use super::config::Settings;
use crate::kit::gradient::Gradient;

/// What admission gives. Hand it back with [`Machine::release`].
#[derive(Debug)]
#[must_use = "a ticket that is not released is lost to everybody"]
pub struct Ticket {
    mark: u32,
    since: Instant,
}

/// The answer to a call that wants in.
#[derive(Debug)]
#[must_use = "a ticket or a place in the queue is in it"]
pub enum Admission {
    /// Go.
    Pass(Ticket),
    /// Wait until chosen; [`Machine::leave`] with this number to give up, at `until` at the latest.
    Wait {
        /// The waiter's.
        number: u64,
        /// After this it is never chosen.
        until: Instant,
    },
    /// Too many are here, and too many wait.
    Full,
}

/// What a call that is in flight has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The upstream has answered.
    Answered,
    /// It ran out of time, or the upstream said that it was too much.
    Dropped,
    /// Whoever made the call has gone.
    Abandoned,
}

/// One who waits. `W` is how the skin wakes it.
#[derive(Debug)]
struct Waiter<W> {
    number: u64,
    since: Instant,
    until: Instant,
    who: W,
}

/// The bulkhead of one upstream or route.
#[derive(Debug)]
pub struct Machine<W> {
    settings: Settings,
    gradient: Option<Gradient>,
    in_flight: u32,
    queue: VecDeque<Waiter<W>>,
    next_number: u64,
}

impl<W> Machine<W> {
    /// Nobody is in.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            gradient: gradient(&settings),
            settings,
            in_flight: 0,
            queue: VecDeque::new(),
            next_number: 0,
        }
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Other settings. Permits given are not taken back: if they are more than the new limit, nobody is let in until enough
    /// have ended. Ask [`Machine::next`] afterwards, for the limit may have risen.
    pub fn reconfigure(&mut self, settings: Settings) {
        match (&mut self.gradient, settings.adaptive) {
            (Some(gradient), Some(bounds)) => gradient.set_bounds(bounds.min, bounds.max),
            (old, _) => *old = gradient(&settings),
        }
        self.settings = settings;
    }

    /// How many may be in flight.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.gradient
            .as_ref()
            .map_or(self.settings.max, Gradient::limit)
    }

    /// The latency of an upstream that is not loaded, as far as an adaptive limit knows it.
    #[must_use]
    pub fn base(&self) -> Option<Duration> {
        self.gradient.as_ref()?.base()
    }

    /// How many are in flight.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// How many wait.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// A call wants in, and would wait until `deadline` at most.
    pub fn admit(
        &mut self,
        who: impl FnOnce() -> W,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Admission {
        if let Some(gradient) = &mut self.gradient {
            gradient.pass(self.in_flight, now);
        }
        if self.in_flight < self.limit() && self.choose(now).is_none() {
            return Admission::Pass(self.ticket(now));
        }
        let until = now + self.settings.wait;
        let until = deadline.map_or(until, |deadline| deadline.min(until));
        if self.queue.len() >= self.settings.queue as usize || until <= now {
            return Admission::Full;
        }
        let number = self.next_number;
        self.next_number += 1;
        self.queue.push_back(Waiter {
            number,
            since: now,
            until,
            who: who(),
        });
        Admission::Wait { number, until }
    }

    /// Lets a call in whatever the limit says. True if it would have been refused: the limit and the queue are both used up.
    pub fn admit_anyway(&mut self, now: Instant) -> (Ticket, bool) {
        let room = self.limit().saturating_add(self.settings.queue);
        let is_too_many = self.in_flight >= room;
        (self.ticket(now), is_too_many)
    }

    /// Gives up waiting. False if the waiter had been chosen already: it then has a ticket, by [`Machine::chosen`].
    #[must_use]
    pub fn leave(&mut self, number: u64) -> bool {
        // Numbers rise from front to back, whichever end is served.
        let place = self
            .queue
            .binary_search_by_key(&number, |waiter| waiter.number);
        place.is_ok_and(|place| self.queue.remove(place).is_some())
    }

    /// The ticket of a waiter that was chosen; it was counted when it was chosen.
    pub fn chosen(&self, now: Instant) -> Ticket {
        Ticket {
            mark: self.mark(),
            since: now,
        }
    }

    /// What the call of this ticket has come to. The permit stays with it.
    pub fn observe(&mut self, ticket: &Ticket, outcome: Outcome, now: Instant) {
        let Some(gradient) = &mut self.gradient else {
            return;
        };
        let (mark, in_flight) = (ticket.mark, self.in_flight);
        let latency = now.saturating_duration_since(ticket.since);
        match outcome {
            Outcome::Answered => gradient.answered(mark, latency, in_flight, now),
            Outcome::Dropped => gradient.dropped(mark, in_flight, now),
            Outcome::Abandoned => gradient.abandoned(mark, latency, in_flight, now),
        }
    }

    /// Takes a permit back, and gives it to a waiter if there is one. The limit may have risen by more than one: ask
    /// [`Machine::next`] until it has nobody.
    pub fn release(&mut self, _: Ticket, now: Instant) -> Option<W> {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.next(now)
    }

    /// Chooses a waiter if one may go now.
    pub fn next(&mut self, now: Instant) -> Option<W> {
        if self.queue.is_empty() || self.in_flight >= self.limit() {
            return None;
        }
        let place = self.choose(now)?;
        let waiter = self.queue.remove(place)?;
        self.in_flight += 1;
        Some(waiter.who)
    }

    fn choose(&self, now: Instant) -> Option<usize> {
        let oldest = self.queue.iter().position(|waiter| waiter.until > now)?;
        let waited = now.saturating_duration_since(self.queue.get(oldest)?.since);
        if waited < self.settings.wait / 2 {
            return Some(oldest);
        }
        self.queue.iter().rposition(|waiter| waiter.until > now)
    }

    fn ticket(&mut self, now: Instant) -> Ticket {
        self.in_flight += 1;
        self.chosen(now)
    }

    fn mark(&self) -> u32 {
        self.gradient.as_ref().map_or(0, Gradient::mark)
    }

    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        assert!(self.limit() >= 1, "a bulkhead that lets nobody in");
        let numbers: Vec<u64> = self.queue.iter().map(|waiter| waiter.number).collect();
        assert!(numbers.is_sorted(), "{numbers:?}");
        if let Some(gradient) = &self.gradient {
            gradient.check_invariants();
        }
    }
}

fn gradient(settings: &Settings) -> Option<Gradient> {
    settings
        .adaptive
        .map(|bounds| Gradient::new(bounds.min, bounds.max))
}
