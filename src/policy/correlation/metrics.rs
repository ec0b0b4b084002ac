//! What is counted about correlation: whether the application sends traces and identities, or they begin here.

use crate::telemetry::Def;
use crate::telemetry::Tally;
use crate::telemetry::Telemetry;

const TRACES: Def<Tally, 1> = Def::new(
    "outrider_traces_total",
    "Calls by where their trace comes from",
    ["origin"],
);
const REQUEST_IDS: Def<Tally, 1> = Def::new(
    "outrider_request_ids_total",
    "Calls by where their request identifier comes from",
    ["origin"],
);

/// Where a trace comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Origin {
    /// The application sent a valid `traceparent`.
    W3c,
    /// The application sent B3 fields.
    B3,
    /// The application sent none that is valid.
    Begun,
}

impl Origin {
    const ALL: [Self; 3] = [Self::W3c, Self::B3, Self::Begun];

    /// The label value.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::W3c => "w3c",
            Self::B3 => "b3",
            Self::Begun => "begun",
        }
    }
}

/// The handles of the room; one set for the process, since origins differ by application and not by upstream.
#[derive(Clone, Debug)]
pub struct Metrics {
    traces: [Tally; Origin::ALL.len()],
    ids_kept: Tally,
    ids_begun: Tally,
}

impl Metrics {
    /// Resolve the handles.
    #[must_use]
    pub fn new(telemetry: &Telemetry) -> Self {
        let traces = telemetry.family(&TRACES);
        let ids = telemetry.family(&REQUEST_IDS);
        Self {
            traces: Origin::ALL.map(|origin| traces.get([origin.word()])),
            ids_kept: ids.get(["kept"]),
            ids_begun: ids.get(["begun"]),
        }
    }

    /// A call's trace was taken over or begun.
    pub fn trace(&self, origin: Origin) {
        self.traces[origin as usize].inc();
    }

    /// A call's `x-request-id` was kept, or begun because there was none that is valid.
    pub fn request_id(&self, kept: bool) {
        if kept {
            self.ids_kept.inc();
        } else {
            self.ids_begun.inc();
        }
    }
}
