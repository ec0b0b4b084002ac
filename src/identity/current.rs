//! The identity in force. Sources put a new one in, whole; everybody else reads it without a lock.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use crate::audit;
use crate::clock;
use crate::identity::Flaw;
use crate::identity::SpiffeId;
use crate::identity::leaf::Leaf;
use crate::identity::metrics::Metrics;
use crate::identity::source::Trouble;
use crate::identity::tls::provider;
use crate::identity::trust::Bundles;
use crate::identity::trust::Trust;

/// How many authorities that are believed no more are remembered, for the word `retired_issuer`.
const RETIRED_MAX: usize = 16;

/// What a source read: nothing of it is checked yet.
pub struct Material {
    /// The workload's certificate first, then those that lead to an authority.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the first certificate.
    pub key: PrivateKeyDer<'static>,
    /// Authorities of the workload's own trust domain.
    pub own: Vec<CertificateDer<'static>>,
    /// Those of other trust domains. The own one may be among them.
    pub foreign: Bundles,
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material")
            .field("chain", &self.chain.len())
            .field("own", &self.own.len())
            .field("foreign", &self.foreign.keys())
            .finish_non_exhaustive()
    }
}

/// Who this workload is, and whom it believes. Never changed, replaced as one.
#[derive(Debug)]
pub struct Identity {
    /// Its name.
    pub id: SpiffeId,
    /// Certificates and key, which belong together.
    pub certified: Arc<CertifiedKey>,
    /// Whom it believes.
    pub trust: Trust,
    /// Seconds since 1970 from which on the certificate is valid.
    pub not_before: u64,
    /// Seconds since 1970 after which it is not.
    pub not_after: u64,
    /// Counted from 1 over the life of the process.
    pub generation: u64,
}

impl Identity {
    /// Checks that key and certificate belong together, that it is the certificate of a workload, and that it is not over.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(
        material: Material,
        retired: &[CertificateDer<'static>],
        generation: u64,
    ) -> Result<Self, Trouble> {
        let first = material
            .chain
            .first()
            .ok_or(Trouble::NoCertificate("chain"))?;
        let leaf = Leaf::read(first).map_err(Trouble::Flawed)?;
        let id = leaf.workload().map_err(Trouble::Flawed)?;
        if leaf.not_after <= clock::unix().as_secs() {
            return Err(Trouble::Flawed(Flaw::Expired));
        }
        let mut bundles = material.foreign;
        if !material.own.is_empty() {
            let own = bundles.entry(id.domain().clone()).or_default();
            own.extend(material.own);
        }
        if bundles.is_empty() {
            return Err(Trouble::NoCertificate("ca"));
        }
        let certified =
            CertifiedKey::from_der(material.chain, material.key, &provider()).map_err(|error| {
                match error {
                    rustls::Error::InconsistentKeys(_) => Trouble::KeyMismatch,
                    other => Trouble::Malformed("key", other.to_string()),
                }
            })?;
        Ok(Self {
            trust: Trust::new(&bundles, retired)?,
            id,
            certified: Arc::new(certified),
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            generation,
        })
    }

    /// Whether both were read from the same certificates.
    fn is_same(&self, other: &Self) -> bool {
        self.certified.cert == other.certified.cert
            && self.trust.domains().eq(other.trust.domains())
            && self.trust.authorities().eq(other.trust.authorities())
    }
}

/// The identity in force, for all threads.
#[derive(Debug)]
pub struct Current {
    held: ArcSwapOption<Identity>,
    generation: AtomicU64,
    retired: Mutex<Vec<CertificateDer<'static>>>,
    changed: watch::Sender<u64>,
    metrics: Option<Metrics>,
}

impl Current {
    /// Nobody yet.
    #[must_use]
    pub fn new(metrics: Option<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            held: ArcSwapOption::empty(),
            generation: AtomicU64::new(0),
            retired: Mutex::default(),
            changed: watch::Sender::new(0),
            metrics,
        })
    }

    /// Who we are; `None` until a source knew.
    #[must_use]
    pub fn get(&self) -> Option<Arc<Identity>> {
        self.held.load_full()
    }

    /// The generation in force, 0 before the first: cheaper to ask than for the identity itself.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Told of each new generation.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Takes what a source read, if it is sound and new; whether it was new.
    ///
    /// # Errors
    /// What is wrong with it. The identity in force stays, and the error is counted.
    pub fn install(&self, material: Material) -> Result<bool, Trouble> {
        self.try_install(material)
            .inspect_err(|trouble| self.failed(trouble))
    }

    fn try_install(&self, material: Material) -> Result<bool, Trouble> {
        // Held over all of it, so that two sources cannot give out one generation twice.
        let mut retired = self.retired.lock();
        let generation = self.generation() + 1;
        let before = self.get();
        let mut next = Identity::new(material, &retired, generation)?;
        if before.as_ref().is_some_and(|before| before.is_same(&next)) {
            return Ok(false);
        }
        if let Some(before) = &before {
            let kept: BTreeSet<&[u8]> = next.trust.authorities().map(AsRef::as_ref).collect();
            let gone = before.trust.authorities();
            let gone = gone.filter(|authority| !kept.contains(authority.as_ref()));
            let fresh: Vec<_> = gone.cloned().collect();
            if !fresh.is_empty() {
                retired.extend(fresh);
                let excess = retired.len().saturating_sub(RETIRED_MAX);
                retired.drain(..excess);
                next.trust = next.trust.remembering(&retired);
            }
        }
        if let Some(metrics) = &self.metrics {
            metrics.installed(&next);
        }
        if audit::is_on() {
            audit::record(
                audit::Event::new("identity")
                    .with("id", next.id.as_str())
                    .with("generation", next.generation)
                    .with("not_after", next.not_after),
            );
        }
        self.held.store(Some(Arc::new(next)));
        // After the identity: whoever sees the new number finds the new one or a newer.
        self.generation.store(generation, Ordering::Release);
        drop(retired);
        self.changed.send_replace(generation);
        Ok(true)
    }

    /// Counts what a source could not read.
    pub fn failed(&self, trouble: &Trouble) {
        if let Some(metrics) = &self.metrics {
            metrics.failed(trouble);
        }
    }
}
