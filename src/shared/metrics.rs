//! What is counted about the shared tier.

use std::time::Duration;

use crate::shared::client::Away;
use crate::telemetry::Counter;
use crate::telemetry::Def;
use crate::telemetry::Family;
use crate::telemetry::FloatGauge;
use crate::telemetry::Gauge;
use crate::telemetry::Hist;
use crate::telemetry::Telemetry;

const UP: Def<Gauge, 0> = Def::new(
    "outrider_shared_up",
    "Whether calls ask the shared Redis: 0 while it is away and they go on without",
    [],
);
const ORDERS: Def<Counter, 2> = Def::new(
    "outrider_shared_orders_total",
    "Orders to the shared Redis, by what they were for and what became of them",
    ["purpose", "result"],
);
const SECONDS: Def<Hist, 1> = Def::new(
    "outrider_shared_order_duration_seconds",
    "Time that an order to the shared Redis took, by what it was for",
    ["purpose"],
);
const TURNS: Def<Counter, 1> = Def::new(
    "outrider_shared_breaker_transitions_total",
    "Times the breaker around the shared Redis changed its state",
    ["to"],
);
const DIALS: Def<Counter, 1> = Def::new(
    "outrider_shared_dials_total",
    "Connections that were made to the shared Redis as a whole, by result",
    ["result"],
);
const NODE_UP: Def<Gauge, 2> = Def::new(
    "outrider_shared_node_up",
    "Whether a node of the shared Redis answered the last PING; a replica is up as long as its cluster lists it",
    ["node", "role"],
);
const NODE_SECONDS: Def<FloatGauge, 1> = Def::new(
    "outrider_shared_node_latency_seconds",
    "Time that the last PING of a primary took",
    ["node"],
);

/// Registers every family, so that a page can be held against them.
pub fn register(telemetry: &Telemetry) {
    let _ = Metrics::new(telemetry).purpose("other");
}

/// Handles of all that is not by purpose.
pub struct Metrics {
    up: Gauge,
    orders: Family<Counter, 2>,
    seconds: Family<Hist, 1>,
    opened: Counter,
    closed: Counter,
    dialled: Counter,
    not_dialled: Counter,
    node_up: Family<Gauge, 2>,
    node_seconds: Family<FloatGauge, 1>,
}

impl Metrics {
    /// Resolves them.
    pub fn new(telemetry: &Telemetry) -> Self {
        let (turns, dials) = (telemetry.family(&TURNS), telemetry.family(&DIALS));
        Self {
            up: telemetry.family(&UP).get([]),
            orders: telemetry.family(&ORDERS),
            seconds: telemetry.family(&SECONDS),
            opened: turns.get(["open"]),
            closed: turns.get(["closed"]),
            dialled: dials.get(["ok"]),
            not_dialled: dials.get(["failed"]),
            node_up: telemetry.family(&NODE_UP),
            node_seconds: telemetry.family(&NODE_SECONDS),
        }
    }

    /// Calls ask it from now on, or go on without.
    pub fn turned(&self, is_up: bool) {
        self.up.set(i64::from(is_up));
        if is_up { &self.closed } else { &self.opened }.inc();
    }

    /// Nobody asks any more.
    pub fn stopped(&self) {
        self.up.set(0);
        self.nodes(&[]);
    }

    /// A connection was made, or could not be.
    pub fn dialled(&self, ok: bool) {
        if ok { &self.dialled } else { &self.not_dialled }.inc();
    }

    /// The nodes there are: name, role, whether it answered, and how fast.
    pub fn nodes(&self, all: &[(&str, &str, bool, Option<Duration>)]) {
        self.node_up.retain(|[node, role]| {
            let mut all = all.iter();
            all.any(|known| **node == *known.0 && **role == *known.1)
        });
        self.node_seconds
            .retain(|[node]| all.iter().any(|known| **node == *known.0));
        for (node, role, up, latency) in all {
            self.node_up.get([node, role]).set(i64::from(*up));
            if let Some(latency) = latency {
                self.node_seconds.get([node]).set(latency.as_secs_f64());
            }
        }
    }

    /// Handles for orders of one purpose.
    pub fn purpose(&self, purpose: &'static str) -> Counts {
        Counts {
            ok: self.orders.get([purpose, "ok"]),
            away: Away::ALL.map(|away| self.orders.get([purpose, away.word()])),
            seconds: self.seconds.get([purpose]),
        }
    }
}

/// What is counted for one purpose.
pub struct Counts {
    ok: Counter,
    away: [Counter; Away::ALL.len()],
    /// Of those that were sent.
    pub seconds: Hist,
}

impl Counts {
    /// An order was settled.
    pub fn settled<T>(&self, result: &Result<T, Away>) {
        match result {
            Ok(_) => self.ok.inc(),
            Err(away) => self.away[*away as usize].inc(),
        };
    }
}
