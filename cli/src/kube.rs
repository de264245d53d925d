//! Connection to a cluster, and the flags that select one, as in kubectl and Linkerd.
//!
//! The kubeconfig is found as kubectl does: `--kubeconfig`, `$KUBECONFIG` (several paths are merged), `~/.kube/config`.

pub(crate) mod http1;
pub(crate) mod http2;
pub(crate) mod pods;

use std::path::PathBuf;

use anyhow::{Context as _, Error, Result, anyhow};
use destination_source::cluster::{self, Client, ClientOptions, Forwarded, PodPort, Resource};
use proxy_model::defaults::CLUSTER_DOMAIN;

use crate::local::State;

/// Flags that select the cluster, the user to impersonate and the control plane's namespace.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Cluster")]
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

    /// Returns the mesh on this machine to query: the one of this name, or the only one unless a flag or `$KUBECONFIG`
    /// selects a cluster.
    pub(crate) fn local(&self, name: Option<&str>) -> Result<Option<State>> {
        if name.is_some() {
            return State::find(name).map(Some);
        }
        let selects_cluster = self.is_given() || has_kubeconfig();
        if selects_cluster || State::running().is_empty() {
            return Ok(None);
        }
        State::find(None).map(Some)
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

    /// Creates a client. Sends nothing yet. An error mentions the meshes on this machine, which are not queried.
    pub(crate) async fn connect(&self) -> Result<Client> {
        let client = self.try_connect().await;
        client.map_err(|error| with_local_hint(error, &State::running()))
    }

    /// Creates a client, for a command that can also query a mesh on this machine.
    pub(crate) async fn try_connect(&self) -> Result<Client> {
        Ok(cluster::client(&self.options()).await?)
    }
}

/// Notes on stderr that a command queries a mesh on this machine rather than a cluster.
pub(crate) fn note_local(mesh: &State) {
    eprintln!("querying the mesh {:?} on this machine", mesh.name);
}

/// Returns true if `$KUBECONFIG` selects a cluster.
pub(crate) fn has_kubeconfig() -> bool {
    std::env::var_os("KUBECONFIG").is_some_and(|value| !value.is_empty())
}

/// Adds to a failed connection that a local mesh runs, which a command for clusters does not query.
fn with_local_hint(error: Error, running: &[State]) -> Error {
    match running.first() {
        Some(mesh) => anyhow!(
            "{error:#}\nthe mesh {:?} runs on this machine, but this command queries a cluster: use `mesh viz` or `mesh local`",
            mesh.name
        ),
        None => error,
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

/// Reads the cluster's domain from the control plane's configuration.
pub(crate) async fn cluster_domain(client: &Client, control_plane: &str) -> Result<String> {
    let configs = Resource::new("v1", "configmaps").within(control_plane);
    let config = configs.get(client, "linkerd-config").await?;
    let values = config["data"]["values"].as_str().unwrap_or_default();
    let configured = values.lines().find_map(|line| line.strip_prefix("clusterDomain:"));
    let configured = configured.map(|domain| domain.trim().trim_matches('"').to_owned());
    Ok(configured.unwrap_or_else(|| CLUSTER_DOMAIN.to_owned()))
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        flags: ClusterFlags,
    }

    #[test]
    fn names_the_local_mesh_when_no_cluster_is_reached() {
        let hint = |running: &[State]| format!("{:#}", with_local_hint(anyhow!("no cluster"), running));
        assert_eq!(hint(&[]), "no cluster");
        let state = serde_json::json!({"name": "demo", "dir": "/d", "viz": "127.0.0.1:1", "manifests": "/m",
            "outer": {"pid": 1, "started": 1}, "supervisor": {"pid": 1, "started": 1}});
        let demo: State = serde_json::from_value(state).expect("a state");
        assert!(hint(&[demo]).starts_with("no cluster\nthe mesh \"demo\" runs on this machine"));
    }

    #[test]
    fn a_flag_selects_a_cluster() {
        let is_given = |line: &[&str]| Line::parse_from(line).flags.is_given();
        assert!(is_given(&["mesh", "--context", "a"]) && !is_given(&["mesh", "-L", "b"]));
    }
}
