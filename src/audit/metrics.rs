//! What the audit log tells of itself.

use crate::telemetry::Counter;
use crate::telemetry::Def;
use crate::telemetry::Gauge;
use crate::telemetry::Telemetry;

const WRITTEN: Def<Counter, 0> = Def::new(
    "outrider_audit_records_total",
    "Audit records that are on the disk",
    [],
);
const LOST: Def<Counter, 0> = Def::new(
    "outrider_audit_lost_total",
    "Audit events that were lost because the disk did not keep up; a record tells how many",
    [],
);
const ERRORS: Def<Counter, 0> = Def::new(
    "outrider_audit_errors_total",
    "Failed attempts to write the audit log",
    [],
);
const FAILING: Def<Gauge, 0> = Def::new(
    "outrider_audit_failing",
    "1 while the audit log cannot be written",
    [],
);

/// The handles.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(super) written: Counter,
    pub(super) lost: Counter,
    pub(super) errors: Counter,
    pub(super) failing: Gauge,
}

impl Metrics {
    /// Registered at the first call.
    #[must_use]
    pub fn new(telemetry: &Telemetry) -> Self {
        Self {
            written: telemetry.family(&WRITTEN).get([]),
            lost: telemetry.family(&LOST).get([]),
            errors: telemetry.family(&ERRORS).get([]),
            failing: telemetry.family(&FAILING).get([]),
        }
    }
}
