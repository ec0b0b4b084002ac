//! The newest stories of each kind.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::Mutex;
use serde_json::Value;
use serde_json::json;

use super::Kind;
use super::Story;

/// Stories that one answer has at most, and how many it has when nobody says.
const PAGE_MOST: usize = 1000;
const PAGE: usize = 50;

/// What is remembered. Each kind has room of its own, so that a storm of failures does not drive out what is slow.
#[derive(Debug, Default)]
pub struct Stories {
    told: AtomicU64,
    failed: Mutex<VecDeque<Arc<Story>>>,
    slow: Mutex<VecDeque<Arc<Story>>>,
    sampled: Mutex<VecDeque<Arc<Story>>>,
}

/// Which stories are asked for. Empty asks for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// Of this request ID or trace ID.
    pub id: Option<String>,
    /// Of this upstream.
    pub upstream: Option<String>,
    /// Of this reason word.
    pub reason: Option<String>,
    /// Only those that failed.
    pub failed: bool,
    /// Only those after this number: what came since the last look.
    pub after: u64,
    /// At most so many, the newest. Range: 1 to 1,000. Default: 50.
    pub limit: Option<usize>,
}

impl Stories {
    /// Remembers one, and forgets the oldest of its kind beyond `keep`.
    pub fn keep(&self, mut story: Story, keep: u32) -> Arc<Story> {
        let shelf = self.shelf(story.kind);
        let mut shelf = shelf.lock();
        // Numbered under the lock, so that each shelf is in order.
        story.number = self.told.fetch_add(1, Relaxed) + 1;
        let story = Arc::new(story);
        shelf.push_back(Arc::clone(&story));
        let excess = shelf.len().saturating_sub(keep as usize);
        let gone: Vec<_> = shelf.drain(..excess).collect();
        drop(shelf);
        drop(gone);
        story
    }

    /// The stories asked for, the oldest first, and the number to ask after next time.
    #[must_use]
    pub fn find(&self, ask: &Ask) -> (Vec<Arc<Story>>, u64) {
        let told = self.told.load(Relaxed);
        let mut found = Vec::new();
        for kind in [Kind::Failed, Kind::Slow, Kind::Sampled] {
            if ask.failed && kind != Kind::Failed {
                continue;
            }
            let shelf = self.shelf(kind).lock();
            found.extend(shelf.iter().filter(|story| ask.wants(story)).cloned());
        }
        found.sort_by_key(|story| story.number);
        let limit = ask.limit.unwrap_or(PAGE).clamp(1, PAGE_MOST);
        found.drain(..found.len().saturating_sub(limit));
        let last = found.last().map_or(told, |story| story.number.max(told));
        (found, last)
    }

    /// [`Self::find`] as the page gives it.
    #[must_use]
    pub fn page(&self, ask: &Ask) -> Value {
        let (found, last) = self.find(ask);
        let stories: Vec<Value> = found.iter().map(|story| story.json()).collect();
        json!({ "calls": stories, "last": last })
    }

    fn shelf(&self, kind: Kind) -> &Mutex<VecDeque<Arc<Story>>> {
        match kind {
            Kind::Failed => &self.failed,
            Kind::Slow => &self.slow,
            Kind::Sampled => &self.sampled,
        }
    }
}

impl Ask {
    fn wants(&self, story: &Story) -> bool {
        let is = |asked: &Option<String>, has: &str| asked.as_deref().is_none_or(|a| a == has);
        story.number > self.after
            && is(&self.upstream, &story.names.upstream)
            && is(
                &self.reason,
                story.reason.map_or("", |reason| reason.word()),
            )
            && self.id.as_deref().is_none_or(|id| story.has_id(id))
    }
}
