//! Asks: a task for each watched name, queries for A and AAAA side by side, and the search list of the system.

use std::fmt;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::ResolverOpts;
use hickory_resolver::proto::rr;
use hickory_resolver::proto::rr::RecordType;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::clock;
use crate::endpoint::discover::Failure;
use crate::endpoint::discover::Update;
use crate::endpoint::discover::client;
use crate::endpoint::discover::hosts;
use crate::endpoint::discover::machine;
use crate::endpoint::discover::machine::Answer;
use crate::endpoint::discover::machine::Part;
use crate::endpoint::discover::machine::Verdict;
use crate::endpoint::discover::machine::Why;
use crate::rng;

/// How long an entry of the hosts file is taken to hold: it has no TTL, and a file is cheap to read.
const HOSTS_TTL: Duration = Duration::from_secs(10);

/// How a [`Resolver`] works. The default is that of the system.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name servers to ask, over UDP and, for long answers, TCP. None: those of `/etc/resolv.conf`, with its search list.
    pub servers: Option<Vec<SocketAddr>>,
    /// Domains to try a relative name in, when `servers` is given. The system's list is used with the system's servers.
    pub search: Vec<String>,
    /// A name with fewer dots is tried in the search list first, when `servers` is given. Default: 1.
    pub ndots: usize,
    /// The hosts file. Default: `/etc/hosts` with the system's servers, none with others.
    pub hosts: Option<PathBuf>,
    /// When to ask again.
    pub table: machine::Settings,
    /// How long one server may take. Default: 2s, or less where `/etc/resolv.conf` says so.
    pub timeout: Duration,
    /// Further tries after a time-out. Default: 1.
    pub retries: usize,
    /// How long an answer to one of A and AAAA waits for the other. Default: 250ms: long enough for any server that
    /// answers both, short enough not to hold up a start because of one that drops AAAA.
    pub other_kind: Duration,
    /// Whether this host has a route to an address; see [`Answer::routable`].
    pub reaches: fn(IpAddr) -> bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            servers: None,
            search: Vec::new(),
            ndots: 1,
            hosts: Some(PathBuf::from("/etc/hosts")),
            table: machine::Settings::default(),
            timeout: Duration::from_secs(2),
            retries: 1,
            other_kind: Duration::from_millis(250),
            reaches: has_route,
        }
    }
}

/// Watches names. Cheap to clone; every watch is a task of the runtime given to [`Resolver::new`].
#[derive(Clone)]
pub struct Resolver {
    shared: Arc<Shared>,
}

struct Shared {
    runtime: Handle,
    client: Option<TokioResolver>,
    search: Vec<rr::Name>,
    ndots: usize,
    options: Options,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver")
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}

impl Resolver {
    /// Asks `servers`, or those of the system, on `runtime`. Servers that were given explicitly bring no search list and
    /// no hosts file.
    #[must_use]
    pub fn new(runtime: Handle, servers: Option<Vec<SocketAddr>>) -> Self {
        let hosts = servers.is_none().then(|| PathBuf::from("/etc/hosts"));
        Self::with(
            runtime,
            Options {
                servers,
                hosts,
                ..Options::default()
            },
        )
    }

    /// Every knob.
    #[must_use]
    pub fn with(runtime: Handle, options: Options) -> Self {
        let (config, opts, search) = match &options.servers {
            Some(servers) => (
                client::explicit(servers),
                ResolverOpts::default(),
                client::names(&options.search),
            ),
            None => client::system(),
        };
        let ndots = if options.servers.is_some() {
            options.ndots
        } else {
            opts.ndots
        };
        let client = client::client(config, opts, &options)
            .inspect_err(|why| tracing::error!(%why, "no resolver: every name will fail"))
            .ok();
        Self {
            shared: Arc::new(Shared {
                runtime,
                client,
                search,
                ndots,
                options,
            }),
        }
    }

    /// Where its watches run: the runtime for what belongs to no worker.
    #[must_use]
    pub fn runtime(&self) -> &Handle {
        &self.shared.runtime
    }

    /// Tells `on_change` about `name` until the handle is dropped.
    ///
    /// An address and `localhost` need no lookup: `on_change` is called once, before this returns. `localhost` is
    /// 127.0.0.1; whoever means the other one writes `[::1]`. For any other name `on_change` is called by a task of the
    /// runtime, once for each lookup, never twice at a time. It must not block.
    pub fn watch(
        &self,
        name: &str,
        port: u16,
        on_change: impl Fn(Update) + Send + Sync + 'static,
    ) -> WatchHandle {
        if let Some(address) = literal(name) {
            on_change(Update::Endpoints(vec![SocketAddr::new(address, port)]));
            return WatchHandle::idle();
        }
        let Some(asked) = Asked::new(name, &self.shared) else {
            on_change(Update::Failed(Failure {
                why: Why::NotAName,
                kept: 0,
            }));
            return WatchHandle::idle();
        };
        let hurry = Arc::new(Notify::new());
        let watch = Watch {
            shared: Arc::clone(&self.shared),
            asked,
            port,
            hurry: Arc::clone(&hurry),
            on_change,
        };
        let task = self.shared.runtime.spawn(watch.run());
        WatchHandle {
            running: Some((task, hurry)),
        }
    }
}

/// A watch lives as long as its handle.
#[derive(Debug)]
#[must_use = "dropping the handle ends the watch"]
pub struct WatchHandle {
    running: Option<(JoinHandle<()>, Arc<Notify>)>,
}

impl WatchHandle {
    const fn idle() -> Self {
        Self { running: None }
    }

    /// Asks for a lookup soon, for instance because no endpoint can be reached. Not more often than the shortest TTL.
    pub fn refresh(&self) {
        if let Some((_, hurry)) = &self.running {
            hurry.notify_one();
        }
    }
}

impl Drop for WatchHandle {
    fn drop(&mut self) {
        if let Some((task, _)) = &self.running {
            task.abort();
        }
    }
}

/// A name and the absolute names that it may stand for.
struct Asked {
    written: String,
    candidates: Vec<rr::Name>,
    /// The candidate that last had addresses.
    winner: Option<usize>,
}

impl Asked {
    fn new(name: &str, shared: &Shared) -> Option<Self> {
        let parsed = rr::Name::from_str_relaxed(name).ok()?;
        if name.is_empty() || parsed.is_root() {
            return None;
        }
        let written = name.trim_end_matches('.').to_owned();
        let candidates = candidates(&parsed, &shared.search, shared.ndots);
        Some(Self {
            written,
            candidates,
            winner: None,
        })
    }
}

/// The names to ask for, in order, after resolv.conf(5): absolute with a trailing dot; with at least `ndots` dots as it
/// is and then in the search list; with fewer the other way round.
pub(super) fn candidates(name: &rr::Name, search: &[rr::Name], ndots: usize) -> Vec<rr::Name> {
    let mut absolute = name.clone();
    absolute.set_fqdn(true);
    if name.is_fqdn() {
        return vec![absolute];
    }
    let mut names: Vec<rr::Name> = Vec::with_capacity(search.len() + 1);
    let searched = search
        .iter()
        .filter_map(|domain| name.clone().append_domain(domain).ok());
    names.extend(searched);
    let dots = usize::from(name.num_labels()).saturating_sub(1);
    let at = if dots >= ndots { 0 } else { names.len() };
    names.insert(at, absolute);
    let mut unique = Vec::with_capacity(names.len());
    for name in names {
        if !unique.contains(&name) {
            unique.push(name);
        }
    }
    unique
}

struct Watch<F> {
    shared: Arc<Shared>,
    asked: Asked,
    port: u16,
    hurry: Arc<Notify>,
    on_change: F,
}

impl<F: Fn(Update)> Watch<F> {
    async fn run(mut self) {
        let mut table = machine::Name::new(self.shared.options.table.clone(), clock::now());
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(table.due().into()) => {}
                () = self.hurry.notified() => tokio::time::sleep_until(table.due_in_a_hurry().into()).await,
            }
            let answer = self.shared.look_up(&mut self.asked).await;
            let was_failing = table.failures() > 0;
            let verdict = table.settle(answer, clock::now(), rng::draw());
            self.tell(&table, verdict, was_failing);
        }
    }

    fn tell(&self, table: &machine::Name, verdict: Verdict, was_failing: bool) {
        let name = self.asked.written.as_str();
        let update = match verdict {
            Verdict::Changed { added, removed } => {
                tracing::info!(
                    name,
                    endpoints = table.addresses().len(),
                    ?added,
                    ?removed,
                    "endpoints changed"
                );
                let at = |&address: &IpAddr| SocketAddr::new(address, self.port);
                Update::Endpoints(table.addresses().iter().map(at).collect())
            }
            Verdict::Same => {
                if was_failing {
                    tracing::info!(name, "name resolves again");
                }
                Update::Confirmed
            }
            Verdict::Failed { why, kept } => {
                // One line for each outage: the metrics count the lookups.
                if !was_failing {
                    tracing::warn!(name, why = why.word(), kept, "name does not resolve");
                }
                Update::Failed(Failure { why, kept })
            }
            Verdict::Gone { removed } => {
                tracing::warn!(name, ?removed, "name is gone, and its endpoints with it");
                Update::Gone
            }
        };
        (self.on_change)(update);
    }
}

impl Shared {
    async fn look_up(&self, asked: &mut Asked) -> Answer {
        if let Some(path) = &self.options.hosts
            && let Ok(text) = tokio::fs::read_to_string(path).await
        {
            let found = hosts::addresses(&text, &asked.written);
            if !found.is_empty() {
                return joined(found, HOSTS_TTL);
            }
        }
        let Some(client) = &self.client else {
            return Answer::failed(Why::Unreachable);
        };
        let mut failure = None;
        for (place, candidate) in asked.candidates.iter().enumerate() {
            let answer = self.both(client, candidate).await;
            if answer.is_found() {
                asked.winner = Some(place);
                return answer.routable(self.options.reaches);
            }
            if answer.why() != Why::NotFound {
                // While the name that serves us cannot be asked for, a later one in the list is somebody else.
                if asked.winner == Some(place) {
                    return answer;
                }
                failure.get_or_insert(answer);
            }
        }
        failure.unwrap_or(Answer {
            v4: Part::Empty,
            v6: Part::Empty,
        })
    }

    /// A and AAAA of one absolute name.
    async fn both(&self, client: &TokioResolver, name: &rr::Name) -> Answer {
        let mut v4 = std::pin::pin!(client::query(client, name, RecordType::A));
        let mut v6 = std::pin::pin!(client::query(client, name, RecordType::AAAA));
        let patience = self.options.other_kind;
        tokio::select! {
            first = v4.as_mut() => {
                let v6 = other(&first, v6, patience).await;
                Answer { v4: first, v6 }
            }
            first = v6.as_mut() => {
                let v4 = other(&first, v4, patience).await;
                Answer { v4, v6: first }
            }
        }
    }
}

/// Waits for the second of two queries: to its end if the first gave nothing, else not for long.
async fn other(first: &Part, second: impl Future<Output = Part>, patience: Duration) -> Part {
    if first.is_found() {
        let late = tokio::time::timeout(patience, second).await;
        late.unwrap_or(Part::Failed(Why::TimedOut))
    } else {
        second.await
    }
}

fn joined(addresses: Vec<IpAddr>, ttl: Duration) -> Answer {
    let (v4, v6): (Vec<_>, Vec<_>) = addresses.into_iter().partition(IpAddr::is_ipv4);
    Answer {
        v4: Part::of(v4, ttl),
        v6: Part::of(v6, ttl),
    }
}

/// An address, with or without the brackets of a URI, or the one name that everybody knows (RFC 6761 section 6.3).
fn literal(name: &str) -> Option<IpAddr> {
    let bare = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    if let Ok(address) = bare.unwrap_or(name).parse() {
        return Some(address);
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let last = name.rsplit('.').next().unwrap_or(name);
    last.eq_ignore_ascii_case("localhost")
        .then_some(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// Connecting a UDP socket sends nothing, but fails where there is no route. It is how getaddrinfo(3) sorts, too.
fn has_route(address: IpAddr) -> bool {
    let any = match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    UdpSocket::bind((any, 0))
        .and_then(|socket| socket.connect((address, 9)))
        .is_ok()
}
