//! What is counted about endpoint ejection.

use crate::policy::eject::machine::Cause;
use crate::telemetry::Counter;
use crate::telemetry::Def;
use crate::telemetry::Gauge;
use crate::telemetry::Telemetry;

const EJECTIONS: Def<Counter, 2> = Def::new(
    "outrider_ejections_total",
    "Endpoints taken out of the balance, by cause",
    ["upstream", "cause"],
);
const SHADOW: Def<Counter, 2> = Def::new(
    "outrider_shadow_ejections_total",
    "Endpoints that would have been taken out in mode enforce, by cause",
    ["upstream", "cause"],
);
const KEPT: Def<Counter, 1> = Def::new(
    "outrider_ejections_kept_total",
    "Endpoints kept in the balance although they failed, because too few would have been left",
    ["upstream"],
);
const OUT: Def<Gauge, 1> = Def::new(
    "outrider_endpoints_ejected",
    "Endpoints that are out of the balance now",
    ["upstream"],
);

/// The handles of one upstream's ejections.
#[derive(Debug)]
pub struct Metrics {
    ejections: [Counter; Cause::ALL.len()],
    shadow: [Counter; Cause::ALL.len()],
    kept: Counter,
    out: Gauge,
}

impl Metrics {
    /// Resolve the handles; `upstream` as in the policy.
    #[must_use]
    pub fn new(telemetry: &Telemetry, upstream: &str) -> Self {
        telemetry.admit(upstream);
        let by_cause = |def: &Def<Counter, 2>| {
            let family = telemetry.family(def);
            Cause::ALL.map(|cause| family.get([upstream, cause.word()]))
        };
        Self {
            ejections: by_cause(&EJECTIONS),
            shadow: by_cause(&SHADOW),
            kept: telemetry.family(&KEPT).get([upstream]),
            out: telemetry.family(&OUT).get([upstream]),
        }
    }

    /// An endpoint was taken out, or would have been in mode enforce.
    pub fn ejected(&self, cause: Cause, shadow: bool) {
        if shadow {
            self.shadow[cause as usize].inc();
        } else {
            self.ejections[cause as usize].inc();
            self.out.inc();
        }
    }

    /// A verdict was not carried out: the endpoint was kept in, for too few would have been left.
    pub fn kept(&self) {
        self.kept.inc();
    }

    /// The number of endpoints that are out, counted anew. An ejection ends by the passing of time, which tells nobody:
    /// count before a scrape.
    pub fn set_out(&self, count: usize) {
        self.out.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
