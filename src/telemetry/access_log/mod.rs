//! The access log: one JSON line a request, written off the hot path.
//!
//! A worker formats into a buffer of its own and hands it over when it is full or at its tick; one thread writes.
//! When the reader of stdout does not keep up, lines are dropped and counted: a log must never hold up a request.

mod json;
mod line;
#[cfg(test)]
mod tests;

pub use line::Kind;
pub use line::Line;
pub use line::Place;
pub use line::path_of;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::io::Write;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use line::Stamp;
use parking_lot::Condvar;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;

/// A buffer of this size is handed over without waiting for a tick.
const BATCH_BYTES: usize = 64 * 1024;
/// What a line usually needs.
const LINE_BYTES: usize = 768;
/// Bytes of lines that may wait for the writer, all workers together.
const QUEUE_BYTES: usize = 1024 * 1024;
/// How long `stop` waits for a writer that does not get rid of its lines. A blocked stdout must not keep the process.
const STOP_WAIT: Duration = Duration::from_secs(5);

struct Batch {
    bytes: Vec<u8>,
    lines: u64,
}

#[derive(Default)]
struct Queue {
    batches: VecDeque<Batch>,
    bytes: usize,
    // Buffers come back to be filled again.
    spare: Vec<Vec<u8>>,
    stopping: bool,
    stopped: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    to_writer: Condvar,
    to_stopper: Condvar,
}

/// The log and its writer thread.
pub struct AccessLog {
    shared: Arc<Shared>,
    dropped: Counter,
    writer: JoinHandle<()>,
}

impl AccessLog {
    /// Start the thread that writes to `target`; `dropped` counts the lines that are lost.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(target: Box<dyn Write + Send>, dropped: Counter) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let writer = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                let dropped = dropped.clone();
                move || {
                    write_all(&shared, target, &dropped);
                    shared.queue.lock().stopped = true;
                    shared.to_stopper.notify_all();
                }
            })?;
        Ok(Self {
            shared,
            dropped,
            writer,
        })
    }

    /// A buffer for one worker.
    #[must_use]
    pub fn buffer(&self) -> LogBuffer {
        LogBuffer {
            shared: Arc::clone(&self.shared),
            dropped: self.dropped.clone(),
            bytes: Vec::new(),
            lines: 0,
            stamp: Stamp::new(),
        }
    }

    /// Write what was handed over and end the thread. Drop or flush the buffers first: lines handed over later are
    /// counted as dropped. Waits for a blocked target up to five seconds.
    pub fn stop(self) {
        let mut queue = self.shared.queue.lock();
        queue.stopping = true;
        self.shared.to_writer.notify_one();
        let timed_out = self
            .shared
            .to_stopper
            .wait_while_for(&mut queue, |queue| !queue.stopped, STOP_WAIT)
            .timed_out();
        let left: u64 = queue.batches.drain(..).map(|batch| batch.lines).sum();
        self.dropped.inc_by(left);
        drop(queue);
        if !timed_out {
            // A panic of the writer has been reported by the panic hook.
            let _ = self.writer.join();
        }
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLog")
            .field("dropped", &self.dropped.get())
            .finish_non_exhaustive()
    }
}

fn write_all(shared: &Shared, mut target: Box<dyn Write + Send>, dropped: &Counter) {
    let mut failing = false;
    while let Some(mut batch) = next_batch(shared) {
        match target.write_all(&batch.bytes).and_then(|()| target.flush()) {
            Ok(()) => failing = false,
            Err(error) => {
                dropped.inc_by(batch.lines);
                // Said once, not once a batch: the counter tells the rest.
                if !failing {
                    tracing::warn!(%error, "the access log cannot be written");
                }
                failing = true;
            }
        }
        batch.bytes.clear();
        let mut queue = shared.queue.lock();
        // A few are enough for the workers to go on; keeping all would hold the peak's memory for ever.
        if queue.spare.len() < 4 {
            queue.spare.push(batch.bytes);
        }
    }
}

/// The next batch; `None` when stopping and all is written.
fn next_batch(shared: &Shared) -> Option<Batch> {
    let mut queue = shared.queue.lock();
    loop {
        if let Some(batch) = queue.batches.pop_front() {
            queue.bytes -= batch.bytes.len();
            return Some(batch);
        }
        if queue.stopping {
            return None;
        }
        shared.to_writer.wait(&mut queue);
    }
}

/// One worker's lines that are not handed over yet. Dropping it hands them over.
pub struct LogBuffer {
    shared: Arc<Shared>,
    dropped: Counter,
    bytes: Vec<u8>,
    lines: u64,
    stamp: Stamp,
}

impl LogBuffer {
    /// Add a line. Hands the buffer over when it is full; never waits for the writer.
    pub fn line(&mut self, line: &Line<'_>) {
        self.bytes.reserve(LINE_BYTES);
        line.write(&mut self.bytes, &mut self.stamp);
        self.lines += 1;
        if self.bytes.len() >= BATCH_BYTES {
            self.flush();
        }
    }

    /// Whether there is anything to hand over.
    #[must_use]
    pub const fn needs_flush(&self) -> bool {
        self.lines > 0
    }

    /// Hand over what there is. Call it about every 100 ms, so that a quiet service's lines are seen.
    pub fn flush(&mut self) {
        if self.lines == 0 {
            return;
        }
        let lines = std::mem::take(&mut self.lines);
        let mut queue = self.shared.queue.lock();
        if queue.stopping || queue.bytes + self.bytes.len() > QUEUE_BYTES {
            drop(queue);
            self.bytes.clear();
            self.dropped.inc_by(lines);
            return;
        }
        let spare = queue.spare.pop().unwrap_or_default();
        let bytes = std::mem::replace(&mut self.bytes, spare);
        queue.bytes += bytes.len();
        queue.batches.push_back(Batch { bytes, lines });
        drop(queue);
        self.shared.to_writer.notify_one();
    }
}

impl Drop for LogBuffer {
    fn drop(&mut self) {
        self.flush();
    }
}

impl fmt::Debug for LogBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogBuffer")
            .field("lines", &self.lines)
            .finish_non_exhaustive()
    }
}
