//! Opening of the source that a program's flags name: manifests, or a cluster. Here, because every program of the
//! control plane starts with it.

use std::path::PathBuf;

use destination_k8s::Kind;
use tokio::sync::mpsc;

use crate::{
    Error, Update,
    cluster::{self, Client, ClientOptions, Selection, States},
    directory,
};

/// Opened source of objects.
#[derive(Debug)]
pub struct Source {
    /// Updates, beginning with the complete set.
    pub updates: mpsc::Receiver<Update>,
    /// Client of the cluster, if it is the source, and the states of its watches.
    pub cluster: Option<(Client, States)>,
}

impl Source {
    /// Follows `kinds` of the cluster that `options` choose or, without them, the manifests of `dirs`.
    pub async fn open(dirs: &[PathBuf], options: Option<ClientOptions>, kinds: &[Kind]) -> Result<Self, Error> {
        let Some(options) = options else {
            return Ok(Self {
                updates: directory::watch(dirs.to_vec())?,
                cluster: None,
            });
        };
        let client = cluster::client(&options).await?;
        tracing::info!(cluster = client.url(), "watching");
        let watch = cluster::watch(&client, kinds.iter().copied().map(Selection::from));
        Ok(Self {
            updates: watch.updates,
            cluster: Some((client, watch.states)),
        })
    }
}
