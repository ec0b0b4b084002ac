//! Settings of the deadline: how long a call, a try, a connect and a silence may last.

use std::time::Duration;

use crate::kit::fields::Fields;

/// The `timeout` block, with every value filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The whole call as the application sees it: all tries and the back-off between them, up to the response head.
    /// Unit: duration. Range: 1ms to 24h. Default: 5s. A finite default, because most applications set none and
    /// then hang with the dependency.
    pub total: Duration,
    /// The longest that one try may take to the response head (`try` in the file).
    /// Unit: duration. Range: 1ms to `total`. Default: none, meaning the time remaining divided by the tries left, at least
    /// 100ms: a slow first try then leaves room for the second, and the last try gets all that is left.
    pub per_try: Option<Duration>,
    /// The longest that one connection attempt may take (TCP and TLS).
    /// Unit: duration. Range: 1ms to 1m. Default: 1s: one lost SYN is retransmitted after 1s (RFC 6298 section 2.1), so
    /// longer than this means that the endpoint is gone and another should be tried.
    pub connect: Duration,
    /// The longest silence inside a body, in either direction. Not a limit on its length: streams may last for days.
    /// Unit: duration. Range: 1ms to 24h. Default: 5m, as the peers' stream idle time-out.
    pub idle: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            total: Duration::from_secs(5),
            per_try: None,
            connect: Duration::from_secs(1),
            idle: Duration::from_secs(300),
        }
    }
}

impl Settings {
    /// The settings of a merged `timeout` block.
    pub fn lift<F: Fields>(block: &F) -> Self {
        let built_in = Self::default();
        Self {
            total: block.duration("total").unwrap_or(built_in.total),
            // `auto` is a word, so it has no duration.
            per_try: block.duration("try"),
            connect: block.duration("connect").unwrap_or(built_in.connect),
            idle: block.duration("idle").unwrap_or(built_in.idle),
        }
    }
}
