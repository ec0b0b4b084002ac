//! Keeps a pod in step with the purges of all: listens, reads up after a gap, submits its own. Runs on the control runtime.

use std::sync::Arc;
use std::sync::LazyLock;
use std::time::Duration;

use redis::Value;

use crate::clock;
use crate::rng;
use crate::shared::Away;
use crate::shared::Event;
use crate::shared::Script;
use crate::shared::ledger::machine::Do;
use crate::shared::ledger::machine::Id;
use crate::shared::ledger::machine::KEPT;
use crate::shared::ledger::machine::Ledger;
use crate::shared::ledger::machine::Record;
use crate::shared::ledger::machine::name;
use crate::shared::tier::Tier;

/// A message can be lost on a connection that seems well, so the head is compared now and then.
const COMPARE_EVERY: Duration = Duration::from_secs(1);
/// The same while this pod is out of step.
const RETRY_EVERY: Duration = Duration::from_millis(50);
/// The longest that one command may take. No call waits for it.
const COMMAND: Duration = Duration::from_millis(250);

// `KEYS`: head, log. A chain that is not there is begun: with a purge of everything, for what came before is not known.
static READ: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "\
local head = redis.call('GET', KEYS[1])
if not head then
  local record = '1 '..ARGV[2]..' '..ARGV[1]..' 0000000000000000 h a'
  redis.call('SET', KEYS[1], ARGV[2])
  redis.call('DEL', KEYS[2])
  redis.call('RPUSH', KEYS[2], record)
  redis.call('PUBLISH', ARGV[3], 'p'..record)
  head = ARGV[2]
end
if head == ARGV[1] then return {head} end
return {head, redis.call('LRANGE', KEYS[2], 0, -1)}",
    )
});
// Twice submitted, because the first answer was lost, it is in the chain once.
static SUBMIT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "\
local last = redis.call('LRANGE', KEYS[2], -64, -1)
for i = 1, #last do
  if string.sub(last[i], 3, 18) == ARGV[1] then return last[i] end
end
local prev = redis.call('GET', KEYS[1]) or '0000000000000000'
local record = '1 '..ARGV[1]..' '..prev..' '..ARGV[2]..' '..ARGV[3]
redis.call('SET', KEYS[1], ARGV[1])
redis.call('RPUSH', KEYS[2], record)
redis.call('LTRIM', KEYS[2], -tonumber(ARGV[4]), -1)
redis.call('PUBLISH', ARGV[5], 'p'..record)
return record",
    )
});

/// What pods say to one another.
pub(super) enum Message {
    /// A link of the chain of purges.
    Purge(Record),
    /// A call at this process made the answers of a URL untrue.
    Invalidate(u64, Box<[u8]>),
}

impl Message {
    pub(super) fn write(&self) -> Vec<u8> {
        match self {
            Self::Purge(record) => [b"p".as_slice(), &record.write()].concat(),
            Self::Invalidate(who, url) => {
                let who = name(*who);
                [b"i".as_slice(), who.as_bytes(), url].concat()
            }
        }
    }

    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let (kind, rest) = text.split_first()?;
        match kind {
            b'p' => Record::read(rest).map(Self::Purge),
            b'i' => {
                let (who, url) = rest.split_at_checked(16)?;
                Some(Self::Invalidate(number(who)?, url.into()))
            }
            _ => None,
        }
    }
}

fn number(text: &[u8]) -> Option<Id> {
    Id::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
}

/// Comparisons in a row that may fail.
const FAILURES_MAX: u32 = 3;

pub(super) async fn keep(tier: Arc<Tier>) {
    let mut failures = 0;
    let mut events = tier.chain.subscribe(&tier.channel);
    loop {
        let wait = if tier.is_in_step() {
            COMPARE_EVERY
        } else {
            RETRY_EVERY
        };
        tokio::select! {
            event = events.next() => match event {
                None => return,
                Some(event) => tier.told(event).await,
            },
            () = tier.wake.notified() => {
                let _ = tier.obey(vec![Do::Submit]).await;
            }
            () = tokio::time::sleep(wait) => {
                let todo = if tier.ledger.lock().listens() { Do::Read } else { Do::Submit };
                failures = match tier.obey(vec![todo]).await {
                    Ok(()) => 0,
                    Err(_) => failures + 1,
                };
                if failures >= FAILURES_MAX {
                    let mut ledger = tier.ledger.lock();
                    ledger.doubts();
                    tier.tell_step(&ledger);
                }
            }
        }
    }
}

impl Tier {
    async fn told(&self, event: Event) {
        let todo = {
            let mut ledger = self.ledger.lock();
            let todo = match event {
                Event::Gap => ledger.joined(),
                Event::Lost => {
                    ledger.lost();
                    Vec::new()
                }
                Event::Message(text) => match Message::read(&text) {
                    Some(Message::Purge(record)) => ledger.heard(record),
                    Some(Message::Invalidate(who, url)) => {
                        if who != self.me {
                            self.memory(|memory| memory.invalidate(&url));
                            self.metrics.invalidated();
                        }
                        Vec::new()
                    }
                    // Of another version, perhaps: the chain says what it was.
                    None => vec![Do::Read],
                },
            };
            self.purge(todo, &ledger)
        };
        // What fails is tried again soon, for it stays out of step.
        let _ = self.obey(todo).await;
    }

    /// Purges memory before anything is believed that came later; gives back what has to wait for Redis.
    fn purge(&self, todo: Vec<Do>, ledger: &Ledger) -> Vec<Do> {
        let mut rest = Vec::new();
        for one in todo {
            match one {
                Do::Purge(what, soft) => {
                    self.memory(|memory| memory.purge(&what, soft));
                    self.metrics.purged();
                }
                other => rest.push(other),
            }
        }
        self.tell_step(ledger);
        rest
    }

    async fn obey(&self, mut todo: Vec<Do>) -> Result<(), Away> {
        while let Some(one) = todo.pop() {
            let more = match one {
                Do::Read => self.read().await,
                Do::Submit => self.submit().await,
                Do::Purge(..) => continue,
            };
            todo.extend(more?);
        }
        Ok(())
    }

    fn keys(&self) -> [String; 2] {
        let namespace = self.chain.namespace();
        ["head", "log"].map(|kind| format!("{namespace}:{{purges}}:{kind}"))
    }

    async fn read(&self) -> Result<Vec<Do>, Away> {
        let mine = self.ledger.lock().head();
        let fresh = rng::bits() | 1;
        let (head, log) = self.keys().into();
        let args = [name(mine), name(fresh), self.channel.clone()];
        let args = [args[0].as_bytes(), args[1].as_bytes(), args[2].as_bytes()];
        let keys = [head.as_bytes(), log.as_bytes()];
        let began = clock::now();
        let answer = self.chain.run(&READ, &keys, &args, COMMAND).await?;
        let (head, log) = chain(answer).ok_or(Away::Refused)?;
        let mut ledger = self.ledger.lock();
        if ledger.head() != mine {
            // A message came first; what was read may be older than that.
            return Ok(vec![Do::Read]);
        }
        let todo = ledger.read(head, log, rng::bits() | 1);
        if !todo.is_empty() {
            let took = clock::now().saturating_duration_since(began);
            tracing::info!(
                ?took,
                changes = todo.len(),
                "in step with the purges of all pods"
            );
        }
        Ok(self.purge(todo, &ledger))
    }

    async fn submit(&self) -> Result<Vec<Do>, Away> {
        let Some(pending) = self.ledger.lock().pending().cloned() else {
            return Ok(Vec::new());
        };
        let (head, log) = self.keys().into();
        let (id, also) = (name(pending.id), name(pending.also));
        let order = Record::order(pending.soft, &pending.what);
        let kept = KEPT.to_string();
        let args = [
            id.as_bytes(),
            also.as_bytes(),
            &order,
            kept.as_bytes(),
            self.channel.as_bytes(),
        ];
        let keys = [head.as_bytes(), log.as_bytes()];
        let answer = self.chain.run(&SUBMIT, &keys, &args, COMMAND).await?;
        let Value::BulkString(text) = answer else {
            return Err(Away::Refused);
        };
        let record = Record::read(&text).ok_or(Away::Refused)?;
        let mut ledger = self.ledger.lock();
        let todo = ledger.submitted(record);
        Ok(self.purge(todo, &ledger))
    }
}

fn chain(answer: Value) -> Option<(Id, Vec<Record>)> {
    let Value::Array(parts) = answer else {
        return None;
    };
    let mut parts = parts.into_iter();
    let Value::BulkString(head) = parts.next()? else {
        return None;
    };
    let log = match parts.next() {
        Some(Value::Array(log)) => log,
        _ => Vec::new(),
    };
    let records = log.iter().filter_map(|text| match text {
        Value::BulkString(text) => Record::read(text),
        _ => None,
    });
    Some((number(&head)?, records.collect()))
}
