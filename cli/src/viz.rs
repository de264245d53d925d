//! `mesh viz`: success rates, edges and live requests of a running mesh, with Linkerd's flags and columns.

mod api;
mod authz;
mod edges;
mod install;
mod resources;
mod routes;
mod stat;
mod tap;
mod top;
mod view;

pub(crate) use api::Api;

use std::process::ExitCode;

use anyhow::{Context, Error, Result, anyhow};

use crate::{
    kube::{self, ClusterFlags},
    local::State,
};

/// Subcommands of `mesh viz`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum VizCommand {
    /// Show success rates, request rates and latencies of resources.
    Stat(stat::StatArgs),
    /// Show connections between workloads and their identities.
    Edges(edges::EdgesArgs),
    /// Show live requests.
    Tap(tap::TapArgs),
    /// Show live traffic by path.
    Top(top::TopArgs),
    /// Show metrics by route.
    Routes(routes::RoutesArgs),
    /// Show authorization metrics.
    Authz(authz::VizAuthzArgs),
    /// Check that viz is installed and healthy.
    Check(crate::check::CommonCheckArgs),
    /// Print the manifests of mesh-viz, for `kubectl apply -f -`.
    Install(install::VizInstallArgs),
    /// Print the objects that `mesh viz install` created, for `kubectl delete -f -`.
    Uninstall(install::VizUninstallArgs),
}

/// Flags that select the mesh-viz to query: `--api-addr`; a mesh on this machine by `--name`; a cluster by a flag or
/// `$KUBECONFIG`; else the mesh that runs on this machine, and the cluster of `~/.kube/config` if none does.
#[derive(Clone, Debug, clap::Args)]
struct ApiFlags {
    /// Query the mesh of this name on this machine.
    #[arg(long, value_name = "MESH")]
    name: Option<String>,
    /// URL of mesh-viz (for example http://127.0.0.1:8085).
    #[arg(long, value_name = "URL", env = "MESH_VIZ_ADDR")]
    api_addr: Option<String>,
    /// Namespace of viz in the cluster [default: linkerd-viz]
    #[arg(long, value_name = "NAME")]
    viz_namespace: Option<String>,
    #[command(flatten)]
    cluster: ClusterFlags,
}

/// Default namespace of viz in a cluster.
const VIZ_NAMESPACE: &str = proxy_model::defaults::VIZ_NAMESPACE;

impl ApiFlags {
    async fn api(&self) -> Result<Api> {
        if let Some(url) = &self.api_addr {
            // The address of a mesh on this machine needs its token.
            let meshes = State::running();
            let mesh = meshes.iter().find(|mesh| mesh.viz_url() == url.trim_end_matches('/'));
            let api = mesh.map_or_else(|| Api::new(url), Api::local);
            return api.with_context(|| format!("--api-addr {url:?}"));
        }
        let named = self.cluster.is_given() || self.viz_namespace.is_some();
        if (self.name.is_some() || self.viz_namespace.is_none())
            && let Some(mesh) = self.cluster.local(self.name.as_deref())?
        {
            return Api::local(&mesh);
        }
        let runs_here = !State::running().is_empty();
        let client = match self.cluster.try_connect().await {
            Ok(client) => client,
            Err(error) if named => return Err(error),
            Err(error) => return Err(no_cluster(&error, runs_here)),
        };
        if runs_here && !named {
            eprintln!(
                "querying the cluster at {} because KUBECONFIG is set; use --name to query the mesh on this machine",
                client.url()
            );
        }
        Ok(Api::on(client, self.viz_namespace.as_deref().unwrap_or(VIZ_NAMESPACE)))
    }
}

/// Explains that neither a cluster nor a mesh on this machine was selected.
fn no_cluster(error: &Error, runs_here: bool) -> Error {
    if runs_here {
        anyhow!("{error:#}\na mesh runs on this machine: use --name to query it")
    } else {
        anyhow!("{error:#}\nno mesh runs on this machine either: run `mesh demo` to start one")
    }
}

/// Flags that select the namespaces to show.
#[derive(Clone, Debug, clap::Args)]
struct NamespaceFlags {
    /// Namespace of the resources; defaults to the cluster context's, else `default`.
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// Show all namespaces.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
}

impl NamespaceFlags {
    fn get(&self, api: &Api) -> Option<String> {
        let named = self.namespace.as_deref().unwrap_or_else(|| api.namespace());
        (!self.all_namespaces).then(|| named.to_owned())
    }
}

/// `mesh viz`
pub(crate) fn run(command: VizCommand) -> Result<ExitCode> {
    if let VizCommand::Check(args) = command {
        return crate::check::check_viz(args);
    }
    kube::block_on(async {
        match command {
            VizCommand::Stat(args) => stat::run(args).await,
            VizCommand::Edges(args) => edges::run(args).await,
            VizCommand::Tap(args) => tap::run(args).await,
            VizCommand::Top(args) => top::run(args).await,
            VizCommand::Routes(args) => routes::run(args).await,
            VizCommand::Authz(args) => authz::run(args).await,
            VizCommand::Check(_) => unreachable!("handled above"),
            VizCommand::Install(args) => install::install(&args).await,
            VizCommand::Uninstall(args) => install::uninstall(&args),
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_a_running_mesh_or_the_demo() {
        let hint = |runs_here| format!("{:#}", no_cluster(&anyhow!("no kubeconfig"), runs_here));
        assert!(hint(true).ends_with("a mesh runs on this machine: use --name to query it"));
        assert!(hint(false).ends_with("no mesh runs on this machine either: run `mesh demo` to start one"));
    }
}
