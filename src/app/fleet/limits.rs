//! Carries what the leases of a global limit ask to Redis, and the answers back.

use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::app::fleet::Fleet;
use crate::clock;
use crate::policy::limit;
use crate::policy::limit::Asking;
use crate::policy::limit::Limiter;
use crate::policy::limit::machine::lease::Grant;
use crate::rng;
use crate::shared::quota;
use crate::shared::quota::Draw;
use crate::shared::quota::Drawn;

/// How long an answer is waited for. Calls wait for none; it only has to come before it is of no use.
const WITHIN: Duration = Duration::from_millis(250);
/// How long the first ask waits for a connection.
const GREET_WITHIN: Duration = Duration::from_secs(1);
/// Asks of one limit on their way at once.
const ASKS_MAX: usize = 128;
/// Between two looks for leases that nobody uses, and for whether the limit is still there.
const TIDY_EVERY: Duration = Duration::from_secs(1);

/// Serves until the limit is dropped.
pub async fn serve(fleet: Arc<Fleet>, limiter: Weak<Limiter>, counts: limit::metrics::Asks) {
    fleet.reached(GREET_WITHIN).await;
    let (mut asks, bell) = match limiter.upgrade() {
        Some(limiter) => (Vec::from_iter(limiter.greet(clock::now())), limiter.bell()),
        None => return,
    };
    let Some(bell) = bell else { return };
    let mut on_their_way = FuturesUnordered::new();
    let mut tidy_at = clock::now() + TIDY_EVERY;
    loop {
        on_their_way.extend(asks.drain(..).map(|ask| sent(&fleet, &limiter, ask)));
        // Held only between waits, so that the limit can go.
        let until = {
            let Some(limiter) = limiter.upgrade() else {
                return;
            };
            let now = clock::now();
            if now >= tidy_at {
                tidy_at = now + TIDY_EVERY;
                asks.extend(limiter.tidy(now));
            }
            let room = ASKS_MAX.saturating_sub(on_their_way.len());
            let (due, wait) = limiter.asks(now, room);
            asks.extend(due);
            match wait {
                Some(wait) if room > 0 => tidy_at.min(now + wait),
                _ => tidy_at,
            }
        };
        if !asks.is_empty() {
            continue;
        }
        tokio::select! {
            Some((want, granted)) = on_their_way.next() => counts.answered(want, granted),
            () = bell.notified() => {}
            () = tokio::time::sleep_until(Instant::into(until)) => {}
        }
    }
}

/// One ask and its answer: what was wanted, and what was given.
async fn sent(fleet: &Fleet, limiter: &Weak<Limiter>, asking: Asking) -> (u64, Option<u64>) {
    let drawn = match (fleet.client.load_full(), limiter.upgrade()) {
        (Some(client), Some(limiter)) => {
            let quota = limiter.settings().quota();
            drop(limiter);
            let pod = format!("{:016x}", fleet.id);
            let draw = Draw {
                bucket: &asking.name,
                step: Duration::from_nanos(quota.step()),
                burst: quota.burst(),
                want: asking.ask.want,
                owed: asking.ask.owed,
                back: asking.ask.back,
                pod: &pod,
            };
            quota::draw(&client, &draw, WITHIN).await.ok()
        }
        _ => None,
    };
    let grant = drawn.map(granted);
    if let Some(limiter) = limiter.upgrade() {
        limiter.answered(&asking, grant, clock::now(), rng::draw());
    }
    (asking.ask.want, drawn.map(|drawn| drawn.calls))
}

fn granted(drawn: Drawn) -> Grant {
    Grant {
        calls: drawn.calls,
        left: drawn.left,
        pods: drawn.pods,
        next: u64::try_from(drawn.next.as_nanos()).unwrap_or(u64::MAX),
    }
}
