//! Connection to a cluster, and the flags that select one, as in kubectl and Linkerd.
//!
//! The kubeconfig is found as kubectl does: `--kubeconfig`, `$KUBECONFIG` (several paths are merged), `~/.kube/config`.

pub(crate) mod http1;
pub(crate) mod http2;
pub(crate) mod pods;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use destination_source::cluster::{self, Client, ClientOptions, Forwarded, PodPort, Resource};

/// Flags that select the cluster, the user to impersonate and the control plane's namespace.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ClusterFlags {
    /// Kubeconfig file; looked up as kubectl does by default.
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig.
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,

    /// Impersonate this user.
    #[arg(long = "as", value_name = "USER")]
    pub(crate) impersonate: Option<String>,

    /// Impersonate this group; may be repeated.
    #[arg(long = "as-group", value_name = "GROUP")]
    pub(crate) impersonate_group: Vec<String>,

    /// Namespace of the control plane.
    #[arg(
        long,
        short = 'L',
        value_name = "NAME",
        default_value = "linkerd",
        env = "LINKERD_NAMESPACE"
    )]
    pub(crate) linkerd_namespace: String,
}

/// Flag that selects one namespace.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct NamespaceFlag {
    /// Namespace; defaults to the context's.
    #[arg(long, short, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
}

impl NamespaceFlag {
    /// Resolves the namespace, falling back to that of the client's context.
    pub(crate) fn on(&self, client: &Client) -> String {
        self.namespace.clone().unwrap_or_else(|| client.namespace().to_owned())
    }
}

impl ClusterFlags {
    /// Returns true if the command line names a cluster.
    pub(crate) fn is_given(&self) -> bool {
        self.kubeconfig.is_some() || self.context.is_some() || self.impersonate.is_some()
    }

    /// Converts the flags to client options.
    pub(crate) fn options(&self) -> ClientOptions {
        ClientOptions {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
            impersonate: self.impersonate.clone(),
            impersonate_groups: self.impersonate_group.clone(),
            upgrades: true,
        }
    }

    /// Creates a client. Sends nothing yet.
    pub(crate) async fn connect(&self) -> Result<Client> {
        Ok(cluster::client(&self.options()).await?)
    }
}

/// Runs a command that talks to a cluster.
pub(crate) fn block_on<T>(command: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(command);
    // A pending DNS lookup holds a thread; do not wait for it.
    runtime.shutdown_background();
    done
}

/// Connects to the port of a ready pod of one of the mesh's Deployments.
pub(crate) async fn deployment(client: &Client, namespace: &str, name: &str, port: u16) -> Result<Forwarded> {
    let owner = Resource::new("apps/v1", "deployments").within(namespace);
    let pod = cluster::ready_pod(client, &owner, name)
        .await
        .with_context(|| format!("cannot reach {name} in the namespace {namespace}"))?;
    let to = PodPort {
        namespace: namespace.to_owned(),
        pod,
        port,
    };
    Ok(cluster::forward(client, &to).await?)
}

/// Fetches metrics from a pod's port, such as the sidecar's admin port.
pub(crate) async fn metrics(client: &Client, from: &PodPort) -> Result<String> {
    /// Upper bound on the response; a busy proxy writes a few hundred KiB.
    const METRICS_BYTES: usize = 32 * 1024 * 1024;
    http1::text(cluster::forward(client, from).await?, "/metrics", METRICS_BYTES).await
}
