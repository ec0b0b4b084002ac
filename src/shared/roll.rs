//! The roll: which pods of a service there are, and which of their circuits are not closed.
//!
//! One hash in Redis, a field for each pod. A pod writes its own line and reads all others in one step, so what it knows is
//! never older than its last call, and nothing has to arrive: a message that is lost is said again at the next roll. Lines
//! are dated by the Redis node; one that is too old is that of a pod that has gone.

use std::sync::LazyLock;
use std::time::Duration;

use redis::Value;

use crate::shared::Away;
use crate::shared::Client;
use crate::shared::Script;
use crate::telemetry::Counter;
use crate::telemetry::Def;
use crate::telemetry::Gauge;
use crate::telemetry::Telemetry;

const PODS: Def<Gauge, 0> = Def::new(
    "outrider_fleet_pods",
    "Pods of this service that have been heard of lately, this one included",
    [],
);
const ROLLS: Def<Counter, 1> = Def::new(
    "outrider_fleet_rolls_total",
    "Rolls called in the shared Redis, by result",
    ["result"],
);

/// Circuits that one pod may name. More are not closed only where everything is down, and then it does not matter which.
pub const CIRCUITS_MAX: usize = 256;

/// The most pods that are listened to, so that nobody who can write to Redis makes us remember more.
const PODS_MAX: usize = 10_000;

static CALL: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local keep = tonumber(ARGV[3])
redis.call('HSET', KEYS[1], ARGV[1], string.format('%d ', now) .. ARGV[2])
redis.call('PEXPIRE', KEYS[1], keep * 2)
local all, out = redis.call('HGETALL', KEYS[1]), {string.format('%d', now)}
for i = 1, #all, 2 do
  local at = tonumber(string.match(all[i + 1], '^(%d+) ') or '0')
  if at + keep < now or at > now + keep then
    redis.call('HDEL', KEYS[1], all[i])
  elseif all[i] ~= ARGV[1] then
    out[#out + 1] = all[i]
    out[#out + 1] = string.match(all[i + 1], ' (.*)$') or ''
  end
end
return out
",
    )
});

/// What is counted about rolls.
#[derive(Debug)]
pub struct Metrics {
    pods: Gauge,
    answered: Counter,
    failed: Counter,
}

impl Metrics {
    /// Resolve the handles.
    #[must_use]
    pub fn new(telemetry: &Telemetry) -> Self {
        let rolls = telemetry.family(&ROLLS);
        Self {
            pods: telemetry.family(&PODS).get([]),
            answered: rolls.get(["answered"]),
            failed: rolls.get(["failed"]),
        }
    }

    /// A roll was answered.
    pub fn answered(&self) {
        self.answered.inc();
    }

    /// A roll could not be called.
    pub fn failed(&self) {
        self.failed.inc();
    }

    /// So many pods there are; 0 is that nobody can be heard.
    pub fn heard(&self, pods: u32) {
        self.pods.set(i64::from(pods));
    }
}

/// Another pod, and the circuits that it says are not closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its name, drawn when it began.
    pub id: u64,
    /// Their names, the same for all pods.
    pub open: Vec<u64>,
}

/// What a roll brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Called {
    /// The time of the Redis node, the same for all pods.
    pub time: Duration,
    /// All pods but this one.
    pub others: Vec<Pod>,
}

/// Answers for pod `me`, whose circuits of these names are not closed, and hears all others of the last `keep`.
///
/// # Errors
/// When Redis is of no help within `within`.
pub async fn call(
    client: &Client,
    me: u64,
    open: &[u64],
    keep: Duration,
    within: Duration,
) -> Result<Called, Away> {
    let key = format!("{}:fleet", client.namespace());
    let (name, line) = (format!("{me:016x}"), written(open));
    let keep = keep.as_millis().to_string();
    let args = [name.as_bytes(), line.as_bytes(), keep.as_bytes()];
    let value = client.run(&CALL, &[key.as_bytes()], &args, within).await?;
    read(&value).ok_or(Away::Refused)
}

pub(super) fn written(open: &[u64]) -> String {
    let names = open.iter().take(CIRCUITS_MAX);
    let names: Vec<String> = names.map(|name| format!("{name:016x}")).collect();
    names.join(" ")
}

/// Lines that another version wrote, or nobody of us, say nothing.
pub(super) fn read(value: &Value) -> Option<Called> {
    let Value::Array(items) = value else {
        return None;
    };
    let (time, lines) = items.split_first()?;
    let number = |text: &str| (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok())?;
    let pods = lines.chunks_exact(2).take(PODS_MAX).filter_map(|pair| {
        let open = text(&pair[1])?.split_ascii_whitespace();
        Some(Pod {
            id: number(text(&pair[0])?)?,
            open: open.take(CIRCUITS_MAX).filter_map(number).collect(),
        })
    });
    Some(Called {
        time: Duration::from_millis(text(time)?.parse().ok()?),
        others: pods.collect(),
    })
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}
