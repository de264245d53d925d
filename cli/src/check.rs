//! `mesh check`: verifies that the mesh is installed correctly and healthy. The checks are in the crate cli-check.

mod load;
mod local;

pub(crate) use load::admin_port;

use std::{process::ExitCode, time::Duration};

use anyhow::{Result, bail};
use cli_check::{Category, Event, FactSource, Mode, Report, ReportFormat, Scope};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    kube::{self, ClusterFlags, NamespaceFlag},
    local::State,
    output::{self, terminal},
    target::MeshFlag,
};

/// Arguments of `mesh check`.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// Check before installation whether the mesh can be installed.
    #[arg(long, conflicts_with_all = ["proxy", "crds"])]
    pre: bool,

    /// Also check the data plane: readiness, versions and certificates of sidecars.
    #[arg(long, conflicts_with = "crds")]
    proxy: bool,

    /// Check only the custom resources, before installing the control plane.
    #[arg(long)]
    crds: bool,

    /// Also check for the CNI plugin.
    #[arg(long, requires = "pre")]
    linkerd_cni_enabled: bool,

    /// Expected version of the control plane.
    #[arg(long, value_name = "VERSION")]
    expected_version: Option<String>,

    /// Check as if this program were another version.
    #[arg(long, value_name = "VERSION", hide = true)]
    cli_version_override: Option<String>,

    #[command(flatten)]
    common: CommonCheckArgs,
}

/// Arguments shared by `mesh check` and `mesh viz check`.
#[derive(Debug, clap::Args)]
pub(crate) struct CommonCheckArgs {
    /// Time to wait for pending checks to pass.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    wait: Duration,

    /// Output format.
    #[arg(long, short, value_enum, default_value_t)]
    output: CheckOutput,

    /// Namespace of viz.
    #[arg(long, value_name = "NAME", default_value = "linkerd-viz")]
    viz_namespace: String,

    /// Namespace of the CNI plugin.
    #[arg(long, value_name = "NAME", default_value = "linkerd-cni")]
    cni_namespace: String,

    #[command(flatten)]
    namespace: NamespaceFlag,

    #[command(flatten)]
    mesh: MeshFlag,

    #[command(flatten)]
    cluster: ClusterFlags,
}

/// Output format of a check.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum CheckOutput {
    /// All checks, as they complete
    #[default]
    Table,
    /// Only warnings and errors
    Short,
    /// JSON
    Json,
}

/// Parses a duration such as `30s` or `5m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    proxy_model::duration::go(text).ok_or_else(|| format!("invalid duration {text:?}: expected for example 30s or 5m"))
}

/// `mesh check`
pub(crate) fn check(args: CheckArgs) -> Result<ExitCode> {
    let scope = Scope {
        mode: match (args.pre, args.crds) {
            (true, _) => Mode::Pre,
            (_, true) => Mode::Crds,
            _ => Mode::Installed,
        },
        proxy: args.proxy,
        cni_enabled: args.linkerd_cni_enabled,
        expected_version: args.expected_version,
        ..Scope::default()
    };
    if let Some(mesh) = args.common.cluster.local(args.common.mesh.name.as_deref())? {
        if args.pre || args.crds {
            bail!("--pre and --crds check a cluster: select one with --kubeconfig or --context");
        }
        kube::note_local(&mesh);
        return check_local(mesh, &args.common);
    }
    let version = args.cli_version_override;
    let version = version.unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned());
    run(Scope { version, ..scope }, args.common, |_| true)
}

/// `mesh viz check`
pub(crate) fn check_viz(common: CommonCheckArgs) -> Result<ExitCode> {
    if let Some(mesh) = common.cluster.local(common.mesh.name.as_deref())? {
        kube::note_local(&mesh);
        return check_local(mesh, &common);
    }
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let scope = Scope {
        version,
        viz_required: true,
        ..Scope::default()
    };
    run(scope, common, |name| matches!(name, "kubernetes-api" | "linkerd-viz"))
}

/// Checks a mesh on this machine.
fn check_local(mesh: State, common: &CommonCheckArgs) -> Result<ExitCode> {
    let categories = [local::category(mesh)];
    kube::block_on(decide(local::Clock::new(common.wait), &categories, common.output))
}

/// Runs the checks and prints them.
async fn decide(mut source: impl FactSource, categories: &[Category], output: CheckOutput) -> Result<ExitCode> {
    let mut view = CheckView::new(output);
    let report = cli_check::run(&mut source, categories, |event| view.show(event)).await;
    view.end(&report)?;
    Ok(if report.is_success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn run(scope: Scope, common: CommonCheckArgs, is_selected: impl Fn(&str) -> bool) -> Result<ExitCode> {
    let scope = Scope {
        namespace: common.namespace.namespace,
        control_plane: common.cluster.linkerd_namespace.clone(),
        viz: common.viz_namespace,
        cni: common.cni_namespace,
        resources: load::resources()?,
        ..scope
    };
    let mut categories = cli_check::categories(&scope);
    categories.retain(|category: &Category| is_selected(category.name()));
    kube::block_on(async {
        let source = load::Loader::new(&common.cluster, scope, common.wait).await;
        decide(source, &categories, common.output).await
    })
}

/// Terminal output while the checks run.
struct CheckView {
    output: CheckOutput,
    spinner: ProgressBar,
    categories: usize,
}

impl CheckView {
    fn new(output: CheckOutput) -> Self {
        // Draws on stderr, and only if that is a terminal.
        let style = ProgressStyle::with_template("{spinner} {wide_msg}").expect("a template");
        let spinner = ProgressBar::new_spinner().with_style(style);
        spinner.set_message("querying the cluster");
        spinner.enable_steady_tick(Duration::from_millis(100));
        Self {
            output,
            spinner,
            categories: 0,
        }
    }

    fn show(&mut self, event: Event<'_>) {
        let text = match event {
            Event::Waiting(check, why) => {
                self.spinner.set_message(format!("waiting: {check}: {why}"));
                return;
            }
            Event::Category(name) => {
                self.categories += 1;
                let blank = if self.categories > 1 { "\n" } else { "" };
                format!("{blank}{}", Report::heading(name))
            }
            Event::Decided(check) => check.render(),
        };
        self.spinner.set_message("querying the cluster");
        if self.output == CheckOutput::Table {
            // A write that fails here fails at the end too, and is reported there.
            let _ = self.spinner.suspend(|| output::print(&terminal::paint(&text)));
        }
    }

    fn end(&self, report: &Report) -> Result<()> {
        self.spinner.finish_and_clear();
        output::print(&match self.output {
            CheckOutput::Table => format!("\n{}", report.status()),
            CheckOutput::Short => terminal::paint(&report.render(ReportFormat::Short)),
            CheckOutput::Json => report.render(ReportFormat::Json),
        })
    }
}
