//! From the source to the index, a burst as one change; what is refused or wrong goes to the log, once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use destination_grpc::{Metrics, lock};
use destination_index::{Index, Object, ObjectRef, Problem};
use destination_source::Update;
use proxy_process::admin::Readiness;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::status::Wanted;

/// Time from a change to the look for what is wrong with objects.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);
/// Least time between two changes of the index. One that comes alone is told at once; of a burst, what comes within this
/// time is told together.
const BETWEEN_CHANGES: Duration = Duration::from_millis(5);
/// Objects of one change: an index that is given more at a time would keep streams waiting.
const OBJECTS_OF_CHANGE: usize = 10_000;

/// What the source says goes into `index`.
pub(crate) struct Feed {
    pub(crate) index: Arc<Mutex<Index>>,
    pub(crate) metrics: Metrics,
    pub(crate) ready: Readiness,
    /// Cancelled when all objects are there.
    pub(crate) read: CancellationToken,
    /// Who writes statuses, if anybody does.
    pub(crate) statuses: Option<watch::Sender<Wanted>>,
    known: BTreeSet<Problem>,
    /// The last word on each object that the index does not know yet; none means that it is gone.
    waiting: BTreeMap<ObjectRef, Option<Object>>,
    changed: Option<Instant>,
}

impl Feed {
    pub(crate) fn new(index: Arc<Mutex<Index>>, metrics: Metrics, ready: Readiness) -> Self {
        Self {
            index,
            metrics,
            ready,
            read: CancellationToken::new(),
            statuses: None,
            known: BTreeSet::new(),
            waiting: BTreeMap::new(),
            changed: None,
        }
    }

    /// Runs until the source ends. We are ready when all objects are there.
    pub(crate) async fn run(mut self, mut updates: mpsc::Receiver<Update>) {
        // When to look for problems: not with each of many changes, for all objects are looked at.
        let mut look = None;
        loop {
            let change = self.changes_at();
            let full = self.waiting.len() >= OBJECTS_OF_CHANGE;
            let update = tokio::select! {
                biased;
                () = sleep_until(change.unwrap_or_else(Instant::now)), if change.is_some() => {
                    self.change();
                    look.get_or_insert_with(|| Instant::now() + BETWEEN_LOOKS);
                    continue;
                }
                update = updates.recv(), if !full => update,
                () = sleep_until(look.unwrap_or_else(Instant::now)), if look.is_some() => {
                    look = None;
                    self.look();
                    continue;
                }
            };
            let Some(update) = update else { return self.change() };
            if self.update(update) {
                look.get_or_insert_with(|| Instant::now() + BETWEEN_LOOKS);
            }
        }
    }

    /// When what waits goes into the index.
    fn changes_at(&self) -> Option<Instant> {
        let now = Instant::now();
        let free = self.changed.map_or(now, |changed| changed + BETWEEN_CHANGES);
        (!self.waiting.is_empty()).then_some(free)
    }

    /// Takes an update; says whether all objects are new.
    fn update(&mut self, update: Update) -> bool {
        self.metrics.updated();
        match update {
            Update::Reset(objects) => {
                tracing::info!(objects = objects.len(), "all objects are read");
                self.waiting.clear();
                lock(&self.index).reset(objects);
                self.ready.set();
                self.read.cancel();
                return true;
            }
            Update::Changed { applied, deleted } => {
                self.waiting.extend(deleted.into_iter().map(|gone| (gone, None)));
                let applied = applied.into_iter().map(|object| (object.object_ref(), Some(object)));
                self.waiting.extend(applied);
            }
            Update::Refused(refused) => {
                self.metrics.manifests_refused(refused.len());
                for refusal in &refused {
                    tracing::warn!("refused: {refusal}");
                }
            }
        }
        false
    }

    /// What waits goes into the index.
    fn change(&mut self) {
        let (mut applied, mut deleted) = (vec![], vec![]);
        for (key, object) in std::mem::take(&mut self.waiting) {
            tracing::debug!(object = %key, deleted = object.is_none(), "changed");
            match object {
                Some(object) => applied.push(object),
                None => deleted.push(key),
            }
        }
        lock(&self.index).change(applied, deleted);
        self.changed = Some(Instant::now());
    }

    /// Looks at all objects: what is wrong, and what their statuses should be.
    fn look(&mut self) {
        if let Some(statuses) = &self.statuses {
            let now = lock(&self.index).statuses();
            statuses.send_if_modified(|wanted| {
                let differs = **wanted != now;
                *wanted = Arc::new(now);
                differs
            });
        }
        let now: BTreeSet<Problem> = lock(&self.index).problems().into_iter().collect();
        for problem in now.difference(&self.known) {
            tracing::warn!("{problem}");
        }
        for problem in self.known.difference(&now) {
            tracing::info!("no longer: {problem}");
        }
        self.metrics.problems(now.len());
        self.known = now;
    }
}
