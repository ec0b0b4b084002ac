//! Whether an answer may be kept, and whether a kept one may be used: RFC 9111 with RFC 5861, 8246, 9211 and 9213.
//!
//! Text and moments in, decisions out. One call goes through it like this:
//!
//! | step | asks | and gets |
//! |---|---|---|
//! | [`ask::read`] | the request | `Serve(asked)`, `Invalidates` (an unsafe method), or `Pass(why)` |
//! | [`key`] | the target, the principal | the primary key |
//! | [`vary`] | the stored variants | the one that the request selects |
//! | [`reuse::judge`] | asked, stored, now | one row of the table below |
//! | [`range`], [`part`] | `Range`, the whole or a part that is stored | which bytes of it answer |
//! | [`store::judge`] | request, answer, rules | `Stored`, or why not |
//!
//! What becomes of a stored answer (RFC 9111 section 4), first row that holds:
//!
//! | request | stored | use |
//! |---|---|---|
//! | Cookie or Authorization, and neither is in the key | fresh by our policy only, not by its origin's word | Bypass |
//! | `no-cache` | any | Validate |
//! | any | `no-cache` | Validate |
//! | `min-fresh`, `max-age` not held (`max-age` gives way to `immutable`) | fresh | Validate |
//! | any | fresh | Fresh |
//! | any | stale, and its origin forbids stale answers | Validate |
//! | `max-stale` holds | stale | Stale |
//! | no limit of its own | stale by less than stale-while-revalidate | Revalidating |
//! | any | stale | Validate |
//! | `only-if-cached` | where the row says Validate, or nothing is stored | GatewayTimeout |

use std::time::Duration;
use std::time::Instant;

pub mod ask;
pub mod directives;
pub mod fresh;
pub mod invalidate;
pub mod key;
pub mod part;
pub mod range;
pub mod reuse;
pub mod status;
pub mod store;
pub mod syntax;
pub mod targeted;
pub mod validate;
pub mod vary;
pub mod wire;

pub use ask::Asked;
pub use ask::Bypass;
pub use ask::Intake;
pub use fresh::Source;
pub use reuse::Use;
pub use store::WhyNot;

/// The fields of a head, as far as the engine reads them.
pub trait Headers {
    /// The value of every field line called `name` (lower case), in order.
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]>;

    /// Every name, in lower case; a repeated one at least once.
    fn names(&self) -> impl Iterator<Item = &str>;

    /// Bytes of all names and values together, four more a line.
    fn bytes(&self) -> usize;

    /// The value of the first field line called `name`.
    fn first<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        self.values(name).next()
    }

    /// Whether a field line is called `name`.
    fn has(&self, name: &str) -> bool {
        self.values(name).next().is_some()
    }
}

/// What the policy adds to the words of origin and client.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// How long an answer is fresh whose origin says nothing. None: then it is not fresh at all.
    pub default_ttl: Option<Duration>,
    /// The least lifetime, over a shorter one of the origin.
    pub ttl_min: Option<Duration>,
    /// The greatest lifetime, under a longer one of the origin.
    pub ttl_max: Option<Duration>,
    /// The share of the time since `Last-Modified` that an answer is fresh whose origin and policy say nothing
    /// (RFC 9111 section 4.2.2). None: no guessing.
    pub heuristic: Option<f64>,
    /// How long an answer of this status is fresh whose origin says nothing: errors, mostly. Statuses in any order.
    pub negative: Vec<(u16, Duration)>,
    /// Served stale while one call refreshes it, where the origin says nothing.
    pub stale_while_revalidate: Duration,
    /// Served stale where the upstream fails; the longer of this and what the origin allows.
    pub stale_if_error: Duration,
    /// Cookies mean nothing here: answers to requests that carry some are kept like any other, and answers that set some
    /// without them.
    pub cookies: bool,
    /// Answers to requests with `Authorization` may be kept, and used, as RFC 9111 section 3.5 has it. False: not at all,
    /// unless the key holds it.
    pub credentialed: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            default_ttl: None,
            ttl_min: None,
            ttl_max: None,
            heuristic: None,
            negative: Vec::new(),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            cookies: false,
            credentialed: true,
        }
    }
}

/// When an answer was asked for and came, by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// The request was sent.
    pub requested: Instant,
    /// The head of the answer came.
    pub received: Instant,
    /// The same by the wall clock: seconds since 1970.
    pub received_unix: u64,
}

/// All that is known of a kept answer besides its head and body. Never changed: a validation makes a new one.
#[expect(clippy::struct_excessive_bools, reason = "each is one directive")]
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The status it was answered with.
    pub status: u16,
    /// When it came, or was last validated. Its age grows from here by the monotonic clock, so that a jump of the wall
    /// clock makes nothing younger.
    pub received: Instant,
    /// `corrected_initial_age` of RFC 9111 section 4.2.3.
    pub initial_age: Duration,
    /// How long it is fresh, counted in age.
    pub lifetime: Duration,
    /// Who said so.
    pub source: Source,
    /// Its `Date`, or when it came: seconds since 1970.
    pub date: i64,
    /// Must be validated before each use (`no-cache`).
    pub no_cache: bool,
    /// Must not be used stale, whatever fails: `must-revalidate`, `proxy-revalidate`.
    pub revalidate: bool,
    /// Lives by `s-maxage`, which forbids stale use as well, except by what the origin itself allows.
    pub shared_age: bool,
    /// Will not change while it is fresh (RFC 8246).
    pub immutable: bool,
    /// Past its lifetime, how long it may be used while it is refreshed: what is left after all who forbid it were heard.
    pub stale_while_revalidate: Duration,
    /// Past its lifetime, how long it may be used if the upstream fails; likewise.
    pub stale_if_error: Duration,
    /// Its entity tag as sent.
    pub etag: Option<Box<[u8]>>,
    /// Its `Last-Modified` as sent, and in seconds since 1970; none if it is not a date.
    pub last_modified: Option<(Box<[u8]>, i64)>,
    /// What selected it.
    pub selected: vary::Selected,
    /// What it holds, where that is not all: a 206, or an answer that broke off.
    pub part: Option<part::Span>,
    /// Fields that must not be kept with it (`private="..."`, `no-cache="..."`): lower-case names.
    pub withheld: Vec<Box<[u8]>>,
}
