//! The endpoints that an upstream has right now.

use std::collections::HashMap;
use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::Weak;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::connect::tls::Dialer;
use crate::endpoint::Endpoint;
use crate::endpoint::discover::WatchHandle;
use crate::http::Reason;

/// A changing set of endpoints. Discovery writes it, balancers read it without a lock.
#[derive(Debug)]
pub struct Cluster {
    set: ArcSwap<Set>,
    generation: AtomicU64,
    watch: OnceLock<Weak<WatchHandle>>,
    changed: Notify,
    /// Of all its endpoints.
    dialer: Option<Arc<Dialer>>,
}

/// What is known of one endpoint before it is called.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its part of the traffic beside that of the others. Range: 1 to 100. Default: 1.
    pub weight: u32,
    /// The zone it is in; `None` if nobody said.
    pub zone: Option<Arc<str>>,
}

impl From<SocketAddr> for Member {
    fn from(address: SocketAddr) -> Self {
        Self {
            address,
            weight: 1,
            zone: None,
        }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        if self.weight != 1 {
            write!(f, " weight {}", self.weight)?;
        }
        match &self.zone {
            Some(zone) => write!(f, " in {zone}"),
            None => Ok(()),
        }
    }
}

/// One state of a [`Cluster`].
#[derive(Debug, Default)]
pub struct Set {
    /// All endpoints, in no order that matters.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// What was said of each, in the same order. Here and not in the endpoint, so that a reload can say otherwise of one
    /// that stays.
    pub members: Vec<Member>,
    /// Why the set is empty, once that is known; `None` while the first answer is awaited.
    pub failed: Option<Reason>,
}

impl Cluster {
    /// A cluster that waits for its first answer.
    #[must_use]
    pub fn waiting() -> Arc<Self> {
        Self::secured(None)
    }

    /// The same, for endpoints whose connections are secured. Which way stays the same for all its life.
    #[must_use]
    pub fn secured(dialer: Option<Arc<Dialer>>) -> Arc<Self> {
        Arc::new(Self {
            dialer,
            set: ArcSwap::from_pointee(Set::default()),
            generation: AtomicU64::new(1),
            watch: OnceLock::new(),
            changed: Notify::new(),
        })
    }

    /// A cluster of fixed addresses.
    #[must_use]
    pub fn fixed(addresses: &[SocketAddr], now: Instant) -> Arc<Self> {
        let cluster = Self::waiting();
        cluster.update(addresses, now);
        cluster
    }

    /// A cluster of these members.
    #[must_use]
    pub fn of(members: &[Member], now: Instant) -> Arc<Self> {
        let cluster = Self::waiting();
        cluster.replace(members, now);
        cluster
    }

    /// How connections to its endpoints are secured.
    #[must_use]
    pub fn dialer(&self) -> Option<&Arc<Dialer>> {
        self.dialer.as_ref()
    }

    /// Names the watch that feeds it, so that it can be asked to look again.
    pub fn fed_by(&self, watch: &Arc<WatchHandle>) {
        // A cluster is fed by one watch for all its life; a second one would be a bug that changes nothing.
        let _ = self.watch.set(Arc::downgrade(watch));
    }

    /// An endpoint could not be connected to: perhaps it is gone and the name says so already.
    pub fn suspect(&self) {
        if let Some(watch) = self.watch.get().and_then(Weak::upgrade) {
            watch.refresh();
        }
    }

    /// The current set.
    #[must_use]
    pub fn set(&self) -> arc_swap::Guard<Arc<Set>> {
        self.set.load()
    }

    /// Which set it is, counted from 1: cheaper to ask with every call than for the set itself.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn put(&self, set: Set) {
        self.set.store(Arc::new(set));
        // After the set: whoever sees the new number finds the new set or a newer one.
        self.generation.fetch_add(1, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Replaces the addresses. Endpoints whose address stays keep their connections, latency and ejections.
    pub fn update(&self, addresses: &[SocketAddr], now: Instant) {
        let members: Vec<_> = addresses.iter().copied().map(Member::from).collect();
        self.replace(&members, now);
    }

    /// [`Cluster::update`] with what is known of each; nothing happens if all of it is known already.
    pub fn replace(&self, members: &[Member], now: Instant) {
        let old = self.set.load();
        if !members.is_empty() && old.members == members {
            return;
        }
        let known: HashMap<_, _> = old
            .endpoints
            .iter()
            .map(|endpoint| (endpoint.address, endpoint))
            .collect();
        let stays = |member: &&Member| known.contains_key(&member.address);
        // All new at once is a start, not a newcomer among others.
        let others_serve = members.iter().any(|member| stays(&member));
        let fresh = |address| {
            let endpoint = Endpoint::secured(address, self.dialer.clone(), now);
            if others_serve {
                endpoint.came_back(now);
            }
            endpoint
        };
        let endpoints: Vec<_> = members
            .iter()
            .map(|member| match known.get(&member.address) {
                Some(endpoint) => Arc::clone(endpoint),
                None => fresh(member.address),
            })
            .collect();
        let kept: HashSet<_> = members.iter().map(|member| member.address).collect();
        for endpoint in &old.endpoints {
            if !kept.contains(&endpoint.address) {
                endpoint.leave();
            }
        }
        let failed = endpoints.is_empty().then_some(Reason::NoEndpoint);
        self.put(Set {
            endpoints,
            members: members.to_vec(),
            failed,
        });
    }

    /// Says that no address is known and why. A set that has endpoints keeps them: the last good answer serves.
    pub fn fail(&self, reason: Reason) {
        if self.set.load().endpoints.is_empty() {
            self.clear(reason);
        }
    }

    /// Lets all endpoints go.
    pub fn clear(&self, reason: Reason) {
        for endpoint in &self.set.load().endpoints {
            endpoint.leave();
        }
        self.put(Set {
            endpoints: Vec::new(),
            members: Vec::new(),
            failed: Some(reason),
        });
    }

    /// Waits until the set is another than that of `generation`.
    pub async fn changed_since(&self, generation: u64) {
        loop {
            // Before the question: a change in between is told to whoever waits already.
            let changed = self.changed.notified();
            if self.generation() != generation {
                return;
            }
            changed.await;
        }
    }

    /// Waits until the set is known, well or ill.
    pub async fn known(&self) {
        loop {
            let changed = self.changed.notified();
            let set = self.set.load();
            if !set.endpoints.is_empty() || set.failed.is_some() {
                return;
            }
            drop(set);
            changed.await;
        }
    }
}
