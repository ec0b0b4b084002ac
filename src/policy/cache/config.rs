//! Settings of the cache: what is kept, for how long, for whom, and what it is good for when the upstream fails.

use std::time::Duration;

use http::HeaderName;

use crate::kit::fields::Fields;
use crate::kit::mode::Mode;

/// Statuses that concern one request, one caller or one moment, so that a copy of them is never right for another.
/// 401 and 407 ask for credentials, 408, 425 and 429 tell to come again, 412, 416, 417, 426 and 428 answer a condition or a
/// field of this request, 421 is about the connection.
pub const NEVER_NEGATIVE: [u16; 12] = [401, 407, 408, 412, 416, 417, 421, 425, 426, 428, 429, 431];

/// The `cache` block of an upstream or a route, with every value filled in.
///
/// With nothing but `cache: {}` the origin's fields rule, as RFC 9111 has a shared cache read them. Each value then says
/// where the policy speaks instead of the origin.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Shadow decides, keeps and counts, but every call goes to the upstream and no answer is changed. Default: enforce.
    pub mode: Mode,
    /// How long the answer to a GET is fresh where the origin says nothing of it (no `max-age`, `s-maxage` or `Expires`).
    /// Unit: duration. Range: 0 to 30 days. Default: off. What the origin forbids (`no-store`, `private`) stays forbidden.
    pub get: Option<Duration>,
    /// Bounds on the freshness that the origin states.
    pub ttl: Ttl,
    /// The share of the time since `Last-Modified` for which an answer without any statement of its own is fresh
    /// (RFC 9111 section 4.2.2), at most a day. `get` goes before it. Range: above 0 to 1. Default: off.
    pub heuristic: Option<f64>,
    /// How long failures are kept that say nothing of freshness themselves. Default: off, which keeps those that the origin
    /// makes cacheable and no others.
    pub negative: Option<Negative>,
    /// How long after its freshness an answer may be served while one call refreshes it (RFC 5861 section 3). Of this and
    /// the origin's own `stale-while-revalidate` the origin's counts. Range: 0 to 30 days. Default: off.
    pub stale_while_revalidate: Option<Duration>,
    /// How long after its freshness an answer may be served because the upstream fails or cannot be called: an open breaker,
    /// a deadline, a full bulkhead, a limit, a failed connection, a 500, 502, 503 or 504 (RFC 5861 section 4). Of this and
    /// the origin's own `stale-if-error` the longer counts: an origin that is down cannot be asked again. Never for an
    /// answer with `must-revalidate`, `proxy-revalidate`, `s-maxage` or `no-cache`. Range: 0 to 30 days. Default: off.
    pub stale_if_error: Option<Duration>,
    /// Larger bodies are passed on and not kept. Unit: bytes. Range: 1 to 1 GiB. Default: 1 MiB.
    pub max_body: u64,
    /// Request headers that are part of the key, whether or not the origin names them in `Vary`. Default: none.
    pub vary: Vec<HeaderName>,
    /// What tells principals apart, each with a cache of its own. Default: nothing, one cache for all callers.
    pub per: Vec<Principal>,
    /// Whether answers to requests with `Authorization` may be kept at all.
    pub credentialed: Credentialed,
    /// What is put on calls behind the cache, which then answers as if the application had sent it. Default: nothing.
    pub vouched: Option<Vouched>,
    /// What cookies mean.
    pub cookies: Cookies,
    /// The response header that names the tags to purge by, such as `Surrogate-Key` or `Cache-Tag`; a list with spaces or
    /// commas between. Default: off.
    pub tags: Option<HeaderName>,
    /// Whether that header is taken off what is answered. Default: false.
    pub strip_tags: bool,
    /// Whether what is kept is also kept in Redis (`redis` at the top), for all pods of the service; and whether one of them
    /// fetches what none has, while the others wait as `collapse` says. Default: false.
    pub shared: bool,
    /// How long a call waits for another one that fetches the same, before it fetches by itself; `None` never waits.
    /// Range: 1ms to 1 minute. Default: 5s.
    pub collapse: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Enforce,
            get: None,
            ttl: Ttl::default(),
            heuristic: None,
            negative: None,
            stale_while_revalidate: None,
            stale_if_error: None,
            max_body: 1 << 20,
            vary: Vec::new(),
            per: Vec::new(),
            credentialed: Credentialed::Standard,
            vouched: None,
            cookies: Cookies::Careful,
            tags: None,
            strip_tags: false,
            shared: false,
            collapse: Some(Duration::from_secs(5)),
        }
    }
}

impl Settings {
    /// The settings of a merged `cache` block that is not off.
    pub fn lift<F: Fields>(block: &F) -> Self {
        let built_in = Self::default();
        Self {
            mode: match block.word("mode") {
                Some("shadow") => Mode::Shadow,
                _ => Mode::Enforce,
            },
            get: block.duration("get"),
            ttl: block.block("ttl").map(Ttl::lift).unwrap_or_default(),
            heuristic: block.share("heuristic"),
            negative: block.block("negative").map(Negative::lift),
            stale_while_revalidate: block.duration("stale_while_revalidate"),
            stale_if_error: block.duration("stale_if_error"),
            max_body: block.size("max_body").unwrap_or(built_in.max_body),
            vary: texts(block, "vary")
                .filter_map(|name| name.parse().ok())
                .collect(),
            per: texts(block, "per").filter_map(Principal::parse).collect(),
            credentialed: match block.word("credentialed") {
                Some("off") => Credentialed::Off,
                Some("own") => Credentialed::Own,
                _ => Credentialed::Standard,
            },
            vouched: None,
            cookies: match block.word("cookies") {
                Some("ignore") => Cookies::Ignore,
                _ => Cookies::Careful,
            },
            tags: block.word("tags").and_then(|name| name.parse().ok()),
            strip_tags: block.flag("strip_tags").unwrap_or(built_in.strip_tags),
            shared: block.flag("shared").unwrap_or(built_in.shared),
            collapse: block.duration("collapse"),
        }
    }
}

/// The texts of a list, or the one that stands in its place.
fn texts<'a, F: Fields>(block: &'a F, key: &str) -> impl Iterator<Item = &'a str> {
    let one = || block.word(key).map(|word| vec![word]);
    block.list(key).or_else(one).unwrap_or_default().into_iter()
}

/// `ttl`: bounds on the freshness that the origin states. Neither makes an answer cacheable that is not, nor lets one with
/// `no-cache` or `must-revalidate` be served without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ttl {
    /// A shorter freshness is lengthened to this. Range: 0 to 30 days. Default: off.
    pub min: Option<Duration>,
    /// A longer freshness is cut to this. Range: 0 to 30 days. Default: off.
    pub max: Option<Duration>,
}

impl Ttl {
    /// The bounds of a merged `ttl` block.
    pub fn lift<F: Fields>(block: &F) -> Self {
        Self {
            min: block.duration("min"),
            max: block.duration("max"),
        }
    }

    /// The freshness that counts where the origin states `lifetime`.
    #[must_use]
    pub fn bound(&self, lifetime: Duration) -> Duration {
        let raised = lifetime.max(self.min.unwrap_or_default());
        self.max.map_or(raised, |max| raised.min(max))
    }
}

/// `negative`: failures that are kept although they do not say for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negative {
    /// How long. Range: 1ms to 1 hour. Default: 10s: a thing that is missing may be there soon.
    pub lasting: Duration,
    /// Which. Range: 400 to 599 without [`NEVER_NEGATIVE`]. Default: 404 and 410, which are about the resource and not about
    /// the moment.
    pub statuses: Vec<u16>,
}

impl Default for Negative {
    fn default() -> Self {
        Self {
            lasting: Duration::from_secs(10),
            statuses: vec![404, 410],
        }
    }
}

impl Negative {
    /// The settings of a merged `negative` block that is not off.
    pub fn lift<F: Fields>(block: &F) -> Self {
        let built_in = Self::default();
        Self {
            lasting: block.duration("ttl").unwrap_or(built_in.lasting),
            statuses: block.list("statuses").map_or(built_in.statuses, |list| {
                let codes = list.into_iter().filter_map(|text| text.parse().ok());
                codes.collect()
            }),
        }
    }

    /// How long an answer of this status is fresh that does not say so itself.
    #[must_use]
    pub fn of(&self, status: u16) -> Option<Duration> {
        self.statuses.contains(&status).then_some(self.lasting)
    }
}

/// What tells principals apart. Calls without it share a cache among themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// All values of a request header, `header:NAME`.
    Header(HeaderName),
    /// The value of a cookie, `cookie:NAME`.
    Cookie(String),
}

impl Principal {
    /// `header:NAME` or `cookie:NAME`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once(':')?;
        match kind {
            "header" => name.parse().ok().map(Self::Header),
            // A cookie's name is a token (RFC 6265 section 4.1.1), like a header's, but with its case.
            "cookie" => {
                HeaderName::from_bytes(name.as_bytes()).ok()?;
                Some(Self::Cookie(name.to_owned()))
            }
            _ => None,
        }
    }
}

/// What is done with answers to requests that carry `Authorization`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Credentialed {
    /// RFC 9111 section 3.5: kept and shared where the origin says `public`, `s-maxage` or `must-revalidate`; or kept for
    /// their own principal where `per` names `header:authorization`. Default.
    #[default]
    Standard,
    /// Never kept, never answered from what is kept.
    Off,
    /// As standard for what the application sends; what the policy's own `credential` puts on a call is that of the service
    /// itself, the same for all that it calls, and changes nothing.
    Own,
}

/// A credential that is put on calls behind the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vouched {
    /// The header that carries it.
    pub header: HeaderName,
    /// Whether the application's own header is replaced by it.
    pub overwrite: bool,
}

/// What cookies mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cookies {
    /// An answer with `Set-Cookie` is kept only where the origin says `public`. An answer to a request with `Cookie` is kept
    /// only where the origin states its freshness: `get`, `heuristic` and `negative` do not speak for it. Default.
    #[default]
    Careful,
    /// Cookies change nothing in the answers of this upstream. `Set-Cookie` goes to the client that caused it and is not
    /// kept.
    Ignore,
}

/// `cache` at the top: what all upstreams share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreSettings {
    /// The most memory that kept answers take, with their heads and keys.
    /// Unit: bytes. Range: 1 MiB to 64 GiB. Default: 64 MiB. Changed at a reload without losing what fits.
    pub memory: u64,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self { memory: 64 << 20 }
    }
}

impl StoreSettings {
    /// The settings of the merged block.
    pub fn lift<F: Fields>(block: &F) -> Self {
        Self {
            memory: block.size("memory").unwrap_or(Self::default().memory),
        }
    }
}
