//! Start, reload, drain, stop.
//!
//! Threads: the control thread (accept, names, reload, signals), one thread a worker (the data path), the admin thread, the
//! log writer, and the watch on the policy files. Only workers touch requests.

mod credentials;
mod door;
mod faults;
mod fleet;
mod found;
mod identity;
mod inbound;
mod kept;
mod memory;
mod orders;
mod pages;
mod probes;
mod refusal;
mod refused;
mod reload;
mod secure;
mod told;
mod tree;
mod tunnel;
mod upstream;
mod worker;

#[cfg(test)]
mod tests;

use std::io;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::admin;
use crate::admin::AdminState;
use crate::app::identity::Keeper;
use crate::app::tree::Around;
use crate::app::tree::Tree;
use crate::audit;
use crate::clock;
use crate::config;
use crate::config::Policy;
use crate::endpoint::discover::Resolver;
use crate::http::replay;
use crate::identity::Current;
use crate::identity::tls;
use crate::identity::tls::Following;
use crate::listen;
use crate::listen::Bind;
use crate::listen::Dealer;
use crate::listen::Door;
use crate::listen::Drain;
use crate::listen::Refuse;
use crate::policy::overload;
use crate::redact;
use crate::telemetry::BuildInfo;
use crate::telemetry::Telemetry;
use crate::telemetry::access_log::AccessLog;

/// How a proxy is run, beside its policy.
pub struct Options {
    /// Worker threads. Default: what the CPU quota allows, at least 1.
    pub workers: Option<usize>,
    /// Name servers. Empty: those of the system.
    pub dns: Vec<SocketAddr>,
    /// How long calls in flight may take after the order to stop.
    pub drain: Duration,
    /// Policy sources to load again when they change or on SIGHUP; `None` never reloads.
    pub watch: Option<Vec<PathBuf>>,
    /// Where the access log goes.
    pub access_log: Box<dyn Write + Send>,
    /// Whether SIGTERM, SIGINT and SIGHUP are ours.
    pub signals: bool,
}

/// Why a proxy could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A socket could not be bound.
    #[error(
        "cannot listen on {what} {bind:?}: {error}; is another outrider running? choose another port under `listen:`"
    )]
    Bind {
        /// The `listen` entry.
        what: &'static str,
        /// What it asks for.
        bind: Bind,
        /// What the system said.
        error: io::Error,
    },
    /// The audit log that the policy asks for cannot be kept.
    #[error("{0}")]
    Audit(#[from] audit::OpenError),
    /// What the policy wants kept back cannot be.
    #[error("telemetry.redact.key: {0}")]
    Redact(#[from] redact::KeyError),
    /// A thread, runtime or signal handler could not be had.
    #[error("cannot start {what}: {error}; are the limits on threads or file descriptors too low?")]
    System {
        /// What for.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
}

impl StartError {
    fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::System { what, error }
    }
}

/// What every thread of the proxy sees.
pub struct Shared {
    tree: ArcSwap<Tree>,
    generation: AtomicU64,
    telemetry: Arc<Telemetry>,
    resolver: Arc<Resolver>,
    identity: Keeper,
    load: Arc<overload::Load>,
    /// How it answers TLS. Whoever it believes may knock; what they may call is for `authorise` to say.
    server_tls: Following<rustls::ServerConfig>,
    effective: ArcSwap<config::Effective>,
    own: Vec<SocketAddr>,
    refuse: Refuse,
    drain: Duration,
}

impl Shared {
    /// The generation of the tree in force.
    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn put(&self, tree: Arc<Tree>) {
        let generation = tree.generation;
        keep_replay_memory(&tree.policy);
        self.tree.store(tree);
        self.generation.store(generation, Ordering::Release);
    }
}

/// A proxy at work.
pub struct Running {
    outbound: Option<SocketAddr>,
    explicit: Option<SocketAddr>,
    inbound: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    telemetry: Arc<Telemetry>,
    stop: CancellationToken,
    control: JoinHandle<()>,
}

impl Running {
    /// Where the transparent listener stands (its first address).
    #[must_use]
    pub fn outbound(&self) -> Option<SocketAddr> {
        self.outbound
    }

    /// Where the explicit proxy stands.
    #[must_use]
    pub fn explicit(&self) -> Option<SocketAddr> {
        self.explicit
    }

    /// Where callers of the application knock.
    #[must_use]
    pub fn inbound(&self) -> Option<SocketAddr> {
        self.inbound
    }

    /// Where the admin side stands.
    #[must_use]
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Its metrics.
    #[must_use]
    pub fn telemetry(&self) -> Arc<Telemetry> {
        Arc::clone(&self.telemetry)
    }

    /// Waits until a signal has stopped it and it has drained.
    #[must_use]
    pub fn wait(self) -> ExitCode {
        match self.control.join() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_panic) => ExitCode::FAILURE,
        }
    }

    /// Stops it now and waits until it has drained.
    pub fn stop(self) {
        self.stop.cancel();
        // A panic of the control thread was reported by the panic hook.
        let _ = self.control.join();
    }
}

/// The sockets, bound before anything else starts, so that a taken port is found while nothing runs yet.
struct Sockets {
    outbound: Vec<TcpListener>,
    explicit: Vec<TcpListener>,
    inbound: Vec<TcpListener>,
    admin: Vec<TcpListener>,
}

impl Sockets {
    fn bind(policy: &Policy) -> Result<Self, StartError> {
        let open = |what, bind: Option<Bind>| match bind {
            None => Ok(Vec::new()),
            Some(bind) => {
                listen::bind(bind).map_err(|error| StartError::Bind { what, bind, error })
            }
        };
        Ok(Self {
            outbound: open("outbound", policy.listen.outbound)?,
            explicit: open("explicit", policy.listen.explicit)?,
            inbound: open("inbound", policy.listen.inbound)?,
            admin: open("admin", policy.listen.admin)?,
        })
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        [&self.outbound, &self.explicit, &self.inbound, &self.admin]
            .into_iter()
            .flatten()
            .filter_map(|listener| listener.local_addr().ok())
            .collect()
    }
}

fn first(listeners: &[TcpListener]) -> Option<SocketAddr> {
    listeners.first()?.local_addr().ok()
}

/// Starts a proxy with a policy that loaded.
///
/// # Errors
/// When a port is taken or the system refuses a thread; nothing is left running then.
pub fn launch(loaded: config::Loaded, options: Options) -> Result<Running, StartError> {
    let config::Loaded {
        policy, effective, ..
    } = loaded;
    let sockets = Sockets::bind(&policy)?;
    let workers = options.workers.unwrap_or_else(default_workers);
    let telemetry = Telemetry::new(build_info(), workers);
    told::begin(&policy, &telemetry)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(StartError::system("the control runtime"))?;
    let shared = share(policy, effective, &options, &sockets, &telemetry, &runtime);
    keep_gauges(&shared);
    kept::keep_gauges(&shared);
    let log = AccessLog::start(options.access_log, telemetry.process.log_dropped.clone())
        .map_err(StartError::system("the access log"))?;
    let drain = Drain::default();
    let mut crew = Crew::start(workers, &shared, &log, &drain)?;
    let state = pages::admin_state(&shared);
    let (outbound, explicit) = (first(&sockets.outbound), first(&sockets.explicit));
    let (inbound, admin_at) = (first(&sockets.inbound), first(&sockets.admin));
    let admin = admin::start(sockets.admin, Arc::clone(&state))
        .map_err(StartError::system("the admin side"))?;
    let stop = CancellationToken::new();
    let control = Control {
        dealer: Dealer::new(
            std::mem::take(&mut crew.senders),
            Arc::clone(&telemetry),
            Arc::clone(&shared.refuse),
        ),
        doors: vec![
            (Door::Outbound, sockets.outbound),
            (Door::Explicit, sockets.explicit),
            (Door::Inbound, sockets.inbound),
        ],
        shared,
        crew,
        state,
        admin,
        log,
        drain,
        stop: stop.clone(),
        watch: options.watch,
        signals: options.signals,
    };
    let control = std::thread::Builder::new()
        .name("control".into())
        .spawn(move || control.run(&runtime))
        .map_err(StartError::system("the control thread"))?;
    Ok(Running {
        outbound,
        explicit,
        inbound,
        admin: admin_at,
        telemetry,
        stop,
        control,
    })
}

fn share(
    policy: Policy,
    effective: config::Effective,
    options: &Options,
    sockets: &Sockets,
    telemetry: &Arc<Telemetry>,
    runtime: &Runtime,
) -> Arc<Shared> {
    let servers = (!options.dns.is_empty()).then(|| options.dns.clone());
    let resolver = Arc::new(Resolver::new(runtime.handle().clone(), servers));
    let identity = Keeper::new(telemetry, runtime.handle().clone());
    identity.follow(policy.identity.as_ref());
    let around = Around {
        telemetry,
        resolver: &resolver,
        identity: identity.current(),
    };
    let tree = Tree::new(policy, &around, None);
    telemetry
        .process
        .set_policy(&tree.policy.revision, clock::unix());
    keep_replay_memory(&tree.policy);
    let workers = options.workers.unwrap_or_else(default_workers);
    let metrics = overload::metrics::Metrics::new(telemetry, workers);
    Arc::new(Shared {
        server_tls: server_tls(identity.current()),
        load: overload::Load::new(workers, metrics),
        generation: AtomicU64::new(tree.generation),
        tree: ArcSwap::new(tree),
        telemetry: Arc::clone(telemetry),
        resolver,
        identity,
        effective: ArcSwap::from_pointee(effective),
        own: sockets.addresses(),
        refuse: refusal::maker(),
        drain: options.drain,
    })
}

fn server_tls(identity: &Arc<Current>) -> Following<rustls::ServerConfig> {
    let alpn = [tls::H2, tls::HTTP1];
    Following::new(Arc::clone(identity), move |identity| {
        tls::server_config(identity, &Arc::from([]), &alpn)
    })
}

/// The bound of what all calls keep for another try; none where `overload` is off.
fn keep_replay_memory(policy: &Policy) {
    let most = policy.overload.as_ref().map(|overload| overload.replay);
    replay::set_memory(most.unwrap_or(u64::MAX));
}

fn default_workers() -> usize {
    // Knows of the CPU quota of a control group, which is what a pod's limit becomes.
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn build_info() -> BuildInfo {
    BuildInfo {
        version: env!("CARGO_PKG_VERSION"),
        commit: option_env!("OUTRIDER_COMMIT").unwrap_or("unknown"),
    }
}

fn keep_gauges(shared: &Arc<Shared>) {
    let shared_of_gauges = Arc::downgrade(shared);
    shared.telemetry.before_scrape(Box::new(move || {
        if let Some(shared) = shared_of_gauges.upgrade() {
            let now = clock::now();
            let tree = shared.tree.load();
            tree.each(|live| live.refresh_gauges(now));
            if let Some(settings) = &tree.policy.overload {
                shared.load.refresh(settings);
            }
            if let Some(limit) = tree
                .inbound
                .as_ref()
                .and_then(|inbound| inbound.limit.as_ref())
            {
                limit.limiter.refresh(now);
            }
            tree.faults.refresh();
            tree.credentials.refresh();
        }
    }));
}

/// The worker threads.
struct Crew {
    senders: Vec<mpsc::Sender<listen::Accepted>>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Crew {
    fn start(
        count: usize,
        shared: &Arc<Shared>,
        log: &AccessLog,
        drain: &Drain,
    ) -> Result<Self, StartError> {
        let mut crew = Self {
            senders: Vec::new(),
            threads: Vec::new(),
        };
        for index in 0..count.max(1) {
            let (sender, accepted) = mpsc::channel(BACKLOG);
            let (shared, buffer, drain) = (Arc::clone(shared), log.buffer(), drain.clone());
            let thread = std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || worker::run(index, shared, buffer, accepted, drain))
                .map_err(StartError::system("a worker"))?;
            crew.senders.push(sender);
            crew.threads.push(thread);
        }
        Ok(crew)
    }
}

/// What the control thread holds.
struct Control {
    shared: Arc<Shared>,
    dealer: Arc<Dealer>,
    doors: Vec<(Door, Vec<TcpListener>)>,
    crew: Crew,
    state: Arc<AdminState>,
    admin: admin::AdminHandle,
    log: AccessLog,
    drain: Drain,
    stop: CancellationToken,
    watch: Option<Vec<PathBuf>>,
    signals: bool,
}

impl Control {
    fn run(mut self, runtime: &Runtime) {
        // One place: a reload that is asked for while another waits is the same reload.
        let (ask, reloads) = mpsc::channel(1);
        let _watcher = self.watch.clone().map(|sources| {
            let revision = self.shared.tree.load().policy.revision.clone();
            config::watch::watch(sources, revision, move || {
                // Full: one waits already. Closed: the process stops.
                let _ = ask.try_send(());
            })
        });
        runtime.block_on(self.serve(reloads));
        for thread in self.crew.threads {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "a worker could not run"),
                Err(_panic) => tracing::error!("a worker panicked"),
            }
        }
        self.admin.stop();
        self.log.stop();
        told::end(&self.shared.tree.load().policy);
        tracing::info!("stopped");
    }

    async fn serve(&mut self, mut reloads: mpsc::Receiver<()>) {
        let doors = std::mem::take(&mut self.doors);
        let accepting: Vec<_> = doors
            .into_iter()
            .flat_map(|(door, listeners)| listeners.into_iter().map(move |l| (door, l)))
            .filter_map(|(door, listener)| self.accept(door, listener))
            .collect();
        let mut rolls = fleet::Rolls::new(&self.shared);
        rolls.warm().await;
        let rolls = tokio::spawn(rolls.keep());
        self.state.set_ready();
        let policy = &self.shared.tree.load().policy.revision.clone();
        tracing::info!(revision = %policy, workers = self.crew.threads.len(), "ready");
        let mut signals = Signals::listen(self.signals);
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        let mut memory = tokio::time::interval(MEMORY_EVERY);
        memory.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                signal = signals.next() => match signal {
                    Signal::Stop => break,
                    Signal::Reload => self.reload(),
                },
                Some(()) = reloads.recv() => self.reload(),
                _ = memory.tick() => self.shared.load.set_memory(memory::share()),
                _ = sweep.tick() => self.shared.tree.load().sweep(),
            }
        }
        rolls.abort();
        tracing::info!(open = self.dealer.open(), "draining");
        self.state.set_draining();
        for task in accepting {
            task.abort();
            // Waited for, since only then is its listener closed.
            let _ = task.await;
        }
        self.drain.begin();
    }

    fn accept(&self, door: Door, listener: TcpListener) -> Option<tokio::task::JoinHandle<()>> {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "a listener could not be used");
                return None;
            }
        };
        let shared = Arc::clone(&self.shared);
        let own = self.shared.own.clone();
        let limit = move || shared.tree.load().policy.listen.limits.connections;
        let dealer = Arc::clone(&self.dealer);
        Some(tokio::spawn(dealer.accept(listener, door, own, limit)))
    }

    fn reload(&self) {
        if let Some(sources) = &self.watch {
            reload::reload(&self.shared, sources);
        }
    }
}

/// Connections on their way to one worker. A worker that is so far behind is stuck, and refusing is kinder than waiting.
const BACKLOG: usize = 1024;
/// Time between two looks for destinations that nobody calls any more.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Time between two looks at our memory. Reading it takes the kernel some ten microseconds.
const MEMORY_EVERY: Duration = Duration::from_secs(1);

enum Signal {
    Stop,
    Reload,
}

/// The signals that are ours; waits for ever where none are.
struct Signals {
    #[cfg(unix)]
    handlers: Option<[tokio::signal::unix::Signal; 3]>,
}

impl Signals {
    fn listen(wanted: bool) -> Self {
        use tokio::signal::unix::SignalKind;
        use tokio::signal::unix::signal;
        let handlers = wanted.then(|| {
            let term = signal(SignalKind::terminate())?;
            let int = signal(SignalKind::interrupt())?;
            let hup = signal(SignalKind::hangup())?;
            io::Result::Ok([term, int, hup])
        });
        let handlers = handlers.and_then(|handlers| {
            handlers
                .inspect_err(|error| tracing::error!(%error, "signals cannot be handled"))
                .ok()
        });
        Self { handlers }
    }

    async fn next(&mut self) -> Signal {
        let Some([term, int, hup]) = &mut self.handlers else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = term.recv() => Signal::Stop,
            _ = int.recv() => Signal::Stop,
            _ = hup.recv() => Signal::Reload,
        }
    }
}
