//! All series of the process: where slots are found by their labels, and where a scrape begins.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use proxy_model::limits::{self, Limit};

use crate::{
    control::{AnswerAge, CertMetrics, ControlSlot},
    names::{self, Family, Kind},
    process,
    slot::{Cells, Counter, Gauge, Histogram, SharedCounter},
    tcp::Transports,
    text,
};

/// Worker id of slots that any thread may write.
const SHARED: u32 = 0;
/// Series idle for longer disappear, as upstream's do.
const RETAIN_IDLE: Duration = Duration::from_secs(600);
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
    workers: AtomicU32,
    build: BuildInfo,
    started: Instant,
    started_at: SystemTime,
    retain_idle: Duration,
}

#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) families: Vec<BTreeMap<Box<str>, Series>>,
    len: usize,
    limit: usize,
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
    fn slot(&mut self, family: &'static Family, worker: u32, labels: &str, now: Instant) -> Arc<Cells> {
        let series = &mut self.families[family.index];
        if !series.contains_key(labels) {
            // Labels of the limits' own family come from the program, so they are few.
            let exempt = labels == OVERFLOW || family.index == names::LIMIT_REFUSED.index;
            if self.len >= self.limit && !exempt {
                return self.slot(family, worker, OVERFLOW, now);
            }
            series.insert(labels.into(), Series::new(now));
            self.len += 1;
        }
        let series = series.get_mut(labels).expect("the series was just looked for");
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

    /// Drops series without a holder that have not changed for `retain`.
    fn evict(&mut self, retain: Duration, now: Instant) {
        for (family, series) in names::ALL.iter().zip(&mut self.families) {
            let before = series.len();
            series.retain(|labels, s| {
                let sum = s.fingerprint();
                if sum != s.seen {
                    s.seen = sum;
                    s.changed = now;
                }
                let idle = match family.kind {
                    Kind::Age => true,
                    _ => now.saturating_duration_since(s.changed) >= retain,
                };
                s.is_held() || !idle || labels.is_empty()
            });
            self.len -= before - series.len();
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(BuildInfo::default())
    }
}

impl Metrics {
    /// Metrics of a process that starts now.
    pub fn new(build: BuildInfo) -> Self {
        Self::with_limits(build, limits::METRIC_SERIES.value, RETAIN_IDLE)
    }

    /// The same, with another limit of series and another retention of idle ones.
    pub fn with_limits(build: BuildInfo, series: usize, retain_idle: Duration) -> Self {
        let families = names::ALL.iter().map(|_| BTreeMap::new()).collect();
        Self(Arc::new(Inner {
            registry: Mutex::new(Registry {
                families,
                len: 0,
                limit: series,
            }),
            workers: AtomicU32::new(SHARED + 1),
            build,
            started: Instant::now(),
            started_at: SystemTime::now(),
            retain_idle,
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

    /// The text of `/metrics`.
    pub fn render(&self) -> String {
        let mut registry = self.lock();
        registry.evict(self.0.retain_idle, Instant::now());
        let mut out = text::families(&registry, self.since_start());
        drop(registry);
        process::write(&mut out, self.0.started_at);
        process::build_info(&mut out, &self.0.build);
        out.push_str("# EOF\n");
        out
    }

    /// Counts a refusal by a limit.
    pub fn limit_refused<T>(&self, limit: Limit<T>) {
        self.shared(&names::LIMIT_REFUSED, &format!("limit=\"{}\"", limit.name))
            .inc();
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

    pub(crate) fn since_start(&self) -> Duration {
        self.0.started.elapsed()
    }

    fn slot(&self, family: &'static Family, worker: u32, labels: &str) -> Arc<Cells> {
        let now = Instant::now();
        let mut registry = self.lock();
        let full = registry.len >= registry.limit;
        if full && !registry.families[family.index].contains_key(labels) {
            registry.evict(self.0.retain_idle, now);
            if registry.len >= registry.limit && labels != OVERFLOW {
                let limit = format!("limit=\"{}\"", limits::METRIC_SERIES.name);
                let refused = registry.slot(&names::LIMIT_REFUSED, SHARED, &limit, now);
                SharedCounter(refused).inc();
            }
        }
        registry.slot(family, worker, labels, now)
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
