//! Tells when policy files change: an event of the file system, or a look every 30 seconds where events do not come (network
//! file systems, and mounts whose events the kernel names differently).
//!
//! Directories are watched, not files: editors rename a new file over the old one, and Kubernetes swaps the `..data` link of
//! a mounted ConfigMap, and a watch on the file itself would then look at what is gone. Whatever the event, only a change
//! of content is reported. A file mounted with `subPath` is never updated by Kubernetes, so it cannot be seen to change.

use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::Sender;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;

use notify::RecommendedWatcher;
use notify::RecursiveMode;
use notify::Watcher as _;

/// How long to wait for more events after one: a swap is several events, and a large file is written in parts.
pub const DEBOUNCE: Duration = Duration::from_millis(200);
/// How often to look where no event came.
pub const POLL: Duration = Duration::from_secs(30);

/// A running watch. Dropping it stops its thread and waits for it.
#[derive(Debug)]
pub struct Watcher {
    signals: Sender<Signal>,
    thread: Option<JoinHandle<()>>,
    // Dropped after the thread has ended; holds the kernel's watches.
    _events: Option<RecommendedWatcher>,
}

enum Signal {
    Event,
    Stop,
}

/// How long the watch waits. Tests shorten it; the program uses the default.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Quiet time after an event before the content is read.
    pub debounce: Duration,
    /// Time between looks without any event.
    pub poll: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            debounce: DEBOUNCE,
            poll: POLL,
        }
    }
}

/// Calls `changed` from a thread of its own each time the content behind `sources` differs from what it was. `loaded` is the
/// revision that is being served ([`super::Policy::revision`]), so that a change between load and watch is not missed.
///
/// Without kernel events (none available, or no watches left) it still looks every 30 seconds.
pub fn watch(
    sources: Vec<PathBuf>,
    loaded: String,
    changed: impl Fn() + Send + 'static,
) -> Watcher {
    watch_at(Pace::default(), sources, loaded, changed)
}

/// [`watch`] at another pace.
pub fn watch_at(
    pace: Pace,
    sources: Vec<PathBuf>,
    loaded: String,
    changed: impl Fn() + Send + 'static,
) -> Watcher {
    let (signals, inbox) = mpsc::channel();
    let events = subscribe(&sources, signals.clone());
    let thread = thread::Builder::new()
        .name("policy-watch".to_owned())
        .spawn(move || run(pace, &sources, loaded, &inbox, &changed))
        .ok();
    Watcher {
        signals,
        thread,
        _events: events,
    }
}

fn subscribe(sources: &[PathBuf], signals: Sender<Signal>) -> Option<RecommendedWatcher> {
    let on_event = move |event: notify::Result<notify::Event>| {
        // Reading a file makes an event too on some systems; ours would wake us for ever.
        if !event.is_ok_and(|event| event.kind.is_access()) {
            // The receiver is gone only while the watcher is being dropped.
            let _ = signals.send(Signal::Event);
        }
    };
    let mut watcher = notify::recommended_watcher(on_event).ok()?;
    for source in sources {
        let directory = if source.is_dir() {
            source.clone()
        } else {
            match source.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
                _ => PathBuf::from("."),
            }
        };
        // A directory that cannot be watched is still looked at by the poll.
        let _ = watcher.watch(&directory, RecursiveMode::NonRecursive);
    }
    Some(watcher)
}

fn run(
    pace: Pace,
    sources: &[PathBuf],
    loaded: String,
    inbox: &Receiver<Signal>,
    changed: &impl Fn(),
) {
    let mut known = Some(loaded);
    loop {
        // The first look comes at once, for a change since the load.
        let now = super::fingerprint(sources);
        if now.is_some() && now != known {
            known = now;
            changed();
        }
        match inbox.recv_timeout(pace.poll) {
            Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
            Ok(Signal::Event) => {
                if settle(pace.debounce, inbox) {
                    return;
                }
            }
        }
    }
}

/// Lets the events that belong together come in, and forgets them. True if the watch is to stop. A fixed wait, not one for
/// silence: in a directory that is written all the time, silence never comes. Dropping the watcher ends it early.
fn settle(wait: Duration, inbox: &Receiver<Signal>) -> bool {
    thread::park_timeout(wait);
    inbox
        .try_iter()
        .any(|signal| matches!(signal, Signal::Stop))
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // An error means that the thread has already ended.
        let _ = self.signals.send(Signal::Stop);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic of `changed` has been reported by its own thread.
            let _ = thread.join();
        }
    }
}
