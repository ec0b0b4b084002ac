//! What is counted about overload.

use crate::policy::overload::machine::Pressure;
use crate::policy::overload::machine::Priority;
use crate::telemetry::Counter;
use crate::telemetry::Def;
use crate::telemetry::FloatGauge;
use crate::telemetry::Gauge;
use crate::telemetry::Telemetry;

const PRESSURE: Def<FloatGauge, 1> = Def::new(
    "outrider_overload_pressure",
    "How near outrider itself is to its bounds, 0 to 1, by signal; lag is that of the slowest worker",
    ["signal"],
);
const SHED: Def<Counter, 1> = Def::new(
    "outrider_overload_shed_total",
    "Calls refused because outrider itself has too much to do, by priority",
    ["priority"],
);
const SHADOW_SHED: Def<Counter, 1> = Def::new(
    "outrider_overload_shadow_shed_total",
    "Calls let through that mode enforce would have shed, by priority",
    ["priority"],
);
const IN_FLIGHT: Def<Gauge, 0> = Def::new(
    "outrider_calls_in_flight",
    "Calls in flight in the process, each until its response body has ended",
    [],
);
const LAG: Def<FloatGauge, 1> = Def::new(
    "outrider_event_loop_lag_seconds",
    "How long a ready task waits for its turn, by worker: the least of half a second",
    ["worker"],
);

/// The handles.
#[derive(Debug)]
pub struct Metrics {
    in_flight_pressure: FloatGauge,
    lag_pressure: FloatGauge,
    memory_pressure: FloatGauge,
    shed: [Counter; Priority::ALL.len()],
    shadow: [Counter; Priority::ALL.len()],
    in_flight: Gauge,
    lag: Box<[FloatGauge]>,
}

impl Metrics {
    /// Resolve the handles, for so many workers.
    #[must_use]
    pub fn new(telemetry: &Telemetry, workers: usize) -> Self {
        let (pressure, lag) = (telemetry.family(&PRESSURE), telemetry.family(&LAG));
        let by_priority = |def: &Def<Counter, 1>| {
            let family = telemetry.family(def);
            Priority::ALL.map(|priority| family.get([priority.word()]))
        };
        Self {
            in_flight_pressure: pressure.get(["in_flight"]),
            lag_pressure: pressure.get(["lag"]),
            memory_pressure: pressure.get(["memory"]),
            shed: by_priority(&SHED),
            shadow: by_priority(&SHADOW_SHED),
            in_flight: telemetry.family(&IN_FLIGHT).get([]),
            lag: (0..workers)
                .map(|worker| lag.get([&worker.to_string()]))
                .collect(),
        }
    }

    /// A call was shed.
    pub fn shed(&self, priority: Priority) {
        self.shed[priority as usize].inc();
    }

    /// A call was let through that mode enforce would have shed.
    pub fn would_shed(&self, priority: Priority) {
        self.shadow[priority as usize].inc();
    }

    /// How it stands now, read at a scrape; `lag` in seconds for each worker.
    pub fn stand(&self, pressure: Pressure, in_flight: u64, lag: impl Iterator<Item = f64>) {
        self.in_flight_pressure.set(pressure.in_flight);
        self.lag_pressure.set(pressure.lag);
        self.memory_pressure.set(pressure.memory);
        self.in_flight
            .set(i64::try_from(in_flight).unwrap_or(i64::MAX));
        for (gauge, lag) in self.lag.iter().zip(lag) {
            gauge.set(lag);
        }
    }
}
