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

pub(crate) use api::Api;

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result, bail};
use cli_local::state::State;

use crate::kube::ClusterFlags;

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
const VIZ_NAMESPACE: &str = "linkerd-viz";

impl ApiFlags {
    async fn api(&self) -> Result<Api> {
        if let Some(url) = &self.api_addr {
            return Api::new(url).with_context(|| format!("--api-addr {url:?}"));
        }
        if let Some(name) = &self.name {
            return local(State::find(Some(name))?);
        }
        let is_given = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let named = self.cluster.is_given() || self.viz_namespace.is_some();
        let runs_here = !State::running().is_empty();
        if runs_here && !named && !is_given("KUBECONFIG") {
            return local(State::find(None)?);
        }
        let client = match self.cluster.connect().await {
            Ok(client) => client,
            Err(error) if named => return Err(error),
            Err(error) => bail!("{error:#}\nno mesh runs on this machine either: run `mesh demo` to start one"),
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

fn local(state: State) -> Result<Api> {
    Ok(Api::new(&state.viz_url())?.named(format!("the mesh {} on this machine", state.name)))
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

/// Output format of the views.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum ViewFormat {
    /// Table
    #[default]
    Table,
    /// Table with additional columns
    Wide,
    /// JSON
    Json,
}

/// `mesh viz`
pub(crate) fn run(command: VizCommand) -> Result<ExitCode> {
    if let VizCommand::Check(args) = command {
        return crate::check::check_viz(args);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
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

/// Parses a time window such as `90s` or `1m30s`; a rate needs two scrapes.
fn window(text: &str) -> Result<Duration, String> {
    let window = destination_k8s::duration::go(text)
        .ok_or_else(|| format!("invalid duration {text:?}: expected for example 30s or 1m"))?;
    if window < Duration::from_secs(2) {
        return Err("the window must be at least 2s".to_owned());
    }
    Ok(window)
}

/// Notes on stderr which scrapes the rows are based on, always if they are old.
fn note_source(api: &Api, source: &viz_api::Source, wide: bool) {
    let Some(age) = source.age_ms else { return };
    let interval = source.scrape_interval_ms.max(1000);
    let seconds = |ms: u64| ms as f64 / 1000.0;
    if wide || age > 5 * interval {
        eprintln!(
            "from {} of {} pods by {}, newest {:.1}s old, {:.1}s covered{}",
            source.kind,
            source.pods,
            api.place(),
            seconds(age),
            seconds(source.covered_ms.min(source.window_ms)),
            if source.pods_failing > 0 {
                format!(", {} pods failing", source.pods_failing)
            } else {
                String::new()
            }
        );
    }
}
