//! What the black-box tests stand on: an origin that misbehaves to order, a proxy process, clients that send exact bytes.
//!
//! Nothing here knows the inside of outrider; every name it relies on from outside is in [`names`].

pub mod agent;
pub mod answer;
pub mod between;
pub mod blackhole;
pub mod call;
pub mod captured;
pub mod client;
pub mod dns;
pub mod front;
pub mod h2client;
pub mod h2frame;
pub mod h2origin;
pub mod h2raw;
pub mod load;
pub mod metrics;
pub mod names;
pub mod oauth;
pub mod origin;
pub mod pki;
pub mod ports;
pub mod proxy;
pub mod python;
pub mod redis;
pub mod secure;
pub mod servers;
pub mod setup;
pub mod tcp;
pub mod wire;

use std::future::Future;
use std::time::Duration;

/// The longest any single wait of a test may take before it is called a failure. Never a measure of speed.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// The step of every poll; the only sleep there is.
pub const STEP: Duration = Duration::from_millis(10);

/// Polls `look` until it gives a value.
///
/// # Panics
/// After [`PATIENCE`], naming `what` never came.
pub async fn until<T, F, L>(what: &str, mut look: L) -> T
where
    F: Future<Output = Option<T>>,
    L: FnMut() -> F,
{
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(STEP).await;
        }
    };
    if let Ok(found) = tokio::time::timeout(PATIENCE, looking).await {
        return found;
    }
    panic!("never came within {PATIENCE:?}: {what}")
}

/// Bounds a future, so that a hang is a failure with a name.
///
/// # Panics
/// After [`PATIENCE`].
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    if let Ok(done) = tokio::time::timeout(PATIENCE, future).await {
        return done;
    }
    panic!("hung for {PATIENCE:?}: {what}")
}
