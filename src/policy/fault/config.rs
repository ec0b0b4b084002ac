//! Settings of fault injection: what is done, to how many calls, until when, and what ends it early.

use std::time::Duration;

use crate::http::Code;
use crate::http::GRPC_STATUS;
use crate::http::grpc_of_http;
use crate::http::http_of_grpc;
use crate::kit::fields::Fields;
use crate::kit::mode::Mode;
use crate::kit::units;
use crate::kit::units::Unfit;

/// The `fault` block, with every value filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Shadow draws and counts the calls that would be met, and does nothing to them. Default: enforce.
    pub mode: Mode,
    /// How long a call waits before anything else is done to it. It is spent of the call's timeout, as a slow network would.
    /// Unit: duration. Range: 1ms to 1h. Default: none.
    pub delay: Option<Duration>,
    /// What a call is answered instead of being made. Range: 400 to 599, or a gRPC status by name. Default: none.
    pub abort: Option<Code>,
    /// Whether the client's connection (HTTP/1) or stream (HTTP/2) is reset instead of the call being made. Default: false.
    pub reset: bool,
    /// How fast the response body reaches the client, each call for itself.
    /// Unit: bytes a second. Range: 1 KiB to 1 GiB. Default: none, as fast as it comes.
    pub bandwidth: Option<u64>,
    /// The share of calls that are met, drawn for each one. Unit: share. Range: above 0 to 1. Default: 1.
    pub share: f64,
    /// When it ends, since 1970-01-01T00:00:00Z. Has no default: a fault that nobody ends is an outage.
    pub until: Duration,
    /// It ends early when more than this share of the calls fails that outrider did not fail itself, over [`OVER`] and at
    /// least [`MIN_CALLS`]. Unit: share. Range: above 0 to below 1. Default: none.
    pub stop_when: Option<f64>,
}

/// What `stop_when` looks back on.
pub const OVER: Duration = Duration::from_secs(10);
/// Fewer calls than this within [`OVER`] never stop a fault: below that, one bad call is 5 % and more.
pub const MIN_CALLS: u32 = 20;

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Enforce,
            delay: None,
            abort: None,
            reset: false,
            bandwidth: None,
            share: 1.0,
            until: Duration::ZERO,
            stop_when: None,
        }
    }
}

impl Settings {
    /// The settings of a merged `fault` block that is not off.
    pub fn lift<F: Fields>(block: &F) -> Self {
        let built_in = Self::default();
        Self {
            mode: match block.word("mode") {
                Some("shadow") => Mode::Shadow,
                _ => Mode::Enforce,
            },
            delay: block.duration("delay"),
            abort: block.word("abort").and_then(|text| abort(text).ok()),
            reset: block.flag("reset").unwrap_or(built_in.reset),
            bandwidth: block.size("bandwidth"),
            share: block.share("share").unwrap_or(built_in.share),
            until: block
                .word("until")
                .and_then(|text| until(text).ok())
                .unwrap_or(built_in.until),
            stop_when: block.word("stop_when").and_then(|text| guard(text).ok()),
        }
    }

    /// Whether there is anything to do to a call.
    #[must_use]
    pub fn does_something(&self) -> bool {
        self.delay.is_some() || self.abort.is_some() || self.reset || self.bandwidth.is_some()
    }
}

/// Reads `abort`: `503`, or `grpc:unavailable`. Each is answered to the other kind of call by the customary mapping.
///
/// # Errors
/// If it is neither an error status of HTTP nor one of gRPC.
pub fn abort(text: &str) -> Result<Code, Unfit> {
    if let Some(name) = text.strip_prefix("grpc:") {
        let known = (0_u8..).zip(GRPC_STATUS).find(|(_, known)| *known == name);
        return match known {
            Some((0, _)) => Err(Unfit::new("`grpc:ok` is success, not a fault")),
            Some((code, _)) => Ok(Code {
                http: http_of_grpc(code),
                grpc: code,
            }),
            None => Err(Unfit::new(format!("unknown gRPC status in `{text}`"))
                .hint("the names are those of the gRPC specification in lower case, such as `grpc:unavailable`")),
        };
    }
    match text.parse::<u16>() {
        Ok(status) if (400..=599).contains(&status) => Ok(Code {
            http: status,
            grpc: grpc_of_http(status),
        }),
        Ok(status) => Err(Unfit::new(format!(
            "status {status} is not a failure: 400 to 599 are"
        ))),
        Err(_) => Err(Unfit::new(format!("`{text}` is not a status"))
            .hint("write a status such as `503`, or `grpc:unavailable`")),
    }
}

/// Reads `until` (RFC 3339) as the time since 1970.
///
/// # Errors
/// If it is not a date and time with an offset, or there is no such day.
pub fn until(text: &str) -> Result<Duration, Unfit> {
    let stamp: jiff::Timestamp = text.parse().map_err(|_| {
        Unfit::new(format!("`{text}` is not a time"))
            .hint("write RFC 3339, such as `2026-12-01T00:00:00Z`")
    })?;
    Ok(Duration::from_millis(
        u64::try_from(stamp.as_millisecond()).unwrap_or(0),
    ))
}

/// Reads `stop_when`: `errors > 5%`.
///
/// # Errors
/// If it is anything else.
pub fn guard(text: &str) -> Result<f64, Unfit> {
    let unknown = || Unfit::new(format!("`{text}` is not a condition")).hint("write `errors > 5%`");
    let rest = text.trim().strip_prefix("errors").ok_or_else(unknown)?;
    let share = rest.trim_start().strip_prefix('>').ok_or_else(unknown)?;
    let share = units::parse_share(share)?;
    if share <= 0.0 || share >= 1.0 {
        return Err(Unfit::new(format!(
            "`{text}` is out of range: above 0% and below 100%"
        )));
    }
    Ok(share)
}
