//! Scrapes of the last minutes by pod, within limits.
//!
//! The samples of a deleted pod stay until they leave the window, so that a restart does not rewrite the past.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use proxy_metrics::names;
use rustc_hash::FxHashMap;
use viz_api::Source;

use crate::{
    objects::{Objects, Pod, PodKey},
    parse,
    series::{Family, Interner, Labels, Series},
};

/// Age up to which every scrape is kept; of older ones only one per [`COARSE_MS`], enough for a window of minutes.
const FINE_MS: u64 = 120_000;
/// Longest text of the labels of a series; a proxy cuts each value at 253 bytes.
const LABELS_BYTES: usize = 8 * 1024;
/// Time between older scrapes.
const COARSE_MS: u64 = 10_000;

/// Limits of a window. Anything beyond is dropped and counted, or expires early and shortens the covered time.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Age of the oldest sample.
    pub window_ms: u64,
    pub pods: usize,
    pub series_per_pod: usize,
    /// Bytes of the labels of one pod's series, each text counted once.
    pub label_bytes_per_pod: usize,
    /// Points of all pods (16 bytes each); each pod has an equal share, and its oldest points expire early.
    pub points: usize,
}

impl Default for Limits {
    /// Ten minutes; 2,000 pods (at one scrape a second, all that a process can do); 20,000 series, the proxy's own
    /// limit, and 4 MiB of their labels; 16 million points, which are 256 MiB.
    fn default() -> Self {
        Self {
            window_ms: 600_000,
            pods: 2000,
            series_per_pod: 20_000,
            label_bytes_per_pod: 4 << 20,
            points: 16_000_000,
        }
    }
}

/// Window of scrapes.
#[derive(Debug)]
pub struct Window {
    limits: Limits,
    pods: BTreeMap<PodKey, PodData>,
    /// Every pod of the last minutes, scraped or not, and when it was last seen: destinations are checked against it.
    recent: BTreeMap<PodKey, (Arc<Pod>, u64)>,
    newest_ms: Option<u64>,
    refused: u64,
    /// Hashes the text of a series, which itself would take most of the memory. The key is random, so that collisions
    /// cannot be provoked.
    hasher: RandomState,
}

#[derive(Debug)]
struct PodData {
    pod: Arc<Pod>,
    gone: bool,
    series: FxHashMap<u64, Series>,
    /// Time up to which scrapes are thinned out.
    thinned_ms: u64,
    interner: Interner,
    scrapes: VecDeque<u64>,
    points: usize,
    started: Option<f64>,
    error: Option<String>,
}

/// State of the scrapes of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrapeState {
    /// Time of the last successful one.
    pub last_ms: Option<u64>,
    /// Error of the last one, if it failed.
    pub error: Option<String>,
}

impl Window {
    /// Returns an empty window.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            pods: BTreeMap::new(),
            recent: BTreeMap::new(),
            newest_ms: None,
            refused: 0,
            hasher: RandomState::new(),
        }
    }

    /// Adds a scrape of `pod`.
    pub fn observe(&mut self, pod: &Arc<Pod>, at_ms: u64, text: &str) {
        let share = self.limits.points / (self.pods.len() + 1);
        let (window_ms, limits) = (self.limits.window_ms, self.limits.clone());
        let hasher = self.hasher.clone();
        let Some(data) = self.data(pod) else { return };
        data.error = None;
        data.reset_after_gap(at_ms.saturating_sub(window_ms));
        let refused = data.observe(at_ms, text, (&limits, &hasher));
        data.thin(at_ms.saturating_sub(FINE_MS));
        data.prune(at_ms.saturating_sub(window_ms), share);
        self.refused += refused;
        self.newest_ms = self.newest_ms.max(Some(at_ms));
    }

    /// Records that a scrape of `pod` failed.
    pub fn fail(&mut self, pod: &Arc<Pod>, error: String) {
        if let Some(data) = self.data(pod) {
            data.error = Some(error);
        }
    }

    fn data(&mut self, pod: &Arc<Pod>) -> Option<&mut PodData> {
        if !self.pods.contains_key(&pod.key) && self.pods.len() >= self.limits.pods {
            self.refused += 1;
            return None;
        }
        let data = self
            .pods
            .entry(pod.key.clone())
            .or_insert_with(|| PodData::new(Arc::clone(pod)));
        data.pod = Arc::clone(pod);
        data.gone = false;
        Some(data)
    }

    /// Marks pods that are not in `objects` as deleted, and drops those whose samples have left the window.
    pub fn retain(&mut self, objects: &Objects, now_ms: u64) {
        let horizon = now_ms.saturating_sub(self.limits.window_ms);
        let live: BTreeSet<&PodKey> = objects.pods.iter().map(|p| &p.key).collect();
        self.pods.retain(|key, data| {
            data.gone = !live.contains(key);
            !data.gone || data.scrapes.back().is_some_and(|at| *at >= horizon)
        });
        for pod in &objects.pods {
            self.recent.insert(pod.key.clone(), (Arc::clone(pod), now_ms));
        }
        self.recent.retain(|_, (_, seen_ms)| *seen_ms >= horizon);
    }

    /// Pods that exist or did within the window.
    pub(crate) fn recent_pods(&self) -> impl Iterator<Item = &Pod> {
        self.recent.values().map(|(pod, _)| &**pod)
    }

    /// State of the scrapes of a pod.
    pub fn state(&self, key: &PodKey) -> Option<ScrapeState> {
        let data = self.pods.get(key)?;
        Some(ScrapeState {
            last_ms: data.scrapes.back().copied(),
            error: data.error.clone(),
        })
    }

    /// Number of series and pods dropped by a limit so far.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Source of an answer over `window_ms`.
    pub fn source(&self, now_ms: u64, window_ms: u64) -> Source {
        Source {
            kind: "scrapes".to_owned(),
            age_ms: self.newest_ms.map(|newest| now_ms.saturating_sub(newest)),
            window_ms,
            covered_ms: self.views(window_ms).map(|v| v.covered_ms()).max().unwrap_or(0),
            scrape_interval_ms: 0,
            pods: self.pods.values().filter(|d| !d.scrapes.is_empty()).count(),
            pods_failing: self.pods.values().filter(|d| !d.gone && d.error.is_some()).count(),
            refused: self.refused,
        }
    }

    /// Samples of each pod in the last `window_ms` before the newest sample of all.
    pub(crate) fn views(&self, window_ms: u64) -> impl Iterator<Item = View<'_>> {
        let newest = self.newest_ms.unwrap_or(0);
        self.pods.values().filter_map(move |data| data.view(newest, window_ms))
    }
}

impl PodData {
    fn new(pod: Arc<Pod>) -> Self {
        Self {
            pod,
            gone: false,
            series: FxHashMap::default(),
            thinned_ms: 0,
            interner: Interner::default(),
            scrapes: VecDeque::new(),
            points: 0,
            started: None,
            error: None,
        }
    }

    /// Starts over after a gap as long as the window: no sample is left to count from.
    fn reset_after_gap(&mut self, horizon_ms: u64) {
        if self.scrapes.back().is_some_and(|at| *at < horizon_ms) {
            self.series.clear();
            self.scrapes.clear();
            self.points = 0;
        }
    }

    fn observe(&mut self, at_ms: u64, text: &str, (limits, hasher): (&Limits, &RandomState)) -> u64 {
        let started = parse::lines(text)
            .find(|l| l.name == names::PROCESS_START_TIME)
            .map(|l| l.value);
        let reset = self.started.is_some() && started.is_some() && self.started != started;
        self.started = started.or(self.started);
        let mut refused = 0;
        for line in parse::lines(text) {
            let Some(family) = Family::parse(line.name) else {
                continue;
            };
            let number = hasher.hash_one(line.series);
            if let Some(series) = self.series.get_mut(&number) {
                self.points += usize::from(series.record(at_ms, line.value, reset));
            } else if self.has_room(line.labels, limits) {
                // In the first scrape a value is where counting begins; later a new series has begun at 0.
                let labels = Labels::read(line.labels, &mut self.interner);
                self.series
                    .insert(number, Series::new(family, labels, at_ms, line.value));
                self.points += 1;
            } else {
                refused += 1;
            }
        }
        self.scrapes.push_back(at_ms);
        refused
    }

    fn has_room(&self, labels: &str, limits: &Limits) -> bool {
        self.series.len() < limits.series_per_pod
            && labels.len() <= LABELS_BYTES
            && self.interner.bytes() + labels.len() <= limits.label_bytes_per_pod
    }

    /// Drops most of the scrapes before `until_ms`; increases between the others stay exact.
    fn thin(&mut self, until_ms: u64) {
        if until_ms < self.thinned_ms + COARSE_MS {
            return;
        }
        self.thinned_ms = until_ms;
        let mut last = None;
        let before = self.scrapes.len();
        self.scrapes.retain(|at| {
            let stays = *at > until_ms || last.is_none_or(|last| *at >= last + COARSE_MS);
            last = if stays { Some(*at) } else { last };
            stays
        });
        if self.scrapes.len() < before {
            for series in self.series.values_mut() {
                series.thin(&self.scrapes, until_ms);
            }
            self.points = self.series.values().map(Series::points).sum();
        }
    }

    fn prune(&mut self, horizon_ms: u64, points_limit: usize) {
        let mut horizon = horizon_ms;
        // Over its share: the older half is dropped at once, so that this is rare.
        if self.points > points_limit.max(2 * self.series.len())
            && let Some(middle) = self.scrapes.get(self.scrapes.len() / 2)
        {
            horizon = horizon.max(*middle);
        }
        let outdated = |scrapes: &VecDeque<u64>| scrapes.get(1).is_some_and(|at| *at <= horizon);
        if !outdated(&self.scrapes) {
            return;
        }
        while outdated(&self.scrapes) {
            self.scrapes.pop_front();
        }
        self.series.retain(|_, series| series.last_seen_ms() >= horizon);
        for series in self.series.values_mut() {
            series.prune(horizon);
        }
        self.points = self.series.values().map(Series::points).sum();
        self.interner.shrink();
    }

    fn view(&self, newest_ms: u64, window_ms: u64) -> Option<View<'_>> {
        let last = *self.scrapes.back()?;
        // A deleted pod has done nothing since: its rate counts up to now, or it would never fall.
        let until = if self.gone { newest_ms } else { last };
        let wanted = until.saturating_sub(window_ms);
        if self.gone && last < wanted {
            return None;
        }
        let at = self.scrapes.partition_point(|at| *at <= wanted);
        let from = self.scrapes[at.saturating_sub(1)];
        Some(View {
            data: self,
            from_ms: from,
            until_ms: until,
        })
    }
}

/// Samples of one pod between two scrapes.
#[derive(Copy, Clone)]
pub(crate) struct View<'a> {
    data: &'a PodData,
    from_ms: u64,
    until_ms: u64,
}

impl<'a> View<'a> {
    pub(crate) fn pod(&self) -> &'a Pod {
        &self.data.pod
    }

    /// Time between its first and its last scrape in the window.
    pub(crate) fn covered_ms(&self) -> u64 {
        self.until_ms - self.from_ms
    }

    /// Increase of each series of a counter.
    pub(crate) fn increases(&self, family: Family) -> impl Iterator<Item = (&'a Labels, f64)> + use<'a> {
        let (from, until) = (self.from_ms, self.until_ms);
        self.series(family).map(move |s| (&s.labels, s.increase(from, until)))
    }

    /// Value of each series of a gauge; a deleted pod has none.
    pub(crate) fn values(&self, family: Family) -> impl Iterator<Item = (&'a Labels, f64)> + use<'a> {
        let last = self.data.scrapes.back().copied().filter(|_| !self.data.gone);
        self.series(family)
            .filter_map(move |s| Some((&s.labels, s.value_at(last?))))
    }

    fn series(&self, family: Family) -> impl Iterator<Item = &'a Series> + use<'a> {
        self.data.series.values().filter(move |s| s.family == family)
    }
}

#[cfg(test)]
mod tests;
