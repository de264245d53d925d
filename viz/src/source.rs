//! Source of objects: manifests or a cluster.

use anyhow::Context;
use destination_source::{
    Source, Update,
    cluster::{self, Client, ClientOptions, States},
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
    let options = args.cluster.kubernetes.then(|| ClientOptions {
        kubeconfig: args.cluster.kubeconfig.clone(),
        context: args.cluster.context.clone(),
        ..ClientOptions::default()
    });
    let source = Source::open(&args.manifests, options, cluster::FOR_VIZ).await;
    let source = if args.cluster.kubernetes {
        source.context("--kubernetes")?
    } else {
        source?
    };
    let cluster = source.cluster.map(|(client, states)| ClusterSource {
        namespace: args
            .cluster
            .viz_namespace
            .clone()
            .unwrap_or_else(|| client.namespace().to_owned()),
        client,
        states,
    });
    Ok(ObjectSource {
        updates: source.updates,
        cluster,
    })
}
