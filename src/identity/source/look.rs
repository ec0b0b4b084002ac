//! Tells when files may have changed: an event of the file system, or a look now and then where events do not come.
//!
//! Directories are watched, not files: tools rename a new file over the old one, and Kubernetes swaps the `..data` link of
//! a mounted Secret, and a watch on the file itself would then look at what is gone.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use notify::RecommendedWatcher;
use notify::RecursiveMode;
use notify::Watcher as _;
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio::time::timeout;

/// How long to wait for more events after one: a renewal is several files, and each is written in parts.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// How often to look where no event came.
const POLL: Duration = Duration::from_secs(30);
/// How soon to look again after a look that failed: what was half written then may be whole now, and its event was seen.
const AGAIN: Duration = Duration::from_secs(1);

/// A watch. Dropping it ends it.
pub struct Look {
    event: Arc<Notify>,
    // Holds the kernel's watches.
    _watcher: Option<RecommendedWatcher>,
}

impl Look {
    /// Watches the directories of these files. What cannot be watched is still looked at by the poll.
    pub fn at<'a>(paths: impl Iterator<Item = &'a Path>) -> Self {
        let event = Arc::new(Notify::new());
        let told = Arc::clone(&event);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading a file makes an event too on some systems; ours would wake us for ever.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                told.notify_one();
            }
        });
        let mut watcher = watcher.ok();
        let directories: BTreeSet<_> = paths.filter_map(Path::parent).collect();
        if let Some(watcher) = &mut watcher {
            for directory in directories {
                let directory = if directory.as_os_str().is_empty() {
                    Path::new(".")
                } else {
                    directory
                };
                // As above: the poll remains.
                let _ = watcher.watch(directory, RecursiveMode::NonRecursive);
            }
        }
        Self {
            event,
            _watcher: watcher,
        }
    }

    /// Waits until it is time to read again; `sound`: whether the last reading was.
    pub async fn next(&self, sound: bool) {
        let poll = if sound { POLL } else { AGAIN };
        if timeout(poll, self.event.notified()).await.is_ok() {
            sleep(DEBOUNCE).await;
        }
    }
}
