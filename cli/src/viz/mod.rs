//! `mesh viz`: success rates, edges and live requests of a running mesh. Flags and columns are Linkerd's.

mod api;
mod edges;
mod resources;
mod stat;
mod tap;

pub(crate) use api::Api;

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result};

use crate::local::state::State;

/// Which view.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show success rate, requests a second and latencies of resources.
    Stat(stat::Args),
    /// Show who talks to whom, and with which identities.
    Edges(edges::Args),
    /// Show requests as they pass.
    Tap(tap::Args),
}

/// Where to ask.
#[derive(Clone, Debug, clap::Args)]
struct Source {
    /// Name of the local mesh, if several run.
    #[arg(long)]
    name: Option<String>,
    /// URL of mesh-viz, instead of a local mesh; for example http://127.0.0.1:8085.
    #[arg(long, value_name = "URL", env = "MESH_VIZ_ADDR")]
    api_addr: Option<String>,
}

impl Source {
    fn api(&self) -> Result<Api> {
        match &self.api_addr {
            Some(url) => Api::new(url).with_context(|| format!("--api-addr {url:?}")),
            None => Api::new(&State::find(self.name.as_deref())?.viz_url()),
        }
    }
}

/// Whose namespace.
#[derive(Clone, Debug, clap::Args)]
struct Namespace {
    /// Namespace of the resources.
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// All namespaces.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
}

impl Namespace {
    fn get(&self) -> Option<String> {
        (!self.all_namespaces).then(|| self.namespace.clone())
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
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Stat(args) => stat::run(args).await,
            Command::Edges(args) => edges::run(args).await,
            Command::Tap(args) => tap::run(args).await,
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
fn note_source(source: &viz_api::Source, wide: bool) {
    let Some(age) = source.age_ms else { return };
    let interval = source.scrape_interval_ms.max(1000);
    let seconds = |ms: u64| ms as f64 / 1000.0;
    if wide || age > 5 * interval {
        eprintln!(
            "from {} of {} pods, newest {:.1}s old, {:.1}s covered{}",
            source.kind,
            source.pods,
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
