//! Feeds updates of the source into the index, bursts as one change; logs refusals and problems once. Objects are
//! checked before, outside its lock.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use destination_grpc::{Metrics, lock};
use destination_index::{Checked, Checker, Index, Object, ObjectRef, Problem};
use destination_source::Update;
use proxy_process::{admin::Readiness, serve::Refusals};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::status::DesiredStatuses;

/// Time from a change to the next inspection of all objects.
const INSPECTION_DELAY: Duration = Duration::from_millis(500);
/// Minimum time between two changes of the index. A single update is applied at once; those of a burst are merged for
/// this long.
const BETWEEN_CHANGES: Duration = Duration::from_millis(5);
/// Objects of one change: a larger one would keep streams waiting.
const OBJECTS_OF_CHANGE: usize = 10_000;

/// Feeds a source into `index`.
pub(crate) struct Feed {
    pub(crate) index: Arc<Mutex<Index>>,
    pub(crate) metrics: Metrics,
    pub(crate) ready: Readiness,
    pub(crate) refusals: Refusals,
    /// Cancelled after the initial sync.
    pub(crate) read: CancellationToken,
    /// Receives desired statuses, if they are to be written.
    pub(crate) statuses: Option<watch::Sender<DesiredStatuses>>,
    known: BTreeSet<Problem>,
    checker: Checker,
    /// Latest state of each object that is not in the index yet; none means deleted.
    pending: BTreeMap<ObjectRef, Option<Checked>>,
    changed: Option<Instant>,
}

impl Feed {
    pub(crate) fn new(index: Arc<Mutex<Index>>, metrics: Metrics, ready: Readiness, refusals: Refusals) -> Self {
        Self {
            index,
            metrics,
            ready,
            refusals,
            read: CancellationToken::new(),
            statuses: None,
            known: BTreeSet::new(),
            checker: Checker::default(),
            pending: BTreeMap::new(),
            changed: None,
        }
    }

    /// Runs until the source ends. The program is ready after the initial sync.
    pub(crate) async fn run(mut self, mut updates: mpsc::Receiver<Update>) {
        // Deferred, as an inspection covers all objects.
        let mut inspection = None;
        loop {
            let change = self.changes_at();
            let full = self.pending.len() >= OBJECTS_OF_CHANGE;
            let update = tokio::select! {
                biased;
                () = sleep_until(change.unwrap_or_else(Instant::now)), if change.is_some() => {
                    self.change();
                    inspection.get_or_insert_with(|| Instant::now() + INSPECTION_DELAY);
                    continue;
                }
                update = updates.recv(), if !full => update,
                () = sleep_until(inspection.unwrap_or_else(Instant::now)), if inspection.is_some() => {
                    inspection = None;
                    self.inspect();
                    continue;
                }
            };
            let Some(update) = update else { return self.change() };
            if self.update(update) {
                inspection.get_or_insert_with(|| Instant::now() + INSPECTION_DELAY);
            }
        }
    }

    /// Returns the time at which the pending change is due.
    fn changes_at(&self) -> Option<Instant> {
        let now = Instant::now();
        let free = self.changed.map_or(now, |changed| changed + BETWEEN_CHANGES);
        (!self.pending.is_empty()).then_some(free)
    }

    /// Handles an update and returns true for a reset.
    fn update(&mut self, update: Update) -> bool {
        self.metrics.updated();
        match update {
            Update::Reset(objects) => {
                tracing::info!(objects = objects.len(), "initial sync complete");
                self.pending.clear();
                let checked: Vec<_> = objects.into_iter().map(|object| self.check(object)).collect();
                lock(&self.index).reset(checked);
                self.ready.set();
                self.read.cancel();
                return true;
            }
            Update::Changed { applied, deleted } => {
                self.pending.extend(deleted.into_iter().map(|gone| (gone, None)));
                for object in applied {
                    let checked = self.check(object);
                    self.pending.insert(checked.object_ref(), Some(checked));
                }
            }
            Update::Refused(refused) => {
                self.metrics.manifests_refused(refused.len());
                for refusal in &refused {
                    tracing::warn!("refused: {refusal}");
                }
            }
            Update::Recovered(files) => tracing::info!(?files, "manifests are accepted again"),
        }
        false
    }

    fn check(&mut self, object: Object) -> Checked {
        let checked = self.checker.check(object);
        if let Some(limit) = checked.exceeded() {
            self.refusals.count(limit);
        }
        checked
    }

    /// Applies the pending change to the index.
    fn change(&mut self) {
        let (mut applied, mut deleted) = (vec![], vec![]);
        for (key, object) in std::mem::take(&mut self.pending) {
            tracing::debug!(object = %key, deleted = object.is_none(), "changed");
            match object {
                Some(object) => applied.push(object),
                None => deleted.push(key),
            }
        }
        lock(&self.index).change(applied, deleted);
        self.changed = Some(Instant::now());
    }

    /// Inspects all objects for problems and desired statuses.
    fn inspect(&mut self) {
        if let Some(statuses) = &self.statuses {
            let now = lock(&self.index).statuses();
            statuses.send_if_modified(|desired| {
                let differs = **desired != now;
                *desired = Arc::new(now);
                differs
            });
        }
        let now: BTreeSet<Problem> = lock(&self.index).problems().into_iter().collect();
        for problem in now.difference(&self.known) {
            tracing::warn!("{problem}");
        }
        for problem in self.known.difference(&now) {
            tracing::info!("resolved: {problem}");
        }
        self.metrics.problems(now.len());
        self.known = now;
    }
}
