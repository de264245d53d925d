//! `mesh demo`: a sample application behind real sidecars, on this machine only.
//!
//! ```text
//! mesh demo          start ──▶ a live table until Ctrl-C ............. live.rs
//! mesh demo --manifest       the application for a cluster ............. cluster.rs
//! mesh demo --check  start ──▶ a fixed load, with assertions .......... check/
//! mesh demo-app      the application itself, one role per process .... cli/demo-app
//! ```

mod check;
mod cluster;
mod live;
mod manifests;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;

use cli_local::StartOptions;

/// Namespace of the application.
const NAMESPACE: &str = "vote";

/// Arguments of `mesh demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Run a fixed load, verify the mesh's guarantees, and exit with 0 or 1.
    #[arg(long)]
    check: bool,
    /// Print the application's manifests for a cluster, for `mesh inject - | kubectl apply -f -`.
    #[arg(long, conflicts_with_all = ["check", "name", "viz_port", "requests"])]
    manifest: bool,
    /// Image of the application; by default mesh-app of this version.
    #[arg(long, value_name = "IMAGE", requires = "manifest")]
    image: Option<String>,
    /// Registry of the application's image, with --manifest.
    #[arg(long, value_name = "REGISTRY", env = "LINKERD_DOCKER_REGISTRY")]
    registry: Option<String>,
    /// Name of the mesh; several can run under different names.
    #[arg(long, default_value = "demo")]
    name: String,
    /// Loopback port of the viz API; 0 picks a free one.
    #[arg(long, default_value_t = 0)]
    viz_port: u16,
    /// Number of requests sent by --check.
    #[arg(long, default_value_t = 10_000, requires = "check", value_parser = clap::value_parser!(u64).range(1000..=1_000_000))]
    requests: u64,
}

impl DemoArgs {
    /// Returns the image of the application.
    fn image(&self) -> String {
        let config = injector_patch::Config {
            image_registry: self
                .registry
                .clone()
                .unwrap_or_else(|| injector_patch::Config::default().image_registry),
            ..injector_patch::Config::default()
        };
        let image = injector_patch::config::Image {
            name: "mesh-app".to_owned(),
            ..injector_patch::config::Image::default()
        };
        let tagged = || format!("{}:{}", config.image_name(&image), env!("CARGO_PKG_VERSION"));
        self.image.clone().unwrap_or_else(tagged)
    }
}

/// `mesh demo`
pub(crate) fn run(args: DemoArgs) -> Result<ExitCode> {
    if args.manifest {
        crate::output::print_manifests(&manifests::for_cluster(&args.image())?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let interrupts = cli_local::interrupts()?;
    let manifests = manifests::write(args.check)?;
    cli_local::notify(&format!("The demo's manifests are in {}.", manifests.dir().display()));
    let running = cli_local::begin(options(&args, manifests.dir().to_owned()), &interrupts)?;
    if args.check {
        let passed = check::run(&running, &manifests, args.requests, &interrupts);
        cli_local::end(running, &interrupts);
        return passed.map(|passed| if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    match live::run(&running, &manifests, &interrupts) {
        // `mesh local down` in another terminal, which has reported it there, or a failure.
        Ok(cli_local::Ended::ByItself) => running.outcome().map(|()| ExitCode::SUCCESS),
        shown => {
            cli_local::end(running, &interrupts);
            shown.map(|_| ExitCode::SUCCESS)
        }
    }
}

fn options(args: &DemoArgs, dir: PathBuf) -> StartOptions<()> {
    StartOptions {
        name: args.name.clone(),
        manifests: cli_local::Manifests::Temporary(dir),
        viz_port: args.viz_port,
        mesh: true,
        progress: (),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: DemoArgs,
    }

    #[test]
    fn the_image_is_of_the_registry_unless_it_is_given() {
        let image = |line: &[&str]| {
            let line = ["demo", "--manifest"].iter().chain(line);
            Line::parse_from(line).args.image()
        };
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            image(&["--registry", "r.example/m/"]),
            format!("r.example/m/mesh-app:{version}")
        );
        assert_eq!(image(&["--image", "a/b:1", "--registry", "r.example/m"]), "a/b:1");
    }
}
