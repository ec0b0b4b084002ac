//! How long a response body may stay silent.

use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use std::time::Instant;

use tokio::time::Sleep;

use crate::clock;

/// Watches for silence. The timer exists only once the body was found waiting, and is moved only when it fires: a body
/// that is all here already costs nothing.
pub(super) struct Silence {
    limit: Duration,
    heard: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Silence {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            heard: None,
            timer: None,
        }
    }

    /// Something came.
    pub(super) fn broken(&mut self) {
        if self.timer.is_some() {
            self.heard = Some(clock::now());
        }
    }

    /// Ready once nothing has come for the whole limit.
    pub(super) fn poll_too_long(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(self.limit)));
        loop {
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            match self.heard.take() {
                Some(heard) => timer
                    .as_mut()
                    .reset(tokio::time::Instant::from_std(heard + self.limit)),
                None => return Poll::Ready(()),
            }
        }
    }
}
