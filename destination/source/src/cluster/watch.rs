//! Watches kinds on an API server, with the same updates as a directory of manifests.

use std::sync::Arc;

use destination_k8s::Kind;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};

use super::{
    Client,
    discovery::Discovery,
    merge::{Merge, WatchBatch},
    reflector::{Reflector, WatchContext},
    state::States,
};
use crate::{Update, limits};

/// Selection of objects of one kind. The selections of one watch must not overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Kind.
    pub kind: Kind,
    /// Namespace; all by default.
    pub namespace: Option<String>,
    /// Label selector, as for `kubectl -l`.
    pub labels: Option<String>,
    /// Field selector, as for `kubectl --field-selector`.
    pub fields: Option<String>,
}

impl From<Kind> for Selection {
    fn from(kind: Kind) -> Self {
        Self {
            kind,
            namespace: None,
            labels: None,
            fields: None,
        }
    }
}

/// Watch of several kinds.
#[derive(Debug)]
pub struct Watch {
    /// Updates: a reset once everything is listed, then changes. Dropping the receiver ends the watch.
    pub updates: mpsc::Receiver<Update>,
    /// States of the watches.
    pub states: States,
}

/// Watches `selections` until the receiver is dropped. Requires a Tokio runtime.
pub fn watch(client: &Client, selections: impl IntoIterator<Item = Selection>) -> Watch {
    let selections: Vec<Selection> = selections.into_iter().collect();
    let states = States::new(&selections);
    let (batches, receiver) = mpsc::channel(limits::CHANGES);
    let context = WatchContext {
        client: client.clone(),
        discovery: Arc::new(Discovery::new(client.clone())),
        lists: Arc::new(Semaphore::new(limits::LISTS)),
        states: states.clone(),
        batches,
    };
    let (sender, updates) = mpsc::channel(limits::UPDATES);
    tokio::spawn(async move {
        let merge = Merge::new(selections.len());
        // Dropped with this task: no reflector outlives its reader.
        let mut reflectors = JoinSet::new();
        for (watch, selection) in selections.into_iter().enumerate() {
            reflectors.spawn(Reflector::new(watch, selection, context.clone()).run());
        }
        drop(context);
        forward(merge, receiver, sender).await;
    });
    Watch { updates, states }
}

async fn forward(mut merge: Merge, mut receiver: mpsc::Receiver<WatchBatch>, sender: mpsc::Sender<Update>) {
    let mut batches = vec![];
    loop {
        let some = tokio::select! {
            some = receiver.recv_many(&mut batches, limits::CHANGES) => some,
            () = sender.closed() => return,
        };
        if some == 0 {
            return;
        }
        batches.drain(..).for_each(|batch| merge.take(batch));
        for update in merge.updates() {
            if sender.send(update).await.is_err() {
                return;
            }
        }
    }
}
