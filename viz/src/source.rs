//! Where objects come from: manifests, or a cluster.

use anyhow::Context;
use destination_source::{
    Update,
    cluster::{self, Client, ClientOptions, Selection, States},
    directory,
};
use tokio::sync::mpsc;

use crate::args::Args;

/// What is followed.
pub(crate) struct Source {
    pub(crate) updates: mpsc::Receiver<Update>,
    /// The cluster, if there is one.
    pub(crate) cluster: Option<Cluster>,
}

/// A cluster that is watched.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) states: States,
    /// Our own namespace.
    pub(crate) namespace: String,
}

/// Begins to follow what the command line says.
pub(crate) async fn start(args: &Args) -> anyhow::Result<Source> {
    if !args.cluster.kubernetes {
        let updates = directory::watch(args.manifests.clone())?;
        return Ok(Source { updates, cluster: None });
    }
    let options = ClientOptions {
        kubeconfig: args.cluster.kubeconfig.clone(),
        context: args.cluster.context.clone(),
        ..ClientOptions::default()
    };
    let client = cluster::client(&options).await.context("--kubernetes")?;
    tracing::info!(cluster = client.url(), "watching");
    let watch = cluster::watch(&client, cluster::FOR_VIZ.iter().copied().map(Selection::from));
    let namespace = args.cluster.viz_namespace.clone();
    let namespace = namespace.unwrap_or_else(|| client.namespace().to_owned());
    Ok(Source {
        updates: watch.updates,
        cluster: Some(Cluster {
            client,
            states: watch.states,
            namespace,
        }),
    })
}
