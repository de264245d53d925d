//! All series of the process: where slots are found by their labels, and where a scrape begins.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use proxy_model::limits::{self, Limit};

use crate::{
    control::{AnswerAge, CertMetrics, ControlSlot},
    names::{self, Family, Kind, Part},
    process,
    shortage::Shortage,
    slot::{Cells, Counter, Gauge, Histogram, SharedCounter},
    tcp::Transports,
    text,
};

/// Worker id of slots that any thread may write.
const SHARED: u32 = 0;
/// Series idle for longer disappear, as upstream's do.
const RETAIN_IDLE: Duration = Duration::from_secs(600);
/// Series that are looked at under one lock.
const AT_ONCE: usize = limits::METRIC_SERIES_AT_ONCE.value;
/// Labels of the series that counts for all beyond the limit.
const OVERFLOW: &str = "overflow=\"true\"";

/// Labels of `proxy_build_info`.
#[derive(Copy, Clone, Debug)]
pub struct BuildInfo {
    /// Version of the program.
    pub version: &'static str,
    /// Commit it was built from.
    pub git_sha: &'static str,
    /// `debug` or `release`.
    pub profile: &'static str,
    /// Vendor of the build.
    pub vendor: &'static str,
    /// Date of the build.
    pub date: &'static str,
}

impl Default for BuildInfo {
    fn default() -> Self {
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        Self {
            version: env!("CARGO_PKG_VERSION"),
            git_sha: "",
            profile,
            vendor: "mesh",
            date: "",
        }
    }
}

/// The metrics of a process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Mutex<Registry>,
    shortage: Shortage,
    /// One more holder for each port with an age of its policy.
    answered_ports: Arc<()>,
    workers: AtomicU32,
    build: BuildInfo,
    started: Instant,
    started_at: SystemTime,
}

#[derive(Debug)]
struct Registry {
    families: Vec<BTreeMap<Box<str>, Series>>,
    len: usize,
    /// Bytes of the text of all series.
    bytes: usize,
    limits: Limits,
    /// Counters of refusals, looked up once: a registry may stay full, and then every miss counts.
    refused: BTreeMap<&'static str, SharedCounter>,
}

/// Limits of the series of a process.
#[derive(Copy, Clone, Debug)]
pub struct Limits {
    /// Series.
    pub series: usize,
    /// Bytes of their text.
    pub bytes: usize,
    /// Time after which idle series are dropped.
    pub retain_idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            series: limits::METRIC_SERIES.value,
            bytes: limits::METRIC_BYTES.value,
            retain_idle: RETAIN_IDLE,
        }
    }
}

/// One series: what each worker counted of it.
#[derive(Debug)]
pub(crate) struct Series {
    slots: Vec<(u32, Arc<Cells>)>,
    seen: u64,
    changed: Instant,
}

impl Series {
    fn new(now: Instant) -> Self {
        Self {
            slots: Vec::with_capacity(1),
            seen: 0,
            changed: now,
        }
    }

    /// Sum of one cell over all workers.
    pub(crate) fn sum(&self, index: usize) -> u64 {
        self.slots
            .iter()
            .fold(0, |sum, (_, cells)| sum.wrapping_add(cells.get(index)))
    }

    fn fingerprint(&self) -> u64 {
        let cells = self.slots.first().map_or(0, |(_, cells)| cells.len());
        (0..cells).fold(0, |sum, index| sum.wrapping_add(self.sum(index)))
    }

    fn is_held(&self) -> bool {
        self.slots.iter().any(|(_, cells)| Arc::strong_count(cells) > 1)
    }
}

impl Registry {
    /// Slot of a worker, in the series of `overflow` if there is no room for another series.
    fn slot(&mut self, family: &'static Family, worker: u32, labels: &str, now: Instant) -> Slot {
        let limit = self.exceeded(family, labels);
        if let Some(limit) = limit {
            self.refuse(limit, now);
        }
        let labels = if limit.is_some() { OVERFLOW } else { labels };
        Slot {
            cells: self.cells(family, worker, labels, now),
            is_refused: limit.is_some(),
        }
    }

    /// Limit that a new series would exceed. Costs the same however full the registry is.
    fn exceeded(&self, family: &'static Family, labels: &str) -> Option<Limit> {
        // Labels of the limits' own family come from the program, so they are few.
        let exempt = labels == OVERFLOW || family.index == names::LIMIT_REFUSED.index;
        if exempt || self.families[family.index].contains_key(labels) {
            return None;
        }
        if self.len >= self.limits.series {
            return Some(limits::METRIC_SERIES);
        }
        (self.bytes + text::bytes(family, labels) > self.limits.bytes).then_some(limits::METRIC_BYTES)
    }

    fn refuse(&mut self, limit: Limit, now: Instant) {
        if !self.refused.contains_key(limit.name) {
            let cells = self.cells(&names::LIMIT_REFUSED, SHARED, &limit_labels(limit.name), now);
            self.refused.insert(limit.name, SharedCounter(cells));
        }
        self.refused[limit.name].inc();
    }

    fn cells(&mut self, family: &'static Family, worker: u32, labels: &str, now: Instant) -> Arc<Cells> {
        let all = &mut self.families[family.index];
        if !all.contains_key(labels) {
            all.insert(labels.into(), Series::new(now));
            self.len += 1;
            self.bytes += text::bytes(family, labels);
        }
        let series = all.get_mut(labels).expect("the series was just looked for");
        if let Some((_, cells)) = series.slots.iter().find(|(id, _)| *id == worker) {
            return cells.clone();
        }
        let len = if family.is_histogram() {
            family.bounds().len() + 2
        } else {
            1
        };
        let cells = Cells::new(len);
        series.slots.push((worker, cells.clone()));
        cells
    }

    /// Drops some series without a holder that have not changed for the time of retention. Returns the number of
    /// dropped ones, and the last that was looked at; none at the end.
    fn evict(&mut self, family: &'static Family, after: Option<&str>, now: Instant) -> (u64, Option<Box<str>>) {
        let all = &mut self.families[family.index];
        let (mut last, mut idle) = (None, Vec::new());
        let mut looked_at = 0;
        for (labels, series) in all.range_mut::<str, _>(from(after)).take(AT_ONCE) {
            let sum = series.fingerprint();
            if sum != series.seen {
                series.seen = sum;
                series.changed = now;
            }
            let is_idle =
                family.kind == Kind::Age || now.saturating_duration_since(series.changed) >= self.limits.retain_idle;
            if is_idle && !series.is_held() && !labels.is_empty() {
                idle.push(labels.clone());
            }
            looked_at += 1;
            last = Some(labels);
        }
        let last = last.filter(|_| looked_at == AT_ONCE).cloned();
        for labels in &idle {
            all.remove(labels);
            self.len -= 1;
            self.bytes -= text::bytes(family, labels);
        }
        (idle.len() as u64, last)
    }

    /// Prints some series. Returns the last one; none at the end.
    fn print(&self, out: &mut String, family: &'static Family, after: Option<&str>, age: Duration) -> Option<Box<str>> {
        let mut last = None;
        let mut printed = 0;
        for (labels, series) in self.families[family.index].range::<str, _>(from(after)).take(AT_ONCE) {
            if after.is_none() && printed == 0 {
                text::head(out, family);
            }
            text::sample(out, family, labels, series, age);
            printed += 1;
            last = Some(labels);
        }
        last.filter(|_| printed == AT_ONCE).cloned()
    }
}

/// Range of the series after one; all without one.
fn from(after: Option<&str>) -> (Bound<&str>, Bound<&str>) {
    (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
}

fn limit_labels(name: &str) -> String {
    format!("limit=\"{name}\"")
}

/// Cells of a worker.
struct Slot {
    cells: Arc<Cells>,
    /// They are of `overflow`.
    is_refused: bool,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(BuildInfo::default())
    }
}

impl Metrics {
    /// Metrics of a process that starts now.
    pub fn new(build: BuildInfo) -> Self {
        Self::with_limits(build, Limits::default())
    }

    /// The same, with other limits.
    pub fn with_limits(build: BuildInfo, limits: Limits) -> Self {
        let families = names::ALL.iter().map(|_| BTreeMap::new()).collect();
        Self(Arc::new(Inner {
            registry: Mutex::new(Registry {
                families,
                len: 0,
                bytes: 0,
                limits,
                refused: BTreeMap::new(),
            }),
            shortage: Shortage::default(),
            answered_ports: Arc::new(()),
            workers: AtomicU32::new(SHARED + 1),
            build,
            started: Instant::now(),
            started_at: SystemTime::now(),
        }))
    }

    /// A recorder for one more worker. Its counters must be written by that worker's thread alone.
    pub fn recorder(&self) -> Recorder {
        Recorder {
            metrics: self.clone(),
            worker: self.0.workers.fetch_add(1, Relaxed),
            transports: Transports::default(),
        }
    }

    /// The text of `/metrics`: Linkerd's older form first, then the registry form. Idle series are dropped before.
    ///
    /// The lock is held for a few series at a time, because a worker that adds one waits for it.
    pub fn render(&self) -> String {
        self.evict_idle();
        let mut out = String::with_capacity(64 * 1024);
        for part in [Part::Legacy, Part::Registry] {
            for family in names::ALL.iter().filter(|family| family.part == part) {
                self.print(&mut out, family);
            }
        }
        process::write(&mut out, self.0.started_at);
        process::build_info(&mut out, &self.0.build);
        out.push_str("# EOF\n");
        out
    }

    fn print(&self, out: &mut String, family: &'static Family) {
        let (mut last, age) = (None, self.since_start());
        loop {
            last = self.lock().print(out, family, last.as_deref(), age);
            if last.is_none() {
                return;
            }
        }
    }

    /// Drops series that have been idle for long.
    pub fn evict_idle(&self) {
        let (mut evicted, now) = (0, Instant::now());
        for family in names::ALL {
            let mut last = None;
            loop {
                let (more, next) = self.lock().evict(family, last.as_deref(), now);
                (evicted, last) = (evicted + more, next);
                if last.is_none() {
                    break;
                }
            }
        }
        if evicted > 0 {
            self.shared(&names::SERIES_EVICTED, "").add(evicted);
        }
    }

    /// Waits until a new series has found no room.
    pub async fn shortage(&self) {
        self.0.shortage.noted().await;
    }

    /// Counts a refusal by a limit.
    pub fn limit_refused<T>(&self, limit: Limit<T>) {
        self.shared(&names::LIMIT_REFUSED, &limit_labels(limit.name)).inc();
    }

    /// Counts a connection that a panic ended.
    pub fn panicked(&self) {
        self.shared(&names::PANICS, "").inc();
    }

    /// Metrics of the leaf.
    pub fn cert(&self) -> CertMetrics {
        CertMetrics::new(self)
    }

    /// Metrics of the client of one control-plane service.
    pub fn control(&self, addr: &str, tls: &crate::Tls<'_>) -> ControlSlot {
        ControlSlot::new(self.clone(), addr, tls)
    }

    /// The age of one answer of discovery; `kind` is `outbound`, `endpoints`, `profile` or `inbound`.
    pub fn answer_age(&self, kind: &'static str, target: &str) -> AnswerAge {
        AnswerAge::new(self.clone(), kind, target)
    }

    /// A counter that any thread may write.
    pub fn shared(&self, family: &'static Family, labels: &str) -> SharedCounter {
        SharedCounter(self.slot(family, SHARED, labels))
    }

    pub(crate) fn answered_ports(&self) -> Arc<()> {
        Arc::clone(&self.0.answered_ports)
    }

    pub(crate) fn since_start(&self) -> Duration {
        self.0.started.elapsed()
    }

    fn slot(&self, family: &'static Family, worker: u32, labels: &str) -> Arc<Cells> {
        let slot = self.lock().slot(family, worker, labels, Instant::now());
        if slot.is_refused {
            self.0.shortage.note();
        }
        slot.cells
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        // Nothing under the lock panics half-way through a change, so a poisoned registry is still right.
        self.0.registry.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Recorder of one worker. Cheap to clone, but only for use on that worker's thread.
#[derive(Clone, Debug)]
pub struct Recorder {
    metrics: Metrics,
    worker: u32,
    pub(crate) transports: Transports,
}

impl Recorder {
    /// The metrics of the process.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// A counter of this worker; `labels` as they are printed.
    pub fn counter(&self, family: &'static Family, labels: &str) -> Counter {
        Counter(self.metrics.slot(family, self.worker, labels))
    }

    /// A gauge of this worker.
    pub fn gauge(&self, family: &'static Family, labels: &str) -> Gauge {
        Gauge(self.metrics.slot(family, self.worker, labels))
    }

    /// A histogram of this worker.
    pub fn histogram(&self, family: &'static Family, labels: &str) -> Histogram {
        Histogram {
            bounds: family.bounds(),
            cells: self.metrics.slot(family, self.worker, labels),
        }
    }

    /// Counts a refusal by a limit.
    pub fn limit_refused<T>(&self, limit: Limit<T>) {
        self.metrics.limit_refused(limit);
    }
}

#[cfg(test)]
mod tests;
