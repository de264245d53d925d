//! From the source to the index; what is refused or wrong goes to the log, once.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use destination_grpc::{Metrics, lock};
use destination_index::{Index, Problem};
use destination_source::Update;
use proxy_process::admin::Readiness;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// Time from a change to the look for what is wrong with objects.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

/// What the source says goes into `index`.
pub(crate) struct Feed {
    pub(crate) index: Arc<Mutex<Index>>,
    pub(crate) metrics: Metrics,
    pub(crate) ready: Readiness,
    /// Cancelled when all objects are there.
    pub(crate) read: CancellationToken,
    known: BTreeSet<Problem>,
}

impl Feed {
    pub(crate) fn new(index: Arc<Mutex<Index>>, metrics: Metrics, ready: Readiness) -> Self {
        Self {
            index,
            metrics,
            ready,
            read: CancellationToken::new(),
            known: BTreeSet::new(),
        }
    }

    /// Runs until the source ends. We are ready when all objects are there.
    pub(crate) async fn run(mut self, mut updates: mpsc::Receiver<Update>) {
        // When to look for problems: not with each of many changes, for all objects are looked at.
        let mut look = None;
        loop {
            let update = tokio::select! {
                update = updates.recv() => update,
                () = sleep_until(look.unwrap_or_else(Instant::now)), if look.is_some() => {
                    look = None;
                    self.problems();
                    continue;
                }
            };
            let Some(update) = update else { return };
            if self.update(update) {
                look.get_or_insert_with(|| Instant::now() + BETWEEN_LOOKS);
            }
        }
    }

    /// Takes an update; says whether objects changed.
    fn update(&mut self, update: Update) -> bool {
        self.metrics.updated();
        match update {
            Update::Reset(objects) => {
                tracing::info!(objects = objects.len(), "all objects are read");
                lock(&self.index).reset(objects);
                self.ready.set();
                self.read.cancel();
            }
            Update::Changed { applied, deleted } => {
                for object in &applied {
                    tracing::debug!(object = %object.object_ref(), "applied");
                }
                for object in &deleted {
                    tracing::debug!(%object, "deleted");
                }
                tracing::debug!(applied = applied.len(), deleted = deleted.len(), "objects changed");
                lock(&self.index).change(applied, deleted);
            }
            Update::Refused(refused) => {
                self.metrics.manifests_refused(refused.len());
                for refusal in &refused {
                    tracing::warn!("refused: {refusal}");
                }
                return false;
            }
        }
        true
    }

    fn problems(&mut self) {
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
