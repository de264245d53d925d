//! A series over time: corrected for resets, stored only where its value changed.

use std::{collections::VecDeque, sync::Arc};

use proxy_metrics::names::{self, label};
use rustc_hash::FxHashSet;
use viz_api::Kind;

/// Families that rows are computed from; the rest of a scrape is ignored.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Family {
    ResponseTotal,
    LatencyBucket,
    OpenConnections,
    OpenTotal,
    ReadBytes,
    WriteBytes,
    /// Routes of profiles.
    RouteTotal,
    RouteActualTotal,
    RouteLatencyBucket,
    /// Routes of policies: HTTPRoutes, GRPCRoutes, the default.
    PolicyRouteTotal,
    DenyTotal,
}

impl Family {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let find = |families: &[(&names::Family, Self)], name: &str| {
            let found = families.iter().find(|(family, _)| family.name == name);
            found.map(|(_, ours)| *ours)
        };
        // Most lines of a scrape are buckets.
        if let Some(histogram) = name.strip_suffix("_bucket") {
            return find(&HISTOGRAMS, histogram);
        }
        let counter = || find(&TOTALS, name.strip_suffix("_total")?);
        find(&PLAIN, name).or_else(counter)
    }

    fn is_gauge(self) -> bool {
        self == Self::OpenConnections
    }
}

/// Families whose samples have the name of the family.
const PLAIN: [(&names::Family, Family); 8] = [
    (&names::RESPONSE_TOTAL, Family::ResponseTotal),
    (&names::TCP_OPEN_CONNECTIONS, Family::OpenConnections),
    (&names::TCP_OPEN_TOTAL, Family::OpenTotal),
    (&names::TCP_READ_BYTES_TOTAL, Family::ReadBytes),
    (&names::TCP_WRITE_BYTES_TOTAL, Family::WriteBytes),
    (&names::ROUTE_RESPONSE_TOTAL, Family::RouteTotal),
    (&names::ROUTE_ACTUAL_RESPONSE_TOTAL, Family::RouteActualTotal),
    (&names::INBOUND_HTTP_AUTHZ_DENY_TOTAL, Family::DenyTotal),
];
/// Counters whose samples have `_total` after the family's name.
const TOTALS: [(&names::Family, Family); 2] = [
    (&names::OUTBOUND_HTTP_ROUTE_REQUEST_STATUSES, Family::PolicyRouteTotal),
    (&names::OUTBOUND_GRPC_ROUTE_REQUEST_STATUSES, Family::PolicyRouteTotal),
];
/// Families whose buckets are read.
const HISTOGRAMS: [(&names::Family, Family); 2] = [
    (&names::RESPONSE_LATENCY, Family::LatencyBucket),
    (&names::ROUTE_RESPONSE_LATENCY, Family::RouteLatencyBucket),
];

/// Pairs of labels, without the bound of a bucket.
type Pairs = Arc<[(Arc<str>, Arc<str>)]>;

/// Label texts of one pod, and sets of them, each stored once: the buckets of a histogram differ in their bound only.
#[derive(Debug, Default)]
pub(crate) struct Interner {
    texts: FxHashSet<Arc<str>>,
    /// Bytes of all texts.
    bytes: usize,
    sets: FxHashSet<Pairs>,
}

impl Interner {
    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        let text: Arc<str> = text.into();
        self.texts.insert(Arc::clone(&text));
        self.bytes += text.len();
        text
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn set(&mut self, pairs: Vec<(Arc<str>, Arc<str>)>) -> Pairs {
        if let Some(known) = self.sets.get(&pairs[..]) {
            return Arc::clone(known);
        }
        let pairs: Pairs = pairs.into();
        self.sets.insert(Arc::clone(&pairs));
        pairs
    }

    /// Drops texts and sets that no series uses any more.
    pub(crate) fn shrink(&mut self) {
        self.sets.retain(|set| Arc::strong_count(set) > 1);
        self.texts.retain(|text| Arc::strong_count(text) > 1);
        self.bytes = self.texts.iter().map(|text| text.len()).sum();
    }
}

/// Labels of a series.
#[derive(Clone, Debug)]
pub(crate) struct Labels {
    pairs: Pairs,
    bound: Option<Arc<str>>,
}

impl Labels {
    pub(crate) fn read(text: &str, interner: &mut Interner) -> Self {
        let mut bound = None;
        let mut pairs = Vec::new();
        for (key, value) in crate::parse::labels(text) {
            let value = interner.text(&value);
            if key == label::LE {
                bound = Some(value);
            } else {
                pairs.push((interner.text(key), value));
            }
        }
        Self {
            pairs: interner.set(pairs),
            bound,
        }
    }

    /// Number of holders of the same set.
    #[cfg(test)]
    pub(crate) fn shared(&self) -> usize {
        Arc::strong_count(&self.pairs)
    }

    /// Value of a label; empty if absent, as in Prometheus.
    pub(crate) fn get(&self, key: &str) -> &str {
        if key == label::LE {
            return self.bound.as_deref().unwrap_or_default();
        }
        self.pairs.iter().find(|(k, _)| **k == *key).map_or("", |(_, v)| v)
    }
}

/// Label that names a destination's object of `kind`.
pub(crate) fn dst_label(kind: Kind) -> String {
    format!("{}{}", label::DST_PREFIX, kind.label())
}

/// One series.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) family: Family,
    pub(crate) labels: Labels,
    /// Times and totals, where the total changed. A total never falls: after a reset, new values are added to it.
    points: VecDeque<(u64, f64)>,
    raw: f64,
    seen_ms: u64,
}

impl Series {
    pub(crate) fn new(family: Family, labels: Labels, at_ms: u64, raw: f64) -> Self {
        Self {
            family,
            labels,
            points: VecDeque::from([(at_ms, raw)]),
            raw,
            seen_ms: at_ms,
        }
    }

    /// Records a scraped value; `reset` is set if its process has restarted. Returns whether a point was added.
    pub(crate) fn record(&mut self, at_ms: u64, raw: f64, reset: bool) -> bool {
        self.seen_ms = at_ms;
        if self.family.is_gauge() {
            self.raw = raw;
            return false;
        }
        let gained = if reset || raw < self.raw { raw } else { raw - self.raw };
        self.raw = raw;
        if gained <= 0.0 {
            return false;
        }
        let total = self.points.back().map_or(0.0, |(_, total)| *total) + gained;
        self.points.push_back((at_ms, total));
        true
    }

    /// Increase after `from_ms`, up to `until_ms`.
    pub(crate) fn increase(&self, from_ms: u64, until_ms: u64) -> f64 {
        self.total_at(until_ms) - self.total_at(from_ms)
    }

    fn total_at(&self, at_ms: u64) -> f64 {
        let after = self.points.partition_point(|(at, _)| *at <= at_ms);
        after.checked_sub(1).map_or(0.0, |i| self.points[i].1)
    }

    /// Value of a gauge in the scrape at `at_ms`; 0 if it was not in it.
    pub(crate) fn value_at(&self, at_ms: u64) -> f64 {
        if self.seen_ms == at_ms { self.raw } else { 0.0 }
    }

    pub(crate) fn last_seen_ms(&self) -> u64 {
        self.seen_ms
    }

    /// Drops points before the horizon; returns their number.
    pub(crate) fn prune(&mut self, horizon_ms: u64) -> usize {
        let before = self.points.len();
        // The newest point at or before the horizon stays: increases are counted from it.
        while self.points.get(1).is_some_and(|(at, _)| *at <= horizon_ms) {
            self.points.pop_front();
        }
        before - self.points.len()
    }

    /// Keeps, of the points up to `until_ms`, only the last one before each time in `kept`.
    pub(crate) fn thin(&mut self, kept: &VecDeque<u64>, until_ms: u64) {
        let old = self.points.partition_point(|(at, _)| *at <= until_ms);
        let step = |at: u64| kept.partition_point(|kept| *kept < at);
        let mut index = 0;
        let ends = |i: usize| {
            let next = self.points.get(i + 1);
            next.is_none_or(|next| next.0 > until_ms || step(next.0) != step(self.points[i].0))
        };
        let ends: Vec<bool> = (0..old).map(ends).collect();
        self.points.retain(|_| {
            index += 1;
            ends.get(index - 1).copied().unwrap_or(true)
        });
        self.points.shrink_to(self.points.len() + 16);
    }

    pub(crate) fn points(&self) -> usize {
        self.points.len()
    }
}
