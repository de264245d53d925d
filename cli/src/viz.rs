//! `mesh viz`: success rates, edges and live requests of a running mesh. Flags and columns are Linkerd's.

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

use crate::kube::Flags;

/// Which view.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show success rate, requests a second and latencies of resources.
    Stat(stat::Args),
    /// Show who talks to whom, and with which identities.
    Edges(edges::Args),
    /// Show requests as they pass.
    Tap(tap::Args),
    /// Show the paths that are asked for just now.
    Top(top::Args),
    /// Show figures of each route.
    Routes(routes::Args),
    /// Show who was let in, by what.
    Authz(authz::Args),
    /// Check that viz is installed and healthy.
    Check(crate::check::Common),
    /// Print the manifests of mesh-viz, for `kubectl apply -f -`.
    Install(install::InstallArgs),
    /// Print what `mesh viz install` has installed, for `kubectl delete -f -`.
    Uninstall(install::UninstallArgs),
}

/// Where to ask: `--api-addr`; a mesh on this machine by `--name`; a cluster by a flag or `$KUBECONFIG`; else the mesh that
/// runs on this machine, and the cluster of `~/.kube/config` if none does.
#[derive(Clone, Debug, clap::Args)]
struct Source {
    /// Name of a mesh on this machine.
    #[arg(long, value_name = "MESH")]
    name: Option<String>,
    /// URL of mesh-viz, such as http://127.0.0.1:8085.
    #[arg(long, value_name = "URL", env = "MESH_VIZ_ADDR")]
    api_addr: Option<String>,
    /// Namespace of viz in a cluster; linkerd-viz if none is named.
    #[arg(long, value_name = "NAME")]
    viz_namespace: Option<String>,
    #[command(flatten)]
    cluster: Flags,
}

/// Where viz is in a cluster.
const VIZ_NAMESPACE: &str = "linkerd-viz";

impl Source {
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
            Err(error) => bail!("{error:#}; and no mesh runs on this machine: `mesh demo` starts one"),
        };
        if runs_here && !named {
            eprintln!(
                "from the cluster at {}, for KUBECONFIG is set; the mesh on this machine is asked by --name",
                client.url()
            );
        }
        Ok(Api::on(client, self.viz_namespace.as_deref().unwrap_or(VIZ_NAMESPACE)))
    }
}

fn local(state: State) -> Result<Api> {
    Ok(Api::new(&state.viz_url())?.named(format!("the mesh {} on this machine", state.name)))
}

/// Whose namespace.
#[derive(Clone, Debug, clap::Args)]
struct Namespace {
    /// Namespace of the resources; by default the context's of a cluster, else `default`.
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// All namespaces.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
}

impl Namespace {
    fn get(&self, api: &Api) -> Option<String> {
        let named = self.namespace.as_deref().unwrap_or_else(|| api.namespace());
        (!self.all_namespaces).then(|| named.to_owned())
    }
}

/// In which form.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Columns.
    #[default]
    Table,
    /// More columns.
    Wide,
    /// JSON.
    Json,
}

/// Shows what was asked for.
pub(crate) fn run(command: Command) -> Result<ExitCode> {
    if let Command::Check(args) = command {
        return crate::check::check_viz(args);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Stat(args) => stat::run(args).await,
            Command::Edges(args) => edges::run(args).await,
            Command::Tap(args) => tap::run(args).await,
            Command::Top(args) => top::run(args).await,
            Command::Routes(args) => routes::run(args).await,
            Command::Authz(args) => authz::run(args).await,
            Command::Check(_) => unreachable!("it was run above"),
            Command::Install(args) => install::install(&args).await,
            Command::Uninstall(args) => install::uninstall(&args),
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Reads `90s`, `1m30s`; a rate needs two scrapes.
fn window(text: &str) -> Result<Duration, String> {
    let window =
        destination_k8s::duration::go(text).ok_or_else(|| format!("{text:?} is no duration such as 30s or 1m"))?;
    if window < Duration::from_secs(2) {
        return Err("a rate needs a window of at least 2s".to_owned());
    }
    Ok(window)
}

/// Says on standard error what rows rest on, always when they are old.
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
