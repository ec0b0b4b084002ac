//! Whom `originate` believes.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;
use rustls::RootCertStore;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::identity::Trouble;
use crate::identity::pem;
use crate::identity::source::Look;

/// Authorities for host names. A file is read again when it changes; what cannot be read keeps what was read before.
#[derive(Debug)]
pub struct Roots {
    held: Arc<Held>,
    task: Option<AbortHandle>,
}

#[derive(Debug)]
struct Held {
    store: ArcSwap<RootCertStore>,
    generation: AtomicU64,
}

impl Roots {
    /// Those in a file, watched on `runtime`; or those of the system.
    #[must_use]
    pub fn new(ca: Option<&Path>, runtime: &Handle) -> Self {
        let Some(path) = ca else {
            return Self::fixed(of_the_system());
        };
        let store = read(path).unwrap_or_else(|trouble| {
            tracing::error!(path = %path.display(), %trouble, "authorities cannot be read: nobody is believed");
            RootCertStore::empty()
        });
        let held = Arc::clone(&Self::fixed(store).held);
        let task = runtime.spawn(follow(path.to_owned(), Arc::clone(&held)));
        Self {
            held,
            task: Some(task.abort_handle()),
        }
    }

    /// These and no others.
    #[must_use]
    pub fn fixed(store: RootCertStore) -> Self {
        let held = Held {
            store: ArcSwap::from_pointee(store),
            generation: AtomicU64::new(1),
        };
        Self {
            held: Arc::new(held),
            task: None,
        }
    }

    /// The authorities now.
    #[must_use]
    pub fn store(&self) -> Arc<RootCertStore> {
        self.held.store.load_full()
    }

    /// Which they are, counted from 1.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.held.generation.load(Ordering::Acquire)
    }
}

impl Drop for Roots {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn follow(path: PathBuf, held: Arc<Held>) {
    let watch = Look::at([path.as_path()].into_iter());
    let mut sound = true;
    loop {
        watch.next(sound).await;
        match read(&path) {
            Ok(store) => {
                sound = true;
                if store.roots != held.store.load().roots {
                    held.store.store(Arc::new(store));
                    held.generation.fetch_add(1, Ordering::Release);
                    tracing::info!(path = %path.display(), "authorities read again");
                }
            }
            Err(trouble) => {
                if sound {
                    tracing::error!(path = %path.display(), %trouble, "authorities cannot be read; those before stay in force");
                }
                sound = false;
            }
        }
    }
}

fn read(path: &Path) -> Result<RootCertStore, Trouble> {
    let text = std::fs::read(path).map_err(|error| Trouble::Unreadable {
        path: path.to_owned(),
        error,
    })?;
    let mut store = RootCertStore::empty();
    for authority in pem::certificates("ca", &text)? {
        let added = store.add(authority);
        added.map_err(|error| Trouble::Malformed("ca", error.to_string()))?;
    }
    Ok(store)
}

/// Those that the system has; where it has none, as in an image made from scratch, those of Mozilla that we carry.
fn of_the_system() -> RootCertStore {
    let mut store = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "a system certificate cannot be read");
    }
    // Some systems keep certificates that no path can be built with; they are no use to anybody.
    let _ = store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    store
}
