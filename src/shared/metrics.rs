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
const COMMANDS: Def<Counter, 2> = Def::new(
    "outrider_shared_commands_total",
    "Commands to the shared Redis, by what they were for and what became of them",
    ["purpose", "result"],
);
const SECONDS: Def<Hist, 1> = Def::new(
    "outrider_shared_command_duration_seconds",
    "Time that a command to the shared Redis took, by what it was for",
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
    let _ = TierMetrics::new(telemetry);
}

/// Handles of all that is not by purpose.
pub struct Metrics {
    up: Gauge,
    commands: Family<Counter, 2>,
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
            commands: telemetry.family(&COMMANDS),
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

    /// Handles for commands of one purpose.
    pub fn purpose(&self, purpose: &'static str) -> Counts {
        Counts {
            ok: self.commands.get([purpose, "ok"]),
            away: Away::ALL.map(|away| self.commands.get([purpose, away.word()])),
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
    /// A command was settled.
    pub fn settled<T>(&self, result: &Result<T, Away>) {
        match result {
            Ok(_) => self.ok.inc(),
            Err(away) => self.away[*away as usize].inc(),
        };
    }
}

const LOOKUPS: Def<Counter, 1> = Def::new(
    "outrider_cache_shared_lookups_total",
    "Looks into the shared Redis for what memory does not have, by what was found",
    ["result"],
);
const WRITES: Def<Counter, 1> = Def::new(
    "outrider_cache_shared_writes_total",
    "Kept answers on their way to the shared Redis, by what became of them",
    ["result"],
);
const LEASES: Def<Counter, 1> = Def::new(
    "outrider_cache_shared_leases_total",
    "Answers that no pod had, by who fetched: this pod for all, another for it, or this one for itself after all",
    ["result"],
);
const PURGES: Def<Counter, 1> = Def::new(
    "outrider_cache_shared_purges_total",
    "Purges and invalidations that other pods ordered, or that stand for what this one may have missed",
    ["kind"],
);
const IN_STEP: Def<Gauge, 0> = Def::new(
    "outrider_cache_shared_in_step",
    "Whether this pod knows of every purge, so that it may believe what is in the shared Redis",
    [],
);

/// What was found in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// An answer.
    Hit,
    /// Nothing.
    Miss,
    /// An answer that is too old for the call.
    Stale,
    /// An answer that was purged, or may have been.
    Purged,
    /// Something that is no answer to this: of another version, broken, or of another key.
    Foreign,
    /// Redis was of no help.
    Away,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// Redis has it.
    Written,
    /// Redis did not take it in time.
    Failed,
    /// Too much waited already.
    Dropped,
    /// Larger than anything that is shared.
    TooLarge,
}

/// Who fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leased {
    /// This pod, for all.
    Taken,
    /// Another pod, while a call here waited.
    Waited,
    /// This pod for itself: another had the lease and was not done in time.
    Alone,
}

/// What is counted about the second tier of the cache.
pub struct TierMetrics {
    lookups: [Counter; 6],
    writes: [Counter; 4],
    leases: [Counter; 3],
    purges: Counter,
    invalidations: Counter,
    in_step: Gauge,
}

impl TierMetrics {
    /// Resolves the handles.
    #[must_use]
    pub fn new(telemetry: &Telemetry) -> Self {
        let lookups = telemetry.family(&LOOKUPS);
        let writes = telemetry.family(&WRITES);
        let leases = telemetry.family(&LEASES);
        let purges = telemetry.family(&PURGES);
        Self {
            lookups: ["hit", "miss", "stale", "purged", "foreign", "away"]
                .map(|word| lookups.get([word])),
            writes: ["written", "failed", "dropped", "too_large"].map(|word| writes.get([word])),
            leases: ["taken", "waited", "alone"].map(|word| leases.get([word])),
            purges: purges.get(["purge"]),
            invalidations: purges.get(["invalidation"]),
            in_step: telemetry.family(&IN_STEP).get([]),
        }
    }

    /// A look into Redis.
    pub fn looked(&self, looked: Looked) {
        self.lookups[looked as usize].inc();
    }

    /// The end of a write.
    pub fn wrote(&self, write: Write) {
        self.writes[write as usize].inc();
    }

    /// Who fetched.
    pub fn leased(&self, leased: Leased) {
        self.leases[leased as usize].inc();
    }

    /// Another pod's purge was done here.
    pub fn purged(&self) {
        self.purges.inc();
    }

    /// Another pod's invalidation was done here.
    pub fn invalidated(&self) {
        self.invalidations.inc();
    }

    /// Whether every purge is known.
    pub fn in_step(&self, is: bool) {
        self.in_step.set(i64::from(is));
    }
}
