//! One worker: a thread, a runtime, and everything on it that no other thread may touch.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::LocalOptions;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::app::Shared;
use crate::app::door::Handle;
use crate::app::inbound;
use crate::app::inbound::Site;
use crate::app::inbound::Transport;
use crate::app::tree::Tree;
use crate::app::upstream::Live;
use crate::app::upstream::Route;
use crate::endpoint::pool::Pools;
use crate::http::Fault;
use crate::http::hops::Peer;
use crate::http::hops::Terms;
use crate::listen;
use crate::listen::Accepted;
use crate::listen::Door;
use crate::listen::Drain;
use crate::listen::Limits;
use crate::listen::Way;
use crate::policy::correlation;
use crate::policy::overload;
use crate::route::machine::Matcher;
use crate::stack;
use crate::stack::RefusingStack;
use crate::stack::Stack;
use crate::telemetry;
use crate::telemetry::access_log::LogBuffer;
use crate::telemetry::access_log::Place;
use crate::telemetry::layer::Memory;
use crate::telemetry::layer::Observer;
use crate::telemetry::layer::WorkerLog;
use crate::telemetry::story::Names;

/// Time between two looks for resting connections and unused stacks.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// Hosts and ports that a worker remembers its stacks for. They come from the wire, where anybody can make up new ones; past
/// the bound all are forgotten, and those in use are built again at their next call.
const WAYS_MAX: usize = 4096;
/// Sweeps that an unused stack survives.
const SWEEPS_UNUSED: u32 = 24;

/// What one worker has.
pub struct Worker {
    pub(super) index: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) pools: Rc<Pools>,
    pub(super) log: Rc<WorkerLog>,
    correlation: correlation::metrics::Metrics,
    local: RefCell<Local>,
}

/// This worker's view of the tree: the stacks it has built so far.
struct Local {
    tree: Arc<Tree>,
    limits: Rc<Limits>,
    ways: HashMap<Box<str>, Vec<Known>>,
    known: usize,
    refusing: RefusingStack,
    /// To the applications behind the inbound listener; made when they are first called.
    ways_in: HashMap<(SocketAddr, Transport), WayIn>,
    refusing_in: RefusingStack,
}

/// The stack to one application.
type WayIn = Rc<RefCell<stack::inbound::Stack>>;

struct Known {
    port: u16,
    original: Option<SocketAddr>,
    upstream: Rc<LocalUpstream>,
}

/// An upstream with this worker's stacks for it.
pub struct LocalUpstream {
    /// What all workers share.
    pub live: Arc<Live>,
    routes: Vec<(Option<Matcher>, RefCell<Stack>)>,
    unused: Cell<u32>,
}

impl LocalUpstream {
    /// The stack of the most specific route for a request.
    #[must_use]
    pub fn stack(&self, method: &str, path: &str) -> &RefCell<Stack> {
        self.unused.set(0);
        let matching = self.routes.iter().find(|(matcher, _)| {
            matcher
                .as_ref()
                .is_none_or(|matcher| matcher.matches(method, path))
        });
        let (_, stack) = matching.expect("the last route is the base, which matches everything");
        stack
    }
}

impl Worker {
    fn new(index: usize, shared: Arc<Shared>, buffer: LogBuffer) -> Rc<Self> {
        let tree = shared.tree.load_full();
        let log = WorkerLog::new(buffer);
        let correlation = correlation::metrics::Metrics::new(&shared.telemetry);
        let local = Local::new(index, &shared, tree, &log, &correlation);
        Rc::new(Self {
            index,
            pools: Pools::new(shared.own.clone(), Arc::clone(&shared.telemetry)),
            log,
            correlation,
            local: RefCell::new(local),
            shared,
        })
    }

    /// The policy in force, as this worker sees it. Notices a reload.
    pub fn tree(&self) -> Arc<Tree> {
        self.catch_up();
        Arc::clone(&self.local.borrow().tree)
    }

    /// `listen.limits` of the policy in force.
    pub fn limits(&self) -> Rc<Limits> {
        self.catch_up();
        Rc::clone(&self.local.borrow().limits)
    }

    /// What holds between the requests of `peer` and the hops beside us.
    pub fn terms(&self, peer: Peer) -> Terms {
        self.catch_up();
        let local = self.local.borrow();
        let hops = local.tree.policy.hops.as_ref();
        hops.map_or_else(Terms::default, |hops| hops.terms(peer))
    }

    fn catch_up(&self) {
        let is_current = self.shared.generation() == self.local.borrow().tree.generation;
        if is_current {
            return;
        }
        let tree = self.shared.tree.load_full();
        let local = Local::new(self.index, &self.shared, tree, &self.log, &self.correlation);
        *self.local.borrow_mut() = local;
    }

    /// The way to the application at `site`, for calls that came so.
    #[must_use]
    pub fn way_in(&self, inbound: &inbound::Inbound, site: &Site, transport: Transport) -> WayIn {
        self.catch_up();
        let mut local = self.local.borrow_mut();
        let local = &mut *local;
        let tree = &local.tree;
        let made = || {
            let port = site.app.address.port().to_string();
            // Who asks how the application is need not be anybody.
            let guarded = transport != Transport::Probe;
            let parts = stack::inbound::Parts {
                observer: Observer {
                    metrics: Arc::clone(&site.metrics[transport as usize]),
                    worker: self.index,
                    log: tree.policy.access_log.then(|| Rc::clone(&self.log)),
                    place: Place::inbound(&tree.policy.service, &port),
                    memory: memory(&self.shared, tree, telemetry::INBOUND, &port),
                },
                correlation: self.correlation.clone(),
                authoriser: inbound.authoriser.clone().filter(|_| guarded),
                limit: inbound.limit.clone().filter(|_| guarded),
                cluster: Arc::clone(&site.cluster),
                balancer: Arc::clone(&inbound.balancer),
                pools: Rc::clone(&self.pools),
                upstream: Arc::clone(&inbound.upstream),
            };
            Rc::new(RefCell::new(stack::inbound::build(parts)))
        };
        let key = (site.app.address, transport);
        Rc::clone(local.ways_in.entry(key).or_insert_with(made))
    }

    /// The stack for calls that come in and go nowhere.
    #[must_use]
    pub fn refusing_in(&self) -> RefusingStack {
        self.catch_up();
        self.local.borrow().refusing_in.clone()
    }

    /// The stack for requests without a route.
    #[must_use]
    pub fn refusing(&self) -> RefusingStack {
        self.catch_up();
        self.local.borrow().refusing.clone()
    }

    /// The upstream for `host` and `port`, with its stacks.
    ///
    /// # Errors
    /// As [`Tree::upstream`].
    pub fn upstream(
        &self,
        host: &str,
        port: u16,
        original: Option<SocketAddr>,
    ) -> Result<Rc<LocalUpstream>, Fault> {
        self.catch_up();
        let mut local = self.local.borrow_mut();
        let known = local.ways.get(host).and_then(|known| {
            known
                .iter()
                .find(|known| known.port == port && known.original == original)
        });
        if let Some(known) = known {
            return Ok(Rc::clone(&known.upstream));
        }
        let live = local.tree.upstream(host, port, original)?;
        live.touch();
        let upstream = Rc::new(self.equip(&local.tree, live));
        if local.known >= WAYS_MAX {
            local.ways.clear();
            local.known = 0;
        }
        local.known += 1;
        local.ways.entry(host.into()).or_default().push(Known {
            port,
            original,
            upstream: Rc::clone(&upstream),
        });
        Ok(upstream)
    }

    fn equip(&self, tree: &Tree, live: Arc<Live>) -> LocalUpstream {
        let routes = live
            .routes
            .iter()
            .map(|route| {
                let stack = stack::build(self.parts(tree, &live, route));
                (route.matcher.clone(), RefCell::new(stack))
            })
            .collect();
        LocalUpstream {
            live,
            routes,
            unused: Cell::new(0),
        }
    }

    fn parts(&self, tree: &Tree, live: &Live, route: &Route) -> stack::Parts {
        let name = route.policy.name.as_str();
        let retry = route.policy.retry.as_ref().zip(route.budget.as_ref());
        let keys = route.policy.idempotency.as_ref().zip(route.keys.as_ref());
        stack::Parts {
            observer: Observer {
                metrics: Arc::clone(&route.metrics),
                worker: self.index,
                log: tree.policy.access_log.then(|| Rc::clone(&self.log)),
                place: Place::new(&tree.policy.service, &live.name, name),
                memory: memory(&self.shared, tree, &live.name, name),
            },
            correlation: self.correlation.clone(),
            overload: tree.policy.overload.clone().map(|settings| overload::Gate {
                load: Arc::clone(&self.shared.load),
                worker: self.index,
                settings,
                priority: route.policy.priority,
            }),
            fault: tree.faults.find(&live.name, name).cloned(),
            cache: route.cache.clone(),
            deadline: route.policy.deadline.clone(),
            expiries: Arc::clone(&route.expiries),
            idempotency: keys.map(|(settings, metrics)| (settings.clone(), Arc::clone(metrics))),
            hedge: route.hedger.clone(),
            limit: route.limit.clone(),
            retry: retry.map(|(settings, budget)| {
                (
                    settings.clone(),
                    Arc::clone(budget),
                    Arc::clone(&route.retries),
                )
            }),
            credential: tree.credentials.find(&live.name, name).cloned(),
            breaker: route.breaker.clone(),
            bulkhead: route.bulkhead.clone(),
            ejector: live.ejector.clone(),
            balancer: Arc::clone(&live.balancer),
            cluster: Arc::clone(&live.cluster),
            pools: Rc::clone(&self.pools),
            upstream: Arc::clone(&live.metrics),
        }
    }

    fn sweep(&self) {
        self.catch_up();
        self.pools.sweep();
        let mut local = self.local.borrow_mut();
        local.ways.retain(|_, known| {
            known.retain(|known| {
                let upstream = &known.upstream;
                if upstream.unused.get() == 0 {
                    upstream.live.touch();
                }
                upstream.unused.set(upstream.unused.get() + 1);
                upstream.unused.get() < SWEEPS_UNUSED
            });
            !known.is_empty()
        });
        local.known = local.ways.values().map(Vec::len).sum();
    }
}

fn memory(shared: &Shared, tree: &Tree, upstream: &str, route: &str) -> Memory {
    Memory {
        settings: tree.policy.explain.clone(),
        stories: Arc::clone(&shared.telemetry.stories),
        names: Names {
            upstream: upstream.into(),
            route: route.into(),
            revision: tree.policy.revision.as_str().into(),
        },
    }
}

impl Local {
    fn new(
        index: usize,
        shared: &Shared,
        tree: Arc<Tree>,
        log: &Rc<WorkerLog>,
        correlation: &correlation::metrics::Metrics,
    ) -> Self {
        let observer = Observer {
            metrics: shared.telemetry.inbound("", Transport::Plain.word()),
            worker: index,
            log: tree.policy.access_log.then(|| Rc::clone(log)),
            place: Place::inbound(&tree.policy.service, ""),
            memory: memory(shared, &tree, telemetry::INBOUND, ""),
        };
        Self {
            limits: Rc::new(tree.policy.listen.limits.clone()),
            refusing: refusing(index, shared, &tree, log, correlation),
            refusing_in: stack::refusing(observer, correlation.clone()),
            tree,
            ways: HashMap::new(),
            known: 0,
            ways_in: HashMap::new(),
        }
    }
}

fn refusing(
    index: usize,
    shared: &Shared,
    tree: &Tree,
    log: &Rc<WorkerLog>,
    correlation: &correlation::metrics::Metrics,
) -> RefusingStack {
    let observer = Observer {
        metrics: shared.telemetry.route(telemetry::UNMATCHED, ""),
        worker: index,
        log: tree.policy.access_log.then(|| Rc::clone(log)),
        place: Place::new(&tree.policy.service, telemetry::UNMATCHED, ""),
        memory: memory(shared, tree, telemetry::UNMATCHED, ""),
    };
    stack::refusing(observer, correlation.clone())
}

/// Runs a worker until it has drained: once `drain` has begun it takes no more connections and gives those it has
/// until the shared bound.
pub fn run(
    index: usize,
    shared: Arc<Shared>,
    buffer: LogBuffer,
    accepted: mpsc::Receiver<Accepted>,
    drain: Drain,
) -> std::io::Result<()> {
    telemetry::enter_worker(index);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())?;
    runtime.block_on(serve(index, shared, buffer, accepted, drain));
    Ok(())
}

async fn serve(
    index: usize,
    shared: Arc<Shared>,
    buffer: LogBuffer,
    mut accepted: mpsc::Receiver<Accepted>,
    drain: Drain,
) {
    let drain_for = shared.drain;
    let worker = Worker::new(index, shared, buffer);
    let connections = TaskTracker::new();
    tokio::task::spawn_local(Rc::clone(&worker.log).flush_at_ticks());
    tokio::task::spawn_local(sweep(Rc::clone(&worker)));
    let load = Arc::clone(&worker.shared.load);
    tokio::task::spawn_local(load.watch_lag(index));
    loop {
        tokio::select! {
            next = accepted.recv() => match next {
                Some(next) => take(&worker, &connections, &drain, next),
                None => break,
            },
            () = drain.begun() => break,
        }
    }
    connections.close();
    if tokio::time::timeout(drain_for, connections.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            worker = index,
            open = connections.len(),
            "connections cut at the end of the drain time"
        );
    }
    worker.log.flush();
}

fn take(worker: &Rc<Worker>, connections: &TaskTracker, drain: &Drain, accepted: Accepted) {
    let Accepted {
        stream,
        door,
        peer,
        original,
        open,
    } = accepted;
    let Ok(stream) = tokio::net::TcpStream::from_std(stream) else {
        return;
    };
    // Answers are written whole; waiting to fill a segment only delays them.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let way = Way {
        door,
        peer,
        original,
        caller: None,
        connect: None,
    };
    let settings = Rc::new(listen::Settings {
        limits: (*worker.limits()).clone(),
        drain: drain.clone(),
        refuse: Arc::clone(&worker.shared.refuse),
    });
    if door == Door::Inbound {
        let worker = Rc::clone(worker);
        connections.spawn_local(async move {
            inbound::serve(worker, stream, way, settings).await;
            drop(open);
        });
        return;
    }
    let handle = Handle::new(worker);
    connections.spawn_local(async move {
        listen::serve(stream, handle, Rc::new(way), settings).await;
        drop(open);
    });
}

async fn sweep(worker: Rc<Worker>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        worker.sweep();
    }
}
