//! Families by name, their series by label values, and the text a scrape gets.
//!
//! A family is declared as a constant ([`Def`]) where it is used: its type, label keys and help stand in one place,
//! and the number of label values is checked by the compiler. The series are bounded: an `upstream` label is only
//! kept while its upstream is known, that is, stands in the policy.

use std::any::Any;
use std::collections::BTreeMap;
use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::Mutex;
use parking_lot::RwLock;
use prometheus_client::encoding::EncodeLabel;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::EncodeMetric;
use prometheus_client::encoding::LabelSetEncoder;
use prometheus_client::encoding::MetricEncoder;
use prometheus_client::encoding::text;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Unit;

/// A gauge of a fraction or a time.
pub type FloatGauge = Gauge<f64, AtomicU64>;

/// What a family can be made of.
pub trait Metric: EncodeMetric + TypedMetric + Clone + fmt::Debug + Send + Sync + 'static {
    /// A new metric at zero, with one shard a worker where it has shards.
    fn make(shards: usize) -> Self;
}

impl Metric for Counter {
    fn make(_: usize) -> Self {
        Self::default()
    }
}

impl Metric for Gauge {
    fn make(_: usize) -> Self {
        Self::default()
    }
}

impl Metric for FloatGauge {
    fn make(_: usize) -> Self {
        Self::default()
    }
}

/// The declaration of a family, under the name a scrape shows: counters with `_total`, units in the name.
pub struct Def<M, const N: usize> {
    name: &'static str,
    help: &'static str,
    labels: [&'static str; N],
    metric: PhantomData<fn() -> M>,
}

impl<M: Metric, const N: usize> Def<M, N> {
    /// Declare a family. `help` is a sentence without its full stop.
    #[must_use]
    pub const fn new(name: &'static str, help: &'static str, labels: [&'static str; N]) -> Self {
        Self {
            name,
            help,
            labels,
            metric: PhantomData,
        }
    }
}

/// The upstreams whose series are kept.
type Known = RwLock<HashSet<String>>;

/// All series of one name.
pub struct Family<M, const N: usize>(Arc<Inner<M, N>>);

struct Inner<M, const N: usize> {
    labels: [&'static str; N],
    upstream: Option<usize>,
    shards: usize,
    known: Arc<Known>,
    // Sorted, so that two scrapes of an idle proxy are the same text.
    series: RwLock<BTreeMap<[Box<str>; N], M>>,
}

impl<M: Metric, const N: usize> Family<M, N> {
    fn new(def: &Def<M, N>, shards: usize, known: Arc<Known>) -> Self {
        let upstream = def.labels.iter().position(|label| *label == "upstream");
        Self(Arc::new(Inner {
            labels: def.labels,
            upstream,
            shards,
            known,
            series: RwLock::default(),
        }))
    }

    /// The series of these label values, made at its first call. Call it when a policy is loaded or when a value first
    /// appears, and keep the result; it allocates and takes a lock.
    ///
    /// For an upstream that has left the policy the result counts but is not shown, so that a straggling request
    /// cannot bring a removed series back.
    #[must_use]
    pub fn get(&self, values: [&str; N]) -> M {
        let inner = &*self.0;
        // Held until the series is in: otherwise `retain` could pass between the question and the insertion.
        let known = inner.known.read();
        if let Some(at) = inner.upstream
            && !known.contains(values[at])
        {
            return M::make(inner.shards);
        }
        let key = values.map(Box::<str>::from);
        if let Some(metric) = inner.series.read().get(&key) {
            return metric.clone();
        }
        inner
            .series
            .write()
            .entry(key)
            .or_insert_with(|| M::make(inner.shards))
            .clone()
    }

    /// Forgets every series whose label values are not to be kept: for labels that name what comes and goes by itself.
    pub fn retain(&self, keep: impl Fn(&[Box<str>; N]) -> bool) {
        self.0.series.write().retain(|values, _| keep(values));
    }

    /// How many series there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.series.read().len()
    }

    /// Whether there is no series.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<M, const N: usize> Clone for Family<M, N> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M, const N: usize> fmt::Debug for Family<M, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Family")
            .field("labels", &self.0.labels)
            .finish_non_exhaustive()
    }
}

struct Pairs<'a, const N: usize>(&'a [&'static str; N], &'a [Box<str>; N]);

impl<const N: usize> EncodeLabelSet for Pairs<'_, N> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        for (key, value) in self.0.iter().zip(self.1) {
            (*key, &**value).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

impl<M: Metric, const N: usize> EncodeMetric for Family<M, N> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let series = self.0.series.read();
        for (values, metric) in series.iter().filter(|(_, metric)| !metric.is_empty()) {
            if N == 0 {
                // An empty label set would print `{}`. There is only the one series.
                return metric.encode(encoder);
            }
            metric.encode(encoder.encode_family(&Pairs(&self.0.labels, values))?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }

    /// A family with labels is announced even while it has no series, so that a dashboard can find it; a lone series
    /// that has nothing to tell is not.
    fn is_empty(&self) -> bool {
        N == 0 && self.0.series.read().values().all(EncodeMetric::is_empty)
    }
}

/// A family with its type forgotten, for the sweep after a reload.
trait AnyFamily: Send + Sync {
    fn prune(&self, known: &HashSet<String>);
    fn labels(&self) -> Vec<&'static str>;
    fn as_any(&self) -> &dyn Any;
}

impl<M: Metric, const N: usize> AnyFamily for Family<M, N> {
    fn prune(&self, known: &HashSet<String>) {
        if let Some(at) = self.0.upstream {
            self.0
                .series
                .write()
                .retain(|values, _| known.contains(&*values[at]));
        }
    }

    fn labels(&self) -> Vec<&'static str> {
        self.0.labels.to_vec()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Every family of the process.
pub struct Registry {
    shards: usize,
    known: Arc<Known>,
    text: RwLock<prometheus_client::registry::Registry>,
    families: Mutex<BTreeMap<&'static str, Box<dyn AnyFamily>>>,
    last_len: AtomicUsize,
}

impl Registry {
    /// An empty registry; `shards` is the number of workers.
    #[must_use]
    pub fn new(shards: usize) -> Self {
        Self {
            shards: shards.max(1),
            known: Arc::default(),
            text: RwLock::default(),
            families: Mutex::default(),
            last_len: AtomicUsize::new(0),
        }
    }

    /// The family of this declaration, registered at its first call.
    ///
    /// # Panics
    /// When two declarations of different type or label count share a name, which is a bug in the program.
    pub fn family<M: Metric, const N: usize>(&self, def: &Def<M, N>) -> Family<M, N> {
        let mut families = self.families.lock();
        if let Some(found) = families.get(def.name) {
            let family = found.as_any().downcast_ref::<Family<M, N>>();
            return family.expect("a family name is declared once").clone();
        }
        let family = Family::new(def, self.shards, Arc::clone(&self.known));
        let (name, unit) = split_name(def.name, M::TYPE);
        let mut text = self.text.write();
        match unit {
            Some(unit) => text.register_with_unit(name, def.help, unit, family.clone()),
            None => text.register(name, def.help, family.clone()),
        }
        families.insert(def.name, Box::new(family.clone()));
        family
    }

    /// Let series of this upstream be made and shown.
    pub fn admit(&self, upstream: &str) {
        if !self.known.read().contains(upstream) {
            self.known.write().insert(upstream.to_owned());
        }
    }

    /// Forget every series whose `upstream` is not in `keep`.
    pub fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.known.write().retain(|upstream| keep(upstream));
        let known = self.known.read().clone();
        for family in self.families.lock().values() {
            family.prune(&known);
        }
    }

    /// Names and label keys of all families registered so far, sorted by name.
    #[must_use]
    pub fn describe(&self) -> Vec<(&'static str, Vec<&'static str>)> {
        self.families
            .lock()
            .iter()
            .map(|(name, family)| (*name, family.labels()))
            .collect()
    }

    /// Everything in the `OpenMetrics` 1.0 text format.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut out = String::with_capacity(self.last_len.load(Relaxed) + 1024);
        if let Err(error) = text::encode(&mut out, &self.text.read()) {
            tracing::error!(%error, "metrics could not be encoded");
            "# EOF\n".clone_into(&mut out);
        }
        self.last_len.store(out.len(), Relaxed);
        out
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("families", &self.families.lock().len())
            .finish_non_exhaustive()
    }
}

/// The encoder appends `_total`, `_info` and the unit itself, so they come off the declared name.
fn split_name(name: &'static str, kind: MetricType) -> (&'static str, Option<Unit>) {
    let suffix = match kind {
        MetricType::Counter => "_total",
        MetricType::Info => "_info",
        _ => "",
    };
    let stem = name.strip_suffix(suffix).unwrap_or(name);
    if let Some(bare) = stem.strip_suffix("_seconds") {
        (bare, Some(Unit::Seconds))
    } else if let Some(bare) = stem.strip_suffix("_bytes") {
        (bare, Some(Unit::Bytes))
    } else {
        (stem, None)
    }
}
