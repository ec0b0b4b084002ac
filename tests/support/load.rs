//! A steady load: some keep-alive connections, one request after the other on each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::call::Call;
use super::call::Reply;
use super::client::Raw;
use super::until;

/// What became of the requests.
#[derive(Debug, Default)]
pub struct Tally {
    done: AtomicUsize,
    failed: Mutex<Vec<String>>,
    stop: AtomicBool,
}

/// A running load.
pub struct Load {
    tally: Arc<Tally>,
    tasks: JoinSet<()>,
}

impl Load {
    /// Sends `call` over and over on `connections` connections; anything but 200 is a failure.
    pub fn start(addr: SocketAddr, call: &Call, connections: usize) -> Self {
        let tally = Arc::new(Tally::default());
        let mut tasks = JoinSet::new();
        for _ in 0..connections {
            tasks.spawn(run(addr, call.clone(), Arc::clone(&tally)));
        }
        Load { tally, tasks }
    }

    pub fn done(&self) -> usize {
        self.tally.done.load(Ordering::SeqCst)
    }

    /// Waits until so many further requests are done.
    pub async fn go_on(&self, count: usize) {
        let goal = self.done() + count;
        until("the load goes on", || async {
            (self.done() >= goal).then_some(())
        })
        .await;
    }

    /// Ends the load; gives the number of requests and every failure.
    pub async fn stop(mut self) -> (usize, Vec<String>) {
        self.tally.stop.store(true, Ordering::SeqCst);
        while self.tasks.join_next().await.is_some() {}
        let failed = self.tally.failed.lock().clone();
        (self.done(), failed)
    }

    /// Ends the load.
    ///
    /// # Panics
    /// When any request failed.
    pub async fn stop_clean(self) -> usize {
        let (done, failed) = self.stop().await;
        let shown = &failed[..failed.len().min(5)];
        assert!(
            failed.is_empty(),
            "{} of {done} requests failed, as: {shown:#?}",
            failed.len()
        );
        assert!(done > 0, "the load ran");
        done
    }
}

async fn run(addr: SocketAddr, call: Call, tally: Arc<Tally>) {
    let mut kept: Option<Raw> = None;
    while !tally.stop.load(Ordering::SeqCst) {
        match one(addr, &call, &mut kept).await {
            Ok(reply) if reply.status == 200 => {}
            Ok(reply) => fail(
                &tally,
                format!("{} {:?} {}", reply.status, reply.reason(), reply.text()),
            ),
            Err(text) => fail(&tally, text),
        }
        tally.done.fetch_add(1, Ordering::SeqCst);
        // Leaves the two cores to the proxy as well.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn fail(tally: &Tally, text: String) {
    tally.failed.lock().push(text);
}

async fn one(addr: SocketAddr, call: &Call, kept: &mut Option<Raw>) -> Result<Reply, String> {
    let mut raw = match kept.take() {
        Some(raw) => raw,
        None => Raw::try_connect(addr)
            .await
            .map_err(|error| format!("connect: {error}"))?,
    };
    raw.wire
        .send(&call.bytes())
        .await
        .map_err(|fault| fault.to_string())?;
    let reply = raw
        .try_reply(&call.method)
        .await
        .map_err(|fault| fault.to_string())?;
    let reply = reply.ok_or_else(|| "closed without a response".to_owned())?;
    if !reply
        .get("connection")
        .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    {
        *kept = Some(raw);
    }
    Ok(reply)
}
