//! From the source to the index; what is refused or wrong goes to the log, once.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use destination_grpc::{Metrics, lock};
use destination_index::{Index, Problem};
use destination_source::Update;
use proxy_process::admin::Readiness;
use tokio::sync::mpsc;

/// What the source says goes into `index`.
pub(crate) struct Feed {
    pub(crate) index: Arc<Mutex<Index>>,
    pub(crate) metrics: Metrics,
    pub(crate) ready: Readiness,
    known: BTreeSet<Problem>,
}

impl Feed {
    pub(crate) fn new(index: Arc<Mutex<Index>>, metrics: Metrics, ready: Readiness) -> Self {
        Self {
            index,
            metrics,
            ready,
            known: BTreeSet::new(),
        }
    }

    /// Runs until the source ends. We are ready when all objects are there.
    pub(crate) async fn run(mut self, mut updates: mpsc::Receiver<Update>) {
        while let Some(update) = updates.recv().await {
            self.update(update);
        }
    }

    fn update(&mut self, update: Update) {
        self.metrics.updated();
        match update {
            Update::Reset(objects) => {
                tracing::info!(objects = objects.len(), "the manifests are read");
                lock(&self.index).reset(objects);
                self.ready.set();
            }
            Update::Changed { applied, deleted } => {
                for object in &applied {
                    tracing::debug!(object = %object.object_ref(), "applied");
                }
                for object in &deleted {
                    tracing::debug!(%object, "deleted");
                }
                tracing::info!(
                    applied = applied.len(),
                    deleted = deleted.len(),
                    "the manifests changed"
                );
                lock(&self.index).change(applied, deleted);
            }
            Update::Refused(refused) => {
                self.metrics.manifests_refused(refused.len());
                for refusal in &refused {
                    tracing::warn!("refused: {refusal}");
                }
                return;
            }
        }
        self.problems();
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
