//! Which cluster a command asks: the flags that kubectl and Linkerd have, and the connection.
//!
//! The kubeconfig is found as kubectl finds it: `--kubeconfig`, `$KUBECONFIG` (several paths are merged),
//! `~/.kube/config`.

pub(crate) mod http1;
pub(crate) mod http2;
pub(crate) mod pods;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use destination_source::cluster::{self, Client, ClientOptions, Forwarded, PodPort, Resource};

/// Which cluster, as whom, and where the control plane is.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Flags {
    /// The kubeconfig that says where the cluster is; by default as kubectl finds it.
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// The context of the kubeconfig.
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,

    /// Another user to act as.
    #[arg(long = "as", value_name = "USER")]
    pub(crate) impersonate: Option<String>,

    /// A group to act as; may be given several times.
    #[arg(long = "as-group", value_name = "GROUP")]
    pub(crate) impersonate_group: Vec<String>,

    /// The namespace of the control plane.
    #[arg(
        long,
        short = 'L',
        value_name = "NAME",
        default_value = "linkerd",
        env = "LINKERD_NAMESPACE"
    )]
    pub(crate) linkerd_namespace: String,
}

/// Whose objects, of one namespace.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Namespaced {
    /// The namespace; by default the context's.
    #[arg(long, short, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
}

impl Namespaced {
    /// The namespace that is meant on a cluster.
    pub(crate) fn on(&self, client: &Client) -> String {
        self.namespace.clone().unwrap_or_else(|| client.namespace().to_owned())
    }
}

impl Flags {
    /// Whether the command line names a cluster.
    pub(crate) fn is_given(&self) -> bool {
        self.kubeconfig.is_some() || self.context.is_some() || self.impersonate.is_some()
    }

    /// What they say, as the source reads it.
    pub(crate) fn options(&self) -> ClientOptions {
        ClientOptions {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
            impersonate: self.impersonate.clone(),
            impersonate_groups: self.impersonate_group.clone(),
            upgrades: true,
        }
    }

    /// A client. Nothing is sent yet.
    pub(crate) async fn connect(&self) -> Result<Client> {
        Ok(cluster::client(&self.options()).await?)
    }
}

/// Runs a command that asks a cluster.
pub(crate) fn block_on<T>(command: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(command);
    // A name that is being looked up holds a thread, which nobody waits for.
    runtime.shutdown_background();
    done
}

/// A connection to the port of a ready pod of a Deployment of the mesh.
pub(crate) async fn deployment(client: &Client, namespace: &str, name: &str, port: u16) -> Result<Forwarded> {
    let owner = Resource::new("apps/v1", "deployments").within(namespace);
    let pod = cluster::ready_pod(client, &owner, name)
        .await
        .with_context(|| format!("{name} cannot be reached in the namespace {namespace}"))?;
    let to = PodPort {
        namespace: namespace.to_owned(),
        pod,
        port,
    };
    Ok(cluster::forward(client, &to).await?)
}

/// The metrics of a pod's sidecar, or of another port that has some.
pub(crate) async fn metrics(client: &Client, from: &PodPort) -> Result<String> {
    /// Largest text that is read; a busy proxy writes some hundred KiB.
    const METRICS_BYTES: usize = 32 * 1024 * 1024;
    http1::text(cluster::forward(client, from).await?, "/metrics", METRICS_BYTES).await
}
