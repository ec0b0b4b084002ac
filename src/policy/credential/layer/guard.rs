//! The secrets of one route, and how its calls carry them.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Instant;

use parking_lot::Mutex;
use serde_json::Value;

use super::source::Secret;
use super::source::Source;
use super::source::Spec;
use crate::audit;
use crate::audit::Counted;
use crate::audit::Event;
use crate::http::Call;
use crate::http::Fault;
use crate::http::Reason;
use crate::http::note::Note;
use crate::kit::budget::Budget;
use crate::kit::budget::BudgetSettings;
use crate::policy::credential::Settings;
use crate::policy::credential::config::Origin;
use crate::policy::credential::machine::Holding;
use crate::policy::credential::machine::Trouble;
use crate::policy::credential::metrics::Metrics;
use crate::telemetry::Telemetry;

/// What the calls of one route share.
#[derive(Debug)]
pub struct Guard {
    upstream: Box<str>,
    route: Box<str>,
    settings: Settings,
    first: Arc<Source>,
    next: Option<Arc<Source>>,
    /// How many calls may be sent twice: an upstream that refuses all keys must not get twice the traffic.
    budget: Mutex<Budget>,
    /// The versions of both keys for which the next one was taken and the first was not; zero is none.
    promoted: AtomicU64,
    /// Tell the audit log of the uses of both keys, by name.
    uses: Counted,
    next_uses: Option<Counted>,
    pub(super) metrics: Metrics,
}

/// One of a route's keys, ready to be sent.
#[derive(Clone, Debug)]
pub(super) struct Key {
    secret: Arc<Secret>,
    is_next: bool,
}

/// The keys that a call may go with.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) lead: Key,
    /// Another one, with another content.
    pub(super) other: Option<Key>,
}

impl Guard {
    /// The specs of the sources that a route needs: that of its secret, and of the one to try next. `None`: the block does
    /// not say where its secret comes from.
    #[must_use]
    pub fn specs(settings: &Settings) -> Option<(Spec, Option<Spec>)> {
        let spec = |origin| Spec {
            origin,
            format: settings.format.clone(),
        };
        let next = settings.next.clone();
        let next = next.map(|place| spec(Origin::Place(place)));
        Some((spec(settings.from.clone()?), next))
    }

    /// The credential of a route, with its sources.
    #[must_use]
    pub fn new(
        upstream: &str,
        route: &str,
        settings: Settings,
        (first, next): (Arc<Source>, Option<Arc<Source>>),
        telemetry: &Telemetry,
    ) -> Arc<Self> {
        let other = next.as_ref().map(|next| next.name());
        let used = |name: &str| {
            let event = Event::new("credential_used").with("name", name);
            audit::counted(event.with("upstream", upstream).with("route", route))
        };
        Arc::new(Self {
            metrics: Metrics::new(telemetry, upstream, route, first.name(), other),
            uses: used(first.name()),
            next_uses: other.map(used),
            upstream: upstream.into(),
            route: route.into(),
            settings,
            first,
            next,
            budget: Mutex::new(Budget::new(&BudgetSettings::default())),
            promoted: AtomicU64::new(0),
        })
    }

    /// Whether it is that of this route, from this block.
    #[must_use]
    pub fn is(&self, upstream: &str, route: &str, settings: &Settings) -> bool {
        self.is_of(upstream, route) && self.settings == *settings
    }

    /// Whether it is that of this route.
    #[must_use]
    pub fn is_of(&self, upstream: &str, route: &str) -> bool {
        *self.upstream == *upstream && *self.route == *route
    }

    /// Its sources.
    pub fn sources(&self) -> impl Iterator<Item = &Arc<Source>> {
        [&self.first].into_iter().chain(&self.next)
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn has_next(&self) -> bool {
        self.next.is_some()
    }

    /// The keys at `now`, the one that the upstream is known to take in front.
    pub(super) fn keys(&self, now: Instant) -> Result<Keys, Holding> {
        let key = |source: &Source, is_next| {
            let secret = source.secret(now)?;
            Ok(Key { secret, is_next })
        };
        let first = key(&self.first, false);
        let Some(next) = &self.next else {
            return first.map(|lead| Keys { lead, other: None });
        };
        match (first, key(next, true)) {
            (Ok(first), Ok(next)) if first.secret.value == next.secret.value => Ok(Keys {
                lead: first,
                other: None,
            }),
            (Ok(first), Ok(next)) => {
                let is_promoted = self.promoted.load(Ordering::Relaxed) == pair(&first, &next);
                let (lead, other) = if is_promoted {
                    (next, first)
                } else {
                    (first, next)
                };
                Ok(Keys {
                    lead,
                    other: Some(other),
                })
            }
            (Err(_), Ok(only)) | (Ok(only), Err(_)) => Ok(Keys {
                lead: only,
                other: None,
            }),
            (Err(holding), Err(_)) => Err(holding),
        }
    }

    /// Notes that `taken` was taken where `refused` was not: from now on it goes first, until one of them changes.
    pub(super) fn prefer(&self, taken: &Key, refused: &Key) {
        let promoted = if taken.is_next {
            pair(refused, taken)
        } else {
            0
        };
        self.promoted.store(promoted, Ordering::Relaxed);
    }

    /// Puts the key on a request, in place of whatever stands there.
    pub(super) fn sign(&self, key: &Key, call: &mut Call) {
        let did = if key.is_next { "set next" } else { "set" };
        call.trail.note(Note::Credential { did });
        let headers = &mut call.head.headers;
        headers.insert(self.settings.header.clone(), key.secret.value.clone());
        self.metrics.used(key.is_next);
        match &self.next_uses {
            Some(uses) if key.is_next => uses.hit(),
            _ => self.uses.hit(),
        }
    }

    /// A call counts towards the budget.
    pub(super) fn deposit(&self, now: Instant) {
        self.budget.lock().deposit(now);
    }

    /// Whether one more call may be sent twice.
    pub(super) fn withdraw(&self, now: Instant) -> bool {
        self.budget.lock().withdraw(now)
    }

    pub(super) fn source(&self) -> &Arc<Source> {
        &self.first
    }

    /// Why a call does not go.
    pub(super) fn fault(&self, now: Instant) -> Fault {
        let (after, trouble) = self.first.absence(now);
        let trouble = trouble.map_or("not there in time", Trouble::word);
        let fault = Fault::unsent(Reason::Credential)
            .because(format_args!("{}: {trouble}", self.first.name()));
        match after {
            Some(after) => fault.after(after),
            None => fault,
        }
    }

    /// For a person: which, how old, until when, how often; never what.
    #[must_use]
    pub fn describe(&self, now: Instant) -> Value {
        let mut line = self.first.describe(now);
        line["mode"] = self.settings.mode.word().into();
        line["header"] = self.settings.header.as_str().into();
        line["uses"] = self.metrics.uses().into();
        if let Some(next) = &self.next {
            line["next"] = next.describe(now);
            line["next_goes_first"] = self.keys(now).is_ok_and(|keys| keys.lead.is_next).into();
        }
        line
    }
}

/// Both versions in one number.
fn pair(first: &Key, next: &Key) -> u64 {
    u64::from(first.secret.version) << 32 | u64::from(next.secret.version)
}
