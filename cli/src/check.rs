//! `mesh check`: is the mesh installed, whole and healthy. The checks themselves are in the crate cli-check.

mod load;

pub(crate) use load::admin_port;

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use cli_check::{Ask, Category, Event, Format, Mode, Report};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    kube::{self, Flags, Namespaced},
    output,
};

/// What `mesh check` understands.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// Whether the mesh can be installed, before it is.
    #[arg(long, conflicts_with_all = ["proxy", "crds"])]
    pre: bool,

    /// The data plane too: sidecars are ready, of the right version and with valid certificates.
    #[arg(long, conflicts_with = "crds")]
    proxy: bool,

    /// Only the custom resources, before the control plane is installed.
    #[arg(long)]
    crds: bool,

    /// Whether the CNI plugin is there, which the mesh is then installed with.
    #[arg(long, requires = "pre")]
    linkerd_cni_enabled: bool,

    /// The control plane's version should be this.
    #[arg(long, value_name = "VERSION")]
    expected_version: Option<String>,

    /// Take this program for another version of it.
    #[arg(long, value_name = "VERSION", hide = true)]
    cli_version_override: Option<String>,

    #[command(flatten)]
    common: Common,
}

/// What every `check` understands.
#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    /// How long to wait for what may come true by itself.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    wait: Duration,

    /// Form of the output.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,

    /// The namespace of viz.
    #[arg(long, value_name = "NAME", default_value = "linkerd-viz")]
    viz_namespace: String,

    /// The namespace of the CNI plugin.
    #[arg(long, value_name = "NAME", default_value = "linkerd-cni")]
    cni_namespace: String,

    #[command(flatten)]
    namespace: Namespaced,

    #[command(flatten)]
    cluster: Flags,
}

/// In which form.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// All checks, as they are decided.
    #[default]
    Table,
    /// Only what is not as it should be.
    Short,
    /// JSON.
    Json,
}

/// Reads `30s`, `5m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    destination_k8s::duration::go(text).ok_or_else(|| format!("{text:?} is no duration such as 30s or 5m"))
}

/// `mesh check`
pub(crate) fn check(args: CheckArgs) -> Result<ExitCode> {
    let ask = Ask {
        mode: match (args.pre, args.crds) {
            (true, _) => Mode::Pre,
            (_, true) => Mode::Crds,
            _ => Mode::Installed,
        },
        proxy: args.proxy,
        cni_enabled: args.linkerd_cni_enabled,
        expected_version: args.expected_version,
        ..Ask::default()
    };
    let version = args.cli_version_override;
    let version = version.unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned());
    run(Ask { version, ..ask }, args.common, |_| true)
}

/// `mesh viz check`
pub(crate) fn check_viz(common: Common) -> Result<ExitCode> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let ask = Ask {
        version,
        ..Ask::default()
    };
    run(ask, common, |name| matches!(name, "kubernetes-api" | "linkerd-viz"))
}

fn run(ask: Ask, common: Common, is_wanted: impl Fn(&str) -> bool) -> Result<ExitCode> {
    let ask = Ask {
        namespace: common.namespace.namespace,
        control_plane: common.cluster.linkerd_namespace.clone(),
        viz: common.viz_namespace,
        cni: common.cni_namespace,
        resources: load::resources()?,
        ..ask
    };
    let mut categories = cli_check::categories(&ask);
    categories.retain(|category: &Category| is_wanted(category.name()));
    let report = kube::block_on(async {
        let mut source = load::Loader::new(&common.cluster, ask, common.wait).await;
        let mut view = View::new(common.output);
        let report = cli_check::run(&mut source, &categories, |event| view.show(event)).await;
        view.end(&report)?;
        Ok(report)
    })?;
    Ok(if report.is_success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What people see while the checks run.
struct View {
    output: Output,
    spinner: ProgressBar,
    categories: usize,
}

impl View {
    fn new(output: Output) -> Self {
        // Draws on stderr, and nothing if that is no terminal.
        let style = ProgressStyle::with_template("{spinner} {wide_msg}").expect("a template");
        let spinner = ProgressBar::new_spinner().with_style(style);
        spinner.set_message("asking the cluster");
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
        self.spinner.set_message("asking the cluster");
        if self.output == Output::Table {
            // What cannot be written now cannot be at the end either, and is told there.
            let _ = self.spinner.suspend(|| output::print(&text));
        }
    }

    fn end(&self, report: &Report) -> Result<()> {
        self.spinner.finish_and_clear();
        output::print(&match self.output {
            Output::Table => format!("\n{}", report.status()),
            Output::Short => report.render(Format::Short),
            Output::Json => report.render(Format::Json),
        })
    }
}
