//! One secret: where it is held, and what keeps it up to date.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::HeaderValue;
use serde_json::Value;
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;
use zeroize::Zeroizing;

use super::fetch;
use super::file;
use crate::audit;
use crate::audit::Event;
use crate::clock;
use crate::endpoint::discover::Resolver;
use crate::policy::credential::config::Origin;
use crate::policy::credential::config::Place;
use crate::policy::credential::machine;
use crate::policy::credential::machine::Holding;
use crate::policy::credential::machine::Trouble;
use crate::policy::credential::metrics::SourceMetrics;
use crate::telemetry::Telemetry;

/// What is wiped when the last of it goes.
pub(super) type Wiped = Zeroizing<Vec<u8>>;

/// What tells one source from another: routes with the same share it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spec {
    /// Where the secret comes from.
    pub origin: Origin,
    /// What becomes of it in the header.
    pub format: String,
}

/// What sources stand on.
#[derive(Clone, Copy, Debug)]
pub struct Ground<'a> {
    /// Counts.
    pub telemetry: &'a Telemetry,
    /// Finds token endpoints; its runtime is where secrets are kept up to date, never a worker's.
    pub resolver: &'a Resolver,
}

/// A secret that is kept up to date for as long as somebody holds this.
#[derive(Debug)]
pub struct Source {
    spec: Spec,
    shared: Arc<Shared>,
    _keeping: Option<AbortOnDropHandle<()>>,
}

/// What the source and its task share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) name: String,
    format: String,
    state: ArcSwap<State>,
    changed: Notify,
    /// An upstream has refused the secret.
    pub(super) nudged: Notify,
    pub(super) metrics: SourceMetrics,
}

/// One secret as it is sent.
#[derive(Debug)]
pub(super) struct Secret {
    pub(super) value: HeaderValue,
    /// Never given twice in one process, never zero.
    pub(super) version: u32,
    since: Instant,
    taken: Duration,
    until: Option<Instant>,
    ends: Option<Duration>,
}

#[derive(Clone, Debug, Default)]
struct State {
    secret: Option<Arc<Secret>>,
    next: Next,
    trouble: Option<Trouble>,
}

/// When there may be another secret.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Next {
    /// Nobody knows.
    #[default]
    Unknown,
    /// It was asked for.
    Asked,
    /// It will be asked for then.
    At(Instant),
}

static VERSION: AtomicU32 = AtomicU32::new(1);

impl Source {
    /// Reads the secret, or sets out to fetch it, and keeps it up to date.
    #[must_use]
    pub fn start(spec: Spec, ground: Ground<'_>) -> Arc<Self> {
        let name = spec.origin.to_string();
        let shared = Arc::new(Shared {
            metrics: SourceMetrics::new(ground.telemetry, &name),
            name,
            format: spec.format.clone(),
            state: ArcSwap::default(),
            changed: Notify::new(),
            nudged: Notify::new(),
        });
        let runtime = ground.resolver.runtime();
        let keeping = match &spec.origin {
            Origin::Place(Place::Env(name)) => {
                shared.put(read_env(name));
                None
            }
            Origin::Place(Place::File(path)) => {
                let first = shared.put(read_file(path));
                let watching = file::watch(path.clone(), Arc::clone(&shared), first);
                Some(runtime.spawn(watching))
            }
            Origin::Grant(grant) => {
                shared.await_next(Next::Asked, None);
                let client = fetch::Client::new(grant, ground.resolver);
                Some(runtime.spawn(fetch::keep(client, Arc::clone(&shared))))
            }
        };
        Arc::new(Self {
            spec,
            shared,
            _keeping: keeping.map(AbortOnDropHandle::new),
        })
    }

    /// What it was made from.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Its place, as logs and metrics call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The secret, if there is one that can be sent at `now`; else what there is of it.
    pub(super) fn secret(&self, now: Instant) -> Result<Arc<Secret>, Holding> {
        let state = self.shared.state.load();
        match (&state.secret, state.next) {
            (Some(secret), _) if secret.until.is_none_or(|until| now < until) => {
                Ok(Arc::clone(secret))
            }
            (_, Next::Asked) => Err(Holding::Pending),
            _ => Err(Holding::Missing),
        }
    }

    /// Waits until the secret is there, or certainly is not.
    pub(super) async fn settled(&self) {
        loop {
            let changed = self.shared.changed.notified();
            if !matches!(self.secret(clock::now()), Err(Holding::Pending)) {
                return;
            }
            changed.await;
        }
    }

    /// When it makes sense to come back for it, where that is known; and what was the matter.
    pub(super) fn absence(&self, now: Instant) -> (Option<Duration>, Option<Trouble>) {
        let state = self.shared.state.load();
        let after = match state.next {
            Next::At(at) => Some(at.saturating_duration_since(now)),
            Next::Asked | Next::Unknown => None,
        };
        (after, state.trouble)
    }

    /// An upstream refused the secret: a token may have been withdrawn.
    pub(super) fn nudge(&self) {
        self.shared.nudged.notify_one();
    }

    /// Brings its gauges up to date.
    pub fn refresh(&self) {
        let state = self.shared.state.load();
        if let Some(secret) = &state.secret {
            let ends = secret.ends.map_or(0.0, |ends| ends.as_secs_f64());
            self.shared.metrics.dated(secret.taken.as_secs_f64(), ends);
        }
    }

    /// What there is of it, for a person; never the secret, nor anything made of it.
    #[must_use]
    pub fn describe(&self, now: Instant) -> Value {
        let state = self.shared.state.load();
        let secret = state.secret.as_deref();
        let held = secret.filter(|secret| secret.until.is_none_or(|until| now < until));
        let (after, _) = self.absence(now);
        json!({
            "name": self.shared.name,
            "held": held.is_some(),
            "age_s": secret.map(|secret| now.saturating_duration_since(secret.since).as_secs()),
            "expires_in_s": secret
                .and_then(|secret| secret.until)
                .map(|until| until.saturating_duration_since(now).as_secs()),
            "next_attempt_in_s": after.map(|after| after.as_secs()),
            "trouble": state.trouble.map(Trouble::word),
        })
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.shared.metrics.dated(0.0, 0.0);
    }
}

impl Shared {
    /// Takes what was read at the start; gives back what was wrong with it.
    fn put(&self, read: Result<Wiped, Trouble>) -> Option<Trouble> {
        let taken = read.and_then(|text| self.take(machine::secret(&text)?, None));
        let trouble = taken.err()?;
        self.fail(trouble, Next::Unknown);
        tracing::warn!(
            credential = %self.name,
            error = trouble.word(),
            "there is no secret; calls that need it are refused until there is"
        );
        Some(trouble)
    }

    /// From now on this secret is sent. `lasting`: how long, and when it ends by the wall clock.
    pub(super) fn take(
        &self,
        secret: &[u8],
        lasting: Option<(Duration, Duration)>,
    ) -> Result<(), Trouble> {
        let value = self.formatted(secret)?;
        let (now, unix) = (clock::now(), clock::unix());
        let version = VERSION.fetch_add(1, Ordering::Relaxed).max(1);
        let ends = lasting.map(|(_, lifetime)| unix + lifetime);
        self.state.store(Arc::new(State {
            secret: Some(Arc::new(Secret {
                value,
                version,
                since: now,
                taken: unix,
                until: lasting.map(|(usable_for, _)| now + usable_for),
                ends,
            })),
            ..State::default()
        }));
        self.changed.notify_waiters();
        let ends = ends.map_or(0.0, |ends| ends.as_secs_f64());
        self.metrics.renewed(unix.as_secs_f64(), ends);
        tracing::info!(credential = %self.name, "a secret is taken into use");
        audit::record(Event::new("credential_renewed").with("name", self.name.as_str()));
        Ok(())
    }

    /// Whether the secret in use is this one.
    pub(super) fn holds(&self, secret: &[u8]) -> bool {
        let state = self.state.load();
        let (Some(held), Ok(value)) = (&state.secret, self.formatted(secret)) else {
            return false;
        };
        held.value == value
    }

    /// Whether there is one, ended or not.
    pub(super) fn holds_any(&self) -> bool {
        self.state.load().secret.is_some()
    }

    /// Counts a failure. What is held stays.
    pub(super) fn fail(&self, trouble: Trouble, next: Next) {
        self.metrics.failed(trouble);
        self.await_next(next, Some(trouble));
    }

    /// Notes when there may be another secret.
    pub(super) fn await_next(&self, next: Next, trouble: Option<Trouble>) {
        let state = State {
            next,
            trouble,
            ..State::clone(&self.state.load())
        };
        self.state.store(Arc::new(state));
        self.changed.notify_waiters();
    }

    /// The header's value, in memory that is wiped when the last request that carries it has gone.
    fn formatted(&self, secret: &[u8]) -> Result<HeaderValue, Trouble> {
        let places = self.format.matches("{}").count();
        let room = self.format.len() + secret.len() * places;
        let mut text = Wiped::new(Vec::with_capacity(room));
        for (at, part) in self.format.split("{}").enumerate() {
            if at > 0 {
                text.extend_from_slice(secret);
            }
            text.extend_from_slice(part.as_bytes());
        }
        let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(text))
            .map_err(|_| Trouble::Malformed)?;
        // Shown by no `{:?}`, and put into no table of HPACK (RFC 7541 section 7.1.3).
        value.set_sensitive(true);
        Ok(value)
    }
}

/// What a place holds now, without judging it.
pub(super) fn read(place: &Place) -> Result<Wiped, Trouble> {
    match place {
        Place::File(path) => read_file(path),
        Place::Env(name) => read_env(name),
    }
}

fn read_env(name: &str) -> Result<Wiped, Trouble> {
    use std::os::unix::ffi::OsStringExt as _;
    let text = std::env::var_os(name).ok_or(Trouble::Missing)?;
    Ok(Wiped::new(text.into_vec()))
}

/// Reads a file in one piece of memory, and never waits on what is no file.
pub(super) fn read_file(path: &Path) -> Result<Wiped, Trouble> {
    use std::io::ErrorKind;
    use std::io::Read as _;
    let trouble = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Trouble::Missing,
        _ => Trouble::Unreadable,
    };
    if !std::fs::metadata(path).map_err(trouble)?.is_file() {
        return Err(Trouble::Unreadable);
    }
    let file = std::fs::File::open(path).map_err(trouble)?;
    // With room for one byte more than is read, so that it is never moved while it grows.
    let most = machine::SECRET_MAX + 3;
    let mut text = Wiped::new(Vec::with_capacity(most + 32));
    file.take(most as u64)
        .read_to_end(&mut text)
        .map_err(trouble)?;
    Ok(text)
}
