//! Settings of retry: what is tried again, how often, how soon, and with what share of the traffic.

use crate::http::GRPC_STATUS;
pub use crate::kit::backoff::BackoffSettings;
pub use crate::kit::backoff::Jitter;
pub use crate::kit::budget::BudgetSettings;
use crate::kit::fields::Fields;
use crate::kit::mode::Mode;

/// The `retry` block, with every value filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Shadow judges and counts, but the first outcome is the answer. Default: enforce.
    pub mode: Mode,
    /// Extra tries after the first, so `max: 3` means up to 4 tries.
    /// Unit: count. Range: 0 to 10. Default: 2: a third and fourth try rarely help, and they multiply over hops.
    pub max: u32,
    /// The share of the traffic that may be retries. Default: 20% over 10s with a floor of 10 a second.
    pub budget: BudgetSettings,
    /// The wait before each retry. Default: full jitter, up to 25ms before the first, doubling to up to 250ms.
    pub backoff: BackoffSettings,
    /// Which outcomes are tried again. Default: see [`When`].
    pub when: When,
    /// Which methods may be tried again once the request may have reached the upstream.
    /// Default: safe methods. A try of which nothing was sent is repeated whatever the method.
    pub methods: Methods,
    /// The largest request body that is kept for another try.
    /// Unit: bytes. Range: 0 to 16MiB. Default: 64KiB, as it is held in memory for each request in flight.
    pub replay: u64,
    /// Wait as long as a `Retry-After` of a 429 or 503 asks (RFC 9110 section 10.2.3), if the deadline allows it.
    /// Default: true.
    pub retry_after: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Enforce,
            max: 2,
            budget: BudgetSettings::default(),
            backoff: BackoffSettings::default(),
            when: When::default(),
            methods: Methods::Safe,
            replay: 64 * 1024,
            retry_after: true,
        }
    }
}

impl Settings {
    /// The settings of a merged `retry` block that is not off.
    pub fn lift<F: Fields>(block: &F) -> Self {
        let built_in = Self::default();
        Self {
            mode: match block.word("mode") {
                Some("shadow") => Mode::Shadow,
                _ => Mode::Enforce,
            },
            max: block.count("max").unwrap_or(built_in.max),
            budget: block.block("budget").map_or(built_in.budget, lift_budget),
            backoff: block
                .block("backoff")
                .map_or(built_in.backoff, lift_backoff),
            when: block
                .list("when")
                .map_or(built_in.when, |words| When::of(&words)),
            methods: lift_methods(block),
            replay: block.size("replay").unwrap_or(built_in.replay),
            retry_after: block.word("retry_after") == Some("honour"),
        }
    }
}

fn lift_budget<F: Fields>(block: &F) -> BudgetSettings {
    let built_in = BudgetSettings::default();
    BudgetSettings {
        share: block.share("share").unwrap_or(built_in.share),
        over: block.duration("over").unwrap_or(built_in.over),
        floor_per_s: block.rate("floor").unwrap_or(built_in.floor_per_s),
    }
}

fn lift_backoff<F: Fields>(block: &F) -> BackoffSettings {
    let built_in = BackoffSettings::default();
    BackoffSettings {
        base: block.duration("base").unwrap_or(built_in.base),
        max: block.duration("max").unwrap_or(built_in.max),
        jitter: match block.word("jitter") {
            Some("equal") => Jitter::Equal,
            Some("decorrelated") => Jitter::Decorrelated,
            Some("none") => Jitter::None,
            _ => Jitter::Full,
        },
    }
}

fn lift_methods<F: Fields>(block: &F) -> Methods {
    if let Some(list) = block.list("methods") {
        return Methods::List(list.into_iter().map(str::to_owned).collect());
    }
    match block.word("methods") {
        Some("all") => Methods::All,
        Some("idempotent") => Methods::Idempotent,
        _ => Methods::Safe,
    }
}

/// The outcomes that are tried again (`when` in the file).
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each one is a word that `when` may hold or not"
)]
pub struct When {
    /// The connection could not be made: refused, unreachable, timed out. Nothing was sent. Default: true.
    pub connect: bool,
    /// The endpoint said that it did not process the request (HTTP/2 `REFUSED_STREAM`, GOAWAY below the stream; RFC 9113
    /// section 8.7). Default: true.
    pub refused: bool,
    /// The connection ended before a response began. The upstream may have acted on the request, so `methods` decides.
    /// Default: true.
    pub reset: bool,
    /// The try used up its time. Default: false: where the upstream is slow because it is full, a second copy of every
    /// slow request is the storm that retries must not be.
    pub try_timeout: bool,
    /// HTTP status codes. Range: 400 to 599. Default: 502, 503, 504 and 429; a 429 is tried again only if it carries
    /// `Retry-After`, for without one the upstream has only said "not now".
    pub statuses: Vec<u16>,
    /// gRPC status codes by number (14 is `unavailable`). Range: 1 to 16. Default: none: gRPC calls are POST, and their
    /// safety is for the policy to declare.
    pub grpc: Vec<u8>,
}

impl Default for When {
    fn default() -> Self {
        Self {
            connect: true,
            refused: true,
            reset: true,
            try_timeout: false,
            statuses: vec![429, 502, 503, 504],
            grpc: Vec::new(),
        }
    }
}

impl When {
    /// The outcomes that such words name: `connect`, `503`, `grpc:unavailable`. Words that name nothing are passed over; the
    /// policy language has refused them before.
    #[must_use]
    pub fn of(words: &[&str]) -> Self {
        let mut when = Self {
            connect: false,
            refused: false,
            reset: false,
            try_timeout: false,
            statuses: Vec::new(),
            grpc: Vec::new(),
        };
        for word in words {
            match *word {
                "connect" => when.connect = true,
                "refused" => when.refused = true,
                "reset" => when.reset = true,
                "try_timeout" => when.try_timeout = true,
                _ => when.add_status(word),
            }
        }
        when.statuses.sort_unstable();
        when.statuses.dedup();
        when.grpc.sort_unstable();
        when.grpc.dedup();
        when
    }

    fn add_status(&mut self, word: &str) {
        if let Some(name) = word.strip_prefix("grpc:") {
            let code = (0..).zip(GRPC_STATUS).find(|(_, known)| *known == name);
            self.grpc.extend(code.map(|(code, _)| code));
        } else {
            self.statuses.extend(word.parse::<u16>().ok());
        }
    }
}

/// Which methods may be sent twice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Methods {
    /// GET, HEAD, OPTIONS, TRACE (RFC 9110 section 9.2.1). The default: a repeat cannot change anything.
    #[default]
    Safe,
    /// The safe ones, PUT and DELETE (RFC 9110 section 9.2.2): a repeat ends in the same state.
    Idempotent,
    /// Every method. The policy vouches for the upstream.
    All,
    /// Exactly these, as written (methods are case-sensitive, RFC 9110 section 9.1).
    List(Vec<String>),
}
