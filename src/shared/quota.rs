//! The bucket of a global limit, kept in Redis and drawn on by all pods: GCRA (ITU-T I.371 Annex A) in one step.
//!
//! The only clock is that of the Redis node, so pods need not agree on the time. A bucket is one number, when it is full again
//! in microseconds, and is forgotten by itself soon after it is: a full bucket knows nothing. Beside it stands who has asked in
//! the last two seconds, so that what is left can be dealt out evenly.

use std::fmt::Write as _;
use std::sync::LazyLock;
use std::time::Duration;

use redis::Value;

use crate::shared::Away;
use crate::shared::Client;
use crate::shared::Script;

/// Who may have how many of the bucket:
/// - what is given back never makes it more than full, and what is owed may make it less than empty;
/// - no pod gets more than twice its even part of what there is, so that many small asks are served alike;
/// - a time that is further off than the bucket and everybody's debts can be is that of another clock, after a failover.
static DRAW: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local step, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local want, owed, back = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
redis.call('ZADD', KEYS[2], now, ARGV[6])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - 2000000)
redis.call('PEXPIRE', KEYS[2], 4000)
local pods = redis.call('ZCARD', KEYS[2])
local refill = step * burst
local full = tonumber(redis.call('GET', KEYS[1]) or now) or now
full = math.min(full, now + 2 * refill + pods * step)
full = math.max(full - back * step, now) + owed * step
local level = (refill - (full - now)) / step
local share = math.max(1, math.ceil(2 * level / pods))
local calls = math.max(0, math.min(want, math.floor(level + 0.000001), share))
full = full + calls * step
level = level - calls
local life = math.ceil((full - now) / 1000)
if life > 0 then
  redis.call('SET', KEYS[1], string.format('%.3f', full), 'PX', life + 1000)
else
  redis.call('DEL', KEYS[1])
end
local more = 0
if level < 1 then more = math.ceil((1 - level) * step) end
return {calls, math.max(0, math.floor(level)), pods, more}
",
    )
});

/// What is asked of a bucket.
#[derive(Debug, Clone, Copy)]
pub struct Draw<'a> {
    /// Which one.
    pub bucket: &'a [u8],
    /// From one call to the next at exactly the rate.
    pub step: Duration,
    /// The size of the bucket, in calls.
    pub burst: u64,
    /// Calls wanted.
    pub want: u64,
    /// Calls that have passed already.
    pub owed: u64,
    /// Calls that were not needed.
    pub back: u64,
    /// Who asks.
    pub pod: &'a str,
}

/// What it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drawn {
    /// Calls given.
    pub calls: u64,
    /// Calls left.
    pub left: u64,
    /// Pods that have asked lately.
    pub pods: u64,
    /// Until there is one more; zero if there is one.
    pub next: Duration,
}

/// Draws calls from a bucket.
///
/// # Errors
/// When Redis is of no help within `within`.
pub async fn draw(client: &Client, draw: &Draw<'_>, within: Duration) -> Result<Drawn, Away> {
    let hex = hex(draw.bucket);
    // One tag, so that both are in one slot.
    let bucket = format!("{}:limit:{{{hex}}}", client.namespace());
    let askers = format!("{bucket}:pods");
    let step = format!("{:.3}", draw.step.as_nanos() as f64 / 1000.0);
    let numbers = [draw.burst, draw.want, draw.owed, draw.back].map(|number| number.to_string());
    let [burst, want, owed, back] = numbers.each_ref().map(String::as_bytes);
    let args = [
        step.as_bytes(),
        burst,
        want,
        owed,
        back,
        draw.pod.as_bytes(),
    ];
    let keys = [bucket.as_bytes(), askers.as_bytes()];
    let value = client.run(&DRAW, &keys, &args, within).await?;
    read(&value).ok_or(Away::Refused)
}

pub(super) fn read(value: &Value) -> Option<Drawn> {
    let Value::Array(items) = value else {
        return None;
    };
    let number = |at: usize| match items.get(at) {
        Some(Value::Int(number)) => u64::try_from(*number).ok(),
        _ => None,
    };
    Some(Drawn {
        calls: number(0)?,
        left: number(1)?,
        pods: number(2)?,
        next: Duration::from_micros(number(3)?),
    })
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a String takes all");
    }
    text
}
