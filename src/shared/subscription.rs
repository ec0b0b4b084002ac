//! Messages between pods. A message can be lost, so whoever listens is told of every time at which that may have happened.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio::time::timeout;

use crate::kit::backoff::BackoffSettings;
use crate::kit::backoff::Jitter;
use crate::rng;
use crate::shared::Client;
use crate::shared::link;
use crate::shared::link::Credentials;
use crate::shared::link::DialError;

/// Messages that wait to be read; more are a gap.
const WAITING: usize = 1024;
/// A listener only ever reads: without a sign of life of its own it would not notice that the other end is gone.
const SIGN_EVERY: Duration = Duration::from_secs(1);

const REDIAL: BackoffSettings = BackoffSettings {
    base: Duration::from_millis(20),
    max: Duration::from_secs(1),
    jitter: Jitter::Equal,
};

/// What a listener is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Messages come from now on; any number of them may have been missed before. First of all events.
    Gap,
    /// The connection is gone: messages are being missed.
    Lost,
    /// A message.
    Message(Vec<u8>),
}

/// See [`Client::subscribe`].
#[derive(Debug)]
pub struct Subscription {
    events: mpsc::Receiver<Event>,
    overrun: Arc<AtomicBool>,
}

impl Subscription {
    /// The next event; `None` when the client's owner is gone. May be dropped while it waits.
    pub async fn next(&mut self) -> Option<Event> {
        if self.overrun.swap(false, Ordering::AcqRel) {
            return Some(Event::Gap);
        }
        self.events.recv().await
    }
}

struct Listener {
    client: Client,
    channel: String,
    events: mpsc::Sender<Event>,
    overrun: Arc<AtomicBool>,
}

pub(super) fn begin(client: &Client, channel: String) -> Subscription {
    let (events, receiver) = mpsc::channel(WAITING);
    let overrun = Arc::<AtomicBool>::default();
    let listener = Listener {
        client: client.clone(),
        channel,
        events,
        overrun: Arc::clone(&overrun),
    };
    client.spawn(listener.listen());
    Subscription {
        events: receiver,
        overrun,
    }
}

impl Listener {
    async fn listen(self) {
        let mut failures = 0;
        while !self.events.is_closed() {
            match self.once(&mut failures).await {
                Ok(()) => self.tell(Event::Lost),
                Err(error) => tracing::debug!(%error, channel = %self.channel, "cannot listen"),
            }
            failures = u32::saturating_add(failures, 1);
            let wait = REDIAL.delay(failures, Duration::ZERO, rng::draw());
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.events.closed() => {}
            }
        }
    }

    /// From one connection to its end.
    async fn once(&self, failures: &mut u32) -> Result<(), DialError> {
        let settings = self.client.settings();
        let node = self.node();
        let credentials = Credentials::read(settings).await?;
        let mut connection = link::listen(&node, settings, &credentials).await?;
        let joining = connection.subscribe(&self.channel);
        timeout(SIGN_EVERY, joining)
            .await
            .map_err(|_| DialError::Late)??;
        *failures = 0;
        self.tell(Event::Gap);
        let (mut sink, mut messages) = connection.split();
        let mut signs = tokio::time::interval(SIGN_EVERY);
        signs.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = messages.next() => match message {
                    Some(message) => self.tell(Event::Message(message.get_payload_bytes().to_vec())),
                    None => return Ok(()),
                },
                _ = signs.tick() => {
                    let sign = timeout(SIGN_EVERY, sink.ping::<redis::Value>()).await;
                    if !matches!(sign, Ok(Ok(_))) {
                        return Ok(());
                    }
                }
                () = self.events.closed() => return Ok(()),
            }
        }
    }

    /// Another one each time, so that one that is cut off is left soon.
    fn node(&self) -> String {
        let known = self.client.inner.nodes.lock();
        let up = known.iter().filter(|node| node.is_up);
        let mut names: Vec<&str> = up.map(|node| node.name.as_str()).collect();
        names.extend(self.client.settings().nodes.iter().map(String::as_str));
        let at = rng::bits() as usize % names.len().max(1);
        names.get(at).copied().unwrap_or_default().to_owned()
    }

    fn tell(&self, event: Event) {
        if self.events.try_send(event).is_err() {
            self.overrun.store(true, Ordering::Release);
        }
    }
}
