//! What is counted about injected faults.

use crate::policy::fault::machine::Cause;
use crate::policy::fault::machine::Kind;
use crate::policy::fault::machine::Plan;
use crate::policy::fault::machine::State;
use crate::telemetry::Counter;
use crate::telemetry::Def;
use crate::telemetry::Gauge;
use crate::telemetry::Telemetry;

const INJECTED: Def<Counter, 3> = Def::new(
    "outrider_faults_injected_total",
    "Faults injected into calls, by kind",
    ["upstream", "route", "kind"],
);
const SHADOW: Def<Counter, 3> = Def::new(
    "outrider_shadow_faults_total",
    "Faults that would have been injected in mode enforce, by kind",
    ["upstream", "route", "kind"],
);
const ACTIVE: Def<Gauge, 2> = Def::new(
    "outrider_fault_active",
    "1 while faults are injected into calls of the route",
    ["upstream", "route"],
);
const STOPPED: Def<Counter, 3> = Def::new(
    "outrider_faults_stopped_total",
    "Times that fault injection ended, by cause",
    ["upstream", "route", "cause"],
);

impl State {
    /// The word of the log and the admin page.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            State::Running => "running",
            State::Stopped => "stopped",
            State::Over => "over",
        }
    }
}

impl Cause {
    /// Those that end it.
    pub const ENDS: [Cause; 3] = [Cause::Until, Cause::Guard, Cause::ByHand];

    /// The word of the metric label and the log.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Cause::Until => "until",
            Cause::Guard => "guard",
            Cause::ByHand => "by_hand",
            Cause::Resumed => "resumed",
        }
    }
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 4] = [Kind::Delay, Kind::Abort, Kind::Reset, Kind::Bandwidth];

    /// The word of the metric label.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Kind::Delay => "delay",
            Kind::Abort => "abort",
            Kind::Reset => "reset",
            Kind::Bandwidth => "bandwidth",
        }
    }
}

/// The handles of one route's faults.
#[derive(Debug)]
pub struct Metrics {
    injected: [Counter; Kind::ALL.len()],
    shadow: [Counter; Kind::ALL.len()],
    active: Gauge,
    stopped: [Counter; Cause::ENDS.len()],
}

impl Metrics {
    /// Resolve the handles.
    #[must_use]
    pub fn new(telemetry: &Telemetry, upstream: &str, route: &str) -> Self {
        telemetry.admit(upstream);
        let by_kind = |def: &Def<Counter, 3>| {
            let family = telemetry.family(def);
            Kind::ALL.map(|kind| family.get([upstream, route, kind.word()]))
        };
        let stopped = telemetry.family(&STOPPED);
        Self {
            injected: by_kind(&INJECTED),
            shadow: by_kind(&SHADOW),
            active: telemetry.family(&ACTIVE).get([upstream, route]),
            stopped: Cause::ENDS.map(|cause| stopped.get([upstream, route, cause.word()])),
        }
    }

    /// A call was met, or would have been in mode enforce.
    pub fn met(&self, plan: &Plan, shadow: bool) {
        let counters = if shadow { &self.shadow } else { &self.injected };
        for kind in plan.kinds() {
            counters[kind as usize].inc();
        }
    }

    /// It has ended.
    pub fn ended(&self, cause: Cause) {
        if let Some(at) = Cause::ENDS.iter().position(|known| *known == cause) {
            self.stopped[at].inc();
        }
    }

    /// Shows whether calls are met.
    pub fn set_active(&self, active: bool) {
        self.active.set(i64::from(active));
    }
}
