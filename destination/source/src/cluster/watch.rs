//! Watches kinds on an API server, with the same updates as a directory of manifests gives.

use std::sync::Arc;

use destination_k8s::Kind;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};

use super::{
    Client,
    discovery::Discovery,
    follow::{Follow, Shared},
    merge::{Heard, Merge},
    state::States,
};
use crate::{Update, limits};

/// What to watch: a kind, everywhere or in part. Two selections of one watch must not overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The kind.
    pub kind: Kind,
    /// One namespace; none is all.
    pub namespace: Option<String>,
    /// Labels, as `kubectl -l` takes them.
    pub labels: Option<String>,
    /// Fields, as `kubectl --field-selector` takes them.
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

/// A watch of several kinds.
#[derive(Debug)]
pub struct Watch {
    /// What the cluster says: a reset when everything was read once, then changes. Dropped, the watch ends.
    pub updates: mpsc::Receiver<Update>,
    /// How it is doing.
    pub states: States,
}

/// Watches `selections` until the receiver is dropped. Needs a runtime.
pub fn watch(client: &Client, selections: impl IntoIterator<Item = Selection>) -> Watch {
    let selections: Vec<Selection> = selections.into_iter().collect();
    let states = States::new(&selections);
    let (heard, hears) = mpsc::channel(limits::CHANGES);
    let shared = Shared {
        client: client.clone(),
        discovery: Arc::new(Discovery::new(client.clone())),
        lists: Arc::new(Semaphore::new(limits::LISTS)),
        states: states.clone(),
        heard,
    };
    let (sender, updates) = mpsc::channel(limits::UPDATES);
    tokio::spawn(async move {
        let merge = Merge::new(selections.len());
        // Dropped with us: no watch outlives its reader.
        let mut follows = JoinSet::new();
        for (watch, selection) in selections.into_iter().enumerate() {
            follows.spawn(Follow::new(watch, selection, shared.clone()).run());
        }
        drop(shared);
        forward(merge, hears, sender).await;
    });
    Watch { updates, states }
}

async fn forward(mut merge: Merge, mut hears: mpsc::Receiver<Heard>, sender: mpsc::Sender<Update>) {
    let mut heard = vec![];
    loop {
        let some = tokio::select! {
            some = hears.recv_many(&mut heard, limits::CHANGES) => some,
            () = sender.closed() => return,
        };
        if some == 0 {
            return;
        }
        heard.drain(..).for_each(|heard| merge.take(heard));
        for update in merge.updates() {
            if sender.send(update).await.is_err() {
                return;
            }
        }
    }
}
