//! The breaker's story, told from successive looks at the metrics. Pure.

use std::time::Duration;

use crate::cli::demo::scrape::View;

/// Something the breaker or the ejection did, with the time of the look that found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The breaker began to reject.
    Opened,
    /// The breaker began to let probes through.
    Probing,
    /// The breaker lets everything pass again.
    Closed,
    /// An endpoint was taken out.
    Ejected,
}

/// Everything seen so far.
#[derive(Clone, Debug, Default)]
pub struct Story {
    /// In order of time.
    pub events: Vec<(Duration, Event)>,
    last: View,
}

impl Story {
    /// Takes one look. Several changes between two looks are told in the only order they can have happened.
    pub fn observe(&mut self, at: Duration, view: View) {
        let order = match self.last.state {
            Light::Closed => [Event::Opened, Event::Probing, Event::Closed],
            Light::Open => [Event::Probing, Event::Closed, Event::Opened],
            Light::HalfOpen => [Event::Closed, Event::Opened, Event::Probing],
        };
        for event in [Event::Ejected].into_iter().chain(order) {
            let (now, before) = (view.count(event), self.last.count(event));
            for _ in before..now {
                self.events.push((at, event));
            }
        }
        self.last = view;
    }

    /// The last look.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.last
    }

    /// How often `event` happened.
    #[must_use]
    pub fn count(&self, event: Event) -> u64 {
        self.events.iter().filter(|(_, e)| *e == event).count() as u64
    }

    /// When `event` first happened at or after `from`.
    #[must_use]
    pub fn first(&self, event: Event, from: Duration) -> Option<Duration> {
        self.events
            .iter()
            .find(|(at, e)| *e == event && *at >= from)
            .map(|(at, _)| *at)
    }

    /// When the breaker closed for good after `recovery`; `None` when it is not closed at the last look.
    #[must_use]
    pub fn closed_after(&self, recovery: Duration) -> Option<Duration> {
        if self.last.state != Light::Closed {
            return None;
        }
        let last_closed = self
            .events
            .iter()
            .rev()
            .find(|(_, e)| *e == Event::Closed)
            .map(|(at, _)| *at);
        last_closed.filter(|at| *at >= recovery)
    }
}

/// The breaker's state as the metrics tell it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Light {
    /// Everything passes.
    #[default]
    Closed,
    /// A few probes pass.
    HalfOpen,
    /// Everything is rejected.
    Open,
}

impl Light {
    /// The word for the table.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Light::Closed => "closed",
            Light::HalfOpen => "half-open",
            Light::Open => "open",
        }
    }
}
