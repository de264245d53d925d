//! `mesh demo`: an application of our own behind real sidecars, on this machine alone.
//!
//! ```text
//! mesh demo          start ──▶ a live table until Ctrl-C ............. live.rs
//! mesh demo --manifest       the application for a cluster ............. cluster.rs
//! mesh demo --check  start ──▶ a fixed load, and what must be true ... check/
//! mesh demo-app      the application itself, one role a process ...... cli/demo-app
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

/// How to run it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Drive a fixed load, verify what the mesh promises, print each result and end with 0 or 1.
    #[arg(long)]
    check: bool,
    /// Print the application's manifests for a cluster, for `mesh inject - | kubectl apply -f -`.
    #[arg(long, conflicts_with_all = ["check", "name", "viz_port", "requests"])]
    manifest: bool,
    /// The application's image.
    #[arg(long, value_name = "IMAGE", requires = "manifest", default_value = concat!("localhost/mesh-app:", env!("CARGO_PKG_VERSION")))]
    image: String,
    /// Name of the mesh; another one can run beside it under another name.
    #[arg(long, default_value = "demo")]
    name: String,
    /// Port on this machine's loopback where the viz API answers; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    viz_port: u16,
    /// Requests of the check's load.
    #[arg(long, default_value_t = 10_000, requires = "check", value_parser = clap::value_parser!(u64).range(1000..=1_000_000))]
    requests: u64,
}

/// Runs it.
pub(crate) fn run(args: Args) -> Result<ExitCode> {
    if args.manifest {
        crate::install::manifests::write(&manifests::for_cluster(&args.image)?)?;
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
        // `mesh local down` from another terminal, which has said so there, or a failure.
        Ok(cli_local::Ended::ByItself) => running.outcome().map(|()| ExitCode::SUCCESS),
        shown => {
            cli_local::end(running, &interrupts);
            shown.map(|_| ExitCode::SUCCESS)
        }
    }
}

fn options(args: &Args, dir: PathBuf) -> StartOptions<()> {
    StartOptions {
        name: args.name.clone(),
        dir,
        viz_port: args.viz_port,
        mesh: true,
        progress: (),
    }
}
