//! The thread that writes: events come through a bounded queue, and none is lost in silence.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use parking_lot::Condvar;
use parking_lot::Mutex;

use super::config::Settings;
use super::counted;
use super::event::Event;
use super::log::FORMAT;
use super::log::Log;
use super::log::OpenError;
use super::log::Stamped;
use super::metrics::Metrics;
use super::often::Often;
use crate::clock;

/// Events that wait for the disk. More are counted, and the count is a record of its own.
pub const QUEUE_MAX: usize = 4096;

/// Time between two attempts at a disk that does not take what it is given.
const AGAIN: Duration = Duration::from_secs(1);

/// How long a stop waits for the disk. What a full one keeps back then is lost, and said to be on stderr.
const STOP_WAIT: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Queue {
    events: VecDeque<Stamped>,
    /// What came while the queue was full.
    lost: u64,
    often: Often,
    stopping: bool,
    stopped: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    to_writer: Condvar,
    to_stopper: Condvar,
}

/// An audit log at work.
pub struct Trail {
    shared: Arc<Shared>,
    settings: Settings,
    metrics: Metrics,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Trail {
    /// Opens the log and starts its thread.
    ///
    /// # Errors
    /// If the file or the key cannot be had.
    pub fn start(settings: Settings, metrics: Metrics) -> Result<Self, OpenError> {
        let now = clock::unix();
        let (log, told) = Log::open(settings.clone(), now)?;
        let shared = Arc::new(Shared::default());
        {
            let mut queue = shared.queue.lock();
            let start = Event::new("started")
                .with("format", FORMAT)
                .with("version", env!("CARGO_PKG_VERSION"))
                .with("pid", std::process::id());
            let all = told.into_iter().chain([start]);
            queue
                .events
                .extend(all.map(|event| Stamped { time: now, event }));
        }
        let writer = Writer {
            shared: Arc::clone(&shared),
            log,
            metrics: metrics.clone(),
            failing: false,
            next_sweep: clock::now() + settings.checkpoint,
            every: settings.checkpoint,
        };
        let path = settings.file.display().to_string();
        let thread = std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| OpenError::File(path, error))?;
        Ok(Self {
            shared,
            settings,
            metrics,
            writer: Mutex::new(Some(thread)),
        })
    }

    /// What it was started with.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Hands an event to the writer; never waits for the disk.
    pub fn record(&self, event: Event) {
        let time = clock::unix();
        let mut queue = self.shared.queue.lock();
        if queue.events.len() >= QUEUE_MAX || queue.stopped {
            queue.lost += 1;
            self.metrics.lost.inc();
            return;
        }
        queue.events.push_back(Stamped { time, event });
        drop(queue);
        self.shared.to_writer.notify_one();
    }

    /// As [`Self::record`], for what may come in floods.
    pub fn often(&self, event: Event) {
        let admitted = self.shared.queue.lock().often.admit(event);
        if let Some(event) = admitted {
            self.record(event);
        }
    }

    /// Writes what there is, closes the chain with a record that says so, and ends the thread.
    pub fn stop(&self, why: &'static str) {
        let Some(writer) = self.writer.lock().take() else {
            return;
        };
        self.record(Event::new("stopped").with("why", why));
        let mut queue = self.shared.queue.lock();
        queue.stopping = true;
        self.shared.to_writer.notify_one();
        let timed_out = self
            .shared
            .to_stopper
            .wait_while_for(&mut queue, |queue| !queue.stopped, STOP_WAIT)
            .timed_out();
        drop(queue);
        if !timed_out {
            // A panic of the writer has been reported by the panic hook.
            let _ = writer.join();
        }
    }
}

impl fmt::Debug for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trail")
            .field("file", &self.settings.file)
            .finish_non_exhaustive()
    }
}

struct Writer {
    shared: Arc<Shared>,
    log: Log,
    metrics: Metrics,
    failing: bool,
    next_sweep: Instant,
    every: Duration,
}

impl Writer {
    fn run(mut self) {
        let mut pending: Vec<Stamped> = Vec::new();
        loop {
            let stopping = self.next(&mut pending);
            self.turn(&mut pending, stopping);
            if stopping {
                break;
            }
        }
        if !pending.is_empty() {
            tracing::error!(
                records = pending.len(),
                "the audit log could not be written to its end"
            );
            self.metrics.lost.inc_by(pending.len() as u64);
        }
        self.shared.queue.lock().stopped = true;
        self.shared.to_stopper.notify_all();
    }

    /// Waits for something to do, and takes it; whether it is the last.
    fn next(&mut self, pending: &mut Vec<Stamped>) -> bool {
        let mut queue = self.shared.queue.lock();
        let until = self.next_sweep.saturating_duration_since(clock::now());
        let wait = if self.failing {
            until.min(AGAIN)
        } else {
            until
        };
        if !queue.stopping && (queue.events.is_empty() || self.failing) {
            self.shared.to_writer.wait_for(&mut queue, wait);
        }
        let stopping = queue.stopping;
        let now = clock::now();
        // What waits for a disk is not let grow: the queue is its bound, and fills up behind it.
        if pending.is_empty() {
            pending.extend(queue.events.drain(..));
            let lost = std::mem::take(&mut queue.lost);
            if lost > 0 {
                let time = clock::unix();
                let event = Event::new("gap").with("lost", lost);
                pending.push(Stamped { time, event });
            }
        }
        if now >= self.next_sweep || stopping {
            self.next_sweep = now + self.every;
            let time = clock::unix();
            let told = queue.often.sweep();
            drop(queue);
            let told = told.into_iter().chain(counted::sweep());
            pending.extend(told.map(|event| Stamped { time, event }));
            pending.extend(self.log.checkpoint().map(|event| Stamped { time, event }));
        }
        stopping
    }

    fn turn(&mut self, pending: &mut Vec<Stamped>, stopping: bool) {
        let now = clock::unix();
        if self.log.is_full(now) {
            match self.log.rotate(now) {
                Ok(event) => pending.insert(0, Stamped { time: now, event }),
                Err(error) => self.failed(&error),
            }
        }
        if !pending.is_empty() {
            match self.log.append(pending) {
                Ok(()) => {
                    self.metrics.written.inc_by(pending.len() as u64);
                    pending.clear();
                    self.worked();
                }
                Err(error) => return self.failed(&error),
            }
            if stopping && let Some(event) = self.log.checkpoint() {
                let last = [Stamped { time: now, event }];
                if let Err(error) = self.log.append(&last) {
                    self.failed(&error);
                } else {
                    self.metrics.written.inc();
                }
            }
            if let Err(error) = self.log.note() {
                self.failed(&error);
            }
        }
    }

    fn worked(&mut self) {
        if self.failing {
            tracing::warn!("the audit log can be written again");
        }
        self.failing = false;
        self.metrics.failing.set(0);
    }

    fn failed(&mut self, error: &io::Error) {
        self.metrics.errors.inc();
        self.metrics.failing.set(1);
        // Said once, not once a second: the counter tells the rest.
        if !self.failing {
            tracing::error!(%error, "the audit log cannot be written; what is to be told waits");
        }
        self.failing = true;
    }
}
