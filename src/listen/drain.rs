//! The order to finish what is under way and take nothing new.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;

use pin_project_lite::pin_project;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::WaitForCancellationFuture;

/// Given once, seen by everybody who holds a clone.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    token: CancellationToken,
    flag: Arc<AtomicBool>,
}

impl Drain {
    /// Gives the order.
    pub fn begin(&self) {
        // Before those who wait are woken: they look at the flag alone.
        self.flag.store(true, Ordering::Release);
        self.token.cancel();
    }

    /// Ready once the order was given.
    pub async fn begun(&self) {
        self.token.cancelled().await;
    }

    /// The same for a future that is polled with every request: only its first poll asks for a wake-up, the others look at
    /// a flag. It must not move to another task in between.
    pub(super) fn watch(&self) -> Watched<'_> {
        Watched {
            inner: self.token.cancelled(),
            flag: &self.flag,
            asked: false,
        }
    }
}

pin_project! {
    pub(super) struct Watched<'a> {
        #[pin]
        inner: WaitForCancellationFuture<'a>,
        flag: &'a AtomicBool,
        asked: bool,
    }
}

impl Future for Watched<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if *this.asked && !this.flag.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        *this.asked = true;
        this.inner.poll(cx)
    }
}
