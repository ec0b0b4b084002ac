//! What is counted about TLS to an upstream.

use crate::identity::Flaw;
use crate::telemetry::ByWord;
use crate::telemetry::Counter;
use crate::telemetry::Def;
use crate::telemetry::Telemetry;

const HANDSHAKES: Def<Counter, 2> = Def::new(
    "outrider_tls_handshakes_total",
    "TLS handshakes with endpoints, by result",
    ["upstream", "result"],
);
const SHADOW: Def<Counter, 2> = Def::new(
    "outrider_tls_shadow_handshakes_total",
    "TLS handshakes tried beside plaintext in mode shadow, by result",
    ["upstream", "result"],
);
const PLAINTEXT: Def<Counter, 2> = Def::new(
    "outrider_tls_plaintext_total",
    "Connections in plaintext where mutual TLS was preferred, by why",
    ["upstream", "why"],
);

/// The handles of one upstream.
#[derive(Debug)]
pub struct Metrics {
    handshakes: ByWord,
    plaintext: ByWord,
}

impl Metrics {
    /// Resolves them; `shadow`: handshakes decide nothing.
    #[must_use]
    pub fn new(telemetry: &Telemetry, upstream: &str, shadow: bool) -> Self {
        telemetry.admit(upstream);
        let handshakes = telemetry.family(&HANDSHAKES);
        let tried = telemetry.family(&SHADOW);
        let plaintext = telemetry.family(&PLAINTEXT);
        let (name, of_plaintext) = (upstream.to_owned(), upstream.to_owned());
        Self {
            handshakes: ByWord::new(move |word| {
                let family = if shadow { &tried } else { &handshakes };
                family.get([&name, word])
            }),
            plaintext: ByWord::new(move |why| plaintext.get([&of_plaintext, why])),
        }
    }

    /// A handshake came to its end.
    pub fn shaken(&self, resumed: bool) {
        self.handshakes
            .inc(if resumed { "resumed" } else { "full" });
    }

    /// A handshake failed.
    pub fn failed(&self, flaw: Flaw) {
        self.handshakes.inc(flaw.word());
    }

    /// A connection in plaintext took its place.
    pub fn fell_back(&self, flaw: Flaw) {
        self.plaintext.inc(flaw.word());
    }
}
