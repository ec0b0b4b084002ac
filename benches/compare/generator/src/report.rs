//! What came of it.

use std::time::Instant;

/// See the module.
pub struct Report {
    began: Instant,
    last: Instant,
    /// Nanoseconds from when each was due to when it was answered.
    latencies: Vec<u64>,
    wrong_status: u64,
    wrong_size: u64,
    /// Connections that were closed while an answer was awaited.
    pub broken: u64,
    /// All connections that were closed.
    pub lost: usize,
    /// Requests that were due and have no answer.
    pub unanswered: u64,
}

impl Report {
    pub fn new(began: Instant) -> Self {
        Self {
            began,
            last: began,
            latencies: Vec::with_capacity(1 << 20),
            wrong_status: 0,
            wrong_size: 0,
            broken: 0,
            lost: 0,
            unanswered: 0,
        }
    }

    pub fn answered(&mut self, status: u16, bytes: u64, wanted: u64, intended: Instant) {
        self.last = Instant::now();
        let took = self.last.saturating_duration_since(intended);
        self.latencies.push(took.as_nanos() as u64);
        self.wrong_status += u64::from(status != 200);
        self.wrong_size += u64::from(bytes != wanted);
    }

    /// Microseconds with one decimal, where `share` of the requests were answered.
    fn percentile(&self, share: f64) -> f64 {
        let at = (self.latencies.len() as f64 * share) as usize;
        let at = at.min(self.latencies.len().saturating_sub(1));
        self.latencies
            .get(at)
            .map_or(0.0, |nanos| (nanos / 100) as f64 / 10.0)
    }

    pub fn json(mut self) -> String {
        self.latencies.sort_unstable();
        let seconds = (self.last - self.began).as_secs_f64().max(1e-9);
        let requests = self.latencies.len();
        format!(
            "{{\"requests\":{requests},\"rps\":{:.1},\"p50_us\":{:.1},\"p99_us\":{:.1},\"p999_us\":{:.1},\
             \"max_us\":{:.1},\"status\":{},\"size\":{},\"broken\":{},\"unanswered\":{}}}",
            requests as f64 / seconds,
            self.percentile(0.5),
            self.percentile(0.99),
            self.percentile(0.999),
            self.percentile(1.0),
            self.wrong_status,
            self.wrong_size,
            self.broken,
            self.unanswered,
        )
    }
}
