//! Settings of active health checks: what each endpoint of an upstream is asked, how often, and what its answers mean.

use std::fmt;
use std::time::Duration;

use crate::kit::fields::Fields;
use crate::kit::mode::Mode;

/// The `health` block, with every value filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Shadow probes, counts and tells, but endpoints keep their share of the traffic. Default: enforce.
    pub mode: Mode,
    /// What is asked. Default: HTTP, `GET /healthz`.
    pub probe: Probe,
    /// Time between two probes of one endpoint, +-15% by chance so that many pods do not probe in step.
    /// Unit: duration. Range: 100ms to 1h. Default: 5s.
    pub every: Duration,
    /// How long one probe may take, from connecting to the answer. At most `every`.
    /// Unit: duration. Range: 1ms to 1m. Default: 1s.
    pub timeout: Duration,
    /// Successes in a row that bring an unhealthy endpoint back.
    /// Unit: count. Range: 1 to 100. Default: 2: one lucky answer of a server that still starts is not enough.
    pub healthy: u32,
    /// Failures in a row that take an endpoint out.
    /// Unit: count. Range: 1 to 100. Default: 3: a lost packet or a pause of the garbage collector is not the end.
    pub unhealthy: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Enforce,
            probe: Probe::default(),
            every: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            healthy: 2,
            unhealthy: 3,
        }
    }
}

/// What an endpoint is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Probe {
    /// `GET path` over HTTP/1.1; the status decides, the body is not read.
    Http {
        /// Path and query. Default: `/healthz`.
        path: String,
        /// Statuses that pass. Default: 200 to 399, as Kubernetes has it (Envoy takes 200 alone).
        expect: Vec<Statuses>,
    },
    /// `grpc.health.v1.Health/Check` over HTTP/2 without TLS; SERVING passes.
    Grpc {
        /// The service that is asked for. Default: empty, the server as a whole.
        service: String,
    },
    /// A connection that can be opened passes.
    Tcp,
    /// `PING`; an answer passes, also one that asks for a password.
    Redis,
    /// A start-up message of protocol 3.0; a request to authenticate passes, and so does a refusal that is about us.
    Postgres,
}

impl Default for Probe {
    fn default() -> Self {
        Self::Http {
            path: "/healthz".to_owned(),
            expect: vec![Statuses(200, 299), Statuses(300, 399)],
        }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { path, .. } => write!(f, "http GET {path}"),
            Self::Grpc { service } if service.is_empty() => f.write_str("grpc"),
            Self::Grpc { service } => write!(f, "grpc {service}"),
            Self::Tcp => f.write_str("tcp"),
            Self::Redis => f.write_str("redis"),
            Self::Postgres => f.write_str("postgres"),
        }
    }
}

/// The first and the last status of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statuses(pub u16, pub u16);

impl Statuses {
    /// Reads `204` or `2xx`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(class) = text.strip_suffix("xx") {
            let class = class.parse::<u16>().ok().filter(|_| class.len() == 1)?;
            return (1..=5)
                .contains(&class)
                .then_some(Self(class * 100, class * 100 + 99));
        }
        let status = text.parse::<u16>().ok().filter(|_| text.len() == 3)?;
        (100..=599)
            .contains(&status)
            .then_some(Self(status, status))
    }

    /// Whether `status` is one of them.
    #[must_use]
    pub const fn has(self, status: u16) -> bool {
        self.0 <= status && status <= self.1
    }
}

impl Settings {
    /// The settings of a merged `health` block that is not off.
    pub fn lift<F: Fields>(block: &F) -> Self {
        let built_in = Self::default();
        let every = block.duration("every").unwrap_or(built_in.every);
        let timeout = block.duration("timeout").unwrap_or(built_in.timeout);
        Self {
            mode: match block.word("mode") {
                Some("shadow") => Mode::Shadow,
                _ => Mode::Enforce,
            },
            probe: probe(block),
            every,
            // A short `every` brings a short time with it, so that it need not be written twice.
            timeout: timeout.min(every),
            healthy: block.count("healthy").unwrap_or(built_in.healthy),
            unhealthy: block.count("unhealthy").unwrap_or(built_in.unhealthy),
        }
    }
}

fn probe<F: Fields>(block: &F) -> Probe {
    let service = block.word("service");
    // Only gRPC has services, so naming one says what is spoken.
    let grpc = match block.word("probe") {
        Some("auto") | None => service.is_some(),
        word => word == Some("grpc"),
    };
    match block.word("probe") {
        _ if grpc => Probe::Grpc {
            service: service.unwrap_or_default().to_owned(),
        },
        Some("tcp") => Probe::Tcp,
        Some("redis") => Probe::Redis,
        Some("postgres") => Probe::Postgres,
        _ => Probe::Http {
            path: block.word("get").unwrap_or("/healthz").to_owned(),
            expect: block
                .list("expect")
                .unwrap_or_default()
                .into_iter()
                .filter_map(Statuses::parse)
                .collect(),
        },
    }
}
