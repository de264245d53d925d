//! Source of objects: manifests or a cluster.

use anyhow::Context;
use destination_source::{
    Update,
    cluster::{self, Client, ClientOptions, Selection, States},
    directory,
};
use tokio::sync::mpsc;

use crate::args::Args;

/// Stream of objects.
pub(crate) struct ObjectSource {
    pub(crate) updates: mpsc::Receiver<Update>,
    pub(crate) cluster: Option<ClusterSource>,
}

/// Watched cluster.
pub(crate) struct ClusterSource {
    pub(crate) client: Client,
    pub(crate) states: States,
    /// Namespace of mesh-viz.
    pub(crate) namespace: String,
}

/// Starts to follow the source that the flags name.
pub(crate) async fn start(args: &Args) -> anyhow::Result<ObjectSource> {
    if !args.cluster.kubernetes {
        let updates = directory::watch(args.manifests.clone())?;
        return Ok(ObjectSource { updates, cluster: None });
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
    Ok(ObjectSource {
        updates: watch.updates,
        cluster: Some(ClusterSource {
            client,
            states: watch.states,
            namespace,
        }),
    })
}
