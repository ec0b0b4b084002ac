//! A waker between a connection and the task that drives it.
//!
//! The parts of a connection wake each other: a request put into its queue, a frame taken out of its body channel. When
//! all of them are driven by one task, those wake-ups only make that task run once more for nothing. So a connection is
//! driven with the waker of its gate: while its driver runs, a wake-up is merely noted, and it is passed on if and when
//! the driver goes to wait.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Wake;
use std::task::Waker;

use parking_lot::Mutex;

/// The driver's side.
pub(super) struct Gate {
    shared: Arc<Shared>,
    waker: Waker,
}

struct Shared {
    /// A wake-up came while the driver ran.
    noted: AtomicBool,
    /// Whom to wake; `None` while the driver runs, or nobody does.
    waiting: Mutex<Option<Waker>>,
}

impl Gate {
    pub(super) fn new() -> Self {
        let shared = Arc::new(Shared {
            noted: AtomicBool::new(false),
            waiting: Mutex::new(None),
        });
        Self {
            waker: Waker::from(Arc::clone(&shared)),
            shared,
        }
    }

    /// The driver runs: from here on wake-ups are noted. Returns what to drive the connection with.
    pub(super) fn driving(&self) -> Context<'_> {
        self.shared.noted.store(false, Ordering::Relaxed);
        *self.shared.waiting.lock() = None;
        Context::from_waker(&self.waker)
    }

    /// Whether anything happened since the last drive.
    pub(super) fn has_news(&self) -> bool {
        self.shared.noted.load(Ordering::Relaxed)
    }

    /// What happened so far needs no drive.
    pub(super) fn forget_news(&self) {
        self.shared.noted.store(false, Ordering::Relaxed);
    }

    /// The driver goes to wait: wake-ups reach `cx` now, the noted one first.
    pub(super) fn wait(&self, cx: &Context<'_>) {
        *self.shared.waiting.lock() = Some(cx.waker().clone());
        if self.shared.noted.load(Ordering::Relaxed) {
            cx.waker().wake_by_ref();
        }
    }
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let waiting = self.waiting.lock().take();
        match waiting {
            Some(waker) => waker.wake(),
            None => self.noted.store(true, Ordering::Relaxed),
        }
    }
}
