//! What is counted about requests, by upstream and route.

use std::sync::OnceLock;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;

use super::cells::Level;
use super::cells::Tally;
use super::hist::Hist;
use super::registry::Def;
use super::registry::Family;
use super::registry::Registry;
use super::words::ByWord;
use crate::http::MethodClass;
use crate::http::Reason;

const REQUESTS: Def<Tally, 5> = Def::new(
    "outrider_requests_total",
    "Requests answered, by method class, status class, and the reason word when outrider itself answered or ended them",
    ["upstream", "route", "method", "status", "reason"],
);
const DURATION: Def<Hist, 2> = Def::new(
    "outrider_request_duration_seconds",
    "Time from the request head to the last byte of the response",
    ["upstream", "route"],
);
const IN_FLIGHT: Def<Level, 2> = Def::new(
    "outrider_requests_in_flight",
    "Requests that have begun and not ended",
    ["upstream", "route"],
);
const TRIES: Def<Tally, 2> = Def::new(
    "outrider_tries_total",
    "Tries sent towards an endpoint; over requests this is the amplification",
    ["upstream", "route"],
);

const IN_REQUESTS: Def<Tally, 5> = Def::new(
    "outrider_inbound_requests_total",
    "Requests for the application that were answered, by method class, status class, and the reason word when outrider itself answered or ended them",
    ["app", "transport", "method", "status", "reason"],
);
const IN_DURATION: Def<Hist, 2> = Def::new(
    "outrider_inbound_request_duration_seconds",
    "Time from the head of a request for the application to the last byte of its response",
    ["app", "transport"],
);
const IN_IN_FLIGHT: Def<Level, 2> = Def::new(
    "outrider_inbound_requests_in_flight",
    "Requests for the application that have begun and not ended",
    ["app", "transport"],
);
const IN_TRIES: Def<Tally, 2> = Def::new(
    "outrider_inbound_tries_total",
    "Requests sent to the application; more than answered where a kept connection had just died",
    ["app", "transport"],
);

const HANDSHAKES: Def<Counter, 1> = Def::new(
    "outrider_inbound_handshakes_total",
    "TLS handshakes of callers, by what came of them: `ok`, or what was wrong",
    ["result"],
);

const STATUS_WORDS: [&str; 6] = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];

fn status_class(status: u16) -> usize {
    match status / 100 {
        hundreds @ 1..=5 => usize::from(hundreds),
        _ => 0,
    }
}

type Defs<'a> = (
    &'a Def<Tally, 5>,
    &'a Def<Hist, 2>,
    &'a Def<Level, 2>,
    &'a Def<Tally, 2>,
);

type Grid = [[OnceLock<Tally>; STATUS_WORDS.len()]; MethodClass::ALL.len()];

/// The handles of one route, resolved when a policy is loaded.
#[derive(Debug)]
pub struct RouteMetrics {
    upstream: Box<str>,
    route: Box<str>,
    requests: Family<Tally, 5>,
    answered: Grid,
    // Boxed apart: most routes meet two or three reasons, and a full grid for each would be 14 KiB a route.
    reasons: [OnceLock<Box<Grid>>; Reason::ALL.len()],
    duration: Hist,
    in_flight: Level,
    tries: Tally,
}

/// Counts the TLS handshakes of callers, by what came of them.
pub(super) fn handshakes(registry: &Registry) -> ByWord {
    let family = registry.family(&HANDSHAKES);
    ByWord::new(move |word| family.get([word]))
}

impl RouteMetrics {
    pub(super) fn new(registry: &Registry, upstream: &str, route: &str) -> Self {
        Self::of(
            registry,
            [upstream, route],
            (&REQUESTS, &DURATION, &IN_FLIGHT, &TRIES),
        )
    }

    pub(super) fn inbound(registry: &Registry, app: &str, transport: &str) -> Self {
        let defs = (&IN_REQUESTS, &IN_DURATION, &IN_IN_FLIGHT, &IN_TRIES);
        Self::of(registry, [app, transport], defs)
    }

    fn of(
        registry: &Registry,
        place: [&str; 2],
        (requests, duration, in_flight, tries): Defs<'_>,
    ) -> Self {
        Self {
            upstream: place[0].into(),
            route: place[1].into(),
            requests: registry.family(requests),
            answered: Grid::default(),
            reasons: std::array::from_fn(|_| OnceLock::new()),
            duration: registry.family(duration).get(place),
            in_flight: registry.family(in_flight).get(place),
            tries: registry.family(tries).get(place),
        }
    }

    /// A request has ended, whoever answered it. `reason` is `None` when the response is the upstream's and came through
    /// whole; `elapsed` runs from the request head to the last byte.
    pub fn request(
        &self,
        worker: usize,
        method: MethodClass,
        status: u16,
        reason: Option<Reason>,
        elapsed: Duration,
    ) {
        let grid = match reason {
            None => &self.answered,
            Some(reason) => self.reasons[reason as usize].get_or_init(Box::default),
        };
        let class = status_class(status);
        let series = grid[method as usize][class].get_or_init(|| {
            let word = reason.map_or("", Reason::word);
            self.requests.get([
                &self.upstream,
                &self.route,
                method.word(),
                STATUS_WORDS[class],
                word,
            ])
        });
        series.inc_on(worker);
        self.duration.record(worker, elapsed);
    }

    /// A request has begun. Each one needs its [`Self::ended`].
    pub fn began(&self) {
        self.in_flight.up();
    }

    /// A request is over, after this many tries were sent towards endpoints.
    pub fn ended(&self, tries: u32) {
        self.in_flight.down();
        self.tries.add(u64::from(tries));
    }
}
