//! Keeps what a file holds up to date.
//!
//! The directory is watched, not the file: Kubernetes swaps the `..data` link of a mounted Secret, and editors rename a new
//! file over the old one. Where events do not come, a look every ten seconds sees the change.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use notify::EventKind;
use notify::RecommendedWatcher;
use notify::RecursiveMode;
use notify::Watcher as _;
use notify::event::AccessKind;
use notify::event::AccessMode;
use notify::event::ModifyKind;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::source::Next;
use super::source::Shared;
use super::source::Wiped;
use super::source::read_file;
use crate::clock;
use crate::policy::credential::machine;
use crate::policy::credential::machine::Found;
use crate::policy::credential::machine::Look;
use crate::policy::credential::machine::Trouble;

/// Time between two looks without any event.
const POLL: Duration = Duration::from_secs(10);
/// What belongs to one change comes in several events.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// Time between the look that finds another secret and the one that takes it.
const CONFIRM: Duration = Duration::from_millis(100);
/// Somebody who has written nothing for so long has died with the file open, or never closes it.
const WRITES_AT_MOST: Duration = Duration::from_secs(5);

/// What the watch of the directory tells.
#[derive(Debug, Default)]
struct Signs {
    event: Notify,
    /// The file was written to, and not closed since.
    writing: AtomicBool,
}

/// Follows a file for ever. `trouble` is what was wrong with it at the start.
pub(super) async fn watch(path: PathBuf, shared: Arc<Shared>, trouble: Option<Trouble>) {
    let signs = Arc::new(Signs::default());
    let mut follower = Follower {
        path: Arc::from(path),
        shared,
        trouble,
        seen: None,
    };
    let mut events = None;
    // Whatever changed between the first reading and the watch is found at once.
    let mut wait = Duration::ZERO;
    loop {
        if events.is_none() {
            // The directory may come later than this process.
            events = subscribe(&follower.path, &signs);
        }
        let is_told = timeout(wait, signs.event.notified()).await.is_ok();
        if is_told {
            tokio::time::sleep(DEBOUNCE).await;
        }
        let look = follower.look(&signs, is_told).await;
        wait = if look == Look::Again { CONFIRM } else { POLL };
    }
}

struct Follower {
    path: Arc<Path>,
    shared: Arc<Shared>,
    trouble: Option<Trouble>,
    /// Another secret that the last look found, and since when it is there.
    seen: Option<(Wiped, Instant)>,
}

impl Follower {
    /// `is_told`: something happened beside the file.
    async fn look(&mut self, signs: &Signs, is_told: bool) -> Look {
        let path = Arc::clone(&self.path);
        // A file system may take its time, and others wait for this thread.
        let read = tokio::task::spawn_blocking(move || read_file(&path)).await;
        let Ok(read) = read else { return Look::Rest };
        let text = read.as_ref().map_err(|trouble| *trouble);
        let secret = text.and_then(|text| machine::secret(text));
        let now = clock::now();
        let found = match secret {
            Err(trouble) => Found::Nothing(trouble),
            Ok(secret) if self.shared.holds(secret) => Found::Held,
            Ok(secret) => {
                let seen = self.seen.as_ref();
                let again = seen.is_some_and(|(seen, _)| seen.as_slice() == secret);
                if !again {
                    self.seen = Some((Wiped::new(secret.to_vec()), now));
                }
                Found::Other { again }
            }
        };
        let is_fresh = self
            .seen
            .as_ref()
            .is_some_and(|(_, since)| now.saturating_duration_since(*since) < WRITES_AT_MOST);
        let writing = signs.writing.load(Ordering::Relaxed) && is_fresh;
        let look = machine::on_look(found, self.shared.holds_any(), writing);
        self.follow(look, secret, is_told);
        look
    }

    fn follow(&mut self, look: Look, secret: Result<&[u8], Trouble>, is_told: bool) {
        let mut trouble = None;
        match (look, secret) {
            (Look::Again, _) => return,
            (Look::Rest, _) => {
                if self.trouble.is_some() {
                    self.shared.await_next(Next::Unknown, None);
                }
            }
            (Look::Take, Ok(secret)) => trouble = self.shared.take(secret, None).err(),
            (Look::Count(why), _) => trouble = Some(why),
            (Look::Take, Err(_)) => {}
        }
        self.seen = None;
        // One that nobody touches is told once, not at every look.
        if let Some(why) = trouble
            && (is_told || self.trouble != trouble)
        {
            self.shared.fail(why, Next::Unknown);
            tracing::warn!(
                credential = %self.shared.name,
                error = why.word(),
                holds = self.shared.holds_any(),
                "what the file has now is no secret; what was read before goes on"
            );
        }
        self.trouble = trouble;
    }
}

fn subscribe(path: &Path, signs: &Arc<Signs>) -> Option<RecommendedWatcher> {
    let (signs, file) = (Arc::clone(signs), path.to_path_buf());
    let on_event = move |event: notify::Result<notify::Event>| {
        let Ok(event) = event else { return };
        let is_file = event.paths.contains(&file);
        match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) if is_file => {
                signs.writing.store(false, Ordering::Relaxed);
            }
            // Reading it, as we do, is an event on some systems.
            EventKind::Access(_) => return,
            EventKind::Modify(ModifyKind::Data(_)) if is_file => {
                signs.writing.store(true, Ordering::Relaxed);
            }
            // Another file is there now.
            _ if is_file => signs.writing.store(false, Ordering::Relaxed),
            _ => {}
        }
        signs.event.notify_one();
    };
    let mut watcher = notify::recommended_watcher(on_event).ok()?;
    let directory = path.parent()?;
    let watched = watcher.watch(directory, RecursiveMode::NonRecursive);
    watched.ok().map(|()| watcher)
}
